"""A Registry and a Builder that live in memory: for tests, and to read what the ports mean without MLflow around it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

from pipelines.adapters.registry_rules import (
    ModelRef,
    check_alias,
    check_expected,
    check_model_name,
    made_again,
    no_such_version,
    parse_model_uri,
)
from pipelines.errors import (
    AliasMoved,
    BadInput,
    DependencyDown,
    Forbidden,
    NewerDatabase,
    NotFound,
    Raced,
    ShipwayError,
)
from pipelines.ports import ONCE_TAGS, Bundle, RegisteredVersion
from pipelines.supply.bundle import bundle_digest, list_files

Method = Literal["resolve", "fetch", "register", "mark"]

ANSWERS: Mapping[str, Callable[[], ShipwayError]] = {
    "moved": lambda: AliasMoved("the alias is at version 9, not at version 1: somebody else moved it"),
    "not_found": lambda: NotFound("there is no such version any more", field="model"),
    "refused": lambda: BadInput("MLflow refused it", code="E_REGISTRY", field="model"),
    "forbidden": lambda: Forbidden("MLflow does not let you do it"),
    "raced": lambda: Raced("others wrote at the same time, again and again"),
    "down": lambda: DependencyDown("MLflow does not answer", code="E_REGISTRY"),
    "newer": lambda: NewerDatabase("this database was migrated by a newer MLflow"),
}
"""The seven answers of a registry besides "done", for tests and benchmarks."""


@dataclass
class _Version:
    files: dict[str, bytes]
    tags: dict[str, str]
    made: str


@dataclass
class _Model:
    versions: dict[int, _Version] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    newest: int = 0
    """A deleted version's number is given to nobody again, as in MLflow."""


class MemoryRegistry:
    """Registry in memory. It keeps the files' bytes, so that a folder changed later does not change a version.

    `answers` makes a method answer otherwise than "done": `registry.answers["mark"] = ANSWERS["forbidden"]`. It is
    asked at every call, before anything is done, and lets the call pass by returning None.
    """

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._made = count(1)
        self.answers: dict[Method, Callable[[], ShipwayError | None]] = {}

    def add(self, name: str, folder: Path, tags: Mapping[str, str] | None = None) -> RegisteredVersion:
        """A new version, as a training job would register it."""
        model = self._models.setdefault(check_model_name(name), _Model())
        model.newest += 1
        files = {path: file.read_bytes() for path, file in list_files(folder).items()}
        model.versions[model.newest] = _Version(files, dict(tags or {}), str(next(self._made)))
        return self._version(name, model.newest)

    def remove(self, name: str, version: int | None = None) -> None:
        """Delete a version with its aliases, or the whole model: one of the same name counts from 1 again."""
        if version is None:
            del self._models[name]
            return
        model = self._models[name]
        del model.versions[version]
        model.aliases = {alias: number for alias, number in model.aliases.items() if number != version}

    def rename(self, name: str, new_name: str) -> None:
        """Give a model another name; versions and aliases stay."""
        self._models[check_model_name(new_name)] = self._models.pop(name)

    def resolve(self, uri: str) -> RegisteredVersion:
        """Which version does `models:/name/3` or `models:/name@alias` name? NotFound names the newest three."""
        self._answer("resolve")
        ref = parse_model_uri(uri)
        model = self._models.get(ref.name, _Model())
        number = ref.version if ref.alias is None else model.aliases.get(ref.alias)
        if number not in model.versions:
            raise no_such_version(ref, tuple(model.versions), "memory")
        return self._version(ref.name, number)

    def fetch(self, version: RegisteredVersion, into: Path) -> Path:
        """Copy the version's files below `into` and return their folder."""
        self._answer("fetch")
        self._known(version.name, version.version, version.made)
        folder = into / f"{version.name}-{version.version}"
        shutil.rmtree(folder, ignore_errors=True)
        for path, data in self._models[version.name].versions[version.version].files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return folder

    def register(self, name: str, folder: Path, tags: Mapping[str, str]) -> RegisteredVersion:
        """Register a folder as a new version; the same value of one of `ONCE_TAGS` again returns the same version."""
        self._answer("register")
        model = self._models.get(check_model_name(name), _Model())
        once = {key: tags[key] for key in ONCE_TAGS if tags.get(key)}
        for number, version in model.versions.items():
            if once and once.items() <= version.tags.items():
                return self._version(name, number)
        return self.add(name, folder, tags)

    def mark(
        self,
        name: str,
        *,
        aliases: Mapping[str, int] | None = None,
        expected: Mapping[str, int | None] | None = None,
        tags: Mapping[int, Mapping[str, str]] | None = None,
        made: Mapping[int, str] | None = None,
        patience_s: float | None = None,
    ) -> None:
        """Set tags by version, then aliases, by read-check-write. AliasMoved where `expected` is not so."""
        del patience_s  # it answers at once
        self._answer("mark")
        for number in (*(tags or {}), *(aliases or {}).values()):
            self._known(name, number, (made or {}).get(number, ""))
        model, wanted = self._models[name], {check_alias(alias): number for alias, number in (aliases or {}).items()}
        for number, more in (tags or {}).items():
            model.versions[number].tags.update(more)
        check_expected(name, model.aliases, expected or {}, wanted)
        model.aliases.update(wanted)

    def _answer(self, method: Method) -> None:
        error = self.answers.get(method, lambda: None)()
        if error is not None:
            raise error

    def _known(self, name: str, number: int, made: str) -> None:
        versions = self._models.get(name, _Model()).versions
        if number not in versions:
            raise no_such_version(ModelRef(name, version=number), tuple(versions), "memory")
        if made and versions[number].made != made:
            raise made_again(ModelRef(name, version=number))

    def _version(self, name: str, number: int) -> RegisteredVersion:
        model = self._models[name]
        aliases = tuple(sorted(alias for alias, at in model.aliases.items() if at == number))
        return RegisteredVersion(name, number, aliases, dict(model.versions[number].tags), model.versions[number].made)


class MemoryBuilder:
    """Builder that seals nothing: it names the folder by its digest and leaves it where it is."""

    def __init__(self) -> None:
        self._built: dict[str, Bundle] = {}

    def build(self, folder: Path, facts: Mapping[str, Any]) -> Bundle:
        """The same files and facts give the same bundle."""
        digest = bundle_digest(folder, facts)
        size_bytes = sum(file.stat().st_size for file in list_files(folder).values())
        return self._built.setdefault(digest, Bundle(digest, folder, str(facts["engine"]), size_bytes))
