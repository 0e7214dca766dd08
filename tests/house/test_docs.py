"""Does the documentation name what exists?"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#([^)]+))?\)")


def names_of(file: Path) -> set[str]:
    """Every class and function of a file."""
    return {n.name for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.ClassDef | ast.FunctionDef)}


def test_every_named_test_exists():
    """Under `tests/`, by file and name."""
    named = {found for page in PAGES for found in TEST.findall(page.read_text())}
    assert len(named) > 50
    missing = [
        f"{f}::{n}" for f, n in named if not (ROOT / "tests" / f).exists() or n not in names_of(ROOT / "tests" / f)
    ]
    assert missing == []


def test_the_matrix_is_whole():
    """48 faults; each has a test or says what it waits for."""
    page = (ROOT / "docs" / "faults.md").read_text()
    rows = re.findall(r"^\| (\d+) \|[^|]*\|([^|]*)\|([^|]*)\|$", page, re.MULTILINE)
    faults = [(int(number), said, tests) for number, said, tests in rows][:48]
    assert [number for number, *_ in faults] == list(range(1, 49))
    assert [number for number, said, tests in faults if "::" not in tests and "*waits for" not in said] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Files, and headings of them."""
    for target, anchor in LINK.findall(page.read_text()):
        file = (page.parent / target).resolve()
        assert file.exists(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, anchor
