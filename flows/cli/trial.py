"""`shipway traffic | demo | demo-llm`: trying things out with real rows and real models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import AsJson, gateway_url, open_home


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(traffic)
    app.command()(demo)
    app.command("demo-llm")(demo_llm)


def traffic(
    service: Annotated[str, typer.Argument(help="The service to send rows to.")],
    data: Annotated[
        Path, typer.Option("--data", help="CSV or JSONL: rows with messages or a prompt are streamed, else a text.")
    ],
    rps: Annotated[float, typer.Option("--rps", min=0.1, max=5000, help="Requests per second.")] = 20.0,
    duration_s: Annotated[
        float | None, typer.Option("--duration-s", min=0.1, help="Stop after this; else on Ctrl-C.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="The gateway, where it is not this home's.")] = None,
    text: Annotated[
        str, typer.Option("--text", help="The column with the input, where it is none of messages, prompt and text.")
    ] = "",
    report: Annotated[Path | None, typer.Option("--report", help="Write what was counted to this JSON file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send rows through the gateway and count, as a client sees them, answers, first tokens and failures by version."""
    from flows.demo.posting import read_posts
    from flows.demo.traffic import run_traffic_command

    address = url or gateway_url(service)
    run_traffic_command(address, read_posts(data, service, text), rps, duration_s, report, as_json=as_json)


def demo(as_json: AsJson = False) -> None:
    """Release a real model under real traffic, then two bad ones: one fails offline, one is rolled back."""
    from flows.demo.story import run_demo

    raise typer.Exit(run_demo(open_home().root, json_out=as_json))


def demo_llm(as_json: AsJson = False) -> None:
    """Release a small language model under streaming traffic, then two bad versions of it."""
    from flows.demo.llm.story import run_demo_llm

    raise typer.Exit(run_demo_llm(open_home().root, json_out=as_json))
