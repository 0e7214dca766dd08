"""What do containers cost: building an image, again and for a new model, and starting one beside a process?

    python -m benchmarks.containers [--base-image IMAGE] [--rounds 5] [--json]

Without a Docker Engine that answers it starts one of its own, with a small Debian as the base (root, mmdebstrap).
`build_first_s` holds the download of the wheels and the installation; `build_model_s` is a bundle with new weights on a
runtime that is there; `build_again_s` is the same bundle once more. `ready_…` is from the wish to the first ready
answer, under a supervisor as `shipway up` has it, containers and processes in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.wiring import clock
from pipelines.adapters.docker.builder import DockerBuilder, remove_images
from pipelines.adapters.processes.runtime import ProcessRuntime
from pipelines.adapters.processes.supervisor import Supervisor
from pipelines.compress.search import techniques_for
from pipelines.home import Home
from pipelines.ports import Bundle
from pipelines.records.settings import ServerSettings
from pipelines.records.unit import Unit
from pipelines.stages.evaluate import source_subject
from tests.pipelines.model_folders import make_classifier
from tests.systems.docker_engine import BASE_IMAGE, running


def measure(base: str, rounds: int) -> dict[str, Any]:
    """Seconds: smallest, median and largest of each."""
    with tempfile.TemporaryDirectory(prefix="shipway-bench-") as folder:
        home = Home.open(Path(folder) / "home")
        builder = DockerBuilder(home.folder("bundles"), home.id, base)
        bundles: list[Bundle] = []
        new_s, again_s = [], []
        for number in range(rounds + 1):
            made, facts = _model(Path(folder), number)
            new_s.append(_timed(lambda made=made, facts=facts: bundles.append(builder.build(made, facts))))
            again_s.append(_timed(lambda made=made, facts=facts: builder.build(made, facts)))
        container_s, process_s = [], []
        for bundle in bundles[1:]:
            container_s.append(_ready_s(home, bundle))
            process_s.append(_ready_s(home, replace(bundle, image="")))
        for bundle in bundles:
            remove_images(home.id, bundle.digest)
    return {
        "n": rounds,
        "build_first_s": round(new_s[0], 2),
        "build_model_s": _spread(new_s[1:]),
        "build_again_s": _spread(again_s),
        "ready_container_s": _spread(container_s),
        "ready_process_s": _spread(process_s),
        "ready_more_s": _spread([a - b for a, b in zip(container_s, process_s, strict=True)]),
    }


def _model(folder: Path, seed: int) -> tuple[Path, dict[str, Any]]:
    """A tiny classifier on ONNX Runtime, with weights of its own."""
    source = make_classifier(folder / f"model-{seed}", seed=seed)
    (technique,) = techniques_for("dynamic-int8")
    facts = dict(source_subject(source, "tiny").facts)
    made = technique.compress(source, folder / f"small-{seed}", facts)
    return made.folder, facts | {"engine": made.engine, "variant": technique.name, "recipe": dict(made.recipe)}


def _ready_s(home: Home, bundle: Bundle) -> float:
    """Start one replica, wait for it, and stop it."""
    name = "tiny-container" if bundle.image else "tiny-process"
    unit = Unit(name, "server", "tiny", digest=bundle.digest, bundle=str(bundle.path), image=bundle.image)
    unit = replace(unit, settings=ServerSettings(memory_mb=1024, pids=128))
    supervisor, runtime = Supervisor(home), ProcessRuntime(home)
    runtime.ensure(unit)

    def wait() -> None:
        while runtime.status(name).state != "ready":
            supervisor.step(clock())
            time.sleep(0.02)

    try:
        return _timed(wait)
    finally:
        runtime.remove(name)
        supervisor.stop_all()


def _timed(act: Any) -> float:
    began_s = time.perf_counter()
    act()
    return time.perf_counter() - began_s


def _spread(values: Sequence[float]) -> list[float]:
    return [round(value, 2) for value in (min(values), statistics.median(values), max(values))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--base-image", help="on an engine that answers; without it, the tests' own base")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.base_image:
        figures = measure(options.base_image, options.rounds)
    else:
        with running():
            figures = measure(BASE_IMAGE, options.rounds)
    if options.json:
        print(json.dumps(figures))
        return
    table = Table("figure", "smallest, median, largest", title=f"containers, n = {options.rounds}")
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
