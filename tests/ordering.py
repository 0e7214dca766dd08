"""Which worker runs which of the slow tests, and when? A file belongs to one worker, and the longest begin first.

Worlds are independent of each other: each has its own home and its own ports. There is one Docker Engine.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    "compress": 25,
}
"""Seconds on a quiet machine, by group; what is not named here takes less."""


def group_of(item: pytest.Item) -> str:
    """The tests that share a worker: those of a file, or all that need the Docker Engine."""
    return DOCKER if item.get_closest_marker("docker") else item.path.stem.removeprefix("test_")


def weight_s(group: str) -> float:
    """The longest first, after what comes first in any case."""
    return float("inf") if group == FIRST else WEIGHTS_S.get(group, 10)


def arrange(items: list[pytest.Item]) -> None:
    """Give each test its group, and begin with the longest; within a group the order stays."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
    items.sort(key=lambda item: -weight_s(group_of(item)))


def needs_docker(items: Sequence[pytest.Item]) -> bool:
    """Whether a base image will be asked for."""
    return any(item.get_closest_marker("docker") for item in items)
