"""Who ends a server that Prefect starts for one process alone? That process, of whatever it dies, and no Ctrl-C.

A terminal sends the signal to every process of the foreground group: the server would end at once, and the release that
is taking its traffic home would wait for it in vain. So it gets a session of its own, and a tether.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from flows.control.prefect_server import APP
from flows.control.tether import leash, tethered


def end_with_this_process() -> None:
    """From now on a server that Prefect starts for this process alone hears no Ctrl-C, and ends with the process."""
    if os.environ.get("PREFECT_API_URL"):
        return  # Prefect will start none, and importing its server costs a second
    from prefect.server.api.server import SubprocessASGIServer

    start = SubprocessASGIServer._run_uvicorn_command  # noqa: SLF001  Prefect offers no setting for it
    if not hasattr(start, "__wrapped__"):
        SubprocessASGIServer._run_uvicorn_command = _tied(start)  # noqa: SLF001


def _tied(start: Callable[..., Any]) -> Callable[..., Any]:
    popen = subprocess.Popen

    def tied_popen(args: Sequence[str], **kwargs: Any) -> Any:
        if APP not in args:  # another thread's
            return popen(args, **kwargs)
        return popen(tethered(args), stdin=leash(), start_new_session=True, **kwargs)

    @functools.wraps(start)
    def started(*args: Any, **kwargs: Any) -> Any:
        with mock.patch.object(subprocess, "Popen", tied_popen):
            return start(*args, **kwargs)

    return started
