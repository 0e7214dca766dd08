"""Does an upgrade of Shipway in the middle of a canary cost anybody a request, and can it be taken back?

    python -m benchmarks.upgrade --before COMMIT [--json]

A home is made by the program of that commit. While users meet a canary, `up` and the controller are killed, and the
program of this checkout begins in their place: it adopts what runs and ends the release. The same the other way round,
as who takes an upgrade back does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from flows.control.up_file import find_up
from pipelines.services.units import gateway_name
from tests.flows.releases.real_world import SPEC, World, bootstrapped, calling, kill
from tests.systems.prefect_server import serving

HERE = Path(__file__).resolve().parents[1]


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The files of a commit."""
    with tempfile.TemporaryDirectory(prefix="shipway-before-") as folder:
        archive = subprocess.run(["git", "-C", str(HERE), "archive", commit], capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder)


def use(program: Path) -> None:
    """Commands that are begun from now on run these files."""
    os.environ["PYTHONPATH"] = str(program)
    os.chdir(program)


def change_over(world: World, first: Path, then: Path) -> dict[str, Any]:
    """Release the next version with one program, and let the other one end it."""
    use(first)
    if find_up(world.home) is None:
        world.start_up()
    with calling(world.url) as client:
        controller = world.start_release()
        world.wait_share(controller)
        gateway = world.ports.runtime.status(gateway_name("tiny")).pid
        psutil.Process(int(str((find_up(world.home) or {})["pid"]))).kill()
        kill(controller)
        use(then)
        world.start_up()
        world.wait_ended()
    release = world.newest()
    verified = world.run("verify", release.id, "--json")
    return {
        "outcome": release.outcome,
        "interrupted": release.last("interrupted") is not None,
        "same_gateway": world.ports.runtime.status(gateway_name("tiny")).pid == gateway,
        "requests": client.answered,
        "failed": client.failed,
        "verify": verified.returncode,
        "looks": len(release.of_kind("looked")),
    }


def measured(before: Path) -> dict[str, Any]:
    """There, and back again. The spec has the former names of its keys, which both programs read."""
    use(before)
    former = re.compile(r"^  (hold|look|lease|warmup|bake|deadline):", re.MULTILINE)
    spec = former.sub(r"  \1_s:", SPEC.replace("hold: 3", "hold: 6"))
    with (
        tempfile.TemporaryDirectory(prefix="shipway-home-") as root,
        serving() as prefect,
        bootstrapped(Path(root), prefect, spec) as world,
    ):
        return {"upgrade": change_over(world, before, HERE), "taken back": change_over(world, HERE, before)}


def main() -> None:
    """Try it, and say what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="a commit, as `git archive` takes it")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with checked_out(options.before) as before:
        said = measured(before)
    os.chdir(HERE)
    if options.json:
        print(json.dumps(said))
        return
    for name, facts in said.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in facts.items()))
    sys.exit(0 if all(facts["outcome"] == "promoted" and not facts["failed"] for facts in said.values()) else 1)


if __name__ == "__main__":
    main()
