"""Is a page of differences whole, harmless and short, whatever models write?"""

from __future__ import annotations

import json
import stat
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipelines.stages import differences
from pipelines.stages.differences import keep_differences, kept_text
from pipelines.tasks.task import Beside, Differences

EVIL = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\"'\ud800"
ONE = Beside(7, "user: 2 + 2?", "4", EVIL, "4", ("exact_match",), (), {"score": 0.25})


class Seen(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        """One more."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        """What a person reads."""
        self.text += data


def kept(home: Path, *rows: Beside, total: int = 5) -> dict[str, object]:
    """What the record says of these."""
    return keep_differences(home, "s-1", "gguf-q8_0 variant", Differences(rows, total, "champion v3"))


def test_a_page_and_a_file_are_written(tmp_path):
    """For their owner alone; the record says where, how many, and what the file held."""
    said = kept(tmp_path, ONE, Beside(8, "x", "", "a", "b"))
    place = "pages/s-1/gguf-q8-0-variant"
    assert (said["page"], said["data"], said["rows"], said["of"]) == (f"{place}.html", f"{place}.jsonl", 2, 5)
    lines = [json.loads(line) for line in (tmp_path / f"{place}.jsonl").read_text().splitlines()]
    assert lines[1] == {
        "row": 8, "lost": [], "won": [], "by": {}, "asked": "x", "right": "", "candidate": "a", "champion": "b",
    }  # fmt: skip
    assert {stat.S_IMODE((tmp_path / str(said[name])).stat().st_mode) for name in ("page", "data")} == {0o600}
    assert stat.S_IMODE((tmp_path / "pages" / "s-1").stat().st_mode) == 0o700


def test_what_models_write_is_text(tmp_path):
    """No tag of its own, no script, nothing that is fetched."""
    page = Seen()
    page.feed((tmp_path / str(kept(tmp_path, ONE)["page"])).read_text())
    assert page.tags == {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "p",
        "table",
        "tr",
        "th",
        "td",
        "pre",
        "br",
    }
    assert page.attributes == {"lang", "charset", "http-equiv", "content", "name", "class"}
    assert "<script>alert(1)</script>" in page.text
    assert "5 rows differ from champion v3; 1 are shown" in page.text
    assert "lost exact_match, score +0.25" in page.text


def test_every_text_goes_through_one_function(tmp_path, monkeypatch):
    """Which is where texts are redacted."""
    monkeypatch.setattr(differences, "kept_text", lambda text: "*" * len(text))
    said = kept(tmp_path, ONE)
    for name in ("page", "data"):
        text = (tmp_path / str(said[name])).read_text()
        assert not [word for word in ("2 + 2", "script", "onerror") if word in text]


def test_a_page_is_short(tmp_path):
    """200 rows, 2,000 characters a text."""
    said = kept(tmp_path, *[Beside(n, "x" * 5000, "", "a", "b") for n in range(300)], total=300)
    assert (said["rows"], said["of"]) == (200, 300)
    assert (tmp_path / str(said["page"])).stat().st_size < 600_000
    assert kept_text("x" * 5000) == f"{'x' * 2000} … (3,000 characters more)"
    assert kept_text("x" * 2000) == "x" * 2000


def test_what_is_personal_by_its_form_is_not_kept():
    """As in requests that are kept; names are not found."""
    assert kept_text("Ada, ada@example.org, +49 30 901820") == "Ada, [email], [phone]"


@pytest.mark.parametrize("blocked", ["pages", "pages/s-1"])
def test_a_page_that_cannot_be_written_stops_nothing(tmp_path, blocked):
    """And is said to be missing."""
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).write_text("a file")
    said = kept(tmp_path, ONE)
    assert "page" not in said
    assert str(said["missing"]).startswith("the page could not be written: ")
