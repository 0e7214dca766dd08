"""Which files lie in which room, and which room knows which? Read from the code's own imports, wherever they stand.

A room is a folder. The files of a folder that has rooms of its own count singly: its hall belongs to all of them.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOPS = ("evals", "pipelines", "flows")

Arrows = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class HouseMap:
    """Modules by name, and which of them each one imports."""

    imports: Arrows
    packages: frozenset[str]

    @property
    def rooms(self) -> dict[str, str]:
        """The room of each module."""
        halls = {name.rpartition(".")[0] for name in self.packages}
        folders = {name: name if name in self.packages else name.rpartition(".")[0] for name in self.imports}
        return {name: name if folder in halls else folder for name, folder in folders.items()}

    @property
    def arrows(self) -> dict[str, frozenset[str]]:
        """Which rooms each room imports from."""
        found = defaultdict(set)
        for name, known in self.imports.items():
            found[self.rooms[name]] |= {self.rooms[other] for other in known} - {self.rooms[name]}
        return {room: frozenset(known) for room, known in found.items()}

    def described(self) -> str:
        """The map, a line for each room."""
        arrows = self.arrows
        return "\n".join(f"{room} → {', '.join(sorted(arrows[room])) or 'nothing'}" for room in sorted(arrows))


@cache
def read_map() -> HouseMap:
    """The map of the product as it is."""
    paths = {_name(path): path for top in TOPS for path in (ROOT / top).rglob("*.py") if path.stem != "__main__"}
    trees = {name: ast.parse(path.read_text()) for name, path in paths.items()}
    imports = {name: frozenset(_imported(tree, paths.keys()) - {name}) for name, tree in trees.items()}
    return HouseMap(imports, frozenset(name for name, path in paths.items() if path.stem == "__init__"))


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(tree: ast.AST, known: Iterable[str]) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {whole if whole in known else node.module for whole in inner.values()}
    return found & set(known)


def circles(arrows: Arrows) -> list[set[str]]:
    """What can be reached from itself: in groups of more than one."""
    reached = {name: _reached(name, arrows) for name in arrows}
    groups = {frozenset(b for b in reached[a] if a in reached.get(b, ())) for a in arrows if a in reached[a]}
    return [set(group) for group in groups]


def _reached(start: str, arrows: Arrows) -> set[str]:
    seen, waiting = set(), list(arrows.get(start, ()))
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += arrows.get(name, ())
    return seen


def entries(folder: Path) -> list[str]:
    """What somebody sees who opens a folder; `__init__`, `__main__` and a README are not counted."""
    seen = (path for path in folder.iterdir() if path.name != "__pycache__")
    return sorted(path.name for path in seen if path.stem not in {"__init__", "__main__", "README"})
