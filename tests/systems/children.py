"""Processes that a test starts, told apart from those that others have left in the same session."""

import psutil


def living_children() -> set[psutil.Process]:
    """What this process has started, itself or through others, and what has not ended.

    Who has ended and was not collected yet (a zombie) is a line in a table and no process any more: another test's
    server stays one until somebody waits for it.
    """
    return {child for child in psutil.Process().children(recursive=True) if lives(child)}


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
