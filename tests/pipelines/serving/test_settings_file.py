"""A settings file is whole, private and of a form that is known, or nobody serves by it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace

import pytest

from pipelines.adapters.proxies import agent
from pipelines.errors import BadInput
from pipelines.records import private_file
from pipelines.records import settings as forms
from pipelines.records.settings import GatewaySettings, Objective, Price, Promise, Recording, ServerSettings, Shadowing
from pipelines.serving import settings_file
from pipelines.serving.gateway import gateway
from pipelines.serving.server import server
from pipelines.serving.settings_file import read_settings, settings_in, settings_text, write_settings

TOLD = GatewaySettings(
    *("shipway", 2, 3.0, ("x-lang",), 60.0, "cookie:id", Recording(0.5, 10, ("body.user",)), 60.0, "cut", ("/v1/*",)),
    shadow=Shadowing(5.0, 3),
    metrics="public",
    arm_header=False,
    api="openai",
    objective=Objective(0.8, 0.06, 30.0, "x-class", {"batch": Promise(e2e_s=60.0)}),
    price=Price(0.5, 0.05, 1.5),
    tenant="x-tenant",
)
NO_PRICE = {"price": None, "tenant": ""}


@pytest.fixture
def path(tmp_path):
    """Where the file is."""
    return tmp_path / "s.settings"


def said(settings: GatewaySettings = TOLD, form: object = forms.FORM, **changes: object) -> str:
    """A file's text with some of its settings changed; None takes one away."""
    changed = {**settings.as_dict(), **changes}
    kept = {key: value for key, value in changed.items() if value != "gone"}
    return json.dumps({"form": form, "settings": kept})


def lacking(form: int) -> dict[str, object]:
    """The changes that take away what a form did not have, of the settings and of what they say of a record."""

    def later(kind: type[object]) -> list[str]:
        return [f.name for f in forms.fields(kind) if f.metadata.get("since", 1) > form]

    record = {key: value for key, value in vars(TOLD.record).items() if key not in later(Recording)}
    return {**dict.fromkeys(later(GatewaySettings), "gone"), "record": record}


@pytest.mark.parametrize("settings", [GatewaySettings(), TOLD, ServerSettings(), ServerSettings(2.0, 512, 64, 60.0)])
def test_what_is_written_is_read(path, settings):
    """By its owner alone."""
    write_settings(path, settings)
    assert (read_settings(path, type(settings)), path.stat().st_mode & 0o777) == (settings, 0o600)


def test_a_file_that_says_so_already_is_left_alone(path, monkeypatch):
    """A full disk does not keep a gateway from being started again."""
    write_settings(path, TOLD)
    monkeypatch.setattr(private_file.tempfile, "mkstemp", lambda **_: pytest.fail("it was written again"))
    write_settings(path, TOLD)
    assert read_settings(path, GatewaySettings) == TOLD


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_file_that_others_could_read_is_replaced(path, mode):
    """Whoever starts a process hands it a private one."""
    write_settings(path, TOLD)
    path.chmod(mode)
    write_settings(path, TOLD)
    assert path.stat().st_mode & 0o777 == 0o600


BAD_TEXTS = {
    "empty": ("", "E_SETTINGS_JSON"),
    "truncated": (settings_text(TOLD)[:-20], "E_SETTINGS_JSON"),
    "not JSON": ("form: 1", "E_SETTINGS_JSON"),
    "too deep": ("[" * 100_000, "E_SETTINGS_JSON"),
    "a list": ("[]", "E_SETTINGS_FORM"),
    "no form": (json.dumps(TOLD.as_dict()), "E_SETTINGS_FORM"),
    "a form that is none": (said(form="1"), "E_SETTINGS_FORM"),
    "form 0": (said(form=0), "E_SETTINGS_FORM"),
    "a truth for a form": (said(form=True), "E_SETTINGS_FORM"),
    "newer": (said(form=forms.FORM + 1), "E_SETTINGS_FORM"),
    "keys of a later form": (said(form=1), "E_SETTINGS_KEYS"),
    "a later form without its keys": (said(**lacking(1)), "E_SETTINGS_KEYS"),
    "figures for some": (said(metrics="team"), "E_SETTINGS_VALUE"),
    "a word for a truth": (said(arm_header="false"), "E_SETTINGS_VALUE"),
    "no settings": ('{"form": 1}', "E_SETTINGS_VALUE"),
    "half of the settings": (said(drain_s="gone"), "E_SETTINGS_KEYS"),
    "an unknown key": (said(ttft_ms=800), "E_SETTINGS_KEYS"),
    "half of a part": (said(shadow={"pct": 5.0}), "E_SETTINGS_KEYS"),
    "an unknown key in a part": (said(record={**vars(Recording()), "answers": True}), "E_SETTINGS_KEYS"),
    "a server's": (settings_text(ServerSettings()), "E_SETTINGS_KEYS"),
    "a text for a time": (said(timeout_s="10s"), "E_SETTINGS_VALUE"),
    "a truth for a time": (said(timeout_s=True), "E_SETTINGS_VALUE"),
    "a negative time": (said(drain_s=-1.0), "E_SETTINGS_VALUE"),
    "no number": (said(label_s=float("nan")), "E_SETTINGS_VALUE"),
    "no end": (said(label_s=float("inf")), "E_SETTINGS_VALUE"),
    "half a worker": (said(workers=1.5), "E_SETTINGS_VALUE"),
    "an unknown router": (said(router="nginx"), "E_SETTINGS_VALUE"),
    "an unknown word": (said(convicted_streams="keep"), "E_SETTINGS_VALUE"),
    "a text for a list": (said(slices="x-lang"), "E_SETTINGS_VALUE"),
    "numbers for names": (said(idempotent=[1]), "E_SETTINGS_VALUE"),
    "a list for a part": (said(record=[1]), "E_SETTINGS_VALUE"),
    "nothing for a name": (said(assign=None), "E_SETTINGS_VALUE"),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_what_is_no_settings_file_is_refused_by_name(path, name):
    """By a code that stays, and the file's name."""
    text, code = BAD_TEXTS[name]
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        read_settings(path, GatewaySettings)
    assert (caught.value.code, caught.value.field, caught.value.exit_code) == (code, str(path), 2)


def missing(path):
    """There is none."""


def a_folder(path):
    """It is no file."""
    path.mkdir(mode=0o700)


def a_pipe(path):
    """Nobody writes into it, and nobody waits for that."""
    os.mkfifo(path, 0o600)


def open_to_the_group(path):
    """A person changed its mode."""
    write_settings(path, TOLD)
    path.chmod(0o640)


def open_to_all(path):
    """A copy that somebody made by hand."""
    path.write_text(settings_text(TOLD))
    path.chmod(0o644)


BAD_FILES = {
    missing: "E_SETTINGS_FILE",
    a_folder: "E_SETTINGS_FILE",
    a_pipe: "E_SETTINGS_JSON",
    open_to_the_group: "E_SETTINGS_PRIVATE",
    open_to_all: "E_SETTINGS_PRIVATE",
}


@pytest.mark.parametrize("make", BAD_FILES, ids=lambda make: make.__name__)
def test_a_file_that_is_not_there_for_us_alone_is_refused_by_name(path, make):
    """Before anything of it counts."""
    make(path)
    with pytest.raises(BadInput) as caught:
        read_settings(path, GatewaySettings)
    assert (caught.value.code, caught.value.field) == (BAD_FILES[make], str(path))


@dataclass(frozen=True)
class Grown(GatewaySettings):
    """The settings of the next Shipway."""

    first_token_s: float = field(default=0.8, metadata={"since": 6})


def test_what_a_later_form_added_is_usual_in_an_older_file(monkeypatch):
    """A gateway that runs on hires workers of the Shipway that was installed meanwhile."""
    monkeypatch.setattr(settings_file, "FORM", 6)
    assert settings_in(said(form=5), Grown, "f") == Grown(**vars(TOLD))
    assert settings_in(said(form=6, first_token_s=0.5), Grown, "f").first_token_s == 0.5


def test_a_file_of_the_first_form_keeps_figures_private_and_names_the_arm():
    """As every gateway that was started by it does; its arms are classifiers."""
    usual = {
        "metrics": "private",
        "arm_header": True,
        "api": "inference",
        "objective": None,
        "borderline": "pass",
        **NO_PRICE,
    }
    assert settings_in(said(form=1, **lacking(1)), GatewaySettings, "f") == replace(TOLD, **usual)


def test_a_file_of_the_second_form_is_of_a_gateway_before_classifiers():
    """It says who sees figures and arms, and nothing of language models."""
    usual = {"api": "inference", "objective": None, "borderline": "pass", **NO_PRICE}
    assert settings_in(said(form=2, **lacking(2)), GatewaySettings, "f") == replace(TOLD, **usual)


@pytest.mark.parametrize(("form", "more"), [(6, {}), (5, {"first_token_s": 0.5})])
def test_a_form_has_its_own_keys_and_no_other(monkeypatch, form, more):
    """Also when the reader knows a later one."""
    monkeypatch.setattr(settings_file, "FORM", 6)
    with pytest.raises(BadInput) as caught:
        settings_in(said(form=form, **more), Grown, "f")
    assert caught.value.code == "E_SETTINGS_KEYS"


def test_every_key_belongs_to_a_form_that_there_is():
    """Who adds one counts the form up."""
    kinds = (GatewaySettings, ServerSettings, Recording, Shadowing)
    since = [f.metadata.get("since", 1) for kind in kinds for f in forms.fields(kind)]
    assert max(since) == forms.FORM


@pytest.mark.parametrize(
    ("main", "more"),
    [
        (gateway.main, ("--service", "s")),
        (server.main, ("--bundle", "b", "--digest", "sha256:1")),
        (lambda argv: exit(agent.main(argv)), ("--router", "haproxy")),
    ],
    ids=["gateway", "server", "proxy"],
)
def test_a_process_that_is_not_told_how_to_behave_ends(path, capsys, main, more):
    """With exit code 2, before it opens a port; the last line of its log says why."""
    path.touch(0o600)
    path.write_text(settings_text(TOLD)[:-5])
    options = ["--port", "0", "--settings", str(path), *more]
    if main is not server.main:
        options += ["--admin-socket", str(path.parent / "s.sock"), "--snapshot", str(path.parent / "split")]
    with pytest.raises(SystemExit) as caught:
        main(options)
    printed = capsys.readouterr()
    assert (caught.value.code, (printed.out + printed.err).startswith(f"E_SETTINGS_JSON ({path}): ")) == (2, True)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"workers": 65}, {"assign": "weekday"}])
def test_a_gateway_that_could_serve_nobody_ends(path, capsys, wrong):
    """What a spec would have refused is refused once more, by the process."""
    write_settings(path, replace(TOLD, **wrong))
    options = ["--service", "s", "--port", "0", "--settings", str(path), "--admin-socket", "s.sock"]
    with pytest.raises(SystemExit) as caught:
        gateway.main([*options, "--snapshot", "split"])
    assert (caught.value.code, capsys.readouterr().err.startswith("E_SETTINGS_VALUE")) == (2, True)
