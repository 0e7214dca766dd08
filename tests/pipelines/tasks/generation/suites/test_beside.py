"""Does a person read what was asked, what is right, and what both models answered?"""

from __future__ import annotations

from dataclasses import replace

from evals.offline.language import LanguageSuite
from evals.offline.written import Written
from pipelines.tasks.generation.forms.choices import Choices
from pipelines.tasks.generation.forms.form import Form
from pipelines.tasks.generation.rows import Prompts, Row
from pipelines.tasks.generation.suites.beside import beside
from pipelines.tasks.task import Beside

CHAT = ({"role": "system", "content": "Be short."}, {"role": "user", "content": "2 + 2?"})
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("look", "stop")]
SAID = Written("4", True, 1.0)


def told(row: Row, ours: Written, theirs: Written = SAID) -> Beside:
    """The one difference."""
    references = (row.references,)
    suite = LanguageSuite(("",), references, (row.pattern,), {}, ("exact_match", "choice", "valid_tool_call"), ())
    found = beside(suite, Prompts((row,), {}, "sha256:x", 8), [ours], [theirs], "champion v1")
    assert (found.total, found.champion) == (1, "champion v1")
    return found.rows[0]


def test_a_conversation_reads_as_one():
    """With its references, one below the other."""
    one = told(Row(CHAT, ("4", "four"), "[4f]", 12), replace(SAID, text="5"))
    assert (one.number, one.asked, one.right) == (12, "system: Be short.\nuser: 2 + 2?", "4\nfour\nholds [4f]")
    assert (one.candidate, one.champion, one.lost, one.won) == ("5", "4", ("exact_match",), ())


def test_calls_and_choices_are_told():
    """What may be called, and what was; which choice is the right one."""
    call = replace(SAID, text="", calls=(("look", '{"a": 1}'),), scores={"valid_tool_call": 1.0})
    one = told(Row(CHAT, (), "", 1, Form({"tools": TOOLS})), call, replace(SAID, scores={"valid_tool_call": 0.0}))
    assert (one.right, one.candidate, one.won) == ("calls look or stop", 'look({"a": 1})', ("valid_tool_call",))
    unwritten = [replace(SAID, text="", is_finished=None, scores={"choice": right}) for right in (0.0, 1.0)]
    one = told(Row("2 + 2 =", (), "", 1, choices=Choices((" 3", " 4"), 1)), *unwritten)
    assert (one.asked, one.right, one.candidate, one.lost) == ("2 + 2 =", "chooses  4", "", ("choice",))
    assert (
        told(Row("x", (), "", 1, Form({}, {"type": "null"})), replace(SAID, text="5")).right == 'fits {"type": "null"}'
    )
