"""Wrong input through the real command line: exit code 2, three lines, no traceback, and nothing is changed."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from flows.cli import main
from pipelines.adapters.sql.engine import open_engine
from pipelines.adapters.sql.ledger import SqlLedger
from pipelines.adapters.sql.services import SqlServices
from pipelines.home import Home
from pipelines.records.release import Phase, Release
from pipelines.records.service import Deployment, Service
from tests.faults_input.fingerprints import fingerprint

SPEC = "model: models:/m/1\nservice: s\nevaluate: {data: rows.csv, gates: [{metric: accuracy, min: 0.5}]}\n"
PLAN = ("plan", "release.yaml")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a service without a previous version, and a release that has ended."""
    home = Home.open(tmp_path_factory.mktemp("bad") / "home")
    engine = open_engine(home.root / "ledger.db")
    SqlServices(engine).save(Service("alone", stable=Deployment("sha256:b", "/b", "m", 1, "r0")))
    ended = Release().record(1.0, "opened", id="ended", service="alone", spec={}, spec_digest="d")
    SqlLedger(engine).create(ended.enter(Phase.REJECTED, 2.0, why="worse"))
    engine.dispose()
    (home.root.parent / "release.yaml").write_text(SPEC)
    for name, text in FILES.items():
        (home.root.parent / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return home.root


FILES: dict[str, str | bytes] = {
    "tag.yaml": SPEC + "x: !!python/object/apply:os.system ['touch pwned']\n",
    "key.yaml": SPEC + "retian: 1d\n",
    "yes.yaml": SPEC + "bootstrap: yes\n",
    "steps.yaml": SPEC + "rollout: {steps: [50, 5]}\n",
    "threshold.yaml": SPEC.replace("0.5", ".nan"),
    "duration.yaml": SPEC + "retain: 1e9h\n",
    "binary.yaml": b"\xff\xfe\x00",
    "backup.db": "not a ledger",
    "rows.csv": "text,label\n",
    "labels.csv": "request_id,score\nr1,1\n",
}

ROWS: dict[str, tuple[tuple[str | bytes, ...], str]] = {
    "1 path": ((*PLAN, "--model", "models:/../../etc/passwd"), "E_NAME"),
    "2 semicolon": ((*PLAN, "--model", "models:/a;touch pwned/1"), "E_NAME"),
    "2 substitution": ((*PLAN, "--model", "models:/$(touch pwned)/1"), "E_NAME"),
    "2 backtick": ((*PLAN, "--model", "models:/`touch pwned`/1"), "E_NAME"),
    "2 newline": ((*PLAN, "--model", "models:/a\nb/1"), "E_NAME"),
    "2 not UTF-8": ((*PLAN, "--model", b"models:/\xff/1"), "E_NAME"),
    "3 empty": ((*PLAN, "--model", ""), "E_NAME"),
    "3 too long": ((*PLAN, "--model", f"models:/{'a' * 10_000}/1"), "E_NAME"),
    "4 right to left": ((*PLAN, "--model", "models:/a\u202eb/1"), "E_NAME"),
    "5 zero": ((*PLAN, "--model", "models:/m/0"), "E_VERSION"),
    "5 latest": (("release", "release.yaml", "--model", "models:/m/latest"), "E_VERSION"),
    "7 alias": ((*PLAN, "--model", "models:/m@champion; drop"), "E_ALIAS"),
    "23 tag": (("release", "tag.yaml"), "E_YAML"),
    "23 no text": (("release", "binary.yaml"), "E_YAML"),
    "24 unknown key": (("release", "key.yaml"), "E_CONFIG"),
    "24 yes": (("plan", "yes.yaml"), "E_CONFIG"),
    "25 steps": (("release", "steps.yaml"), "E_STEPS"),
    "26 threshold": (("release", "threshold.yaml"), "E_THRESHOLD"),
    "27 duration": (("plan", "duration.yaml"), "E_DURATION"),
    "no such file": (("plan", b"no\xff\x1b[31m\n.yaml"), "E_SPEC_FILE"),
    "a scenario that nobody knows": (("simulate", "release.yaml", "--scenario", "x\u202e"), "E_SCENARIO"),
    "a picture that is none": (("simulate", "release.yaml", "--plot", "a.gif"), "E_PATH"),
    "a picture nowhere": (("simulate", "release.yaml", "--plot", "none/a.svg"), "E_PATH"),
    "45 rollback": (("rollback", "alone"), "E_NO_TARGET"),
    "an unknown service": (("rollback", "s\u202e\x1b[31m"), "E_NOT_FOUND"),
    "an unknown release": (("status", "x' OR 1=1 --"), "E_NOT_FOUND"),
    "an id that is no text": (("verify", b"\xff"), "E_TEXT"),
    "an ended release": (("abort", "ended"), "E_ENDED"),
    "no reason": (("promote", "ended", "--reason", "  "), "E_REASON"),
    "down without a service": (("down", "nothing"), "E_NOT_FOUND"),
    "backup over a file": (("backup", "backup.db"), "E_PATH"),
    "restore into a used home": (("restore", "backup.db"), "E_HOME_USED"),
    "labels from nowhere": (("feedback", "alone"), "E_OPTION"),
    "a file to follow": (("feedback", "alone", "--data", "labels.csv", "--follow"), "E_OPTION"),
    "labels of odd times": (("feedback", "alone", "--mlflow", "x", "--since", "5"), "E_DURATION"),
    "labels for elsewhere": (("feedback", "alone", "--data", "labels.csv", "--url", "http://10.0.0.1"), "E_URL"),
    "labels of nothing": (("feedback", "alone", "--data", "rows.csv", "--url", "http://127.0.0.1:9"), "E_DATASET"),
    "labels for an unknown service": (("feedback", "none", "--data", "labels.csv"), "E_NOT_FOUND"),
    "another kind of picture": (("evidence", "ended", "--plot", "x.pdf"), "E_PLOT"),
    "a picture of nothing": (("evidence", "ended", "--plot", "x.svg"), "E_NO_EVIDENCE"),
    "evidence of an unknown release": (("evidence", "x"), "E_NOT_FOUND"),
    "39 an endpoint elsewhere": (("adopt", "x", "http://10.0.0.1:80"), "E_URL"),
    "39 credentials": (("adopt", "x", "http://a:b@127.0.0.1:80"), "E_URL"),
    "a service that is no name": (("adopt", "a;b\u202e", "http://127.0.0.1:1"), "E_NAME"),
    "rows without a row": (("traffic", "alone", "--data", "rows.csv"), "E_NOT_READY|E_DATASET"),
}
NO_INPUT = {"rows without a row"}
"""A dependency that is down as well (exit 7) may be said first."""


PROCESSES = {"2 not UTF-8", "23 tag", "an unknown service"}
"""The others call what these processes run, in this one."""


def called(home: Path, arguments: tuple[str | bytes, ...], patch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    """What `shipway` gives and says where it is called in the folder beside the home, on a terminal's streams."""
    patch.setenv("SHIPWAY_HOME", str(home))
    patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    patch.chdir(home.parent)
    patch.setattr(sys, "argv", ["shipway", *map(os.fsdecode, arguments), "--json"])
    said, warned = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
    with redirect_stdout(said), redirect_stderr(warned), pytest.raises(SystemExit) as ended:
        main()
    texts = [stream.detach().getvalue().decode() for stream in map(flushed, (said, warned))]
    return int(ended.value.code or 0), texts[0], texts[1]


def flushed(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """With all that was written."""
    stream.flush()
    return stream


def run(home: Path, arguments: tuple[str | bytes, ...]) -> subprocess.CompletedProcess[bytes]:
    """One process, in the folder beside the home."""
    environment = {**os.environ, "SHIPWAY_HOME": str(home), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "flows.cli", *arguments, "--json"]
    return subprocess.run(command, env=environment, cwd=home.parent, capture_output=True, check=False, timeout=120)


@pytest.mark.integration
@pytest.mark.parametrize("row", ROWS)
def test_a_wrong_command_line(home, row, monkeypatch):
    """The code as JSON, at most three printable lines, and the home byte for byte as it was."""
    arguments, codes = ROWS[row]
    before = fingerprint(home)
    if row in PROCESSES:
        done = run(home, arguments)
        code, told, said = done.returncode, done.stdout.decode(), done.stderr.decode()
    else:
        code, told, said = called(home, arguments, monkeypatch)
    assert json.loads(told)["error"]["code"] in codes.split("|"), said
    assert code == 2 or row in NO_INPUT
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 3
    assert all(line.isprintable() for line in said.splitlines()), said
    assert fingerprint(home) == before
    assert not (home.parent / "pwned").exists()
    assert not (home / "up.json").exists()


@pytest.mark.integration
def test_row_44_a_newer_ledger(home, tmp_path):
    """E_SCHEMA from every command that opens it, and not one byte is written."""
    path = tmp_path / "home" / "ledger.db"
    Home.open(path.parent)
    path.write_bytes((home / "ledger.db").read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE meta SET value = value + 1")
        connection.commit()
    before = fingerprint(path.parent)
    for command in (("list",), ("status",), ("gc",), ("backup", str(tmp_path / "copy.db"))):
        done = run(path.parent, command)
        assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "E_SCHEMA")
    assert fingerprint(path.parent) == before
    assert not (tmp_path / "copy.db").exists()
