"""The command line: what a person, a CI job or a script types."""

from flows.cli.app import main

__all__ = ["main"]
