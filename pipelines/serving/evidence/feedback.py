"""How does a label or a rating of an earlier answer come in?"""

from __future__ import annotations

import orjson

from pipelines.serving.evidence.counters import GatewayCounters
from pipelines.serving.evidence.labels import LabelRefused, Labels, label_of
from pipelines.serving.http1.answer import Refusal
from pipelines.serving.http1.request import Request


def is_feedback(request: Request) -> bool:
    """Whether a POST is a label, not a question to an arm."""
    return request.target.partition(b"?")[0] == b"/feedback"


def answer_of(body: bytes, labels: Labels, counters: GatewayCounters) -> tuple[int, bytes]:
    """The status and body that answer a label: 200 with whether it is evidence, 4xx where it is none."""
    try:
        request_id, score, version = label_of(orjson.loads(body))
        is_evidence = labels.labelled(request_id, score, version)
    except orjson.JSONDecodeError:
        return 400, Refusal(400, "E_BODY", "the body is not JSON", "body").body
    except LabelRefused as error:
        return error.status, Refusal(error.status, error.code, str(error), error.field).body
    counters.labelled += 1
    return 200, orjson.dumps({"request_id": request_id, "evidence": is_evidence})
