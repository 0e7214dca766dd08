"""Which slices does a request belong to?"""

from __future__ import annotations

from pipelines.serving.evidence.attributes import Attributes


def test_a_value_that_names_a_person_is_kept_by_its_kind():
    """The record of a release, which nobody edits, would hold it for ever."""
    attributes = Attributes(["x-lang", "body.who"])
    found = [attributes.slices_of([(b"x-lang", b"en")], b'{"who": "%s@example.com"}' % who) for who in (b"ada", b"eve")]
    assert found == [("x-lang=en", "body.who=[email]")] * 2
