"""Are accelerators read as NVIDIA's tool writes them?"""

from __future__ import annotations

import pytest

from pipelines.adapters.processes.devices import devices_here, devices_of, links_of
from pipelines.tasks.memory import Device

MIB = 2**20
ONE = (
    "\t\x1b[4mGPU0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m\n"
    "GPU0\t X \t0-15\t0\t\tN/A\n"
    "\nLegend:\n\n  X    = Self\n"
)
"""Of a machine with one H200 (driver 580.159), colours included, which it writes into a pipe as well."""

FOUR = (
    "\t\x1b[4mGPU0\tGPU1\tGPU2\tGPU3\tNIC0\tCPU Affinity\x1b[0m\n"
    "GPU0\t X \tNV18\tSYS\tPHB\tNODE\t0-15\n"
    "GPU1\tNV18\t X \tSYS\tSYS\tSYS\t0-15\n"
    "GPU2\tSYS\tSYS\t X \tNV6\tSYS\t16-31\n"
    "GPU3\tPHB\tSYS\tNV6\t X \tSYS\t16-31\n"
    "NIC0\tNODE\tSYS\tSYS\tSYS\t X \t\n"
)
LISTED = "".join(f"{number}, GPU-{number}abc, 143771, 143156\n" for number in range(4))


def test_a_machine_with_one():
    """Its memory in bytes, and nothing beside it."""
    assert devices_of("0, GPU-0abc, 143771, 143156\n", ONE) == (Device(143771 * MIB, 143156 * MIB),)


def test_links_are_those_of_nvlink():
    """What goes over the processor is none."""
    assert links_of(FOUR) == {0: frozenset({1}), 1: frozenset({0}), 2: frozenset({3}), 3: frozenset({2})}


@pytest.mark.parametrize(
    ("visible", "near"), [(None, [1, 0, 3, 2]), ("0,2", [None, None]), ("GPU-1, 0", [1, 0]), ("", [])]
)
def test_only_what_a_process_sees_is_counted(visible, near):
    """As CUDA_VISIBLE_DEVICES names it; links to others are none."""
    found = [min(device.near, default=None) for device in devices_of(LISTED, FOUR, visible)]
    assert found == near


def test_a_machine_without_a_driver_has_none(monkeypatch, tmp_path):
    """Nor has one whose tool fails."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices_here() == ()
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert devices_here() == ()
