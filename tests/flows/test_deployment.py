"""Are the files that run Shipway elsewhere what they say? The systemd unit and the compose file, parsed and checked."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "flows" / "starter" / "shipway.service"
COMPOSE = ROOT / "docker" / "compose.yaml"
PROMETHEUS = ROOT / "docker" / "prometheus" / "prometheus.yml"
OWN_IMAGE = "shipway:0.1.0"


@pytest.fixture
def unit() -> configparser.ConfigParser:
    """The unit's sections."""
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str
    parser.read_string(UNIT.read_text())
    return parser


@pytest.fixture
def compose() -> dict:
    """The compose file."""
    return yaml.safe_load(COMPOSE.read_text())


def test_systemd_lets_the_children_of_a_killed_up_serve_on(unit):
    """It ends `up` alone, starts it again where it was killed, and not where a person said `shipway down`."""
    service = unit["Service"]
    assert (service["KillMode"], service["Restart"], service["OOMPolicy"]) == ("process", "on-failure", "continue")
    assert service["ExecStart"].split()[1:3] == ["up", "--port"]
    assert int(service["TimeoutStopSec"]) > 2 * 12  # gateways drain, and then servers
    assert "PASSWORD" not in UNIT.read_text().upper().replace("HOLDS A PASSWORD", "")


@pytest.mark.integration
def test_systemd_understands_the_unit(tmp_path):
    """`systemd-analyze verify`, with a program that exists on this machine."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed; the unit was parsed")
    copy = tmp_path / "shipway.service"
    copy.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False, timeout=120)
    complaints = [line for line in done.stderr.splitlines() if "shipway.service" in line]
    assert (done.returncode, complaints) == (0, []) or "Failed to" in done.stderr, done.stderr


def test_every_port_is_on_loopback(compose):
    """Nothing is published to the network by default."""
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 4
    assert all(str(port).startswith("127.0.0.1:") for port in ports)


def test_images_are_pinned(compose):
    """To a full version: no `latest`, and nothing that moves."""
    images = {service["image"] for service in compose["services"].values()}
    assert OWN_IMAGE in images
    assert all(re.search(r":v?\d+\.\d+(\.\d+)?(-[a-z]+)?(@sha256:[0-9a-f]{64})?$", image) for image in images)


def test_services_are_hardened_and_hold_no_password(compose):
    """No new privileges anywhere; the password comes from the environment, and there is no default."""
    assert set(compose["services"]) == {"postgres", "mlflow", "prefect", "shipway", "prometheus"}
    for service in compose["services"].values():
        assert "no-new-privileges:true" in service["security_opt"]
        assert not service.get("privileged")
    passwords = re.findall(r"\$\{?POSTGRES_PASSWORD[^}\s]*", COMPOSE.read_text())
    assert passwords[0].startswith("${POSTGRES_PASSWORD:?")
    assert not re.search(r"://shipway:(?!\$\{POSTGRES_PASSWORD)", COMPOSE.read_text())


def test_prometheus_scrapes_what_up_serves(compose):
    """On the port that `up` is given, over the network that both share: the API answers to loopback names only."""
    scraped = yaml.safe_load(PROMETHEUS.read_text())["scrape_configs"][0]["static_configs"][0]["targets"]
    image = (ROOT / "docker" / "shipway.Dockerfile").read_text()
    assert scraped == ["127.0.0.1:8900"]
    assert 'CMD ["up", "--port", "8900"]' in image
    assert compose["services"]["prometheus"]["network_mode"] == "service:shipway"
    assert f"{PROMETHEUS.parent.name}/{PROMETHEUS.name}" in compose["services"]["prometheus"]["volumes"][0]


def test_all_volumes_and_configs_are_declared(compose):
    """A name that is used exists."""
    used = {
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", ())
        if not volume.startswith(".")
    }
    assert used == set(compose["volumes"])
    assert compose["services"]["postgres"]["configs"][0]["source"] in compose["configs"]


@pytest.mark.integration
def test_docker_understands_the_compose_file():
    """`docker compose config`, where it is installed."""
    probe = ["docker", "compose", "version"]
    if shutil.which("docker") is None or subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("docker compose is not installed; the file was parsed")
    command = ["docker", "compose", "-f", str(COMPOSE), "config", "--quiet"]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "POSTGRES_PASSWORD": "x"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.integration
def test_prometheus_understands_its_file():
    """`promtool check config`, where it is installed."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed; the file was parsed")
    done = subprocess.run(["promtool", "check", "config", PROMETHEUS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
