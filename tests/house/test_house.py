"""The rules of the house, as tests: imports go one way, clocks and chance stay outside, and rooms stay small."""

from __future__ import annotations

import ast
import statistics
from collections import defaultdict
from pathlib import Path

import pytest

from tests.house.house_map import circles, entries, read_map

ROOT = Path(__file__).parents[2]
ROOMS = ("evals", "pipelines", "flows")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
MAY_IMPORT = {"evals": {"evals"}, "pipelines": {"evals", "pipelines"}, "flows": {"evals", "pipelines", "flows"}}
HEAVY = {
    "torch",
    "transformers",
    "mlflow",
    "prefect",
    "evaluate",
    "onnx",
    "onnxruntime",
    "pandas",
    "scipy",
    "matplotlib",
}
PREFECT_ROOMS = {"flows/release.py", "flows/watch.py", "flows/rollback.py"}
"""Files that are only imported where Prefect is wanted anyway."""


def imports_of(tree: ast.AST) -> set[str]:
    """The dotted modules that a tree imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return found


def parsed(path: Path) -> ast.Module:
    """The file's tree."""
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    """The file's path from the root."""
    return str(path.relative_to(ROOT))


FOLDERS = [
    folder
    for top in (*ROOMS, "tests")
    for folder in (ROOT / top, *sorted((ROOT / top).rglob("*/")))
    if folder.is_dir() and folder.name != "__pycache__"
]
MOST_ENTRIES = 14


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_a_folder_can_be_taken_in_at_a_glance(folder):
    """At most 14 entries: what does not belong together gets a room of its own."""
    assert len(entries(folder)) <= MOST_ENTRIES, "\n".join(entries(folder))


def test_rooms_know_each_other_one_way():
    """No room imports from one that imports from it, directly or through others."""
    house = read_map()
    assert circles(house.arrows) == [], house.described()


def test_no_files_import_each_other_in_a_circle():
    """Not even inside of functions."""
    assert circles(read_map().imports) == [], read_map().described()


def test_only_flows_and_adapters_know_an_adapter():
    """What decides knows ports; which adapters stand behind them is wired in `flows/`."""
    strangers = {
        name: adapters
        for name, known in read_map().imports.items()
        if not name.startswith(("flows", "pipelines.adapters"))
        and (adapters := {other for other in known if other.startswith("pipelines.adapters")})
    }
    assert strangers == {}, read_map().described()


def test_only_a_task_knows_what_its_answers_look_like():
    """Everybody else asks by the protocols; the room of a task is entered by its own files, and by who finds it."""
    own = "pipelines.tasks."
    rooms = tuple(f"{own}{room.name}." for room in (ROOT / "pipelines" / "tasks").iterdir() if room.is_dir())
    strangers = {
        name: entered
        for name, known in read_map().imports.items()
        if not name.startswith(own) and (entered := {other for other in known if other.startswith(rooms)})
    }
    assert strangers == {}, read_map().described()


def test_a_circle_is_seen():
    """The check itself: two that know each other are found, and one that only knows them is not."""
    assert circles({"a": frozenset("b"), "b": frozenset("a"), "c": frozenset("a"), "d": frozenset()}) == [{"a", "b"}]


@pytest.mark.parametrize("path", [p for p in FILES if p.stem == "__init__"], ids=name_of)
def test_a_package_says_what_it_is_for(path):
    """In its first line, and it holds nothing that its name does not promise."""
    assert ast.get_docstring(parsed(path)), name_of(path)


@pytest.mark.parametrize("name", ["evals", "pipelines", "flows", "docker"])
def test_a_hall_has_a_map(name):
    """Each of the four top folders tells of every room in it, and of what may be changed there."""
    text = (ROOT / name / "README.md").read_text()
    rooms = [entry for entry in entries(ROOT / name) if (ROOT / name / entry).is_dir()]
    assert [room for room in rooms if f"`{room}/`" not in text] == []
    assert "may change" in text
    assert "not touch" in text


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_one_way(path):
    """Flows → pipelines → evals, and nothing imports upward."""
    room = path.relative_to(ROOT).parts[0]
    rooms = {module.split(".")[0] for module in imports_of(parsed(path))} & set(ROOMS)
    assert rooms <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", [p for p in FILES if "flows" not in p.parts], ids=name_of)
def test_only_flows_knows_prefect(path):
    """Prefect gives scheduling and visibility; what is decided and done does not depend on it."""
    assert not {m for m in imports_of(parsed(path)) if m.split(".")[0] == "prefect"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_heavy_imports_happen_where_they_are_used(path):
    """Nothing heavy is imported at the top of a file, so that `shipway --help` answers at once."""
    top = ast.Module([n for n in parsed(path).body if isinstance(n, ast.Import | ast.ImportFrom)], [])
    heavy = {module.split(".")[0] for module in imports_of(top)} & HEAVY
    assert not heavy - ({"prefect"} if name_of(path) in PREFECT_ROOMS else set())


BANNED = {"time.time", "datetime.now", "datetime.utcnow", "random.random", "os.environ", "os.getenv"}
PURE_ROOMS = [
    ROOT / "evals",
    *(ROOT / "pipelines" / name for name in ("records", "spec", "rollout", "services", "stages", "tasks")),
]
PURE = [path for room in PURE_ROOMS for path in sorted(room.rglob("*.py"))]


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_decisions_read_no_clock_and_no_environment(path):
    """`now` is an argument wherever something is judged or decided."""
    used = {ast.unparse(n) for n in ast.walk(parsed(path)) if isinstance(n, ast.Attribute)}
    assert not {name for name in used if any(name.endswith(banned) for banned in BANNED)}


def function_lengths() -> list[tuple[int, str]]:
    """Every function's length in lines, with its place."""
    return [
        (node.end_lineno - node.lineno + 1, f"{name_of(path)}:{node.name}")
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]


def test_functions_are_short():
    """Median at most 10 lines, nine of ten at most 30, none over 50."""
    lengths = sorted(function_lengths())
    sizes = [n for n, _ in lengths]
    assert statistics.median(sizes) <= 10
    assert statistics.quantiles(sizes, n=10)[-1] <= 30
    assert lengths[-1][0] <= 50, lengths[-3:]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_tell_one_story(path):
    """No file over 350 lines, and none with a name that says nothing."""
    assert len(path.read_text().splitlines()) <= 350
    assert path.stem not in {"utils", "util", "helpers", "common", "base", "manager", "misc"}


def test_one_name_is_one_thing():
    """No two classes of the product share a name: who reads one knows which is meant."""
    places = defaultdict(set)
    for path in FILES:
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].add(name_of(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_there_is_no_python_under_docker():
    """A `docker/` with Python in it would shadow the Docker SDK."""
    assert not list((ROOT / "docker").rglob("*.py"))


def test_constraints_name_no_path():
    """The frozen versions install anywhere: no paths, no local builds, no addresses."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines
    assert not [line for line in lines if "/" in line or "+" in line or "@" in line]
