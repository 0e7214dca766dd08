"""Which requests may be asked twice?"""

from __future__ import annotations

import pytest

from pipelines.serving.http1_request import Request
from pipelines.serving.repeats import Repeats


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        (b"GET", b"/anything", True),
        (b"PUT", b"/anything", True),
        (b"POST", b"/anything", False),
        (b"PATCH", b"/anything", False),
        (b"POST", b"/invocations?x=1", True),
        (b"POST", b"/v2/models/m/infer", True),
        (b"POST", b"/v2/models/m/versions/1/infer", True),
        (b"POST", b"/v1/chat/completions", True),
        (b"POST", b"/v1/files", False),
        (b"POST", b"/rank/fast", True),
        (b"POST", b"/rank", False),
        (b"POST", b"/ra\xffnk/", False),
    ],
)
def test_only_what_changes_nothing_may(method, target, expected):
    """What HTTP says, questions to a model, and what is declared."""
    request = Request(method, target, [], {}, is_http11=True)
    assert Repeats(("/rank/*",)).allow(request) is expected
