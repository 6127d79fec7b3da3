"""Properties: read beside documents, inherited, never wider than their source allows, and closed when unreadable."""

from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.knowledge.sources.errors import UnreadableProperties
from penstock.knowledge.sources.properties import merge_properties, parse_properties
from penstock.knowledge.sources.service import SourceService
from penstock.knowledge.types import InlineContext
from penstock.spec.knowledge import Properties

Write = Callable[..., Path]
MARCH_NS = 1_772_323_200 * 10**9


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.md.meta.toml", 'readers = ["group:x"]\nmodified = 2026-03-01\ntags = ["t"]\nauthority = 0.5\n'),
        ("a.md.meta.yaml", "readers: group:x\nmodified: 2026-03-01\ntags: [t]\nauthority: 0.5\n"),
        ("a.md.meta.json", '{"readers":["group:x"],"modified":"2026-03-01","tags":["t"],"authority":0.5}'),
    ],
)
def test_three_forms_say_the_same(name: str, text: str) -> None:
    assert parse_properties(name, text.encode()) == Properties(
        values={"tags": ["t"], "authority": 0.5}, readers=["group:x"], modified_ns=MARCH_NS
    )


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("x.toml", "readers = 3", "list of names"),
        ("x.toml", "readers = [1]", "list of names"),
        ("x.toml", "broken", "cannot be read"),
        ("x.json", "[1]", "names with values"),
        ("x.json", '{"a": {"b": 1}}', "must be text"),
        ("x.json", '{"modified": "soon"}', "2026-03-31"),
        ("x.json", '{"authority": "high"}', "0 to 1"),
        ("x.yaml", "a: &a [x]\nb: *a", "anchors"),
        ("x.yaml", "a: !!python/object:os.system {}", "cannot be read"),
        ("x.toml", "x = nan", "finite"),
    ],
)
def test_what_is_no_property_is_refused_with_its_place(name: str, text: str, reason: str) -> None:
    with pytest.raises(UnreadableProperties, match=reason):
        parse_properties(name, text.encode())


def test_folders_hand_down_and_sidecars_win(sources: SourceService, write: Write, tmp_path: Path) -> None:
    write("_properties.toml", 'readers = ["group:all"]\nteam = "docs"\n')
    write("deep/_properties.toml", 'readers = ["group:deep"]\n')
    write("deep/er/a.md")
    write("deep/er/a.md.meta.toml", 'team = "own"\nsubjects = ["Ada"]\n')
    write("b.md")
    write("gone.md.meta.toml", "x = 1\n")
    sources.add(
        "guide", "docs", "folder", {"location": str(tmp_path / "docs"), "properties": {"site": "one"}}
    )
    found = sources.scan_all("guide", InlineContext())
    by_path = {item.path: item.properties for item in found.items}
    assert (by_path["b.md"].readers, by_path["b.md"].values) == (
        ["group:all"],
        {"site": "one", "team": "docs"},
    )
    own = by_path["deep/er/a.md"]
    assert (own.readers, own.values, own.subjects) == (
        ["group:deep"],
        {"site": "one", "team": "own"},
        ["Ada"],
    )
    assert [(each.path, each.reason) for each in found.left_out] == [
        ("gone.md.meta.toml", "describes a document that is not there")
    ]


def test_properties_that_cannot_be_read_close_what_they_describe(
    sources: SourceService, write: Write, tmp_path: Path
) -> None:
    write("a.md", "One.")
    write("deep/b.md", "Two.")
    sources.ensure_folder("guide", tmp_path / "docs")
    before = sources.scan_all("guide", InlineContext())
    write("a.md.meta.toml", "readers = [")
    write("deep/_properties.toml", "readers = 5")
    write("deep/new.md", "Three.")
    after = sources.scan_all("guide", InlineContext())
    assert [(item.path, item.digest) for item in after.items] == [
        (item.path, item.digest) for item in before.items
    ]
    assert {each.path for each in after.left_out} == {"a.md", "deep/b.md", "deep/new.md"}
    assert all("properties cannot be read" in each.reason for each in after.left_out)


def test_a_change_of_properties_alone_is_seen_without_reading(
    sources: SourceService, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.knowledge.sources.kinds.folder.SETTLED_NS", -(10**18))
    write("a.md", "One.")
    sources.ensure_folder("guide", tmp_path / "docs")
    sources.scan_all("guide", InlineContext())
    write("a.md.meta.toml", 'readers = ["user:ada"]\n')
    after = sources.scan_all("guide", InlineContext())
    assert (after.items[0].properties.readers, after.outcomes[0].read) == (["user:ada"], 0)


def test_a_document_cannot_widen_who_may_find_it() -> None:
    own = Properties(readers=["everyone"], values={"title": "Own", "x": 1}, subjects=["Ada"])
    told = Properties(readers=["group:closed"], values={"title": "Told"}, subjects=["Bob"])
    merged = merge_properties(own, told)
    assert (merged.readers, merged.values, merged.subjects) == (
        ["group:closed"],
        {"title": "Told", "x": 1},
        ["Ada", "Bob"],
    )
    assert merge_properties(own, Properties()).readers == ["everyone"]
