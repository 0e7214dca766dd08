"""What does the controller itself cost? CPU of a further release in a home that has had some.

    python -m benchmarks.controller --before FOLDER [--releases 3] [--json]

compares this build with another checkout, release by release in turn, each in a home of its own that has had one
release. The release runs in a process of its own, through the same functions as the command line. Imports happen before
the clock starts; what is spent in loading models, asking them and exporting them is measured where it happens and taken
off. Prefect's server is another process, of the release or of `up`: what it needs meanwhile is named beside.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from flows.demo.models import MODEL
from pipelines.home import Home

RPS, WARM_S = 40, 2.0


@dataclass
class Spent:
    """CPU seconds of this process that belong to the model, not to the controller."""

    seconds: float = 0.0

    def on(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its CPU counted."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - began

        return counted


def measure_controller(home: Home) -> dict[str, float]:
    """Release version 1 again, over the demo's champion, with gates that let it pass."""
    spec = home.root / "demo" / "again.yaml"
    text = (home.root / "demo" / "release.yaml").read_text()
    text = text.replace("margin: 0.06", "margin: 0.9").replace("margin: 0.15", "margin: 0.9")
    spec.write_text(text)
    traffic = _start_traffic(home)
    try:
        return measure_release(home, spec, f"models:/{MODEL}/1")
    finally:
        traffic.terminate()
        traffic.wait()
        subprocess.run([sys.executable, "-m", "flows.cli", "down"], check=False, capture_output=True)


def measure_release(home: Home, spec: Path, model: str) -> dict[str, Any]:
    """One release in this process, with what it costs beside the model's work."""
    server = _homes_server(home)
    spent = _count_model_work()
    _import_everything()
    return _released(home, spec, model, spent, server)


def _homes_server(home: Home) -> psutil.Process | None:
    """The server of Prefect that `up` has, where this build knows such a one."""
    from flows.control.up_file import find_up

    try:
        from flows.control.prefect_choice import use_homes_prefect
    except ImportError:
        return None
    if why := use_homes_prefect(home):
        raise RuntimeError(why)
    up = psutil.Process(int(str((find_up(home) or {})["pid"])))
    return next(p for p in up.children(recursive=True) if "uvicorn" in _line(p))


def _count_model_work() -> Spent:
    from pipelines.compress.dynamic_int8 import DynamicInt8
    from pipelines.serving.engines.onnxruntime import OnnxRuntimeEngine
    from pipelines.serving.engines.torch import TorchEngine

    try:
        from pipelines.tasks.classification import classification as evaluation
    except ImportError:  # a build before there were tasks
        from pipelines.stages import evaluate as evaluation
    spent = Spent()
    for engine in (OnnxRuntimeEngine, TorchEngine):
        engine.predict = spent.on(engine.predict)
        engine.__init__ = spent.on(engine.__init__)
    DynamicInt8.compress = spent.on(DynamicInt8.compress)
    evaluation.measure = spent.on(evaluation.measure)
    return spent


def _import_everything() -> None:
    import mlflow
    import onnx
    import onnxruntime
    import onnxscript
    import prefect
    import torch
    import transformers

    import flows.release

    del mlflow, onnx, onnxruntime, onnxscript, prefect, torch, transformers, flows


def _start_traffic(home: Home) -> subprocess.Popen[bytes]:
    from flows.control.background import start_up
    from flows.wiring import wire
    from pipelines.services.units import gateway_name

    start_up(home)
    ports = wire(home)
    while ports.runtime.status(gateway_name(MODEL)).state != "ready":
        time.sleep(0.1)
    command = ["traffic", MODEL, "--data", str(home.root / "demo" / "production.csv"), "--rps", str(RPS)]
    child = subprocess.Popen([sys.executable, "-m", "flows.cli", *command], stdout=subprocess.DEVNULL)
    time.sleep(WARM_S)
    return child


def _released(home: Home, spec: Path, model: str, spent: Spent, server: psutil.Process | None) -> dict[str, Any]:
    from flows.control.holders import holder
    from flows.control.opening import opened
    from flows.wiring import wire
    from flows.working import Listener, Stop, work_on
    from pipelines.spec.spec_file import read_spec

    ports, before, spent.seconds = wire(home), time.process_time(), 0.0
    server_before_s = _cpu_s(server) if server else 0.0
    asked = read_spec(spec, model=model)
    with opened(asked, ports, home, spec.parent, holder("bench")) as (begun, held):
        ended = work_on(begun, ports, home, held, Listener(), Stop())
    total = time.process_time() - before
    own = [p for p in psutil.Process().children(recursive=True) if "uvicorn" in _line(p)]
    return {
        "outcome": str(ended.outcome),
        "controller_cpu_s": round(total - spent.seconds, 2),
        "model_work_cpu_s": round(spent.seconds, 2),
        "prefect_server_cpu_s": round(sum(map(_cpu_s, [*own, server] if server else own)) - server_before_s, 2),
    }


def _cpu_s(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def compare(before: Path, releases: int) -> dict[str, list[dict[str, Any]]]:
    """Further releases of both builds, in turn."""
    now = Path(__file__).resolve().parents[1]
    found: dict[str, list[dict[str, Any]]] = {"before": [], "now": []}
    with ExitStack() as stack:
        homes = {
            name: stack.enter_context(_serving(root, releases))
            for name, root in (("before", before.resolve()), ("now", now))
        }
        for n in range(releases):
            for name, (home, environment) in homes.items():
                command = [sys.executable, "-P", __file__, "--one", f"models:/tiny/{n + 2}"]
                done = subprocess.run(command, env=environment, cwd=home, stdout=subprocess.PIPE, check=True)
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
    return found


@contextmanager
def _serving(root: Path, releases: int) -> Iterator[tuple[Path, dict[str, str]]]:
    """A home in which the build in `root` has released version 1, under traffic, with further versions."""
    from flows.wiring import wire
    from pipelines.services.units import gateway_name
    from tests.flows.releases.real_world import SPEC, calling
    from tests.pipelines.model_folders import make_classifier

    with tempfile.TemporaryDirectory(prefix="shipway-bench-") as folder:
        path = Path(folder).resolve()
        ports = wire(Home.open(path))
        rows = [f"a good film {n},{label}" for n in range(20) for label in ("negative", "neutral", "positive")]
        (path / "rows.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
        (path / "release.yaml").write_text(SPEC)
        for n in range(1, releases + 2):
            ports.registry.register("tiny", make_classifier(path / "models" / str(n), seed=n), {})
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment = {**kept, "PYTHONPATH": str(root), "SHIPWAY_HOME": str(path)}
        command = [sys.executable, "-m", "flows.cli"]
        try:
            subprocess.run(
                [*command, "release", "release.yaml"], env=environment, cwd=path, check=True, capture_output=True
            )
            with calling(ports.runtime.status(gateway_name("tiny")).url):
                yield path, environment
        finally:
            subprocess.run([*command, "down"], env=environment, cwd=path, check=False, capture_output=True)


def one(model: str) -> None:
    """A further release in the home and by the build that the environment names."""
    from flows.cli.options import open_home
    from flows.control.background import start_up

    home = open_home()
    start_up(home)
    print(json.dumps(measure_release(home, home.root / "release.yaml", model)))


def show(found: dict[str, list[dict[str, Any]]]) -> Table:
    """Medians and spread of both, and what is left of the sum."""
    table = Table("CPU, seconds", *found, title=f"a further release (n = {len(found['now'])} of each, in turn)")
    sums = {}
    for name in ("controller_cpu_s", "prefect_server_cpu_s", "sum"):
        cells = []
        for build, runs in found.items():
            values = [r[name] if name != "sum" else r["controller_cpu_s"] + r["prefect_server_cpu_s"] for r in runs]
            sums[build] = statistics.median(values)
            cells.append(f"{statistics.median(values):.2f} ({min(values):.2f} – {max(values):.2f})")
        table.add_row(name, *cells)
    table.add_row("now / before", "", f"{sums['now'] / sums['before']:.0%}")
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--releases", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return one(options.one)
    if options.before is None:
        parser.error("--before says what to compare with")
    found = compare(options.before, options.releases)
    print(json.dumps(found)) if options.json else Console().print(show(found))
    return None


if __name__ == "__main__":
    main()
