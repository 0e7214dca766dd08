"""How a gateway is told to behave: by a file, as usual, or as a gateway was told before there was a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import BadInput
from pipelines.records.settings import GatewaySettings, Recording, Shadowing
from pipelines.serving.gateway.options import options_of, serving_of, settings_of
from pipelines.serving.gateway.worker import MEMORY_BYTES, SETTINGS, VARIABLE
from pipelines.serving.settings_file import settings_text, write_settings

WHO = ["--service", "s", "--port", "20002", "--admin-socket", "/h/run/s.sock", "--snapshot", "/h/run/s.split"]
BEFORE = [
    *WHO,
    *("--timeout-s", "3.0", "--label-s", "60.0", "--override-token", "/h/run/s.token", "--assign", "cookie:id"),
    *("--workers", "2", "--drain-s", "60.0"),
    *("--shadow", '{"pct": 5.0, "max_in_flight": 3, "tolerance": 0.05}', "--convicted-streams", "cut"),
    *("--idempotent", "/v1/*,/v2/rank", "--slices", "x-lang,body.tier", "--record", "/h/records/s.db"),
    *("--recording", '{"share": 0.5, "keep": 10, "redact": ["body.user"], "max_body_bytes": 65536}'),
]
"""Word by word what the Shipway before there was a file started."""

TOLD = GatewaySettings(
    workers=2,
    timeout_s=3.0,
    slices=("x-lang", "body.tier"),
    label_s=60.0,
    assign="cookie:id",
    record=Recording(0.5, 10, ("body.user",)),
    drain_s=60.0,
    convicted_streams="cut",
    idempotent=("/v1/*", "/v2/rank"),
    shadow=Shadowing(5.0, 3),
)


def test_a_gateway_that_is_told_nothing_behaves_as_usual():
    """As the settings' own defaults say."""
    assert settings_of(options_of(WHO)) == GatewaySettings()


def test_a_running_gateway_of_the_shipway_before_hires_workers_of_this_one():
    """By its own command line: they behave as it was told."""
    assert settings_of(options_of(BEFORE)) == TOLD


def test_a_record_without_more_words_was_the_usual_one():
    """As it was before there was a file."""
    assert settings_of(options_of([*WHO, "--record", "/r"])) == GatewaySettings(record=Recording())


def test_nothing_is_said_twice(tmp_path):
    """A file and an option could differ."""
    write_settings(tmp_path / "f", TOLD)
    with pytest.raises(BadInput) as caught:
        settings_of(options_of([*WHO, "--settings", str(tmp_path / "f"), "--drain-s", "1"]))
    assert (caught.value.code, caught.value.field) == ("E_SETTINGS_TWICE", "--drain-s")


def test_what_is_kept_lies_where_the_options_say():
    """How much of it is kept is a setting."""
    serving = serving_of(options_of([*WHO, "--record", "/r"]), TOLD)
    assert (serving.settings, serving.record, serving.token) == (TOLD, Path("/r"), "")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("text", "code"),
    [
        (settings_text(TOLD)[:-9], "E_SETTINGS_JSON"),
        (json.dumps({"form": 99, "settings": TOLD.as_dict()}), "E_SETTINGS_FORM"),
    ],
)
def test_a_worker_that_does_not_understand_its_keeper_ends(text, code):
    """It is of an older Shipway than the keeper, which went back in place."""
    memory = os.memfd_create("worker")
    os.ftruncate(memory, MEMORY_BYTES)
    environ = {**os.environ, VARIABLE: f"0,{memory},0,boot", SETTINGS: text}
    command = [sys.executable, "-m", "pipelines.serving.worker", *WHO]
    ended = subprocess.run(command, env=environ, pass_fds=(memory,), capture_output=True, check=False)
    os.close(memory)
    assert (ended.returncode, ended.stderr.decode().partition(" ")[0]) == (2, code)
