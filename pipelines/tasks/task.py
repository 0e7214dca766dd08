"""What must be known of what a model does, to release it?

The stages ask a task and never look into what it hands them: what a row is, what an answer looks like and when two of
them agree is known in the task's own folder and nowhere else. A task is pure but for reading files and running engines;
what is asked of a staged server is a `Question`, which the stage sends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from evals.evidence import Evidence
from evals.gate import Reason, Verdict
from evals.offline.gain import Gain
from pipelines.compress.technique import Technique
from pipelines.records.split import Rewrite
from pipelines.spec.evaluate import EvaluateSpec
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.spec.serve import ServeSpec
from pipelines.supply.layout import ModelLayout
from pipelines.tasks.memory import Device, MemoryNeed

Facts = Mapping[str, Any]
"""What a bundle says about itself: its engine, and what its task promises to callers."""

Golden = Mapping[str, Any]
"""Some answers that must be given again, as plain JSON data. `rows` are their places among the rows."""

Told = Callable[[str, int, int], None]
"""Hears a subject's name, how many of its rows were asked, and of how many."""

Clock = Callable[[], float]
"""Monotonic seconds."""


class TaskRows(Protocol):
    """The rows of an evaluation, whatever a row is."""

    @property
    def digest(self) -> str:
        """Of the file that they were read from."""
        ...

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a person should know of them that refuses none: a sentence each."""
        ...


@dataclass(frozen=True)
class Subject:
    """A model that can be asked: its files, and the facts that its engine needs."""

    name: str
    folder: Path
    facts: dict[str, Any]
    at: str = ""
    """Where its engine lives on this machine, if it was brought."""

    @property
    def size_mb(self) -> float:
        """The files' size in MB."""
        return sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file()) / 1e6


@dataclass(frozen=True)
class Question:
    """What a server is asked: `body` is posted as JSON to `path`. `name` says in a sentence which one it was."""

    path: str
    body: Mapping[str, Any]
    name: str = ""


@dataclass(frozen=True)
class Beside:
    """A row in which candidate and champion differ: what was asked, what is right, and what each one answered.

    `lost` and `won` are metrics by which one of them is right and the other wrong; `by` is how much worse the candidate
    is by others.
    """

    number: int
    asked: str
    right: str
    candidate: str
    champion: str
    lost: tuple[str, ...] = ()
    won: tuple[str, ...] = ()
    by: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Differences:
    """The worst of the rows in which candidate and champion differ, the worst first, and how many there are in all."""

    rows: tuple[Beside, ...] = ()
    total: int = 0
    champion: str = ""


R = TypeVar("R", bound=TaskRows)


class Task(Protocol[R]):
    """What a model does. `R` are its rows."""

    @property
    def name(self) -> str:
        """Such as `classification`: what the facts of a bundle call it."""
        ...

    @property
    def engine(self) -> str:
        """The engine that runs a model as it was registered, which is the reference for every other."""
        ...

    def takes(self, config: Mapping[str, Any]) -> bool:
        """Whether a model of this configuration does that."""
        ...

    def check_spec(self, spec: ReleaseSpec) -> None:
        """BadInput names what the spec asks for, and such a model does not do."""
        ...

    def promises(self, layout: ModelLayout, serve: ServeSpec, rewrite: Rewrite | None = None) -> dict[str, Any]:
        """What do callers of this model rely on, served and asked so? It becomes part of its bundle's facts.

        `task` is among it, except for classification: bundles said nothing before there were other tasks.
        """
        ...

    def memory(
        self, layout: ModelLayout, facts: Facts, spec: ReleaseSpec, devices: Sequence[Device] = ()
    ) -> MemoryNeed | None:
        """What it takes to judge and to serve it so, here; None where that is not known before it runs.

        BadInput E_MEMORY or E_ENGINE where an engine that was brought cannot hold it on these devices.
        """
        ...

    def judge_contract(self, candidate: Facts, champion: Facts | None) -> Verdict:
        """Does the candidate keep the champion's promises? Each mismatch is named."""
        ...

    def read_rows(self, plan: EvaluateSpec, file: Path, facts: Facts) -> R:
        """The rows that fit a model of these facts. BadInput E_DATASET names the row that is wrong."""
        ...

    def compare_tokens(self, folder: Path, facts: Facts, rows: R) -> int:
        """Of how many rows was it seen that a server reads them as transformers does? Needs transformers.

        BadInput E_TOKENIZER or E_DATASET names the first row that differs.
        """
        ...

    def measure(
        self, plan: EvaluateSpec, rows: R, subject: Subject, champion: Subject | None, clock: Clock, told: Told
    ) -> tuple[Evidence, Golden, Differences]:
        """How good is it, beside the champion on the same rows; and which answers must a server repeat?

        Differences are those that somebody may want to read.
        """
        ...

    def variants(self, spec: ReleaseSpec, rows: R) -> tuple[Technique, ...]:
        """What is tried to make the model smaller or faster, best guess first; none where the spec asks for none."""
        ...

    def carrier(self, spec: ReleaseSpec, rows: R) -> Technique | None:
        """What the model must become before anything serves it; None where its source can be served."""
        ...

    def gain(self, rows: R, source: Subject, variant: Subject, threads: int, clock: Clock) -> Gain:
        """What does a variant win over its source, on this machine and with so many threads?"""
        ...

    def question(self, model: str, rows: R, row: int) -> Question:
        """One row as a user would ask it; rows count from 0, and begin again after the last."""
        ...

    def read_answer(self, body: Any) -> Any:
        """What an answer's JSON says. KeyError or ValueError where it is no answer to a question of this task."""
        ...

    def judge_golden(self, golden: Golden, answers: Sequence[Any]) -> Reason:
        """Are these, in their order, the golden answers? Within what engines and batches differ by."""
        ...

    def odd_questions(self, model: str) -> tuple[Question, ...]:
        """Long and odd inputs, by name, that a server answers or refuses."""
        ...

    def is_sane(self, answer: Any) -> bool:
        """Whether an answer that was read can be one: its numbers are numbers."""
        ...

    def largest_question(self, model: str, rows: R) -> Question:
        """The largest request that any user may send, in the rows' own words; its name says how large."""
        ...
