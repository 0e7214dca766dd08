"""Is a version's prompt put into each request that it is asked, and is what does not fit nobody else's fault?"""

import asyncio
import gzip
import json

import pytest

from pipelines.records.settings import GatewaySettings
from pipelines.records.split import Arm, Rewrite, TrafficSplit
from pipelines.serving.http1.limits import Limits
from pipelines.serving.meter.rewriting import Unfit, rewritten, with_prompt, with_rewrite
from pipelines.serving.requests.data_plane import Serving
from tests.pipelines.serving.meter.test_metered import HELLO, post
from tests.pipelines.serving.plane import OK, Plane, body_of, request_of, status_of

USER = {"role": "user", "content": "hello"}
TEXT = Rewrite(prompt="prompts:/support/3", text="Be brief.")
NAMED = Rewrite(text="You talk to {{ name }}, who is {{age}}.")
TURNS = Rewrite(messages=(("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello!")))
COLD = Rewrite(sampling=(("max_tokens", 9), ("temperature", 0.2)))
WRITTEN = Rewrite(prompt="prompts:/support/4", text="Be kind.", by_application=True)


@pytest.mark.parametrize(
    ("kind", "rewrite", "said", "expected"),
    [
        ("chat", TEXT, {"messages": [USER]}, {"messages": [{"role": "system", "content": "Be brief."}, USER]}),
        ("completions", TEXT, {"prompt": "a"}, {"prompt": "Be brief.a"}),
        ("completions", TEXT, {"prompt": ["a", "b"]}, {"prompt": ["Be brief.a", "Be brief.b"]}),
        ("responses", TEXT, {"input": "a"}, {"input": "a", "instructions": "Be brief."}),
        ("responses", TEXT, {"input": "a", "instructions": "b"}, {"input": "a", "instructions": "Be brief.\n\nb"}),
        (
            "responses",
            Rewrite(messages=(("system", "s"),)),
            {"input": "a"},
            {"input": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]},
        ),
        ("responses", TURNS, {"input": [], "previous_response_id": "r"}, {"input": [], "previous_response_id": "r"}),
        ("chat", COLD, {"messages": []}, {"messages": [], "max_tokens": 9, "temperature": 0.2}),
        ("chat", COLD, {"max_completion_tokens": 3}, {"max_completion_tokens": 3, "temperature": 0.2}),
        ("responses", COLD, {"temperature": 1}, {"temperature": 1, "max_output_tokens": 9}),
        ("chat", Rewrite(text="x", by_application=True), {"messages": [USER]}, {"messages": [USER]}),
    ],
)
def test_each_shape_of_request_gets_the_prompt(kind, rewrite, said, expected):
    """Before what its client says; what a request says of its sampling counts."""
    assert with_rewrite(kind, said, rewrite) == expected


def test_sampling_may_count_whatever_a_request_says():
    """Under whichever name the request says it."""
    forced = Rewrite(sampling=(("max_tokens", 9), ("temperature", 0.2)), overrides=True)
    assert with_rewrite("chat", {"temperature": 1, "max_completion_tokens": 99}, forced) == {
        "temperature": 0.2,
        "max_tokens": 9,
    }


def test_variables_are_filled_once_and_literally():
    """What a user sends is never a template, and the key that carries it goes no further."""
    said = {"messages": [USER], "prompt_variables": {"name": "{{ age }}", "age": 7, "more": None}}
    assert with_rewrite("chat", said, NAMED)["messages"][0]["content"] == "You talk to {{ age }}, who is 7."
    assert "prompt_variables" not in with_rewrite("chat", said, NAMED)


@pytest.mark.parametrize("said", [None, {}, {"name": "a"}, {"name": "a", "age": [1]}, {"name": "a", "age": True}, "a"])
def test_a_variable_that_is_missing_is_named(said):
    """It is text or a number."""
    with pytest.raises(Unfit, match=r"needs (name|age)"):
        with_prompt([USER], NAMED, said)


@pytest.mark.parametrize(
    ("kind", "said", "rewrite"), [("completions", {"prompt": "a"}, TURNS), ("completions", {"prompt": [1, 2]}, TEXT)]
)
def test_a_prompt_that_has_no_place_is_refused(kind, said, rewrite):
    """A conversation before text, and text before tokens."""
    with pytest.raises(Unfit, match="the prompt of this version is"):
        with_rewrite(kind, said, rewrite)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"a"', b'{"messages":"hello"}', b'{"messages":null}', b"{}"])
def test_what_is_no_request_is_left_to_the_engine(body):
    """It says what is wrong with it, for all versions alike."""
    assert rewritten("chat", body, TEXT) == body


class Heard:
    """An engine that keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []

    async def __call__(self, reader, writer):
        """Each request, until its client leaves."""
        while True:
            self.requests.append(await request_of(reader))
            writer.write(OK)

    @property
    def bodies(self):
        """As JSON."""
        return [json.loads(body_of(request)) for request in self.requests]


def served(folder, ask, *, stable=None, canary=None, pct=0.0, **settings):
    """What comes of `ask(plane)` before two engines whose versions have these prompts."""

    async def run():
        serving = Serving(60.0, GatewaySettings(timeout_s=2.0, api="openai", **settings), Limits())
        heard = Heard(), Heard()
        async with Plane(folder, serving=serving) as plane:
            urls = [(await plane.upstream(one),) for one in heard]
            arms = Arm("sha256:0", urls[0], rewrite=stable), Arm("sha256:1", urls[1], rewrite=canary)
            shares = (arms[1], pct, 600.0) if pct else (None, 0.0, None)
            plane.gateway.put(TrafficSplit((1, 1), arms[0], *shares), (0, 0))
            return await ask(plane), heard, (plane.counts("stable"), plane.counts("canary"))

    return asyncio.run(run())


def test_an_arm_is_asked_with_its_own_prompt(tmp_path):
    """And the answer says which; a compressed request is read, and passed on as it is read."""
    packed = gzip.compress(json.dumps(HELLO).encode())
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-encoding: gzip\r\n"

    async def ask(plane):
        return [await plane.say(post()), await plane.say(head + b"content-length: %d\r\n\r\n" % len(packed) + packed)]

    answers, (stable, canary), _ = served(tmp_path, ask, stable=NAMED, canary=TEXT, pct=100.0)
    assert [b"\r\nx-shipway-prompt: prompts:/support/3\r\n" in answer for answer in answers] == [True, True]
    expected = [{"role": "system", "content": "Be brief."}, *HELLO["messages"]]
    assert ([body["messages"] for body in canary.bodies], stable.requests) == ([expected, expected], [])
    assert not [head for head in canary.requests if b"content-encoding" in head]


def test_how_answers_are_sampled_has_no_name(tmp_path):
    """Beside an application's prompt its requests say none, and count."""

    async def ask(plane):
        return await plane.say(post())

    answer, (stable, _), counts = served(tmp_path, ask, stable=COLD, canary=WRITTEN, pct=0.0001)
    assert (b"x-shipway-prompt" in answer, stable.bodies[0]["temperature"], counts[0][0]) == (False, 0.2, 1)


def test_a_prompt_that_only_the_canary_cannot_fill_is_its_failure(tmp_path):
    """Its user is saved by stable."""

    async def ask(plane):
        return status_of(await plane.say(post()))

    status, (stable, canary), counts = served(tmp_path, ask, stable=TEXT, canary=NAMED, pct=100.0)
    assert (status, len(stable.requests), canary.requests, counts) == (200, 1, [], ((0, 0, 0), (1, 1, 0)))


def test_a_request_that_fits_no_arm_is_nobodys_failure(tmp_path):
    """Its client hears what is missing, and the next request is answered."""

    async def ask(plane):
        refused = await plane.say(post())
        return status_of(refused), b"E_PROMPT" in refused, plane.gateway.proxy.open

    (status, is_named, still_open), _, counts = served(tmp_path, ask, stable=NAMED, canary=NAMED, pct=100.0)
    assert (status, is_named, still_open, counts[1][1]) == (400, True, set(), 0)


GET = b"GET /assignment HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"


def test_an_application_asks_which_prompt_its_user_gets(tmp_path):
    """The same that his requests meet, which count where they say that they have it."""

    async def ask(plane):
        said = [json.loads(body_of(await plane.say(GET + b"x-user: %d\r\n\r\n" % n))) for n in range(8)]
        for n, one in enumerate(said):
            named = b"" if n == 0 or not one["prompt"] else b"x-shipway-prompt: %b\r\n" % one["prompt"].encode()
            await plane.say(post().replace(b"\r\n\r\n", b"\r\nx-user: %d\r\n%b\r\n" % (n, named), 1))
        return said

    said, (stable, canary), counts = served(
        tmp_path, ask, stable=TEXT, canary=WRITTEN, pct=50.0, assign="header:x-user"
    )
    of_canary = [one for one in said if one["arm"] == "canary"]
    assert {(one["prompt"], one["applied_by"]) for one in of_canary} == {("prompts:/support/4", "application")}
    assert (len(stable.requests), len(canary.requests)) == (8 - len(of_canary), len(of_canary))
    assert [body["messages"] for body in canary.bodies] == [HELLO["messages"]] * len(of_canary)
    assert counts[0][0] + counts[1][0] == 7  # the first user's application did not say which prompt it wrote


@pytest.mark.parametrize(
    ("rule", "request_", "status", "code"),
    [
        ("", GET + b"x-user: 1\r\n\r\n", 404, b"E_ASSIGNMENT"),
        ("header:x-user", GET + b"\r\n", 400, b"E_ASSIGNMENT"),
        ("header:x-user", GET.replace(b"GET", b"POST") + b"content-length: 0\r\n\r\n", 405, b"E_METHOD"),
    ],
)
def test_who_cannot_be_told_is_told_why(tmp_path, rule, request_, status, code):
    """And no arm is asked."""

    async def ask(plane):
        return await plane.say(request_)

    answer, heard, _ = served(tmp_path, ask, stable=TEXT, canary=WRITTEN, pct=50.0, assign=rule)
    assert (status_of(answer), code in answer, [one.requests for one in heard]) == (status, True, [[], []])


def test_a_split_with_prompts_is_read_as_it_was_written():
    """On the admin socket, and from the snapshot."""
    one = Rewrite("prompts:/a/1", "t {{ x }}", sampling=(("stop", ("a", "b")), ("top_p", 0.5)), variables=("x",))
    arms = (
        Arm("sha256:0", ("http://127.0.0.1:1",), rewrite=one),
        Arm("sha256:1", ("http://127.0.0.1:2",), rewrite=TURNS),
    )
    split = TrafficSplit((1, 2), *arms, 5.0, 60.0)
    assert TrafficSplit.from_dict(json.loads(json.dumps(split.as_dict()))) == split
