"""What does an admin socket answer, whoever holds the split behind it? Statuses and plain JSON data, without a server.

The gateway's own admin and the one of a proxy's agent speak it alike, so that a controller sees no difference.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from evals.signals.strata import Stratum
from pipelines.records.split import Generation, TrafficSplit
from pipelines.serving.split.store import Refused, Unconfirmed

AdminAnswer = tuple[int, dict[str, Any]]
"""A status, and what is said with it."""

NO_SPLIT = (ValueError, KeyError, TypeError, IndexError, OverflowError, AttributeError)


class SplitHolder(Protocol):
    """Who holds a split, and counts what its arms do."""

    boot: str

    def decided_after(self, number: int) -> Sequence[Stratum]:
        """The evidence after an interval."""
        ...


async def put_split(
    body: bytes,
    change: Callable[[TrafficSplit, Generation], Awaitable[TrafficSplit]],
    check: Callable[[TrafficSplit], None] = lambda _: None,
) -> AdminAnswer:
    """`PUT /split`: the split that is in force then, or why it is not.

    400 what is no split, or none that `check` lets pass (ValueError); 409 a stale writer, with the split that holds;
    503 a larger share that not everybody who serves confirmed; 507 a disk that does not take it.
    """
    try:
        wanted, expected = _asked(body)
        check(wanted)
        split = await change(wanted, expected)
    except Refused as error:
        return 409, {"reason": str(error), "split": error.current.as_dict()}
    except Unconfirmed as error:
        return 503, {"reason": str(error)}
    except NO_SPLIT as error:
        return 400, {"reason": f"not a split: {error!r}"[:300]}
    except OSError as error:
        return 507, {"reason": f"the snapshot cannot be written: {error}"}
    return 200, split.as_dict()


def _asked(body: bytes) -> tuple[TrafficSplit, Generation]:
    raw = orjson.loads(body)
    fence, n = raw["expected"]
    return TrafficSplit.from_dict(raw), (int(fence), int(n))


def strata_of(holder: SplitHolder, query: Mapping[str, str]) -> AdminAnswer:
    """`GET /strata?after=K&boot=B`: what is decided after an interval; of another boot, everything."""
    try:
        after = int(query.get("after", "-1"))
    except ValueError:
        return 400, {"reason": "after must be the number of an interval"}
    is_ours = query.get("boot", "") in {"", holder.boot}
    strata = [stratum.as_dict() for stratum in holder.decided_after(after if is_ours else -1)]
    return 200, {"boot": holder.boot, "strata": strata}


def health_of(boot: str) -> AdminAnswer:
    """`GET /health`: it lives, and since when."""
    return 200, {"boot": boot, "live": True}
