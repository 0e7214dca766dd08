"""How is a model asked all rows, in a child that can harm nobody, and how far is it?"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import nan
from pathlib import Path
from time import monotonic
from typing import Any

from evals.offline.written import Written
from pipelines.errors import BadInput, UnsafeArtifact
from pipelines.serving.engines.streaming import EnginePlace
from pipelines.spec.engine import BROUGHT
from pipelines.supply.layout import TOKENIZER
from pipelines.supply.oracle.child import BOUNDS, Bounds, NoAnswer, ask, devices
from pipelines.tasks.generation.prompts import rewrite_in, sampling_in
from pipelines.tasks.generation.rows import Prompts
from pipelines.tasks.task import Subject

_PROGRAM = "pipelines.tasks.generation.program"
STALLED_S = 900.0
"""Nothing is written for so long: a model is loaded meanwhile, or it hangs."""

MOST_S, MOST_CPU_S, MOST_ANSWER_MB = 24 * 3600.0, 96 * 3600, 2048
SMALL_MB = 64
"""Matrices of smaller models are too small to be shared out between threads."""

READ_MB, READ_S = 16, 10
"""What reading a million characters may take besides what the libraries do."""

SPARE_MB, TIMES_WEIGHTS = 4096, 3
"""Weights are held in 32 bits by the reference, twice as large as most files; what is computed needs room, too."""

Said = Mapping[str, Any]
"""What a model made of a row: `answer`, `ms`, `holds`, `scores`, `is_asked`, and of its reference `tokens`, `loss`,
`likeliest`, `kl`, …"""

MOST_KNOWN = 4
_known: dict[str, tuple[Said, ...]] = {}
"""The last answers: the champion is asked once, whatever is compared with it."""

Heard = Callable[[int], None]
"""Hears how many rows were asked."""


def count_tokens(folder: Path, rows: Prompts) -> list[int]:
    """How many tokens has each row, with its template? BadInput E_TEMPLATE or E_DATASET names the row at fault.

    E_TOKENIZER where transformers cannot load the tokenizer, or reads with it for ever.
    """
    asked = {
        "do": "read",
        "folder": str(folder.absolute()),
        "rows": [row.as_dict() for row in rows.after(rows.rewrite)],
    }
    mb = sum(len(row.text) for row in rows.rows) >> 20
    bounds = Bounds(BOUNDS.memory_mb + READ_MB * mb, BOUNDS.cpu_s + READ_S * mb, BOUNDS.wall_s + 4 * READ_S * mb)
    try:
        return list(_answered(asked, bounds, None)["tokens"])
    except RuntimeError as error:
        reason = f"transformers cannot read the rows with this tokenizer: {error}"[:300]
        hint = "load the folder with AutoTokenizer, see what it answers, and save it again with save_pretrained"
        raise UnsafeArtifact(reason, code="E_TOKENIZER", field=TOKENIZER, hint=hint) from error


def ask_all(
    subject: Subject, rows: Prompts, heard: Heard, *, champion: Sequence[Said] | None, keep: bool
) -> tuple[Said, ...]:
    """What the subject makes of each row; `keep` says how likely it found other tokens, for who is compared with it.

    Asked once for one subject and the same rows, as long as this process lives.
    """
    question = {
        "do": "write",
        "folder": str(subject.folder.absolute()),
        "facts": subject.facts,
        "rows": [row.as_dict() for row in rows.after(rewrite_in(subject.facts))],
        "most_tokens": rows.most_tokens,
        "sampling": sampling_in(subject.facts),
        "at": subject.at if subject.facts["engine"] in BROUGHT else "",
        "devices": devices(),
        "threads": len(os.sched_getaffinity(0)) if subject.size_mb > SMALL_MB else 1,
        "champion": [{"tokens": said["tokens"], "top": said["top"]} for said in champion] if champion else None,
        "keep_top": keep,
    }
    name = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
    if name not in _known:
        while len(_known) >= MOST_KNOWN:
            _known.pop(next(iter(_known)))
        _known[name] = _asked(question, int(subject.size_mb) + 1, heard)
    heard(len(rows.rows))
    return _known[name]


def as_written(said: Said) -> Written:
    """The same for the metrics."""
    answer = said["answer"]
    return Written(
        said["text"],
        said["finished"],
        nan if said["ms"] is None else said["ms"],
        said["holds"],
        tuple(said["tokens"]),
        tuple(said["loss"]),
        tuple(said["likeliest"]),
        tuple(said["kl"]),
        said["bytes"],
        said["scores"],
        said["is_asked"],
        tuple((name, arguments) for name, arguments in answer["calls"]),
    )


def _asked(question: Mapping[str, Any], weights_mb: int, heard: Heard) -> tuple[Said, ...]:
    with _at_an_address(question) as at:
        return _asked_there({**question, "at": at}, weights_mb, heard)


@contextmanager
def _at_an_address(question: Mapping[str, Any]) -> Iterator[str]:
    """Where the child finds the engine: it has no way to the Docker Engine, and is told a URL instead of an image."""
    place = EnginePlace(question["threads"], question["at"])
    if not place.is_image:
        yield place.at
        return
    from pipelines.serving.engines import streaming_engine

    engine = streaming_engine(Path(question["folder"]), question["facts"], place, "model")
    try:
        url = engine.start(0)
    except BadInput as error:
        raise RuntimeError(str(error)) from error
    try:
        yield url
    finally:
        engine.stop()


def _asked_there(question: Mapping[str, Any], weights_mb: int, heard: Heard) -> tuple[Said, ...]:
    memory_mb = 0 if question["at"] else SPARE_MB + TIMES_WEIGHTS * weights_mb  # it takes what it takes for users
    bounds = Bounds(memory_mb, MOST_CPU_S, MOST_S, MOST_ANSWER_MB)
    with tempfile.TemporaryDirectory(prefix="shipway-asked-") as name:
        progress = Path(name) / "progress"
        progress.touch()
        asked = {**question, "progress": str(progress)}
        return tuple(_answered(asked, bounds, _Watch(progress, heard))["rows"])


class _Watch:
    """Looks how far a child is; NoAnswer where it has done nothing for too long."""

    def __init__(self, progress: Path, heard: Heard) -> None:
        self._progress, self._heard, self._done, self._since_s = progress, heard, 0, monotonic()

    def __call__(self) -> None:
        done = self._progress.stat().st_size
        if done != self._done:
            self._done, self._since_s = done, monotonic()
            self._heard(done)
        elif monotonic() - self._since_s > STALLED_S:
            raise NoAnswer(f"nothing was answered for {STALLED_S:g} s")


def _answered(question: Mapping[str, Any], bounds: Bounds, look: Callable[[], None] | None) -> dict[str, Any]:
    try:
        said = ask(_PROGRAM, question, bounds, look)
    except NoAnswer as error:
        raise RuntimeError(str(error)) from error
    if "error" in said:
        raise RuntimeError(said["error"])
    if refused := said.get("refused"):
        raise _refusal(refused)
    return said


def _refusal(refused: Mapping[str, Any]) -> BadInput:
    if refused["code"] == "E_TOKENIZER":
        hint = "is the tokenizer's folder what transformers of the engine's own version reads?"
        return UnsafeArtifact(
            f"row {refused['row']}: {refused['reason']}", code="E_TOKENIZER", field="tokenizer.json", hint=hint
        )
    if refused["code"] == "E_TEMPLATE":
        hint = "look at tokenizer.apply_chat_template of these messages"
        return UnsafeArtifact(
            f"row {refused['row']}: {refused['reason']}", code="E_TEMPLATE", field="chat_template", hint=hint
        )
    return BadInput(f"row {refused['row']}: {refused['reason']}", code=refused["code"], field="evaluate.data")
