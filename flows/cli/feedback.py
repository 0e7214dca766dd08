"""`shipway feedback`: how good were the answers? Labels from a file, or from MLflow's assessments, to the gateway."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, gateway_url, open_home, seconds_of

if TYPE_CHECKING:
    from pipelines.home import Home
    from pipelines.services.labels import Label

Data = Annotated[
    Path | None,
    typer.Option("--data", help="CSV or JSONL: request_id, score (0 to 1) or correct, model_version where known."),
]
Experiment = Annotated[
    str | None, typer.Option("--mlflow", metavar="EXPERIMENT", help="Assessments of this experiment's traces.")
]
Assessment = Annotated[
    str | None, typer.Option("--assessment", metavar="NAME", help="Which assessment; else the only rating there is.")
]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(feedback)


def feedback(
    service: Annotated[str, typer.Argument(help="The service that answered.")],
    data: Data = None,
    experiment: Experiment = None,
    assessment: Assessment = None,
    since: Annotated[str, typer.Option("--since", help="With --mlflow: traces of so long ago, as 1h.")] = "1h",
    follow: Annotated[bool, typer.Option("--follow", help="With --mlflow: go on until Ctrl-C.")] = False,
    url: Annotated[str | None, typer.Option("--url", help="The gateway, where it is not this home's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send labels of earlier answers to the gateway, each once, and say how many are evidence."""
    from flows.cli import labelling
    from flows.demo.traffic import check_loopback
    from pipelines.adapters.gateway import GatewayLabels
    from pipelines.services.labels import send_labels

    _check_source(data, experiment, follow=follow)
    since_s = seconds_of(since, "--since")
    if url is not None:
        check_loopback(url)
    desk = GatewayLabels(url or gateway_url(service))
    home = open_home()
    read = _reader(home, data, experiment, assessment, since_s)
    sent = labelling.sent_labels(home, service, f"mlflow {experiment}" if data is None else f"file {data.absolute()}")
    tally = labelling.follow(read, desk, sent) if follow else send_labels(read(), desk, sent)
    labelling.show(tally, as_json=as_json)


def _check_source(data: Path | None, experiment: str | None, *, follow: bool) -> None:
    from pipelines.errors import BadInput

    if (data is None) == (experiment is None):
        raise BadInput("labels come from one place", code="E_OPTION", field="--data", expected="--data or --mlflow")
    if follow and experiment is None:
        raise BadInput("a file is sent once", code="E_OPTION", field="--follow", expected="--mlflow with --follow")


def _reader(
    home: Home, data: Path | None, experiment: str | None, assessment: str | None, since_s: float
) -> Callable[[], list[Label]]:
    """What reads the labels that there are now."""
    if data is not None:
        from pipelines.services.label_file import read_labels

        return lambda: read_labels(data)
    from flows.wiring import clock, tracking_uri
    from pipelines.adapters.mlflow.assessments import MlflowAssessments

    source = MlflowAssessments(tracking_uri(home), experiment or "", assessment)
    return lambda: source.labels(clock().wall_s - since_s)
