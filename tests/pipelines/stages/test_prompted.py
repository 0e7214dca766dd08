"""Is what is added to requests known before a release begins, and kept whatever becomes of the registry?"""

from __future__ import annotations

from typing import Any

import pytest

from evals.gate import Outcome
from pipelines.adapters.memory.prompts import MemoryPrompts
from pipelines.errors import BadInput, NotFound
from pipelines.records.release import Release
from pipelines.records.service import Deployment, Service
from pipelines.records.split import Rewrite
from pipelines.records.unit import Unit
from pipelines.services.units import server_units
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.spec.spec_file import parse_spec
from pipelines.stages.prompted import pinned, rewrite_of, since_pinned
from pipelines.supply.prompt import NoPromptRegistry, StoredPrompt
from pipelines.tasks.generation.generation import TextGeneration

SPEC = """
model: models:/m/1
service: s
evaluate: {data: rows.jsonl, gates: [{metric: finished, min: 0.0}]}
serve: {api: openai}
"""
STORED = StoredPrompt("prompts:/support/2", "Be kind to {{ name }}.", sampling={"temperature": 0.3, "top_p": 0.9})

TURNS = (("system", "Be kind."), ("user", "Hi"))


def asking(more: str, spec: str = SPEC) -> ReleaseSpec:
    """A spec that says this besides."""
    return parse_spec(f"{spec}{more}\n")


def store() -> MemoryPrompts:
    """Two versions of a prompt; one of them is in production."""
    first = StoredPrompt("prompts:/support/1", messages=TURNS)
    return MemoryPrompts({"support": [first, STORED]}, {"support@production": 2})


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", None),
        (
            "prompt: prompts:/support@production",
            Rewrite(STORED.uri, STORED.text, sampling=(("temperature", 0.3), ("top_p", 0.9))),
        ),
        (
            "prompt: prompts:/support/1",
            Rewrite("prompts:/support/1", messages=(("system", "Be kind."), ("user", "Hi"))),
        ),
        ("prompt: {text: Be brief.}", Rewrite(text="Be brief.")),
        (
            "prompt: {messages: [{role: system, content: 'It is {{ day }}.'}], variables: [day]}",
            Rewrite(messages=(("system", "It is {{ day }}."),), variables=("day",)),
        ),
        (
            "sampling: {max_tokens: 9, stop: [END], override: true}",
            Rewrite(sampling=(("max_tokens", 9), ("stop", ("END",))), overrides=True),
        ),
        (
            "prompt: prompts:/support/2\nsampling: {temperature: 1}",
            Rewrite(STORED.uri, STORED.text, sampling=(("temperature", 1.0), ("top_p", 0.9))),
        ),
        (
            "prompt: {text: Be brief., apply: application}\nrollout: {assign: {by: header, name: x-user}}",
            Rewrite(text="Be brief.", by_application=True),
        ),
    ],
)
def test_what_the_spec_asks_for_is_found(more, expected):
    """With the number of the version that an alias names, and its own sampling unless the spec says otherwise."""
    assert rewrite_of(asking(more), store()) == expected


@pytest.mark.parametrize(
    "more",
    [
        "prompt: prompts:/support",
        "prompt: support/3",
        "prompt: {}",
        "prompt: {text: a, uri: 'prompts:/support/1'}",
        "prompt: {text: ' '}",
        "prompt: {text: '{% for x in y %}'}",
        "prompt: {text: '{{ user.__class__ }}'}",
        "prompt: {text: '{# a remark #}'}",
        "prompt: {text: 'a {{ b'}",
        "prompt: {messages: [{role: tool, content: a}]}",
        "prompt: {text: a, apply: application}",
        "prompt: {text: a, variables: ['a b']}",
        "sampling: {}",
        "sampling: {temperature: -1}",
        "sampling: {max_tokens: 0}",
        "sampling: {logit_bias: {}}",
    ],
)
def test_what_cannot_be_asked_is_refused(more):
    """Before anything begins: a template that would have to be evaluated among it."""
    with pytest.raises(BadInput):
        asking(more)


@pytest.mark.parametrize(
    ("serve", "said"),
    [("{}", "serve.api: openai"), ("{api: openai, router: haproxy}", "haproxy rewrites no requests")],
)
def test_what_cannot_be_rewritten_is_refused(serve, said):
    """A classifier's request, and what another router splits."""
    with pytest.raises(BadInput, match=said):
        asking("prompt: {text: a}", SPEC.replace("{api: openai}", serve))


@pytest.mark.parametrize("uri", ["prompts:/support/3", "prompts:/support@staging", "prompts:/other/1"])
def test_a_prompt_that_is_not_there_is_named(uri):
    """By its own name."""
    with pytest.raises(NotFound, match=uri):
        rewrite_of(asking(f"prompt: {uri}"), store())
    with pytest.raises(NotFound, match=uri):
        rewrite_of(asking(f"prompt: {uri}"), NoPromptRegistry())


def test_a_stored_prompt_is_no_template_either():
    """Whoever may write to the registry may not make the gateway compute."""
    prompts = MemoryPrompts({"a": [StoredPrompt("prompts:/a/1", "{% for i in range(9**9) %}{% endfor %}")]})
    with pytest.raises(BadInput, match="would have to be evaluated"):
        rewrite_of(asking("prompt: prompts:/a/1"), prompts)


def test_what_was_pinned_is_released():
    """And what became of it since is said."""
    prompts, rewrite = store(), rewrite_of(asking("prompt: prompts:/support/2"), store())
    assert rewrite is not None
    release = Release().record(
        0.0, "resolved", candidate={"model": "m", "version": 1, "artifact_digest": "x"}, rewrite=rewrite.as_dict()
    )
    assert (pinned(release), since_pinned(rewrite, prompts)) == (rewrite, "")
    prompts.held["support"][1] = StoredPrompt(STORED.uri, "Be rude to {{ name }}.")
    assert "was changed since" in since_pinned(rewrite, prompts)
    prompts.held["support"].pop()
    assert "not in the registry any more" in since_pinned(rewrite, prompts)
    assert since_pinned(Rewrite(text="a"), prompts) == since_pinned(None, prompts) == ""


def test_a_deployment_keeps_its_rewrite():
    """In its record, and in the units that serve it; one without is written as ever."""
    rewrite = Rewrite("prompts:/a/1", "a", sampling=(("stop", ("b",)),))
    plain = Deployment("sha256:1", "/b", "m", 1, "r-1")
    asked = Deployment("sha256:1", "/b", "m", 1, "r-1", rewrite=rewrite)
    assert "rewrite" not in plain.as_dict()
    assert [Deployment.from_dict(one.as_dict()) for one in (plain, asked)] == [plain, asked]
    (unit,) = server_units(Service("s"), asked)
    assert (unit.rewrite, Unit.from_dict(unit.as_dict())) == (rewrite, unit)


FACTS: dict[str, Any] = {"context": 9, "chats": True}


@pytest.mark.parametrize(
    ("mine", "theirs", "is_kept"),
    [
        (Rewrite(text="{{ a }}"), Rewrite(text="{{ a }} {{ b }}"), True),
        (Rewrite(text="{{ a }}"), Rewrite(text="b"), False),
        (Rewrite(text="{{ a }}"), None, False),
        (Rewrite(text="{{ a }}", variables=("a",)), None, True),
        (Rewrite(text="a"), None, True),
    ],
)
def test_callers_send_what_a_prompt_needs(mine, theirs, is_kept):
    """What the champion's needs they send, and what the spec says."""
    champion = {**FACTS, **({"rewrite": theirs.as_dict()} if theirs else {})}
    verdict = TextGeneration().judge_contract({**FACTS, "rewrite": mine.as_dict()}, champion)
    assert (verdict.outcome is Outcome.PASS, "needs a, which" in verdict.because()) == (is_kept, not is_kept)
