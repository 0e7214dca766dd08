"""Are the architectures of the field counted?"""

from __future__ import annotations

import pytest

from benchmarks.field import architectures, show


@pytest.mark.integration
def test_architectures_are_counted(capsys):
    """What transformers cannot make is listed with its reason, and is not tried."""
    figures = architectures(["albert", "layoutlmv2"])
    assert (figures["tried"], figures["accepted"], figures["refused_by_reason"]) == (1, 1, {})
    ((reason, named),) = figures["omitted_by_reason"].items()
    assert (named, "detectron2" in reason) == (["layoutlmv2"], True)
    show(figures)
    assert "accepted" in capsys.readouterr().out
