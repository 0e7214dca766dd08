"""How often does `up` try to go on with a release? Later and later, and not for ever."""

from __future__ import annotations

import pytest

from flows.up.up import MOST_TRIES, Up
from pipelines.home import Home
from pipelines.records.release import Phase, Release
from pipelines.records.service import Service


@pytest.fixture
def up(tmp_path) -> Up:
    """An `up` that starts nothing by itself."""
    return Up(Home.open(tmp_path / "home"), 0)


def opened(up: Up, phase: Phase | None = None) -> Release:
    """A release that nobody holds."""
    release = Release().record(1.0, "opened", id="r1", service="s", spec={}, spec_digest="")
    if phase is not None:
        release = release.enter(phase, 2.0)
    up._ports.ledger.create(release)
    return release


def test_a_worker_is_started_later_and_later(up, monkeypatch):
    """At once, and then after longer and longer pauses."""
    started = []
    monkeypatch.setattr(up, "_start_worker", lambda release: started.append(release.id))
    release = opened(up)
    up._adopt(release)
    up._adopt(release)
    assert (started, up._tries) == (["r1"], {"r1": 1})


def test_what_no_user_met_is_held_in_the_end(up, monkeypatch):
    """The record names where to read why, and the service takes releases again."""
    monkeypatch.setattr(up, "_start_worker", lambda release: pytest.fail("tried again"))
    up._tries["r1"] = MOST_TRIES
    up._adopt(opened(up))
    ended = up._ports.ledger.load("r1")
    assert (ended.phase, "logs/r1.log" in ended.reason) == (Phase.HELD, True)


def test_a_person_is_asked_about_what_users_may_have_met(up, caplog):
    """It is named with the command that ends it, and not taken over any more."""
    up._tries["r1"] = MOST_TRIES
    up._adopt(opened(up, Phase.PROMOTING))
    assert "shipway resolve r1" in caplog.text
    assert not up._ports.ledger.load("r1").is_ended


def test_a_takeover_that_fails_is_not_repeated_at_once(up):
    """Whatever was raised: a spec that this Shipway cannot read, for instance."""
    release = Release().record(1.0, "opened", id="r1", service="s", spec={"rollout": {"steps": "x"}}, spec_digest="")
    release = release.enter(Phase.PROMOTING, 2.0)
    up._ports.ledger.create(release)
    up._take_over(release)
    assert (up._tries["r1"], up._next_try_s["r1"] > 0) == (1, True)


def test_it_begins_by_saying_what_it_cares_for(up, caplog):
    """Its home, its ledger, the services, and the releases that are not ended."""
    caplog.set_level("INFO", "shipway.up")
    up._say_what_is_here()
    up._ports.services.save(Service("s"))
    opened(up)
    up._say_what_is_here()
    home = up._home.root
    first = f"shipway up of {home}, ledger {home / 'ledger.db'}"
    nothing = [first, "services: none yet", "releases that are not ended: none"]
    assert caplog.messages == [*nothing, first, "services: s", "releases that are not ended: r1 (open)"]
