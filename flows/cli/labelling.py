"""When are labels sent, and what is said of them? Once, or again and again until somebody stops it."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterable

from pipelines.errors import DependencyDown
from pipelines.home import Home
from pipelines.services.labels import EVIDENCE, LATE, UNKNOWN, Label, LabelTaker, Sent, Tally, send_labels

FOLLOW_S = 5.0


def sent_labels(home: Home, service: str, source: str) -> Sent:
    """Which labels of a source has this service answered?"""
    digest = hashlib.sha256(f"{service}\n{source}".encode(errors="surrogateescape")).hexdigest()[:16]
    return Sent(home.folder("feedback") / f"{digest}.sent")


def follow(read: Callable[[], Iterable[Label]], desk: LabelTaker, sent: Sent) -> Tally:
    """Send what is new every few seconds, until a signal comes; a dependency that is down is asked again."""
    stopped, tally = _stopped_by_signals(), Tally()
    while not stopped.is_set():
        try:
            found = send_labels(read(), desk, sent)
        except DependencyDown as error:
            _say(f"waiting: {error}")
        else:
            tally.add(found)
            if found.counts:
                _say(sentence(found))
        stopped.wait(FOLLOW_S)
    return tally


def show(tally: Tally, *, as_json: bool) -> None:
    """Print what became of the labels."""
    print(json.dumps(tally.as_dict(), indent=2) if as_json else _text(tally))  # noqa: T201  the command's output


def sentence(tally: Tally) -> str:
    """How many were evidence, late, unknown and refused?"""
    late = f"{tally.counts[LATE]} came after the shares had changed"
    said = [f"{tally.counts[EVIDENCE]} labels are evidence", late, f"{tally.counts[UNKNOWN]} belong to no known answer"]
    said += [f"{n} refused ({code})" for code, n in tally.refused.items()]
    return ", ".join(said + ([f"{tally.before} were sent before"] if tally.before else []))


def _text(tally: Tally) -> str:
    return "\n".join([sentence(tally), *(f"  {name}, first: {why}" for name, why in tally.reasons.items())])


def _stopped_by_signals() -> threading.Event:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    return stopped


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201
