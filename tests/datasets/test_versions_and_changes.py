"""Versions, what differs between them, and new ones from old ones."""

import random
from pathlib import Path
from typing import Any

import pytest

from penstock.base.errors import InvalidInput, NotFound
from penstock.datasets.cleaning.service import CleaningService
from penstock.datasets.difference import list_changed
from penstock.datasets.errors import (
    ClashingIds,
    EmptyDataset,
    InvalidRows,
    NoDataset,
    TornGroup,
    UnknownRow,
    WrongFormat,
)
from penstock.datasets.filters import make_filter
from penstock.datasets.id_table import IdTable
from penstock.datasets.service import DatasetService
from penstock.datasets.sheet import write_markdown
from penstock.datasets.splitting import assign, check_shares
from penstock.datasets.types import RowEdit
from penstock.spec.datasets import DatasetRow, Provenance


def row(number: int, **changes: Any) -> DatasetRow:
    values: dict[str, Any] = {"id": f"q{number}", "fields": {"input": f"question {number}"}}
    return DatasetRow(**{**values, **changes})


def some_rows(n: int, **changes: Any) -> list[DatasetRow]:
    return [row(number, **changes) for number in range(n)]


def grouped(n_groups: int, size: int = 3) -> list[DatasetRow]:
    return [
        row(n, group=f"g{n // size}", metadata={"label": "even" if n // size % 2 else "odd"})
        for n in range(n_groups * size)
    ]


def test_the_same_rows_are_the_same_version_wherever_they_came_from(datasets: DatasetService) -> None:
    first = datasets.create_from_rows("a", some_rows(3), "cases", note="first")
    other = [row(n, provenance=Provenance(kind="hub", source="x")) for n in range(3)]
    again = datasets.create_from_rows("a", other, "cases", note="second")
    assert (first.is_new, again.is_new, again.number) == (True, False, 1)
    assert datasets.create_from_rows("a", reversed(other), "cases").number == 2
    back = datasets.create_from_rows("a", some_rows(3), "cases")
    assert (back.number, back.facts.restores) == (3, 1), (
        "what was newest meanwhile is followed, not forgotten"
    )
    assert datasets.create_from_rows("a", some_rows(3), "cases").number == 3
    elsewhere = datasets.create_from_rows("b", some_rows(3), "cases")
    assert elsewhere.facts.rows_digest == first.facts.rows_digest
    assert [each.number for each in datasets.list_versions("a")] == [3, 2, 1]


def test_the_order_of_keys_is_kept_and_makes_no_difference(datasets: DatasetService) -> None:
    first = datasets.create_from_rows("a", [row(1, fields={"inputs": {"b": 1, "a": 2}})], "cases")
    second = datasets.create_from_rows("a", [row(1, fields={"inputs": {"a": 2, "b": 1}})], "cases")
    assert second.number == first.number == 1
    assert list(next(datasets.read("a")).fields["inputs"]) == ["b", "a"]


def test_pages_go_through_all_rows_once_and_filters_leave_out(datasets: DatasetService) -> None:
    datasets.create_from_rows("a", some_rows(4500), "cases")
    seen, cursor = [], None
    while True:
        page = datasets.rows("a", cursor=cursor, limit=1000)
        seen += [each.id for each in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"q{n}" for n in range(4500)]
    assert [each.id for each in datasets.rows("a", offset=4498).rows] == ["q4498", "q4499"]
    assert datasets.rows("a", offset=4500).rows == []
    found = datasets.rows("a", where="id:q7,q4444", limit=2)
    assert [each.id for each in found.rows] == ["q7", "q4444"]
    assert datasets.row("a", "q4444").fields == {"input": "question 4444"}
    with pytest.raises(UnknownRow):
        datasets.row("a", "q4500")
    with pytest.raises(InvalidInput):
        datasets.rows("a", cursor="?")


def test_a_page_of_a_filter_that_finds_little_ends_and_goes_on(
    datasets: DatasetService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.datasets.service.MAX_SCANNED", 100)
    datasets.create_from_rows("a", some_rows(250), "cases")
    first = datasets.rows("a", where="id:q249")
    assert (first.rows, first.next_cursor) == ([], "100")
    last = datasets.rows("a", where="id:q249", cursor="200")
    assert ([each.id for each in last.rows], last.next_cursor) == (["q249"], None)


def test_the_difference_is_by_id_and_pages_through_it(datasets: DatasetService) -> None:
    before = some_rows(6)
    after = [
        row(5),
        row(0),
        row(1, fields={"input": "other"}, split="test"),
        row(9),
        row(3, metadata={"lang": "de"}),
    ]
    datasets.create_from_rows("a", before, "cases")
    datasets.create_from_rows("a", after, "cases")
    whole = datasets.diff("a@1", "a@2")
    assert (whole.n_added, whole.n_removed, whole.n_changed, whole.n_same) == (1, 2, 2, 2)
    assert whole.is_reordered
    assert whole.fields_changed == {"input": 1, "split": 1, "metadata.lang": 1}
    assert [(each.kind, each.id) for each in whole.changes] == [
        ("changed", "q1"),
        ("added", "q9"),
        ("changed", "q3"),
        ("removed", "q2"),
        ("removed", "q4"),
    ]
    assert whole.changes[0].before == row(1)
    paged, cursor = [], None
    while True:
        page = datasets.diff("a@1", "a@2", cursor=cursor, limit=2)
        paged += page.changes
        cursor = page.next_cursor
        if cursor is None:
            break
    assert paged == whole.changes
    assert datasets.diff("a@1", "a@1").changes == []


def test_changes_name_every_part_that_differs() -> None:
    assert list_changed(row(1, metadata={"a": None}), row(1, group="g", tags=["t"])) == [
        "group",
        "tags",
        "metadata.a",
    ]


def test_appended_rows_come_last_and_a_known_id_is_refused(datasets: DatasetService) -> None:
    first = datasets.create_from_rows("a", some_rows(2), "cases", description="about", licence="MIT")
    second = datasets.append(
        "a", [row(2), row(0, id="", fields={"input": "new"})], source={"kind": "import", "source": "x"}
    )
    assert [each.id for each in datasets.read("a")][:3] == ["q0", "q1", "q2"]
    assert (second.parents, second.facts.license, second.facts.description) == (
        [first.digest],
        "MIT",
        "about",
    )
    assert second.facts.steps[-1] == {"step": "append", "of": "dataset:a@1", "n_before": 2, "n_after": 4}
    with pytest.raises(ClashingIds, match="q1"):
        datasets.append("a", [row(1)])
    with pytest.raises(InvalidRows, match="input"):
        datasets.append("a", [row(7, fields={"expected": "x"})])
    assert datasets.get("a").number == 2


def test_edits_replace_in_place_delete_and_add(datasets: DatasetService) -> None:
    datasets.create_from_rows("a", some_rows(3), "cases")
    new = row(1, fields={"input": "mended"})
    datasets.edit("a", RowEdit(set=[new, row(8)], delete=["q0"]))
    assert list(datasets.read("a")) == [new, row(2), row(8)]
    with pytest.raises(UnknownRow, match="nothing"):
        datasets.edit("a", RowEdit(delete=["nothing"]))
    with pytest.raises(EmptyDataset):
        datasets.edit("a", RowEdit(delete=["q1", "q2", "q8"]))
    for wrong in (RowEdit(), RowEdit(set=[row(1), row(1)]), RowEdit(set=[row(1)], delete=["q1"])):
        with pytest.raises(InvalidInput):
            datasets.edit("a", wrong)


def test_tags_are_added_and_removed_where_asked(datasets: DatasetService) -> None:
    datasets.create_from_rows("a", some_rows(2, tags=["old"]), "cases")
    made = datasets.tag("a", add=["new", "old"], remove=["none"], where="id:q1")
    assert [each.tags for each in datasets.read("a")] == [["old"], ["old", "new"]]
    assert made.facts.tags == {"new": 1, "old": 2}
    assert datasets.tag("a", remove=["old"]).facts.tags == {"new": 1}


def test_splits_keep_groups_together_and_stay_when_rows_are_added(datasets: DatasetService) -> None:
    rows = grouped(200)
    datasets.create_from_rows("a", rows, "cases")
    made = datasets.split("a", {"train": 0.8, "test": 0.2}, seed=3)
    first = {each.id: each.split for each in datasets.read("a")}
    by_group: dict[str | None, set[str | None]] = {}
    for each in datasets.read("a"):
        by_group.setdefault(each.group, set()).add(each.split)
    assert all(len(splits) == 1 for splits in by_group.values())
    assert made.facts.splits == {
        "test": 600 - sum(s == "train" for s in first.values()),
        "train": sum(s == "train" for s in first.values()),
    }
    assert 0.7 < made.facts.splits["train"] / 600 < 0.9

    more = rows + [row(n, group=f"h{n}") for n in range(1000, 1050)]
    random.Random(1).shuffle(more)
    datasets.create_from_rows("b", more, "cases")
    datasets.split("b", {"train": 0.8, "test": 0.2}, seed=3)
    second = {each.id: each.split for each in datasets.read("b")}
    assert {name: second[name] for name in first} == first
    datasets.split("b", {"train": 0.8, "test": 0.2}, seed=4)
    assert {each.id: each.split for each in datasets.read("b")} != second


def test_splits_by_a_field_and_within_labels(datasets: DatasetService) -> None:
    datasets.create_from_rows("a", grouped(40), "cases")
    made = datasets.split("a", {"train": 0.75, "test": 0.25}, stratify="label")
    counts: dict[Any, int] = {}
    for each in datasets.read(made.ref):
        key = (each.split, each.metadata["label"])
        counts[key] = counts.get(key, 0) + 1
    assert counts == {("train", "odd"): 45, ("train", "even"): 45, ("test", "odd"): 15, ("test", "even"): 15}
    by_label = datasets.split("a", {"train": 0.5, "test": 0.5}, by="label", seed=1)
    assert len({(each.split, each.metadata["label"]) for each in datasets.read(by_label.ref)}) == 2
    kept = datasets.split("a@1", {"x": 1.0}, keep=True)
    assert kept.facts.splits == {"x": 120}
    assert datasets.split(kept.ref, {"y": 1.0}, keep=True).ref == kept.ref


@pytest.mark.parametrize(
    "shares", [{}, {"a": 0.5}, {"a": 1.5}, {"a": 0.0, "b": 1.0}, {" ": 1.0}, {"a": 0.5, "b": 0.6}]
)
def test_shares_that_make_no_whole_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        check_shares(shares)


def test_shares_are_met_on_average() -> None:
    decide = assign({"train": 0.7, "test": 0.2, "dev": 0.1}, seed=11)
    counts = {"train": 0, "test": 0, "dev": 0}
    for n in range(20_000):
        counts[decide(f"key {n}")] += 1
    assert abs(counts["train"] - 14_000) < 250
    assert abs(counts["dev"] - 2_000) < 170


def test_samples_are_whole_groups_and_the_same_again(datasets: DatasetService) -> None:
    datasets.create_from_rows("a", grouped(20), "cases")
    made = datasets.sample("a", 10, seed=5, name="few")
    assert (made.facts.n_rows, made.facts.n_groups) == (9, 3)
    assert datasets.sample("a", 10, seed=5, name="few").is_new is False
    assert datasets.sample("a", 10, seed=6, name="few").number == 2
    with pytest.raises(InvalidInput, match="Groups stay together"):
        datasets.sample("a", 2)


def test_filters_make_versions_and_other_datasets(datasets: DatasetService) -> None:
    datasets.create_from_rows("a", grouped(4), "cases")
    made = datasets.filter("a", "label:even", name="even")
    assert (made.name, made.facts.n_rows, made.parents) == ("even", 6, [datasets.get("a").digest])
    with pytest.raises(EmptyDataset):
        datasets.filter("a", "label:none-of-these")
    with pytest.raises(InvalidInput):
        datasets.filter("a", "")


def test_merges_refuse_clashing_ids_and_formats(datasets: DatasetService) -> None:
    datasets.create_from_rows("a", some_rows(2), "cases")
    datasets.create_from_rows("b", some_rows(3), "cases")
    datasets.create_from_rows("c", [row(1, fields={"text": "t", "label": "l"})], "label")
    with pytest.raises(ClashingIds, match="dataset:a@1 and in dataset:b@1"):
        datasets.merge("all", ["a", "b"])
    made = datasets.merge("all", ["a", "b"], prefix=True)
    assert [each.id for each in datasets.read("all")] == ["a/q0", "a/q1", "b/q0", "b/q1", "b/q2"]
    assert len(made.parents) == 2
    with pytest.raises(WrongFormat, match="cases, label"):
        datasets.merge("all", ["a", "c"])


def test_references_follow_prod_for_reading_and_the_newest_for_changing(datasets: DatasetService) -> None:
    datasets.create_from_rows("a", some_rows(1), "cases")
    datasets.create_from_rows("a", some_rows(2), "cases")
    registry: Any = datasets.store._versions
    registry.move_alias("dataset", "a", "prod", 1, actor="t", override_reason="t")
    assert datasets.get("a").number == 1
    assert datasets.get("dataset:a@prod").aliases == ["prod"]
    assert datasets.tag("a", add=["x"]).facts.n_rows == 2
    with pytest.raises(NotFound):
        datasets.get("a@9")
    with pytest.raises(InvalidInput):
        datasets.get("model:a")


def test_versions_that_others_registered_are_listed_and_refused_to_be_read(datasets: DatasetService) -> None:
    registry: Any = datasets.store._versions
    registry.register("dataset", "old", {"n_cases": 3})
    assert [(each.name, each.n_rows) for each in datasets.list_datasets()] == [("old", None)]
    with pytest.raises(NoDataset):
        datasets.get("old")
    with pytest.raises(NoDataset):
        datasets.rows("old")
    assert datasets.create_from_rows("old", some_rows(1), "cases").number == 2


def test_rows_that_code_makes_are_checked_as_those_of_files(datasets: DatasetService) -> None:
    wrong = [
        row(1, fields={"input": "x", "other": 1}),
        row(2, fields={"input": float("nan")}),
        row(3, metadata={"x": float("inf")}),
        row(4, fields={"input": "half \ud83d"}),
        row(5, tags=["a\nb"]),
        row(6, fields={"inputs": {"x": object()}}),
        row(7),
        row(7),
    ]
    with pytest.raises(InvalidRows) as caught:
        datasets.create_from_rows("a", wrong, "cases")
    assert caught.value.fields["n_problems"] == 7
    with pytest.raises(EmptyDataset):
        datasets.create_from_rows("a", [], "cases")


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("split:test", "b"),
        ("-split:test", "acd"),
        ("not split:test", "acd"),
        ("hello not tag:x", "c"),
        ("not -split:test", "b"),
        ("not", ""),
        ("split:none", "cd"),
        ("tag:x tag:y", "a"),
        ("tag:x,y", "ab"),
        ("lang:de,fr", "ab"),
        ("level:3", "a"),
        ("level:any", "a"),
        ("expected:none", "bcd"),
        ("field.input:hello", "c"),
        ("source:trace", "d"),
        ('"Two Words"', "d"),
        ("HELLO", "ac"),
        ({"tags": ["x", "y"]}, "a"),
        ({"ids": ["a", "d"], "split": None}, "d"),
        ({"lang": ["de"], "level": 3}, "a"),
        ({"text": "hello"}, "ac"),
    ],
)
def test_filters_read_texts_and_objects(where: Any, ids: str) -> None:
    rows = [
        DatasetRow(
            id="a",
            fields={"input": "say hello", "expected": 1},
            split="train",
            tags=["x", "y"],
            metadata={"lang": "de", "level": 3.0},
        ),
        DatasetRow(id="b", fields={"input": "q"}, split="test", tags=["y"], metadata={"lang": "fr"}),
        DatasetRow(id="c", fields={"input": "hello"}),
        DatasetRow(id="d", fields={"input": "two words"}, provenance=Provenance(kind="trace")),
    ]
    test = make_filter(where)
    assert test is not None
    assert "".join(each.id for each in rows if test(each)) == ids


def test_filters_that_ask_nothing_or_are_broken_are_refused() -> None:
    assert make_filter("") is make_filter({}) is make_filter(None) is None
    for wrong in ('"open', "lang:", {"x": {"y": 1}}):
        with pytest.raises(InvalidInput):
            make_filter(wrong)  # type: ignore[arg-type]


def test_the_table_of_ids_knows_each_first_row() -> None:
    table = IdTable()
    known = {f"id {n % 7919}": n % 7919 for n in range(20_000)}
    for n in range(20_000):
        before = table.add(f"id {n % 7919}", n)
        assert before == (None if n < 7919 else n % 7919)
    assert len(table) == len(known)
    assert all(table.find(name) == number for name, number in known.items())
    assert table.find("nothing") is None


def test_a_failed_version_leaves_no_file_behind(datasets: DatasetService, tmp_path: Path) -> None:
    with pytest.raises(InvalidRows):
        datasets.create_from_rows("a", [row(1, fields={})], "cases")
    assert list((tmp_path / "work").iterdir()) == []


def test_a_change_that_is_taken_back_is_the_newest_version_again(datasets: DatasetService) -> None:
    datasets.create_from_rows("a", [row(1), row(2)], "cases")
    datasets.edit("a", RowEdit(delete=["q2"]))
    back = datasets.append("a", [row(2)])
    assert (back.number, back.is_new, back.facts.restores, back.facts.follows) == (3, True, 1, 2)
    assert [each.id for each in datasets.read(datasets.append("a", [row(3)]).ref)] == ["q1", "q2", "q3"]


@pytest.mark.parametrize("stratify", [None, "label"])
def test_kept_splits_take_the_rest_of_their_group_along(
    datasets: DatasetService, stratify: str | None
) -> None:
    rows = [
        row(n, group=f"g{n // 2}", split=None if n % 2 else "train", metadata={"label": n % 3})
        for n in range(40)
    ]
    datasets.create_from_rows("a", [*rows, row(90, group="new"), row(91, group="new")], "cases")
    datasets.split("a", {"train": 0.5, "test": 0.5}, keep=True, stratify=stratify)
    splits: dict[str | None, set[str | None]] = {}
    for each in datasets.read("a@latest"):
        splits.setdefault(each.group, set()).add(each.split)
    new = splits.pop("new")
    assert set(map(frozenset, splits.values())) == {frozenset({"train"})}
    assert len(new) == 1


def test_kept_splits_that_tear_a_group_are_refused(datasets: DatasetService) -> None:
    datasets.create_from_rows("a", [row(1, group="g", split="x"), row(2, group="g", split="y")], "cases")
    with pytest.raises(TornGroup, match="'q2'"):
        datasets.split("a", {"x": 0.5, "y": 0.5}, keep=True)
    assert datasets.get("a@latest").number == 1


@pytest.mark.parametrize("wrong", [{"by": "lable"}, {"stratify": "lable"}, {"by": "tags"}])
def test_splitting_by_what_no_row_has_is_refused(datasets: DatasetService, wrong: dict[str, str]) -> None:
    datasets.create_from_rows("a", grouped(4), "cases")
    with pytest.raises(InvalidInput, match="No row of dataset:a@1 has") as caught:
        datasets.split("a", {"x": 0.5, "y": 0.5}, **wrong)  # type: ignore[arg-type]
    assert caught.value.hint == ("Did you mean 'label'?" if "lable" in wrong.values() else None)
    assert datasets.get("a@latest").number == 1


def test_a_prefix_keeps_ids_and_groups_of_datasets_and_of_versions_apart(datasets: DatasetService) -> None:
    datasets.create_from_rows("a", [row(1, group="u1"), row(2)], "cases")
    datasets.create_from_rows("b", [row(1, group="u1")], "cases")
    both = datasets.merge("all", ["a", "b"], prefix=True)
    assert [(each.id, each.group) for each in datasets.read(both.ref)] == [
        ("a/q1", "a/u1"),
        ("a/q2", None),
        ("b/q1", "b/u1"),
    ]
    datasets.edit("a", RowEdit(delete=["q2"]))
    versions = datasets.merge("versions", ["a@1", "a@2"], prefix=True)
    assert [each.id for each in datasets.read(versions.ref)] == ["a@1/q1", "a@1/q2", "a@2/q1"]
    with pytest.raises(ClashingIds) as caught:
        datasets.merge("twice", ["b", "b"], prefix=True)
    assert "--prefix" not in str(caught.value.hint)


def test_rows_that_a_change_brings_are_not_to_be_skipped(datasets: DatasetService) -> None:
    datasets.create_from_rows("a", some_rows(1), "cases")
    with pytest.raises(InvalidRows) as caught:
        datasets.edit("a", RowEdit(set=[row(0, fields={"input": "\ud83d"})]))
    assert caught.value.hint == "Mend these rows."


@pytest.mark.parametrize("cursor", ["9" * 5000, "-1", "x", "\u0661"])
def test_cursors_that_are_none_of_ours_are_refused(datasets: DatasetService, cursor: str) -> None:
    datasets.create_from_rows("a", some_rows(3), "cases")
    with pytest.raises(InvalidInput, match="cursor"):
        datasets.rows("a", cursor=cursor)
    with pytest.raises(InvalidInput, match="cursor"):
        datasets.diff("a", "a", cursor=cursor)
    assert datasets.rows("a", cursor="9" * 18).rows == []


def test_a_page_of_large_rows_ends_early_and_goes_on(
    datasets: DatasetService, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("service", "difference"):
        monkeypatch.setattr(f"penstock.datasets.{module}.MAX_PAGE_BYTES", 2_000)
    large = [row(n, fields={"input": f"{n} " + "x" * 900}) for n in range(7)]
    datasets.create_from_rows("a", large, "cases")
    datasets.create_from_rows("b", [row(0), *large[1:3], row(5), row(6), row(7)], "cases")
    sizes, ids, cursor = [], [], None
    while True:
        page = datasets.rows("a", limit=1000, cursor=cursor)
        sizes.append(len(page.rows))
        ids += [each.id for each in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert (sizes, ids) == ([3, 3, 1], [f"q{n}" for n in range(7)])
    kinds, cursor = [], None
    while True:
        found = datasets.diff("a", "b", limit=1000, cursor=cursor)
        assert 0 < len(found.changes) <= 3
        kinds += [(each.id, each.kind) for each in found.changes]
        cursor = found.next_cursor
        if cursor is None:
            break
    assert kinds == [
        ("q0", "changed"),
        ("q5", "changed"),
        ("q6", "changed"),
        ("q7", "added"),
        ("q3", "removed"),
        ("q4", "removed"),
    ]


def test_the_same_rows_with_another_licence_or_description_are_a_new_version(
    datasets: DatasetService,
) -> None:
    datasets.create_from_rows("a", some_rows(2), "cases", description="one")
    made = datasets.create_from_rows("a", some_rows(2), "cases", licence="mit", description="two")
    assert (made.is_new, made.number) == (True, 2)
    assert (made.facts.license, made.facts.description) == ("mit", "two")
    again = datasets.create_from_rows("a", some_rows(2), "cases")
    assert (again.is_new, again.number, again.facts.license) == (False, 2, "mit")
    only = datasets.create_from_rows("a", some_rows(2), "cases", description="three")
    assert (only.number, only.facts.license) == (3, "mit")


def test_descriptions_are_words_in_a_datasheet_and_no_markup(datasets: DatasetService) -> None:
    words = "Two <script>alert(1)</script>\nlines ![x](https://elsewhere.example/p.png)"
    datasets.create_from_rows("a", some_rows(2), "cases", description=words)
    told = write_markdown(CleaningService(datasets).sheet("a"))
    assert "<script" not in told and "![" not in told
    assert "Two &lt;script>alert(1)&lt;/script>\nlines" in told
