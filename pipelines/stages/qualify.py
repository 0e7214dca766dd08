"""Does the staged server, engine and process included, answer as it was evaluated?

It is asked over HTTP, as users will ask it, before any of them does: the golden rows one by one, long and odd inputs,
and then many rows at once while it must stay ready.
"""

from __future__ import annotations

import concurrent.futures
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from evals.gate import Outcome, Reason, Verdict
from pipelines.records.release import Phase, Release
from pipelines.services.traffic import try_way_back
from pipelines.services.units import servers_of
from pipelines.serving.engines.tokens import MAX_PIECE_ROWS
from pipelines.serving.server.bodies import MAX_ROWS
from pipelines.stages.workshop import Findings, Workshop, entered, seconds

PROBABILITY_TOLERANCE = 0.02
"""Evaluated and served probabilities may differ by this much: other threads and batches round int8 differently."""

LOAD_REQUESTS, LOAD_CLIENTS = 120, 4
ANSWER_TIMEOUT_S = 30.0

LONG_ROWS, LONG_CHARACTERS, SHORT_CHARACTERS = MAX_PIECE_ROWS, 7000, 200
"""So many rows of the largest request fill the context: a whole piece of what the server computes at once.

More of them would take longer, and no more memory. It may take LARGEST_TIMEOUT_S.
"""
LARGEST_TIMEOUT_S = 300.0

ODD_INPUTS: Mapping[str, str] = {
    "empty": "",
    "spaces": "   ",
    "one letter": "a",
    "digits": "1234567890",
    "long": "the quick brown fox jumps over the lazy dog " * 400,
    "one long word": "a" * 20_000,
    "emoji": "👍🏽👩‍👩‍👧‍👦🔥",
    "right to left": "مرحبا بالعالم",
    "other script": "今日はとても良い天気です",
    "control characters": "tab\tnewline\nbell\a",
    "markup": "<script>alert(1)</script> & <b>bold</b>",
}


@dataclass(frozen=True)
class Qualification:
    """The verdict on a staged server, with what was measured. Times are in ms."""

    verdict: Verdict
    golden_rows: int = 0
    load: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data for the ledger."""
        return {"verdict": self.verdict.as_dict(), "golden_rows": self.golden_rows, "load": dict(self.load)}


def qualify_server(
    urls: Sequence[str], model: str, texts: Sequence[str], golden: Mapping[str, Any], clock: Callable[[], float]
) -> Qualification:
    """Ask every replica; the worst answer counts."""
    reasons: list[Reason] = []
    load: dict[str, float] = {}
    for url in urls:
        with httpx.Client(base_url=url, timeout=ANSWER_TIMEOUT_S, trust_env=False) as client:
            answered = _golden(client, model, texts, golden)
            reasons.append(answered)
            if answered.outcome is not Outcome.PASS:
                continue  # a server that hangs would take its time for each of the other questions
            reasons.extend(_odd(client, model))
            load = _load(client, model, texts, clock)
            reasons.append(_loaded(load))
            reasons.append(_largest(client, model, texts))
    return Qualification(Verdict.of(reasons), len(golden["rows"]), load)


def _infer(client: httpx.Client, model: str, *texts: str, timeout_s: float | None = None) -> httpx.Response:
    body = {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}]}
    timeout_s = ANSWER_TIMEOUT_S if timeout_s is None else timeout_s
    return client.post(f"/v2/models/{model}/infer", json=body, timeout=timeout_s)


def _golden(client: httpx.Client, model: str, texts: Sequence[str], golden: Mapping[str, Any]) -> Reason:
    """Every golden row must come back with the evaluated label and probabilities."""
    worst, wrong = 0.0, 0
    for row, label, expected in zip(golden["rows"], golden["labels"], golden["probabilities"], strict=True):
        try:
            outputs = {
                o["name"]: o["data"] for o in _infer(client, model, texts[row]).raise_for_status().json()["outputs"]
            }
        except (httpx.HTTPError, KeyError, ValueError) as error:
            return Reason(Outcome.FAIL, "golden rows", f"golden row {row} was not answered: {error}")
        differences = [abs(a - b) for a, b in zip(outputs["probabilities"], expected, strict=True)]
        worst = max(worst, *differences)
        wrong += outputs["label"][0] != label
    sentence = (
        f"{wrong} of {len(golden['rows'])} golden rows changed their label; probabilities differ by at most {worst:.4f}"
    )
    passed = wrong == 0 and worst <= PROBABILITY_TOLERANCE
    return Reason(Outcome.PASS if passed else Outcome.FAIL, "golden rows", sentence)


def _odd(client: httpx.Client, model: str) -> list[Reason]:
    """Long and odd inputs are answered or refused, never an error of the server or an answer that is no number."""
    reasons = []
    for name, text in ODD_INPUTS.items():
        try:
            answer = _infer(client, model, text)
            sane = answer.status_code < 500 and _is_finite(answer)
            said = f"status {answer.status_code}"
        except (httpx.HTTPError, KeyError, ValueError) as error:
            sane, said = False, type(error).__name__
        if not sane:
            reasons.append(Reason(Outcome.FAIL, "odd inputs", f"the input {name!r} was not handled: {said}"))
    return reasons or [Reason(Outcome.PASS, "odd inputs", f"{len(ODD_INPUTS)} long and odd inputs were handled")]


def _is_finite(answer: httpx.Response) -> bool:
    if answer.status_code != httpx.codes.OK:
        return True
    outputs = {o["name"]: o["data"] for o in answer.json()["outputs"]}
    return all(math.isfinite(p) for p in outputs["probabilities"])


def _load(client: httpx.Client, model: str, texts: Sequence[str], clock: Callable[[], float]) -> dict[str, float]:
    """Many rows at once: how many failed, how long did they take, was it still ready?"""

    def timed(i: int) -> tuple[float, bool]:
        began = clock()
        try:
            fine = _infer(client, model, texts[i % len(texts)]).status_code == httpx.codes.OK
        except httpx.HTTPError:
            fine = False
        return (clock() - began) * 1000, fine

    with concurrent.futures.ThreadPoolExecutor(LOAD_CLIENTS) as pool:
        answers = list(pool.map(timed, range(LOAD_REQUESTS)))
        ready = _is_ready(client)
    times = sorted(ms for ms, _ in answers)
    failed = sum(not fine for _, fine in answers)
    p95 = times[int(0.95 * len(times))]
    return {"requests": len(answers), "failed": failed, "p95_ms": round(p95, 3), "ready": float(ready)}


def _largest(client: httpx.Client, model: str, texts: Sequence[str]) -> Reason:
    """As many rows as any user may send, of the evaluation's own words: its memory is enough, or no user finds out."""
    longest, shortest = max(texts, key=len), min(texts, key=len)
    long = " ".join([longest] * (LONG_CHARACTERS // (len(longest) + 1) + 1))[:LONG_CHARACTERS]
    rows = [long] * LONG_ROWS + [shortest[:SHORT_CHARACTERS]] * (MAX_ROWS - LONG_ROWS)
    try:
        status = _infer(client, model, *rows, timeout_s=LARGEST_TIMEOUT_S).status_code
        fine, said = status < httpx.codes.INTERNAL_SERVER_ERROR, f"was answered with status {status}"
    except httpx.HTTPError as error:
        fine, said = False, f"was not answered ({type(error).__name__}): is package.memory_mb large enough?"
    sentence = f"the largest allowed request, {MAX_ROWS} rows, {said}"
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
    golden = entered(release, Phase.COMPRESSED)["golden"]
    qualified = qualify_server(arm.urls, release.service, shop.rows(release).texts, golden, seconds(shop))
    way_back_ms = try_way_back(shop.ports, release, shop.token, shop.spec.rollout.lease_s, seconds(shop))
    return {**qualified.as_dict(), "way_back_ms": way_back_ms}
