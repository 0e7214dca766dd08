"""Which Prefect does this process talk to? The one that the user named, or that of its home's `up`, or one of its own.

Prefect reads the environment when it is imported, so this is settled before, and imports nothing of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import httpx

from flows.control.prefect_server import auth_string, request_file
from flows.control.up_file import find_up, up_file
from pipelines.errors import DependencyDown
from pipelines.home import Home

VARIABLE = "PREFECT_API_URL"
ANSWER_S = 10.0
START_S = 90.0
POLL_S = 0.1


def refuse_silent_prefect() -> None:
    """A Prefect that the user named must answer, whatever it says. DependencyDown E_PREFECT."""
    url = os.environ.get(VARIABLE)
    if not url:
        return
    shown = "what it names"
    try:
        # Without the name and the password in it: only whether somebody is there is asked, of whoever that is.
        bare = httpx.URL(url).copy_with(userinfo=b"", query=None)
        shown = str(bare)
        status = httpx.get(f"{shown.rstrip('/')}/health", timeout=ANSWER_S, verify=False).status_code  # noqa: S501
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise _silent(shown, type(error).__name__) from None
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise _silent(shown, f"status {status}")


def _silent(shown: str, why: str) -> DependencyDown:
    return DependencyDown(
        f"Prefect at {shown} does not answer ({why})",
        code="E_PREFECT",
        field=VARIABLE,
        expected="the address of a Prefect API, as http://127.0.0.1:4200/api",
        hint=f"start it, or unset {VARIABLE}: shipway up has one for this home",
    )


def use_homes_prefect(home: Home, is_stopped: Callable[[], bool] = lambda: False) -> str:
    """From now on Prefect in this process talks to the server of the home's `up`; why not, where it does not.

    Nothing is changed where the user named another, or has settings of Prefect's own: a profile may name one.
    """
    if os.environ.get(VARIABLE) or os.environ.get("PREFECT_PROFILE") or not _is_prefect_at(home):
        return ""
    try:
        request_file(home).parent.mkdir(mode=0o700, exist_ok=True)
        request_file(home).touch()
        url, why = _wait(home, request_file(home).stat().st_mtime, is_stopped)
        if url:
            os.environ.update({VARIABLE: url, "PREFECT_API_AUTH_STRING": auth_string(home)})
    except OSError as error:
        return str(error)
    return why


def _is_prefect_at(home: Home) -> bool:
    return os.environ.get("PREFECT_HOME", "") in {"", str(home.root / "prefect")}


def _wait(home: Home, asked_s: float, is_stopped: Callable[[], bool]) -> tuple[str, str]:
    """The address of the server, or why there is none."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and not is_stopped():
        up = find_up(home)
        if up is None:
            return "", "shipway up does not run"
        if "prefect" not in up:
            return "", "the running shipway up is an older one"
        if up["prefect"]:
            return str(up["prefect"]), ""
        if up["prefect_error"] and up_file(home).stat().st_mtime > asked_s:  # it may try again for this release
            return "", str(up["prefect_error"])
        time.sleep(POLL_S)
    return "", "it did not answer in time" if not is_stopped() else "the release is to stop"
