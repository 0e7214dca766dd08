"""Which prompt is this, and may it be put before what users say?

A prompt is text, or the messages that a conversation begins with, with variables as MLflow writes them: `{{ name }}`.
Nothing else in it is evaluated: a template that needs an engine of templates is refused, since whoever writes one could
make the gateway compute for ever, or read what it should not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipelines.errors import BadInput, NotFound

MOST_CHARACTERS, MOST_MESSAGES = 65_536, 50
ROLES = ("assistant", "developer", "system", "user")

VARIABLE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
"""As MLflow's prompts write one."""

_TO_EVALUATE = re.compile(r"\{%.{0,40}|\{#.{0,40}|\{\{.{0,40}", re.DOTALL)


@dataclass(frozen=True)
class StoredPrompt:
    """A version of a prompt in a registry: its text, or its messages (role, text), and how answers are sampled."""

    uri: str
    text: str = ""
    messages: tuple[tuple[str, str], ...] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)


class PromptRegistry(Protocol):
    """Where prompts have versions."""

    def load(self, uri: str) -> StoredPrompt:
        """The version that `prompts:/NAME/3` or `prompts:/NAME@ALIAS` names; its `uri` has the number.

        NotFound where there is none, DependencyDown where nobody answers.
        """
        ...


class NoPromptRegistry:
    """Implements `PromptRegistry` where there is none."""

    def load(self, uri: str) -> StoredPrompt:
        """Nothing is found."""
        raise NotFound(f"there is no registry of prompts that has {uri}", code="E_PROMPT", field="prompt")


def check_template(text: str, messages: Sequence[tuple[str, str]]) -> None:
    """BadInput E_PROMPT names what in a prompt cannot be filled in, or is too long."""
    texts = (text, *(said for _, said in messages))
    if not any(said.strip() for said in texts):
        raise _wrong("it is empty", "some text")
    if sum(map(len, texts)) > MOST_CHARACTERS or len(messages) > MOST_MESSAGES:
        reason = f"it has {sum(map(len, texts)):,} characters in {len(messages):,} messages"
        raise _wrong(reason, f"at most {MOST_CHARACTERS:,} in {MOST_MESSAGES}")
    for role, _ in messages:
        if role not in ROLES:
            raise _wrong(f"it has a message of {role[:40]!r}", ", ".join(ROLES))
    for said in texts:
        if "\0" in said or any("\ud800" <= character <= "\udfff" for character in said):
            raise _wrong("it has a NUL character or half a surrogate pair", "text in UTF-8")
        left = _TO_EVALUATE.search(VARIABLE.sub("", said))
        if left:
            hint = "fill variables only; what a template computes is computed by the application that sends the request"
            raise _wrong(f"{left[0][:40]!r} would have to be evaluated", "variables as {{ name }}", hint)


def _wrong(reason: str, expected: str, hint: str = "") -> BadInput:
    return BadInput(
        f"the prompt cannot be used: {reason}", code="E_PROMPT", field="prompt", expected=expected, hint=hint
    )


def variables_in(text: str, messages: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """What a request must say for a prompt, in the order of the text."""
    found = (name for said in (text, *(said for _, said in messages)) for name in VARIABLE.findall(said))
    return tuple(dict.fromkeys(found))
