"""The bad-input matrix, row by row: a stable code, exit code 2, and a home that is as it was, byte by byte.

Most rows go through `take_in`, which is what `plan` and `release` check a request with before anything is written; a
model folder is fetched, scanned and laid out by the real code. `test_bad_command_lines.py` walks the command line.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from evals.signals.strata import ArmCounts, Stratum
from flows.control.opening import opened
from flows.orders.going_back import back_to_previous
from flows.wiring import wire
from pipelines.adapters.memory.records import MemoryServices
from pipelines.adapters.memory.traffic import MemoryMetrics
from pipelines.adapters.registry_rules import parse_model_uri
from pipelines.adapters.sql.engine import open_engine
from pipelines.adapters.sql.services import SqlServices
from pipelines.errors import BadInput, ShipwayError, UnsafeArtifact
from pipelines.home import Home
from pipelines.ports import RegisteredVersion
from pipelines.records.service import Deployment, Service
from pipelines.spec.spec_file import parse_spec
from pipelines.stages.intake import AlreadyLive, take_in
from pipelines.supply.bundle import artifact_digest, seal
from pipelines.supply.checks import paths
from pipelines.supply.checks.paths import FolderLimits, check_relative
from pipelines.supply.layout import gather, read_layout
from pipelines.supply.scan import scan
from tests.faults_input.fingerprints import fingerprint
from tests.pipelines.model_folders import LABELS, copy_folder, edit_json, read_tensors, write_tensors

SPEC = """\
model: models:/m/1
service: s
bootstrap: true
evaluate:
  data: rows.csv
  gates: [{metric: accuracy, min: 0.5}]
rollout: {steps: [5, 50]}
retain: 1d
"""
ROWS = f"text,label\na good day,{LABELS[0]}\na bad day,{LABELS[1]}\n"
WEIGHTS = "model.safetensors"


@dataclass
class Folders:
    """A Registry whose versions are a folder, as whatever it holds; version 4 is the newest of four."""

    folder: Path

    def resolve(self, uri: str) -> RegisteredVersion:
        """Versions 1 to 4 of `m`, and the alias `champion` at none."""
        from pipelines.adapters.registry_rules import no_such_version

        ref = parse_model_uri(uri)
        if ref.name != "m" or ref.version not in {1, 2, 3, 4}:
            raise no_such_version(ref, (1, 2, 3, 4) if ref.name == "m" else (), "memory")
        return RegisteredVersion(ref.name, ref.version)

    def fetch(self, version: RegisteredVersion, into: Path) -> Path:
        """The folder itself."""
        return self.folder


@dataclass
class World:
    """A request that is right until a row spoils it."""

    folder: Path
    data: Path
    work: Path
    services: MemoryServices
    spec: str = SPEC

    def ask(self) -> None:
        """What `plan` and `release` do before they write anything."""
        registry = Folders(self.folder)
        take_in(parse_spec(self.spec), registry, self.services, data_dir=self.data, work=self.work)

    def says(self, old: str, new: str) -> None:
        """Another spec."""
        assert old in self.spec
        self.spec = self.spec.replace(old, new)

    def rows(self, raw: bytes | str) -> None:
        """Another evaluation set."""
        (self.data / "rows.csv").write_bytes(raw if isinstance(raw, bytes) else raw.encode())

    def file(self, name: str, raw: bytes | str) -> None:
        """Another file in the model's folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())

    def deploy(self, **fields: object) -> None:
        """A service that serves these very files, or others."""
        (self.work / "served").mkdir(parents=True, exist_ok=True)
        facts = {"engine": "torch", "labels": ["a", "b"], "max_length": 8, "model": "m", "variant": "source"}
        digest, path = seal(self.work / "served", facts, self.work / "bundles")
        stable = Deployment(digest, str(path), "m", 9, "r0", artifact_digest="sha256:a")
        self.services.save(Service("s", **{"stable": stable, **fields}))

    def digest(self) -> str:
        """The files' digest, as intake computes it."""
        scan(self.folder)
        gather(read_layout(self.folder), self.work / "own")
        return artifact_digest(self.work / "own")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a service and its records."""
    home = Home.open(tmp_path_factory.mktemp("home"))
    engine = open_engine(home.root / "ledger.db")
    SqlServices(engine).save(Service("alone", stable=Deployment("sha256:b", "/b", "m", 1, "r0")))
    engine.dispose()
    return home


@pytest.fixture
def world(tiny_model: Path, tmp_path: Path) -> World:
    """A right request."""
    for name in ("data", "work"):
        (tmp_path / name).mkdir()
    world = World(copy_folder(tiny_model, tmp_path / "model"), tmp_path / "data", tmp_path / "work", MemoryServices())
    world.rows(ROWS)
    return world


def model(uri: str) -> Callable[[World], None]:
    """A row about the model's name."""
    return lambda world: world.says("model: models:/m/1", f"model: {json.dumps(uri)}")


def spec(old: str, new: str) -> Callable[[World], None]:
    """A row about the spec."""
    return lambda world: world.says(old, new)


def data(raw: bytes | str) -> Callable[[World], None]:
    """A row about the evaluation set."""
    return lambda world: world.rows(raw)


def file(name: str, raw: bytes | str) -> Callable[[World], None]:
    """A row about a file of the model."""
    return lambda world: world.file(name, raw)


def config(**changes: object) -> Callable[[World], None]:
    """A row about config.json."""
    return lambda world: edit_json(world.folder / "config.json", **changes)


def made(make: Callable[[Path], object]) -> Callable[[World], None]:
    """A row about what kind of thing lies in the folder."""
    return lambda world: make(world.folder / "odd.txt")


def weights(change: Callable[[bytes], bytes]) -> Callable[[World], None]:
    """A row about the bytes of the weights."""
    return lambda world: world.file(WEIGHTS, change((world.folder / WEIGHTS).read_bytes()))


def tensor(value: float, index: int | slice) -> Callable[[World], None]:
    """A row about values of one tensor."""

    def change(world: World) -> None:
        header, raw = read_tensors(world.folder / WEIGHTS)
        begin, end = header["bert.encoder.layer.0.attention.self.query.weight"]["data_offsets"]
        values = np.frombuffer(raw[begin:end], "<f4").copy()
        values[index] = value
        write_tensors(world.folder / WEIGHTS, header, raw[:begin] + values.tobytes() + raw[end:])

    return change


def twice(world: World) -> None:
    """A tensor's name stands twice in the header."""
    one = '"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}'
    write_tensors(world.folder / WEIGHTS, f"{{{one}, {one}}}", b"12345678")


def zipped(world: World) -> None:
    """An archive under a harmless name."""
    with zipfile.ZipFile(world.folder / "notes.txt", "w") as archive:
        archive.writestr("a", "b")


def quarantined(world: World) -> None:
    """The same files were convicted before."""
    world.deploy(quarantined={world.digest(): "r7: errors"})


def huge_name(world: World) -> None:
    """A name of ten thousand characters."""
    world.says("service: s", f"service: {'s' * 10_000}")


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"
ML = "flavors: {python_function: {loader_module: LOADER}}\n"
MATRIX: list[tuple[int, str, str, Callable[[World], None]]] = [
    (1, "a path as a name", "E_NAME", model("models:/../../etc/passwd")),
    (1, "a path as a service", "E_NAME", spec("service: s", "service: ../../etc/passwd")),
    *[(2, f"name with {bad!r}", "E_NAME", model(f"models:/a{bad}b/1")) for bad in (";", "$(id)", "`id`", "\n", "\0")],
    (2, "the workflow's input", "E_NAME", model('a"; curl x | sh; "')),
    (3, "an empty name", "E_NAME", model("models://1")),
    (3, "only spaces", "E_NAME", spec("service: s", "service: '   '")),
    (3, "10k characters", "E_NAME", huge_name),
    (4, "a look-alike", "E_NAME", model("models:/sеntiment/1")),
    (4, "right to left", "E_NAME", model("models:/a\u202eb/1")),
    *[
        (5, f"version {v}", "E_VERSION", model(f"models:/m/{v}"))
        for v in ("0", "-1", "1e3", "latest", "٣", "1" + "0" * 30)
    ],
    (6, "no such version", "E_NOT_FOUND", model("models:/m/77")),
    (6, "no such model", "E_NOT_FOUND", model("models:/other/1")),
    (6, "no such alias", "E_NOT_FOUND", model("models:/m@challenger")),
    *[(7, f"alias {alias}", "E_ALIAS", model(f"models:/m@{alias}")) for alias in ("champion; drop", "v3", "latest")],
    (9, "a link", "E_ARTIFACT_TYPE", made(lambda path: path.symlink_to("config.json"))),
    (9, "a second name", "E_ARTIFACT_TYPE", made(lambda path: path.hardlink_to(path.parent / "config.json"))),
    (9, "a pipe", "E_ARTIFACT_TYPE", made(os.mkfifo)),
    *[
        (10, f"pickled weights {name}", "E_UNSAFE_FORMAT", file(name, pickle.dumps({"a": 1})))
        for name in ("model.pkl", "pytorch_model.bin", "model.pt", "model.ckpt", "model.joblib", "model.npy")
    ],
    (11, "a pickle as weights", "E_CONTENT_MISMATCH", file("other.safetensors", pickle.dumps({"a": 1}))),
    (11, "a pickle as text", "E_CONTENT_MISMATCH", file("notes.txt", pickle.dumps({"a": [1]}, protocol=0))),
    (11, "a pickle as JSON", "E_CONTENT_MISMATCH", file("extra.json", pickle.dumps({"a": 1}))),
    (12, "a zip by name", "E_ARCHIVE", file("weights.zip", b"")),
    (12, "a zip by content", "E_ARCHIVE", zipped),
    (14, "a header of 2^63", "E_SAFETENSORS", file(WEIGHTS, struct.pack("<Q", 2**63) + b"{}")),
    (14, "truncated", "E_SAFETENSORS", weights(lambda raw: raw[:-1])),
    (14, "trailing bytes", "E_SAFETENSORS", weights(lambda raw: raw + b"x")),
    (15, "a tensor twice", "E_SAFETENSORS", twice),
    (16, "one NaN", "E_WEIGHTS_NONFINITE", tensor(np.nan, 3)),
    (16, "one infinity", "E_WEIGHTS_NONFINITE", tensor(np.inf, 3)),
    (16, "all zero", "E_WEIGHTS_NONFINITE", tensor(0.0, slice(None))),
    (17, "another width", "E_CONFIG_MISMATCH", config(hidden_size=48)),
    (18, "deep JSON", "E_JSON", file("extra.json", "[" * 100_000)),
    (18, "a key twice", "E_JSON", file("extra.json", '{"a": 1, "a": 2}')),
    (18, "NaN in JSON", "E_JSON", file("extra.json", '{"a": NaN}')),
    (19, "auto_map", "E_REMOTE_CODE", config(auto_map={"AutoModel": "modeling.Model"})),
    (19, "trust_remote_code", "E_REMOTE_CODE", config(trust_remote_code=True)),
    (19, "custom_pipelines", "E_REMOTE_CODE", config(custom_pipelines={"x": {"impl": "a.B"}})),
    (20, "a template that escapes", "E_TEMPLATE", file("chat_template.jinja", "{{ ''.__class__.__mro__ }}")),
    (21, "another loader", "E_MODEL_CODE", file("MLmodel", ML.replace("LOADER", "os"))),
    (21, "a python model", "E_MODEL_CODE", file("MLmodel", ML.replace("LOADER", "mlflow.pyfunc.model"))),
    *[
        (22, f"requirement {line}", "E_REQUIREMENTS", file("requirements.txt", f"torch\n{line}\n"))
        for line in ("-r other.txt", "--index-url https://x", "git+https://x/y.git", "file:///tmp/x.whl")
    ],
    (23, "a tag", "E_YAML", spec("retain: 1d", "x: !!python/object/apply:os.system [id]")),
    (23, "a bomb of anchors", "E_YAML", spec("retain: 1d", BOMB)),
    (23, "a key twice", "E_YAML", spec("retain: 1d", "service: t")),
    (23, "tabs", "E_YAML", spec("  data:", "\tdata:")),
    (24, "an unknown key", "E_CONFIG", spec("retain:", "retian:")),
    (24, "a wrong type", "E_CONFIG", spec("retain: 1d", "serve: {replicas: two}")),
    (24, "yes for true", "E_CONFIG", spec("bootstrap: true", "bootstrap: yes")),
    (24, "1_000", "E_CONFIG", spec("steps: [5, 50]", "min_step_requests: 1_000")),
    *[
        (25, f"steps {steps}", "E_STEPS", spec("[5, 50]", steps))
        for steps in ("[50, 5]", "[5, 5]", "[5, 101]", "[-1, 5]", "[]", "[.nan]", "[5, 100]", "five", "[five]")
    ],
    *[
        (26, f"threshold {bound}", "E_THRESHOLD", spec("min: 0.5", bound))
        for bound in (
            "min: .nan",
            "max: .inf",
            "min: -0.1",
            "min: 0.5, max: 0.1",
            "max_drop: -1",
            "min: 5ms",
            "min: 1_0",
        )
    ],
    (26, "an unknown metric", "E_THRESHOLD", spec("metric: accuracy", "metric: acuracy")),
    *[
        (27, f"duration {d}", "E_DURATION", spec("retain: 1d", f"retain: {d}"))
        for d in ("'5'", "-1m", "1e9h", "1:30", "5 h")
    ],
    (28, "no rows", "E_DATASET", data("text,label\n")),
    (28, "one class", "E_DATASET", data(f"text,label\na,{LABELS[0]}\nb,{LABELS[0]}\n")),
    (28, "all alike", "E_DATASET", data(f"text,label\na,{LABELS[0]}\na,{LABELS[1]}\n")),
    (28, "an unknown label", "E_DATASET", data(f"text,label\na,{LABELS[0]}\nb,unknown\n")),
    (28, "semicolons", "E_DATASET", data(ROWS.replace(",", ";"))),
    (28, "a text that no server takes", "E_DATASET", data(f"{ROWS}{'x' * 100_001},{LABELS[0]}\n")),
    (28, "UTF-16", "E_DATASET", data(ROWS.encode("utf-16"))),
    (28, "a ragged row", "E_DATASET", data(ROWS + "c\n")),
    (28, "no file", "E_DATASET", spec("rows.csv", "none.csv")),
    (30, "no champion, and no bootstrap", "E_BOOTSTRAP", spec("bootstrap: true", "bootstrap: false")),
    (32, "quarantined files", "E_QUARANTINED", quarantined),
]


@pytest.mark.parametrize(
    ("code", "spoil"),
    [pytest.param(code, spoil, id=f"{number}-{name[:40]}") for number, name, code, spoil in MATRIX],
)
def test_a_bad_request_is_refused_with_its_code(world, home, code, spoil):
    """Before it is spoilt the same request is fine."""
    before = fingerprint(home.root)
    spoil(world)
    with pytest.raises(ShipwayError) as caught:
        world.ask()
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert all(line.isprintable() for line in caught.value.lines()), caught.value.lines()
    assert len(caught.value.lines()) <= 3
    assert fingerprint(home.root) == before


def test_the_request_that_the_rows_spoil_is_right(world):
    """Otherwise the rows would prove nothing."""
    world.ask()


def test_row_6_names_the_newest_three(world):
    """So that a slip is seen at once."""
    world.says("models:/m/1", "models:/m/77")
    with pytest.raises(ShipwayError) as caught:
        world.ask()
    assert caught.value.expected == "one that exists; newest: 4, 3, 2"


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "..%2fx", "a\\b", "C:/x", "a#b"])
def test_row_8_a_path_that_leaves_the_folder(name):
    """E_PATH, whatever spells it."""
    with pytest.raises(UnsafeArtifact) as caught:
        check_relative(name, "weight_map")
    assert (caught.value.code, caught.value.exit_code) == ("E_PATH", 2)


@pytest.mark.parametrize(
    "limits", [FolderLimits(max_files=3), FolderLimits(max_file_bytes=1000), FolderLimits(max_total_bytes=5000)]
)
def test_row_13_a_limit(world, limits, monkeypatch):
    """Too many files, one too large, too much in all: E_LIMIT names the limit."""
    assert paths.LIMITS.max_files > 3
    with pytest.raises(UnsafeArtifact) as caught:
        scan(world.folder, limits)
    assert (caught.value.code, str(caught.value.expected)[:8]) == ("E_LIMIT", "at most ")


def test_row_31_what_is_live_already_is_no_error(world):
    """The command line says so and exits with 0."""
    world.deploy(stable=Deployment("sha256:b", "/b", "m", 1, "r0"))
    with pytest.raises(AlreadyLive, match="already live"):
        world.ask()


def test_row_31_a_model_that_was_made_again_is_another_one(world):
    """It counts from 1: the number is that of what serves, and the files are not."""
    world.deploy(stable=Deployment("sha256:b", "/b", "m", 1, "r0", artifact_digest="sha256:a", made="long ago"))
    with pytest.raises(BadInput, match="bundle"):  # not "already live": the champion's own bytes are looked at
        world.ask()


def test_an_alias_has_one_owner(world):
    """Two services of one model under one alias would take each other's promotions back."""
    world.deploy()
    service = world.services.load("s")
    other = replace(service.stable, alias="champion-eu")
    world.services.save(Service("eu", stable=other))
    world.says("service: s", "service: us\nregistry: {alias: champion-eu}")
    with pytest.raises(BadInput, match="belongs to the service eu") as caught:
        world.ask()
    assert (caught.value.code, caught.value.field) == ("E_ALIAS_OWNED", "registry.alias")


def test_row_32_with_a_reason_they_may_be_released_again(world):
    """`--force REASON`."""
    quarantined(world)
    take_in(
        parse_spec(SPEC), Folders(world.folder), world.services, data_dir=world.data, work=world.work, force="fixed"
    )


def test_a_champion_whose_bytes_are_gone_is_refused(world):
    """It is what everything would go home to."""
    world.deploy(stable=Deployment("sha256:b", "/b", "m", 9, "r0", artifact_digest="sha256:a"))
    with pytest.raises(UnsafeArtifact) as caught:
        world.ask()
    assert (caught.value.code, caught.value.exit_code) == ("E_DIGEST", 2)


def test_a_plan_that_cannot_decide_is_refused_where_the_spec_says_so(world, home):
    """Before anything is written: the service has no traffic, and `on_undecidable: refuse` was asked for."""
    world.deploy()
    world.says("steps: [5, 50]", "steps: [5, 50], on_undecidable: refuse")
    silent = [Stratum(n, "b", 5.0 * n, 5.0 * n + 5, 0.0, ArmCounts(), ArmCounts()) for n in range(24)]
    ports = replace(wire(home), registry=Folders(world.folder), services=world.services)
    ports = replace(ports, metrics=MemoryMetrics({"s": silent}))
    before = fingerprint(home.root)
    with pytest.raises(BadInput) as caught, opened(parse_spec(world.spec), ports, home, world.data, "test"):
        pass
    assert (caught.value.code, caught.value.exit_code) == ("E_UNDECIDABLE", 2)
    assert fingerprint(home.root) == before


def test_row_45_nothing_to_go_back_to(home):
    """Before any traffic is touched: no router is asked, and no lock is taken."""
    before = fingerprint(home.root)
    ports = wire(home)
    with pytest.raises(ShipwayError) as caught:
        back_to_previous(ports, ports.services.load("alone"), "")
    assert (caught.value.code, caught.value.exit_code) == ("E_NO_TARGET", 2)
    assert fingerprint(home.root) == before
