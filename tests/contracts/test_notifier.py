"""Does every Notifier keep the port's promises?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.adapters.log_notifier import LogNotifier
from pipelines.adapters.memory.records import MemoryNotifier
from pipelines.ports import Notifier
from pipelines.records.release import Release

RELEASE = Release().record(86_400.0, "opened", id="r1", service="s", spec={}, spec_digest="")


class NotifierContract:
    """What a Notifier must do."""

    @pytest.fixture
    def notifier(self, tmp_path: Path) -> Notifier:
        """The adapter under test."""
        raise NotImplementedError

    def told(self, notifier: Notifier, tmp_path: Path) -> list[str]:
        """What arrived about the release, oldest first."""
        raise NotImplementedError

    def test_sentences_arrive_in_order(self, notifier, tmp_path):
        """Every one of them."""
        notifier.send(RELEASE, "5 % of the traffic")
        notifier.send(RELEASE, "25 % of the traffic")
        assert self.told(notifier, tmp_path) == ["5 % of the traffic", "25 % of the traffic"]

    @pytest.mark.parametrize("sentence", ["", "two\nlines", "a lone surrogate \ud800", "nul \0", "x" * 100_000])
    def test_no_sentence_raises(self, notifier, tmp_path, sentence):
        """A tick never fails because somebody could not be told, and later sentences still arrive."""
        notifier.send(RELEASE, sentence)
        notifier.send(RELEASE, "after it")
        assert self.told(notifier, tmp_path)[-1] == "after it"
        assert len(self.told(notifier, tmp_path)) == 2

    def test_a_release_that_never_began_does_not_raise(self, notifier, tmp_path):
        """There is nothing to say when and what."""
        notifier.send(Release(), "nothing")
        assert self.told(notifier, tmp_path) == []


class TestMemoryNotifier(NotifierContract):
    """The in-memory adapter."""

    @pytest.fixture
    def notifier(self, tmp_path: Path) -> Notifier:
        """A new one."""
        return MemoryNotifier()

    def told(self, notifier: MemoryNotifier, tmp_path: Path) -> list[str]:
        """What it kept."""
        return [sentence for release_id, sentence in notifier.sentences if release_id == RELEASE.id]


class TestLogNotifier(NotifierContract):
    """A log file per release."""

    @pytest.fixture
    def notifier(self, tmp_path: Path) -> Notifier:
        """Below a folder that is not there yet."""
        return LogNotifier(tmp_path / "logs")

    def told(self, notifier: LogNotifier, tmp_path: Path) -> list[str]:
        """The lines without their time and phase."""
        path = tmp_path / "logs" / "r1.log"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [line.removeprefix("1970-01-02T00:00:00+00:00 open ") for line in lines]

    def test_a_line_says_when_and_where_it_stood(self, notifier, tmp_path):
        """UTC, phase, sentence."""
        notifier.send(RELEASE, "it began")
        assert (tmp_path / "logs" / "r1.log").read_text() == "1970-01-02T00:00:00+00:00 open it began\n"

    def test_a_folder_that_cannot_be_written_does_not_raise(self, tmp_path):
        """A file lies where the folder should be; it stays as it is."""
        (tmp_path / "logs").write_text("mine")
        LogNotifier(tmp_path / "logs").send(RELEASE, "lost")
        assert (tmp_path / "logs").read_text() == "mine"
