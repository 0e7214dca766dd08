"""What is refused before a release is opened, and before anybody is asked about its model?"""

from __future__ import annotations

import pytest

from flows.control.opening import inspect
from pipelines.errors import BadInput, NotFound
from pipelines.serving.privacy import presidio
from pipelines.spec.spec_file import parse_spec
from tests.faults.world import memory_ports

SPEC = """\
model: models:/m/1
service: s
bootstrap: true
evaluate: {data: ../data/rows.csv, gates: [{metric: accuracy, min: 0.5}]}
"""


def test_rows_from_elsewhere_are_refused_first(tmp_path, monkeypatch):
    """Unless they lie in the folder that whoever runs Shipway trusts."""
    for name in ("specs", "data"):
        (tmp_path / name).mkdir()
    spec = parse_spec(SPEC)
    monkeypatch.delenv("SHIPWAY_DATA", raising=False)
    with pytest.raises(BadInput) as caught:
        inspect(spec, memory_ports(), tmp_path / "specs")
    assert (caught.value.code, caught.value.field) == ("E_PATH", "evaluate.data")
    monkeypatch.setenv("SHIPWAY_DATA", str(tmp_path / "data"))
    with pytest.raises(NotFound, match="m"):
        inspect(spec, memory_ports(), tmp_path / "specs")


def test_texts_that_nobody_here_can_recognise_are_refused_first(tmp_path, monkeypatch):
    """A record that keeps what was to be taken out is worse than none."""
    monkeypatch.setattr(presidio, "find_spec", lambda name: None)
    spec = parse_spec(f"{SPEC}serve: {{record: {{recognise: [email, US_SSN]}}}}\n")
    with pytest.raises(BadInput) as caught:
        inspect(spec, memory_ports(), tmp_path)
    assert (caught.value.code, caught.value.hint) == ("E_PRIVACY", 'pip install "shipway[privacy]"')
