"""How does a label or a rating of an earlier answer come in?"""

from __future__ import annotations

import orjson

from pipelines.serving.gateway_metrics import GatewayCounters
from pipelines.serving.http1_answer import Refusal
from pipelines.serving.http1_client import ClientConnection
from pipelines.serving.http1_request import Request
from pipelines.serving.labels import LabelRefused, Labels, label_of


def is_feedback(request: Request) -> bool:
    """Whether a request is a label, not a question to an arm."""
    return request.method == b"POST" and request.target.partition(b"?")[0] == b"/feedback"


def take_feedback(client: ClientConnection, request: Request, labels: Labels, counters: GatewayCounters) -> None:
    """A score from 0 to 1: 200 with whether it is evidence, 4xx where it is none."""
    own_id = request.known.get(b"x-request-id", b"")
    try:
        request_id, score, version = label_of(orjson.loads(request.body))
        is_evidence = labels.labelled(request_id, score, version)
    except orjson.JSONDecodeError:
        client.refuse(Refusal(400, "E_BODY", "the body is not JSON", "body"), own_id)
    except LabelRefused as error:
        client.refuse(Refusal(error.status, error.code, str(error), error.field), own_id)
    else:
        counters.labelled += 1
        client.reply(200, orjson.dumps({"request_id": request_id, "evidence": is_evidence}), own_id)
