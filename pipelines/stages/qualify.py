"""Does the staged server, engine and process included, answer as it was evaluated?

It is asked over HTTP, as users will ask it, before any of them does: the golden rows one by one, long and odd inputs,
and then many rows at once while it must stay ready.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from evals.gate import Outcome, Reason, Verdict
from pipelines.records.release import Phase, Release
from pipelines.services.traffic import try_way_back
from pipelines.services.units import servers_of
from pipelines.stages.prompted import pinned, since_pinned
from pipelines.stages.workshop import Findings, Workshop, entered, seconds
from pipelines.tasks.known import task_of
from pipelines.tasks.task import Golden, Question, Task, TaskRows

LOAD_REQUESTS, LOAD_CLIENTS = 120, 4
ANSWER_TIMEOUT_S = 30.0

LARGEST_TIMEOUT_S = 300.0
"""For the largest request that users may send."""


@dataclass(frozen=True)
class Qualification:
    """The verdict on a staged server, with what was measured. Times are in ms."""

    verdict: Verdict
    golden_rows: int = 0
    load: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data for the ledger."""
        return {"verdict": self.verdict.as_dict(), "golden_rows": self.golden_rows, "load": dict(self.load)}


@dataclass(frozen=True)
class _Staged:
    """One replica, as it is asked: what its task asks, in which words."""

    client: httpx.Client
    task: Task[Any]
    model: str
    rows: TaskRows

    def answer(self, question: Question, timeout_s: float | None = None) -> httpx.Response:
        """Whatever comes back."""
        timeout_s = ANSWER_TIMEOUT_S if timeout_s is None else timeout_s
        return self.client.post(question.path, json=question.body, timeout=timeout_s)

    def answer_to(self, row: int) -> httpx.Response:
        """To one row, as a user would ask it."""
        return self.answer(self.task.question(self.model, self.rows, row))


def qualify_server(
    urls: Sequence[str], task: Task[Any], model: str, rows: TaskRows, golden: Golden, clock: Callable[[], float]
) -> Qualification:
    """Ask every replica; the worst answer counts."""
    reasons: list[Reason] = []
    load: dict[str, float] = {}
    for url in urls:
        with httpx.Client(base_url=url, timeout=ANSWER_TIMEOUT_S, trust_env=False) as client:
            staged = _Staged(client, task, model, rows)
            answered = _golden(staged, golden)
            reasons.append(answered)
            if answered.outcome is not Outcome.PASS:
                continue  # a server that hangs would take its time for each of the other questions
            reasons.extend(_odd(staged))
            load = _load(staged, clock)
            reasons.append(_loaded(load))
            reasons.append(_largest(staged))
    return Qualification(Verdict.of(reasons), len(golden["rows"]), load)


def _golden(staged: _Staged, golden: Golden) -> Reason:
    """Every golden row must come back as it was evaluated."""
    answers = []
    for row in golden["rows"]:
        try:
            answers.append(staged.task.read_answer(staged.answer_to(row).raise_for_status().json()))
        except (httpx.HTTPError, KeyError, ValueError) as error:
            return Reason(Outcome.FAIL, "golden rows", f"golden row {row} was not answered: {error}")
    return staged.task.judge_golden(golden, answers)


def _odd(staged: _Staged) -> list[Reason]:
    """Long and odd inputs are answered or refused, never an error of the server or an answer that is no number."""
    reasons, questions = [], staged.task.odd_questions(staged.model)
    for question in questions:
        try:
            answer = staged.answer(question)
            sane = answer.status_code < 500 and _is_sane(staged.task, answer)
            said = f"status {answer.status_code}"
        except (httpx.HTTPError, KeyError, ValueError) as error:
            sane, said = False, type(error).__name__
        if not sane:
            sentence = f"the input {question.name!r} was not handled: {said}"
            reasons.append(Reason(Outcome.FAIL, "odd inputs", sentence))
    return reasons or [Reason(Outcome.PASS, "odd inputs", f"{len(questions)} long and odd inputs were handled")]


def _is_sane(task: Task[Any], answer: httpx.Response) -> bool:
    """A refusal is; an answer is, where its task finds nothing wrong with it."""
    return answer.status_code != httpx.codes.OK or task.is_sane(task.read_answer(answer.json()))


def _load(staged: _Staged, clock: Callable[[], float]) -> dict[str, float]:
    """Many rows at once: how many failed, how long did they take, was it still ready?"""

    def timed(i: int) -> tuple[float, bool]:
        began = clock()
        try:
            fine = staged.answer_to(i).status_code == httpx.codes.OK
        except httpx.HTTPError:
            fine = False
        return (clock() - began) * 1000, fine

    with concurrent.futures.ThreadPoolExecutor(LOAD_CLIENTS) as pool:
        answers = list(pool.map(timed, range(LOAD_REQUESTS)))
        ready = _is_ready(staged.client)
    times = sorted(ms for ms, _ in answers)
    failed = sum(not fine for _, fine in answers)
    p95 = times[int(0.95 * len(times))]
    return {"requests": len(answers), "failed": failed, "p95_ms": round(p95, 3), "ready": float(ready)}


def _largest(staged: _Staged) -> Reason:
    """The most that any user may send: the server's memory is enough, or no user finds out."""
    question = staged.task.largest_question(staged.model, staged.rows)
    try:
        status = staged.answer(question, LARGEST_TIMEOUT_S).status_code
        fine, said = status < httpx.codes.INTERNAL_SERVER_ERROR, f"was answered with status {status}"
    except httpx.HTTPError as error:
        fine, said = False, f"was not answered ({type(error).__name__}): is package.memory_mb large enough?"
    sentence = f"the largest allowed request, {question.name}, {said}"
    return Reason(Outcome.PASS if fine else Outcome.FAIL, "largest request", sentence)


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/v2/health/ready").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _loaded(load: Mapping[str, float]) -> Reason:
    fine = load["failed"] == 0 and bool(load["ready"])
    sentence = f"under load {load['failed']:g} of {load['requests']:g} requests failed, p95 {load['p95_ms']:g} ms"
    return Reason(
        Outcome.PASS if fine else Outcome.FAIL, "load", sentence + ("" if load["ready"] else ", and it was not ready")
    )


def qualify(shop: Workshop, release: Release) -> Findings:
    """Does the staged server answer as it was evaluated, and is the way back open?"""
    arm = servers_of(shop.ports, release.service, release.sealed.bundle_digest).arm()
    chosen, rows = entered(release, Phase.COMPRESSED), shop.rows(release)
    task, golden = task_of(chosen["facts"]), chosen["golden"]
    qualified = qualify_server(arm.urls, task, release.service, rows, golden, seconds(shop))
    way_back_ms = try_way_back(shop.ports, release, shop.token, shop.spec.rollout.lease_s, seconds(shop))
    prompt = since_pinned(pinned(release), shop.ports.prompts)
    return {**qualified.as_dict(), "way_back_ms": way_back_ms, **({"prompt": prompt} if prompt else {})}
