"""How does a release begin, or go on? From a spec to a record in the ledger, or back to one that was interrupted."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from flows.control.lock import Held, busy, hold
from flows.wiring import actor, clock, trusted_data
from pipelines.adapters.processes.devices import devices_here
from pipelines.adapters.proxies.ability import check_router, check_spoken
from pipelines.errors import Busy, ShipwayError, Withdrawn
from pipelines.forecast.decidability import refuse_undecidable
from pipelines.forecast.usual_traffic import measured
from pipelines.home import Home
from pipelines.ports import Ports
from pipelines.records.queue import Ticket
from pipelines.records.reading import unfinished_or_refuse
from pipelines.records.release import Release
from pipelines.records.settings import OWN_KINDS
from pipelines.rollout.replay import nothing_recorded
from pipelines.serving.privacy.presidio import refuse_without_presidio
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.spec.rollout import RolloutSpec
from pipelines.spec.serve import ServeSpec
from pipelines.stages.intake import Intake, find_service, refuse_strange_rows, take_in
from pipelines.tasks.memory import Machine


def _taken_in(
    spec: ReleaseSpec, ports: Ports, data_dir: Path, work: Path, force: str, kept: Path | None = None
) -> Intake:
    """What the release begins with, where the router can do what is asked of it."""
    check_router(spec)
    refuse_without_presidio(spec.serve.record.recognise if spec.serve.record else (), OWN_KINDS)
    check_spoken(find_service(ports.services, spec.service), spec.serve.router)
    refuse_strange_rows(spec.evaluate.data, data_dir, trusted_data())
    return take_in(
        spec,
        ports.registry,
        ports.services,
        data_dir=data_dir,
        work=work,
        force=force,
        kept=kept,
        machine=Machine(psutil.virtual_memory().available, devices_here() if spec.serve.place else ()),
        weights=ports.weights,
        prompts=ports.prompts,
    )


def inspect(spec: ReleaseSpec, ports: Ports, data_dir: Path, force: str = "") -> Intake:
    """What would this release begin with? Reads only; the private copy is thrown away."""
    with tempfile.TemporaryDirectory(prefix="shipway-") as work:
        return _taken_in(spec, ports, data_dir, Path(work), force)


@contextmanager
def opened(
    spec: ReleaseSpec,
    ports: Ports,
    home: Home,
    data_dir: Path,
    who: str,
    force: str = "",
    ticket: Ticket | None = None,
) -> Iterator[tuple[Release, Held]]:
    """The interrupted release of this very spec or a new one, under the service's lock; that of a ticket has its id.

    Nothing is written before every check has passed. Busy where another release of the service is not ended, or waits.
    """
    waiting = _waiting(spec, ports)
    if waiting is not None:
        with hold(ports, spec.service, who) as held:
            yield ports.ledger.load(waiting.id), held
        return
    check_turn(ports, spec.service, ticket)
    with tempfile.TemporaryDirectory(prefix="shipway-") as temp:
        intake = _taken_in(spec, ports, data_dir, Path(temp), force, home.folder("asked"))
        if intake.service and intake.service.stable:
            recorded = len(ports.replays.recorded(spec.service)) if spec.rollout.replay else 0
            if spec.rollout.replay and not recorded:
                raise nothing_recorded(spec.service)
            refuse_undecidable(spec.rollout, measured(ports, spec.service, clock()), recorded)
        with hold(ports, spec.service, who) as held:
            for running in unfinished_or_refuse(ports.ledger, spec.service):
                raise busy(ports, running)
            check_turn(ports, spec.service, ticket)
            ordered = ticket or Ticket(new_id(spec.service), spec.service, actor=actor(), force=force)
            yield _create(spec, ports, home, data_dir, intake, ordered), held


def _waiting(spec: ReleaseSpec, ports: Ports) -> Release | None:
    """This spec's release that is not ended. Busy where it is another's, LedgerBroken where nobody can tell."""
    for release in unfinished_or_refuse(ports.ledger, spec.service):
        if release.spec_digest != spec.digest():
            raise busy(ports, release)
        return release
    return None


def check_turn(ports: Ports, service: str, own: Ticket | None) -> None:
    """Busy where another release waits for the service, Withdrawn where its own ticket waits no more.

    What waits is newer than whatever could begin before it without a ticket: it would be released after it.
    """
    found = next((t for t in ports.queue.tickets() if t.service == service), None)
    if own is not None and found is None:
        raise _taken_out(ports, own)
    if own is not None and found is not None and found.id != own.id:
        raise _replaced(own, found.id, f" ({found.spec.get('model')}, by {found.actor})")
    if own is None and found is not None:
        raise Busy(
            f"release {found.id} of {service} ({found.spec.get('model')}, by {found.actor}) is queued, and begins next",
            field="service",
            hint=f"--on-busy queue to take its place, or shipway abort {found.id}",
        )


def _taken_out(ports: Ports, own: Ticket) -> ShipwayError:
    """A newer one took its place and has begun since, or a person took it out."""
    for row in ports.ledger.summaries(service=own.service, limit=1):
        if row.started_at_s > own.since_s:
            return _replaced(own, row.id)
    return Withdrawn(f"{own.id} was taken out of the queue of {own.service}", field="service")


def _replaced(own: Ticket, newer: str, who: str = "") -> Busy:
    reason = f"{own.id} waits no more: {newer}{who} is newer"
    return Busy(reason, code="E_REPLACED", field="service", hint=f"shipway status {newer}")


def new_id(service: str) -> str:
    """A name for a release that no other one has."""
    return f"{service}-{time.strftime('%Y%m%d', time.gmtime(clock().wall_s))}-{uuid.uuid4().hex[:6]}"


def _create(spec: ReleaseSpec, ports: Ports, home: Home, data_dir: Path, intake: Intake, ordered: Ticket) -> Release:
    now = clock()
    work = work_dir(home, ordered.id)
    shutil.rmtree(work, ignore_errors=True)  # of a process that was killed before it wrote anything down
    work.mkdir(parents=True)
    shutil.copytree(intake.folder, work / "source")
    release = Release().record(
        now.wall_s,
        "opened",
        id=ordered.id,
        service=spec.service,
        spec=spec.as_dict(),
        spec_digest=spec.digest(),
        data_dir=str(data_dir.absolute()),
        actor=ordered.actor,
        force=ordered.force,
        **({"asked_at": ordered.since_s} if ordered.since_s else {}),
    )
    release = release.record(now.wall_s, "resolved", **intake.facts())
    ports.ledger.create(release)
    return release


def work_dir(home: Home, release_id: str) -> Path:
    """Where a release's own files are."""
    return home.root / "work" / release_id


def spec_of(release: Release) -> ReleaseSpec:
    """The spec that a release was opened with."""
    return ReleaseSpec.model_validate_json(json.dumps(release.spec))


def rollout_of(release: Release) -> RolloutSpec:
    """How users meet the candidate; a return to the previous version has no steps, and is finished by the defaults."""
    return RolloutSpec.model_validate_json(json.dumps(release.spec.get("rollout", {})))


def timeout_of(release: Release) -> float:
    """How long the gateway waits for one answer, seconds."""
    return ServeSpec.model_validate_json(json.dumps(release.spec.get("serve", {}))).timeout_s


def data_dir_of(release: Release) -> Path:
    """The folder that the spec's paths are relative to."""
    return Path(release.events[0].data["data_dir"])
