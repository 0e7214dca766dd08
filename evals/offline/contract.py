"""Would the champion's callers understand the candidate?"""

from __future__ import annotations

from dataclasses import dataclass

from evals.gate import Outcome, Reason, Verdict


@dataclass(frozen=True)
class ModelContract:
    """What callers rely on: labels in the order of the outputs, inputs by name, output size, and context in tokens."""

    labels: tuple[str, ...]
    inputs: tuple[str, ...]
    output_dim: int
    context_length: int


def judge_contract(candidate: ModelContract, champion: ModelContract | None) -> Verdict:
    """Does the candidate keep the champion's contract? Each mismatch is named; a longer context is no mismatch."""
    reasons = [_own_labels(candidate)]
    if champion is not None:
        reasons += [
            _same("label order", candidate.labels, champion.labels),
            _same("signature", candidate.inputs, champion.inputs),
            _same("output dimension", candidate.output_dim, champion.output_dim),
            _context(candidate.context_length, champion.context_length),
        ]
    return Verdict.of(reasons)


def _own_labels(model: ModelContract) -> Reason:
    fits = len(model.labels) == model.output_dim and len(set(model.labels)) == len(model.labels)
    sentence = f"labels: {len(model.labels)} names for {model.output_dim} outputs"
    return Reason(Outcome.PASS if fits else Outcome.FAIL, "contract", sentence)


def _same(what: str, ours: object, theirs: object) -> Reason:
    if ours == theirs:
        return Reason(Outcome.PASS, "contract", f"{what}: the same")
    return Reason(Outcome.FAIL, "contract", f"{what}: the candidate has {ours}, the champion {theirs}")


def _context(ours: int, theirs: int) -> Reason:
    outcome = Outcome.PASS if ours >= theirs else Outcome.FAIL
    return Reason(outcome, "contract", f"context length: the candidate takes {ours} tokens, the champion {theirs}")
