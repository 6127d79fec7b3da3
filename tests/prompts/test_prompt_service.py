"""Versions, aliases, examples from datasets, previews and imports over a real registry."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from penstock.base.errors import InvalidInput, NotFound
from penstock.prompts.errors import BadExamples, PromptLoop, UnknownPrompt
from penstock.prompts.examples import ExamplePicker
from penstock.prompts.imports import import_prompts
from penstock.prompts.service import PromptService, read_content
from penstock.prompts.types import LastCall, PromptParts
from penstock.registry.errors import ProtectedAlias
from penstock.registry.service import Registry
from penstock.spec.prompts import PromptContent
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control
from penstock.templating.errors import InvalidPrompt

ROWS = [
    {"id": "r1", "input": "cats and dogs", "output": "animals"},
    {"id": "r2", "input": "rain and snow", "output": "weather"},
    {"id": "r3", "input": "cats only", "output": "animals"},
]


class ListedRows:
    """One dataset of three rows, at version 4."""

    n_reads = 0

    def pin(self, reference: str) -> str:
        if not reference.startswith("dataset:words"):
            raise NotFound(f"There is no {reference}.")
        return "dataset:words@1"

    def read(self, reference: str, *, limit: int, ids: Sequence[str] = ()) -> list[dict[str, Any]]:
        self.n_reads += 1
        if ids:
            return [row for each in ids for row in ROWS if row["id"] == each]
        return ROWS[:limit]


def embed(texts: Sequence[str]) -> list[list[float]]:
    """Vectors that are alike when words are shared."""
    words = ["cats", "dogs", "rain", "snow"]
    return [[float(word in text) for word in words] for text in texts]


class KnownPlaces:
    def list_routes(self) -> dict[str, list[str]]:
        return {"split": ["prompt:sort@prod"], "ring": ["prompt:sort"]}

    def last_call(self, name: str) -> LastCall | None:
        return LastCall(time_ns=5, trace_id="t")


def content(text: str = "{{ q }}", **members: Any) -> PromptContent:
    return read_content(
        {"messages": [{"role": "user", "content": text}], "variables": {"q": {}}, "model": "m", **members}
    )


@pytest.fixture
def registry(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Registry]:
    shutil.copy(migrated_sqlite, tmp_path / "control.db")
    engine = open_control(f"sqlite:///{tmp_path / 'control.db'}")
    made = Registry(engine, BlobStore(str(tmp_path / "blobs")))
    made.register("dataset", "words", {"n_rows": 3})
    yield made
    engine.dispose()


@pytest.fixture
def published() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def service(registry: Registry, published: list[tuple[str, str]]) -> PromptService:
    parts = PromptParts(
        rows=ListedRows(),
        embed=embed,
        places=KnownPlaces(),
        publish=lambda actor, note: published.append((actor, note)),
    )
    return PromptService(registry, parts)


def test_only_what_differs_makes_a_version_and_gateways_are_told(
    service: PromptService, published: list[tuple[str, str]]
) -> None:
    first, again = service.create("sort", content(), actor="ada"), service.create("sort", content())
    other = service.create("sort", content("{{ q }}!"))
    assert (first.number, first.is_new, again.number, again.is_new, other.number) == (1, True, 1, False, 2)
    assert published == [("ada", "version 1 of prompt sort"), ("penstock", "version 2 of prompt sort")]
    assert [each.number for each in service.list_versions("sort")] == [2, 1]


def test_what_cannot_be_filled_in_is_not_saved(service: PromptService) -> None:
    with pytest.raises(InvalidPrompt, match="used and not declared"):
        service.create("sort", content("{{ q }}{{ other }}"))
    with pytest.raises(InvalidPrompt, match=r"no member 'massages'. Did you mean 'messages'"):
        read_content({"massages": []})
    with pytest.raises(PromptLoop):
        service.create("sort", content(model="ring"))
    with pytest.raises(InvalidInput):
        service.create("Not A Name", content())


def test_aliases_move_back_and_protected_ones_need_a_reason(service: PromptService) -> None:
    service.create("sort", content())
    service.create("sort", content("{{ q }}!"))
    with pytest.raises(ProtectedAlias):
        service.move("sort@1", "prod", actor="me")
    service.move("sort@1", "prod", actor="me", override_reason="first")
    service.move("sort@2", "prod", actor="me", override_reason="better")
    assert service.get("sort").number == 2
    service.rollback("sort", "prod", actor="me")
    assert (service.get("sort").number, service.get("sort@prod").aliases) == (1, ("prod",))
    (listed,) = service.list_prompts()
    assert (listed.aliases, listed.latest, listed.variables) == ({"prod": 1}, 2, ("q",))
    assert listed.changed_ns == service.history("sort")[0].moved_ns


def test_unknown_prompts_get_near_names_and_unknown_versions_say_which_there_are(
    service: PromptService,
) -> None:
    service.create("sort", content())
    with pytest.raises(UnknownPrompt) as caught:
        service.get("srot@prod")
    assert "Did you mean 'sort'" in str(caught.value.hint)
    with pytest.raises(NotFound, match="unknown version 7"):
        service.get("sort@7")


def test_a_dataset_of_examples_is_pinned_and_becomes_a_parent(
    service: PromptService, registry: Registry
) -> None:
    made = service.create("sort", content(few_shot={"dataset": "dataset:words", "count": 2}))
    assert made.content.few_shot is not None
    assert made.content.few_shot.dataset == "dataset:words@1"
    assert made.parents == (registry.resolve("dataset:words@1").digest,)
    rendered = service.render(made.content, {"q": "Q"})
    assert [each["content"] for each in rendered.messages] == [
        "cats and dogs",
        "animals",
        "rain and snow",
        "weather",
        "Q",
    ]
    version, rows = service.fetch("sort")
    assert [row["id"] for row in rows] == ["r1", "r2"]
    assert version.label == "prompt:sort@1"


def test_the_nearest_examples_are_found_and_the_best_stands_last(service: PromptService) -> None:
    few = {"dataset": "dataset:words@1", "pick": "nearest", "count": 2}
    rendered = service.render(content(few_shot=few), {"q": "about cats"})
    assert rendered.examples == ["r1", "r3"]
    assert service.render(content(few_shot={**few, "count": 1}), {"q": "snow and rain"}).examples == ["r2"]


def test_examples_are_chosen_by_id_and_missing_ones_are_told(service: PromptService) -> None:
    few = {"dataset": "dataset:words@1", "ids": ["r3", "r1"]}
    assert service.render(content(few_shot=few), {"q": "Q"}).examples == ["r3", "r1"]
    with pytest.raises(BadExamples, match="no row r9"):
        service.render(content(few_shot={**few, "ids": ["r9"]}), {"q": "Q"})


def test_pinned_rows_are_read_once(service: PromptService) -> None:
    few = content(few_shot={"dataset": "dataset:words@1", "pick": "random"})
    rows = service.picker._rows
    for _ in range(3):
        service.render(few, {"q": "Q"})
    assert isinstance(rows, ListedRows)
    assert rows.n_reads == 1


def test_examples_without_datasets_or_embedder_say_what_is_missing(registry: Registry) -> None:
    bare = PromptService(registry)
    with pytest.raises(BadExamples, match="datasets cannot be read"):
        bare.render(content(few_shot={"dataset": "dataset:words@1"}), {"q": "Q"})
    with pytest.raises(BadExamples, match="embedding model"):
        bare.render(
            content(few_shot={"rows": [{"input": "a", "output": "b"}], "pick": "nearest"}), {"q": "Q"}
        )


def test_a_preview_counts_tokens_and_says_when_it_is_an_estimate(registry: Registry) -> None:
    class Exact:
        def count(self, model: str, messages: Sequence[Any]) -> tuple[int, str] | None:
            return (7, "tokenizer of it") if model == "local" else None

    service = PromptService(registry, PromptParts(tokenizers=Exact()))
    exact = service.preview(content(model="local"), {"q": "Q"})
    assert (exact.tokens.n_tokens, exact.tokens.is_estimate) == (7, False)
    guessed = service.preview(content(), {"q": "word " * 40})
    assert guessed.tokens.is_estimate
    assert 40 < guessed.tokens.n_tokens < 70
    assert service.preview(content(), {"q": "字" * 40}).tokens.n_tokens > 25


def test_uses_are_routes_prompts_and_the_last_call(service: PromptService, registry: Registry) -> None:
    made = service.create("sort", content())
    service.create("outer", content(model="prompt:sort@1"))
    registry.register("pipeline", "nightly", {}, parents=[made.digest])
    uses = service.uses("sort")
    assert [(each.kind, each.name) for each in uses.uses] == [
        ("route", "split"),
        ("route", "ring"),
        ("prompt", "outer"),
        ("version", "pipeline:nightly@1"),
    ]
    assert uses.last_call is not None


def test_an_import_makes_what_differs_and_a_check_changes_nothing(service: PromptService) -> None:
    service.create("same", content())
    service.create("older", content())
    service.create("older", content("{{ q }}!"))
    service.create("changed", content())
    found = [
        ("same", "same.prompt", content()),
        ("older", "older.prompt", content()),
        ("changed", "changed.prompt", content("{{ q }}?")),
        ("new", "new.prompt", content()),
    ]
    checked = import_prompts(service, found, only_check=True)
    assert [(each.state, each.number) for each in checked] == [
        ("same", 1),
        ("older", 1),
        ("changed", None),
        ("new", None),
    ]
    assert [each.differs for each in checked] == [False, False, True, True]
    with pytest.raises(UnknownPrompt):
        service.get("new")
    done = import_prompts(service, found)
    assert [each.number for each in done] == [1, 1, 2, 1]
    assert all(not each.differs for each in import_prompts(service, found, only_check=True))


def test_one_prompt_that_cannot_be_saved_stops_the_whole_import(service: PromptService) -> None:
    found = [("good", "a", content()), ("bad", "b", content("{{ nope }}"))]
    assert [each.state for each in import_prompts(service, found)] == ["new", "wrong"]
    with pytest.raises(UnknownPrompt):
        service.get("good")
    with pytest.raises(InvalidInput, match="Both a and b"):
        import_prompts(service, [("x", "a", content()), ("x", "b", content())])


def test_examples_behind_an_alias_are_those_that_it_names_now() -> None:
    class MovingRows(ListedRows):
        at = 1

        def pin(self, reference: str) -> str:
            return f"dataset:words@{self.at}"

        def read(self, reference: str, *, limit: int, ids: Sequence[str] = ()) -> list[dict[str, Any]]:
            self.n_reads += 1
            return [{"id": reference, "input": "i", "output": reference}]

    rows = MovingRows()
    picker = ExamplePicker(rows)
    asked = content(few_shot={"dataset": "dataset:words@prod", "count": 1})
    for number in (1, 1, 2, 1):
        rows.at = number
        assert picker.pick(asked, {"q": "Q"})[0]["id"] == f"dataset:words@{number}"
    assert rows.n_reads == 2
