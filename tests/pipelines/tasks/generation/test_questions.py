"""Is a row asked as a user would ask it, and alike each time?"""

from __future__ import annotations

import json
from dataclasses import replace

from pipelines.tasks.generation.forms.form import Form
from pipelines.tasks.generation.questions import largest, odd, of_row
from pipelines.tasks.generation.rows import Row

CHAT = Row(({"role": "user", "content": "Hello"},), ("Hi",), "", 3)
PROMPT = Row("The quick", (), "", 4)


def test_a_conversation_and_a_prompt_have_their_own_doors():
    """And each is asked for likelihoods in its own words."""
    chat, prompt = of_row("m", CHAT, 32), of_row("m", PROMPT, 32)
    assert (chat.path, chat.body["messages"]) == ("/v1/chat/completions", [{"role": "user", "content": "Hello"}])
    assert (chat.body["logprobs"], chat.body["top_logprobs"]) == (True, 2)
    assert (prompt.path, prompt.body["prompt"], prompt.body["logprobs"]) == ("/v1/completions", "The quick", 2)
    assert (chat.name, prompt.name) == ("row 3", "row 4")


def test_what_a_row_sends_beside_its_messages_is_sent():
    """And a schema that nobody is to hear of is not."""
    sent = {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"}
    body = of_row("m", replace(CHAT, form=Form(sent)), 32).body
    assert (body["tools"], body["tool_choice"]) == (sent["tools"], "auto")
    assert of_row("m", replace(CHAT, form=Form({}, {"type": "object"})), 32) == of_row("m", CHAT, 32)


def test_nothing_is_left_to_chance():
    """Greedy, with a seed, and as long as the evaluation says."""
    for question in (of_row("m", CHAT, 32), of_row("m", PROMPT, 32)):
        said = {key: question.body[key] for key in ("model", "max_tokens", "temperature", "seed")}
        assert said == {"model": "m", "max_tokens": 32, "temperature": 0, "seed": 0}


def test_the_reference_is_not_asked():
    """A model that is told the answer is good at it."""
    assert "Hi" not in json.dumps(of_row("m", CHAT, 32).body)


def test_odd_questions_ask_the_model_by_its_name_and_end():
    """Each says how long its answer may be; what is odd comes last, so that it stays odd."""
    by_name = {question.name: question.body for question in odd("m")}
    assert {body["model"] for body in by_name.values()} == {"m"}
    assert all("max_tokens" in body for body in by_name.values())
    assert by_name["negative tokens"]["max_tokens"] == -5
    assert len(largest("m").body["prompt"]) == 1_000_000
