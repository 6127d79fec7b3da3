"""`penstock session` and `penstock user`, of a stopped home and over REST alike."""

from pathlib import Path

import pytest

from penstock.spec.home import Home
from penstock.store.spans.duckdb import DuckDBSpanStore
from tests.cli.commands import call
from tests.store.test_sessions import make_turn


@pytest.fixture
def home(tmp_path: Path) -> Path:
    store = DuckDBSpanStore(Home(root=tmp_path).span_db)
    store.append([make_turn(1), make_turn(2, status="error", user_id="bo"), make_turn(3, session="a/b")])
    store.close()
    return tmp_path


def test_sessions_are_listed_and_shown_with_what_was_said(home: Path) -> None:
    told = call("session", "list", home=home)
    assert told.code == 0, told.err
    assert [line.split("\t")[0] for line in told.out.splitlines()] == ["session_id", "a/b", "talk"]
    shown = call("session", "show", "talk", home=home)
    assert shown.code == 0, shown.err
    assert shown.out.index("question 1") < shown.out.index("answer 1") < shown.out.index("question 2")
    assert call("session", "show", "talk", "--json", home=home).json["summary"]["n_turns"] == 2
    assert call("session", "list", "--user", "bo", "--json", home=home).json[0]["session_id"] == "talk"


def test_users_are_listed_in_the_order_asked_for_and_shown_with_their_sessions(home: Path) -> None:
    told = call("user", "list", "--order", "failed", "--json", home=home).json
    assert [(each["user_id"], each["n_failed"]) for each in told] == [("bo", 1), ("ada", 0)]
    shown = call("user", "show", "ada", home=home)
    assert shown.code == 0, shown.err
    assert "a/b" in shown.out


def test_who_is_not_there_is_told_with_a_hint_and_exit_code_2(home: Path) -> None:
    for noun in ("session", "user"):
        told = call(noun, "show", "nobody", home=home)
        assert (told.code, "nobody" in told.err) == (2, True)
    assert call("session", "list", "--since", "soon", home=home).code == 2
    assert call("session", "list", "--order", "best", home=home).code == 2
