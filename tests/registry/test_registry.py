"""Assets, versions, aliases and lineage; the same on SQLite and PostgreSQL."""

import threading
from typing import Any

import pytest
from sqlalchemy import Engine

from penstock.base.digest import digest_bytes, digest_json
from penstock.base.errors import InvalidInput, TooLarge
from penstock.registry.errors import (
    AliasMoved,
    AmbiguousDigest,
    MissingArtefact,
    NothingToRollBack,
    ProtectedAlias,
    UnknownAlias,
    UnknownAsset,
    UnknownDigest,
    UnknownVersion,
)
from penstock.registry.service import Registry
from penstock.spec.assets import AssetRef, parse_asset_ref

EVIDENCE = {"gate": "handbook-f1", "verdict": "pass", "estimate": 0.71, "interval": [0.66, 0.76]}


class MemoryBlobs:
    """Says which digests exist."""

    def __init__(self) -> None:
        self.digests: set[str] = set()

    def exists(self, digest: str) -> bool:
        return digest in self.digests


@pytest.fixture
def blobs() -> MemoryBlobs:
    return MemoryBlobs()


@pytest.fixture
def registry(control_engine: Engine, blobs: MemoryBlobs) -> Registry:
    return Registry(control_engine, blobs)


def register_many(registry: Registry, n_versions: int, name: str = "triage") -> None:
    for number in range(1, n_versions + 1):
        registry.register("prompt", name, {"text": f"v{number}"})


def test_versions_are_numbered_within_their_asset(registry: Registry) -> None:
    first = registry.register("prompt", "triage", {"text": "a"}, note="first words")
    second = registry.register("prompt", "triage", {"text": "b"})
    other = registry.register("prompt", "greeting", {"text": "a"})
    assert [first.number, second.number, other.number] == [1, 2, 1]
    assert first.digest != other.digest
    assert (first.label, first.note) == ("prompt:triage@1", "first words")
    assert registry.list_versions("prompt", "triage") == [second, first]


def test_a_versions_digest_is_over_kind_name_content_and_artefacts(
    registry: Registry, blobs: MemoryBlobs
) -> None:
    blob = digest_bytes(b"weights")
    blobs.digests.add(blob)
    version = registry.register("model", "pocket", {"size": 1.0}, artefacts={"model.gguf": blob})
    assert version.digest == digest_json(
        {"kind": "model", "name": "pocket", "content": {"size": 1.0}, "artefacts": {"model.gguf": blob}}
    )
    assert registry.resolve("model:pocket").artefacts == {"model.gguf": blob}


def test_the_same_content_is_the_same_version(registry: Registry) -> None:
    first = registry.register("prompt", "triage", {"a": 1, "b": [1, 2]})
    registry.register("prompt", "triage", {"a": 2})
    again = registry.register("prompt", "triage", {"b": (1, 2), "a": 1}, note="another note")
    assert again == first
    assert again.note == ""
    assert len(registry.list_versions("prompt", "triage")) == 2


def test_content_comes_back_exactly(registry: Registry) -> None:
    content = {"big": 1e22, "whole": 1.0, "int": 2**70, "nul": "a\x00b", "text": "é😀", "none": None}
    registry.register("prompt", "odd", content)
    found = registry.resolve("prompt:odd").content
    assert found == content
    assert [type(found[key]) for key in content] == [type(value) for value in content.values()]


def test_a_missing_artefact_is_refused_and_nothing_is_left_behind(registry: Registry) -> None:
    with pytest.raises(MissingArtefact, match="model\\.gguf"):
        registry.register("model", "pocket", {}, artefacts={"model.gguf": digest_bytes(b"x")})
    assert registry.list_assets() == []


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("prompts", "triage", {}),
        ("prompt", "Triage", {}),
        ("prompt", "triage@prod", {}),
        ("prompt", "", {}),
        ("prompt", "triage", {"x": float("nan")}),
        ("prompt", "triage", {"x": b"raw"}),
        ("prompt", "triage", {"x": "\ud800"}),
        ("prompt", "triage", ["no", "object"]),
    ],
)
def test_what_cannot_be_registered_is_refused(registry: Registry, kind: str, name: str, content: Any) -> None:
    with pytest.raises(InvalidInput):
        registry.register(kind, name, content)
    assert registry.list_assets() == []


def test_content_over_a_mebibyte_belongs_into_an_artefact(registry: Registry) -> None:
    with pytest.raises(TooLarge, match="blob store"):
        registry.register("prompt", "triage", {"text": "x" * 1_100_000})


def test_references_resolve_by_alias_number_digest_and_without_suffix(registry: Registry) -> None:
    register_many(registry, 3)
    by_number = registry.resolve("prompt:triage@2")
    registry.move_alias("prompt", "triage", "canary", 2, actor="ann")
    assert by_number.content == {"text": "v2"}
    assert registry.resolve("prompt:triage@canary") == by_number
    assert registry.resolve(f"prompt:triage@{by_number.digest}") == by_number
    assert registry.resolve(f"prompt:triage@{by_number.digest[:19]}") == by_number
    assert registry.resolve("prompt:triage").number == 3
    registry.move_alias("prompt", "triage", "prod", 1, actor="ann", evidence=EVIDENCE)
    assert registry.resolve("prompt:triage").number == 1
    assert registry.resolve("prompt:triage@latest").number == 3
    assert registry.resolve(parse_asset_ref("prompt:triage@prod")).number == 1


def test_what_does_not_resolve_says_what_is_known(registry: Registry) -> None:
    register_many(registry, 2)
    registry.move_alias("prompt", "triage", "prod", 1, actor="ann", evidence=EVIDENCE)
    registry.move_alias("prompt", "triage", "canary", 2, actor="ann")
    with pytest.raises(UnknownAlias) as alias:
        registry.resolve("prompt:triage@prdo")
    assert str(alias.value) == (
        "unknown alias 'prdo' for prompt:triage; known: canary, prod. Did you mean 'prod'?  [PS-2103]"
    )
    with pytest.raises(UnknownAsset, match="Did you mean 'prompt:triage'"):
        registry.resolve("prompt:traige")
    with pytest.raises(UnknownAsset, match="there are no assets of this kind yet"):
        registry.resolve("model:triage")
    for number in ("0", "3", "99999999999999999999"):
        with pytest.raises(UnknownVersion, match="1 to 2"):
            registry.resolve(f"prompt:triage@{number}")
    with pytest.raises(UnknownVersion):
        registry.resolve("prompt:triage@sha256:00000000")
    for call in (registry.list_versions, registry.history, registry.aliases):
        with pytest.raises(UnknownAsset):
            call("prompt", "nope")
    with pytest.raises(UnknownAlias):
        registry.history("prompt", "triage", "nope")


def test_a_digest_that_fits_two_versions_is_ambiguous(registry: Registry) -> None:
    register_many(registry, 17)  # two of seventeen digests share their first hex character
    firsts = [version.digest[:8] for version in registry.list_versions("prompt", "triage")]
    shared = next(first for first in firsts if firsts.count(first) > 1)
    with pytest.raises(AmbiguousDigest, match="more of the digest"):
        registry.resolve(AssetRef(kind="prompt", name="triage", digest=shared))


def test_a_protected_alias_needs_evidence_or_a_recorded_override(registry: Registry) -> None:
    register_many(registry, 2)
    for evidence in (None, {}):
        with pytest.raises(ProtectedAlias, match="evidence of a gate"):
            registry.move_alias(
                "prompt", "triage", "prod", 1, actor="ann", evidence=evidence, reason="please"
            )
    assert registry.aliases("prompt", "triage") == {}
    with pytest.raises(ProtectedAlias):
        registry.move_alias("prompt", "triage", "prod", 1, actor="ann", override_reason="  ")
    proven = registry.move_alias("prompt", "triage", "prod", 1, actor="ann", evidence=EVIDENCE)
    assert (proven.evidence, proven.is_override, proven.from_number) == (EVIDENCE, False, None)
    forced = registry.move_alias("prompt", "triage", "prod", 2, actor="bob", override_reason="incident 7")
    assert (forced.evidence, forced.is_override, forced.reason) == (None, True, "incident 7")
    assert (forced.from_number, forced.to_number, forced.actor) == (1, 2, "bob")
    assert registry.history("prompt", "triage", "prod") == [forced, proven]


def test_rollback_goes_back_one_standing_move_at_a_time_and_is_recorded(registry: Registry) -> None:
    register_many(registry, 3)
    moves = [
        registry.move_alias("prompt", "triage", "prod", number, actor="ann", evidence=EVIDENCE)
        for number in (1, 2, 3)
    ]
    first = registry.rollback_alias("prompt", "triage", "prod", actor="bob", reason="worse answers")
    assert (first.action, first.from_number, first.to_number, first.undoes) == ("rollback", 3, 2, moves[2].id)
    assert registry.resolve("prompt:triage@prod").number == 2
    second = registry.rollback_alias("prompt", "triage", "prod", actor="bob")
    assert second.to_number == 1
    with pytest.raises(NothingToRollBack):
        registry.rollback_alias("prompt", "triage", "prod", actor="bob")
    registry.move_alias("prompt", "triage", "prod", 3, actor="ann", evidence=EVIDENCE)
    assert registry.rollback_alias("prompt", "triage", "prod", actor="bob").to_number == 1
    assert [move.to_number for move in registry.history("prompt", "triage")] == [1, 3, 1, 2, 3, 2, 1]
    with pytest.raises(UnknownAlias):
        registry.rollback_alias("prompt", "triage", "canary", actor="bob")


def test_a_move_that_expects_another_place_changes_nothing(registry: Registry) -> None:
    register_many(registry, 3)
    registry.move_alias("prompt", "triage", "canary", 1, actor="ann", expected_number=None)
    with pytest.raises(AliasMoved, match="stands at version 1, not nowhere"):
        registry.move_alias("prompt", "triage", "canary", 2, actor="ann", expected_number=None)
    with pytest.raises(AliasMoved, match="stands at version 1, not at version 3"):
        registry.rollback_alias("prompt", "triage", "canary", actor="ann", expected_number=3)
    registry.move_alias("prompt", "triage", "canary", 2, actor="ann", expected_number=1)
    assert registry.aliases("prompt", "triage") == {"canary": 2}


def test_moving_to_where_it_stands_records_nothing(registry: Registry) -> None:
    register_many(registry, 2)
    move = registry.move_alias("prompt", "triage", "canary", 2, actor="ann")
    assert registry.move_alias("prompt", "triage", "canary", 2, actor="bob") == move
    assert registry.history("prompt", "triage") == [move]


def test_alias_names_that_would_read_as_something_else_are_refused(registry: Registry) -> None:
    register_many(registry, 1)
    for alias in ("latest", "3", "sha256:0123456789", "", "Prod", "a b"):
        with pytest.raises(InvalidInput):
            registry.move_alias("prompt", "triage", alias, 1, actor="ann")


def test_of_racing_moves_from_one_place_exactly_one_wins(registry: Registry) -> None:
    register_many(registry, 5)
    registry.move_alias("prompt", "triage", "canary", 1, actor="ann")
    barrier, won, lost = threading.Barrier(4), [], []

    def move(number: int) -> None:
        barrier.wait()
        try:
            registry.move_alias("prompt", "triage", "canary", number, actor=f"a{number}", expected_number=1)
            won.append(number)
        except AliasMoved:
            lost.append(number)

    run_together([lambda number=number: move(number) for number in (2, 3, 4, 5)])
    assert len(won) == 1
    assert len(lost) == 3
    assert registry.aliases("prompt", "triage") == {"canary": won[0]}
    assert [move.to_number for move in registry.history("prompt", "triage")] == [won[0], 1]


def test_racing_registrations_number_without_gaps_and_without_doubles(registry: Registry) -> None:
    barrier, made = threading.Barrier(4), []

    def register(n: int) -> None:
        barrier.wait()
        made.append(registry.register("prompt", "triage", {"n": n // 2}))

    run_together([lambda n=n: register(n) for n in range(4)])
    assert {version.number for version in made} == {1, 2}
    assert {version.number: version.content["n"] for version in made}.keys() == {1, 2}
    assert len(registry.list_versions("prompt", "triage")) == 2


def run_together(calls: list[Any]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_lineage_is_followed_up_and_down(registry: Registry) -> None:
    data = registry.register("dataset", "questions", {"rows": 3})
    base = registry.register("model", "base", {})
    tuned = registry.register("model", "tuned", {"lr": 1}, parents=[base, "dataset:questions", data.digest])
    small = registry.register("model", "tuned", {"bits": 4}, parents=[parse_asset_ref("model:tuned@1")])
    app = registry.register("app", "handbook", {}, parents=[small.digest, data])
    assert tuned.parents == (base.digest, data.digest)
    lineage = registry.lineage(tuned)
    assert [(node.name, node.distance) for node in lineage.up] == [("questions", 1), ("base", 1)]
    assert [(node.name, node.number, node.distance) for node in lineage.down] == [
        ("tuned", 2, 1),
        ("handbook", 1, 2),
    ]
    whole = registry.lineage("app:handbook")
    assert {node.digest: node.distance for node in whole.up} == {
        small.digest: 1,
        data.digest: 1,
        tuned.digest: 2,
        base.digest: 3,
    }
    assert whole.down == ()
    assert set(whole.edges) == {
        (app.digest, small.digest),
        (app.digest, data.digest),
        (small.digest, tuned.digest),
        (tuned.digest, base.digest),
        (tuned.digest, data.digest),
    }


def test_a_wide_diamond_of_versions_is_walked_in_its_width_not_its_paths(registry: Registry) -> None:
    layer = [registry.register("model", "m", {"layer": 0, "n": n}) for n in range(2)]
    for depth in range(1, 24):  # 2^24 paths
        layer = [registry.register("model", "m", {"layer": depth, "n": n}, parents=layer) for n in range(2)]
    assert len(registry.lineage(layer[0]).up) == 46


def test_unknown_parents_are_refused_so_no_cycle_can_be_made(registry: Registry) -> None:
    with pytest.raises(UnknownDigest):
        registry.register("model", "m", {}, parents=[digest_bytes(b"later")])
    with pytest.raises(UnknownAsset):
        registry.register("model", "m", {}, parents=["model:m"])
    with pytest.raises(UnknownDigest):
        registry.get_by_digest(digest_bytes(b"x"))
    assert registry.list_assets() == []


def test_assets_are_listed_with_their_aliases(registry: Registry) -> None:
    register_many(registry, 2)
    registry.register("model", "pocket", {})
    registry.move_alias("prompt", "triage", "canary", 1, actor="ann")
    listed = registry.list_assets()
    assert [(asset.kind, asset.name, asset.n_versions, asset.latest, asset.aliases) for asset in listed] == [
        ("model", "pocket", 1, 1, {}),
        ("prompt", "triage", 2, 2, {"canary": 1}),
    ]
    assert [asset.name for asset in registry.list_assets("model")] == ["pocket"]


@pytest.mark.parametrize(
    "file", ["../x", "hf/../../x", "/etc/x", "hf//x", "a/./b", "", "a\\b", "x\0y", "a/" * 11 + "b"]
)
def test_no_artefact_is_named_out_of_the_folder_it_is_written_to(registry: Registry, file: str) -> None:
    with pytest.raises(InvalidInput, match="name of an artefact"):
        registry.register("app", "notes", {}, artefacts={file: "sha256:" + "0" * 64})
