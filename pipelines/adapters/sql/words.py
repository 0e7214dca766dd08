"""What does a database mean by its error: a race of two writers, a right that is missing, a value that it cannot take?

MLflow hands on what SQLAlchemy wrote, itself or through the text of its server: `(driver.Kind) what the database said`,
then the statement. Only the first line is judged, since users wrote what comes after it; and words count where the
database begins with them, because a name in the middle may be any word.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

_ANSWER = re.compile(r"(?:[A-Z_]+: )?\((?P<kind>[A-Za-z_]\w*(?:\.\w+)*)\) (?P<said>.*)")

_RACE_KIND = re.compile(
    r"IntegrityError|UniqueViolation|ForeignKeyViolation|DeadlockDetected|SerializationFailure", re.IGNORECASE
)
_RACE_SAID = re.compile(
    r"(?:UNIQUE|FOREIGN KEY) constraint failed"
    r"|duplicate (?:key value|entry)|could not serialize access|deadlock"
    r"|\((?:1062|1205|1213|1452),",  # MySQL: twice the same row, waited too long, deadlock, the parent is gone
    re.IGNORECASE,
)
_NO_RACE = re.compile(r"NOT NULL|CHECK constraint|\((?:1048|4025),", re.IGNORECASE)

_FORBIDDEN_KIND = re.compile(r"InsufficientPrivilege|InvalidPassword|InvalidAuthorization")
_FORBIDDEN_SAID = re.compile(
    r"attempt to write a readonly database|permission denied|access denied"
    r"|\((?:1044|1045|1142|1143|1227|1370|1698),"  # MySQL: no right to the database, the table, the column
    r"|.*FATAL:\s+(?:password authentication failed|permission denied|no pg_hba|pg_hba\.conf rejects|role .* does not)",
    re.IGNORECASE,
)

_VALUE_KIND = re.compile(
    r"DataError|DataRightTruncation|OutOfRange|Untranslatable|NotInRepertoire|InvalidText|NotNull|CheckViolation"
    r"|IntegrityError"
)


@dataclass(frozen=True)
class DatabaseAnswer:
    """The driver's name of an error and the first line of what the database said."""

    kind: str
    said: str

    @property
    def is_race(self) -> bool:
        """Two writers met at one row, or its parent went meanwhile: the next try finds how it ended."""
        if _NO_RACE.match(self.said):
            return False
        return bool(_RACE_KIND.search(self.kind) or _RACE_SAID.match(self.said))

    @property
    def is_forbidden(self) -> bool:
        """Who asks has no right to it."""
        return bool(_FORBIDDEN_KIND.search(self.kind) or _FORBIDDEN_SAID.match(self.said))

    @property
    def is_about_a_value(self) -> bool:
        """It cannot hold what was to be written: the same again gives the same answer."""
        return bool(_VALUE_KIND.search(self.kind))


def answer_of(error: BaseException) -> DatabaseAnswer | None:
    """The database's own answer in an error, if it is one of a database."""
    if isinstance(error, sqlite3.Error):
        return DatabaseAnswer(f"sqlite3.{type(error).__name__}", str(error))
    found = _ANSWER.match(str(error))
    return DatabaseAnswer(found["kind"], found["said"]) if found else None
