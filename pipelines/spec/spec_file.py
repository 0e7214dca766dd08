"""Which ReleaseSpec does a `release.yaml` hold, what is wrong with it, and what does an editor need to help?"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pipelines.errors import BadInput
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.spec.values import SpecProblem, spec_key

MAX_BYTES = 256 * 1024


class _StrictLoader(yaml.SafeLoader):
    """YAML without tags, anchors or duplicate keys: what a person reads is what is meant."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuses aliases before they are expanded (a small file can hold a very large tree)."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not allowed", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuses duplicate and non-text keys."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is not text", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_StrictLoader.yaml_implicit_resolvers = {}
for _tag, _first, _form in (
    ("bool", "tTfF", r"true|True|TRUE|false|False|FALSE"),
    ("null", ["~", "n", "N", ""], r"~|null|Null|NULL|"),
    ("int", "-+0123456789", r"[-+]?(0|[1-9][0-9]*)"),
    (
        "float",
        "-+.0123456789",
        r"[-+]?((\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(inf|Inf|INF))",
    ),
    ("float", ".", r"\.(nan|NaN|NAN)"),
):
    # YAML 1.2: `yes` is a word, not a truth; 1_000, 010 and 1:30 are words, not the numbers 1000, 8 and 90.
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_form})$"), list(_first))


def read_spec(path: Path, *, model: str | None = None) -> ReleaseSpec:
    """The spec of a file, with `model` in place of its own where given. Raises BadInput."""
    return parse_spec(_read_text(path), where=path.name, model=model)


def parse_spec(text: str, *, where: str = "release.yaml", model: str | None = None) -> ReleaseSpec:
    """The spec of YAML text. Raises BadInput with the code, the field and the nearest known key."""
    raw = _load(text, where)
    if not isinstance(raw, dict):
        raise BadInput("the file does not hold a mapping of keys", code="E_YAML", field=where, hint="shipway init")
    if model is not None:
        raw["model"] = model
    _refuse_non_json(raw, "")
    try:
        return ReleaseSpec.model_validate_json(json.dumps(_with_times_of_streams(_with_whole_prompt(raw))))
    except ValidationError as error:
        raise _explained(error) from None


def _with_whole_prompt(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """A prompt's URI is enough to name it."""
    prompt = raw.get("prompt")
    return {**raw, "prompt": {"uri": prompt}} if isinstance(prompt, str) else raw


def _with_times_of_streams(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whole answers of language models are as long as what they say, and cold as the cache: not judged unasked.

    What is asked instead is in the record, so that a release goes on with what it began with.
    """
    match raw:
        case {"serve": {"api": "openai"}, "rollout": {"gates": {"latency": _}}}:
            return raw
        case {"serve": {"api": "openai"}}:
            rollout = raw.get("rollout", {})
            gates = rollout.get("gates", {}) if isinstance(rollout, dict) else None
            if isinstance(gates, dict):
                asked: dict[str, Any] = {"latency": None, "first_token": {}, "between_tokens": {}} | gates
                return {**raw, "rollout": {**rollout, "gates": asked}}
    return raw


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"cannot read {path.name}: {error.strerror}",
            code="E_SPEC_FILE",
            field=str(path),
            hint="shipway init writes one",
        ) from None
    if len(data) > MAX_BYTES:
        raise BadInput(
            f"the file has {len(data)} bytes", code="E_LIMIT", field=path.name, expected=f"at most {MAX_BYTES}"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"byte {error.start} is not UTF-8 text", code="E_YAML", field=path.name) from None


def _load(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506  a SafeLoader with more refusals
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        raise BadInput(f"{place}{problem}", code="E_YAML", field=where, expected="plain YAML without tags") from None
    except (RecursionError, ValueError) as error:
        raise BadInput(f"not readable as YAML: {type(error).__name__}", code="E_YAML", field=where) from None


def _refuse_non_json(value: Any, key: str) -> None:
    """YAML knows NaN, infinities, dates and binary; a spec does not."""
    for name, item in _items(value, key):
        _refuse_non_json(item, name)
    if isinstance(value, float) and not math.isfinite(value):
        code = "E_STEPS" if key.startswith("rollout.steps") else "E_THRESHOLD"
        raise BadInput(f"{value} is not a finite number", code=code, field=key)
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        code = "E_NAME" if key in {"model", "service"} else "E_YAML"
        raise BadInput(f"{value[:60]!r} is not text: it holds half a surrogate pair", code=code, field=key)
    if not isinstance(value, str | int | float | bool | dict | list | None):
        raise BadInput(
            f"a {type(value).__name__} has no place here", code="E_YAML", field=key, expected="text or a number"
        )


def _items(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"{key}.{k}".lstrip("."), v) for k, v in value.items())
    elif isinstance(value, list):
        yield from ((f"{key}.{i}", v) for i, v in enumerate(value))


def _explained(error: ValidationError) -> BadInput:
    """The first problem, in our words."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, SpecProblem):
        code = "E_STEPS" if first["loc"][:2] == ("rollout", "steps") else cause.code
        return BadInput(str(cause), code=code, field=field)
    if first["type"] == "extra_forbidden":
        return _unknown_key(first["loc"])
    code = {"steps": "E_STEPS", "gates": "E_THRESHOLD"}.get(
        str(first["loc"][1] if len(first["loc"]) > 1 else ""), "E_CONFIG"
    )
    return BadInput(first["msg"], code=code, field=field, hint="shipway init shows every key with its unit")


def _unknown_key(loc: tuple[int | str, ...]) -> BadInput:
    key, attributes = str(loc[-1]), _part_at(loc[:-1]).model_fields
    known = sorted(spec_key(name) for name in attributes)
    if key in attributes:  # it would be read, were it not said by its other name
        return BadInput(
            f"{spec_key(key)!r} and {key!r} are the same, and both stand here",
            code="E_CONFIG",
            field=".".join(map(str, loc)),
            expected="one of them",
            hint=f"leave out {key!r}, which is the former name",
        )
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else None
    return BadInput(
        f"the key {key!r} is not known here",
        code="E_CONFIG",
        field=".".join(map(str, loc)),
        expected=", ".join(known),
        hint=hint,
    )


def _part_at(loc: tuple[int | str, ...]) -> type[BaseModel]:
    """The part of the spec that a location names."""
    part: type[BaseModel] = ReleaseSpec
    for name in loc:
        if isinstance(name, str) and name in part.model_fields:
            part = _model_in(part.model_fields[name].annotation) or part
    return part


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in getattr(annotation, "__args__", ()) if (m := _model_in(a))), None)


def schema_text() -> str:
    """The JSON Schema of `release.yaml`, as text that ends with a newline."""
    schema = ReleaseSpec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Shipway release"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
