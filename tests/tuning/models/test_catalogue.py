"""Models as people look at them: rows, versions, cards with measured figures, the graph of what came of what."""

from typing import Any

import pytest

from penstock.base.errors import InvalidInput
from penstock.registry.errors import UnknownAsset
from penstock.registry.service import Registry
from penstock.registry.types import Version
from penstock.spec.assets import parse_asset_ref
from penstock.spec.evaluations import Estimate
from penstock.tuning.cards import write_card
from penstock.tuning.catalogue import ModelCatalogue

CHAT: dict[str, Any] = {
    "kind": "chat",
    "architecture": "llama",
    "precision": "f16",
    "n_parameters": 1000,
    "size_bytes": 2000,
    "context_length": 256,
    "dims": None,
    "license": "Apache-2.0",
    "description": "Answers.",
    "formats": ["gguf", "safetensors"],
    "source": {"form": "hub", "reference": "org/name@c0ffee"},
    "parity": {"mean_kl": 1e-6, "n_compared": 21},
}


def register(registry: Registry, name: str, parents: tuple[Version, ...] = (), **changes: Any) -> Version:
    return registry.register("model", name, CHAT | changes, parents=list(parents))


def origin(base: Version, method: str = "lora", **more: Any) -> dict[str, Any]:
    pinned = {"asset": base.asset, "number": base.number, "digest": base.digest}
    return {"base": pinned, "method": method, **more}


@pytest.fixture
def family(registry: Registry) -> dict[str, Version]:
    """Data and a base; a tuned model, its rounded child, an adapter."""
    data = registry.register("dataset", "rows", {"n": 1})
    base = register(registry, "base")
    tuned = register(registry, "tuned", (base, data), lineage=origin(base, run="run_7", code="penstock 1"))
    child = register(registry, "tuned", (tuned,), precision="q4_0", lineage=origin(tuned, "quantise"))
    adapter = register(
        registry,
        "tuned-adapter",
        (base, data),
        lineage=origin(base),
        adapter={"kind": "lora", "r": 4, "alpha": 8.0, "targets": ["q_proj"], "base_digest": base.digest},
    )
    registry.move_alias("model", "tuned", "candidate", tuned.number, actor="t")
    return {"data": data, "base": base, "tuned": tuned, "child": child, "adapter": adapter}


def test_the_list_shows_what_is_live_else_the_newest(registry: Registry, family: dict[str, Version]) -> None:
    catalogue = ModelCatalogue(registry)
    rows = {row.name: row for row in catalogue.list().rows}
    assert list(rows) == ["base", "tuned", "tuned-adapter"]
    assert (rows["tuned"].label, rows["tuned"].precision) == ("model:tuned@2", "q4_0")
    assert rows["tuned"].is_live is False
    registry.move_alias("model", "tuned", "prod", 1, actor="t", override_reason="a test")
    (row,) = catalogue.list(text="tuned", kind="chat", limit=1).rows  # seen at once, nothing is kept
    assert (row.label, row.method, row.base) == ("model:tuned@1", "lora", "model:base@1")
    assert row.aliases == {"candidate": 1, "prod": 1}


def test_pages_go_on_where_the_last_one_ended(registry: Registry, family: dict[str, Version]) -> None:
    catalogue = ModelCatalogue(registry)
    first = catalogue.list(limit=2)
    assert ([row.name for row in first.rows], first.total) == (["base", "tuned"], 3)
    last = catalogue.list(limit=2, cursor=first.next_cursor)
    assert ([row.name for row in last.rows], last.next_cursor) == (["tuned-adapter"], None)
    assert [row.name for row in catalogue.list(kind="adapter").rows] == ["tuned-adapter"]
    assert catalogue.list(kind="embedding").rows == ()
    assert [row.name for row in catalogue.list(text="APACHE", limit=1).rows] == ["base"]
    with pytest.raises(InvalidInput, match="limit"):
        catalogue.list(limit=0)


def test_one_version_is_shown_with_its_siblings(registry: Registry, family: dict[str, Version]) -> None:
    detail = ModelCatalogue(registry).show("tuned@candidate")
    assert (detail.version.label, detail.version.run) == ("model:tuned@1", "run_7")
    assert detail.version.aliases == ("candidate",)
    assert [(row.number, row.method, row.base) for row in detail.versions] == [
        (2, "quantise", "model:tuned@1"),
        (1, "lora", "model:base@1"),
    ]
    assert "card" not in detail.content
    with pytest.raises(UnknownAsset):
        ModelCatalogue(registry).show("nobody")
    with pytest.raises(InvalidInput, match="no model"):
        ModelCatalogue(registry).card(parse_asset_ref("dataset:rows"))


def test_the_graph_goes_up_to_data_and_down_to_children(
    registry: Registry, family: dict[str, Version]
) -> None:
    graph = ModelCatalogue(registry).lineage("model:tuned@1")
    assert {(node.label, node.distance) for node in graph.nodes} == {
        ("model:tuned@1", 0),
        ("model:base@1", -1),
        ("dataset:rows@1", -1),
        ("model:tuned@2", 1),
    }
    assert (family["child"].digest, family["tuned"].digest) in graph.edges
    assert graph.origin["code"] == "penstock 1"


def test_figures_measured_later_are_in_the_card_with_their_intervals(
    registry: Registry, family: dict[str, Version]
) -> None:
    figures = [
        Estimate(name="perplexity", value=3.5, low=3.25, high=3.75, n=40),
        Estimate(name="load", value=0.25, n=1),
        Estimate(name="token_f1", value=None),
    ]
    card = ModelCatalogue(registry, measured=lambda _: figures).card("tuned@1")
    assert "perplexity: 3.5 [3.25 … 3.75 at 95%], n = 40" in card
    assert "load: 0.25 (n = 1)" in card
    assert "token_f1: not measured" in card  # unknown is not zero
    assert "Measured" not in ModelCatalogue(registry).card("tuned@1")


def test_a_card_that_a_person_wrote_is_left_alone(registry: Registry) -> None:
    register(registry, "shipped", manifest="sha256:1", card="# Mine\n")
    assert ModelCatalogue(registry).card("shipped") == "# Mine\n"


def test_versions_registered_before_there_was_lineage_are_shown(registry: Registry) -> None:
    old = {key: value for key, value in CHAT.items() if key not in ("formats", "source", "parity")}
    registry.register("model", "old", old)
    detail = ModelCatalogue(registry).show("old")
    assert (detail.row.formats, detail.version.parity, detail.row.base) == ((), None, None)
    assert "What it was trained on is not known here." in detail.card


def test_limits_are_told() -> None:
    rounded = write_card("m", CHAT | {"precision": "q4_0", "license": None, "formats": ["gguf"]})
    assert "no base to train on" in rounded
    assert "Nobody stated a licence" in rounded
    assert "rounded" not in write_card("m", CHAT)


def test_a_card_tells_how_to_serve_that_very_version(registry: Registry, family: dict[str, Version]) -> None:
    """`model:NAME` alone is whatever `prod` is, and an adapter is refused on another version of its base."""
    catalogue = ModelCatalogue(registry)
    assert "penstock deploy model model:tuned@2\n" in catalogue.card("tuned@2")
    assert "penstock model export tuned@1 --to" in catalogue.card("tuned@1")
    assert "deploy model model:base@1 --adapter model:tuned-adapter@1\n" in catalogue.card("tuned-adapter")


def test_a_card_says_unknown_and_never_nought() -> None:
    card = write_card("m", CHAT | {"n_parameters": None, "parity": {"passed": True, "n_compared": 5}})
    assert "Parameters: unknown" in card
    assert "0.0e+00" not in card


def test_a_rounded_version_that_keeps_its_unrounded_weights_may_be_trained_on() -> None:
    card = write_card("m", CHAT | {"precision": "q8_0"})
    assert "no base to train on" not in card
    assert "kept unrounded" in card
    assert "no base to train on" in write_card("m", CHAT | {"precision": "q8_0", "formats": ["gguf"]})


def test_a_card_tells_what_training_was_and_what_it_measured() -> None:
    lineage = {
        "method": "lora",
        "recipe": {"train": {"lr": 0.0002, "epochs": 1.0, "max_steps": None, "batch_size": 8}},
        "evaluation": {"metric": "loss", "n": 8, "step": 5, "value": 11.1675},
    }
    card = write_card("m", CHAT | {"lineage": lineage})
    assert "- Training: lr 0.0002, epochs 1, batch_size 8\n" in card
    assert "- While training: loss 11.17 on held-out rows (n = 8), best at step 5\n" in card
