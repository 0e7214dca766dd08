"""Prompts in MLflow's registry: read once, at a version, and never rendered by MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pipelines.adapters.mlflow.client import open_client
from pipelines.adapters.mlflow.errors import mapped
from pipelines.adapters.mlflow.schema import database_file
from pipelines.adapters.sql.shown_address import shown_address
from pipelines.errors import BadInput, NotFound
from pipelines.supply.prompt import StoredPrompt

SAMPLED = ("frequency_penalty", "max_tokens", "presence_penalty", "temperature", "top_k", "top_p")
"""What of a prompt's `model_config` is how answers are sampled; the rest names a provider, and a model of it."""

STOPS = "stop_sequences"
NO_ALIAS = "Prompt alias "
"""How MLflow refuses, as a value that is wrong, to find an alias that a prompt does not have."""


class MlflowPrompts:
    """Implements `PromptRegistry` on MLflow's."""

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri

    def load(self, uri: str) -> StoredPrompt:
        """One version. A prompt whose answers have a schema is refused: only a request can ask for that."""
        name, _, which = uri.removeprefix("prompts:/").replace("@", "/").partition("/")
        if (file := database_file(self._uri)) and not file.exists():
            raise self._absent(uri)  # asking MLflow would make the file
        try:
            with mapped(f"read {uri}", self._uri):
                found = self._client.get_prompt_version(name, which)
        except BadInput as error:
            if NO_ALIAS not in error.reason:
                raise
            found = None
        if found is None:
            raise self._absent(uri)
        if found.response_format is not None:
            raise BadInput(
                f"{uri} has a response_format, which is not put into requests",
                code="E_PROMPT",
                field="prompt",
                hint="send response_format with each request, and register the prompt without it",
            )
        text = found.template if isinstance(found.template, str) else ""
        said = () if isinstance(found.template, str) else found.template
        messages = tuple((str(message["role"]), _content(message, uri)) for message in said)
        return StoredPrompt(f"prompts:/{name}/{found.version}", text, messages, _sampling(found.model_config or {}))

    def _absent(self, uri: str) -> NotFound:
        return NotFound(f"{shown_address(self._uri)} has no {uri}", code="E_PROMPT", field="prompt")

    @cached_property
    def _client(self) -> Any:
        return open_client(self._uri)


def _content(message: Mapping[str, Any], uri: str) -> str:
    content = message.get("content")
    if not isinstance(content, str):
        raise BadInput(f"{uri} has a message that is no text", code="E_PROMPT", field="prompt", expected="text")
    return content


def _sampling(config: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: config[name] for name in SAMPLED if config.get(name) is not None}
    return {**said, **({"stop": list(config[STOPS])} if config.get(STOPS) else {})}
