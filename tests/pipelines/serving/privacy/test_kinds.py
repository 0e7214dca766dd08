"""What is found in texts by its form, what is not, and how long looking takes."""

from __future__ import annotations

import time

import pytest

from pipelines.serving.privacy.kinds import OWN
from pipelines.serving.privacy.redactor import Redactor

FOUND = {
    "mail ada.lovelace@example.com now": "mail [email] now",
    "ada+x@corp.internal.": "[email].",
    "привет мир@пример.рф": "привет [email]",
    "call +44 20 7946 0958": "call [phone]",
    "(212) 555-0187, 2125550187": "[phone], [phone]",
    "0049 30 901820 or 030 901820": "[phone] or [phone]",
    "06 12 34 56 78": "[phone]",
    "4111 1111 1111 1111": "[card]",
    "no 12 4111-1111-1111-1111 99": "no 12 [card] 99",
    "3782 822463 10005": "[card]",
    "DE89370400440532013000": "[iban]",
    "to GB29 NWBK 6016 1331 9268 19 and more": "to [iban] and more",
    "AB12 DE89 3704 0044 0532 0130 00": "AB12 [iban]",
    "de89370400440532013000": "[iban]",
    "from 192.0.2.17:8080": "from [ip]:8080",
    "2001:db8::1, ::1": "[ip], [ip]",
    "ada@example.com4111111111111111": "[email]",
}
LEFT = (
    "root@localhost, @ada",
    "order 12345678 of 2024-01-05 or 05-01-2024 at 12:30:45",
    "19.99 and 1,234,567.89 and 3.14159265358979 and 0.123456789012",
    "1712345678 seconds, #00042",
    "4111 1111 1111 1112",
    "DE89370400440532013001",
    "std::string 999.1.1.1",
    "Ada Lovelace lives in London",
)


@pytest.mark.parametrize("text", FOUND)
def test_what_is_personal_by_its_form_is_taken_out(text):
    """And what stands around it stays; a second time changes nothing."""
    assert (Redactor().redact(text), Redactor().redact(FOUND[text])) == (FOUND[text], FOUND[text])


@pytest.mark.parametrize("text", LEFT)
def test_what_only_looks_alike_stays(text):
    """Dates, prices, numbers that fail their check; and names, which no form tells."""
    assert Redactor().redact(text) == text


@pytest.mark.parametrize(
    "text", ["a." * 20_000, "a@" * 20_000, "1 " * 10_000, "AB12 " * 5_000, ":" * 40_000, "+1" * 15_000]
)
def test_no_text_hangs_who_looks(text):
    """Each kind is found in time that grows as the text does: twice as long takes no four times as much."""

    def seconds(some: str) -> float:
        began_s = time.process_time()
        for finder in OWN.values():
            list(finder(some))
        return time.process_time() - began_s

    seconds(text[:100])
    half, whole = seconds(text[: len(text) // 2]), seconds(text)
    assert whole < 3.2 * half + 0.05
