"""`shipway adopt`: an endpoint that runs already becomes the stable arm of a new service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import AsJson, open_ports, print_json


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(adopt)


def adopt(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="A new service; for OIP, the model's name.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="http://HOST:PORT or https://HOST:PORT of the endpoint.")],
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A host that is not this machine and may be adopted.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option("--ca-file", help="Authorities (PEM) of an https:// endpoint; else the machine's.")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The gateway's; 0 chooses one.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Put the gateway in front of an endpoint that runs already, so that releases have something to go home to.

    Shipway asks whether it answers, and never starts or ends it. Users call the gateway from now on.
    """
    from flows.control.background import start_up
    from flows.orders.adopting import record_adoption, wait_serving
    from flows.orders.resolving import remove_service
    from pipelines.errors import ShipwayError
    from pipelines.services.adoption import find_endpoint

    endpoint = find_endpoint(service, url, tuple(allow_host or ()), str(ca_file.absolute()) if ca_file else "")
    home, ports = open_ports()
    adopted = record_adoption(ports, service, endpoint, port)
    start_up(home)
    try:
        gateway = wait_serving(ports, adopted)
    except ShipwayError:
        # It never served: what was written down for it is taken back, so that the same command may be given again.
        remove_service(home, ports, service, "its gateway did not serve")
        raise
    facts = {"service": service, "url": gateway, "endpoint": endpoint.url, "protocol": endpoint.protocol}
    if as_json:
        print_json(facts)
        return
    typer.echo(f"{service} serves at {gateway}: all traffic goes to {endpoint.url} ({endpoint.protocol})")
