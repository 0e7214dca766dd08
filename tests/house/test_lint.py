"""The linters are part of the tests: style, types, and workflows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

COMMANDS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "zizmor": ["zizmor", "--offline", "--quiet", ".github/workflows", "flows/starter/release-model.yml"],
}


@pytest.mark.integration
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_it_is_clean(command):
    """Not one complaint."""
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
