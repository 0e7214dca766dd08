"""Does the gateway say the times that a server of known timing has kept?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.pipelines.serving.calibration.running import calibrated, timed_gateway
from tests.pipelines.serving.calibration.timed_server import MODEL, TOKENS
from tests.waiting import HANG_S

pytestmark = pytest.mark.integration

STREAMS = 6


def ask(port: int) -> str:
    """One stream through the gateway."""
    asked = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    return httpx.post(url, json=asked, trust_env=False, timeout=HANG_S).text


def test_the_gateway_says_the_times_that_a_server_has_kept(tmp_path):
    """Its metrics and its strata, of some streams of which three are on their way at a time."""
    with timed_gateway(tmp_path) as (bench, url):
        with ThreadPoolExecutor(3) as crew:
            answers = [*crew.map(ask, [bench.port] * STREAMS)]
        calibrated(bench, url, STREAMS)
    assert [answer.count("content") for answer in answers] == [TOKENS] * STREAMS
