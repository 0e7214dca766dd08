"""What is special about MLflow: what it writes, how it fails, and a real tracking server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.adapters.mlflow.client import ENVIRONMENT
from pipelines.adapters.mlflow.errors import mapped
from pipelines.adapters.mlflow.registry import MlflowRegistry
from pipelines.errors import BadInput, DependencyDown, Forbidden, NotFound, ShipwayError
from pipelines.supply.bundle import artifact_digest
from pipelines.supply.checks.configuration import labels_of
from pipelines.supply.layout import gather, read_layout
from pipelines.supply.scan import scan
from tests.pipelines.model_folders import LABELS, copy_folder
from tests.ports import free_port
from tests.systems.mlflow_server import MlflowServer

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where MLflow keeps its database and files."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def registry(home: Path) -> MlflowRegistry:
    """MLflow on SQLite."""
    return MlflowRegistry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")


@pytest.fixture(scope="module")
def logged(registry: MlflowRegistry, home: Path, tiny_model: Path) -> int:
    """The tiny model as a training job logs it: mlflow.transformers.log_model; its version."""
    import mlflow
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    mlflow.set_tracking_uri(f"sqlite:///{home / 'mlflow.db'}")
    try:
        experiment = mlflow.create_experiment("training", artifact_location=(home / "training").as_uri())
        parts = {
            "model": AutoModelForSequenceClassification.from_pretrained(tiny_model),
            "tokenizer": AutoTokenizer.from_pretrained(tiny_model),
        }
        with mlflow.start_run(experiment_id=experiment):
            info = mlflow.transformers.log_model(
                transformers_model=parts,
                name="model",
                task="text-classification",
                pip_requirements=["torch", "transformers"],
                registered_model_name="tiny",
            )
        return int(info.registered_model_version)
    finally:
        mlflow.set_tracking_uri(None)


def test_what_log_model_writes_is_accepted(registry, logged, tmp_path):
    """Fetched, scanned and read as it is; nothing of it is code."""
    folder = registry.fetch(registry.resolve(f"models:/tiny/{logged}"), tmp_path)
    report = scan(folder)
    assert {"MLmodel", "model/model.safetensors", "components/tokenizer/tokenizer.json"} <= set(report.files)
    assert report.requirements[1:] == ("torch", "transformers")
    assert report.notes == ("MLmodel: flavours python_function, transformers",)


def test_what_log_model_writes_is_the_model(registry, logged, tmp_path, tiny_model):
    """Labels, length and weights survive the way through MLflow."""
    layout = read_layout(registry.fetch(registry.resolve(f"models:/tiny/{logged}"), tmp_path))
    assert (labels_of(layout.config_json), layout.max_length) == (LABELS, 64)
    assert layout.weights.read_bytes() == (tiny_model / "model.safetensors").read_bytes()


def test_fetching_twice_gives_the_same_digest(registry, logged, tmp_path):
    """Nothing of MLflow's is added to the copy."""
    version = registry.resolve(f"models:/tiny/{logged}")
    folders = [registry.fetch(version, tmp_path / name) for name in "ab"]
    assert len({artifact_digest(gather(read_layout(f), tmp_path / "flat" / f.parent.name)) for f in folders}) == 1
    assert artifact_digest(folders[0]) == artifact_digest(folders[1])
    assert not list(folders[0].rglob("registered_model_meta"))


def test_our_files_lie_below_the_artifact_root(registry, home, tiny_model):
    """And not in the working directory, which is MLflow's own default."""
    registry.register("placed", tiny_model, {"derived_from": "1"})
    assert len(list((home / "artifacts" / "shipway").glob("*/artifacts/bundle/model.safetensors"))) == 1


def test_missing_files_are_a_dependency(registry, home, tiny_model, tmp_path):
    """The version exists and its bytes do not."""
    version = registry.register("emptied", tiny_model, {})
    for file in (home / "artifacts" / "shipway").glob("*/artifacts/bundle/model.safetensors"):
        file.unlink()
        for other in file.parent.iterdir():
            other.unlink()
        file.parent.rmdir()
    with pytest.raises(DependencyDown, match="the files are not where MLflow says") as caught:
        registry.fetch(version, tmp_path)
    assert caught.value.code == "E_REGISTRY"


@pytest.mark.parametrize("make", ["file_in_the_way", "not_a_database"])
def test_a_broken_home_is_a_dependency(tmp_path, make):
    """Exit 7, in a sentence, within seconds."""
    if make == "file_in_the_way":
        (tmp_path / "home").write_text("")
    else:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "mlflow.db").write_text("this is not a database, and long enough to be read as one" * 20)
    registry = MlflowRegistry(f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}", tmp_path / "home")
    with pytest.raises(DependencyDown) as caught:
        registry.resolve("models:/tiny/1")
    assert (caught.value.code, caught.value.exit_code) == ("E_REGISTRY", 7)


def test_a_server_that_is_down_is_told_within_seconds(tmp_path, monkeypatch):
    """Before anything else happens: it is asked twice, a second apart."""
    registry = MlflowRegistry(f"http://user:secret@127.0.0.1:{free_port()}")
    connect, asked = socket.socket.connect, []
    monkeypatch.setattr(socket.socket, "connect", lambda own, address: asked.append(address) or connect(own, address))
    for ask in (
        lambda: registry.resolve("models:/tiny/1"),
        lambda: registry.mark("tiny", aliases={"champion": 1}),
    ):
        with pytest.raises(DependencyDown) as caught:
            ask()
        assert caught.value.code == "E_REGISTRY"
        assert "secret@" not in str(caught.value)
    assert len(asked) == 2 * 2


def test_a_server_that_hangs_is_asked_once_by_whoever_holds_a_lock():
    """One question, the patience that was given for it, and afterwards the patience of always."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        registry = MlflowRegistry(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(DependencyDown) as caught:
            registry.mark("tiny", aliases={"champion": 1}, patience_s=1.0)
        silent.setblocking(False)
        silent.accept()
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert caught.value.code == "E_REGISTRY"
    assert {key: os.environ[key] for key in ENVIRONMENT} == ENVIRONMENT


def test_a_bad_uri_is_refused_before_mlflow_is_asked():
    """No connection, no import: the input is wrong."""
    with pytest.raises(BadInput) as caught:
        MlflowRegistry("http://127.0.0.1:1").resolve("models:/a;b/1")
    assert caught.value.code == "E_NAME"


def test_errors_of_ours_pass_through():
    """Only foreign errors are translated."""
    error = NotFound("nothing here")
    with pytest.raises(NotFound) as caught, mapped("look", "sqlite:///x"):
        raise error
    assert caught.value is error


def test_two_first_writers_of_an_alias_both_succeed(registry, tiny_model, home):
    """The race that MLflow loses with an IntegrityError is tried again."""
    registry.register("raced", tiny_model, {})
    code = (
        "import sys; from pipelines.adapters.mlflow.registry import MlflowRegistry as R\n"
        "r = R(sys.argv[1]); r.resolve('models:/raced/1'); print('ready', flush=True); sys.stdin.readline()\n"
        "[r.mark('raced', aliases={f'a{i}': 1}) for i in range(10)]\n"
    )
    uri = f"sqlite:///{home / 'mlflow.db'}"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([sys.executable, "-c", code, uri], **pipes) for _ in range(2)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.communicate(timeout=120)[1][-2000:] for writer in writers if writer.wait(120)] == []
    assert registry.resolve("models:/raced/1").aliases == tuple(f"a{i}" for i in range(10))


@pytest.mark.postgres
def test_six_first_writers_on_postgresql_all_succeed(postgres, tmp_path):
    """Of an alias and of a tag: its words for the race are others than SQLite's, and it has more writers at once."""
    database = f"mlflow_{uuid.uuid4().hex}"
    postgres.run(f"CREATE DATABASE {database}")
    uri = postgres.url.removesuffix("postgres") + database
    registry, threads = MlflowRegistry(uri), 6
    registry._client.create_registered_model("raced")
    registry._client.create_model_version("raced", str(tmp_path))
    together, failed = threading.Barrier(threads), []

    def write(number: int) -> None:
        for turn in range(5):
            for marks in ({"aliases": {f"a{turn}": 1}}, {"tags": {1: {f"t{turn}": str(number)}}}):
                together.wait(60)
                try:
                    registry.mark("raced", **marks)
                except ShipwayError as error:
                    failed.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    found = registry.resolve("models:/raced/1")
    assert (failed, found.aliases) == ([], tuple(f"a{turn}" for turn in range(5)))
    assert {f"t{turn}" for turn in range(5)} <= set(found.tags)


def test_a_database_that_may_not_be_written_is_forbidden(registry, home, tiny_model, tmp_path, monkeypatch, capfd):
    """A file that is mounted for reading, or another user's: exit 2, and no traceback of MLflow's on the terminal."""
    monkeypatch.chdir(tmp_path)  # where MLflow makes a folder "file:" for such an address
    registry.register("kept", tiny_model, {})
    uri = f"sqlite:///file:{home / 'mlflow.db'}?mode=ro&uri=true"
    with pytest.raises(Forbidden, match="readonly database") as caught:
        MlflowRegistry(uri).mark("kept", aliases={"champion": 1})
    assert (caught.value.code, caught.value.exit_code) == ("E_FORBIDDEN", 2)
    assert "Traceback" not in capfd.readouterr().err


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real `mlflow server` on loopback."""
    running = MlflowServer(tmp_path)
    try:
        running.start()
        yield running.uri
    finally:
        running.stop()


def test_a_tracking_server_works_the_same(server, tiny_model, tmp_path):
    """Register, mark, resolve and fetch over HTTP, files through the server."""
    folder = copy_folder(tiny_model, tmp_path / "folder")
    registry = MlflowRegistry(server, tmp_path / "unused")
    digest = {"shipway.bundle_digest": "sha256:" + "a" * 64, "derived_from": "1"}
    assert [registry.register("remote", folder, digest).version for _ in range(2)] == [1, 1]
    registry.mark("remote", aliases={"champion": 1}, expected={"champion": None}, tags={1: {"shipway.verdict": "pass"}})
    found = registry.resolve("models:/remote@champion")
    assert (found.version, found.tags["shipway.verdict"]) == (1, "pass")
    assert artifact_digest(registry.fetch(found, tmp_path / "into")) == artifact_digest(folder)
    assert not (tmp_path / "unused").exists()
