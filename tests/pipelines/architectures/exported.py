"""Does the exported engine answer as transformers does, before anything is quantized?

The export and its check are the product's own (`pipelines.compress.onnx_export`), the engine is ONNX Runtime, the texts
are the walk's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.compress.onnx_export import export_exact
from pipelines.compress.technique import CompressionFailed
from tests.pipelines.architectures.walk import by_reason, difference, one_line, tiny_models

FIVE_EXPORTED = ("distilbert", "roberta", "gpt2", "albert", "qwen3")
"""Families that `.ci/run` asks: of the accepted ones that can be exported."""


class CannotBeExported(Exception):
    """Torch's exporter does not make it, or the product's own check refuses it; the first reason."""


@dataclass
class Exports:
    """The accepted architectures that were exported; reasons lead to names."""

    equal: list[str] = field(default_factory=list)
    omitted: dict[str, str] = field(default_factory=dict)
    """What cannot be exported, or is refused by the check beside the export: its source ships."""
    unlike: dict[str, str] = field(default_factory=dict)
    """Exported, and answered otherwise than by transformers."""

    def figures(self) -> dict[str, Any]:
        """Counts, and the names by reason."""
        return {
            "tried": len(self.equal) + len(self.omitted) + len(self.unlike),
            "exported": len(self.equal) + len(self.unlike),
            "equal": len(self.equal),
            "omitted_by_reason": by_reason(self.omitted),
            "unlike_by_reason": by_reason(self.unlike),
        }


def walk_exported(root: Path, accepted: Sequence[str]) -> Exports:
    """Export each of these, and ask it what transformers is asked."""
    found = Exports()
    for name, folder in tiny_models(root, accepted, found.omitted):
        try:
            unlike = exported_difference(folder)
        except CannotBeExported as error:
            found.omitted[name] = str(error)
            continue
        if unlike:
            found.unlike[name] = unlike
        else:
            found.equal.append(name)
    return found


def exported_difference(folder: Path) -> str:
    """How the exported model answers otherwise than transformers; "" where alike. CannotBeExported says why not."""
    try:
        export_exact(folder, folder / "model.onnx")
    except Exception as error:  # exporters raise anything
        raise CannotBeExported(_cause(error)) from error
    return difference(folder, "onnxruntime")


def _cause(error: BaseException) -> str:
    """What began it: the exporter only says in which of its steps."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) if isinstance(error, CompressionFailed) else one_line(error)
