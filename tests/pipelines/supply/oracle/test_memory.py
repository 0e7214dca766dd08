"""Is the same question asked once, and another one always?"""

from __future__ import annotations

import pytest

from pipelines.supply.oracle import child, memory


@pytest.fixture
def questions(monkeypatch) -> list[object]:
    """What the child was asked; it answers with how often it was."""
    heard: list[object] = []

    def ask(_program, question):
        heard.append(question)
        return {"error": "no memory"} if question == {"a": "broken"} else {"times": len(heard)}

    monkeypatch.setattr(child, "ask", ask)
    return heard


def test_an_answer_is_kept(tmp_path, questions):
    """Beside others, in a file that only its owner may read."""
    kept = tmp_path / "asked"
    assert [memory.asked("p", {"a": 1}, kept) for _ in range(2)] == [{"times": 1}] * 2
    assert memory.asked("p", {"a": 2}, kept) == {"times": 2}
    assert {file.stat().st_mode & 0o777 for file in kept.iterdir()} == {0o600}
    assert len(questions) == 2


def test_another_version_is_asked_anew(tmp_path, questions, monkeypatch):
    """What one transformers accepts the next one may not."""
    memory.asked("p", {"a": 1}, tmp_path)
    monkeypatch.setattr(memory, "version", lambda _name: "another")
    assert memory.asked("p", {"a": 1}, tmp_path) == {"times": 2}


def test_an_error_is_not_kept(tmp_path, questions):
    """It may have been the machine's."""
    for _ in range(2):
        memory.asked("p", {"a": "broken"}, tmp_path)
    assert len(questions) == 2


def test_a_damaged_answer_is_asked_anew(tmp_path, questions):
    """Half a file, for instance."""
    memory.asked("p", {"a": 1}, tmp_path)
    for file in tmp_path.iterdir():
        file.write_text('{"ti')
    assert memory.asked("p", {"a": 1}, tmp_path) == {"times": 2}
