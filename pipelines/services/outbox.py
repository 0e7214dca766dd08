"""What has the registry still to be told, and what does each of its answers mean?

Traffic waits for no registry. What it should be told is kept in the service's record as debts, told at once where it
answers, and otherwise by whoever reconciles the service: later and later, and not for ever. One answer alone decides
about traffic: an alias that somebody else moved undoes a promotion, and nothing else (`rollout/ending.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from pipelines.errors import AliasMoved, BadInput, Busy, Forbidden, NotFound, ShipwayError
from pipelines.ports import Now, Ports, Registry
from pipelines.records.debt import Debt

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 600.0
REGISTRY_LOCK, LOCK_NAME = "@registry", 118
"""No service has such a name; a ledger on a server takes no longer one."""

TELLING_S = 60.0
"""Longer than a registry may take that hangs: whoever is killed while he tells it holds the others up for so long."""

BRIEFLY_S = 3.0
"""So long whoever holds a service's lock waits for one answer: a registry that hangs must not hold up a way home."""

GIVE_UP_S = 86_400.0
"""A registry that could not be told for a day needs a person: `shipway resolve` tells it again, or lets it be."""


class Answer(StrEnum):
    """What became of one thing that the registry should be told."""

    SET = "set"
    MOVED = "moved"
    """Somebody else moved the alias: it is his, and left alone."""
    GONE = "gone"
    """The version or the model is not there any more."""
    REFUSED = "refused"
    OWED = "owed"
    """The registry is down, newer than this program, forbids it or lost a race again and again: it is asked again."""
    GIVEN_UP = "given up"


@dataclass(frozen=True)
class Told:
    """A debt, and how the registry answered."""

    debt: Debt
    answer: Answer
    why: str = ""


def tell_alone(
    ports: Ports,
    service: str,
    debts: Iterable[Debt],
    now: Now,
    before: tuple[Told, ...] = (),
    patience_s: float | None = BRIEFLY_S,
) -> tuple[Told, ...]:
    """Tell the registry what a service owes it, while nobody else does for this service.

    This lock is not the service's: a registry that hangs holds up no release and no way home. Where somebody tells it
    something now, everything stays owed. Who holds no lock has time, and gives it all that it needs: None.
    """
    fresh = tuple(debts)
    if not fresh:
        return before
    try:
        token = ports.lock.acquire(
            f"{service[:LOCK_NAME]}{REGISTRY_LOCK}", "whoever tells the registry", TELLING_S, now
        )
    except ShipwayError as error:
        why = "another one tells the registry now" if isinstance(error, Busy) else error.reason
        return (*before, *(Told(_tried(debt, why, now.wall_s), Answer.OWED, why) for debt in fresh))
    try:
        return tell(ports.registry, fresh, now.wall_s, before, patience_s)
    finally:
        with suppress(ShipwayError):
            ports.lock.release(token)


def tell(
    registry: Registry,
    debts: Iterable[Debt],
    now_s: float,
    before: tuple[Told, ...] = (),
    patience_s: float | None = None,
) -> tuple[Told, ...]:
    """Tell the registry all of it. One that could not be told `before`, or a first debt, is not asked any more."""
    told, mark = list(before), partial(registry.mark, patience_s=patience_s)
    for debt in debts:
        silent = next((t for t in told if t.answer is Answer.OWED), None)
        answer, why = (Answer.OWED, silent.why) if silent else _asked(mark, debt)
        told.append(final(Told(_tried(debt, why, now_s), answer, why), now_s))
    return tuple(told)


def _asked(mark: Callable[..., None], debt: Debt) -> tuple[Answer, str]:
    try:
        _write(mark, debt)
    except ShipwayError as error:
        return answer_of(error), error.reason
    return Answer.SET, ""


def _write(mark: Callable[..., None], debt: Debt) -> None:
    made = {debt.version: debt.made} if debt.made else None
    if not debt.alias:
        mark(debt.model, tags={debt.version: debt.tags}, made=made)
    elif debt.expected is None:
        mark(debt.model, aliases={debt.alias: debt.version}, made=made)
    else:
        _move(mark, debt, debt.expected, made)


def _move(
    mark: Callable[..., None], debt: Debt, expected: tuple[int | None, ...], made: Mapping[int, str] | None
) -> None:
    """From any of the places where the alias may be. AliasMoved, as from the first of them, where it is at none."""
    moved: AliasMoved | None = None
    for at in expected:
        try:
            return mark(debt.model, aliases={debt.alias: debt.version}, expected={debt.alias: at}, made=made)
        except AliasMoved as error:
            moved = moved or error
    if moved is not None:
        raise moved
    return None


def answer_of(error: ShipwayError) -> Answer:
    """Which of a registry's answers is this error?"""
    match error:
        case AliasMoved():
            return Answer.MOVED
        case NotFound():
            return Answer.GONE
        case Forbidden():  # rights come back
            return Answer.OWED
        case BadInput():
            return Answer.REFUSED
        case _:
            return Answer.OWED


def _tried(debt: Debt, why: str, now_s: float) -> Debt:
    pause_s = min(FIRST_PAUSE_S * 2**debt.tries, LONGEST_PAUSE_S)
    return replace(debt, tries=debt.tries + 1, since_s=debt.since_s or now_s, next_s=now_s + pause_s, why=why)


def left_untold(told: Iterable[Told]) -> list[str]:
    """What will not be told any more, and why, in sentences. An alias that somebody else moved is his."""
    over = (t for t in told if t.answer in {Answer.GONE, Answer.REFUSED, Answer.GIVEN_UP})
    return [f"{t.debt.named()}: {t.answer} ({t.why})" for t in over]


def with_debts(owed: Iterable[Debt], fresh: Iterable[Debt]) -> tuple[Debt, ...]:
    """The debts after new ones, each of which takes the place of an older one about the same."""
    new = {debt.about: debt for debt in fresh}
    return (*(debt for debt in owed if debt.about not in new), *new.values())


def after_telling(owed: Iterable[Debt], told: Iterable[Told]) -> tuple[Debt, ...]:
    """The debts that are left; one that another has replaced meanwhile is not touched."""
    answers = {t.debt.about: t for t in told}
    left = []
    for debt in owed:
        heard = answers.get(debt.about)
        if heard is None or heard.debt.release_id != debt.release_id:
            left.append(debt)
        elif heard.answer is Answer.OWED:
            left.append(heard.debt)
    return tuple(left)


def final(told: Told, now_s: float) -> Told:
    """The same, where it has not been owed for too long."""
    is_late = told.answer is Answer.OWED and now_s - told.debt.since_s > GIVE_UP_S
    return replace(told, answer=Answer.GIVEN_UP) if is_late else told
