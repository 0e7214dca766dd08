"""How much memory does the largest allowed request need, beside one row, and how fast is it answered?

    python -m benchmarks.largest_request [--json] [--rounds 3]

The demo's model (MiniLM-L6, cut at 128 tokens, one thread) on each engine, in a server of its own a round: one row of
130 words, and then 256 of them. The peak of the server's resident memory is set back before each (Linux), and the ratio
is that of the two peaks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import httpx

from benchmarks import proxies
from benchmarks.gateway import free_port
from benchmarks.real_model import NAME, bundle
from benchmarks.spread import tell
from pipelines.stages.evaluate import source_subject
from pipelines.supply.bundle import seal
from pipelines.tasks.classification.wire import MAX_ROWS

TEXT = "this film was great " * 32 + "in parts"
LONGEST_S = 600.0


def ask(url: str, rows: int) -> float:
    """Seconds until so many rows are answered."""
    body = {"inputs": [{"name": "text", "shape": [rows], "datatype": "BYTES", "data": [TEXT] * rows}]}
    began = perf_counter()
    httpx.post(f"{url}/v2/models/{NAME}/infer", json=body, timeout=LONGEST_S, trust_env=False).raise_for_status()
    return perf_counter() - began


def peak_mb(pid: int) -> float:
    """The most that the process held since its peak was set back."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def one_round(path: Path, digest: str, log: Path) -> dict[str, float]:
    """What one server needs for one row and for the largest request; CPU seconds are those of its process."""
    port = free_port()
    options = ["--bundle", str(path), "--digest", digest, "--port", str(port), "--model-name", NAME, "--threads", "1"]
    url = f"http://127.0.0.1:{port}"
    with proxies.started([sys.executable, "-m", "pipelines.serving.server", *options], port, log) as server:
        peaks = []
        for rows in (1, MAX_ROWS):
            ask(url, 1)
            Path(f"/proc/{server.pid}/clear_refs").write_text("5")
            cpu_s = sum(server.cpu_times()[:2])
            took_s = ask(url, rows)
            cpu_s = sum(server.cpu_times()[:2]) - cpu_s
            peaks.append(peak_mb(server.pid))
        rest_mb = server.memory_info().rss / 2**20
    alone, largest = peaks
    figures = {"one_row_mb": alone, "largest_mb": largest, "after_mb": rest_mb, "ratio": largest / alone}
    return {**figures, "rows_per_cpu_s": MAX_ROWS / cpu_s, "rows_per_s": MAX_ROWS / took_s}


def measure(rounds: int) -> dict[str, list[float]]:
    """Each figure of each engine, one value a round."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bundles").mkdir()
        small = bundle(folder)
        source = seal(folder / "source", dict(source_subject(folder / "source", NAME).facts), folder / "bundles")
        for _ in range(rounds):
            for engine, (digest, path) in (("int8", small), ("torch", source)):
                for figure, value in one_round(path, digest, folder / "server.out").items():
                    found.setdefault(f"{engine}_{figure}", []).append(value)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    tell(measure(options.rounds), 2, as_json=options.json)


if __name__ == "__main__":
    main()
