"""What is a gateway told when it starts?"""

from __future__ import annotations

import argparse
import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pipelines.records.settings import Recording, Shadowing
from pipelines.serving.http1.limits import Limits, with_files
from pipelines.serving.requests.assignment import Rule
from pipelines.serving.requests.data_plane import Serving

LABEL_S = 900.0


class TokenRefused(Exception):  # what happened, not a programming error
    """A token that others can read, or that cannot be kept."""


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    """The options of a command line."""
    return _parser().parse_args(argv)


def serving_of(options: argparse.Namespace) -> Serving:
    """How users are served by these options. TokenRefused where the token is not private."""
    token = token_in(options.override_token) if options.override_token else ""
    limits = with_files(Limits())
    record = (options.record, options.recording) if options.record else None
    return Serving(
        options.interval_s,
        options.timeout_s,
        options.slices,
        options.label_s,
        limits,
        options.assign,
        token,
        record,
        options.drain_s,
        options.convicted_streams == "cut",
        options.shadow,
        options.idempotent,
    )


def token_in(path: Path) -> str:
    """The token in a file that only its owner may read; a new one where there is none."""
    try:
        with (
            suppress(FileExistsError),
            os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out,
        ):
            out.write(secrets.token_hex(16))
        if path.stat().st_mode & 0o077:
            raise TokenRefused(f"{path} can be read by others: chmod 600 is expected")
        return path.read_text().strip()
    except OSError as error:
        raise TokenRefused(f"{path} cannot be used: {error.strerror}") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _recording(text: str) -> Recording:
    return Recording.from_dict(json.loads(text)) or Recording()


def _shadowing(text: str) -> Shadowing | None:
    return Shadowing.from_dict(json.loads(text))


def _workers(text: str) -> int:
    if not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError("1 to 64 workers are possible")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines.serving.gateway", description=__doc__)
    parser.add_argument("--service", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="never anything else by default")
    parser.add_argument("--admin-socket", type=Path, required=True)
    parser.add_argument("--snapshot", type=Path, required=True, help="where the split outlives this process")
    parser.add_argument("--interval-s", type=float, default=1.0, help="length of an interval of evidence")
    parser.add_argument("--timeout-s", type=float, default=10.0, help="time for an answer")
    parser.add_argument(
        "--slices", type=_names, default=(), help="headers, or body.PATH, by comma: each value is judged"
    )
    parser.add_argument("--label-s", type=float, default=LABEL_S, help="how long an answer may be labelled")
    parser.add_argument(
        "--assign", type=Rule.from_text, help="header:NAME, cookie:NAME or body:PATH: users stay at their arm"
    )
    parser.add_argument(
        "--override-token", type=Path, help="a file whose token lets smoke tests choose an arm; it is made"
    )
    parser.add_argument("--record", type=Path, default=None, help="where a sample of the requests is kept")
    parser.add_argument("--recording", type=_recording, default=Recording(), help="which requests are kept, as JSON")
    parser.add_argument("--shadow", type=_shadowing, help="which requests the canary is asked, too, as JSON")
    parser.add_argument("--idempotent", type=_names, default=(), help="paths that may be asked twice, by comma")
    parser.add_argument("--drain-s", type=float, default=10.0, help="how long answers may go on at an end")
    parser.add_argument(
        "--convicted-streams", choices=("finish", "cut"), default="finish", help="of a canary sent home"
    )
    parser.add_argument("--workers", type=_workers, default=1, help="processes that serve users")
    return parser
