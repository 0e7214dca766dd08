"""Where does a home keep things, and when is it refused?"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pipelines import home as home_module
from pipelines.errors import BadInput
from pipelines.home import FOLDERS, Home


def refused(root: Path) -> BadInput:
    """The error of opening a bad home."""
    with pytest.raises(BadInput) as caught:
        Home.open(root)
    return caught.value


def test_opening_makes_private_folders(tmp_path):
    """Nobody else on the machine may look in."""
    home = Home.open(tmp_path / "deep" / "home")
    modes = {stat.S_IMODE(home.folder(name).stat().st_mode) for name in FOLDERS}
    assert modes == {0o700}
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700


def test_opening_again_changes_nothing(tmp_path):
    """What is in a home stays there."""
    first = Home.open(tmp_path / "home")
    (first.folder("logs") / "x.log").write_text("kept")
    assert Home.open(tmp_path / "home") == first
    assert (first.folder("logs") / "x.log").read_text() == "kept"


def test_a_relative_home_means_the_same_from_everywhere(tmp_path, monkeypatch):
    """The root is made absolute when it is opened."""
    monkeypatch.chdir(tmp_path)
    assert Home.open(Path("home")).root == tmp_path.resolve() / "home"


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_in_the_way_is_refused_and_left_alone(tmp_path, below):
    """E_HOME names the place; nothing is made."""
    blocker = tmp_path / "home"
    blocker.write_text("mine")
    error = refused(blocker / below)
    assert (error.code, error.field, error.exit_code) == ("E_HOME", "SHIPWAY_HOME", 2)
    assert str(blocker) in error.reason
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


def test_a_file_where_a_folder_belongs_is_refused_before_anything_is_made(tmp_path):
    """A half-made home would be worse than none."""
    (tmp_path / "logs").write_text("mine")
    assert refused(tmp_path).code == "E_HOME"
    assert [p.name for p in tmp_path.iterdir()] == ["logs"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where even root cannot write")
def test_an_unwritable_place_is_refused():
    """Nothing can be made there, and the error says so in one sentence."""
    assert refused(Path("/proc/shipway/home")).code == "E_HOME"


def test_sockets_lie_in_the_home_where_the_path_is_short():
    """The usual case, and it touches nothing."""
    assert Home(Path("/srv/shipway")).admin_socket("sentiment") == Path("/srv/shipway/run/sentiment.sock")


def test_sockets_of_a_deep_home_lie_in_a_short_private_folder(tmp_path, monkeypatch):
    """The same home and service always have the same socket, other ones another, within the limit of the kernel."""
    monkeypatch.setattr(home_module, "SHORT_ROOT", tmp_path)
    deep, other = Home(Path("/srv") / ("x" * 120)), Home(Path("/srv") / ("y" * 120))
    path = deep.admin_socket("s" * 128)
    assert path == deep.admin_socket("s" * 128)
    assert len({path, deep.admin_socket("t"), other.admin_socket("s" * 128)}) == 3
    assert len(os.fsencode(path)) - len(os.fsencode(tmp_path)) <= 70
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_short_folder_that_others_may_enter_is_refused(tmp_path, monkeypatch):
    """Somebody else may have made it first, to be asked in our place."""
    monkeypatch.setattr(home_module, "SHORT_ROOT", tmp_path)
    deep = Home(Path("/srv") / ("x" * 120))
    folder = deep.admin_socket("a").parent
    folder.chmod(0o777)
    with pytest.raises(BadInput) as caught:
        deep.admin_socket("a")
    assert caught.value.code == "E_HOME"


def test_a_short_folder_that_is_a_link_is_refused(tmp_path, monkeypatch):
    """A link could be moved to somewhere else later."""
    monkeypatch.setattr(home_module, "SHORT_ROOT", tmp_path)
    deep = Home(Path("/srv") / ("x" * 120))
    folder = deep.admin_socket("a").parent
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput) as caught:
        deep.admin_socket("a")
    assert caught.value.code == "E_HOME"


def test_a_home_that_others_could_enter_is_closed(tmp_path):
    """What lies in it names specs, reasons and addresses."""
    (tmp_path / "home").mkdir(mode=0o755)
    Home.open(tmp_path / "home")
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
