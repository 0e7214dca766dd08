"""`shipway init | point`: a commented release.yaml to start from, and a version whose weights lie elsewhere."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import AsJson, open_ports, print_json

FILES = {"release.yaml": "release.yaml", "release-model.yml": ".github/workflows/release-model.yml"}


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(init)
    app.command()(point)


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write; existing files are left alone.")] = Path(),
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of release.yaml and stop.")] = False,
) -> None:
    """Write a commented release.yaml, its JSON Schema for editors, and a GitHub workflow."""
    from pipelines.spec.spec_file import schema_text

    if schema:
        typer.echo(schema_text(), nl=False)
        return
    texts = {target: _template(name) for name, target in FILES.items()}
    texts["release.schema.json"] = schema_text()
    for target, text in texts.items():
        _write(folder / target, text)


def point(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The registered model; made where it is new.")],
    uri: Annotated[
        str,
        typer.Argument(
            metavar="URI",
            help="file:///FOLDER, hf://ORG/MODEL@COMMIT, oci://HOST/NAME@sha256:DIGEST or s3://BUCKET/PREFIX.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Register a version whose weights lie elsewhere: read what is there, and keep its address and digest.

    The same files at the same place are registered once. A release fetches them, and takes no others.
    """
    from flows.orders.pointing import point_at
    from flows.wiring import weights

    version, pointer = point_at(model, uri, weights(), lambda: open_ports()[1].registry)
    if as_json:
        print_json({"model": version.name, "version": version.version, "weights": pointer.as_dict()})
        return
    typer.echo(f"{version.name} version {version.version} → {pointer.said()}")


def _template(name: str) -> str:
    return resources.files("flows.starter").joinpath(name).read_text()


def _write(path: Path, text: str) -> None:
    from pipelines.errors import BadInput

    if path.exists():
        typer.echo(f"kept   {path} (it exists)")
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}", code="E_PATH", field="DIR") from None
    typer.echo(f"wrote  {path}")
