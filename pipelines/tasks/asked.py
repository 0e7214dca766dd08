"""Does a spec ask for what a task can measure?"""

from __future__ import annotations

from collections.abc import Collection

from pipelines.errors import BadInput
from pipelines.spec.release_spec import ReleaseSpec


def refuse_other_metrics(spec: ReleaseSpec, known: Collection[str], what: str) -> None:
    """BadInput E_METRIC names the first gate on something that such a model has not."""
    for gate in spec.offline_gates():
        if gate.metric not in known:
            own = any(asked.metric == gate.metric for asked in spec.evaluate.gates)
            raise BadInput(
                f"{what} has no {gate.metric}",
                code="E_METRIC",
                field="evaluate.gates" if own else "rollout.gates.quality.metric",
                expected=", ".join(known),
            )
