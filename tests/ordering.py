"""Which worker runs which of the slow tests, and when? A file belongs to one worker, and the longest begin first.

Worlds are independent of each other: each has its own home and its own ports. There is one Docker Engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import pytest

FIRST = "lint"
"""Nothing but computing, while what the other worker begins with mostly waits."""

DOCKER = "docker"

WEIGHTS_S = {
    "real_kills": 420,
    "end_to_end": 400,
    "real_faults": 300,
    "other_routers": 260,
    DOCKER: 250,
    "replayed_release": 120,
    "proxies": 100,
    "workflow": 90,
    "adopt": 80,
    "release_on_postgres": 70,
    "gateway": 70,
    "base_install": 60,
    "any_body": 50,
    "crew": 45,
    "mlflow_assessments": 40,
    "mlflow_registry": 30,
    "child": 30,
    "gguf": 30,
    "compress": 25,
    "architectures": 45,
    "task": 40,
    "llama_server": 15,
    "schedules": 12,
}
"""Seconds on a quiet machine, by group; what is not named here takes less."""


DOCKER_FILES = {"builder", "docker_release", "housekeeping", "runtime", "vllm_image"}


def group_of(nodeid: str) -> str:
    """The tests that share a worker: those of a file, or of all files in which some need the Docker Engine."""
    stem = PurePath(nodeid.partition("::")[0]).stem.removeprefix("test_")
    return DOCKER if stem in DOCKER_FILES else stem


def weight_s(group: str) -> float:
    """The longest first, after what comes first in any case."""
    return float("inf") if group == FIRST else WEIGHTS_S.get(group, 10)


def arrange(items: list[pytest.Item]) -> None:
    """Begin with the longest; within a group the order stays."""
    items.sort(key=lambda item: -weight_s(group_of(item.nodeid)))


def scheduler(config: pytest.Config, log: Any) -> Any:
    """Hands out whole groups in the order of the tests."""
    # Not `xdist_group`, which xdist 3.8 reads and pytest 9.2 does not hand on.
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False
    return Groups(config, log)


def needs_docker(items: Sequence[pytest.Item]) -> bool:
    """Whether a base image will be asked for."""
    return any(item.get_closest_marker("docker") for item in items)
