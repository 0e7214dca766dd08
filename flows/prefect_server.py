"""Who else hears a Ctrl-C? Not the server that Prefect starts for a run without PREFECT_API_URL.

A terminal sends the signal to every process of the foreground group. Prefect's own server would end at once, and the
release that is taking its traffic home would wait for it in vain.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from typing import Any
from unittest import mock


def keep_from_signals() -> None:
    """From now on Prefect's own server is started in a session of its own; Prefect still ends it with this process."""
    from prefect.server.api.server import SubprocessASGIServer

    start = SubprocessASGIServer._run_uvicorn_command  # noqa: SLF001  Prefect offers no setting for it
    if not hasattr(start, "__wrapped__"):
        SubprocessASGIServer._run_uvicorn_command = _apart(start)  # noqa: SLF001


def _apart(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def started(*args: Any, **kwargs: Any) -> Any:
        with mock.patch.object(subprocess, "Popen", functools.partial(subprocess.Popen, start_new_session=True)):
            return start(*args, **kwargs)

    return started
