"""What does a CI job say about a release? Reads the JSON of `shipway release` or `status`, writes GitHub's files.

`GITHUB_STEP_SUMMARY` gets a page in Markdown and `GITHUB_OUTPUT` the outcome; without them both go to the terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def summary(view: Mapping[str, Any]) -> str:
    """The page about a release, or about the error that kept it from beginning."""
    if "error" in view:
        error = view["error"]
        return f"## Shipway: not begun\n\n`{error['code']}` {_text(error['reason'])}\n"
    ended = view.get("outcome") or view.get("phase") or "nothing to do"
    head = f"## Shipway: {ended}\n\n{_text(view.get('reason', ''))}\n"
    if "id" not in view:
        return head
    rows = [
        ("release", view["id"]),
        ("model", f"{view['model']} v{view['version']}"),
        ("service", view["service"]),
        ("canary", f"{view['canary_errors']} of {view['canary_requests']} requests failed"),
        ("stable", f"{view['stable_errors']} of {view['stable_requests']} requests failed"),
    ]
    seconds = [f"| {phase} | {took_s:.1f} |" for phase, took_s in view["phase_seconds"].items()]
    table = "\n".join(f"| {name} | {_text(value)} |" for name, value in rows)
    return f"{head}\n| | |\n|---|---|\n{table}\n\n| phase | seconds |\n|---|---|\n" + "\n".join(seconds) + "\n"


def _text(value: object) -> str:
    """Text that cannot become markup of the page."""
    return str(value).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def main() -> None:
    """Write the summary and the outcome of the JSON file that is named."""
    try:
        view = json.loads(Path(sys.argv[1]).read_text())
    except (OSError, ValueError, IndexError):
        view = {"error": {"code": "E_NO_RESULT", "reason": "the release printed no result"}}
    _append(os.environ.get("GITHUB_STEP_SUMMARY"), summary(view))
    _append(os.environ.get("GITHUB_OUTPUT"), f"outcome={view.get('outcome') or ''}\n")


def _append(path: str | None, text: str) -> None:
    if not path:
        sys.stdout.write(text)
        return
    with Path(path).open("a", encoding="utf-8") as out:
        out.write(text)


if __name__ == "__main__":
    main()
