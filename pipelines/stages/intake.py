"""May this release begin, and with exactly which bytes?

Everything that can be known without changing anything is checked here: the version, its files, the data, the champion,
the quarantine. Files are read in a private copy, which is what was hashed and what is used from then on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.errors import BadInput, NotFound
from pipelines.ports import BUNDLE_TAG, NoWeights, RegisteredVersion, Registry, Weights
from pipelines.records.reading import read_services
from pipelines.records.release import Candidate
from pipelines.records.service import Deployment, Service, Services
from pipelines.records.split import Rewrite
from pipelines.services.adoption import check_answers
from pipelines.services.listening import refuse_taken_port
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.spec.serve import server_settings
from pipelines.stages.pointed import fetch_pointed
from pipelines.stages.prompted import REWRITE, rewrite_of
from pipelines.supply.bundle import artifact_digest, verify_bundle
from pipelines.supply.conversion import convert_tokenizer
from pipelines.supply.layout import SETTINGS, ModelLayout, gather, read_layout, says_null
from pipelines.supply.pointer import Pointer, read_pointer
from pipelines.supply.prompt import NoPromptRegistry, PromptRegistry
from pipelines.supply.scan import scan
from pipelines.tasks.known import task_for
from pipelines.tasks.memory import Machine, MemoryNeed, check_fits
from pipelines.tasks.task import Facts, Task, TaskRows


class AlreadyLive(Exception):
    """The model that is asked for serves already."""


@dataclass(frozen=True)
class Intake:
    """What a release begins with. `folder` is the private, flat, verified copy of the model's files."""

    version: RegisteredVersion
    folder: Path
    candidate: Candidate
    rows: TaskRows
    service: Service | None
    alias_champion: int | None
    left_behind: tuple[str, ...]
    converted: tuple[str, ...] = ()
    compared_rows: int = 0
    """Of how many rows the tokens were seen to be those of transformers; none where it is not installed."""
    memory: MemoryNeed | None = None
    """What it takes to judge and to serve it, where that is known before."""
    weights: Pointer | None = None
    """Where the files lay, where the registry only points at them."""
    rewrite: Rewrite | None = None
    """What is added to requests, as it was when the release began."""

    def facts(self) -> dict[str, Any]:
        """What the ledger records of it."""
        stable = self.service.stable if self.service else None
        return {
            "candidate": vars(self.candidate),
            "champion": _champion(stable) if stable else None,
            "alias_champion": self.alias_champion,
            "data_digest": self.rows.digest,
            "left_behind": list(self.left_behind),
            "converted": list(self.converted),
            "compared_rows": self.compared_rows,
            **({"memory": self.memory.as_dict()} if self.memory else {}),
            **({"weights": self.weights.as_dict()} if self.weights else {}),
            **({REWRITE: self.rewrite.as_dict()} if self.rewrite else {}),
        }


def take_in(
    spec: ReleaseSpec,
    registry: Registry,
    services: Services,
    *,
    data_dir: Path,
    work: Path,
    force: str = "",
    kept: Path | None = None,
    machine: Machine | None = None,
    weights: Weights | None = None,
    prompts: PromptRegistry | None = None,
) -> Intake:
    """Check everything and pin the bytes. Raises BadInput, UnsafeArtifact, DependencyDown or AlreadyLive.

    A model that cannot fit into this `machine` is refused; None does not ask. What libraries say of
    files is kept in the private folder `kept`, where one is named. Files that a version only points at come from
    `weights`, and a prompt that the spec only names from `prompts`; without them such a release is refused.
    """
    service = find_service(services, spec.service)
    version = registry.resolve(spec.model)
    _refuse_live_version(service, version, is_all=spec.serve.api != "openai")
    _check_bootstrap(spec, service)
    _refuse_others_alias(services, spec, version.name)
    rewrite = rewrite_of(spec, prompts or NoPromptRegistry())
    copy = _private_copy(registry, version, work, kept, weights or NoWeights())
    task = task_for(copy.layout.config_json)
    task.check_spec(spec)
    promises = task.promises(copy.layout, spec.serve, rewrite)
    memory = _memory(task, copy.layout, promises, spec, machine)
    rows = task.read_rows(spec.evaluate, data_dir / spec.evaluate.data, promises)
    digest = _identity(artifact_digest(copy.folder), promises)
    _refuse_known_bytes(service, version, digest, force)
    _check_champion(service, spec)
    compared = task.compare_tokens(copy.folder, promises, rows)
    return Intake(
        version,
        copy.folder,
        Candidate(version.name, version.version, digest, _config_digest(promises), made=version.made),
        rows,
        service,
        _alias_version(registry, version.name, spec.registry.alias),
        copy.left_behind,
        copy.converted,
        compared_rows=compared,
        memory=memory,
        weights=copy.weights,
        rewrite=rewrite,
    )


def _champion(stable: Deployment) -> dict[str, Any]:
    """What serves, and where its engine lives, if it was brought."""
    at = {"engine_at": stable.settings.engine_at} if stable.settings.engine_at else {}
    return {"digest": stable.digest, "version": stable.version, "bundle": stable.bundle, **at}


def find_service(services: Services, name: str) -> Service | None:
    """The service's record, or None before its first release."""
    try:
        return services.load(name)
    except NotFound:
        return None


def refuse_strange_rows(data: str, data_dir: Path, trusted: Path | None = None) -> None:
    """A spec may come from anybody who proposes a change: rows lie in its folder, or in a trusted one. E_PATH.

    Links are followed first. What the file holds is not looked at, so no error tells of it.
    """
    try:
        path = (data_dir / data).resolve()
        allowed = [folder.resolve() for folder in (data_dir, trusted) if folder is not None]
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links, a NUL
        raise BadInput(f"{data[:120]!r} is no path", code="E_PATH", field="evaluate.data") from error
    if not any(path.is_relative_to(folder) for folder in allowed):
        raise BadInput(
            f"{data[:120]!r} is outside of the spec's folder",
            code="E_PATH",
            field="evaluate.data",
            expected="a file beside the spec, or below it",
            hint="move it there, or set SHIPWAY_DATA to a folder that every spec may read",
        )


@dataclass(frozen=True)
class _Copy:
    """The private copy of a version's files, and what became of the rest."""

    folder: Path
    layout: ModelLayout
    left_behind: tuple[str, ...]
    converted: tuple[str, ...]
    weights: Pointer | None


def _private_copy(
    registry: Registry, version: RegisteredVersion, work: Path, kept: Path | None, weights: Weights
) -> _Copy:
    """The version's files, scanned, reduced to what Shipway knows, with a fast tokenizer, under their digest."""
    fetched = registry.fetch(version, work / "fetched")
    pointer = read_pointer(fetched)
    if pointer:
        fetched = fetch_pointed(pointer, weights, work / "pointed")
    report = scan(fetched, kept=kept)
    made = convert_tokenizer(fetched, work / "tokenizer")
    flat = work / "source"
    shutil.rmtree(flat, ignore_errors=True)
    found = read_layout(fetched, made.folder if made else None)
    settings = (found.config, found.tokenizer_dir / SETTINGS)
    emptied = [f"{file.name} without auto_map: null" for file in settings if says_null(file)]
    converted = (*((made.said,) if made else ()), *emptied)
    gather(found, flat)
    for used in ("fetched", "pointed", "tokenizer"):
        shutil.rmtree(work / used, ignore_errors=True)
    return _Copy(flat, read_layout(flat), report.left_behind, converted, pointer)


def _check_bootstrap(spec: ReleaseSpec, service: Service | None) -> None:
    if service is not None and service.stable is not None:
        return
    if not spec.bootstrap:
        raise BadInput(
            f"service {spec.service} has no champion to compare with",
            code="E_BOOTSTRAP",
            field="bootstrap",
            expected="bootstrap: true for a first release",
            hint="set bootstrap: true; only absolute gates are judged, and the outcome is labelled unproven",
        )
    if service is None and spec.serve.port:
        refuse_taken_port(spec.serve.port, "serve.port")


def _refuse_live_version(service: Service | None, version: RegisteredVersion, *, is_all: bool) -> None:
    """What is asked for serves already, or its compressed variant is asked for: known before a byte is read.

    By its registration, not by its number alone: a model that was deleted and made again counts from 1. A version of a
    language model `is_all` of no release: its engine may be another one now (`_identity`).
    """
    stable = service.stable if service else None
    if stable is None:
        return
    made = {stable.source_version: stable.source_made, stable.version: stable.made}
    is_numbered = stable.model == version.name and version.version in made
    is_same = not stable.artifact_digest or (made.get(version.version) == version.made != "")
    if version.tags.get(BUNDLE_TAG) == stable.digest or (is_numbered and is_same and is_all):
        raise AlreadyLive(f"{version.name} version {version.version} is already live")


def _refuse_others_alias(services: Services, spec: ReleaseSpec, model: str) -> None:
    """An alias has one owner: two services under one would take each other's promotions back."""
    alias = spec.registry.alias
    for other in read_services(services).services:
        stable = other.stable if other.name != spec.service else None
        if stable is not None and (stable.model, stable.alias) == (model, alias):
            raise BadInput(
                f"the alias {alias} of {model} belongs to the service {other.name}",
                code="E_ALIAS_OWNED",
                field="registry.alias",
                expected="an alias for each service of one model",
                hint=f"registry: {{alias: {alias}-{spec.service}}}",
            )


def _refuse_known_bytes(service: Service | None, version: RegisteredVersion, digest: str, force: str) -> None:
    if service is None:
        return
    if service.stable is not None and service.stable.artifact_digest == digest:
        raise AlreadyLive(f"the files of {version.name} version {version.version} are already live")
    if digest in service.quarantined and not force:
        raise BadInput(
            f"these files were convicted before: {service.quarantined[digest]}",
            code="E_QUARANTINED",
            field="model",
            hint='release them again with --force "the reason"',
        )


def _check_champion(service: Service | None, spec: ReleaseSpec) -> None:
    """Before anything begins: what everything would go home to is there, and its bytes are what was promoted."""
    stable = service.stable if service is not None else None
    if stable is not None and stable.url:
        check_answers(stable, spec.serve.api, {spec.service, *spec.serve.model_names})
    elif stable is not None:
        verify_bundle(Path(stable.bundle), stable.digest)


def _memory(
    task: Task[Any], layout: ModelLayout, promises: Facts, spec: ReleaseSpec, machine: Machine | None
) -> MemoryNeed | None:
    """What the model takes: each server against its own limit, and all of them against what this machine has left."""
    need = task.memory(layout, promises, spec, machine.devices if machine else ())
    if need is None:
        return None
    limit_mb = server_settings(spec.serve, spec.package, is_contained=spec.package.target == "docker").memory_mb
    if limit_mb:
        more = (f"package.memory_mb: more than {(need.weights + need.cache) >> 20}", 0)
        one = replace(need, replicas=1, reference=0, helps=(more, *need.helps))
        check_fits(one, limit_mb << 20, "package.memory_mb")
    if machine is not None:
        check_fits(need, machine.available, "this machine")
    return need


def _alias_version(registry: Registry, name: str, alias: str) -> int | None:
    try:
        return registry.resolve(f"models:/{name}@{alias}").version
    except NotFound:
        return None


def _identity(files: str, promises: Mapping[str, Any]) -> str:
    """What a release is known by, served or convicted: its files, with the engine that answers by them, if it has one.

    Another version of the engine, or other flags, may be all that is wrong with a release, or all that is new in it.
    """
    if "version" not in promises:
        return files
    return "sha256:" + hashlib.sha256(json.dumps([files, promises], sort_keys=True).encode()).hexdigest()


def _config_digest(promises: Mapping[str, Any]) -> str:
    """What identifies the configuration that serves beside the weights."""
    return "sha256:" + hashlib.sha256(json.dumps(promises, sort_keys=True).encode()).hexdigest()
