"""How is an engine asked that speaks OpenAI's API at an address of its own, and how many answers are open there?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

import orjson

from pipelines.errors import BadInput
from pipelines.serving.probes import answer_of
from pipelines.serving.sockets import trust

ANSWER_S = 120.0
DRAIN_LOOK_S = 0.02


class EngineApi:
    """An engine at a URL. `counts` finds in its metrics how many answers run or wait.

    A `key` goes with every question. What it is asked names the model `called`, where that is said.
    """

    def __init__(
        self, url: str, counts: re.Pattern[bytes], called: str = "", answer_s: float = ANSWER_S, key: str = ""
    ) -> None:
        self.url, self._counts, self._answer_s = url, counts, answer_s
        self._named = {"model": called} if called else {}
        self._heads = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}

    def is_well(self) -> bool:
        """Whether it says so."""
        return answer_of(self.url, "/health")[0] == 200

    def open_answers(self) -> int:
        """How many run or wait."""
        return sum(int(float(n)) for n in self._counts.findall(answer_of(self.url, "/metrics")[1]))

    def drain(self, deadline_s: float) -> int:
        """How many answers are still open after so many seconds, or as soon as none is."""
        until_s = monotonic() + deadline_s
        while (still := self.open_answers()) and monotonic() < until_s:
            sleep(DRAIN_LOOK_S)
        return still

    def ask(self, path: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """What it answers at a path. BadInput E_INFERENCE where that is no good answer."""
        connection = self._connection()
        try:
            body = orjson.dumps({**asked, **self._named})
            connection.request("POST", path, body, self._heads)
            answer = connection.getresponse()
            said = orjson.loads(answer.read())
        except (OSError, HTTPException, orjson.JSONDecodeError) as error:
            raise BadInput(f"{path} failed: {type(error).__name__}", code="E_INFERENCE") from error
        finally:
            connection.close()
        if answer.status != 200 or not isinstance(said, dict):
            raise BadInput(f"{path} answered {answer.status}: {said}"[:300], code="E_INFERENCE")
        return said

    def _connection(self) -> HTTPConnection:
        parts = urlsplit(self.url)
        host = str(parts.hostname)
        if parts.scheme == "https":
            return HTTPSConnection(host, parts.port, timeout=self._answer_s, context=trust(""))
        return HTTPConnection(host, parts.port, timeout=self._answer_s)
