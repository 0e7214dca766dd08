"""How do people write dates, times, durations and amounts, and how does ISO write the same?"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from random import Random

ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PARTS_OF_A_DAY = {"in the morning": range(12), "in the afternoon": range(12, 18), "in the evening": range(18, 24)}
CURRENCIES = {"USD": ("$", "dollar", "cents"), "EUR": ("€", "euro", "cents"), "GBP": ("£", "pound", "pence")}
ON_A_CLOCK = {15: "quarter", 30: "half"}
FIRST, LAST = dt.date(1970, 1, 1), dt.date(2049, 12, 31)

LENGTHS = {"week": 52, "day": 30, "hour": 24, "minute": 60}
"""So many make one more of what is longer."""
TOGETHER = (("week", ""), ("minute", ""), ("day", "hour"), ("hour", "minute"))

Said = tuple[str, str]
"""As somebody writes it, and as ISO does."""


def words(n: int) -> str:
    """A number below a hundred."""
    if n < len(ONES):
        return ONES[n]
    tens, ones = divmod(n, 10)
    return TENS[tens - 2] + (f"-{ONES[ones]}" if ones else "")


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th."""
    return f"{n}th" if n in {11, 12, 13} else f"{n}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th') }"


def date(chance: Random) -> Said:
    """A day, as ISO 8601 writes it."""
    day = FIRST + dt.timedelta(chance.randrange((LAST - FIRST).days + 1))
    d, month, year = day.day, MONTHS[day.month - 1], day.year
    said = (
        f"{d} {month} {year}",
        f"{month} {d}, {year}",
        f"the {ordinal(d)} of {month} {year}",
        f"{month[:3]} {ordinal(d)}, {year}",
        f"{d}-{month[:3]}-{year}",
        f"{d}.{day.month}.{year}",
        f"{DAYS[day.weekday()]}, {d} {month} {year}",
    )
    return chance.choice(said), day.isoformat()


def time(chance: Random) -> Said:
    """A time of day, as ISO 8601 writes it."""
    part, hours = chance.choice(list(PARTS_OF_A_DAY.items()))
    hour, minute = chance.choice(hours), chance.randrange(60)
    twelve, half, near = (hour - 1) % 12 + 1, "am" if hour < 12 else "pm", minute - minute % 5
    said = (
        (f"{twelve}:{minute:02} {half}", minute),
        (f"{twelve}.{minute:02} {half}", minute),
        (f"{on_a_clock(hour, near)} {part}", near),
    )
    text, minute = chance.choice(said)
    return text, f"{hour:02}:{minute:02}"


def on_a_clock(hour: int, minute: int) -> str:
    """As hands show it: quarter past nine, twenty to ten."""
    if not minute:
        return f"{words((hour - 1) % 12 + 1)} o'clock"
    is_past = minute <= 30
    away, near = (minute, hour) if is_past else (60 - minute, hour + 1)
    return f"{ON_A_CLOCK.get(away, words(away))} {'past' if is_past else 'to'} {words((near - 1) % 12 + 1)}"


def duration(chance: Random) -> Said:
    """How long something takes, as ISO 8601 writes it."""
    longer, shorter = chance.choice(TOGETHER)
    parts = [(chance.randrange(1, LENGTHS[longer]), longer)]
    if shorter and chance.random() < 0.7:
        parts.append((chance.randrange(1, LENGTHS[shorter]), shorter))
    written = chance.choice((str, words))
    text = " and ".join(f"{written(n)} {unit}{'' if n == 1 else 's'}" for n, unit in parts)
    days, hours = (
        "".join(f"{n}{unit[0].upper()}" for n, unit in parts if unit in units)
        for units in (("week", "day"), ("hour", "minute"))
    )
    return text, f"P{days}" + (f"T{hours}" if hours else "")


def amount(chance: Random) -> Said:
    """Some money, with the currency's code of ISO 4217."""
    code, (sign, name, parts) = chance.choice(list(CURRENCIES.items()))
    whole, few, cents = chance.randrange(1, 1000), chance.randrange(2, 100), chance.randrange(2, 100)
    said = (
        (f"{sign}{whole}.{cents:02}", whole, cents),
        (f"{whole}.{cents:02} {name}s", whole, cents),
        (f"{words(few)} {name}s", few, 0),
        (f"{words(few)} {name}s and {words(cents)} {parts}", few, cents),
    )
    text, units, hundredths = chance.choice(said)
    return text, f"{units}.{hundredths:02} {code}"


KINDS: Mapping[str, tuple[Callable[[Random], Said], tuple[str, ...]]] = {
    "date": (date, ("{}", "due {}", "She was born on {}.", "The contract ends on {}.", "valid until {}")),
    "time": (time, ("{}", "at {}", "The train leaves at {}.", "We meet at {}.", "closed from {}")),
    "duration": (duration, ("{}", "in {}", "The repair takes {}.", "It was down for {}.", "every {}")),
    "amount": (amount, ("{}", "total {}", "The ticket costs {}.", "He still owes us {}.", "a refund of {}")),
}
"""Each kind's words, and the sentences in which they stand."""
