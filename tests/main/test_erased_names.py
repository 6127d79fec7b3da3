"""Where a name is looked for when somebody is erased: theirs goes, what only looks like it stays."""

from pathlib import Path

import pytest

from penstock.main.erasure_places import clear_logs, names_subject
from penstock.spec.home import Home
from penstock.store.spans.upkeep_types import Subject


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("anna", "user:anna"),
        ("anna", "status:error not user:anna"),
        ("anna", "any(user:anna or kind:tool)"),
        ("2", 'user:"2"'),
        ("anna", "attr.enduser.id:anna"),
        ("annabel", "user:ann*,annabel"),
        ("annabel", '"parcel of annabel"'),
        ("anna", "(((anna"),
    ],
)
def test_a_view_that_names_somebody_is_theirs(name: str, query: str) -> None:
    assert names_subject(query, Subject(kind="user", id=name))


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("anna", "user:annabel"),
        ("annabel", "user:annabelle"),
        ("error", "status:error"),
        ("evaluation", "kind:evaluation"),
        ("2", "duration>2s kind:llm"),
        ("llm", "kind:llm"),
        ("user", "user:anna"),
        ("anna", '"hanna and anna"'),
    ],
)
def test_a_view_that_only_looks_like_it_stays(name: str, query: str) -> None:
    assert not names_subject(query, Subject(kind="user", id=name))


def test_logs_lose_the_name_and_no_part_of_another(tmp_path: Path) -> None:
    home = Home(root=tmp_path)
    home.logs.mkdir(parents=True)
    log = home.logs / "gateway.log"
    log.write_text('{"user":"alice.a","by":"malice.a"} alice.ab alice.a\n')
    (home.logs / "empty.log").touch()
    assert clear_logs(home, Subject(kind="user", id="alice.a")).removed == {"names": 2}
    assert log.read_text() == '{"user":"xxxxxxx","by":"malice.a"} alice.ab xxxxxxx\n'
