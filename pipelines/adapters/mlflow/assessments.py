"""Labels from MLflow: the assessments that people and judges attach to the traces of an experiment.

A trace belongs to an answer of a gateway by its tag `shipway.request_id`, or by its client request id, and says which
version it thinks answered by its tag `shipway.model_version`. Feedback and expectations count alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipelines.adapters.mlflow.client import open_client
from pipelines.adapters.mlflow.errors import is_absent, mapped
from pipelines.errors import BadInput, NotFound
from pipelines.services.labels import Label

REQUEST_TAG, VERSION_TAG = "shipway.request_id", "shipway.model_version"
PAGE = 500

OF_JUDGES = {"yes": True, "no": False}
"""What MLflow's own judges answer (`mlflow.genai.judges.CategoricalRating`); their "unknown" is no label."""


@dataclass(frozen=True)
class _Assessed:
    """One assessment as a label, under its name at MLflow."""

    name: str
    label: Label
    is_rating: bool


class MlflowAssessments:
    """The assessments called `name`; None takes the only name under which a truth value or a number stands."""

    def __init__(self, tracking_uri: str, experiment: str, name: str | None = None) -> None:
        self._uri, self._experiment, self._name = tracking_uri, experiment, name

    def labels(self, since_s: float) -> list[Label]:
        """Those of traces that began at `since_s` (UTC) or later, the oldest first.

        NotFound for an experiment, DependencyDown for an MLflow that is not there; BadInput where ratings stand under
        several names: which of them says how good an answer is, a person must say.
        """
        with mapped(f"read the assessments of {self._experiment}", self._uri):
            found = [a for trace in self._traces(since_s) for a in _assessed(trace)]
        if self._name is None:
            self._name = _only_name(found)
        return [a.label for a in found if a.name == self._name]

    def _traces(self, since_s: float) -> Iterator[Any]:
        token, wanted = None, f"trace.timestamp_ms >= {int(since_s * 1000)}"
        while True:
            page = self._client.search_traces(
                locations=[self._experiment_id],
                filter_string=wanted,
                max_results=PAGE,
                order_by=["timestamp_ms ASC"],
                page_token=token,
                include_spans=False,
            )
            yield from (trace.info for trace in page)
            token = page.token
            if not token:
                return

    @cached_property
    def _client(self) -> Any:
        return open_client(self._uri)

    @cached_property
    def _experiment_id(self) -> str:
        """By name, or by number."""
        found = self._client.get_experiment_by_name(self._experiment) or self._by_id()
        if found is None:
            raise NotFound(
                f"MLflow has no experiment {self._experiment[:60]!r}",
                field="--mlflow",
                hint="mlflow experiments search",
            )
        return str(found.experiment_id)

    def _by_id(self) -> Any:
        from mlflow.exceptions import MlflowException

        if not (self._experiment.isascii() and self._experiment.isdecimal()):
            return None
        try:
            return self._client.get_experiment(self._experiment)
        except MlflowException as error:
            if is_absent(error):
                return None
            raise


def _only_name(found: list[_Assessed]) -> str | None:
    names = sorted({a.name for a in found if a.is_rating})
    if len(names) > 1:
        raise BadInput(
            f"ratings stand under {len(names)} names: {', '.join(names)[:200]}",
            code="E_ASSESSMENT",
            field="--assessment",
            expected="the one that says how good an answer is",
        )
    return names[0] if names else None


def _assessed(trace: Any) -> Iterator[_Assessed]:
    """The assessments of a trace that were not replaced by a later one."""
    request_id = trace.tags.get(REQUEST_TAG) or trace.client_request_id
    for found in sorted(trace.assessments, key=lambda a: a.create_time_ms):
        if found.valid is False or found.issue is not None:
            continue
        # A judge that failed left no value: that is refused like any other that is no rating.
        value = getattr(found, "value", None)
        value = OF_JUDGES.get(value, value) if isinstance(value, str) else value
        body = {
            "request_id": request_id,
            "correct" if isinstance(value, bool) else "score": value,
            "model_version": trace.tags.get(VERSION_TAG),
        }
        where = f"assessment {found.assessment_id} of trace {trace.trace_id}"
        yield _Assessed(found.name, Label(found.assessment_id, body, where), isinstance(value, bool | int | float))
