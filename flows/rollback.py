"""Going back as a Prefect flow, for schedules and automations; the command line does the same without Prefect."""

from __future__ import annotations

from prefect import flow

from flows.control.passing_prefect import end_with_this_process
from flows.orders.going_back import order_home
from flows.wiring import home_path, wire
from pipelines.home import Home

end_with_this_process()


@flow(name="rollback")
def rollback(service: str, reason: str, force: str = "") -> str:
    """Put a service's previous version back; returns the id of the order. `force` brings back what was taken away."""
    home = Home.open(home_path())
    ports = wire(home)
    return order_home(home, ports, ports.services.load(service), reason, force).id
