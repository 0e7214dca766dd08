"""Whatever is typed: a spec, a command, or an error for people; never anything else."""

from __future__ import annotations

import contextlib
import io
import sys

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flows.cli import app as command_line
from pipelines.adapters.registry_rules import parse_model_uri
from pipelines.adapters.sql.engine import open_engine
from pipelines.errors import BadInput, ShipwayError
from pipelines.home import Home
from pipelines.spec.spec_file import parse_spec
from tests.faults_input.fingerprints import fingerprint

LINES = [
    "model: models:/m/1",
    "service: s",
    "bootstrap: true",
    "evaluate: {data: rows.csv, gates: [{metric: accuracy, min: 0.5}]}",
    "rollout: {steps: [5, {pct: 50, approve: true}], hold: 2m, gates: {errors: {margin: 0.01}, latency: null}}",
    "serve: {port: 0, replicas: 2, cpus: 0.5}",
    "retain: 1d",
]
ODD = """yes ~ 1_000 0x1F 1:30 010 .inf -.NaN 2020-01-01 << = &a *a {} [] '' "\\ud800" "\\0" 1e999 | % @ ` # --- ..."""
SCALARS = st.sampled_from([*ODD.split(), "!!binary aGk=", "? a", "- a", "\ufeff", "9" * 5000])
ANY = st.text(max_size=60) | SCALARS


@st.composite
def spoilt_specs(draw: st.DrawFn) -> str:
    """A right spec with one piece cut out and something else in its place."""
    text = "\n".join(draw(st.permutations(LINES)))
    begin = draw(st.integers(0, len(text)))
    end = draw(st.integers(begin, min(len(text), begin + 40)))
    return text[:begin] + draw(ANY) + text[end:]


def is_spec_or_bad_input(text: str) -> bool:
    """Whether the reader keeps its promise; BadInput's lines are printable, and three at most."""
    try:
        parse_spec(text)
    except BadInput as error:
        lines = error.lines()
        return error.code.startswith("E_") and len(lines) <= 3 and all(line.isprintable() for line in lines)
    return True


@pytest.mark.integration
@settings(max_examples=600, deadline=None)
@given(spoilt_specs())
def test_a_spoilt_spec(text):
    """One piece of a right spec is replaced by anything."""
    assert is_spec_or_bad_input(text)


@settings(deadline=None)
@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")))
@example("[" * 20_000)
@example("{a: " * 5_000)
@example("- " * 5_000)
@example("model: " + "[" * 900 + "]" * 900)
@example('model: "' + "\\" * 501 + '"')
def test_any_spec(text):
    """Any text at all, deep ones too."""
    assert is_spec_or_bad_input(text)


@given(st.text(max_size=200).map(lambda text: f"models:/{text}") | st.text(max_size=50))
def test_any_model_uri(text):
    """A name of ASCII letters with a version or an alias, or BadInput."""
    try:
        ref = parse_model_uri(text)
    except BadInput:
        return
    assert ref.name.isascii()
    assert (ref.version is None) != (ref.alias is None)


def run(*arguments: str) -> tuple[int, str]:
    """The command line in this process: its exit code and what it said about errors."""
    said, before = io.StringIO(), sys.argv
    sys.argv = ["shipway", *arguments]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            command_line.main()
    except SystemExit as done:
        return int(done.code or 0), said.getvalue()
    finally:
        sys.argv = before
    return 0, said.getvalue()


NAMES = st.text(max_size=80) | st.sampled_from(
    ["--", "-", "--help", "../x", "\x1b[2J", "a\u202eb", "\udcff", "\0", "*"]
)
PLAIN = ("status", "verify", "abort", "rollback", "down", "resume", "pause", "approve", "restore")
LONGER = (("promote", "--reason", "because"), ("plan", "--model", "models:/m/0"), ("traffic", "--data", "none.csv"))
COMMANDS = st.sampled_from([*((name,) for name in PLAIN), *LONGER])


@pytest.mark.integration
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(command=COMMANDS, name=NAMES)
def test_any_name_on_the_command_line(command, name, tmp_path, monkeypatch):
    """An exit code that is documented, printable lines, and a home that is as it was."""
    monkeypatch.setenv("SHIPWAY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    if not (tmp_path / "home" / "ledger.db").exists():
        open_engine(Home.open(tmp_path / "home").root / "ledger.db").dispose()
    before = fingerprint(tmp_path)
    code, said = run(*command, name)
    assert code in {0, 2}
    assert "Traceback" not in said
    assert fingerprint(tmp_path) == before


def test_an_error_shows_no_control_character():
    """Whoever chose the text does not choose what a terminal does."""
    lines = ShipwayError("a\x1b[2Jb\nc\u202ed\udcff", hint="e\r").lines()
    assert lines == ["E_SHIPWAY: a\\x1b[2Jb\\nc\\u202ed\\udcff", "  try: e\\r"]


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "y"])
def test_a_word_is_not_a_truth(word):
    """YAML 1.1 would read these as true or false."""
    with pytest.raises(BadInput, match="boolean"):
        parse_spec("\n".join(LINES).replace("bootstrap: true", f"bootstrap: {word}"))


def test_numbers_are_what_they_look_like():
    """1e-2 is a number, and 010 is not eight."""
    assert parse_spec("\n".join(LINES).replace("min: 0.5", "min: 1e-2")).evaluate.gates[0].min == 0.01
    with pytest.raises(BadInput):
        parse_spec("\n".join(LINES).replace("replicas: 2", "replicas: 010"))
