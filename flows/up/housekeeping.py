"""What does `shipway gc` see on this machine, and how does it remove what nobody needs?"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from flows.wiring import clock
from pipelines.adapters.processes.log_rotation import ROTATED
from pipelines.errors import DependencyDown
from pipelines.home import Home
from pipelines.ports import Ports
from pipelines.records.reading import checked, read_services
from pipelines.records.split import TrafficSplit
from pipelines.services.garbage import Inventory, Litter, Stored, Uses, decide_litter, digests_in_images
from pipelines.serving.requests.record_file import empty, expire
from pipelines.supply.bundle import UNFINISHED, only_writer


def collect(home: Home, ports: Ports, *, dry_run: bool) -> Litter:
    """Remove what nobody needs, and say what it was. No bundle can be sealed meanwhile."""
    with only_writer(home.folder("bundles")):
        uses = _uses(home, ports)
        litter = decide_litter(_inventory(home), uses, clock().wall_s)
        if not dry_run:
            for digest in {bundle.name for bundle in litter.bundles} & digests_in_images(uses):
                _remove_images(home, digest)
            _remove(home, litter)
    return litter


def expire_records(home: Home, outliving: Callable[[str], AbstractContextManager[None]]) -> None:
    """Remove recorded requests whose time is over, also of services that nobody asks or that record no more."""
    for path in _records(home):
        with outliving(f"recorded requests of {path.stem}"):
            expire(path, clock().wall_s)


def _records(home: Home) -> list[Path]:
    return [path for path in home.folder("records").glob("*.db") if path.is_file() and not path.is_symlink()]


def _inventory(home: Home) -> Inventory:
    bundles = (path for path in home.folder("bundles").glob("sha256-*") if _is_folder(path))
    works = (path for path in home.folder("work").iterdir() if _is_folder(path))
    logs = (path for path in home.folder("logs").glob(ROTATED) if path.is_file())
    pages = (path for path in home.folder("pages").glob("*") if _is_folder(path))
    by_service = _stored(_records(home), lambda path: path.stem)
    return Inventory(_stored(bundles, _digest), _stored(works), _stored(logs), by_service, _stored(pages))


def _is_folder(path: Path) -> bool:
    """Links lead to what is not ours."""
    return path.is_dir() and not path.is_symlink()


def _digest(path: Path) -> str:
    return path.name.replace("-", ":", 1)


def _stored(paths: Iterable[Path], name_of: Callable[[Path], str] = lambda path: path.name) -> tuple[Stored, ...]:
    now_s = clock().wall_s
    return tuple(Stored(name_of(p), _size_bytes(p), now_s - p.stat().st_mtime) for p in sorted(paths))


def _size_bytes(path: Path) -> int:
    files = (path,) if path.is_file() else (p for p in path.rglob("*") if not p.is_dir())
    return sum(file.lstat().st_size for file in files)


def _uses(home: Home, ports: Ports) -> Uses:
    names = ports.services.names()
    routed = [_routed(home, ports, name) for name in names]
    known = read_services(ports.services)
    return Uses(
        known.services,
        checked(ports.ledger, ports.ledger.summaries()),
        frozenset(unit.digest for name in names for unit in ports.runtime.units(name)),
        None if None in routed else frozenset(digest for digests in routed if digests for digest in digests),
        tuple(known.broken),
    )


def _routed(home: Home, ports: Ports, service: str) -> frozenset[str] | None:
    """What the router points at; where no gateway runs, what the next one will begin with. None: nobody knows."""
    try:
        split = ports.router.read(service)
    except DependencyDown:
        snapshot = home.folder("run") / f"{service}.split"
        if not snapshot.exists():
            return frozenset()
        try:
            split = TrafficSplit.from_dict(json.loads(snapshot.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            return None
    return frozenset(arm.digest for arm in (split.stable, split.canary) if arm is not None)


def _remove_images(home: Home, digest: str) -> None:
    """Before its bundle, which is how the next run would find them."""
    from pipelines.adapters.docker.builder import remove_images

    remove_images(home.id, digest)


def _remove(home: Home, litter: Litter) -> None:
    for bundle in litter.bundles:
        _remove_bundle(home.folder("bundles"), bundle.name.replace(":", "-"))
    for work in litter.works:
        shutil.rmtree(home.folder("work") / work.name, ignore_errors=True)
    for page in litter.pages:
        shutil.rmtree(home.folder("pages") / page.name, ignore_errors=True)
    for log in litter.rotated_logs:
        (home.folder("logs") / log.name).unlink(missing_ok=True)
    for record in litter.records:
        with suppress(sqlite3.Error, OSError):  # one that is damaged goes as it is
            empty(home.record(record.name))
        for path in home.folder("records").glob(f"{record.name}.db*"):  # a journal, too, where a gateway was killed
            path.unlink(missing_ok=True)


def _remove_bundle(store: Path, name: str) -> None:
    """First out of sight, by one rename: a kill half-way leaves no half of a bundle under its digest."""
    going = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=store))
    (store / name).rename(going / name)
    shutil.rmtree(going, ignore_errors=True)
