"""What does the controller itself cost? CPU of a further release in a home that has had some.

The release runs in this process, through the same functions as the command line. Imports happen before the clock
starts; what is spent in loading models, asking them and exporting them is measured where it happens and taken off.
Prefect's own server is a process of its own and is named beside.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

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
    spent = _count_model_work()
    _import_everything()
    traffic = _start_traffic(home)
    try:
        return _released(home, spec, spent)
    finally:
        traffic.terminate()
        traffic.wait()
        subprocess.run([sys.executable, "-m", "flows.cli", "down"], check=False, capture_output=True)


def _count_model_work() -> Spent:
    from pipelines import evaluation
    from pipelines.compress.dynamic_int8 import DynamicInt8
    from pipelines.serving.backends.onnxruntime import OnnxRuntimeBackend
    from pipelines.serving.backends.torch import TorchBackend

    spent = Spent()
    for backend in (OnnxRuntimeBackend, TorchBackend):
        backend.predict = spent.on(backend.predict)
        backend.__init__ = spent.on(backend.__init__)
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
    from flows.up import start_up
    from flows.wiring import wire
    from pipelines.units import gateway_name

    start_up(home)
    ports = wire(home)
    while ports.runtime.status(gateway_name(MODEL)).state != "ready":
        time.sleep(0.1)
    command = ["traffic", MODEL, "--data", str(home.root / "demo" / "production.csv"), "--rps", str(RPS)]
    child = subprocess.Popen([sys.executable, "-m", "flows.cli", *command], stdout=subprocess.DEVNULL)
    time.sleep(WARM_S)
    return child


def _released(home: Home, spec: Path, spent: Spent) -> dict[str, float]:
    from flows.holders import holder
    from flows.opening import opened
    from flows.wiring import wire
    from flows.working import Listener, Stop, work_on
    from pipelines.spec_file import read_spec

    ports, before, spent.seconds = wire(home), time.process_time(), 0.0
    asked = read_spec(spec, model=f"models:/{MODEL}/1")
    with opened(asked, ports, home, spec.parent, holder("bench")) as (begun, held):
        ended = work_on(begun, ports, home, held, Listener(), Stop())
    total = time.process_time() - before
    servers = sum(sum(p.cpu_times()[:2]) for p in psutil.Process().children(recursive=True) if "uvicorn" in _line(p))
    return {
        "outcome": str(ended.outcome),
        "controller_cpu_s": round(total - spent.seconds, 2),
        "model_work_cpu_s": round(spent.seconds, 2),
        "prefect_server_cpu_s": round(servers, 2),
    }


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
