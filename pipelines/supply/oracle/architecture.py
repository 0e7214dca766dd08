"""Do these tensors fill the model that transformers builds from this configuration?

Transformers' own loader is asked, on the meta device: nothing is read and nothing is allocated, and what it renames,
converts, ties, computes itself or leaves out on purpose is treated as when the model serves. Run in a child.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.supply.kinds import generates
from pipelines.supply.oracle.child import answer

SHOWN = 5
"""How many tensors of each kind an answer names."""

_NUMBERED = re.compile(r"\.(\d+)\.")


def compare(question: dict[str, Any]) -> dict[str, Any]:
    """`config` and `tensors` (name → kind of number, shape): what would not be loaded, and which key is at fault."""
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto

    classifiers = modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    generators = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if question["config"].get("model_type") not in (generators if generates(question["config"]) else classifiers):
        return {"unknown_type": True}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(question["config"]))
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    found = _loaded(config, question["tensors"])
    key = _key_at_fault(config, question["tensors"], found)
    return {**_named_as_saved(config, question["tensors"], found), "labels": config.num_labels, "key": key}


def _loaded(config: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What the loader says when it is given tensors of these names and shapes."""
    import torch
    from transformers import modeling_utils

    reports: list[Any] = []
    # Its check asks for accelerate, which only a device map over several devices needs; its report is for people.
    modeling_utils.check_and_set_device_map = lambda device_map: device_map
    modeling_utils.log_state_dict_report = lambda **said: reports.append(said.get("loading_info"))
    kind = type(_built(config))
    _, info = kind.from_pretrained(
        None,
        config=config,
        state_dict={
            name: torch.empty(shape, dtype=_dtype(dtype), device="meta") for name, (dtype, shape) in tensors.items()
        },
        device_map={"": torch.device("meta")},
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        local_files_only=True,
    )
    broken = getattr(reports[0], "conversion_errors", None) if reports else None
    return {
        "missing": sorted(info["missing_keys"])[:SHOWN],
        "unexpected": sorted(info["unexpected_keys"])[:SHOWN],
        "mismatched": sorted([name, list(has), list(wants)] for name, has, wants in info["mismatched_keys"])[:SHOWN],
        "unconverted": sorted(map(str, broken or ()))[:SHOWN],
    }


def _built(config: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    kind = (
        AutoModelForCausalLM
        if generates({"architectures": config.architectures})
        else AutoModelForSequenceClassification
    )
    with torch.device("meta"):
        return kind.from_config(config, trust_remote_code=False)


def _dtype(name: str) -> Any:
    import torch

    return {"float": torch.float32, "bool": torch.bool}.get(name, torch.int64)


def _named_as_saved(config: Any, tensors: Mapping[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The same faults by the names of the file, where the loader renames or joins its tensors first."""
    named = [*(name for name, *_ in found["mismatched"]), *found["missing"], *found["unconverted"]]
    saved = _saved(config) if named else {}
    if not saved or set(named) <= saved.keys():
        return found
    missing = sorted(name for name in saved if name not in tensors)
    mismatched = sorted([n, list(has), saved[n]] for n, (_, has) in tensors.items() if saved.get(n, has) != has)
    if not 0 < len(missing) + len(mismatched) < len(saved) / 2:
        return found  # the file has the names of another time
    return {**found, "missing": missing[:SHOWN], "mismatched": mismatched[:SHOWN], "unconverted": []}


def _saved(config: Any) -> dict[str, list[int]]:
    """The names and shapes that transformers would save; empty where it cannot tell without numbers."""
    from transformers.core_model_loading import revert_weight_conversion

    model = _built(config)
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    own = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    try:
        return {name: list(tensor.shape) for name, tensor in revert_weight_conversion(model, own).items()}
    except Exception:  # names are for people: without them the loader's own do  # noqa: BLE001
        return {}


def _key_at_fault(config: Any, tensors: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Which setting would mend the first fault, if it said what the tensors say? Empty where none does alone."""
    for key, value in _other_settings(config, tensors, found):
        try:
            changed = type(config).from_dict({**config.to_dict(), key: value})
            shapes = {name: list(tensor.shape) for name, tensor in _built(changed).state_dict().items()}
        except Exception:  # a setting that cannot be is no explanation  # noqa: BLE001, S112
            continue
        if _is_mended(found, shapes):
            return key
    return ""


def _other_settings(config: Any, tensors: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Settings whose number a fault contradicts, with the number that the tensors have instead."""
    numbers = {key: value for key, value in config.to_dict().items() if type(value) is int}
    numbers["num_labels"] = config.num_labels
    if not (found["mismatched"] or found["missing"] or found["unexpected"]):
        return
    for _, has, wants in found["mismatched"][:1]:
        differing = [(old, new) for old, new in zip(wants, has, strict=False) if old != new]
        yield from ((key, new) for old, new in differing for key, value in numbers.items() if value == old)
    layers = 1 + max((int(n) for name in tensors for n in _NUMBERED.findall(name)[:1]), default=-1)
    yield from ((key, layers) for key, value in numbers.items() if "layer" in key and value != layers)


def _is_mended(found: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> bool:
    for name, has, _ in found["mismatched"][:1]:
        return bool(shapes.get(name) == has)
    if found["missing"]:
        return str(found["missing"][0]) not in shapes
    return str(found["unexpected"][0]) in shapes


if __name__ == "__main__":
    answer(compare)
