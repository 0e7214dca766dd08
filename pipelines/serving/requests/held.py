"""Which arm holds a response that was stored? What follows from it, reads it, or cancels it, can go nowhere else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from pipelines.records.split import TrafficSplit
from pipelines.serving.http1.request import Request
from pipelines.serving.meter.asked import TextRequest
from pipelines.serving.requests.assignment import Assigned

MOST_HELD = 50_000
"""The newest so many, of some hundred bytes each; what follows from an older one goes to an arm by chance."""

RESPONSES = b"/v1/responses/"


class HeldResponses:
    """Arms by the names of the responses that they gave."""

    def __init__(self) -> None:
        self._arms: OrderedDict[str, str] = OrderedDict()

    def keeper(self, digest: str) -> Callable[[str], None]:
        """Who hears of the responses of an arm."""
        return partial(self.keep, digest=digest)

    def keep(self, response: str, digest: str) -> None:
        """This arm gave it."""
        self._arms[response] = digest
        if len(self._arms) > MOST_HELD:
            self._arms.popitem(last=False)

    def holder(self, request: Request, asked: TextRequest | None, split: TrafficSplit) -> Assigned | None:
        """The arm that a request must go to; None where it may go to any, or where that arm is gone.

        It was chosen by an earlier request, and not by chance: so it says nothing about either arm.
        """
        name = asked.follows if asked is not None else _named_in(request.target)
        digest = self._arms.get(name) if name else None
        if digest is None:
            return None
        arms = {"stable": split.stable, "canary": split.canary}
        found = next((arm for arm, known in arms.items() if known is not None and known.digest == digest), None)
        return Assigned(found, in_control=False, is_evidence=False) if found else None


def _named_in(target: bytes) -> str:
    """The response of `/v1/responses/ID` and what lies below it."""
    path = target.partition(b"?")[0]
    return path[len(RESPONSES) :].partition(b"/")[0].decode(errors="replace") if path.startswith(RESPONSES) else ""
