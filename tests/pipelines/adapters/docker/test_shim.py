"""What a container is given, and what its shim refuses."""

from __future__ import annotations

import pytest

from pipelines.adapters.docker.shim import EXIT_INPUT, Wanted, main
from pipelines.records.settings import ServerSettings

NAMED = ("--model-name", "s", "--model-version", "3")


def wanted(settings: ServerSettings) -> Wanted:
    """A container that behaves so."""
    return Wanted("shipway-1-s-0", "sha256:i", 20_001, "1", "sha256:1", settings, NAMED)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (ServerSettings(memory_mb=512, pids=64), ()),
        (ServerSettings(cpus=2.0), ("--threads", "2")),
        (ServerSettings(drain_s=60.0), ("--drain-s", "60.0")),
    ],
)
def test_a_server_in_an_image_is_told_what_is_not_usual(settings, expected):
    """An image that was built before knows the rest, and its container is adopted, not made anew."""
    assert wanted(settings).options == (*NAMED, *expected)


def test_a_container_is_held_to_its_limits():
    """By the engine."""
    given = wanted(ServerSettings(1.5, 512, 64)).container()
    limits = {"mem_limit": "512m", "memswap_limit": "512m", "nano_cpus": 1_500_000_000, "pids_limit": 64}
    assert {key: given[key] for key in limits} == limits


def test_a_shim_without_its_settings_starts_nothing(tmp_path, capsys):
    """It says which file it looked for, and asks no engine."""
    options = ["--name", "n", "--image", "sha256:i", "--port", "1", "--settings", str(tmp_path / "none")]
    assert main(options) == EXIT_INPUT
    assert capsys.readouterr().out.startswith(f"E_SETTINGS_FILE ({tmp_path / 'none'}): ")
