"""Does what follows from a stored response go to the arm that holds it, and is it nobody's evidence?"""

import asyncio
import json

import pytest

from pipelines.records.settings import GatewaySettings
from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.http1.limits import Limits
from pipelines.serving.meter.asked import TextRequest
from pipelines.serving.requests.data_plane import Serving
from pipelines.serving.requests.held import MOST_HELD, HeldResponses
from tests.pipelines.serving.meter.test_metered import HEAD, event, post
from tests.pipelines.serving.plane import Plane, saying

RESPONSES = "/v1/responses"
SAID = {"object": "response", "id": "resp_1", "status": "completed", "output": [], "usage": {"output_tokens": 0}}


def whole(name: str) -> bytes:
    """A stored response in one piece."""
    body = json.dumps({**SAID, "id": name}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def streamed(name: str) -> bytes:
    """The same as a stream."""
    events = [{"type": f"response.{what}", "response": {**SAID, "id": name}} for what in ("created", "completed")]
    return HEAD + b"".join(map(event, events)) + b"0\r\n\r\n"


def ask(path: str = RESPONSES, **more: object) -> bytes:
    """A request for a response."""
    return post({"model": "m", "input": "hello", **more}, path)


@pytest.mark.parametrize("say", [whole, streamed])
def test_what_follows_goes_to_the_arm_that_holds_it(tmp_path, say):
    """To go on, to read and to cancel; at any share. It counts for neither arm; what begins anew goes by chance."""

    async def run():
        serving = Serving(60.0, GatewaySettings(timeout_s=2.0, api="openai"), Limits())
        async with Plane(tmp_path, serving=serving) as plane:
            stable, canary = [await plane.upstream(saying(say(name))) for name in ("resp_s", "resp_c")]
            plane.split([stable], [canary], pct=100.0)
            await plane.say(ask())
            plane.split([stable], [canary], pct=0.001)
            before = plane.counts("stable"), plane.counts("canary")
            follow = [
                ask(previous_response_id="resp_c"),
                ask(f"{RESPONSES}/resp_c/cancel"),
                b"GET /v1/responses/resp_c?x=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            ]
            heard = [b"resp_c" in await plane.say(request) for request in follow]
            after = plane.counts("stable"), plane.counts("canary")
            return heard, before == after, b"resp_s" in await plane.say(ask())

    assert asyncio.run(run()) == ([True, True, True], True, True)


def test_a_response_of_an_arm_that_is_gone_is_anybodys():
    """By chance, as every other."""
    held, split = HeldResponses(), TrafficSplit((1, 1), Arm("sha256:0", ("http://127.0.0.1:1",)))
    held.keep("gone", "sha256:9")
    assert held.holder(None, TextRequest("responses", follows="gone"), split) is None


def test_only_the_newest_are_remembered():
    """Memory is bounded."""
    held, split = HeldResponses(), TrafficSplit((1, 1), Arm("sha256:0", ("http://127.0.0.1:1",)))
    for number in range(MOST_HELD + 1):
        held.keep(str(number), "sha256:0")
    found = [held.holder(None, TextRequest("responses", follows=name), split) for name in ("0", "1", str(MOST_HELD))]
    assert [one.arm if one else None for one in found] == [None, "stable", "stable"]
