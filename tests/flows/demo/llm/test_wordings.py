"""Does ISO's form say what the words say? Both are read by other means than they were written by."""

from __future__ import annotations

import datetime as dt
import re
from random import Random

import pytest

from flows.demo.llm.wordings import amount, date, duration, on_a_clock, ordinal, time, words

SEEDS = range(300)
WORDS = {words(n): n for n in range(100)}


def said_by(write):
    """Many of them."""
    return [write(Random(seed)) for seed in SEEDS]


def number(text):
    """What digits or words say."""
    return int(text) if text.isdigit() else WORDS[text]


def test_numbers_in_words_are_told_apart():
    """A hundred of them, none written twice, and some as everybody writes them."""
    assert len(WORDS) == 100
    assert [words(n) for n in (0, 7, 12, 20, 45, 99)] == [
        "zero",
        "seven",
        "twelve",
        "twenty",
        "forty-five",
        "ninety-nine",
    ]


@pytest.mark.parametrize(
    ("n", "said"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (13, "13th"), (22, "22nd"), (31, "31st")],
)
def test_ordinals(n, said):
    """Eleven to thirteen are exceptions."""
    assert ordinal(n) == said


@pytest.mark.parametrize(
    ("hour", "minute", "said"),
    [
        (0, 0, "twelve o'clock"),
        (9, 15, "quarter past nine"),
        (12, 30, "half past twelve"),
        (12, 35, "twenty-five to one"),
        (21, 45, "quarter to ten"),
        (23, 50, "ten to twelve"),
    ],
)
def test_a_clock_is_read_as_people_read_it(hour, minute, said):
    """After half past, the next hour is named."""
    assert on_a_clock(hour, minute) == said


def test_dates_are_those_that_python_reads():
    """Whatever the order and the separators."""
    forms = ("%d %B %Y", "%B %d, %Y", "the %d of %B %Y", "%b %d, %Y", "%d-%b-%Y", "%d.%m.%Y", "%A, %d %B %Y")
    used = set()
    for said, iso in said_by(date):
        plain = re.sub(r"(\d)(st|nd|rd|th)\b", r"\1", said)
        for form in forms:
            try:
                read = dt.datetime.strptime(plain, form).replace(tzinfo=dt.UTC)
            except ValueError:
                continue
            used.add(form)
            assert read.date().isoformat() == iso
            assert "%A" not in form or said.startswith(read.strftime("%A"))
            break
        else:
            pytest.fail(said)
    assert used == set(forms)


def test_times_on_digits_are_those_that_python_reads():
    """With colon or dot."""
    digital = [(said, iso) for said, iso in said_by(time) if said[0].isdigit()]
    for said, iso in digital:
        assert dt.datetime.strptime(said.replace(".", ":"), "%I:%M %p").strftime("%H:%M") == iso  # noqa: DTZ007
    assert 50 < len(digital) < len(SEEDS)


def test_times_in_words_name_the_part_of_the_day():
    """Morning, afternoon and evening tell the halves of the clock apart."""
    for said, iso in said_by(time):
        if " in the " in said:
            on, part = said.split(" in the ")
            hour, minute = map(int, iso.split(":"))
            assert on == on_a_clock(hour, minute)
            assert part == ("morning" if hour < 12 else "afternoon" if hour < 18 else "evening")


def test_durations_hold_the_same_numbers():
    """Of the same units, the larger one first."""
    for said, iso in said_by(duration):
        parts = [part.split() for part in said.split(" and ")]
        found = re.findall(r"(\d+)([WDHM])", iso)
        assert [(number(n), unit[0].upper()) for n, unit in parts] == [(int(n), unit) for n, unit in found]
        assert re.fullmatch(r"P(\d+[WD])*(T(\d+[HM])+)?", iso)
        assert all(unit.endswith("s") == (number(n) != 1) for n, unit in parts)


def test_amounts_hold_the_same_money():
    """In units and hundredths, with the currency's code."""
    codes = {"$": "USD", "dollars": "USD", "€": "EUR", "euros": "EUR", "£": "GBP", "pounds": "GBP"}
    for said, iso in said_by(amount):
        numbers = re.findall(r"\d+\.\d\d|[a-z-]+(?= (?:dollars|euros|pounds|cents|pence))", said)
        value = (
            float(numbers[0])
            if numbers[0][0].isdigit()
            else sum(number(n) * share for n, share in zip(numbers, (1, 0.01), strict=False))
        )
        code = next(code for sign, code in codes.items() if sign in said)
        assert iso == f"{value:.2f} {code}", said
