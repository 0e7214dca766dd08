"""Does following go on through trouble, and say everything when it is stopped?"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from flows.cli import labelling
from pipelines.errors import DependencyDown, NotFound
from pipelines.home import Home
from pipelines.services.labels import Label, Sent, Tally
from tests.pipelines.services.test_labels import Everything, good


@pytest.fixture(autouse=True)
def _at_once(monkeypatch) -> Iterator[None]:
    """Looks follow each other without a pause, and signals mean afterwards what they meant before."""
    monkeypatch.setattr(labelling, "FOLLOW_S", 0.0)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Looks:
    """A source that is down at the first look, grows at each further one, and is stopped after the third."""

    def __init__(self, first: Exception) -> None:
        self._first, self._looks = first, 0

    def read(self) -> list[Label]:
        """What there is now."""
        self._looks += 1
        if self._looks == 1:
            raise self._first
        if self._looks == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return [good(number) for number in range(self._looks)]


def test_trouble_is_waited_for(tmp_path, capsys):
    """What came meanwhile is sent afterwards, and each look says what is new."""
    tally = labelling.follow(Looks(DependencyDown("asleep")).read, Everything(), Sent(tmp_path / "s"))
    assert tally.as_dict()["evidence"] == 3
    waiting, first, second = capsys.readouterr().err.splitlines()
    assert waiting == "waiting: E_DEPENDENCY: asleep"
    assert (first[:21], second[:21]) == ("2 labels are evidence", "1 labels are evidence")


def test_a_wrong_wish_ends_it(tmp_path):
    """An experiment that does not exist will not be there at the next look either."""
    with pytest.raises(NotFound):
        labelling.follow(Looks(NotFound("no experiment")).read, Everything(), Sent(tmp_path / "s"))


def test_services_and_sources_have_their_own_notes(tmp_path):
    """What one service was sent, another was not."""
    home = Home.open(tmp_path / "home")
    labelling.sent_labels(home, "a", "x").add("k")
    found = ["k" in labelling.sent_labels(home, *names) for names in (("a", "x"), ("b", "x"), ("a", "y"))]
    assert found == [True, False, False]


@pytest.mark.parametrize("as_json", [True, False])
def test_what_is_shown_is_complete(capsys, as_json):
    """Each fate, and the first reason of each refusal."""
    tally = Tally(before=2)
    tally.counts.update({"evidence": 3, "late": 1, "E_LABEL": 1})
    tally.reasons["E_LABEL"] = "row 4: score: a number from 0 to 1 is expected"
    labelling.show(tally, as_json=as_json)
    shown = capsys.readouterr().out
    if as_json:
        assert json.loads(shown) == tally.as_dict()
    else:
        assert shown == (
            "3 labels are evidence, 1 came after the shares had changed, 0 belong to no known answer, "
            "1 refused (E_LABEL), 2 were sent before\n"
            "  E_LABEL, first: row 4: score: a number from 0 to 1 is expected\n"
        )
