"""Does a CI job's page say how a release ended, in words that nobody else can turn into markup?"""

from __future__ import annotations

import json

import pytest

from flows.show import job_summary
from flows.show.job_summary import main, page

VIEW = {
    "id": "s-1",
    "service": "s",
    "model": "m",
    "version": 4,
    "phase": "rolled_back",
    "outcome": "rolled_back",
    "reason": "canary 9 of 60 failed, stable 0 of 500",
    "candidate": {"artifact_digest": "sha256:aa", "variant": "dynamic-int8", "bundle_digest": "sha256:bb"},
    "share_pct": 0.0,
    "canary_requests": 60,
    "canary_errors": 9,
    "stable_requests": 500,
    "stable_errors": 0,
    "phase_seconds": {"evaluate": 12.34, "canary": 3.0},
    "verdicts": [
        {
            "step": "evaluated",
            "outcome": "pass",
            "reasons": [{"outcome": "pass", "gate": "g", "sentence": "0.8 | fine"}],
        }
    ],
}


def test_a_release_is_told_with_its_evidence():
    """Outcome, reason, counts, times and every gate."""
    text = page(VIEW)
    assert text.startswith("## ↩️ m v4 → s: rolled back\n\ncanary 9 of 60 failed, stable 0 of 500\n")
    assert "| canary | 9 of 60 requests failed |" in text
    assert "| evaluate | 12.3 |" in text
    assert "| evaluated | pass | 0.8 &#124; fine |" in text


def test_pages_of_differences_are_named():
    """Or why there is none."""
    kept = [{"page": "pages/s-1/candidate.html", "rows": 2, "of": 5}, {"missing": "no space", "rows": 1, "of": 1}]
    text = page({**VIEW, "differences": kept})
    assert "| 5 rows differ | pages/s-1/candidate.html |" in text
    assert "| 1 rows differ | no space |" in text


def test_a_release_that_found_no_candidate_is_told():
    """An early end has fewer facts."""
    assert "| shipped as |" in page({**VIEW, "candidate": None, "verdicts": [], "phase_seconds": {}})


def test_an_error_is_told_with_what_to_do():
    """The code, the reason and the hint; fields that are empty are left out."""
    text = page({"error": {"code": "E_DOWN", "field": None, "reason": "MLflow is down", "hint": "start it"}})
    assert text == "## ❌ Shipway: not begun, E_DOWN\n\nMLflow is down\n\n- hint: start it\n"


def test_nothing_to_do_is_told():
    """What is live already is not released again."""
    assert page({"outcome": None, "reason": "live already"}) == "## Shipway: nothing to do\n\nlive already\n"


@pytest.mark.parametrize(
    "text",
    [
        "<script>x</script>",
        "[a](javascript:b)",
        "`code`",
        "*a*",
        "_a_",
        "@everyone",
        "a|b",
        "\\| a",
        "&lt;",
        "::error::x",
    ],
)
def test_words_of_others_are_text(text):
    """Markdown, HTML, mentions and commands to the runner come out as entities."""
    found = page({**VIEW, "reason": f"see {text}"}).splitlines()[2]
    assert not set(found.removeprefix("see ").replace("&#", "")) & set("<>[]`*|@\\&")
    assert "::" not in found
    assert " _" not in found


def test_a_line_break_begins_no_line():
    """A reason stays on its line, so it can be no heading, table or command."""
    assert "see # b ::x" not in page({**VIEW, "reason": "see\n# b\n::x"})
    assert "see # b &#58;&#58;x" in page({**VIEW, "reason": "see\n# b\n::x"}).splitlines()


@pytest.fixture
def files(monkeypatch, tmp_path):
    """GitHub's files, and the name of the result."""
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr("sys.argv", ["job_summary", str(tmp_path / "release.json")])
    return tmp_path


def test_the_page_is_written_from_the_status(files, monkeypatch, capsys):
    """What counts is the status when the page is written, not what the command printed."""
    asked = []
    monkeypatch.setattr(job_summary, "_status", lambda name: asked.append(name) or VIEW)
    (files / "release.json").write_text(json.dumps({**VIEW, "outcome": None, "phase": "canary"}))
    main()
    assert asked == ["s-1"]
    assert (files / "GITHUB_STEP_SUMMARY").read_text() == page(VIEW)
    assert (files / "GITHUB_OUTPUT").read_text() == "outcome=rolled_back\n"
    assert page(VIEW) in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "", "half {", "[]"])
def test_a_missing_result_is_told(files, content):
    """A release that was killed left nothing, and the page says so."""
    if content is not None:
        (files / "release.json").write_text(content)
    main()
    assert "E_NO_RESULT" in (files / "GITHUB_STEP_SUMMARY").read_text()
    assert (files / "GITHUB_OUTPUT").read_text() == "outcome=\n"
