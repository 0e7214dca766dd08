"""What presidio's recognisers find on a blank pipeline, without a model and without a network."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest

from pipelines.errors import BadInput
from pipelines.records.settings import OWN_KINDS, ForeignKind
from pipelines.serving.privacy import presidio
from pipelines.serving.privacy.bounded import BoundedRedactor
from pipelines.serving.privacy.redactor import Redactor

needs_presidio = pytest.mark.skipif(find_spec("presidio_analyzer") is None, reason="shipway[privacy] is not installed")
NOT_BY_FORM = {"PERSON", "LOCATION", "NRP", "ORGANIZATION"}


def test_a_kind_of_presidios_is_refused_where_it_is_not_installed(monkeypatch):
    """By name, before anything begins; what is found without it needs nothing."""
    monkeypatch.setattr(presidio, "find_spec", lambda name: None)
    presidio.refuse_without_presidio(OWN_KINDS, OWN_KINDS)
    with pytest.raises(BadInput) as caught:
        presidio.refuse_without_presidio(("email", "US_SSN"), OWN_KINDS)
    assert (caught.value.code, caught.value.field) == ("E_PRIVACY", "serve.record.recognise")


@needs_presidio
def test_presidio_recognises_by_form_and_asks_nobody(monkeypatch):
    """An address with an ending that no list knows is found by the own kind only; so is no number that may be any."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("it asked the net"))
    texts = ["219-09-9999", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "ada@example.com", "ada@corp.internal", "912803400"]
    kinds = ("US_SSN", "CRYPTO", "EMAIL_ADDRESS", "US_PASSPORT")
    expected = ["[us_ssn]", "[crypto]", "[email_address]", "ada@corp.internal", "912803400"]
    assert [Redactor(kinds).redact(text) for text in texts] == expected


@needs_presidio
def test_a_child_with_presidio_does_not_import_torch():
    """It is ready in seconds, and takes a third of the memory."""
    redactor = BoundedRedactor(("email", "US_SSN"))
    assert redactor.redacted("ada@corp.internal 219-09-9999") == "[email] [us_ssn]"
    assert redactor._child is not None
    assert "torch" not in Path(f"/proc/{redactor._child.pid}/maps").read_text()
    redactor.close()


@needs_presidio
def test_the_kinds_of_a_spec_are_those_that_presidio_has():
    """But for those that a model would have to find."""
    found = {kind for recogniser in presidio._engine().registry.recognizers for kind in recogniser.supported_entities}
    assert set(get_args(ForeignKind)) == found - NOT_BY_FORM
