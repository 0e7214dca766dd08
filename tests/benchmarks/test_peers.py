"""Is each release played once, and counted right, for every rule?"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.peers import GOOD, PEERS, SHIPWAY, WORSE, endings, show, summary, tables
from evals.planning.worlds import EQUAL, WORLDS

RULES = SHIPWAY | PEERS


def test_every_rule_ends_every_release():
    """Half of the canary's requests fail: who does not see it within ten minutes has not decided, or promoted."""
    ends = endings(replace(EQUAL, canary_errors=0.5, lasts_s=600.0), 3, RULES)
    assert list(ends) == list(RULES)
    assert ends["Shipway, errors only"][::2] == ("rollback", 5.0)
    assert {what for what, _, _ in ends.values()} <= {"rollback", "promote", "undecided"}


def test_a_release_can_be_repeated():
    """The same seed, the same endings."""
    world = replace(EQUAL, canary_errors=0.2, lasts_s=180.0)
    assert endings(world, 4, RULES) == endings(world, 4, RULES)


def test_the_worlds_are_the_simulation_s():
    """By their names."""
    assert {*GOOD, *WORSE} <= {world.name for world in WORLDS}


def test_a_summary_counts_and_spreads():
    """Delays are those of the releases that were sent home."""
    found = summary("r", "w", [("rollback", 100, 50.0)] * 3 + [("promote", 900, 900.0)])
    assert [found[name][0] for name in ("rollback", "promote", "undecided")] == [0.75, 0.25, 0.0]
    assert (found["rollback_requests"], found["rollback_s"]) == ([100, 100], [50, 50])
    assert "rollback_s" not in summary("r", "w", [("promote", 900, 900.0)])


def test_all_tables_are_whole(capsys):
    """A row for each rule, a cell for each world, as text and as Markdown."""
    ends = [("rollback", 1000, 50.0), ("undecided", 9000, 900.0)]
    found = [summary(rule, world, ends) for world in (*GOOD, *WORSE) for rule in RULES]
    good, worse, late = tables(found)
    assert [len(table) for table in (good, worse, late)] == [1 + len(RULES)] * 3
    assert good[1][2] == worse[1][2] == "50 % (1.3 – 98.7); 50 % undecided"
    assert late[1][2] == "1,000, 1,000; 50, 50 s"
    show(found, as_markdown=True)
    assert "| Flagger, tutorial | 2 | 50 %" in capsys.readouterr().out
