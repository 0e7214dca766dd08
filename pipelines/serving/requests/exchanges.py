"""Which arm does each request get?"""

from __future__ import annotations

from dataclasses import replace
from time import monotonic
from typing import Any

import orjson

from pipelines.records.split import Arm, Rewrite, TrafficSplit
from pipelines.serving.http1.answer import Refusal
from pipelines.serving.http1.client import ClientConnection
from pipelines.serving.http1.request import Request
from pipelines.serving.meter.asked import TextRequest
from pipelines.serving.requests.assignment import NotAllowed
from pipelines.serving.requests.exchange import Exchange, ExchangeFloor
from pipelines.serving.requests.lines import PROMPT
from pipelines.serving.requests.refusals import BUSY, NOBODY

ASSIGNMENT = b"/assignment"
ASKED_BY_GET = Refusal(405, "E_METHOD", "an assignment is read by GET", headers=b"allow: GET, HEAD\r\n")
NO_USERS = Refusal(404, "E_ASSIGNMENT", "users are not kept at an arm here: a spec says how, in rollout.assign")
WHO = Refusal(400, "E_ASSIGNMENT", "the request does not say who asks, by which users stay at their arm")
OTHER_PROMPT = "its application wrote the prompt of another version"


class Exchanges(ExchangeFloor):
    """Gives each request an arm and counts what the arm did with it."""

    def serve(self, client: ClientConnection, request: Request) -> Exchange | None:
        """Begin one request; None where it was answered at once."""
        request_id = request.named.get(b"x-request-id") or next(self._names)
        split = self.store.split
        if split.stable is None:
            client.refuse(NOBODY, request_id)
            return None
        if len(self.open) >= self.limits.in_flight:
            client.refuse(BUSY, request_id)
            return None
        asked = self.meter.asked(request) if self.meter is not None else None
        if self.meter is not None and (declined := self.meter.declines(asked)) is not None:
            client.refuse(declined, request_id)
            return None
        try:
            held = self.held.holder(request, asked, split) if self.meter is not None else None
            assigned = held or self.assignment.of(request, split)
        except NotAllowed as error:
            client.refuse(error.refusal, request_id)
            return None
        if self._recorder is not None and assigned.is_evidence:
            self._recorder.saw(request, request_id)
        user = None
        if assigned.user is not None:
            name, in_control = assigned.arm, assigned.in_control
            user = self.users.met(assigned.user, name, split.routes, monotonic(), in_control=in_control)
        canary = split.canary
        exchange = Exchange(self, client, request, request_id, split.stable, canary)
        arm = canary if canary is not None and assigned.arm == "canary" else split.stable
        exchange.ask(assigned, arm, user, _as_told(asked, request, split, arm))
        if exchange not in self.open:
            return None
        if self.shadow is not None and canary is not None and assigned.is_evidence and arm is split.stable:
            exchange.mirror(self.shadow, canary)
        return exchange

    def tell_assignment(self, client: ClientConnection, request: Request) -> None:
        """Which prompt does the user get who asks here? For applications that write it into their requests."""
        request_id, split = request.named.get(b"x-request-id") or next(self._names), self.store.split
        if split.stable is None:
            return client.refuse(NOBODY, request_id)
        if request.method not in {b"GET", b"HEAD"}:
            return client.refuse(ASKED_BY_GET, request_id)
        if not self.assignment.keeps_users:
            return client.refuse(NO_USERS, request_id)
        try:
            assigned = self.assignment.of(request, split)
        except NotAllowed as error:
            return client.refuse(error.refusal, request_id)
        if split.canary is not None and assigned.user is None and assigned.is_evidence:
            return client.refuse(WHO, request_id)
        arm = split.canary if split.canary is not None and assigned.arm == "canary" else split.stable
        said = {"arm": assigned.arm} if self.lines.names_arms else {}
        body = orjson.dumps({**said, **_told(arm.rewrite or Rewrite())})
        return client.reply(200, body, request_id, b"cache-control: no-store\r\n")

    def sweep(self, now_s: float) -> None:
        """Say which answers are overdue."""
        for exchange in tuple(self.open):
            exchange.check(now_s)
        if self.shadow is not None:
            self.shadow.sweep(now_s)

    def tidy(self, now_s: float) -> None:
        """Close the connections to arms that nobody uses any more."""
        split = self.store.split
        arms = [arm for arm in (split.stable, split.canary) if arm]
        self.replicas.tidy({(url, arm.ca_file) for arm in arms for url in arm.urls}, now_s)


def _told(rewrite: Rewrite) -> dict[str, Any]:
    """What an application needs to know of a version's prompt."""
    return {
        "prompt": rewrite.known_as or None,
        "digest": rewrite.digest if rewrite.has_prompt else None,
        "sampling": dict(rewrite.sampling),
        "applied_by": "application" if rewrite.by_application else "gateway",
    }


def _as_told(asked: TextRequest | None, request: Request, split: TrafficSplit, arm: Arm) -> TextRequest | None:
    """The request; nobody's evidence where its application did not write the prompt of this arm, or does not say so."""
    rewrites = [known.rewrite for known in (split.stable, split.canary) if known is not None]
    if asked is None or not any(rewrite is not None and rewrite.by_application for rewrite in rewrites):
        return asked
    expected = arm.rewrite.known_as.encode() if arm.rewrite is not None and arm.rewrite.has_prompt else None
    return asked if request.named.get(PROMPT) == expected else replace(asked, odd=OTHER_PROMPT)
