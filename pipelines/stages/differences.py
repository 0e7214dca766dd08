"""Where do candidate and champion differ? A page for people and a file for programs, kept beside the record.

Every text of a row or an answer goes through `kept_text` on its way to the disk, and through nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from pipelines.serving.privacy.redactor import Redactor
from pipelines.tasks.task import Beside, Differences

MOST_ROWS = 200
MOST_CHARACTERS = 2000
PAGES = "pages"
"""The folder of a home that holds those of all releases."""

_STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:2em;color:#222}table{border-collapse:collapse;width:100%}"
    "td,th{border:1px solid #ccc;padding:.4em .6em;vertical-align:top;text-align:left}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;font:13px/1.4 monospace}.lost{background:#fdecea}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}td,th{border-color:#555}.lost{background:#4a2320}}"
)
_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    '<meta name="robots" content="noindex"><title>{title}</title><style>{style}</style></head><body><h1>{title}</h1>'
)


def kept_text(text: str) -> str:
    """What of a text is kept: nothing that is personal by its form, and no more than so many characters."""
    more = len(text) - MOST_CHARACTERS
    kept = Redactor().redact(text[:MOST_CHARACTERS])
    return kept if more <= 0 else f"{kept} … ({more:,} characters more)"


def keep_differences(home: Path, release_id: str, subject: str, found: Differences) -> dict[str, Any]:
    """Write both files, and say where they are, for the record; or why they are not: nothing waits for a page."""
    shown = [_kept(one) for one in found.rows[:MOST_ROWS]]
    name = re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")
    place = Path(PAGES) / release_id / name
    said = {"rows": len(shown), "of": found.total}
    data = "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in shown)
    try:
        for ending, text in ((".jsonl", data), (".html", _page(f"{release_id}: {subject}", shown, found))):
            file = (home / place).with_suffix(ending)
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file.touch(0o600)
            file.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        return {**said, "missing": f"the page could not be written: {error.strerror}"}
    return {**said, "page": f"{place}.html", "data": f"{place}.jsonl", "sha256": _digest(data)}


def _digest(data: str) -> str:
    return hashlib.sha256(data.encode("utf-8", "replace")).hexdigest()


def _kept(one: Beside) -> dict[str, Any]:
    texts = {"asked": one.asked, "right": one.right, "candidate": one.candidate, "champion": one.champion}
    kept = {name: kept_text(text) for name, text in texts.items()}
    return {"row": one.number, "lost": list(one.lost), "won": list(one.won), "by": dict(one.by), **kept}


def _page(title: str, shown: list[dict[str, Any]], found: Differences) -> str:
    """One file, without scripts, that asks nobody for anything."""
    head = _HEAD.format(title=escape(title), style=_STYLE)
    many = f"{found.total:,} rows differ from {escape(found.champion)}; {len(shown):,} are shown, the worst first."
    names = "".join(f"<th>{name}" for name in ("row", "asked", "right", "candidate", escape(found.champion)))
    return f"{head}<p>{many}</p><table><tr>{names}{''.join(_lines(shown))}</table></body></html>\n"


def _lines(shown: list[dict[str, Any]]) -> Iterator[str]:
    for one in shown:
        said = [f"{sign} {name}" for sign, names in (("lost", one["lost"]), ("won", one["won"])) for name in names]
        said += [f"{name} {value:+.3g}" for name, value in one["by"].items()]
        texts = "".join(f"<td><pre>{escape(one[name])}</pre>" for name in ("asked", "right", "candidate", "champion"))
        mark = ' class="lost"' if one["lost"] else ""
        yield f"<tr{mark}><td>{one['row']}<br>{escape(', '.join(said))}{texts}"
