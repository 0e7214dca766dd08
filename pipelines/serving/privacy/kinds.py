"""Where in a text stand an e-mail address, a telephone number, a card, a bank account, an address of a machine?

By form and check digit, never by meaning: names of people and places are not found. Each pattern is read in linear time
(no class repeats inside of another), so that no text can hang who looks. What looks like one and is none, as a version
`1.2.3.4`, is found too: too much is better than too little.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address

from pipelines.records.settings import OWN_KINDS

Span = tuple[int, int]
Finder = Callable[[str], Iterator[Span]]

_EMAIL = re.compile(r"(?<![\w.!#$%&'*+/=?^`{|}~-])[\w.!#$%&'*+/=?^`{|}~-]+@[\w-]+(?:\.[\w-]+)+")

_PHONES = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?<![\w+])(?:\+|00) ?\(?[1-9](?:[ ()./-]{0,2}\d){6,13}(?!\d)",
        r"(?<![\w.,/+-])(?!\d\d[-/.]\d\d[-/.]\d{4})\(?0[1-9](?:[ ()/-]{0,2}\d){7,10}(?!\d|\.\d)",
        r"(?<![\w+.-])(?:1[ .-]?)?\(?[2-9]\d{2}\)?[ .-]?[2-9]\d{2}[ .-]?\d{4}(?!\d|\.\d)",
    )
)
"""With the code of a country; with a leading 0; and as in North America. Other digits are told from no other number."""

_DIGITS = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,}(?!\d)")
CARD_DIGITS = range(13, 20)

_IBAN = re.compile(r"(?<![A-Za-z0-9])(?=([A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}))")
SHORTEST_IBAN = 15

_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:.]{3,45}(?![\w:])")


def _emails(text: str) -> Iterator[Span]:
    return (found.span() for found in _EMAIL.finditer(text))


def _phones(text: str) -> Iterator[Span]:
    return (found.span() for pattern in _PHONES for found in pattern.finditer(text))


def _cards(text: str) -> Iterator[Span]:
    """13 to 19 digits that Luhn's check accepts, from one group's beginning to another's end."""
    for run in _DIGITS.finditer(text):
        digits, groups, read = re.sub(r"\D", "", run[0]), [], 0
        for group in re.finditer(r"\d+", run[0]):
            groups.append((read, run.start() + group.start(), read + len(group[0]), run.start() + group.end()))
            read += len(group[0])
        for place, (begin, start, _, _) in enumerate(groups):
            for _, _, over, end in groups[place : place + max(CARD_DIGITS)]:
                if over - begin in CARD_DIGITS and digits[begin] in "123456" and _is_luhn(digits[begin:over]):
                    yield start, end


def _is_luhn(digits: str) -> bool:
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


def _ibans(text: str) -> Iterator[Span]:
    """The longest that ISO 7064's check accepts; words that follow are no part of it."""
    for found in _IBAN.finditer(text):
        start, stop = found.span(1)
        for end in range(stop, start + SHORTEST_IBAN - 1, -1):
            is_border = text[end - 1].isalnum() and not text[end : end + 1].isalnum()
            if is_border and _is_mod_97(re.sub(r"[ -]", "", text[start:end])):
                yield start, end
                break


def _is_mod_97(account: str) -> bool:
    return len(account) >= SHORTEST_IBAN and int("".join(str(int(c, 36)) for c in account[4:] + account[:4])) % 97 == 1


def _ips(text: str) -> Iterator[Span]:
    for found in _IPV4.finditer(text):
        if all(int(part) < 256 for part in found[0].split(".")):
            yield found.span()
    for found in _IPV6.finditer(text):
        said = found[0].rstrip(".:") if not found[0].endswith("::") else found[0]
        if said.count(":") > 1 and _is_ip(said):
            yield found.start(), found.start() + len(said)


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


OWN: Mapping[str, Finder] = dict(zip(OWN_KINDS, (_emails, _phones, _cards, _ibans, _ips), strict=True))
"""By the names that a spec calls them."""


def by_pattern(regex: str) -> Finder:
    """Whatever a pattern of one's own finds; nothing where that is empty. re.error where it is no pattern."""
    compiled = re.compile(regex)
    return lambda text: (found.span() for found in compiled.finditer(text) if found.end() > found.start())
