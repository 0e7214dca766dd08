"""What does the environment say, and what is said for it?"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from flows.wiring import actor, quiet_environment, trusted_data
from pipelines.home import Home


@pytest.fixture
def environment(monkeypatch) -> dict[str, str]:
    """An environment in which nothing is set."""
    empty: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", empty)
    return empty


def test_mlflow_prints_no_addresses_among_a_releases_lines(environment, tmp_path):
    """Unless the user wants it."""
    environment["DO_NOT_TRACK"] = "0"
    quiet_environment(Home.open(tmp_path / "home"))
    assert (environment["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"], environment["DO_NOT_TRACK"]) == ("true", "0")


def test_a_person_is_known_by_name(environment, monkeypatch):
    """Of GitHub, of the shell, or of the account; a number that has no name is said as such."""
    me = pwd.getpwuid(os.getuid())
    assert actor() == me.pw_name
    environment["USER"] = "ada"
    assert actor() == "ada"
    environment.clear()
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    assert actor() == f"uid {2**31 - 7}"


@pytest.mark.parametrize(("said", "folder"), [(None, None), ("", None), ("/data", Path("/data"))])
def test_one_folder_may_be_trusted(environment, said, folder):
    """Where it is named."""
    if said is not None:
        environment["SHIPWAY_DATA"] = said
    assert trusted_data() == folder
