"""`penstock dataset` against a control process that serves a furnished house on a real socket."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from penstock.cli.dataset import _went
from penstock.control.app import create_control
from penstock.main import control_client
from tests.cli.commands import Outcome, call
from tests.fixtures.furnished import TRACE_ID, Furnished, furnished, furnished_root

__all__ = ["furnished", "furnished_root"]


@pytest.fixture
def root(furnished: Furnished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, while commands find this control process."""
    server = uvicorn.Server(
        uvicorn.Config(create_control(furnished.services), host="127.0.0.1", port=0, log_level="critical")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    class Found:
        class addresses:  # noqa: N801 - the shape of an instance
            console_url = url

    monkeypatch.setattr(control_client, "require_instance", lambda home: Found)
    monkeypatch.setattr(control_client, "read_admin_key", lambda home: furnished.owner_key)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    server.should_exit = True
    thread.join(120)


def dataset(*arguments: str, root: Path) -> Outcome:
    return call("dataset", *arguments, home=root)


def ok(*arguments: str, root: Path) -> Any:
    done = dataset(*arguments, "--json", root=root)
    assert done.code == 0, done.err
    return done.json


def test_a_file_goes_all_the_way_from_check_to_export(root: Path) -> None:
    (root / "fragen.csv").write_text(
        "Frage;Antwort;doc\nWie lange?;Acht Stunden;a\nWie oft?;;a\nWann?;Abends;b\n"
    )
    asked = dataset("check", "fragen.csv", root=root)
    assert (asked.code, "--map" in asked.err) == (2, True)
    mapped = ["--map", "input=Frage", "--map", "expected=Antwort", "--map", "group=doc"]
    checked = dataset("check", "fragen.csv", *mapped, root=root)
    assert checked.out.splitlines()[0] == "fragen.csv: 3 rows of cases, read as csv"
    assert checked.out.splitlines()[-1] == "all is well"
    made = dataset("create", "fragen", "fragen.csv", *mapped, "--license", "MIT", root=root)
    assert made.out == "dataset:fragen@1: 3 rows of cases, 2 groups\n"
    again = dataset("create", "fragen", "fragen.csv", *mapped, root=root)
    assert again.out.startswith("dataset:fragen@1 was there already")

    (root / "more.jsonl").write_text('{"input": "Warum?", "split": "test"}\n')
    assert ok("import", "fragen", "more.jsonl", root=root)["facts"]["n_rows"] == 4
    assert ok("split", "fragen", "train=0.5", "test=0.5", "--keep", root=root)["number"] == 3
    assert ok("tag", "fragen", "--add", "german", root=root)["facts"]["tags"] == {"german": 4}
    assert {each["name"]: each["n_rows"] for each in ok("list", root=root)}["fragen"] == 4
    shown = dataset("show", "fragen", root=root).out
    assert "versions\t4, 3, 2, 1" in shown
    assert "step    tag" in shown
    assert [row["fields"]["input"] for row in ok("rows", "fragen", "--where", "group:a", root=root)] == [
        "Wie lange?",
        "Wie oft?",
    ]
    assert "Abends" in dataset("rows", "fragen", "--offset", "2", root=root).out
    told = dataset("diff", "fragen@1", "fragen@2", root=root).out.splitlines()
    assert told[0] == "dataset:fragen@1 → dataset:fragen@2: 1 added, 0 removed, 0 changed, 3 the same"
    assert "tags" in dataset("diff", "fragen@3", "fragen@4", root=root).out

    for name in ("out.jsonl", "out.csv", "out.parquet", "out.zip"):
        assert ok("export", "fragen", "--out", name, root=root)["size_bytes"] == (root / name).stat().st_size
    assert ok("create", "back", "out.csv", "--format", "cases", root=root)["facts"]["n_rows"] == 4
    printed = dataset("export", "fragen", "--where", "split:test", root=root).out
    assert dataset("export", "fragen", "--format", "parquet", root=root).code == 2
    assert isinstance(printed, str)


def test_rows_are_edited_by_an_export_that_was_mended(root: Path) -> None:
    (root / "a.jsonl").write_text('{"id": "1", "input": "x"}\n{"id": "2", "input": "y"}\n')
    ok("create", "a", "a.jsonl", root=root)
    ok("export", "a", "--out", "a2.jsonl", root=root)
    (root / "a2.jsonl").write_text((root / "a2.jsonl").read_text().replace('"y"', '"z"'))
    edited = ok("edit", "a", "--set", "a2.jsonl", root=root)
    assert edited["number"] == 2
    assert ok("edit", "a", "--delete", "1", root=root)["facts"]["n_rows"] == 1
    assert dataset("edit", "a", "--delete", "9", root=root).code == 2
    (root / "a2.jsonl").write_text('{"id": "1", "input": 3}\n')
    assert "a2.jsonl:1 input" in dataset("edit", "a", "--set", "a2.jsonl", root=root).err


def test_problems_are_printed_with_their_rows_and_an_exit_code(root: Path) -> None:
    (root / "bad.jsonl").write_text('{"input": "ok"}\n{"input": 1}\nnonsense\n')
    checked = dataset("check", "bad.jsonl", root=root)
    assert checked.code == 2
    assert "bad.jsonl:2 input: must be a text, not a number" in checked.out
    assert "bad.jsonl:3: not JSON" in checked.out
    assert json.loads(dataset("check", "bad.jsonl", "--json", root=root).out)["is_well"] is False
    refused = dataset("create", "bad", "bad.jsonl", root=root)
    assert (refused.code, "PS-1221" in refused.err) == (2, True)
    kept = dataset("create", "bad", "bad.jsonl", "--skip-invalid", root=root).out.splitlines()
    assert kept[0] == "dataset:bad@1: 1 row of cases"
    assert "left out  1 × not JSON" in kept


def test_traffic_merges_and_aliases(root: Path) -> None:
    asked = ok("from-traces", "asked", "route:handbook", "--expected", "reply", "--since", "2d", root=root)
    assert asked["facts"]["n_rows"] >= 1
    assert ok("add-trace", "hard", TRACE_ID, "--tag", "sleep", root=root)["facts"]["tags"] == {"sleep": 1}
    assert ok("merge", "both", "asked", "hard", "--prefix", root=root)["facts"]["n_rows"] >= 2
    assert ok("sample", "both", "2", "--as", "two", root=root)["name"] == "two"
    assert ok("filter", "both", "tag:sleep", "--as", "sleep", root=root)["facts"]["n_rows"] == 1
    assert ok("convert", "asked", "chat", "--as", "talk", root=root)["facts"]["format"] == "chat"
    assert dataset("move", "hard@1", "--alias", "golden", root=root).out == "golden → dataset:hard@1\n"
    assert ok("show", "hard@golden", root=root)["aliases"] == ["golden"]
    assert dataset("from-feedback", "none", root=root).code == 2
    for wrong in (
        ["split", "hard", "train"],
        ["from-traces", "x", "--since", "soon"],
        ["show", "model:pocket"],
    ):
        assert dataset(*wrong, root=root).code == 2


def test_without_a_running_process_it_says_how_to_start_one_but_checks(tmp_path: Path) -> None:
    refused = call("dataset", "list", home=tmp_path)
    assert "penstock up" in refused.err
    (tmp_path / "a.jsonl").write_text('{"input": "x"}\n')
    assert call("dataset", "check", str(tmp_path / "a.jsonl"), home=tmp_path).code == 0


def test_every_kind_of_step_is_told_with_its_rows() -> None:
    assert _went({"n_before": 1200, "n_after": 1000}) == "1,200 → 1,000 rows"
    assert _went({"n_after": 1000}) == "1,000 rows"
    assert _went({"step": "distill", "n_calls": 32, "n_kept": 31}) == "31 rows made"
