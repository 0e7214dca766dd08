"""A client that says nothing more is given a moment for each answer."""

import pytest

from pipelines.serving.http1.client import HALF_CLOSED_S, ClientConnection, Clients
from pipelines.serving.http1.limits import Limits, Load


@pytest.mark.parametrize(
    ("closed_s", "asked_s", "expected"),
    [(None, 0.0, False), (10.0, 5.0, True), (5.0, 10.0, True), (10.0, 10.1, False), (10.1, 10.0, False)],
)
def test_the_moment_begins_when_he_fell_silent_or_when_this_request_was_served(closed_s, asked_s, expected):
    """Whichever was later: what was asked in advance is served long after that."""
    client = ClientConnection(Clients(Limits(), Load(), lambda _client, _request: None))
    client.closed_its_side_s = closed_s
    assert client.has_gone_silent(10.0 + HALF_CLOSED_S, asked_s) is expected
