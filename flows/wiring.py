"""Which adapters are used, and what does the environment say? The only file that reads it."""

from __future__ import annotations

import os
import pwd
import time
from pathlib import Path

from pipelines.adapters.gateway import GatewayMetrics, GatewayRouter
from pipelines.adapters.http_replays import HttpReplays
from pipelines.adapters.log_notifier import LogNotifier
from pipelines.adapters.mlflow.prompts import MlflowPrompts
from pipelines.adapters.mlflow.registry import MlflowRegistry
from pipelines.adapters.processes.folder_builder import FolderBuilder
from pipelines.adapters.processes.runtime import ProcessRuntime
from pipelines.adapters.sql.engine import URL_VARIABLE, open_engine, shown_url
from pipelines.adapters.sql.inbox import SqlInbox
from pipelines.adapters.sql.ledger import SqlLedger
from pipelines.adapters.sql.lock import SqlLock
from pipelines.adapters.sql.queue import SqlQueue
from pipelines.adapters.sql.services import SqlServices
from pipelines.adapters.weights.hub import HUB, HubWeights
from pipelines.adapters.weights.mounted import MountedWeights
from pipelines.adapters.weights.oci import OciWeights
from pipelines.adapters.weights.s3 import S3Weights
from pipelines.adapters.weights.schemes import SchemeWeights
from pipelines.home import Home
from pipelines.ports import Builder, Now, Ports, Weights
from pipelines.spec.package import PackageSpec

DEFAULT_HOME = ".shipway"


def home_path() -> Path:
    """Where Shipway keeps everything: SHIPWAY_HOME, or `.shipway` in the working directory."""
    return Path(os.environ.get("SHIPWAY_HOME") or DEFAULT_HOME).absolute()


def tracking_uri(home: Home) -> str:
    """The MLflow that registers models: MLFLOW_TRACKING_URI, or SQLite in the home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home.root / 'mlflow.db'}"


def trusted_data() -> Path | None:
    """A folder from which every spec may read rows, beside its own: SHIPWAY_DATA."""
    folder = os.environ.get("SHIPWAY_DATA")
    return Path(folder) if folder else None


def ledger_place(home: Home) -> Path | str:
    """The database of all records: the address in SHIPWAY_LEDGER_URL, or a file in the home."""
    return os.environ.get(URL_VARIABLE) or home.root / "ledger.db"


def ledger_name(home: Home) -> str:
    """The same as a person may read it: without its password."""
    place = ledger_place(home)
    return shown_url(place) if isinstance(place, str) else str(place)


def wire(home: Home, *, only_reading: bool = False) -> Ports:
    """The outside world of a controller on this machine; who only reads makes no ledger where there is none."""
    place = ledger_place(home)
    is_missing = isinstance(place, Path) and not place.exists()
    engine = open_engine(Path(":memory:") if only_reading and is_missing else place)
    return Ports(
        registry=MlflowRegistry(tracking_uri(home), home.root / "mlartifacts"),
        runtime=ProcessRuntime(home),
        router=GatewayRouter(home.admin_socket),
        metrics=GatewayMetrics(home.admin_socket),
        ledger=SqlLedger(engine),
        services=SqlServices(engine),
        inbox=SqlInbox(engine),
        lock=SqlLock(engine),
        notifier=LogNotifier(home.root / "logs"),
        replays=HttpReplays(home.record),
        queue=SqlQueue(engine),
        weights=weights(),
        prompts=MlflowPrompts(tracking_uri(home)),
    )


def weights() -> Weights:
    """Where weights may lie that a version points at: SHIPWAY_MOUNTS, _REGISTRIES, _BUCKETS, HF_ENDPOINT, _TOKEN."""
    mounts = [Path(folder) for folder in os.environ.get("SHIPWAY_MOUNTS", "").split(":") if folder]
    declared = (said.rpartition("@") for said in os.environ.get("SHIPWAY_REGISTRIES", "").split())
    return SchemeWeights(
        {
            "file": MountedWeights(mounts),
            "hf": HubWeights(os.environ.get("HF_ENDPOINT") or HUB, os.environ.get("HF_TOKEN", "")),
            "oci": OciWeights({host: credentials for credentials, _, host in declared}),
            "s3": S3Weights(os.environ.get("SHIPWAY_BUCKETS", "").split()),
        }
    )


def builder(home: Home, package: PackageSpec) -> Builder:
    """What packs a candidate."""
    if package.target == "docker":
        from pipelines.adapters.docker.builder import DockerBuilder

        return DockerBuilder(home.root / "bundles", home.id, package.base_image)
    return FolderBuilder(home.root / "bundles")


def clock() -> Now:
    """This instant on both clocks."""
    return Now(time.time(), time.monotonic())


def actor() -> str:
    """Who acts: in GitHub Actions the person who triggered the run, otherwise the operating system's user."""
    return os.environ.get("GITHUB_ACTOR") or os.environ.get("USER") or _account()


def _account() -> str:
    """The name of this process's user; in a container the number may have none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def quiet_environment(home: Home) -> None:
    """Settings that MLflow and Prefect read from the environment when they are imported; the user's own win."""
    defaults = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PREFECT_HOME": str(home.root / "prefect"),
        "PREFECT_LOCAL_STORAGE_PATH": str(home.root / "prefect" / "results"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "DO_NOT_TRACK": "1",
        # Waiting threads of a busy machine must not spin: the evaluation shares its cores with what serves.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    if not os.environ.get("PREFECT_API_URL"):
        # A server that Prefect started for this run alone does not come back: waiting for it helps nobody.
        defaults["PREFECT_CLIENT_MAX_RETRIES"] = "1"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
