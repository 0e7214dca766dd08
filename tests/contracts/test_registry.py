"""Does every Registry keep the port's promises?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.adapters.memory.registry import ANSWERS, MemoryRegistry
from pipelines.adapters.mlflow.registry import MlflowRegistry
from pipelines.errors import AliasMoved, BadInput, NotFound
from pipelines.ports import Registry

NAME = "sentiment"


def _folder(root: Path, text: str) -> Path:
    folder = root / f"files-{text}"
    (folder / "inner").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "inner" / "words.txt").write_text(text)
    return folder


class RegistryContract:
    """What a Registry must do; an adapter gives `registry` and, where models differ by test, `name`."""

    @pytest.fixture
    def registry(self, tmp_path: Path) -> Registry:
        """The adapter under test, empty for `name`."""
        raise NotImplementedError

    @pytest.fixture
    def name(self) -> str:
        """A model name that no other test uses."""
        return NAME

    @pytest.fixture
    def add(self, registry: Registry, name: str, tmp_path: Path) -> Callable[..., int]:
        """Registers one more version and returns its number."""
        return lambda text="a", **tags: registry.register(name, _folder(tmp_path, text), tags).version

    @pytest.fixture
    def remove(self, registry: Registry) -> Callable[..., None]:
        """Deletes a version, or the whole model, as somebody else would."""
        raise NotImplementedError

    @pytest.fixture
    def rename(self, registry: Registry) -> Callable[[str, str], None]:
        """Gives a model another name, as somebody else would."""
        raise NotImplementedError

    def test_versions_count_from_one(self, add):
        """Each registration without a digest is a new version."""
        assert [add("a"), add("b"), add("c")] == [1, 2, 3]

    def test_a_version_is_found_by_number(self, registry, add, name):
        """`models:/name/2` is version 2 with its tags."""
        add("a"), add("b", **{"shipway.variant": "source"})
        found = registry.resolve(f"models:/{name}/2")
        assert (found.name, found.version, found.aliases) == (name, 2, ())
        assert dict(found.tags) == {"shipway.variant": "source"}

    def test_a_version_is_found_by_alias(self, registry, add, name):
        """`models:/name@champion` is the version that the alias names, and the version knows it."""
        add("a"), add("b")
        registry.mark(name, aliases={"champion": 2, "challenger": 2})
        found = registry.resolve(f"models:/{name}@champion")
        assert (found.version, found.aliases) == (2, ("challenger", "champion"))

    def test_a_missing_version_names_the_newest_three(self, registry, add, name):
        """The error says what there is."""
        for text in "abcd":
            add(text)
        with pytest.raises(NotFound) as caught:
            registry.resolve(f"models:/{name}/9")
        assert caught.value.code == "E_NOT_FOUND"
        assert "4, 3, 2" in str(caught.value.lines())

    @pytest.mark.parametrize("uri", ["models:/unknown-model/1", "models:/unknown-model@champion"])
    def test_an_unknown_model_is_not_found(self, registry, uri):
        """A model that was never registered."""
        with pytest.raises(NotFound, match="unknown-model"):
            registry.resolve(uri)

    def test_an_unknown_alias_is_not_found(self, registry, add, name):
        """An alias that nobody set."""
        add("a")
        with pytest.raises(NotFound, match="alias challenger"):
            registry.resolve(f"models:/{name}@challenger")

    @pytest.mark.parametrize(
        ("uri", "code"),
        [
            ("models:/../../etc/passwd", "E_NAME"),
            ("models:/a;b/1", "E_NAME"),
            ("models:/$(id)/1", "E_NAME"),
            ("models:/a\nb/1", "E_NAME"),
            (f"models:/{'a' * 129}/1", "E_NAME"),
            ("models://1", "E_NAME"),
            ("models:/sеntiment/1", "E_NAME"),
            ("runs:/abc/model", "E_NAME"),
            ("models:/a/0", "E_VERSION"),
            ("models:/a/-1", "E_VERSION"),
            ("models:/a/1e3", "E_VERSION"),
            ("models:/a/latest", "E_VERSION"),
            ("models:/a/٣", "E_VERSION"),
            ("models:/a/1" + "0" * 30, "E_VERSION"),
            ("models:/a@champion; drop", "E_ALIAS"),
            ("models:/a@v3", "E_ALIAS"),
            ("models:/a@latest", "E_ALIAS"),
        ],
    )
    def test_a_bad_uri_is_refused_by_part(self, registry, uri, code):
        """Name, version and alias have a code each (rows 1 to 7 of the bad-input matrix)."""
        with pytest.raises(BadInput) as caught:
            registry.resolve(uri)
        assert caught.value.code == code

    def test_fetch_gives_the_same_files(self, registry, add, name, tmp_path):
        """Exactly the files that were registered, below the folder that was asked for."""
        add("words")
        folder = registry.fetch(registry.resolve(f"models:/{name}/1"), tmp_path / "into")
        found = {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}
        assert found == {"config.json": "{}", "inner/words.txt": "words"}
        assert folder.is_relative_to(tmp_path / "into")

    def test_fetch_again_repairs_the_copy(self, registry, add, name, tmp_path):
        """A copy that was cut off or changed is replaced."""
        add("words")
        version = registry.resolve(f"models:/{name}/1")
        folder = registry.fetch(version, tmp_path / "into")
        (folder / "inner" / "words.txt").write_text("changed")
        (folder / "extra.txt").write_text("left over")
        again = registry.fetch(version, tmp_path / "into")
        assert sorted(p.name for p in again.rglob("*") if p.is_file()) == ["config.json", "words.txt"]
        assert (again / "inner" / "words.txt").read_text() == "words"

    def test_the_same_bundle_is_registered_once(self, add):
        """A controller that was killed after registering finds its version again."""
        digest = {"shipway.bundle_digest": "sha256:" + "1" * 64, "derived_from": "1"}
        assert [add("a"), add("b", **digest), add("c", **digest)] == [1, 2, 2]

    def test_the_same_weights_elsewhere_are_registered_once(self, add):
        """What says the same of where its files lie is the same version; the oldest is found."""
        here, there = ({"shipway.weights": f"file:///{place} sha256:1"} for place in ("here", "there"))
        said = ({}, here, there, here, there, {"shipway.weights": ""}, {"shipway.weights": ""})
        assert [add(str(n), **tags) for n, tags in enumerate(said)] == [1, 2, 3, 2, 3, 4, 5]

    def test_tags_are_added_and_replaced(self, registry, add, name):
        """`mark` leaves other tags alone."""
        add("a", old="1", kept="2")
        registry.mark(name, tags={1: {"old": "3", "shipway.verdict": "pass"}})
        assert dict(registry.resolve(f"models:/{name}/1").tags) == {"old": "3", "kept": "2", "shipway.verdict": "pass"}

    def test_an_alias_moves_as_expected(self, registry, add, name):
        """From nothing to 1, then from 1 to 2 with the old one named previous-champion."""
        add("a"), add("b")
        registry.mark(name, aliases={"champion": 1}, expected={"champion": None})
        registry.mark(name, aliases={"champion": 2, "previous-champion": 1}, expected={"champion": 1})
        assert registry.resolve(f"models:/{name}/1").aliases == ("previous-champion",)
        assert registry.resolve(f"models:/{name}/2").aliases == ("champion",)

    def test_an_alias_that_somebody_else_moved_is_left_alone(self, registry, add, name):
        """The error names both values and nothing is overwritten."""
        add("a"), add("b"), add("c")
        registry.mark(name, aliases={"champion": 3})
        with pytest.raises(AliasMoved, match="version 3, not at version 1"):
            registry.mark(name, aliases={"champion": 2}, expected={"champion": 1})
        assert registry.resolve(f"models:/{name}@champion").version == 3

    def test_moving_an_alias_again_is_fine(self, registry, add, name):
        """A controller that was killed after its write goes on."""
        add("a"), add("b")
        registry.mark(name, aliases={"champion": 1})
        for _ in range(2):
            registry.mark(name, aliases={"champion": 2}, expected={"champion": 1})
        assert registry.resolve(f"models:/{name}@champion").version == 2

    def test_a_version_that_is_not_there_is_not_marked(self, registry, add, name):
        """Neither tags nor aliases reach a missing version."""
        add("a")
        for wrong in ({"aliases": {"champion": 7}}, {"tags": {7: {"a": "b"}}}):
            with pytest.raises(NotFound, match="version 7"):
                registry.mark(name, **wrong)
        assert registry.resolve(f"models:/{name}/1").aliases == ()

    def test_a_registration_has_an_identity(self, registry, add, name, tmp_path):
        """It is told when it is registered, and is the same by number and by alias, whatever is marked."""
        made = registry.register(name, _folder(tmp_path, "first"), {}).made
        add("b")
        registry.mark(name, aliases={"champion": 1}, tags={1: {"a": "b"}}, made={1: made})
        found = [registry.resolve(f"models:/{name}{at}").made for at in ("/1", "@champion")]
        assert (made != "", found) == (True, [made, made])

    def test_a_deleted_version_is_not_found(self, registry, add, remove, name, tmp_path):
        """Its aliases went with it, and its number is given to nobody again."""
        add("a"), add("b")
        registry.mark(name, aliases={"champion": 2})
        gone = registry.resolve(f"models:/{name}/2")
        remove(name, 2)
        for ask in (
            lambda: registry.resolve(f"models:/{name}/2"),
            lambda: registry.resolve(f"models:/{name}@champion"),
            lambda: registry.fetch(gone, tmp_path / "into"),
            lambda: registry.mark(name, aliases={"champion": 2}, expected={"champion": 2}),
        ):
            with pytest.raises(NotFound):
                ask()
        assert add("c") == 3

    def test_a_deleted_model_is_not_found(self, registry, add, remove, name):
        """Nor may anything of it be marked."""
        add("a")
        remove(name)
        with pytest.raises(NotFound, match=name):
            registry.resolve(f"models:/{name}/1")
        with pytest.raises(NotFound, match=name):
            registry.mark(name, aliases={"champion": 1})

    def test_a_model_that_was_made_again_is_another(self, registry, add, remove, name, tmp_path):
        """It counts from 1 again: the same number, another registration, which gets no mark of the first."""
        add("a")
        first = registry.resolve(f"models:/{name}/1")
        remove(name)
        add("b")
        second = registry.resolve(f"models:/{name}/1")
        assert (second.version, second.made != first.made) == (1, True)
        for ask in (
            lambda: registry.mark(name, aliases={"champion": 1}, made={1: first.made}),
            lambda: registry.mark(name, tags={1: {"shipway.verdict": "promoted"}}, made={1: first.made}),
            lambda: registry.fetch(first, tmp_path / "into"),
        ):
            with pytest.raises(NotFound, match="was deleted and made again"):
                ask()
        assert registry.resolve(f"models:/{name}/1") == second
        registry.mark(name, aliases={"champion": 1}, made={1: second.made})
        assert registry.resolve(f"models:/{name}@champion").version == 1

    def test_only_what_is_marked_must_be_that_registration(self, registry, add, name):
        """`made` may say more than is asked for, or nothing."""
        add("a"), add("b")
        registry.mark(name, aliases={"champion": 1}, made={2: "another", 7: "none", 1: ""})
        assert registry.resolve(f"models:/{name}@champion").version == 1

    def test_a_renamed_model_is_not_found(self, registry, add, rename, name):
        """Under its old name; under the new one it is the same registration, with its aliases."""
        add("a")
        registry.mark(name, aliases={"champion": 1})
        before = registry.resolve(f"models:/{name}/1")
        rename(name, f"{name}-new")
        with pytest.raises(NotFound):
            registry.mark(name, aliases={"champion": 1}, made={1: before.made})
        after = registry.resolve(f"models:/{name}-new@champion")
        assert (after.version, after.made, after.aliases) == (1, before.made, ("champion",))


class TestMemoryRegistry(RegistryContract):
    """The in-memory adapter."""

    @pytest.fixture
    def registry(self, tmp_path: Path) -> Registry:
        """A new one."""
        return MemoryRegistry()

    @pytest.fixture
    def remove(self, registry: MemoryRegistry) -> Callable[..., None]:
        """By its own means."""
        return registry.remove

    @pytest.fixture
    def rename(self, registry: MemoryRegistry) -> Callable[[str, str], None]:
        """By its own means."""
        return registry.rename

    @pytest.mark.parametrize("answer", ANSWERS)
    def test_it_gives_any_answer_on_demand(self, registry, add, name, answer):
        """For tests of those who ask; nothing is done then, and without it all is as before."""
        add("a")
        registry.answers["mark"] = ANSWERS[answer]
        with pytest.raises(type(ANSWERS[answer]())):
            registry.mark(name, aliases={"champion": 1})
        assert registry.resolve(f"models:/{name}/1").aliases == ()
        registry.answers["mark"] = lambda: None
        registry.mark(name, aliases={"champion": 1})
        assert registry.resolve(f"models:/{name}/1").aliases == ("champion",)

    def test_the_seven_answers_are_seven(self):
        """Each is an error of its own: by type, or by code where two are of one type."""
        assert len({(type(error()), error().code) for error in ANSWERS.values()}) == 7


@pytest.fixture(scope="module")
def mlflow_registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """MLflow with its database and its files in a temporary folder; the first touch takes seconds."""
    root = tmp_path_factory.mktemp("mlflow")
    return MlflowRegistry(f"sqlite:///{root / 'mlflow.db'}", root / "artifacts")


@pytest.mark.integration
class TestMlflowRegistry(RegistryContract):
    """Real MLflow on SQLite; one database for all of them."""

    @pytest.fixture
    def registry(self, mlflow_registry: Registry) -> Registry:
        """The shared one; every test has its own model name."""
        return mlflow_registry

    @pytest.fixture
    def remove(self, registry: MlflowRegistry) -> Callable[..., None]:
        """By MLflow's client."""
        client = registry._client

        def remove(name: str, version: int | None = None) -> None:
            if version is None:
                client.delete_registered_model(name)
            else:
                client.delete_model_version(name, str(version))

        return remove

    @pytest.fixture
    def rename(self, registry: MlflowRegistry) -> Callable[[str, str], None]:
        """By MLflow's client."""
        return registry._client.rename_registered_model

    @pytest.fixture
    def name(self, request: pytest.FixtureRequest) -> str:
        """Made of the test's name."""
        return request.node.originalname.replace("_", "-")[:100]
