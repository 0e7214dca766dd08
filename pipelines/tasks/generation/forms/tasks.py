"""Which rows does a task of lm-eval hold: a YAML file, and a JSONL file beside it?

A task becomes rows like any others, so that its metrics are paired, gated, sliced and shown as everywhere, and asked of
every engine. What lm-eval would do otherwise than such rows is refused by its name; no Python of a task is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from pipelines.errors import BadInput
from pipelines.supply.oracle.child import Bounds, NoAnswer, ask
from pipelines.supply.table import Table, wrong

ENDINGS = (".yaml", ".yml")
MOST_BYTES = 1024 * 1024
CHOICE, WRITE = "multiple_choice", "generate_until"
IGNORED = frozenset({"task", "task_alias", "tag", "metadata", "should_decontaminate", "doc_to_decontamination_query"})
READ = frozenset(
    {"dataset_path", "dataset_kwargs", "test_split", "validation_split", "output_type", "doc_to_text", "doc_to_target"}
    | {"doc_to_choice", "target_delimiter", "description", "generation_kwargs", "metric_list"}
)
ONLY: Mapping[str, tuple[Any, ...]] = {
    "dataset_path": ("json",),
    "dataset_name": (None,),
    "num_fewshot": (None, 0),
    "repeats": (1,),
    "output_type": (CHOICE, WRITE),
    "filter_list": (None, []),
    "gen_prefix": (None, ""),
    "unsafe_code": (False,),
}
"""Keys that are known with these values alone."""

METRICS = {CHOICE: {"acc", "acc_norm", "acc_bytes"}, WRITE: {"exact_match"}}
"""Of lm-eval; `choice` and `choice_norm`, and `exact_match` (but for white space), say the same of rows."""

SAMPLING: Mapping[str, tuple[Any, ...]] = {"do_sample": (False,), "temperature": (0, 0.0), "max_gen_toks": ()}
_PROGRAM = "pipelines.tasks.generation.forms.templates"
_BOUNDS = Bounds(memory_mb=1024, cpu_s=60, wall_s=120.0, file_mb=512)


class _NoPython(yaml.SafeLoader):
    """YAML without tags: `!function` names code."""


def _refuse_tag(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:  # noqa: ARG001
    raise yaml.constructor.ConstructorError(problem=f"!{suffix}", problem_mark=node.start_mark)


for _prefix in ("!", "tag:yaml.org,2002:python/"):
    _NoPython.add_multi_constructor(_prefix, _refuse_tag)


class TaskTable:
    """The rows of a task, as `Table` gives those of a file: its bytes, and its rows by number. BadInput E_DATASET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._task = _read_task(path)
        self._documents = Table(path.parent / _data_of(self._task, path))
        self.data = path.read_bytes() + b"\0" + self._documents.data

    def rows(self, needed: Sequence[str], wanted: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
        """(number of the document, row): what Shipway's own rows say, and the documents' columns that are needed."""
        if clash := set(needed) & set(wanted):
            raise wrong(
                f"rows are read by {min(clash)!r}, which is a column of the task, too", self.path, "another name"
            )
        documents = list(self._documents.objects(needed))
        kind, delimiter = self._task["output_type"], self._task.get("target_delimiter", " ")
        until = self._task.get("generation_kwargs", {}).get("until", "\n\n")
        for (number, doc), made in zip(documents, self._rendered(documents), strict=True):
            row = {name: doc[name] for name in needed}
            if kind == CHOICE:
                choices = [f"{delimiter}{choice}" for choice in made["choices"] or ()]
                target = made["target"]
                right = f"{delimiter}{target}" if isinstance(target, str) else target
                row |= {"prompt": made["text"], "choices": choices, "answer": right}
            else:
                row |= {"prompt": made["text"], "reference": made["target"], "until": until}
            yield number, row

    def _rendered(self, documents: Sequence[tuple[int, Mapping[str, Any]]]) -> Sequence[Mapping[str, Any]]:
        fields = {name: self._task.get(f"doc_to_{name}") for name in ("text", "target", "choice")}
        asked = {"fields": {**fields, "description": self._task.get("description")}, "docs": documents}
        try:
            said = ask(_PROGRAM, asked, _BOUNDS)
        except NoAnswer as error:
            raise wrong(f"its templates give no answer: {error}", self.path) from error
        if refused := said.get("refused"):
            raise wrong(f"row {refused['row']}: its template raises {refused['reason']}", self.path)
        if "error" in said:
            raise wrong(f"its templates cannot be read: {said['error']}", self.path)
        found: Sequence[Mapping[str, Any]] = said["rows"]
        return found


def _read_task(path: Path) -> dict[str, Any]:
    """A task's keys, all of them known. BadInput E_DATASET names what is not done here."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadInput(
                "a task that long", code="E_LIMIT", field=path.name, expected=f"at most {MOST_BYTES:,} bytes"
            )
        task = yaml.load(path.read_text("utf-8"), Loader=_NoPython)  # noqa: S506  a SafeLoader with more refusals
    except OSError as error:
        raise wrong(f"cannot read it: {error.strerror}", path) from None
    except yaml.constructor.ConstructorError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        reason = f"line {line} has the tag {error.problem}: no Python of a task is run"
        raise wrong(reason, path, "templates and columns") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise wrong(f"it is no YAML: {' '.join(str(error).split())}"[:200], path) from None
    if not isinstance(task, dict) or "doc_to_text" not in task or "doc_to_target" not in task:
        raise wrong("it is no task of lm-eval", path, "doc_to_text, doc_to_target, dataset_path, dataset_kwargs, …")
    task.setdefault("output_type", WRITE)
    task["generation_kwargs"] = task.get("generation_kwargs") or {}
    _check_keys(task, path)
    return task


def _check_keys(task: Mapping[str, Any], path: Path) -> None:
    for name, value in task.items():
        if name in ONLY and value in ONLY[name]:
            continue
        if name in ONLY or name not in READ | IGNORED:
            expected = " or ".join(map(repr, ONLY.get(name, ()))) or f"of {', '.join(sorted(READ))}"
            raise wrong(f"{name}: {value!r} is not read here"[:200], path, expected)
    kind = task["output_type"]
    if (kind == CHOICE) != (task.get("doc_to_choice") is not None):
        raise wrong(f"{kind} with doc_to_choice: {task.get('doc_to_choice')!r}"[:200], path, f"{CHOICE} with choices")
    for name, value in task["generation_kwargs"].items():
        if name != "until" and (name not in SAMPLING or (SAMPLING[name] and value not in SAMPLING[name])):
            raise wrong(f"generation_kwargs has {name}: {value!r}: answers are greedy"[:200], path)
    for metric in task.get("metric_list") or ():
        said = metric if isinstance(metric, dict) else {"metric": metric}
        others = set(said) - {"metric", "aggregation", "higher_is_better"}
        if said.get("metric") not in METRICS[kind] or others or said.get("aggregation", "mean") != "mean":
            raise wrong(f"metric_list has {said}: not measured here"[:200], path, ", ".join(sorted(METRICS[kind])))


def _data_of(task: Mapping[str, Any], path: Path) -> str:
    """The documents' file, which lies with its task or below."""
    files = (task.get("dataset_kwargs") or {}).get("data_files")
    split = task.get("test_split") or task.get("validation_split")
    name = files.get(split) if isinstance(files, dict) else files
    expected = "dataset_kwargs: {data_files: {test: FILE.jsonl}}, and test_split: test"
    if task.get("dataset_path") != "json" or not isinstance(name, str) or not name.endswith((".jsonl", ".ndjson")):
        raise wrong("it names no JSONL file of its own", path, expected)
    place, folder = PurePosixPath(name), path.parent.resolve()
    if place.is_absolute() or not (folder / place).resolve().is_relative_to(folder):
        raise wrong(f"{name} lies elsewhere", path, "a file beside the task, or below")
    return name
