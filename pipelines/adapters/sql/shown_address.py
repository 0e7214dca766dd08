"""How may an address be shown that can hold a password or a token?"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

HIDDEN = "***"
_ADDRESS = re.compile(r"[a-zA-Z][\w.+-]*://[^\s'\"<>]+")
_SHORTEST = 4
"""Shorter words stand everywhere, and would take the sentence with them."""


def shown_address(address: str) -> str:
    """The address without its user, password, query and fragment.

    A password may hold `@`, so the last one ends it; one that also holds `?` or `#` leaves nothing that is surely none.
    """
    scheme, mark, rest = address.partition("://")
    if not mark:
        return address
    user, _, place = rest.rpartition("@") if not rest.startswith("/") else ("", "", rest)
    if set("?#") & set(user):
        return f"{scheme}://{HIDDEN}"
    shown = re.split(r"[?#]", place, maxsplit=1)
    return f"{scheme}://{shown[0]}" + (f"?{HIDDEN}" if len(shown) > 1 else "")


def hide(text: str, address: str) -> str:
    """A sentence without the secrets of this address, and of any other address in it."""
    text = text.replace(address, shown_address(address)) if address else text
    for secret in _secrets(address):
        text = text.replace(secret, HIDDEN)
    return _ADDRESS.sub(lambda found: shown_address(found[0]), text)


def _secrets(address: str) -> list[str]:
    """What must not be seen of it, as it is written and as it is meant; the longest first."""
    _, _, rest = address.partition("://")
    if rest.startswith("/"):
        rest = ""
    password = rest.rpartition("@")[0].partition(":")[2]
    try:
        query = urlsplit(address).query
    except ValueError:
        query = address.partition("?")[2]
    # A reader who ends the password at its first @ or / takes the rest of it for the host, and says so.
    found = {password, *re.split(r"[@/?#]", password), query, *(value for _, value in parse_qsl(query))}
    return sorted((s for s in found | {unquote(s) for s in found} if len(s) >= _SHORTEST), key=len, reverse=True)
