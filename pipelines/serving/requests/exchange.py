"""How does one request get to an arm and its answer back?"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

from pipelines.records.split import Arm
from pipelines.serving.evidence.agreement import CLASS, VALUE
from pipelines.serving.evidence.attempts import Attempt
from pipelines.serving.evidence.attributes import LONGEST, Attributes
from pipelines.serving.evidence.counters import GatewayCounters
from pipelines.serving.evidence.intervals import CountTicket, Intervals
from pipelines.serving.evidence.labels import Labels
from pipelines.serving.evidence.streams import Events, farewell, is_event_stream
from pipelines.serving.evidence.users import User, Users
from pipelines.serving.http1.answer import Refusal
from pipelines.serving.http1.client import ClientConnection
from pipelines.serving.http1.limits import Limits
from pipelines.serving.http1.request import Request
from pipelines.serving.http1.upstream import AnswerHead
from pipelines.serving.meter.asked import TextRequest
from pipelines.serving.meter.meter import Meter
from pipelines.serving.meter.rewriting import Unfit
from pipelines.serving.requests.assignment import Assigned, Assignment, names
from pipelines.serving.requests.held import HeldResponses
from pipelines.serving.requests.lines import VERSION, AnswerLines, asked_lines, asked_of, is_fit
from pipelines.serving.requests.recorder import Recorder
from pipelines.serving.requests.refusals import ASKED_ONCE, BUSY, CHOSEN_DOWN, DOWN
from pipelines.serving.requests.repeats import Repeats
from pipelines.serving.requests.replicas import Call, Replica, Replicas
from pipelines.serving.requests.shadow import Mirrored, Shadow
from pipelines.serving.split.store import SplitStore

CROWDED = 0.75
"""The part of the requests that may be in flight from which on clients that do not read are waited for less."""

MEMO = b"x-shipway-memo"


class ExchangeFloor:
    """What the exchanges of one gateway share: where arms are, and where is counted what they did."""

    def __init__(
        self,
        store: SplitStore,
        intervals: Intervals,
        counters: GatewayCounters,
        timeout_s: float,
        attributes: Attributes,
        labels: Labels,
        assignment: Assignment,
        limits: Limits,
        repeats: Repeats,
        recorder: Recorder | None = None,
        *,
        names_arms: bool = True,
    ) -> None:
        self.store, self.intervals, self.counters = store, intervals, counters
        self.timeout_s, self.limits, self.repeats = timeout_s, limits, repeats
        self.attributes, self.labels = attributes, labels
        self.replicas = Replicas()
        self.assignment, self.users = assignment, Users(intervals)
        self.open: set[Exchange] = set()
        self._recorder, self._names, self.held = recorder, names(), HeldResponses()
        self.shadow: Shadow | None = None
        self.lines = AnswerLines(names_arms=names_arms)
        self.meter: Meter | None = None  # where the arms are language models


class Exchange:
    """One request on its way to an arm and back. The first try has a ticket; only it says something about an arm."""

    __slots__ = (
        "_answer",
        "_asked",
        "_attempt",
        "_call",
        "_canary",
        "_client",
        "_due_s",
        "_heard_s",
        "_id",
        "_lines",
        "_may_be_saved",
        "_may_repeat",
        "_mirrored",
        "_proxy",
        "_request",
        "_stable",
        "_tried",
        "at",
    )

    def __init__(
        self,
        proxy: ExchangeFloor,
        client: ClientConnection,
        request: Request,
        request_id: bytes,
        stable: Arm,
        canary: Arm | None,
    ) -> None:
        self._proxy, self._client, self._request, self._id = proxy, client, request, request_id
        self._stable, self._canary = stable, canary
        self._lines = asked_lines(request, request_id)
        self._tried: tuple[Replica, ...] = ()
        self._answer: AnswerHead | None = None
        self._mirrored: Mirrored | None = None

    def ask(self, assigned: Assigned, at: Arm, user: User | None, asked: TextRequest | None) -> None:
        """The first try; that of a smoke test, which chose its arm, is no evidence, and nobody saves it."""
        name, in_control, _, is_evidence = assigned
        proxy, request, self._asked = self._proxy, self._request, asked
        self._may_be_saved, self._may_repeat, ticket = is_evidence, proxy.repeats.allow(request), None
        if is_evidence and not (asked is not None and asked.odd):
            attributes = proxy.attributes
            slices = attributes.slices_of(request.headers, request.body) if attributes.are_declared else ()
            ticket = proxy.intervals.routed(name, slices, in_control=in_control)
        proxy.open.add(self)
        try:
            self._try(name, at, ticket, user)
        except Exception:
            self._attempt.void()  # no interval waits for the end of what was never asked
            proxy.open.discard(self)
            raise

    def mirror(self, shadow: Shadow, canary: Arm) -> None:
        """Perhaps the canary is asked, too; nobody waits for what it says."""
        self._mirrored = shadow.mirror(self._request, self._id, self._lines, canary)

    @property
    def digest(self) -> str:
        """Of the version that is asked."""
        return self.at.digest

    def _try(self, name: str, arm: Arm, ticket: CountTicket | None, user: User | None = None) -> None:
        proxy, request, now_s = self._proxy, self._request, monotonic()
        self.at, self._due_s = arm, now_s + proxy.timeout_s
        self._attempt = Attempt(proxy.intervals, proxy.counters, name, ticket, user, now_s)
        lines, body = self._lines, request.body
        if arm.rewrite is not None:
            try:
                lines, body = asked_of(arm.rewrite, request, self._id)
            except Unfit as why:
                self._is_unfit(why)
                return
        together = self._asked.together if self._asked is not None else b""
        replica, method = proxy.replicas.pick(arm.urls, self._tried, arm.ca_file, together), request.method
        self._tried += (replica,)
        # A join costs half as much as a format does.
        head = b"".join((method, b" ", request.target, b" HTTP/1.1\r\nhost: ", replica.authority, b"\r\n", lines))
        self._call = call = Call(replica, self, method, head, body, may_repeat=self._may_repeat)
        call.begin()

    def _is_unfit(self, why: Unfit) -> None:
        """The version's prompt has no place in this request: its fault where the other one's has, else the client's."""
        is_canary, canary = self._attempt.arm == "canary", self._canary
        if is_canary and is_fit(self._stable, self._request):
            self._attempt.failed()
            if self._may_be_saved:
                self._proxy.counters.retried += 1
                self._try("stable", self._stable, None)
                return
        elif not is_canary and canary is not None and is_fit(canary, self._request):
            self._attempt.failed()
        self._attempt.void()
        self._give_up(why.refusal)

    # What the arm does.

    def answer_began(self, answer: AnswerHead, now_s: float) -> None:
        """The head of the answer has come, and perhaps all the rest."""
        self._answer, self._heard_s = answer, now_s
        attempt, named = self._attempt, answer.named
        if attempt.ticket is not None and answer.status == 200:
            self._remember(named, attempt.ticket)  # before its interval can be handed out
        if self._mirrored is not None:
            self._mirrored.stable.began(answer)
        self._follow(answer, now_s)
        self._client.begin_answer(answer, self._proxy.lines.of(answer, attempt.arm, self._id, self.at.rewrite))
        if answer.is_whole:
            self.answer_ended(now_s)

    def _follow(self, answer: AnswerHead, now_s: float) -> None:
        """Look at what passes, where something can be learned from it."""
        is_stream, meter, attempt = is_event_stream(answer.named), self._proxy.meter, self._attempt
        if meter is not None and self._asked is not None:
            attempt.followed = meter.follow(self._asked, self._proxy.held.keeper(self.digest), is_stream=is_stream)
        elif is_stream:
            attempt.followed = Events()
        self._hear(answer.begun, now_s)

    def _hear(self, data: bytes, now_s: float) -> None:
        if self._attempt.followed is not None:
            self._attempt.followed.heard(data, self._attempt.arm_s(now_s))

    def _remember(self, named: Mapping[bytes, bytes], ticket: CountTicket) -> None:
        """What was predicted, whether by asking a model, and who may be asked how good that was."""
        proxy = self._proxy
        self._attempt.is_memo_hit = named.get(MEMO) == b"hit"
        if CLASS in named:
            proxy.intervals.predicted(ticket, named[CLASS][:LONGEST].decode(errors="replace"))
        if VALUE in named:
            proxy.intervals.valued(ticket, named[VALUE].decode(errors="replace"))
        proxy.labels.answered(self._id, ticket, named.get(VERSION, b""))

    def answer_piece(self, data: bytes, now_s: float) -> None:
        """Some of the body: to the client, as it comes."""
        self._heard_s = now_s
        self._hear(data, now_s)
        if self._mirrored is not None:
            self._mirrored.stable.piece(data)
        self._client.send(data)

    def answer_ended(self, now_s: float) -> None:
        """The answer is whole."""
        assert self._answer is not None  # noqa: S101  its head came before
        self._attempt.ended(self._answer.status, now_s)
        self._over(is_whole=True)
        self._client.end_answer()

    def answer_failed(self, reason: str, *, was_asked: bool) -> None:  # noqa: ARG002  the arm's log says why
        """The arm could not be reached, or broke off: stable, or a second replica of it, may save the user."""
        self._attempt.failed()
        if self._answer is not None:
            self._break_off("the model's answer broke off")
        elif not self._may_be_saved:
            self._give_up(CHOSEN_DOWN)
        elif was_asked and not self._may_repeat:
            self._give_up(ASKED_ONCE)
        elif self._attempt.arm == "canary":
            self._proxy.counters.retried += 1
            self._tried = ()
            self._try("stable", self._stable, None)
        elif len(self._tried) < min(2, len(self._stable.urls)):
            self._try("stable", self._stable, None)
        else:
            self._give_up(DOWN)

    def _give_up(self, why: Refusal) -> None:
        self._over()
        self._client.refuse(why, self._id)

    def not_asked(self) -> None:
        """The gateway could not ask: the arm never had it."""
        self._attempt.void()
        self._give_up(BUSY)

    # What the client does.

    def client_left(self) -> None:
        """Its answer is nobody's any more."""
        if self not in self._proxy.open:
            return
        if self._answer is None:
            self._attempt.abandoned()
        else:
            self._attempt.left(self._answer.status, monotonic())
        self._call.cancel()
        self._over()

    def client_waits(self) -> None:
        """Neither do we read more than it does."""
        self._attempt.client_waits()
        self._call.pause()

    def client_reads(self) -> None:
        """It goes on."""
        self._attempt.client_reads()
        self._heard_s = monotonic()
        self._call.resume()

    # What the clock does.

    def check(self, now_s: float) -> None:
        """Whether the answer is overdue."""
        if self._answer is None:
            self._check_silence(now_s)
        elif now_s >= self._due_s or self._asked is not None:  # a model may stop in a stream that never breaks
            is_stream = self._answer.length is None
            if now_s >= self._due_s:
                # One of known length is late, and counts so. Its client gets the rest, as long as it flows.
                self._attempt.overdue(self._answer.status, is_stream=is_stream)
            if now_s - self._heard_s >= self._patience_s(is_stream=is_stream):
                self._cut()

    def _patience_s(self, *, is_stream: bool) -> float:
        """How long nothing may come, or be read, in the middle of an answer that is late."""
        proxy, limits = self._proxy, self._proxy.limits
        if self._attempt.is_clients_turn:  # who does not read keeps nobody else out
            return limits.pressed_s if len(proxy.open) > limits.in_flight * CROWDED else limits.stalled_s
        return limits.stalled_s if is_stream else min(limits.stalled_s, proxy.timeout_s)

    def _check_silence(self, now_s: float) -> None:
        if now_s >= self._due_s:
            self._attempt.timed_out()
            self._call.cancel(is_hung=True)
            self._over()
            reason = f"no answer within {self._proxy.timeout_s:g} s"
            self._client.refuse(Refusal(504, "E_TIMEOUT", reason), self._id)
        elif self._client.has_gone_silent(now_s, self._due_s - self._proxy.timeout_s):
            self._client.abort()  # which says that the client left

    def _cut(self) -> None:
        """The rest will not come, or will not be read."""
        self._call.cancel()
        if not self._attempt.is_clients_turn:
            self._attempt.failed()
        self._break_off("the model's answer stopped coming")

    def withdraw(self) -> None:
        """End a stream whose arm has no users any more, or whose gateway ends; that is nobody's failure."""
        if self._answer is None or not self._is_streaming:
            return
        self._call.cancel()
        self._attempt.ended(self._answer.status, monotonic(), is_over=False)
        self._proxy.counters.withdrawn += 1
        self._break_off("the version that was answering was withdrawn")

    def _break_off(self, reason: str) -> None:
        """End half an answer: a stream says so itself, of any other a broken connection is the only honest end."""
        self._over()
        followed, is_open = self._attempt.followed, self._answer is not None and self._answer.length is None
        if followed is not None and self._is_streaming and is_open and not self._attempt.is_clients_turn:
            self._client.send(farewell(reason, is_midway=followed.is_midway))
            self._client.end_answer()
        else:
            self._client.abort()

    @property
    def _is_streaming(self) -> bool:
        return self._attempt.followed is not None and self._attempt.followed.is_stream

    def _over(self, *, is_whole: bool = False) -> None:
        self._proxy.open.discard(self)
        if self._mirrored is not None:
            self._mirrored.stable_over(is_whole=is_whole)
