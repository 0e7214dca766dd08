"""Does every registry of prompts say which version a name has, and that there is none?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.memory.prompts import MemoryPrompts
from pipelines.adapters.mlflow.client import open_client
from pipelines.adapters.mlflow.prompts import MlflowPrompts
from pipelines.errors import BadInput, NotFound
from pipelines.supply.prompt import PromptRegistry, StoredPrompt

TURNS = (("system", "Be kind to {{ name }}."), ("user", "Hi"))
Register = Callable[..., None]


class PromptRegistryContract:
    """What a registry of prompts must do; an adapter gives `prompts` and `register`."""

    @pytest.fixture
    def prompts(self) -> PromptRegistry:
        """The adapter under test."""
        raise NotImplementedError

    @pytest.fixture
    def register(self) -> Register:
        """Adds a version of `support`: its text or messages, its sampling, its alias."""
        raise NotImplementedError

    def test_a_version_is_found_by_its_number_and_by_its_alias(self, prompts, register):
        """Text, messages, and how answers are sampled, under the number."""
        register("Be brief.", {"temperature": 0.5, "max_tokens": 9}, alias="production")
        register(TURNS)
        first = StoredPrompt("prompts:/support/1", "Be brief.", sampling={"temperature": 0.5, "max_tokens": 9})
        assert prompts.load("prompts:/support@production") == prompts.load("prompts:/support/1") == first
        assert prompts.load("prompts:/support/2") == StoredPrompt("prompts:/support/2", messages=TURNS)

    @pytest.mark.parametrize("asked", ["prompts:/support/2", "prompts:/support@staging", "prompts:/other/1"])
    def test_what_is_not_there_is_not_found(self, prompts, register, asked):
        """By its name; another version is no substitute."""
        register("Be brief.", {})
        with pytest.raises(NotFound):
            prompts.load(asked)


class TestMemoryPrompts(PromptRegistryContract):
    """In memory."""

    @pytest.fixture
    def prompts(self) -> MemoryPrompts:
        """An empty one."""
        return MemoryPrompts()

    @pytest.fixture
    def register(self, prompts: MemoryPrompts) -> Register:
        """As it is held."""

        def register(said: Any, sampling: Any = None, alias: str = "") -> None:
            versions = prompts.held.setdefault("support", [])
            parts = {"text": said} if isinstance(said, str) else {"messages": said}
            versions.append(StoredPrompt(f"prompts:/support/{len(versions) + 1}", **parts, sampling=sampling or {}))
            if alias:
                prompts.aliases[f"support@{alias}"] = len(versions)

        return register


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all of them."""
    return f"sqlite:///{tmp_path_factory.mktemp('prompts') / 'mlflow.db'}"


@pytest.mark.integration
class TestMlflowPrompts(PromptRegistryContract):
    """Real MLflow on SQLite."""

    @pytest.fixture
    def prompts(self, uri: str) -> MlflowPrompts:
        """The adapter."""
        return MlflowPrompts(uri)

    @pytest.fixture
    def register(self, uri: str) -> Any:
        """By MLflow's client; whatever was registered is deleted afterwards."""
        client = open_client(uri)

        def register(said: Any, sampling: Any = None, alias: str = "", **more: Any) -> None:
            template = said if isinstance(said, str) else [{"role": role, "content": text} for role, text in said]
            made = client.register_prompt("support", template, model_config=sampling or None, **more)
            if alias:
                client.set_prompt_alias("support", alias, made.version)

        yield register
        client.delete_prompt("support")

    def test_a_schema_of_answers_is_refused(self, prompts, register):
        """It would be lost without a word: only a request asks for it."""
        register("Be brief.", response_format={"type": "object"})
        with pytest.raises(BadInput, match="response_format"):
            prompts.load("prompts:/support/1")

    def test_what_stands_beside_sampling_is_left(self, prompts, register):
        """A provider, and a model of its; where an answer stops is called so here."""
        register("a", {"provider": "p", "model_name": "m", "stop_sequences": ["END"], "top_p": 0.5})
        assert prompts.load("prompts:/support/1").sampling == {"top_p": 0.5, "stop": ["END"]}

    def test_a_model_is_no_prompt(self, prompts, uri):
        """MLflow keeps both in one table."""
        client = open_client(uri)
        client.create_registered_model("a-model")
        with pytest.raises(BadInput, match="registered as a model"):
            prompts.load("prompts:/a-model/1")

    def test_asking_makes_no_database(self, tmp_path: Path):
        """Whoever plans changes nothing."""
        with pytest.raises(NotFound):
            MlflowPrompts(f"sqlite:///{tmp_path / 'none.db'}").load("prompts:/a/1")
        assert list(tmp_path.iterdir()) == []
