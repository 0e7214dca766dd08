"""Do the invariants hold at this instant? Asked after every effect and at every passing of time, whoever acted.

Numbers are those of the fault page (`docs/faults.md`). The observer believes the raw adapters, not a controller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.records.release import Phase, Release, _apply
from pipelines.records.split import TrafficSplit
from pipelines.services.units import servers_of
from tests.faults.world import OLD, OLD_VERSION, SERVICE

if TYPE_CHECKING:
    from pipelines.records.release import Event
    from tests.faults.world import World

MAY_BE_EXPOSED = {Phase.QUALIFIED, Phase.CANARY, Phase.BAKING, Phase.PROMOTING}
SAME = 1e-6


class Observer:
    """What was seen last, and what was wrong. One per world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.violations: list[str] = []
        self.outsider_moved_alias = False
        self._split = world.split
        self._alias = world.alias
        self._chains: dict[str, tuple[tuple[Event, ...], Release]] = {}
        self._fences: dict[str, int] = {}
        self._top_fence = 0
        self._convicted: set[str] = set()
        world.journal.observe = self.look

    def look(self, effect: str, result: Any) -> None:
        """Every invariant, now."""
        if effect == "lock.acquire" and result.service == SERVICE:
            self._fences[self.world.journal.actor] = result.fence
        self._records()
        release = self._current()
        self._traffic(effect, release)
        self._writers(effect)
        self._alias_after_router()
        if release is not None:
            self._running(release)
            self._ended(release)
        self._split, self._alias = self.world.split, self.world.alias

    def _say(self, what: str) -> None:
        effects = self.world.journal.names
        self.violations.append(f"{what} [effect {len(effects)}, {effects[-1] if effects else 'none'}]")

    def _current(self) -> Release | None:
        releases = [release for _, release in self._chains.values()]
        return max(releases, key=lambda r: r.started_at_s, default=None)

    def _records(self) -> None:
        """I10: append-only, and every link of the chain verifies."""
        for name, chain in self.world.raw.ledger.chains.items():
            known, release = self._chains.get(name, ((), Release()))
            if chain is known:
                continue
            if chain[: len(known)] != known:
                self._say("I10: the record was rewritten")
            for event in chain[len(known) :]:
                event.verify(release.events[-1] if release.events else None)
                release = _apply(release, event)
            self._chains[name] = (chain, release)
            if release.convicted:
                self._convicted.add(release.sealed.bundle_digest)

    def _traffic(self, effect: str, release: Release | None) -> None:
        """I1, I4: traffic only at verified bytes, and no exposure is raised without a recorded intent."""
        split, before = self.world.split, self._split
        if split is before:
            return
        if split.generation <= before.generation and split.routes != before.routes:
            self._say(f"I3: the generation went from {before.generation} to {split.generation}")
        if split.stable is None and before.stable is not None and not self.world.first:
            self._say("I1: nobody is stable any more")
        self._home(effect, split, before)
        self._canary(split, before, release)
        self._stable(split, before, release)

    def _home(self, effect: str, split: TrafficSplit, before: TrafficSplit) -> None:
        """No writer moves traffic to an arm that is dead, as far as it can know: it was not stopped since it looked."""
        if self.world.journal.was_fooled or effect != "router.write" or split.stable is None:
            return
        if split.canary_pct >= before.canary_pct - SAME:
            return
        if servers_of(self.world.raw, SERVICE, split.stable.digest).dead_reason:
            self._say("I2: traffic moved to a dead stable")

    def _canary(self, split: TrafficSplit, before: TrafficSplit, release: Release | None) -> None:
        if split.canary is None or split.canary_pct == 0:
            return None
        if release is None or release.candidate is None or split.canary.digest != release.candidate.bundle_digest:
            return self._say("I1: a share goes to bytes that no release sealed")
        if release.phase not in MAY_BE_EXPOSED:
            self._say(f"I1: a share of {split.canary_pct:g} % in phase {release.phase}")
        was = before.canary_pct if before.canary and before.canary.digest == split.canary.digest else 0.0
        if split.canary_pct > was + SAME and abs(release.intended_pct - split.canary_pct) > SAME:
            self._say(f"I4: the share rose to {split.canary_pct:g} %, {release.intended_pct:g} % was intended")
        if split.canary_pct > was + SAME and split.canary.digest in self._convicted:
            self._say("I6: convicted bytes were exposed again")
        return None

    def _stable(self, split: TrafficSplit, before: TrafficSplit, release: Release | None) -> None:
        if split.stable is None or split.stable == before.stable or split.stable.digest == OLD:
            return None
        ours = release is not None and release.candidate and split.stable.digest == release.candidate.bundle_digest
        if not ours:
            return self._say("I1: bytes that no release sealed became stable")
        if release is not None and release.phase is not Phase.PROMOTING:
            self._say(f"I4: the candidate became stable in phase {release.phase}")
        return None

    def _writers(self, effect: str) -> None:
        """I3: after a later holder of the lock has moved traffic or written the record, no earlier one moves any."""
        if effect not in {"router.write", "ledger.save"}:
            return
        fence = self._fences.get(self.world.journal.actor, 0)
        is_moved = effect == "router.write" and self.world.split.routes != self._split.routes
        if is_moved and fence < self._top_fence:
            self._say(f"I3: fence {fence} wrote after fence {self._top_fence}")
        self._top_fence = max(fence, self._top_fence)

    def _alias_after_router(self) -> None:
        """I9: the alias follows the router.

        A registry has no fence: a controller that was shut out may still move it, and must put it back (`at_rest`).
        """
        stable, release = self.world.split.stable, self._current()
        is_back = self.world.alias == OLD_VERSION and stable is not None and stable.digest == OLD
        is_shut_out = self._fences.get(self.world.journal.actor, 0) < self._top_fence
        if self.world.alias == self._alias or self.outsider_moved_alias or is_back or is_shut_out:
            return None
        serving = release.candidate.serving_version if release and release.candidate else None
        if serving != self.world.alias or stable is None or release is None:
            return self._say(f"I9: champion names {self.world.alias}, which no release serves")
        if stable.digest != release.sealed.bundle_digest:
            self._say("I9: champion moved before the router")
        return None

    def _running(self, release: Release) -> None:
        """I2: stable is kept running, and so is whatever the router points at."""
        split = self.world.split
        wanted = {unit.digest for unit in self.world.raw.runtime.units(SERVICE)}
        routed = {arm.digest for arm in (split.stable, split.canary) if arm is not None}
        if not release.is_ended and not self.world.first:
            routed.add(OLD)
        if routed - wanted:
            self._say(f"I2: {sorted(d[:10] for d in routed - wanted)} is not kept running in phase {release.phase}")

    def _ended(self, release: Release) -> None:
        """An end says what the router shows: act before recording when lowering, record first when raising."""
        if not release.is_ended or release.candidate is None or not release.candidate.bundle_digest:
            return
        split, digest = self.world.split, release.candidate.bundle_digest
        is_stable = split.stable is not None and split.stable.digest == digest
        if release.phase is Phase.PROMOTED and not is_stable:
            self._say("I4: promoted, but the router does not show it")
        if release.phase is not Phase.PROMOTED and (is_stable or (split.canary is not None and split.canary_pct > 0)):
            self._say(f"I4: {release.phase}, but users still meet the candidate")
