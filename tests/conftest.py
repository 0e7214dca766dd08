"""What does every test share? No network outside loopback, quiet libraries, and one tiny real model."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from sqlalchemy import Engine

from pipelines.adapters.sql.engine import open_engine
from pipelines.compress.technique import Compressed
from tests.ordering import arrange, needs_docker, scheduler
from tests.systems.base_image import BaseImage, cache_folder
from tests.systems.docker_engine import CannotRun
from tests.systems.docker_engine import Engine as DockerEngine
from tests.systems.docker_engine import missing as docker_missing
from tests.systems.docker_engine import running as docker_running
from tests.systems.postgres import Server, program, serving
from tests.systems.prefect_server import PrefectServer
from tests.systems.prefect_server import serving as serving_prefect

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_OFFLINE": "1",
}
# At import, because some libraries read these once; children of a test inherit them.
os.environ.update(QUIET)

# A busy machine is no property of the code: no example fails for the time that it took.
settings.register_profile("shipway", deadline=None)
settings.load_profile("shipway")


def pytest_configure() -> None:
    """A session that is told to end stops what it started, as after Ctrl-C. Workers of xdist are told by theirs."""
    if not os.environ.get("PYTEST_XDIST_WORKER"):
        signal.signal(signal.SIGTERM, lambda *_: pytest.exit("SIGTERM", 143))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Who gives the workers of xdist their tests, where they are asked to get whole files."""
    return scheduler(config, log) if config.option.dist == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Their order is that of xdist's workers only: alone, a session runs the files as they come."""
    if os.environ.get("PYTEST_XDIST_WORKER") and config.option.dist == "loadfile":
        arrange(items)


BASE_IMAGE = BaseImage(cache_folder())


def pytest_collection_finish(session: pytest.Session) -> None:
    """The base image comes over the network: it begins now, and is there when the first container is."""
    if needs_docker(session.items) and not session.config.option.collectonly and not docker_missing():
        BASE_IMAGE.begin()


def pytest_sessionfinish() -> None:
    """What was begun and not needed ends."""
    BASE_IMAGE.stop()


def is_local(address: Any) -> bool:
    """Whether a socket address stays on this machine; a name other than localhost does not count."""
    if not isinstance(address, tuple):
        return True  # AF_UNIX and friends
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return address[0] in {"localhost", ""}


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """What a command sets for this process, as Prefect's home, is not left to the next test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that leave the machine fail at once, with a sentence."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(self: socket.socket, address: Any) -> None:
        _refuse_outside(address)
        return connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        _refuse_outside(address)
        return connect_ex(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_ex)


def _refuse_outside(address: Any) -> None:
    if not is_local(address):
        raise OSError(f"tests may not leave loopback: {address!r}")


@pytest.fixture(autouse=True)
def _asked_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain tests ask transformers by the same programs in this process: a child's imports cost seconds."""
    if not any(request.node.get_closest_marker(name) for name in ("integration", "e2e", "docker")):
        from tests.pipelines.supply.asking import ask_here

        monkeypatch.setattr("pipelines.supply.oracle.child.ask", ask_here)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT classifier as a plain Hugging Face folder; copy it before you change it."""
    from tests.pipelines.model_folders import make_classifier

    return make_classifier(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama as a plain Hugging Face folder; copy it before you change it."""
    from tests.pipelines.model_folders import make_generator

    return make_generator(tmp_path_factory.mktemp("models") / "generator")


@pytest.fixture(scope="session")
def tiny_gguf(tiny_generator: Path, tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    """The same for llama.cpp, in f16; it takes seconds, once."""
    from pipelines.compress.gguf.gguf import Gguf

    into = tmp_path_factory.mktemp("gguf") / "out"
    return Gguf("f16", ("a row", "(good) day")).compress(tiny_generator, into, {"model": "tiny"})


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A real PostgreSQL. Where it is not installed the tests are skipped, and in CI they fail."""
    if program("initdb") is None:
        missing = "PostgreSQL is not installed (apt-get install postgresql)"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    with serving() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Server) -> Iterator[Server]:
    """The server, with nothing of Shipway's in it."""
    postgres_server.clear()
    yield postgres_server
    postgres_server.clear()


@pytest.fixture
def postgres_engine(postgres: Server) -> Iterator[Engine]:
    """An empty ledger on it."""
    engine = open_engine(postgres.url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """A real Docker Engine. Where none can run the tests are skipped, with the reason."""
    reason = docker_missing()
    if reason:
        pytest.skip(reason)
    with ExitStack() as stack:
        try:
            own = stack.enter_context(docker_running())
        except CannotRun as error:
            pytest.skip(str(error))
        yield own


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[PrefectServer]:
    """One for all releases whose tests are not about Prefect's own."""
    with serving_prefect() as server:
        yield server


@pytest.fixture
def tiny_copy(tiny_model: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the tiny model that a test may damage."""
    from tests.pipelines.model_folders import copy_folder

    return copy_folder(tiny_model, tmp_path / "model")
