"""Does Shipway run the models that people have?

    python -m benchmarks.field [--json] [NAME ...]

Every architecture of transformers' sequence classification is made tiny, with random weights, saved by transformers,
scanned, and laid out. Tried are those that transformers itself makes, asks a text and loads again; each other is listed
with its reason.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from tests.pipelines.architectures.walk import walk
from tests.pipelines.asking import ask_here


def architectures(wanted: Sequence[str] = ()) -> dict[str, Any]:
    """How many are in the mapping, tried and accepted, and why the others are not; all of them, or the wanted ones.

    The child's programs run in this process: a child of its own for each would only import transformers again.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as root, mock.patch("pipelines.supply.oracle.child.ask", ask_here):
        return walk(Path(root), wanted).figures()


def show(figures: dict[str, Any]) -> None:
    """As a table."""
    for name in ("in_mapping", "tried", "accepted"):
        print(f"{name:12} {figures[name]:>5}")
    for kind in ("omitted", "refused"):
        for reason, named in figures[f"{kind}_by_reason"].items():
            print(f"{kind:12} {len(named):>5}  {', '.join(named)}: {reason}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    found = architectures(options.names)
    if options.json:
        print(json.dumps({"architectures": found}))
    else:
        show(found)


if __name__ == "__main__":
    main()
