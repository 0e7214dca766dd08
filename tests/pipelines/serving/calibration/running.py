"""How is a gateway started before a server of known timing, what does it say, and how is each load tool run at it?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from evals.signals.strata import GRID_RATIO, ArmCounts, threshold_ms
from pipelines.records.split import Arm
from tests.pipelines.serving.calibration import timed_server
from tests.pipelines.serving.calibration.reports import Figures, Report, of_aiperf, of_guidellm
from tests.pipelines.serving.gateway.test_gateway import Bench
from tests.ports import free_port
from tests.waiting import HANG_S, until

TOOLS = ("guidellm", "aiperf", "aiperf-server-tokens")
"""The last one is told to use the server's count of tokens."""

NOWHERE = "http://127.0.0.1:9"
TOOL_S = 600.0
FIRST_OFF_MS, EACH_OFF_MS, KEPT_OFF_MS = 2.0, 1.0, 0.5
"""From what is known; and per token from what the server did, where a token too many or too few makes 0.6."""


@contextmanager
def timed_gateway(folder: Path) -> Iterator[tuple[Bench, str]]:
    """A gateway before a server that keeps time, and that server's own address."""
    bench = Bench(folder, api="openai")
    try:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        bench.start(timed_server.__file__, str(port))
        until(lambda: is_there(url))
        bench.put(Arm("sha256:1", (url,)))
        yield bench, url
    finally:
        bench.end()


def is_there(url: str) -> bool:
    """Whether somebody answers."""
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def told(bench: Bench) -> tuple[int, Figures]:
    """What the gateway's metrics say: of how many streams, and their means."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(bench.socket))) as admin:
        page = admin.get("http://gateway/metrics").text
    said = {
        (sample.name.removeprefix("shipway_gateway_"), sample.labels.get("kind")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.labels.get("arm") == "stable" and "le" not in sample.labels
    }
    streams = said.get(("first_token_seconds_count", None), 0.0)
    if not streams:
        return 0, Figures(0.0, 0.0, 0.0)
    first_ms, each_ms = (
        said[f"{name}_seconds_sum", None] / streams * 1000 for name in ("first_token", "between_tokens")
    )
    return int(streams), Figures(said["tokens_total", "out"] / streams, first_ms, each_ms)


def kept_ms(url: str) -> tuple[float, float]:
    """How the server kept time, by its own clock: mean time to the first token, and mean time between two."""
    kept = httpx.get(f"{url}/kept", trust_env=False, timeout=HANG_S).json()
    gaps = timed_server.TOKENS - 1
    return sum(first for first, _ in kept) / len(kept), sum(rest for _, rest in kept) / len(kept) / gaps


def calibrated(bench: Bench, url: str, streams: int) -> Figures:
    """What the gateway says of so many streams, once that is held against the server's clock and against what is known.

    Tokens exactly, time per output token within 1 ms, time to first token within 2 ms and a step of the grid. A busy
    machine only adds to the way of a first token, and here and there much: none may be too soon, and the quickest one
    must be in time.
    """
    until(lambda: told(bench)[0] == streams)
    (_, figures), kept, strata = told(bench), kept_ms(url), bench.settled()
    because = f"{figures}, and the server was at {kept}"
    assert figures.tokens == timed_server.TOKENS, because
    assert figures.first_ms >= kept[0] >= timed_server.FIRST_MS, because
    assert abs(figures.each_ms - kept[1]) < KEPT_OFF_MS, because
    assert abs(figures.each_ms - timed_server.EACH_MS) < EACH_OFF_MS, because
    first = [stratum.stable.timings["first_token"] for stratum in strata if stratum.stable.timings]
    assert over(first, timed_server.FIRST_MS / GRID_RATIO) == streams, because
    assert over(first, timed_server.FIRST_MS + FIRST_OFF_MS) < streams, because
    return figures


def over(arms: Sequence[ArmCounts], ms: float) -> int:
    """How many took longer than the first step of the grid that is no less."""
    step = next(step for step in range(500) if threshold_ms(step) >= ms)
    return sum(arm.exceeding(step) for arm in arms)


def environment(home: Path, **more: str) -> dict[str, str]:
    """A tool's: it keeps its things in a folder of its own, and finds nobody outside of this machine."""
    own = {"HOME": str(home), "HF_HOME": str(home / "hub"), "HF_ENDPOINT": NOWHERE, "NO_PROXY": "127.0.0.1"}
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **own, **more}


def report_of(name: str, tools: Path, url: str, tokenizer: Path, folder: Path, streams: int) -> Report:
    """Let a tool ask for so many streams, one after the other."""
    folder.mkdir()
    run = guidellm if name == "guidellm" else aiperf
    return run(tools, url, tokenizer, folder, streams, *(["--use-server-token-count"] if "server" in name else []))


def guidellm(tools: Path, url: str, tokenizer: Path, folder: Path, streams: int) -> Report:
    """Its report, and its text where it wrote none."""
    kept = folder / "report.json"
    command = [tools / "guidellm/bin/guidellm", "run", "--disable-console-interactive"]
    command += ["--backend", f"kind=openai_http,target={url},model={timed_server.MODEL}"]
    command += ["--profile", "kind=synchronous", "--constraint", f"kind=max_requests,count={streams}"]
    command += ["--tokenizer", f"kind=huggingface_auto,model={tokenizer}"]
    command += ["--data", f"kind=synthetic_text,prompt_tokens={timed_server.READ},output_tokens={timed_server.TOKENS}"]
    command += ["--output", f"kind=json,path={kept}"]
    return of_guidellm(written(command, kept, environment(folder, HF_HUB_OFFLINE="1")))


def aiperf(tools: Path, url: str, tokenizer: Path, folder: Path, streams: int, *more: str) -> Report:
    """Its report, and its text where it wrote none. Told to be offline it takes no folder for a tokenizer."""
    command = [tools / "aiperf/bin/aiperf", "profile", "-m", timed_server.MODEL, "--tokenizer", tokenizer, "--url", url]
    command += ["--endpoint-type", "chat", "--streaming", "--request-count", streams, "--concurrency", 1]
    command += ["--num-dataset-entries", streams, "--isl", timed_server.READ, "--osl", timed_server.TOKENS]
    command += ["--ui-type", "none", "--no-gpu-telemetry", "--no-server-metrics", "--workers-max", 1]
    command += ["--export-level", "summary", "--artifact-dir", folder / "kept", *more]
    return of_aiperf(written(command, folder / "kept/profile_export_aiperf.json", environment(folder)))


def written(command: list[Any], kept: Path, env: Mapping[str, str]) -> Any:
    """What a tool wrote; no process of its many is left, and no file of theirs."""
    with tempfile.TemporaryDirectory() as own:  # of a short name, since sockets lie in it
        process = subprocess.Popen(
            [*map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**env, "TMPDIR": own},
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=TOOL_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert kept.exists(), said[-5000:]
    return json.loads(kept.read_text())
