"""What does the command line say of a release that is queued, and of a question that nobody asked?"""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.working import Stop
from pipelines.records.release import Phase
from tests.flows.orders.waiting_room import Room

SPEC = """\
model: models:/m@challenger
service: s
bootstrap: true
on_busy: queue
evaluate: {data: rows.csv, gates: [{metric: accuracy, min: 0.5}]}
"""


class Terminal:
    """The command line over a room; `up` and signals are left out."""

    def __init__(self, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room, self.ups = room, []
        for opened in ("release.open_ports", "release.open_known_ports", "operate.open_known_ports"):
            monkeypatch.setattr(f"flows.cli.{opened}", lambda: (room.home, room.ports))
        monkeypatch.setattr("flows.cli.show.look_into_ports", lambda: room.ports)
        monkeypatch.setattr("flows.control.background.start_up", self.ups.append)
        monkeypatch.setattr("flows.cli.release._stop_on_signals", Stop)
        self.spec = room.folder / "release.yaml"
        self.spec.write_text(SPEC)

    def run(self, *arguments: str):
        """What it answers."""
        return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def terminal(tmp_path, monkeypatch) -> Terminal:
    """Nothing runs."""
    return Terminal(Room(tmp_path, monkeypatch), monkeypatch)


def test_a_detached_release_that_must_wait_is_left_to_up(terminal):
    """Its id is the answer; `list` and `status` show it, before it has a record."""
    terminal.room.running()
    done = terminal.run("release", terminal.spec, "--detach")
    (ticket,) = terminal.room.ports.queue.tickets()
    assert (done.exit_code, done.stdout.strip(), len(terminal.ups)) == (0, ticket.id, 1)
    assert f"shipway abort {ticket.id} takes it back" in done.stderr
    assert (ticket.waiter, ticket.spec["model"]) == ("", "models:/m/2")
    first, second = json.loads(terminal.run("list", "--json").stdout)
    assert (first, second["id"]) == (ticket.summary(), "r1")
    assert f"{ticket.id}  models:/m/2  queued" in terminal.run("list").stdout
    assert "begun by shipway up" in terminal.run("status", ticket.id).stdout
    assert f"  queued   {ticket.id}  models:/m/2" in terminal.run("status", "r1").stdout
    assert json.loads(terminal.run("status", "r1", "--json").stdout)["queued"] == ticket.summary()


def test_a_free_service_is_handed_over_as_before(terminal):
    """There is nothing to wait for."""
    done = terminal.run("release", terminal.spec, "--detach")
    (release,) = terminal.room.ports.ledger.summaries()
    assert (done.exit_code, done.stdout.strip(), terminal.room.waiting) == (0, release.id, [])


def test_the_command_line_wins_over_the_spec(terminal):
    """Refused, with the release's name."""
    terminal.room.running()
    refused = terminal.run("release", terminal.spec, "--detach", "--on-busy", "refuse").exception
    assert (refused.exit_code, "release r1 of s is open" in refused.reason) == (8, True)
    assert terminal.room.waiting == []


def test_an_abort_takes_a_ticket_out_of_its_queue(terminal):
    """What runs is left alone."""
    terminal.room.running()
    ticket = terminal.room.ticket()
    done = terminal.run("abort", ticket.id, "--reason", "not today")
    assert (done.exit_code, terminal.room.waiting) == (0, [])
    assert done.stdout.startswith(f"{ticket.id}  taken out of the queue by ")
    assert "not today" in done.stdout
    assert not terminal.room.ports.ledger.load("r1").is_ended


@pytest.mark.parametrize("options", [(), ("--step", "2"), ("--drift",)])
def test_what_nobody_asked_is_not_approved(terminal, options):
    """It says what the release does instead."""
    terminal.room.running(phase=Phase.CANARY)
    refused = terminal.run("approve", "r1", *options).exception
    assert (refused.exit_code, refused.code) == (2, "E_NOT_ASKED")
    assert refused.reason.startswith("r1 does not wait for an approval: advanced to 0 %")


def test_an_approval_names_what_the_record_asks(terminal, monkeypatch):
    """The controller applies that, and nothing that came later."""
    monkeypatch.setattr("flows.cli.operate._wait_obeyed", lambda ports, word: ports.ledger.load(word.release_id))
    release = terminal.room.running(phase=Phase.CANARY)
    asked = release.record(1002.0, "looked", asks={"what": "drift", "step": 0}, why="shifted", strata=[])
    terminal.room.ports.ledger.save(asked, release.version)
    assert terminal.run("approve", "r1", "--drift").exit_code == 0
    (word,) = terminal.room.ports.inbox.pending("r1")
    assert (word.verb, word.about) == ("approve", "drift in step 1")
