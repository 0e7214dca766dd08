"""What do the programs of `pipelines/supply/oracle` answer, asked in this process instead of in a bounded child?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any
from unittest import mock

PROGRAMS = {"architecture": "compare", "tokenizer": "convert"}
"""Each program's function."""


def ask_here(program: str, question: Mapping[str, Any], *_: object) -> dict[str, Any]:
    """The answer as a child would write it; what a program changes in transformers is put back."""
    from transformers import modeling_utils

    work = getattr(import_module(f"pipelines.supply.oracle.{program}"), PROGRAMS[program])
    converting = import_module("transformers.convert_slow_tokenizer")
    try:
        with (
            mock.patch.object(modeling_utils, "check_and_set_device_map", modeling_utils.check_and_set_device_map),
            mock.patch.object(modeling_utils, "log_state_dict_report", modeling_utils.log_state_dict_report),
            mock.patch.object(converting, "requires_backends", converting.requires_backends),
        ):
            return json.loads(json.dumps(work(json.loads(json.dumps(question)))))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
