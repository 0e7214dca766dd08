"""A registry of prompts in memory, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.errors import NotFound
from pipelines.supply.prompt import StoredPrompt


@dataclass
class MemoryPrompts:
    """Implements `PromptRegistry`: `held` has the versions of each prompt, `aliases` the number of `NAME@ALIAS`."""

    held: dict[str, list[StoredPrompt]] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)

    def load(self, uri: str) -> StoredPrompt:
        """One version."""
        said = uri.removeprefix("prompts:/")
        name = said.partition("@")[0].partition("/")[0]
        number = self.aliases.get(said, 0) if "@" in said else int(said.partition("/")[2])
        versions = self.held.get(name, [])
        if not 0 < number <= len(versions):
            raise NotFound(f"there is no {uri}", code="E_PROMPT", field="prompt")
        return versions[number - 1]
