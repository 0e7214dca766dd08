"""What does a version add to requests, as its facts say, and do callers send what its prompt needs?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.gate import Outcome, Reason
from pipelines.records.split import Rewrite
from pipelines.supply.prompt import variables_in
from pipelines.tasks.task import Facts


def rewrite_in(facts: Facts) -> Rewrite | None:
    """What is added to its requests."""
    return Rewrite.from_dict(facts.get("rewrite"))


def sampling_in(facts: Facts) -> Mapping[str, Any]:
    """How its answers are sampled, where it says so; greedily otherwise."""
    rewrite = rewrite_in(facts)
    return dict(rewrite.sampling) if rewrite is not None else {}


def judge_variables(candidate: Facts, champion: Facts | None) -> tuple[Reason, ...]:
    """Do callers send what the candidate's prompt needs? They do what the champion's needs, and what the spec says."""
    mine, theirs = rewrite_in(candidate), rewrite_in(champion or {})
    if champion is None or mine is None:
        return ()
    sent = {*mine.variables, *(variables_in(theirs.text, theirs.messages) if theirs is not None else ())}
    unknown = [name for name in variables_in(mine.text, mine.messages) if name not in sent]
    if not unknown:
        return ()
    listed = ", ".join(unknown)
    said = f"the prompt needs {listed}, which nobody says that callers send: prompt: {{variables: [{listed}]}}"
    return (Reason(Outcome.FAIL, "contract", said),)
