"""What can go wrong, and what does Shipway say about it?

    ShipwayError
    ├── BadInput            exit 2   the input is wrong; nothing was changed
    │   ├── NotFound                 a model, version, alias, release or service that does not exist
    │   ├── Forbidden                the registry knows who asks, and does not let him
    │   ├── NoTokens                 a text of which the model's tokenizer leaves nothing
    │   └── UnsafeArtifact           a model folder that needs code, a pickle, or is damaged
    ├── DependencyDown      exit 7   a service that Shipway depends on is down (MLflow, `up`, a gateway)
    │   ├── Raced                    others wrote the same row at once, again and again
    │   └── NewerDatabase            a database that a newer program has brought forward
    ├── Withdrawn           exit 6   a release was taken back while it waited for its service
    ├── Busy                exit 8   another release holds the service
    ├── StaleWriter         exit 8   a fenced-off controller tried to write; it must stop
    │   └── AliasMoved               somebody else moved the alias meanwhile
    └── LedgerBroken        exit 7   the record does not verify

Every error carries a stable `code` (`E_…`), the `field` at fault, the reason, and a hint. Low-level errors are
mapped to these once, at the adapter.
"""

from __future__ import annotations

from typing import ClassVar


class ShipwayError(Exception):
    """An error that is meant for a person: what happened, what was expected, what to do."""

    exit_code: ClassVar[int] = 2
    default_code: ClassVar[str] = "E_SHIPWAY"

    def __init__(
        self,
        reason: str,
        *,
        code: str | None = None,
        field: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.code = code or self.default_code
        self.reason = reason
        self.field = field
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        where = f" ({self.field})" if self.field else ""
        return f"{self.code}{where}: {self.reason}"

    def lines(self) -> list[str]:
        """The three short lines that a terminal shows."""
        shown = [str(self)]
        if self.expected:
            shown.append(f"  expected: {self.expected}")
        if self.hint:
            shown.append(f"  try: {self.hint}")
        return [_visible(line) for line in shown]

    def as_dict(self) -> dict[str, str | None]:
        """The same for `--json` and HTTP answers."""
        return {
            "code": self.code,
            "field": self.field,
            "reason": self.reason,
            "expected": self.expected,
            "hint": self.hint,
        }


def _visible(text: str) -> str:
    """The text with every line end, control and direction character escaped: it may come from anywhere."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


class BadInput(ShipwayError):
    """The input is wrong; nothing was changed."""

    exit_code = 2
    default_code = "E_CONFIG"


class NotFound(BadInput):
    """A model, version, alias, release or service that does not exist."""

    default_code = "E_NOT_FOUND"


class Forbidden(BadInput):
    """Who asks is known, and may not do this: rights are missing, or were taken away."""

    default_code = "E_FORBIDDEN"


class NoTokens(BadInput):
    """A text of which the model's tokenizer leaves nothing. `row` is its index among the texts that were asked."""

    default_code = "E_NO_TOKENS"

    def __init__(self, row: int) -> None:
        reason = f"the model's tokenizer leaves nothing of text {row}"
        super().__init__(reason, field=f"texts.{row}", expected="at least one token")
        self.row = row


class UnsafeArtifact(BadInput):
    """A model folder that would need code or a pickle, or whose files are damaged."""

    default_code = "E_UNSAFE_FORMAT"


class DependencyDown(ShipwayError):
    """A service that Shipway depends on does not answer."""

    exit_code = 7
    default_code = "E_DEPENDENCY"


class Raced(DependencyDown):
    """Others wrote the same row at the same time, and at every further try."""

    default_code = "E_RACED"


class NewerDatabase(DependencyDown):
    """A database that a newer program has brought forward; this one cannot read it, and asking again helps nobody."""

    default_code = "E_NEWER_DATABASE"


class Withdrawn(ShipwayError):
    """A release that waited for its service was taken back; nothing of it had begun."""

    exit_code = 6
    default_code = "E_WITHDRAWN"


class Busy(ShipwayError):
    """Another release holds the service."""

    exit_code = 8
    default_code = "E_BUSY"


class StaleWriter(ShipwayError):
    """A controller that was fenced off tried to write; it must stop at once."""

    exit_code = 8
    default_code = "E_STALE"


class AliasMoved(StaleWriter):
    """Somebody else moved the alias between the read and the write."""

    default_code = "E_ALIAS_MOVED"


class LedgerBroken(ShipwayError):
    """The record does not verify."""

    exit_code = 7
    default_code = "E_LEDGER"
