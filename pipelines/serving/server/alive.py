"""Does the server in this container answer a question? Its image asks so, and exit code 0 says that it does.

    python -m pipelines.serving.server.alive

Alive means that it answers: a server that only accepts connections is not. It is asked every few seconds beside what
users ask, so this imports nothing but the standard library.
"""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

MANIFEST = Path("/srv/bundle/manifest.json")
URL = "http://127.0.0.1:8080"
QUESTIONS: dict[str, tuple[str, dict[str, Any], str, float]] = {
    "classification": ("/invocations", {"inputs": ["is anybody there?"]}, "predictions", 4.0),
    "generation": ("/v1/completions", {"prompt": "Hello", "max_tokens": 1}, "choices", 60.0),
}
"""By task: where it is asked, what, under which key the answers stand, and after how many seconds it is no answer."""


def main(url: str = URL, manifest: Path = MANIFEST) -> None:
    """Ask the server of this bundle. Raises whatever is wrong with it."""
    task = json.loads(manifest.read_bytes())["facts"].get("task", "classification")
    path, body, key, within_s = QUESTIONS[task]
    asked = urllib.request.Request(url + path, json.dumps(body).encode(), {"content-type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(asked, timeout=within_s) as answer:  # noqa: S310  loopback
        json.load(answer)[key][0]


if __name__ == "__main__":
    main()
