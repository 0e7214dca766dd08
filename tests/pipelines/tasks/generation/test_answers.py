"""Is an answer read alike in all shapes that engines write, and is what is none said to be none?"""

from __future__ import annotations

from math import isnan

import pytest

from pipelines.tasks.generation.answers import read_answer


def chat(**message: object) -> dict[str, object]:
    """An answer to a conversation."""
    return {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": "stop"}]}


TOKEN = {"token": "a", "logprob": -0.1, "top_logprobs": [{"token": "a", "logprob": -0.1}, {"logprob": -2.1}]}


def test_a_chat_says_how_sure_each_token_was():
    """By the second likeliest."""
    body = chat(content="a")
    body["choices"][0]["logprobs"] = {"content": [TOKEN]}
    choice = read_answer(body)
    assert (choice.text, choice.is_finished) == ("a", True)
    assert choice.tokens == (("a", -0.1, pytest.approx(2.0)),)


def test_a_completion_in_both_shapes_says_the_same():
    """OpenAI's own, and that of llama.cpp, which writes the chat's."""
    old = {"tokens": ["a"], "token_logprobs": [-0.1], "top_logprobs": [{"a": -0.1, "b": -2.1}]}
    read = [
        read_answer({"choices": [{"text": "a", "finish_reason": "length", "logprobs": said}]})
        for said in (old, {"content": [TOKEN]})
    ]
    assert read[0].tokens[0][2] == pytest.approx(read[1].tokens[0][2]) == pytest.approx(2.0)
    assert [(c.text, c.finish, c.is_finished) for c in read] == [("a", "length", False)] * 2


def test_an_engine_need_not_name_the_second_likeliest():
    """Then nobody knows how near it was."""
    said = {"tokens": ["a", "b"], "token_logprobs": [-0.1, None]}
    choice = read_answer({"choices": [{"text": "ab", "finish_reason": "stop", "logprobs": said}]})
    assert [ahead for _, _, ahead in choice.tokens] == [None, None]
    assert isnan(choice.tokens[1][1])


def test_calls_of_tools_are_read_with_their_arguments_as_they_were_written():
    """No arguments are none."""
    calls = [{"function": {"name": "look", "arguments": '{"a": 1}'}, "id": "x"}, {"function": {"name": "stop"}}]
    assert read_answer(chat(content=None, tool_calls=calls)).calls == (("look", '{"a": 1}'), ("stop", ""))
    assert read_answer(chat(content="a", tool_calls=None)).calls == ()


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "function_call"])
def test_these_ends_are_its_own(reason):
    """The others are its length or a filter's."""
    body = chat(content=None)
    body["choices"][0]["finish_reason"] = reason
    assert (read_answer(body).text, read_answer(body).is_finished) == ("", True)
    body["choices"][0]["finish_reason"] = None
    assert (read_answer(body).finish, read_answer(body).is_finished) == ("", False)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "text",
        {},
        {"error": {"message": "no"}},
        {"choices": []},
        {"choices": None},
        {"choices": [None]},
        {"choices": [{}]},
        {"choices": [{"text": "a"}]},
        {"choices": [{"message": None, "finish_reason": "stop"}]},
        {"choices": [{"message": "a", "finish_reason": "stop"}]},
        {"choices": [{"message": {"content": "a", "tool_calls": [{"function": {}}]}, "finish_reason": "stop"}]},
        {"choices": [{"text": "a", "finish_reason": "stop", "logprobs": [1]}]},
        {"choices": [{"text": "a", "finish_reason": "stop", "logprobs": {"content": [{}]}}]},
        {"choices": [{"text": "a", "finish_reason": "stop", "logprobs": {"content": [5]}}]},
        {"choices": [{"text": "a", "finish_reason": "stop", "logprobs": {"tokens": ["a"], "token_logprobs": ["x"]}}]},
    ],
)
def test_what_is_no_answer_is_a_value_error(body):
    """One kind, whatever came back: who asks a staged server knows it."""
    with pytest.raises(ValueError, match="no answer"):
        read_answer(body)
