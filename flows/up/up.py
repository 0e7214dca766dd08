"""The one long-lived process: it owns servers and gateways, reconciles services, and takes over orphaned releases.

Where this process is killed, its children serve on; the next `up` adopts them. `shipway down` stops it and them.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial

from flows.control.background import append_to_log
from flows.control.holders import holder, living_holder
from flows.control.lock import exposed_ttl_s, hold
from flows.control.opening import rollout_of
from flows.control.prefect_server import HomeServer
from flows.control.up_file import find_up, up_file, write_up_file
from flows.up.housekeeping import expire_records
from flows.up.seldom import Seldom
from flows.up.waiting import WaitingReleases, start_worker
from flows.wiring import clock, ledger_name, wire
from flows.working import take_over
from pipelines.adapters.gateway import ask_gateway
from pipelines.adapters.processes.log_rotation import rotate_all
from pipelines.adapters.processes.supervisor import Supervisor
from pipelines.errors import Busy, ShipwayError
from pipelines.home import Home
from pipelines.ports import Ports
from pipelines.records.reading import Inspection, broken_record, read_unfinished
from pipelines.records.release import Release
from pipelines.records.summary import Summary
from pipelines.rollout.obeying import hold_unseen
from pipelines.services.paying import pay_debts
from pipelines.services.reconcile import reconcile

log = logging.getLogger("shipway.up")

SUPERVISE_S = 0.2
RECONCILE_S = 0.5
ROTATE_S = 10.0
EXPIRE_S = 60.0
ALL_ORPHANS_S = 5.0
"""A detached first release has no service record yet: it is found by a rarer look at all records."""

INSPECT_S = 2.0
INSPECTION_PAUSES = 100.0
"""A record is verified this often, and so much longer is the pause than what it took: a hundredth of one core."""

PAY_S = 1.0
MOST_TRIES = 20
LONGEST_PAUSE_S = 60.0
"""A release whose worker keeps failing, because MLflow is down for instance, is tried again after longer and longer."""


class Up:
    """The loop of `shipway up`."""

    def __init__(self, home: Home, port: int) -> None:
        self._home = home
        self._port = port
        self._ports: Ports = wire(home)
        self._supervisor = Supervisor(home)
        self._stop = threading.Event()
        self._next_round_s = 0.0
        self._next_rotation_s = 0.0
        self._next_inspection_s = 0.0
        self._inspection = Inspection(self._ports.ledger)
        self._seldom = Seldom(log)
        self._takeovers: dict[str, threading.Thread] = {}
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._tries: dict[str, int] = {}
        self._next_try_s: dict[str, float] = {}
        self._queue = WaitingReleases(self._ports, partial(start_worker, home))

    def run(self) -> None:
        """Until SIGTERM or SIGINT; then everything that was started is stopped."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        self._say_what_is_here()
        api = threading.Thread(target=self._serve_api, name="api", daemon=True)
        api.start()
        threading.Thread(target=self._reconcile_loop, name="reconcile", daemon=True).start()
        threading.Thread(target=self._pay_loop, name="registry", daemon=True).start()
        threading.Thread(target=self._expire_loop, name="records", daemon=True).start()
        prefect = threading.Thread(target=HomeServer(self._home).tend, args=(self._stop,), name="prefect", daemon=True)
        prefect.start()
        while not self._stop.is_set():
            self._supervisor.step(clock())
            self._rotate_logs()
            self._stop.wait(SUPERVISE_S)
        self._supervisor.stop_all()
        prefect.join()
        with suppress(FileNotFoundError):
            up_file(self._home).unlink()

    def _say_what_is_here(self) -> None:
        """The first lines of its log: which home, which ledger, and what it has to care for."""
        log.info("shipway up of %s, ledger %s", self._home.root, ledger_name(self._home))
        with self._seldom.outliving("services"):
            names = self._ports.services.names()
            log.info("services: %s", ", ".join(names) or "none yet")
            running = [f"{release.id} ({release.phase})" for release in read_unfinished(self._ports.ledger).releases]
            log.info("releases that are not ended: %s", ", ".join(running) or "none")

    def _rotate_logs(self) -> None:
        """The children hold their logs open, and so does whoever started this process: all of them append."""
        if clock().mono_s >= self._next_rotation_s:
            self._next_rotation_s = clock().mono_s + ROTATE_S
            rotate_all(self._home.folder("logs"))

    def _expire_loop(self) -> None:
        """Apart, since a gateway may be writing the same files."""
        while not self._stop.is_set():
            expire_records(self._home, self._seldom.outliving)
            self._stop.wait(EXPIRE_S)

    def _serve_api(self) -> None:
        asyncio.run(serve_api(self._home, self._ports, self._port, self._stop))

    def _reconcile_loop(self) -> None:
        while not self._stop.is_set():
            self._care_for_all()
            self._stop.wait(RECONCILE_S)

    def _pay_loop(self) -> None:
        """Apart from the care for services: a registry that hangs holds up nothing else."""
        while not self._stop.wait(PAY_S):
            with self._seldom.outliving("services"):
                for name in self._ports.services.names():
                    with self._seldom.outliving(f"registry for {name}"):
                        pay_debts(self._ports, self._ports.services.load(name), clock())

    def _care_for_all(self) -> None:
        """One round. Whatever is broken in one service or record is a warning, and the others have their turn."""
        with self._seldom.outliving("services"):
            for name in self._ports.services.names():
                self._care_for(name)
        with self._seldom.outliving("queue"):
            self._queue.look(clock())
        if clock().mono_s >= self._next_round_s:
            self._next_round_s = clock().mono_s + ALL_ORPHANS_S
            with self._seldom.outliving("orphaned releases"):
                self._look_for_orphans(None)
        if clock().mono_s >= self._next_inspection_s:
            with self._seldom.outliving("inspection of records"):
                self._inspect()

    def _care_for(self, name: str) -> None:
        with self._seldom.outliving(f"service {name}"):
            reconcile(self._ports, self._ports.services.load(name), holder("reconcile"), clock())
        with self._seldom.outliving(f"releases of {name}"):
            self._look_for_orphans(name)

    def _look_for_orphans(self, service: str | None) -> None:
        """Releases that nobody holds. Reading records costs, so a service whose lock is held is not asked."""
        if service is not None and living_holder(self._ports, service, clock()) is not None:
            return
        found = read_unfinished(self._ports.ledger, service)
        for row in found.broken:
            self._seldom.warn(_told(row))
        for release in found.releases:
            with self._seldom.outliving(f"release {release.id}"):
                if not self._is_worked_on(release) and living_holder(self._ports, release.service, clock()) is None:
                    self._adopt(release)

    def _inspect(self) -> None:
        """Verify the next one of all records, so that what was altered is known before somebody needs it."""
        began_s = clock().mono_s
        self._next_inspection_s = began_s + INSPECT_S
        found = self._inspection.step()
        took_s = clock().mono_s - began_s
        self._next_inspection_s = began_s + max(INSPECT_S, INSPECTION_PAUSES * took_s)
        if found is not None:
            self._seldom.warn(_told(found))

    def _adopt(self, release: Release) -> None:
        """Take over a release that users may meet; let a worker go on with one that they may not."""
        if clock().mono_s < self._next_try_s.get(release.id, 0.0):
            return
        if self._tries.get(release.id, 0) >= MOST_TRIES:
            self._give_up(release)
        elif release.is_exposed:
            thread = threading.Thread(target=self._take_over, args=(release,), name=release.id, daemon=True)
            self._takeovers[release.id] = thread
            thread.start()
        else:
            self._count_try(release)
            self._workers[release.id] = self._start_worker(release)

    def _count_try(self, release: Release) -> None:
        tries = self._tries[release.id] = self._tries.get(release.id, 0) + 1
        self._next_try_s[release.id] = clock().mono_s + min(2.0**tries, LONGEST_PAUSE_S)

    def _give_up(self, release: Release) -> None:
        """Nothing is tried for ever: what no user met is held, and a person is asked about the rest."""
        if release.is_exposed:
            self._seldom.warn(
                f"{release.id} could not be taken over in {MOST_TRIES} tries; shipway resolve {release.id}"
            )
            return
        with hold(self._ports, release.service, holder("up")):
            why = f"nobody could go on with it in {MOST_TRIES} tries; logs/{release.id}.log says why"
            hold_unseen(self._ports, self._ports.ledger.load(release.id), why, clock())

    def _is_worked_on(self, release: Release) -> bool:
        thread, worker = self._takeovers.get(release.id), self._workers.get(release.id)
        return bool((thread and thread.is_alive()) or (worker and worker.poll() is None))

    def _start_worker(self, release: Release) -> subprocess.Popen[bytes]:
        """The slow steps need Prefect and torch: they run in a process of their own."""
        log.info("going on with %s in a worker", release.id)
        command = [sys.executable, "-m", "flows.cli", "resume", release.id, "--work"]
        with append_to_log(self._home, f"{release.id}.log") as out:
            return subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)

    def _take_over(self, release: Release) -> None:
        log.info("taking over %s in phase %s", release.id, release.phase)
        try:
            lease_s = rollout_of(release).lease_s
            with hold(self._ports, release.service, holder("up"), exposed_ttl_s(lease_s)) as held:
                take_over(self._ports.ledger.load(release.id), self._ports, held)
        except Busy:
            return
        except Exception as error:
            self._count_try(release)
            log.warning("takeover of %s ended: %s", release.id, error, exc_info=not isinstance(error, ShipwayError))


def _told(row: Summary) -> str:
    error = broken_record(row)
    return f"{error}; {error.hint}"


async def serve_api(home: Home, ports: Ports, port: int, stop: threading.Event) -> None:
    """Serve the read-only API on loopback until `stop`."""
    from aiohttp import web

    from flows.web.api import make_app

    runner = web.AppRunner(make_app(ports, clock, partial(_exposition, home)), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    try:
        await site.start()
        chosen = runner.addresses[0][1]
        write_up_file(home, chosen)
        log.info("its page, API and metrics are at http://127.0.0.1:%s", chosen)
        await asyncio.to_thread(stop.wait)
    except OSError as error:
        log.exception("the API cannot listen on port %s", port)
        write_up_file(home, 0, error=str(error))
    finally:
        await runner.cleanup()


def _exposition(home: Home, service: str) -> str:
    return ask_gateway(home.admin_socket(service), "GET", "/metrics").text


def run_up(home: Home, port: int) -> None:
    """Be `up`. Busy where another one is."""
    lock = (home.root / "up.lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        running = find_up(home) or {}
        raise Busy(
            f"shipway up runs already (pid {running.get('pid', '?')})", code="E_UP_RUNS", hint="shipway down"
        ) from None
    with lock:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("httpx").setLevel(logging.WARNING)
        Up(home, port).run()
