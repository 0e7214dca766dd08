"""Registry on MLflow: a SQLite file with local artifacts, or any tracking server.

Only `MlflowClient` is used: no flavour is imported and no model is loaded. MLflow's aliases are last-writer-wins
without history, so `mark` reads, checks, writes and reads back, under the lock that the controller holds.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pipelines.adapters.mlflow.client import asked_briefly, open_client
from pipelines.adapters.mlflow.errors import is_absent, is_race, is_there_already, mapped
from pipelines.adapters.mlflow.schema import SQLITE, database_file
from pipelines.adapters.registry_rules import (
    ModelRef,
    alias_moved,
    check_alias,
    check_expected,
    check_model_name,
    made_again,
    no_such_version,
    parse_model_uri,
)
from pipelines.adapters.sql.shown_address import shown_address
from pipelines.errors import DependencyDown
from pipelines.ports import ONCE_TAGS, RegisteredVersion

EXPERIMENT = "shipway"
ARTIFACT_PATH = "bundle"
TRIES = 4
PATIENCE_S = 20.0
"""A try can last as long as a database waits for a lock, and MySQL waits for 50 s: then one try is enough."""


class MlflowRegistry:
    """Registry on MLflow. `artifact_root` is where a registry on SQLite keeps files; a server knows for itself."""

    def __init__(self, tracking_uri: str, artifact_root: Path | None = None) -> None:
        self._uri = tracking_uri
        self._artifact_root = artifact_root

    def resolve(self, uri: str) -> RegisteredVersion:
        """Which version does `models:/name/3` or `models:/name@alias` name? NotFound names the newest three."""
        ref = parse_model_uri(uri)
        if (file := database_file(self._uri)) and not file.exists() and not file.parent.is_file():
            raise no_such_version(ref, (), self._uri)  # asking MLflow would make the file
        with mapped(f"resolve {uri}", self._uri):
            number = ref.version if ref.alias is None else self._aliases(ref.name).get(ref.alias)
            found = None if number is None else self._find(ref.name, number)
            if found is None:
                raise no_such_version(ref, self._versions(ref.name), shown_address(self._uri))
            return found

    def fetch(self, version: RegisteredVersion, into: Path) -> Path:
        """Copy the version's files below `into` and return their folder; nothing is loaded."""
        folder = into / f"{version.name}-{version.version}"
        with mapped(f"fetch {version.name} version {version.version}", self._uri):
            self._known(version.name, version.version, version.made)
            # the storage behind `models:/m-<id>`: the models:/ URI itself would add a file of MLflow's to the copy
            stored = self._client.get_model_version_download_uri(version.name, str(version.version))
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._download(stored, folder)
        return _innermost(folder, Path(stored).name)

    def register(self, name: str, folder: Path, tags: Mapping[str, str]) -> RegisteredVersion:
        """Register a folder as a new version; the same value of one of `ONCE_TAGS` again returns the same version."""
        check_model_name(name)
        with mapped(f"register {name}", self._uri):
            known = self._registered(name, tags)
            if known is not None:
                return known
            self._ensure_model(name)
            run = self._client.create_run(self._experiment(), run_name=f"{name} bundle")
            self._client.log_artifacts(run.info.run_id, str(folder), ARTIFACT_PATH)
            source = f"{run.info.artifact_uri}/{ARTIFACT_PATH}"
            made = _again_on_race(
                lambda: self._client.create_model_version(name, source, run_id=run.info.run_id, tags=dict(tags))
            )
            self._client.set_terminated(run.info.run_id)
            return _version(made)

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
        """Set tags by version, then aliases, by read-check-write with a read-back. AliasMoved where not as expected.

        NotFound where a version is gone, or where `made` says another registration of its number.
        """
        wanted = {check_alias(alias): number for alias, number in (aliases or {}).items()}
        with mapped(f"mark {name}", self._uri), asked_briefly(patience_s):
            for number in (*(tags or {}), *wanted.values()):
                self._known(name, number, (made or {}).get(number, ""))
            for number, more in (tags or {}).items():
                self._tag(name, number, more)
            check_expected(name, self._aliases(name), expected or {}, wanted)
            for alias, number in wanted.items():
                self._move(name, alias, number)

    def _download(self, stored: str, folder: Path) -> None:
        """DependencyDown where the files are gone: the version itself is registered."""
        import mlflow.artifacts

        try:
            mlflow.artifacts.download_artifacts(artifact_uri=stored, dst_path=str(folder), tracking_uri=self._uri)
        except Exception as error:
            if not is_absent(error):
                raise
            raise DependencyDown(
                f"the files are not where MLflow says: {shown_address(stored)}",
                code="E_REGISTRY",
                expected="an artifact store that holds them",
                hint="look at the store; a retention job may have taken them",
            ) from error

    def _tag(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            _again_on_race(partial(self._client.set_model_version_tag, name, str(number), key, value))

    def _move(self, name: str, alias: str, number: int) -> None:
        _again_on_race(lambda: self._client.set_registered_model_alias(name, alias, str(number)))
        at = self._aliases(name).get(alias)
        if at != number:
            raise alias_moved(name, alias, number, at)

    @cached_property
    def _client(self) -> Any:
        """MLflow's client; the first one migrates a new database, which takes seconds."""
        return open_client(self._uri)

    def _known(self, name: str, number: int, made: str) -> None:
        """NotFound where the version is gone, or another one has its number since."""
        found = self._find(name, number)
        if found is None:
            raise no_such_version(ModelRef(name, number), self._versions(name), shown_address(self._uri))
        if made and found.made != made:
            raise made_again(ModelRef(name, number))

    def _find(self, name: str, number: int) -> RegisteredVersion | None:
        try:
            return _version(self._client.get_model_version(name, str(number)))
        except Exception as error:
            if is_absent(error):
                return None
            raise

    def _aliases(self, name: str) -> dict[str, int]:
        try:
            model = self._client.get_registered_model(name)
        except Exception as error:
            if is_absent(error):
                return {}
            raise
        return {alias: int(number) for alias, number in model.aliases.items()}

    def _versions(self, name: str) -> tuple[int, ...]:
        found = self._client.search_model_versions(f"name = '{check_model_name(name)}'")
        return tuple(int(version.version) for version in found)

    def _registered(self, name: str, tags: Mapping[str, str]) -> RegisteredVersion | None:
        """The oldest version that says the same: a second registration, also after a kill, finds the first."""
        once = {key: tags[key] for key in ONCE_TAGS if tags.get(key)}
        found = self._client.search_model_versions(f"name = '{name}'") if once else ()
        same = sorted(int(version.version) for version in found if once.items() <= version.tags.items())
        return self._find(name, same[0]) if same else None

    def _ensure_model(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except Exception as error:
            if not is_there_already(error):
                raise

    def _experiment(self) -> str:
        known = self._client.get_experiment_by_name(EXPERIMENT)
        if known is not None:
            return str(known.experiment_id)
        root = self._artifact_root if self._uri.startswith(SQLITE) else None
        location = (root / EXPERIMENT).absolute().as_uri() if root else None
        try:
            return str(self._client.create_experiment(EXPERIMENT, artifact_location=location))
        except Exception as error:
            others = self._client.get_experiment_by_name(EXPERIMENT)
            if others is None or not is_there_already(error):
                raise
            return str(others.experiment_id)


def _version(found: Any) -> RegisteredVersion:
    aliases, made = tuple(sorted(found.aliases)), str(found.creation_timestamp)
    return RegisteredVersion(found.name, int(found.version), aliases, dict(found.tags), made)


def _innermost(folder: Path, stored_name: str) -> Path:
    """MLflow puts the files of a run's artifact into a folder of the artifact's name, those of a model at the top."""
    inner = folder / stored_name
    is_only = inner.is_dir() and [path.name for path in folder.iterdir()] == [stored_name]
    return inner if is_only else folder


def _again_on_race(write: Callable[[], Any]) -> Any:
    """Two first writers of an alias or a tag insert the same row; the loser's next try is an update."""
    until_s = time.monotonic() + PATIENCE_S
    for attempt in range(TRIES - 1):
        try:
            return write()
        except Exception as error:
            if time.monotonic() > until_s or not is_race(error):
                raise
        time.sleep(0.05 * 2**attempt)
    return write()
