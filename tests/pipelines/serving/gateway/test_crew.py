"""Several processes serve as if they were one: one split, one evidence, and the death of one is nobody else's."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.errors import DependencyDown
from tests.contracts.test_router import RouterContract
from tests.pipelines.serving.gateway.test_gateway import Bench, feedback
from tests.waiting import HANG_S, until

pytestmark = pytest.mark.integration

PATIENT = {"trust_env": False, "timeout": HANG_S}


@pytest.fixture
def bench(tmp_path) -> Iterator[Bench]:
    """A gateway with two workers."""
    made = Bench(tmp_path, workers=2, figures="public")
    try:
        until(lambda: len(workers_of(made)) == 2)
        yield made
    finally:
        workers = workers_of(made)
        made.end()
        psutil.wait_procs(workers, HANG_S)


def workers_of(bench: Bench) -> list[psutil.Process]:
    """The processes that serve; none where the gateway is gone."""
    if bench.gateway.poll() is not None:
        return []
    return [one for one in psutil.Process(bench.gateway.pid).children() if one.status() != psutil.STATUS_ZOMBIE]


def ask(bench: Bench, n: int, path: str = "/") -> Counter[str]:
    """Send requests, each over a connection of its own, so that both workers get some."""
    found: Counter[str] = Counter()
    alone = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(trust_env=False, timeout=HANG_S, limits=alone) as client:
        for _ in range(n):
            try:
                answer = client.post(f"http://127.0.0.1:{bench.port}{path}", content=b"x")
            except httpx.TransportError:
                found["lost"] += 1
            else:
                found[f"{answer.status_code} {answer.headers.get('x-shipway-model-version', '-')}"] += 1
    return found


def attempts(bench: Bench) -> Counter[str]:
    """What its users are told of their requests, by outcome."""
    page = httpx.get(f"http://127.0.0.1:{bench.port}/metrics", **PATIENT).text
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    found: Counter[str] = Counter()
    for sample in samples:
        if sample.name == "shipway_gateway_requests_total":
            found[sample.labels["outcome"]] += int(sample.value)
    return found


def is_whole_after(bench: Bench, begun: threading.Semaphore) -> bool:
    """Whether a stream of three seconds came to its end; it is said when its first piece is there."""
    with httpx.stream("POST", f"http://127.0.0.1:{bench.port}/drip", content=b"x", **PATIENT) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        begun.release()
        try:
            return b"data" in b"".join(pieces)
        except httpx.TransportError:
            return False


class TestCrewRouter(RouterContract):
    """The promises of a router hold with several workers."""

    @pytest.fixture(autouse=True)
    def _fresh(self, bench):
        self.router = bench.router

    def wait(self, seconds: float) -> None:
        """Its clock is its own."""
        time.sleep(seconds)


def test_shares_and_evidence_are_those_of_all_workers(bench):
    """Every request counts once, whoever served it."""
    (stable, _), (canary, _) = bench.upstream("1"), bench.upstream("2", "500")
    bench.put(stable, canary, 50.0, 60.0)
    found = ask(bench, 200)
    assert 60 < found["500 2"] < 140, "by chance outside of it once in a hundred million"
    counted = bench.counted()
    assert (counted["canary routed"], counted["stable routed"]) == (found["500 2"], found["200 1"])
    assert counted["canary errors"] == found["500 2"]
    # Each failure of the canary's that was an answer stayed one: a 500 is passed on.
    until(lambda: attempts(bench) == Counter(ok=found["200 1"], error=found["500 2"]))


def test_a_label_finds_the_worker_that_answered(bench):
    """Whichever takes it; nobody's label is refused as before."""
    stable, _ = bench.upstream("1")
    bench.put(stable)
    url = f"http://127.0.0.1:{bench.port}/"
    ids = [httpx.post(url, trust_env=False).headers["x-request-id"] for _ in range(12)]
    assert {feedback(bench, {"request_id": one, "score": 1}).status_code for one in ids} == {200}
    assert {feedback(bench, {"request_id": "nobody", "score": 1}).status_code for _ in range(4)} == {404}
    strata = bench.settled()
    assert sum((Counter(s.stable.scores) for s in strata), Counter()) == Counter({1000: 12})


def test_a_killed_worker_loses_only_what_it_had_in_flight(bench):
    """Which is counted, and the worker is replaced; the rest of the users notice nothing."""
    (stable, _), (canary, _) = bench.upstream("1"), bench.upstream("2")
    bench.put(stable, canary, 100.0, 60.0)
    begun, ended = threading.Semaphore(0), []
    slow = [threading.Thread(target=lambda: ended.append(is_whole_after(bench, begun))) for _ in range(8)]
    for thread in slow:
        thread.start()
    assert all(begun.acquire(timeout=HANG_S) for _ in slow)
    victim = workers_of(bench)[0]
    victim.kill()
    assert ask(bench, 40) == Counter({"200 2": 40})
    for thread in slow:
        thread.join()
    lost = ended.count(False)
    until(lambda: len(workers_of(bench)) == 2 and victim.pid not in {one.pid for one in workers_of(bench)})
    counted = bench.counted()
    assert counted["canary errors"] == lost
    until(lambda: attempts(bench) == Counter(ok=48 - lost, lost=lost))
    assert bench.router.read("s").canary_pct == 100.0


def test_a_worker_that_does_not_confirm_holds_a_larger_share(bench):
    """Nothing is raised, nobody meets what its keeper does not know, and the next try works."""
    (stable, _), (canary, _) = bench.upstream("1"), bench.upstream("2")
    bench.put(stable)
    before = bench.router.read("s")
    mute = workers_of(bench)[0]
    mute.send_signal(signal.SIGSTOP)
    with pytest.raises(DependencyDown, match="did not confirm"):
        bench.put(stable, canary, 100.0, 60.0)
    assert bench.router.read("s") == before
    assert ask(bench, 10) == Counter({"200 1": 10})
    until(lambda: len(workers_of(bench)) == 2)
    bench.put(stable, canary, 100.0, 60.0)
    assert ask(bench, 10) == Counter({"200 2": 10})


def test_the_way_home_does_not_wait_for_a_mute_worker(bench):
    """It is ended instead: nobody is left at the canary."""
    (stable, _), (canary, _) = bench.upstream("1"), bench.upstream("2")
    bench.put(stable, canary, 100.0, 60.0)
    workers_of(bench)[0].send_signal(signal.SIGSTOP)
    bench.put(stable)
    assert bench.router.read("s").canary is None
    assert ask(bench, 10) == Counter({"200 1": 10})


def test_what_a_label_does_not_need_is_not_passed_on(bench):
    """A label for an unknown answer, with deeper nesting than may be written: refused, and nothing is kept of it."""
    stable, _ = bench.upstream("1")
    bench.put(stable)
    more = "[" * 300 + '"' + "x" * 1_000_000 + '"' + "]" * 300
    body = '{"request_id": "nobody", "score": 1, "more": ' + more + "}"
    url = f"http://127.0.0.1:{bench.port}/feedback"
    before = max(one.memory_info().rss for one in workers_of(bench))
    assert {httpx.post(url, content=body, trust_env=False).status_code for _ in range(60)} == {404}
    assert max(one.memory_info().rss for one in workers_of(bench)) < before + 30e6


def test_workers_do_not_outlive_their_keeper(bench):
    """They go home, finish and end; the next gateway begins all-stable."""
    (stable, _), (canary, _) = bench.upstream("1"), bench.upstream("2")
    bench.put(stable, canary, 100.0, 60.0)
    workers = workers_of(bench)
    bench.gateway.kill()
    bench.gateway.wait()
    assert psutil.wait_procs(workers, HANG_S)[1] == []
    bench.gateway = bench.start_gateway()
    assert ask(bench, 5) == Counter({"200 1": 5})


def test_the_end_of_a_crew_is_clean(bench):
    """Exit 0, and nobody stays behind."""
    workers = workers_of(bench)
    os.kill(bench.gateway.pid, signal.SIGTERM)
    assert bench.gateway.wait(HANG_S) == 0
    assert psutil.wait_procs(workers, HANG_S)[1] == []


def test_a_worker_is_small(bench):
    """At most 60 MB after some traffic."""
    stable, _ = bench.upstream("1")
    bench.put(stable)
    ask(bench, 100)
    assert max(one.memory_info().rss for one in workers_of(bench)) < 60e6
