"""What does a CI job say about a release? Reads what `shipway release --json` printed and writes GitHub's files.

`GITHUB_STEP_SUMMARY` gets a page in Markdown and `GITHUB_OUTPUT` the outcome; the page also goes to the log. The
release itself is asked for by `shipway status ID --json`, so that the page tells what is true now.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

MARKS = {"promoted": "✅", "rejected": "❌", "rolled_back": "↩️", "aborted": "⏹️", "held": "⏸️"}
CELL_MAX = 400
SPECIAL = re.compile(r"[&<>|`*\[\]@\\]|(?<!\w)_|_(?!\w)|::")
"""What Markdown, HTML, GitHub or the runner would read as more than text; `rolled_back` is text."""

NO_RESULT = {"error": {"code": "E_NO_RESULT", "reason": "the release printed no result", "hint": "shipway list"}}


def main() -> None:
    """Write the page and the outcome of the JSON file that is named."""
    said = _read(Path(sys.argv[1]))
    view = _status(said["id"]) if "id" in said else said
    text = page(view)
    print(text)  # noqa: T201  the job's log
    _append("GITHUB_STEP_SUMMARY", text)
    _append("GITHUB_OUTPUT", f"outcome={view.get('outcome') or ''}\n")


def page(view: Mapping[str, Any]) -> str:
    """The page about a release, about one that was not needed, or about the error that kept it from beginning."""
    if "error" in view:
        return _error_page(view["error"])
    if "phase" not in view:
        return f"## Shipway: nothing to do\n\n{_plain(view.get('reason', ''))}\n"
    return "\n".join([*_head(view), *_facts(view), *_phases(view), *_gates(view)])


def _read(path: Path) -> dict[str, Any]:
    """The result; where the release was ended before it could print one, that it was."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return NO_RESULT
    return found if isinstance(found, dict) else NO_RESULT


def _status(release_id: str) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "flows.cli", "status", "--json", "--", release_id]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _error_page(error: Mapping[str, Any]) -> str:
    lines = [f"## ❌ Shipway: not begun, {_plain(error['code'])}", "", _plain(error["reason"]), ""]
    lines += [f"- {name}: {_plain(error[name])}" for name in ("field", "expected", "hint") if error.get(name)]
    return "\n".join([*lines, ""])


def _head(view: Mapping[str, Any]) -> list[str]:
    ended = str(view["outcome"] or view["phase"])
    title = f"{view['model']} v{view['version']} → {view['service']}: {ended.replace('_', ' ')}"
    return [f"## {MARKS.get(ended, '⏳')} {_plain(title)}", "", _plain(view["reason"]), ""]


def _facts(view: Mapping[str, Any]) -> list[str]:
    candidate = view["candidate"] or {}
    rows = [
        ("release", view["id"]),
        ("files", candidate.get("artifact_digest", "")),
        ("shipped as", f"{candidate.get('variant', '')} {candidate.get('bundle_digest', '')}"),
        ("canary", f"{view['canary_errors']} of {view['canary_requests']} requests failed"),
        ("stable meanwhile", f"{view['stable_errors']} of {view['stable_requests']} requests failed"),
        ("share of the traffic", f"{view['share_pct']:g} %"),
    ]
    rows += [(f"{kept['of']} rows differ", kept.get("page") or kept["missing"]) for kept in view.get("differences", ())]
    return _table(("fact", "value"), rows)


def _phases(view: Mapping[str, Any]) -> list[str]:
    return _table(("part", "seconds"), [(name, f"{took_s:.1f}") for name, took_s in view["phase_seconds"].items()])


def _gates(view: Mapping[str, Any]) -> list[str]:
    rows = [
        (verdict["step"], reason["outcome"], reason["sentence"])
        for verdict in view["verdicts"]
        for reason in verdict["reasons"]
    ]
    return _table(("judged", "verdict", "why"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table and an empty line; nothing where there is no row."""
    body = [f"| {' | '.join(_plain(cell) for cell in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body, ""] if body else []


def _plain(value: object) -> str:
    """One line of text in which nothing is Markdown, HTML, a mention or a command to the runner."""
    line = " ".join(str(value).split())[:CELL_MAX]
    return SPECIAL.sub(lambda found: "".join(f"&#{ord(c)};" for c in found[0]), line)


def _append(name: str, text: str) -> None:
    if os.environ.get(name):
        with Path(os.environ[name]).open("a", encoding="utf-8") as out:
            out.write(text)
