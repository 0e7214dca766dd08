"""How does a gateway take a label?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import httpx
import orjson

from pipelines.errors import DependencyDown
from pipelines.services.feedback import EVIDENCE, LATE, UNKNOWN, Fate

TIMEOUT_S = 5.0
OF_LABELS = ("E_LABEL", "E_BODY", "E_LIMIT")
"""Beginnings of the codes with which a gateway refuses a label."""


class GatewayFeedback:
    """The `/feedback` of a gateway at `url`."""

    def __init__(self, url: str) -> None:
        self._url = f"{url.rstrip('/')}/feedback"

    def take(self, body: Mapping[str, Any]) -> Fate:
        """What became of a label. DependencyDown where nobody answers, or nobody who knows labels."""
        headers = {"content-type": "application/json"}
        try:
            answer = self._client.post(self._url, content=orjson.dumps(body), headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._down(str(error) or type(error).__name__) from None
        try:
            return _fate(answer.json())
        except (ValueError, KeyError, TypeError):
            raise self._down(f"it answered {answer.status_code} and no word on the label") from None

    @cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client(timeout=TIMEOUT_S, trust_env=False)

    def _down(self, reason: str) -> DependencyDown:
        hint = "shipway up starts the gateway; then run the same command again"
        return DependencyDown(f"{self._url} takes no labels: {reason}", code="E_ROUTER", hint=hint)


def _fate(said: Any) -> Fate:
    """KeyError for an answer that says nothing of a label: it comes from something else than a gateway."""
    if "error" not in said:
        return Fate(EVIDENCE if said["evidence"] else LATE)
    error = said["error"]
    code = str(error["code"])
    if not code.startswith(OF_LABELS):
        raise KeyError(code)
    return Fate(UNKNOWN if code == "E_LABEL_UNKNOWN" else code, f"{error['field']}: {error['reason']}")
