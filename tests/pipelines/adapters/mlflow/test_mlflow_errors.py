"""Which answer is it? Recorded from MLflow 3.17 on SQLite, PostgreSQL 15 and MariaDB 10.11, and through its server."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.mlflow.errors import is_race, mapped
from pipelines.adapters.mlflow.registry import MlflowRegistry
from pipelines.adapters.sql.shown_address import hide, shown_address
from pipelines.errors import BadInput, DependencyDown, Forbidden, NewerDatabase, NotFound, Raced, ShipwayError

HTTP, SQLITE = "http://mlflow.local:5000", "sqlite:////nowhere/mlflow.db"

STATEMENT = (
    "\n[SQL: INSERT INTO model_version_tags (name) VALUES (?)]\n[parameters: ('UNIQUE constraint failed', '1062')]"
)

SERVER = '(psycopg.OperationalError) connection failed: connection to server at "127.0.0.1", port 5432 failed: '
UNIQUE = '(psycopg.errors.UniqueViolation) duplicate key value violates unique constraint "registered_model_alias_pk"'
DUPLICATE = "(pymysql.err.IntegrityError) (1062, \"Duplicate entry 'default-m-a0' for key 'PRIMARY'\")"

RACES = [
    ("BAD_REQUEST", UNIQUE + "\nDETAIL:  Key (workspace, name, alias)=(default, m, a0) already exists."),
    ("BAD_REQUEST", UNIQUE.replace("psycopg.", "psycopg2.")),
    ("BAD_REQUEST", DUPLICATE),
    ("BAD_REQUEST", DUPLICATE.replace("pymysql.err", "MySQLdb")),
    ("BAD_REQUEST", "(sqlite3.IntegrityError) UNIQUE constraint failed: registered_model_aliases.name"),
    ("BAD_REQUEST", "(sqlite3.IntegrityError) unique constraint failed: registered_model_aliases.name"),
    ("BAD_REQUEST", "(sqlite3.IntegrityError) FOREIGN KEY constraint failed"),
    (
        "BAD_REQUEST",
        '(psycopg.errors.ForeignKeyViolation) insert or update on table "model_version_tags" violates foreign key '
        'constraint "fk_model_version_tags_model_versions"',
    ),
    (
        "BAD_REQUEST",
        "(pymysql.err.IntegrityError) (1452, 'Cannot add or update a child row: a foreign key constraint fails')",
    ),
    ("TEMPORARILY_UNAVAILABLE", "(psycopg.errors.DeadlockDetected) deadlock detected\nDETAIL:  Process 26970 waits"),
    (
        "TEMPORARILY_UNAVAILABLE",
        "(psycopg.errors.SerializationFailure) could not serialize access due to concurrent update",
    ),
    (
        "TEMPORARILY_UNAVAILABLE",
        "(pymysql.err.OperationalError) (1213, 'Deadlock found when trying to get lock; try restarting transaction')",
    ),
    (
        "TEMPORARILY_UNAVAILABLE",
        "(pymysql.err.OperationalError) (1205, 'Lock wait timeout exceeded; try restarting transaction')",
    ),
    ("INTERNAL_ERROR", "Model Version creation error (name=m). Giving up after 3 attempts."),
]

REFUSED = [
    ("INVALID_PARAMETER_VALUE", "'key' exceeds the maximum length of 250 characters"),
    ("INVALID_PARAMETER_VALUE", "Invalid model name 'UNIQUE constraint failed'. Names cannot contain '/' or ':'."),
    ("INVALID_PARAMETER_VALUE", UNIQUE),
    ("RESOURCE_ALREADY_EXISTS", "Registered Model (name=Duplicate entry) already exists."),
    ("BAD_REQUEST", "(psycopg.DataError) PostgreSQL text fields cannot contain NUL (0x00) bytes"),
    ("BAD_REQUEST", "(pymysql.err.DataError) (1406, \"Data too long for column 'key' at row 1\")"),
    ("BAD_REQUEST", "(sqlite3.IntegrityError) NOT NULL constraint failed: model_version_tags.name"),
    ("BAD_REQUEST", "a tag has no value"),
]

FORBIDDEN = [
    ("INTERNAL_ERROR", "The following failures occurred: ##### File a ##### 403 Client Error: FORBIDDEN for url: x"),
    ("INTERNAL_ERROR", "##### File a ##### An error occurred (403) when calling the HeadObject operation: Forbidden"),
    ("INTERNAL_ERROR", "An error occurred (AccessDenied) when calling the GetObject operation: Access Denied"),
    ("INTERNAL_ERROR", "##### File a ##### [Errno 13] Permission denied: '/mnt/models/a'"),
    ("PERMISSION_DENIED", "API request to endpoint /x failed with error code 403 != 200. Response body: 'no'"),
    ("UNAUTHENTICATED", "You are not authenticated."),
    ("TEMPORARILY_UNAVAILABLE", "(sqlite3.OperationalError) attempt to write a readonly database"),
    ("BAD_REQUEST", "(psycopg.errors.InsufficientPrivilege) permission denied for table model_version_tags"),
    ("", SERVER + 'FATAL:  password authentication failed for user "u"'),
    ("", SERVER + 'FATAL:  role "nobody" does not exist'),
    ("", SERVER + 'FATAL:  pg_hba.conf rejects connection for host "127.0.0.1", user "u"'),
    ("", "(pymysql.err.OperationalError) (1045, \"Access denied for user 't'@'localhost' (using password: YES)\")"),
    (
        "TEMPORARILY_UNAVAILABLE",
        "(pymysql.err.OperationalError) (1142, \"UPDATE command denied to user 'ro'@'localhost' for table 'tags'\")",
    ),
]

DOWN = [
    ("INTERNAL_ERROR", "API request to http://h/api failed with exception HTTPConnectionPool: Connection refused"),
    ("TEMPORARILY_UNAVAILABLE", "(sqlite3.OperationalError) database is locked"),
    ("", "(sqlite3.OperationalError) unable to open database file"),
    ("TEMPORARILY_UNAVAILABLE", "(psycopg.errors.QueryCanceled) canceling statement due to statement timeout"),
    ("TEMPORARILY_UNAVAILABLE", "(psycopg.errors.LockNotAvailable) canceling statement due to lock timeout"),
    (
        "BAD_REQUEST",
        "(psycopg.errors.ReadOnlySqlTransaction) cannot execute UPDATE in a read-only transaction",  # a standby
    ),
    ("BAD_REQUEST", "(sqlite3.ProgrammingError) no such table: deadlock"),
    ("", SERVER + "Connection refused"),
    ("", "(pymysql.err.OperationalError) (2003, \"Can't connect to MySQL server on 'deadlock' ([Errno 111])\")"),
    ("REQUEST_LIMIT_EXCEEDED", "slow down"),
    ("INTERNAL_ERROR", "##### File a ##### 503 Server Error: SERVICE UNAVAILABLE for url: x"),
    ("", "[Errno 28] No space left on device"),
    ("ENDPOINT_NOT_FOUND", "API request to endpoint /x failed with error code 404 != 200. Response body: ''"),
    ("INTERNAL_ERROR", "whatever else"),
]


class _Said(Exception):
    """What MLflow raises: a text and a code."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.error_code = code


def _answer(error: Exception, uri: str = HTTP) -> ShipwayError:
    with pytest.raises(ShipwayError) as caught, mapped("mark m", uri):
        raise error
    return caught.value


def _cases(table: list[tuple[str, str]], kind: type[ShipwayError], code: str) -> list[Any]:
    return [pytest.param(said, text, kind, code, id=f"{kind.__name__}-{text[:60]}") for said, text in table]


ALL = [
    *_cases(RACES, Raced, "E_RACED"),
    *_cases(REFUSED, BadInput, "E_REGISTRY"),
    *_cases(FORBIDDEN, Forbidden, "E_FORBIDDEN"),
    *_cases([("RESOURCE_DOES_NOT_EXIST", "Model Version (name=m, version=99) not found")], NotFound, "E_NOT_FOUND"),
    *_cases(DOWN, DependencyDown, "E_REGISTRY"),
]


@pytest.mark.parametrize(("said", "text", "kind", "code"), ALL)
def test_every_error_is_exactly_one_answer(said, text, kind, code):
    """Whatever the statement after it holds, since that is what users wrote."""
    answers = [
        _answer(_Said(said, text)),
        _answer(_Said(said, text + STATEMENT) if "(" in text[:1] else _Said(said, text)),
    ]
    assert [(type(answer), answer.code) for answer in answers] == [(kind, code)] * 2
    assert is_race(_Said(said, text)) == (kind is Raced)


@pytest.mark.parametrize(("said", "text", "kind", "code"), [case for case in ALL if case.values[0]])
def test_it_is_the_same_answer_through_a_server(said, text, kind, code):
    """MLflow's server sends code and text, and its client puts the code before the text."""
    assert type(_answer(_Said(said, f"{said}: {text}"))) is kind


def test_a_file_without_rights_is_forbidden():
    """The disk's own words."""
    for number in (errno.EACCES, errno.EPERM, errno.EROFS):
        assert type(_answer(OSError(number, os.strerror(number)), SQLITE)) is Forbidden
    assert type(_answer(OSError(errno.ENOSPC, "No space left on device"), SQLITE)) is DependencyDown


def test_a_cause_may_carry_the_status():
    """The files' store answers for itself: requests' errors by an object, botocore's by a mapping."""
    for response in (type("R", (), {"status_code": 403})(), {"ResponseMetadata": {"HTTPStatusCode": 403}}):
        cause = Exception("Forbidden")
        cause.response = response
        outer = Exception("could not download")
        outer.__cause__ = cause
        assert type(_answer(outer)) is Forbidden


@pytest.mark.parametrize(
    ("uri", "hint"),
    [(HTTP, "MLFLOW_TRACKING_PASSWORD"), (SQLITE, "/nowhere/mlflow.db"), ("postgresql://h/d", "rights")],
)
def test_what_is_forbidden_says_whose_rights(uri, hint):
    """A server asks for a user, a file for its owner, a database for a role."""
    assert hint in str(_answer(_Said("PERMISSION_DENIED", "no"), uri).hint)


class TestSecrets:
    """Nothing that is shown holds a password or a token."""

    @pytest.mark.parametrize(
        ("address", "shown"),
        [
            ("http://user:s3cret@h:5000/x", "http://h:5000/x"),
            ("http://user:p@ss:s3cret@h:5000", "http://h:5000"),
            ("http://user:p/s3cret@h", "http://h"),
            ("http://user:a?s3cret@h", "http://***"),
            ("http://h/?token=s3cret", "http://h/?***"),
            ("http://h/?token=s3cret@b", "http://***"),
            ("http://h/#s3cret", "http://h/?***"),
            ("postgresql+psycopg://u:s3cret%40@h/d?password=s3cret", "postgresql+psycopg://h/d?***"),
            ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
            ("http://[s3cret", "http://[s3cret"),
            ("databricks", "databricks"),
        ],
    )
    def test_of_an_address_only_the_place_is_shown(self, address, shown):
        """A password may hold any character, and a query may be a token."""
        assert shown_address(address) == shown

    @pytest.mark.parametrize(
        ("uri", "said"),
        [
            ("http://user:p@s3cret@h", "host 's3cret@h', password p@s3cret"),
            ("http://h/?token=s3cret", "Max retries exceeded with url: /x?token=s3cret"),
            ("mysql://u:s3%63ret@h", "user u, password s3cret, s3%63ret"),
            ("mysql://u:x?s3cret@h/d", "password x?s3cret"),
        ],
    )
    def test_of_a_sentence_nothing_is_left(self, uri, said):
        """As it stands in the address, as it is meant, cut by those who stop at the first @, and of other addresses."""
        for text in (f"Invalid url: {uri}/api", said, "at redis://x:s3cret@r:1/0 too"):
            told = _answer(_Said("INTERNAL_ERROR", text), uri)
            assert "s3cret" not in "\n".join(told.lines())

    def test_the_rest_of_a_sentence_stays(self):
        """A name with an @ is no address."""
        assert hide("models:/m@champion at http://u:pw@h/x is gone", HTTP) == "models:/m@champion at http://h/x is gone"
        assert hide("nothing", "") == "nothing"


@pytest.fixture
def answering() -> Iterator[Callable[..., str]]:
    """A server that gives one answer to whatever it is asked; the function returns its address."""
    servers: list[ThreadingHTTPServer] = []

    def serve(status: int, body: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def _json(code: Any, text: str) -> str:
    return json.dumps({"error_code": code, "message": text})


@pytest.mark.integration
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, "You are not authenticated.", Forbidden),
        (403, "Permission denied", Forbidden),
        (403, _json("PERMISSION_DENIED", "no"), Forbidden),
        (403, '{"message": "Forbidden"}', Forbidden),
        (401, '{"detail": "Unauthorized"}', Forbidden),
        (404, _json("RESOURCE_DOES_NOT_EXIST", "Registered Model with name=m not found"), NotFound),
        (404, "<html>nginx</html>", DependencyDown),
        (404, '{"detail": "Not Found"}', DependencyDown),
        (413, "Payload Too Large", BadInput),
        (400, _json("INVALID_PARAMETER_VALUE", "UNIQUE constraint failed"), BadInput),
        (400, _json("BAD_REQUEST", UNIQUE), Raced),
        (429, "slow down", DependencyDown),
        (500, _json("INTERNAL_ERROR", "oh"), DependencyDown),
        (503, _json("TEMPORARILY_UNAVAILABLE", "(sqlite3.OperationalError) database is locked"), DependencyDown),
        (200, "<html>please log in</html>", DependencyDown),
    ],
)
def test_mlflows_own_client_says_it_so(answering, monkeypatch, status, body, kind):
    """The real client in front of a server, or of a proxy, that gives this answer."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ShipwayError) as caught:
        MlflowRegistry(answering(status, body)).mark("m", aliases={"champion": 1})
    assert type(caught.value) is kind


def test_a_schema_that_nobody_here_knows_is_a_newer_one(tmp_path: Path):
    """MLflow calls it out of date whichever side is older; its migration tool, when it is asked, says it otherwise."""
    from pipelines.adapters.mlflow.schema import installed_migrations

    head = installed_migrations().head
    said = "Detected out-of-date database schema (found version {}, but expected {}). Take a backup of your database"
    uri = "postgresql://u:s3cret@h/d"
    newer = _answer(_Said("INTERNAL_ERROR", said.format("f4a9b2c7d1e6", head)), uri)
    assert (type(newer), newer.code) == (NewerDatabase, "E_NEWER_DATABASE")
    assert type(_answer(Exception("Can't locate revision identified by 'f4a9b2c7d1e6'"), uri)) is NewerDatabase
    older = _answer(_Said("INTERNAL_ERROR", said.format("b7e2c1a4d9f3", head)), uri)
    assert (type(older), "mlflow db upgrade" in str(older.hint)) == (DependencyDown, True)
    elsewhere = _answer(_Said("INTERNAL_ERROR", said.format("f4a9b2c7d1e6", "0123456789ab")), HTTP)
    assert (type(elsewhere), "out-of-date" in elsewhere.reason) == (DependencyDown, True)
