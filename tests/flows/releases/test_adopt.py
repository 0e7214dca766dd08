"""An endpoint that runs already becomes stable; a release meets it on live traffic, and goes back to it."""

from __future__ import annotations

import json

import httpx
import pytest
import trustme

from flows.wiring import wire
from pipelines.home import Home
from tests.flows.releases.mlflow_scoring import scoring_server
from tests.flows.releases.real_world import SPEC, World, calling
from tests.pipelines.model_folders import make_classifier
from tests.pipelines.services.test_adoption import endpoint
from tests.systems.mlflow_database import lay_database

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_an_adopted_endpoint_is_stable_until_a_release_is_better(tmp_path, prefect_server):
    """Adopt, release into it under load, go back: nobody's request is lost, and the endpoint runs on after `down`."""
    home = Home.open(tmp_path / "home")
    rows = [f"{text},{label}" for text in ("good", "bad", "fine") for label in ("negative", "neutral", "positive")]
    (home.root / "rows.csv").write_text("text,label\n" + "\n".join(rows * 5) + "\n")
    (home.root / "release.yaml").write_text(SPEC.replace("bootstrap: true\n", "").replace("dynamic-int8", "none"))
    world = World(home, wire(home), home.root / "release.yaml", prefect_url=prefect_server.url)
    lay_database(home.root / "mlflow.db")
    world.ports.registry.register("tiny", make_classifier(home.root / "models" / "1", seed=1), {})
    with endpoint("oip") as (url, process):
        try:
            _adopt_release_and_go_back(world, url)
        finally:
            world.end()
        assert process.poll() is None
        assert httpx.get(f"{url}/v2/health/ready", trust_env=False).status_code == 200


def test_mlflow_models_serve_is_adopted(tmp_path):
    """The real one: it is recognised, users ask it through the gateway as before, and it runs on after `down`."""
    home = Home.open(tmp_path / "home")
    (home.root / "release.yaml").write_text(SPEC)
    world = World(home, wire(home), home.root / "release.yaml")
    with scoring_server(tmp_path) as (url, process):
        try:
            adopted = world.run("adopt", "tiny", url, "--json")
            assert adopted.returncode == 0, adopted.stderr
            assert json.loads(adopted.stdout)["protocol"] == "mlflow"
            asked = {"inputs": [[0.5], [2.5]]}
            answer = httpx.post(f"{world.url}/invocations", json=asked, trust_env=False)
            assert (answer.status_code, answer.json()) == (200, {"predictions": [0, 1]})
            assert answer.headers["x-shipway-arm"] == "stable"
            assert httpx.get(f"{world.url}/ping", trust_env=False).status_code == 200
            wrong = httpx.post(f"{world.url}/invocations", json={"rows": 1}, trust_env=False)
            assert (wrong.status_code, "error_code" in wrong.json()) == (400, True)
        finally:
            world.end()
        assert process.poll() is None
        assert httpx.get(f"{url}/ping", trust_env=False).status_code == 200


def test_an_endpoint_over_tls_is_adopted(tmp_path):
    """By an authority of its own; the gateway and `up` check it, too."""
    home = Home.open(tmp_path / "home")
    (home.root / "release.yaml").write_text(SPEC)
    world, authority = World(home, wire(home), home.root / "release.yaml"), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    with endpoint("mlflow", str(tmp_path / "server.pem")) as (url, _):
        try:
            refused = world.run("adopt", "tiny", url, "--json")
            assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (2, "E_TLS")
            adopted = world.run("adopt", "tiny", url, "--ca-file", str(tmp_path / "ca.pem"), "--json")
            assert adopted.returncode == 0, adopted.stderr
            answer = httpx.post(f"{world.url}/invocations", json={"inputs": [1]}, trust_env=False)
            assert (answer.status_code, answer.json()) == (200, {"predictions": []})
        finally:
            world.end()


def _adopt_release_and_go_back(world: World, url: str) -> None:
    adopted = world.run("adopt", "tiny", url, "--json")
    assert adopted.returncode == 0, adopted.stderr
    assert json.loads(adopted.stdout) == {"service": "tiny", "url": world.url, "endpoint": url, "protocol": "oip"}
    again = world.run("adopt", "tiny", url, "--json")
    assert (again.returncode, json.loads(again.stdout)["error"]["code"]) == (2, "E_SERVICE")
    planned = json.loads(world.run("plan", str(world.spec), "--json").stdout)
    assert planned["champion"].startswith(f"adopted {url}")
    with calling(world.url) as client:
        done = world.run("release", str(world.spec), "--json")
        assert done.returncode == 0, done.stderr[-3000:]
        released = json.loads(done.stdout)
        assert (released["label"], released["canary_requests"] > 20) == ("unproven offline", True)
        assert world.ports.router.read("tiny").stable.digest == world.newest().sealed.bundle_digest
        back = world.run("rollback", "tiny", "--reason", "test", "--json")
        assert back.returncode == 0, back.stderr
        assert world.ports.router.read("tiny").stable.urls == (url,)
        again = world.run("rollback", "tiny", "--json")
        assert (again.returncode, json.loads(again.stdout)["error"]["code"]) == (2, "E_TAKEN_AWAY")
        forth = world.run("rollback", "tiny", "--force", "test", "--json")
        assert forth.returncode == 0, forth.stderr
        assert world.ports.services.load("tiny").stable.version == 1
    assert (client.failed, client.answered > 100) == (0, True)
