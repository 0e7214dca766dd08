"""Whatever a registry answers, and whenever: users leave the bad version, and no service is jammed."""

from __future__ import annotations

import pytest

from pipelines.adapters.memory_registry import ANSWERS
from tests.faults.answers import PHASES, registry_answers, trial
from tests.faults.world import begin


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_way_home_needs_no_registry(answer, phase, tmp_path):
    """A second after the command nobody meets the bad version, and everything ends."""
    folder = begin(tmp_path)
    for seed in range(2):
        found = trial(phase, answer, seed, folder)
        assert (found.at_bad, found.is_jammed, found.wrong) == (False, False, [])


def test_the_benchmark_counts_them(monkeypatch):
    """Seven answers in each phase."""
    monkeypatch.setattr("tests.faults.answers.PHASES", PHASES[:1])
    assert registry_answers(times=1) == {"trials": 7, "at_bad_version_after_1s": 0, "jammed": 0, "wrong": 0}
