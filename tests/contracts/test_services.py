"""Does every Services keep the port's promises?"""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from pipelines.adapters.memory.records import MemoryServices
from pipelines.adapters.sql.engine import open_engine
from pipelines.adapters.sql.services import SqlServices
from pipelines.errors import NotFound, StaleWriter
from pipelines.records.service import Deployment, Service, Services

STABLE = Deployment("sha256:1", "/bundles/1", "m", 3, "r1", since_s=1.5)


class ServicesContract:
    """What a Services must do."""

    @pytest.fixture
    def services(self, tmp_path: Path) -> Services:
        """The adapter under test."""
        raise NotImplementedError

    def test_what_was_saved_is_loaded(self, services):
        """With every part, one version later."""
        saved = services.save(Service("s", model="m", cpus=0.5, stable=STABLE, quarantined={"sha256:9": "raised"}))
        assert saved.version == 1
        assert services.load("s") == saved

    def test_an_unknown_service_is_not_found(self, services):
        """The error names the known ones."""
        services.save(Service("known"))
        with pytest.raises(NotFound) as caught:
            services.load("unknown")
        assert "known" in str(caught.value.expected)

    def test_saving_again_moves_the_version(self, services):
        """Each save is one version."""
        first = services.save(Service("s"))
        second = services.save(first.changed(replicas=2))
        assert (second.version, services.load("s").replicas) == (2, 2)

    def test_a_stale_writer_changes_nothing(self, services):
        """Compare-and-set: the second of two writers who read the same must read again."""
        first = services.save(Service("s"))
        second = services.save(first.changed(replicas=2))
        with pytest.raises(StaleWriter):
            services.save(first.changed(replicas=3))
        assert services.load("s") == second

    def test_a_service_is_created_once(self, services):
        """Version 0 creates, and only creates."""
        first = services.save(Service("s"))
        with pytest.raises(StaleWriter):
            services.save(Service("s", replicas=9))
        assert services.load("s") == first

    def test_a_later_version_creates_nothing(self, services):
        """Whoever knows a version of something that is not there is stale."""
        with pytest.raises(StaleWriter):
            services.save(Service("s", version=4))
        assert services.names() == ()

    def test_names_are_sorted(self, services):
        """All of them."""
        for name in ("b", "c", "a"):
            services.save(Service(name))
        assert services.names() == ("a", "b", "c")


class TestMemoryServices(ServicesContract):
    """The in-memory adapter."""

    @pytest.fixture
    def services(self, tmp_path: Path) -> Services:
        """An empty one."""
        return MemoryServices()


class TestSqlServices(ServicesContract):
    """The real one, on SQLite."""

    @pytest.fixture
    def services(self, tmp_path: Path) -> Services:
        """On an empty database."""
        return SqlServices(open_engine(tmp_path / "ledger.db"))


@pytest.mark.postgres
class TestPostgresServices(ServicesContract):
    """The same SQL on a real PostgreSQL."""

    @pytest.fixture
    def services(self, postgres_engine: Engine) -> Services:
        """On an empty ledger."""
        return SqlServices(postgres_engine)
