"""Which of people's words is obeyed, and what does it change in the record of a release?"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.ports import Command, Now
from pipelines.records.asking import Asked
from pipelines.records.release import Release

HOMEWARD_VERBS = frozenset({"abort", "rollback"})
MOVING_VERBS = HOMEWARD_VERBS | {"promote"}

UNSEEN = "while no user has met it"
"""What an abort is about that shall not take a release home which users have met."""


def came_too_late(release: Release, command: Command) -> bool:
    """Whether this word was about a release that no user had met, and one has since."""
    return command.about == UNSEEN and release.is_exposed


def first_word(waiting: Sequence[Command]) -> Command | None:
    """Which word is obeyed at this look? The oldest, but one that sends home is heard before any other."""
    return min(waiting, key=lambda command: command.verb not in HOMEWARD_VERBS, default=None)


def has_recorded(release: Release, command: Command) -> bool:
    """Whether this very word is in the record."""
    return any(said.data["command"] == command.id for said in release.of_kind("commanded"))


def record_command(release: Release, command: Command, now: Now) -> Release:
    """The release after a person's word, with what that word changes. A word that is heard twice counts once."""
    if has_recorded(release, command):
        return release
    said = release.record(
        now.wall_s,
        "commanded",
        verb=command.verb,
        actor=command.actor,
        reason=command.reason,
        command=command.id,
        about=command.about,
    )
    match command.verb:
        case "pause" | "resume":
            return said.record(now.wall_s, "paused", on=command.verb == "pause")
        case "approve":
            asked = Asked.named(command.about) if command.about else release.asks
            return said.record(now.wall_s, "approved", **asked.as_dict()) if asked else said
        case _:
            return said
