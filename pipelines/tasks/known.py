"""Which task is it? A new one is a folder, and a case here.

A server imports this module, and of a task only its wire: what judges stays out of a serving process's memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.errors import BadInput
from pipelines.tasks.wire import Wire

if TYPE_CHECKING:
    from pipelines.tasks.task import Task

TASKS = ("classification", "generation")
"""By name. The first one is meant where none is named: bundles named none before there were others."""


def task_of(facts: Mapping[str, Any]) -> Task[Any]:
    """The task that a bundle's facts name. BadInput E_TASK where this Shipway does not know it."""
    name = _name_in(facts)
    match name:
        case "classification":
            from pipelines.tasks.classification.classification import Classification

            return Classification()
        case "generation":
            from pipelines.tasks.generation.generation import TextGeneration

            return TextGeneration()
    raise _unknown(name)


def wire_of(facts: Mapping[str, Any]) -> Wire:
    """What the callers of a bundle send and get. BadInput E_TASK where this Shipway does not know its task."""
    name = _name_in(facts)
    match name:
        case "classification":
            from pipelines.tasks.classification.wire import ClassificationWire

            return ClassificationWire.of(facts)
    raise _unknown(name)


def task_for(config: Mapping[str, Any]) -> Task[Any]:
    """The task of a model with this configuration; the first one where it names no known architecture."""
    tasks = [task_of({"task": name}) for name in TASKS]
    return next((task for task in tasks if task.takes(config)), tasks[0])


def _name_in(facts: Mapping[str, Any]) -> str:
    return str(facts.get("task", TASKS[0]))


def _unknown(name: str) -> BadInput:
    return BadInput(f"the task {name!r} is not known"[:200], code="E_TASK", field="task", expected=", ".join(TASKS))
