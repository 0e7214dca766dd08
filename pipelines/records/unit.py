"""What must be running, and what is seen of it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.records.settings import Recording, Shadowing


@dataclass(frozen=True)
class Unit:
    """One long-lived process that must be running: a gateway, or one replica of one bundle.

    `bundle` and `digest` are empty for a gateway. `port` 0 lets the runtime choose; it stays the same over restarts.
    A gateway counts by the attributes `slices`, takes labels for `label_s`, keeps users by `assign`, keeps requests as
    `record` says, and is the program that `router` names. A unit that outgrows `memory_mb` is ended. One with an
    `image` runs as a container, with at most `pids` processes. What is asked at a path of `idempotent` may be asked
    twice. Answers may go on for `drain_s` when it ends; `convicted_streams` says whether those of a canary sent home
    may, too. A canary is asked copies of stable's requests as `shadow` says.
    """

    name: str
    kind: str
    service: str
    digest: str = ""
    bundle: str = ""
    port: int = 0
    cpus: float | None = None
    release_id: str = ""
    version: int = 0
    timeout_s: float = 10.0
    image: str = ""
    memory_mb: int = 0
    pids: int = 0
    slices: tuple[str, ...] = ()
    label_s: float = 900.0
    assign: str = ""
    workers: int = 1
    record: Recording | None = None
    router: str = "shipway"
    drain_s: float = 10.0
    convicted_streams: str = "finish"
    idempotent: tuple[str, ...] = ()
    shadow: Shadowing | None = None
    url: str = ""
    """Of kind `external`: where it answers, and at which path `probe`; nobody starts or ends it."""
    probe: str = ""
    ca_file: str = ""
    """The authorities that its certificate is checked by, where that is not left to the machine's."""

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Unit:
        """The unit of plain JSON data. TypeError where it is none."""
        record = Recording.from_dict(raw.get("record"))
        shadow = Shadowing.from_dict(raw.get("shadow"))
        lists = {name: tuple(raw.get(name, ())) for name in ("slices", "idempotent")}
        return cls(**{**raw, **lists, "record": record, "shadow": shadow})


@dataclass(frozen=True)
class UnitStatus:
    """What is seen of a unit: `state` is absent, starting, ready or failed."""

    state: str = "absent"
    url: str = ""
    pid: int | None = None
    restarts: int = 0
    rss_mb: float | None = None
    reason: str = ""
