"""`shipway init`: a commented release.yaml and a workflow to start from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

FILES = {"release.yaml": "release.yaml", "release-model.yml": ".github/workflows/release-model.yml"}


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(init)


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
