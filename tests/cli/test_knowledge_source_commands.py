"""Sources from the command line, while nothing runs: kept, tried, listed, and declared by a file."""

from pathlib import Path

import pytest

from penstock.base.errors import InvalidInput
from penstock.knowledge.recipes import change_recipe
from penstock.knowledge.types import InlineContext
from penstock.main.knowledge_rooms import KnowledgeRooms
from penstock.spec.home import Home
from penstock.spec.knowledge import Recipe
from tests.cli.commands import call


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# A\n\nText.\n")
    (folder / "odd.bin").write_bytes(b"x")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "home"


def source(*arguments: str, home: Path) -> str:
    done = call("knowledge", "source", *arguments, home=home)
    assert done.code == 0, done.err
    return done.out


def test_a_source_is_kept_without_a_running_penstock(root: Path, docs: Path) -> None:
    out = source(
        "add",
        "wiki",
        "notes",
        "folder",
        str(docs),
        "--set",
        "include=*.md, *.html",
        "--schedule",
        "1h",
        home=root,
    )
    assert "read it now: penstock knowledge source run wiki notes" in out
    out = source("test", "wiki", "notes", home=root)
    assert "would read  a.md  11 bytes" in out
    assert "left out    odd.bin: not among what is included" in out
    source(
        "edit",
        "wiki",
        "notes",
        "--unset",
        "include",
        "--set",
        "properties.team=docs",
        "--schedule",
        "",
        home=root,
    )
    shown = call("knowledge", "source", "show", "wiki", "notes", "--json", home=root).json
    assert shown["settings"] == {"prefix": "", "location": str(docs), "properties": {"team": "docs"}}
    assert shown["schedule"] is None
    source("pause", "wiki", "notes", home=root)
    assert "paused" in source("list", "wiki", home=root)
    source("resume", "wiki", "notes", home=root)
    refused = call("knowledge", "source", "edit", "wiki", "notes", "--set", "exlude=x", home=root)
    assert (refused.code, "Did you mean 'exclude'?" in refused.err) == (2, True)
    refused = call("knowledge", "source", "add", "wiki", "x", "floder", str(docs), home=root)
    assert (refused.code, "Did you mean 'folder'?" in refused.err) == (2, True)


def test_documents_are_listed_with_their_states_and_a_removal_is_confirmed(root: Path, docs: Path) -> None:
    source("add", "wiki", "notes", "folder", str(docs), home=root)
    rooms = KnowledgeRooms(Home(root=root))
    rooms.sources.scan_all("wiki", InlineContext())
    rooms.close()
    listed = call("knowledge", "document", "list", "wiki", home=root).out.splitlines()
    assert listed[1].split("\t")[:3] == ["a.md", "notes", "live"]
    assert listed[2].endswith("no parser for .bin")
    chosen = call("knowledge", "document", "list", "wiki", "--state", "left_out", "--json", home=root).json
    assert [row["path"] for row in chosen] == ["odd.bin"]
    assert call("knowledge", "document", "list", "wiki", "--state", "odd", home=root).code == 2
    assert "source\tnotes" in call("knowledge", "document", "show", "wiki", "a.md", home=root).out
    assert call("knowledge", "document", "versions", "wiki", "a.md", "--json", home=root).json == []
    refused = call("knowledge", "source", "remove", "wiki", "notes", "--json", home=root)
    assert (refused.code, "--keep-documents" in refused.err) == (2, True)
    assert "1 documents stay" in source("remove", "wiki", "notes", "--keep-documents", home=root)
    assert "detached" in source("list", home=root)
    assert "1 documents are served until" in source("remove", "wiki", "notes", "--yes", home=root)


def test_a_file_is_applied_and_applying_it_again_changes_nothing(
    root: Path, docs: Path, tmp_path: Path
) -> None:
    file = tmp_path / "wiki.toml"
    file.write_text(
        'name = "wiki"\n'
        '[[sources]]\nname = "notes"\nkind = "folder"\nlocation = "docs"\nschedule = "1h"\n'
        '[[sources]]\nname = "site"\nkind = "web"\nlocation = "https://example.org/docs/"\npaused = true\n'
    )
    tried = call("knowledge", "apply", str(file), "--check", home=root).out
    assert "+ notes  add" in tried
    assert call("knowledge", "source", "list", "wiki", "--json", home=root).json == []
    assert call("knowledge", "apply", str(file), home=root).code == 0
    rows = call("knowledge", "source", "list", "wiki", "--json", home=root).json
    assert [(row["name"], row["location"], row["settings"]["prefix"], row["is_paused"]) for row in rows] == [
        ("notes", str(docs), "", False),
        ("site", "https://example.org/docs/", "site/", True),
    ]
    assert "nothing changes" in call("knowledge", "apply", str(file), home=root).out
    file.write_text(
        'name = "wiki"\n[[sources]]\nname = "notes"\nkind = "folder"\nlocation = "docs"\nexclude = ["x.md"]\n'
    )
    changed = call("knowledge", "apply", str(file), home=root).out
    assert 'exclude: – → ["x.md"]' in changed
    assert "? site  not in the file" in changed
    changes = call("knowledge", "apply", str(file), "--remove-others", "--json", home=root).json["changes"]
    assert [(each["source"], each["action"]) for each in changes] == [("notes", "keep"), ("site", "remove")]
    assert len(call("knowledge", "source", "list", "wiki", "--json", home=root).json) == 1


def test_a_declared_recipe_is_what_a_new_base_begins_with(root: Path, docs: Path, tmp_path: Path) -> None:
    file = tmp_path / "wiki.toml"
    file.write_text('name = "wiki"\n[recipe.chunk]\nsize = 99\n')
    assert call("knowledge", "apply", str(file), "--check", "--json", home=root).json["recipe"] == "made"
    assert call("knowledge", "apply", str(file), "--json", home=root).json["recipe"] == "made"
    assert "nothing changes" in call("knowledge", "apply", str(file), home=root).out
    assert call("knowledge", "apply", str(file), "--json", home=root).json["recipe"] == "same"
    file.write_text('name = "wiki"\n[recipe.chunk]\nsize = 120\n')
    assert call("knowledge", "apply", str(file), "--json", home=root).json["recipe"] == "made"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name = ", "no TOML"),
        ("sources = []", "names no knowledge base"),
        ('name = "x"\ncolour = 1', "has 'colour'"),
        ('name = "x"\n[[sources]]\nname = "a"\n', "needs a name and a kind"),
        ('name = "x"\n[recipe.chunk]\nsizes = 3', "recipe"),
        (
            'name = "x"\n' + '[[sources]]\nname = "a"\nkind = "folder"\nlocation = "."\n' * 2,
            "two sources 'a'",
        ),
    ],
)
def test_a_file_that_cannot_be_is_refused_whole(root: Path, tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "wiki.toml"
    file.write_text(text)
    refused = call("knowledge", "apply", str(file), home=root)
    assert (refused.code, told in refused.err) == (2, True), refused.err


def test_a_secret_that_a_source_uses_is_not_deleted_from_under_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIKI_PASSWORD", "hunter2")
    where = ("--url", "postgresql://db.example", "--from-env", "WIKI_PASSWORD")
    made = call("secret", "set", "wiki-db", *where, home=root)
    assert made.code == 0, made.err
    address = "postgresql://reader:{{secret:wiki-db}}@db.example/wiki"
    source("add", "wiki", "db", "database", address, "--set", "query=SELECT id, text FROM pages", home=root)
    refused = call("secret", "delete", "wiki-db", home=root)
    assert (refused.code, "knowledge:wiki/db" in refused.err) == (4, True), refused.err
    assert "hunter2" not in call("knowledge", "source", "show", "wiki", "db", "--json", home=root).out
    source("remove", "wiki", "db", "--yes", home=root)
    assert call("secret", "delete", "wiki-db", home=root).code == 0


def test_a_place_that_would_never_be_read_is_refused_when_it_is_added(root: Path, docs: Path) -> None:
    source("add", "wiki", "notes", "folder", str(docs), home=root)
    (root / "inner").mkdir()
    for kind, place in (
        ("folder", str(root)),
        ("web", "http://127.0.0.1:8765/docs/"),
        ("web", "http://localhost/"),
        ("web", "http://[::1]/"),
    ):
        refused = call("knowledge", "source", "add", "wiki", "x", kind, place, home=root)
        assert refused.code != 0 and ("home" in refused.err or "allow_private" in refused.err), place
    more = ("--set", "allow_private=localhost")
    source("add", "wiki", "x", "web", "http://localhost/", *more, home=root)


def test_a_file_of_questions_is_refused_before_a_job_and_near_names_are_told(root: Path) -> None:
    refused = call("knowledge", "measure", "wiki", "--questions", "q.jsonl", home=root)
    assert "penstock knowledge question import q.jsonl --set" in refused.err
    with pytest.raises(InvalidInput, match="Did you mean 'size'"):
        change_recipe(Recipe(), {"chunk": {"sise": 40}})
    with pytest.raises(InvalidInput, match="Did you mean 'chunk'"):
        change_recipe(Recipe(), {"chnk": {"size": 40}})
