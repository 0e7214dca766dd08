"""What is a gateway told when it starts?

Who it is and where its files lie are options; how it behaves is a file. Without one it behaves as usual, which
`GatewaySettings` says.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.errors import BadInput
from pipelines.records.settings import GatewaySettings, Recording
from pipelines.serving.http1.limits import Limits, with_files
from pipelines.serving.requests.assignment import rule_of
from pipelines.serving.requests.data_plane import Serving
from pipelines.serving.settings_file import read_settings

MOST_WORKERS = 64
EXIT_INPUT = 2


class TokenRefused(Exception):  # what happened, not a programming error
    """A token that others can read, or that cannot be kept."""


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    """The options of a command line."""
    return _parser().parse_args(argv)


def settings_of(options: argparse.Namespace) -> GatewaySettings:
    """How a gateway of these options behaves. BadInput E_SETTINGS_… where its file does not say so."""
    said = {name: value for name, value in vars(options).items() if name in _SAID_ONCE}
    if options.settings and said:
        raise BadInput(f"it stands in {options.settings}", code="E_SETTINGS_TWICE", field=_option(min(said)))
    if options.settings:
        return read_settings(options.settings, GatewaySettings)
    record = said.get("recording") or asdict(Recording()) if options.record else None
    return GatewaySettings.from_dict({**said, "record": record})


def serving_of(options: argparse.Namespace, settings: GatewaySettings) -> Serving:
    """How users are served by these options. TokenRefused where the token is not private, BadInput E_SETTINGS_VALUE."""
    if not 1 <= settings.workers <= MOST_WORKERS:
        raise BadInput(f"1 to {MOST_WORKERS} workers are possible", code="E_SETTINGS_VALUE", field="workers")
    try:
        rule_of(settings.assign)
    except ValueError as error:
        raise BadInput(str(error), code="E_SETTINGS_VALUE", field="assign") from None
    token = token_in(options.override_token) if options.override_token else ""
    return Serving(options.interval_s, settings, with_files(Limits()), token, options.record)


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


_SAID_ONCE: dict[str, Callable[[str], Any]] = {
    "timeout_s": float,
    "label_s": float,
    "drain_s": float,
    "workers": int,
    "slices": _names,
    "idempotent": _names,
    "assign": str,
    "convicted_streams": str,
    "recording": json.loads,
    "shadow": json.loads,
}
"""What was said as options before there was a file. A gateway that was started so runs on when Shipway is upgraded,
and hires its workers by its own command line. No setting that is added stands here."""


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.serving.gateway", description=__doc__, argument_default=argparse.SUPPRESS
    )
    parser.add_argument("--service", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="never anything else by default")
    parser.add_argument("--admin-socket", type=Path, required=True)
    parser.add_argument("--snapshot", type=Path, required=True, help="where the split outlives this process")
    parser.add_argument("--settings", type=Path, default=None, help="a file of mode 0600: how it behaves")
    parser.add_argument("--interval-s", type=float, default=1.0, help="length of an interval of evidence")
    parser.add_argument(
        "--override-token",
        type=Path,
        default=None,
        help="a file whose token lets smoke tests choose an arm; it is made",
    )
    parser.add_argument("--record", type=Path, default=None, help="where the requests lie that the settings keep")
    for name, kind in _SAID_ONCE.items():
        parser.add_argument(_option(name), type=kind, help=argparse.SUPPRESS)
    return parser
