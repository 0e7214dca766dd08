"""Who looks at the canary while Prefect writes down what it saw?

The looks have a thread of their own. Prefect's tasks only wait for it, so a server of Prefect's that is slow or gone
stands between no two looks: nothing that users meet depends on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from pipelines.records.release import Phase, Release
from pipelines.rollout.look import Controller, drive


class Driving:
    """One release on its way to its end, in a thread."""

    def __init__(self, controller: Controller, release: Release, sleep: Callable[[float], None]) -> None:
        self.release = release
        self._controller, self._sleep = controller, sleep
        self._error: BaseException | None = None
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._drive, name=f"looks-{release.id}", daemon=True)
        self._thread.start()

    def wait(self, leave: frozenset[Phase]) -> Release:
        """The release once it has ended or entered a phase in `leave`. Raises what a look raised."""
        with self._moved:
            self._moved.wait_for(lambda: self._is_over or self.release.phase in leave)
        if self._error is not None and self.release.phase not in leave:
            raise self._error
        return self.release

    @property
    def _is_over(self) -> bool:
        return self.release.is_ended or self._error is not None

    def _drive(self) -> None:
        try:
            drive(self._controller, self.release, self._sleep, leave=frozenset(), after_look=self._note)
        except BaseException as error:  # noqa: BLE001  raised again by whoever waits
            with self._moved:
                self._error = error
                self._moved.notify_all()

    def _note(self, release: Release) -> None:
        with self._moved:
            self.release = release
            self._moved.notify_all()


def last_of(driving: Driving | None, release: Release) -> Release:
    """The release when nobody drives it any more, however that came."""
    if driving is None:
        return release
    with suppress(Exception):
        driving.wait(frozenset())
    return driving.release
