"""The command line without a running instance: help, settings, keys, exit codes, errors."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from penstock.base.errors import InvalidInput
from penstock.cli import app as cli_app
from penstock.cli import cost, faults, output
from penstock.cli.progress import ProgressLine
from penstock.knowledge.sources.catalogue import KINDS
from penstock.knowledge.sources.types import KIND_NAMES
from penstock.spec.home import Home
from penstock.spec.spans import Span, SpanEvent
from penstock.spec.usage import Usage
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.traces.costs.service import DEFAULT_TTL_S
from tests.cli.commands import call, penstock

HEAVY = ("sqlalchemy", "pydantic", "numpy", "duckdb", "fastapi", "aiohttp", "xllamacpp", "rich")
PROCESS_COMMANDS = {"mcp", "up", "gateway", "control", "apps", "engine", "demo"}


def leaf_commands() -> list[tuple[str, Any]]:
    root = typer.main.get_command(cli_app.app)
    found = []
    for name in cli_app.COMMANDS:
        _, command, _ = root.resolve_command(None, [name])  # type: ignore[attr-defined]
        found += leaves_of(name, command)
    return found


def leaves_of(name: str, command: Any) -> list[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if not children:
        return [(name, command)]
    return [leaf for verb, child in children.items() for leaf in leaves_of(f"{name} {verb}", child)]


COMMANDS = leaf_commands()


def test_help_loads_nothing_heavy() -> None:
    code = f"""
import sys
sys.argv = ["penstock", "--help"]
from penstock.cli.app import main
try:
    main()
except SystemExit as end:
    assert end.code == 0
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240
    )
    assert run.stdout.strip().endswith("[]")
    assert all(name in run.stdout for name in cli_app.COMMANDS)


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_has_help_an_example_and_the_common_options(name: str, command: Any) -> None:
    assert command.help
    assert command.epilog.startswith(f"Example: penstock {name}")
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--home" in options
    assert "--json" in options or name in PROCESS_COMMANDS
    assert all(getattr(parameter, "help", None) for parameter in command.params)


def test_what_help_texts_name_without_loading_it_is_what_there_is() -> None:
    assert cost.DEFAULT_TTL_S == DEFAULT_TTL_S
    assert tuple(KINDS) == KIND_NAMES


def test_a_mistyped_command_is_refused_with_a_suggestion() -> None:
    outcome = call("dem")
    assert outcome.code == 2
    assert "demo" in outcome.err


def test_init_writes_once_and_check_finds_it_right(home: Home) -> None:
    assert call("init", home=home.root).code == 0
    again = call("init", home=home.root)
    assert (again.code, "PS-1803" in again.err, "--force" in again.err) == (2, True, True)
    assert call("config", "check", "--home", str(home.root)).code == 0


def test_a_wrong_setting_is_told_with_line_and_cure_and_no_traceback(home: Home) -> None:
    home.settings.write_text('[providers.local]\nbase_ulr = "http://127.0.0.1:1/v1"\n')
    outcome = call("config", "check", home=home.root)
    assert outcome.code == 2
    assert "line 2" in outcome.err
    assert "Did you mean 'base_url'?" in outcome.err
    assert "Traceback" not in outcome.err
    told = call("config", "check", "--json", home=home.root)
    assert '"line": 2' in told.err


def test_up_refuses_damaged_settings_and_a_taken_port_before_anything_starts(home: Home) -> None:
    home.settings.write_text("[up\nport = 1\n")
    outcome = penstock("up", "--port", "0", "--console-port", "0", home=home.root)
    assert (outcome.code, "line 1" in outcome.err) == (2, True)
    home.settings.unlink()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        outcome = penstock("up", "--port", str(other.getsockname()[1]), "--console-port", "0", home=home.root)
    assert (outcome.code, "is taken" in outcome.err, "--port" in outcome.err) == (2, True, True)
    assert not home.control_db.exists()
    assert not list(home.logs.glob("*.log"))


def test_keys_are_made_listed_and_revoked_without_a_running_instance(home: Home) -> None:
    made = penstock("key", "create", "--name", "ci", "--rpm", "60", "--json", home=home.root)
    assert made.code == 0
    assert set(made.json) == {"id", "key"}
    listed = call("key", "list", "--json", home=home.root).json
    assert [(key["id"], key["requests_per_minute"], key["revoked"]) for key in listed] == [
        (made.json["id"], 60, None)
    ]
    assert made.json["key"] not in str(listed)
    assert made.json["id"] in home.snapshot.read_text()
    assert made.json["key"] not in home.snapshot.read_text()
    assert call("key", "revoke", made.json["id"], home=home.root).code == 0
    assert made.json["id"] not in home.snapshot.read_text()
    table = call("key", "list", home=home.root).out.splitlines()
    assert {len(line.split("\t")) for line in table} == {12}
    assert {"project", "user", "routes"} <= set(table[0].split("\t"))
    refused = call("key", "create", "--name", "x", "--expires", "yesterday", home=home.root)
    assert (refused.code, "2027-01-31" in refused.err) == (2, True)


def test_a_key_for_a_route_that_is_not_there_is_refused_with_a_suggestion(home: Home) -> None:
    outcome = call("key", "create", "--name", "ci", "--route", "lexicle", home=home.root)
    assert (outcome.code, "Did you mean 'lexical'?" in outcome.err) == (2, True)
    assert call("key", "create", "--name", "ci", "--route", "lexical", home=home.root).code == 0
    assert len(call("key", "list", "--json", home=home.root).json) == 1


def test_a_key_is_revoked_though_the_settings_are_damaged(home: Home) -> None:
    made = call("key", "create", "--name", "ci", "--json", home=home.root).json
    home.settings.write_text("oops = 1\n")
    assert call("key", "revoke", made["id"], home=home.root).code == 0
    assert made["id"] not in home.snapshot.read_text()


def test_what_is_not_there_is_told_with_exit_2(home: Home) -> None:
    for arguments in (
        ("key", "revoke", "key_none"),
        ("asset", "show", "model:none"),
        ("asset", "show", "mdoel:none"),
        ("job", "show", "job_none"),
        ("traces", "list"),
        ("job", "list", "--state", "wat"),
        ("asset", "list", "--kind", "zoo"),
        ("knowledge", "ingest", "x", str(home.root)),
        ("knowledge", "ingest", "Bad/Name", str(home.root)),
    ):
        outcome = call(*arguments, home=home.root)
        assert (outcome.code, "Traceback" in outcome.err) == (2, False), (arguments, outcome)
        assert "[PS-" in outcome.err


@pytest.mark.parametrize(("name", "word"), [("none", "does not exist"), ("file.md", "is a file")])
def test_an_ingest_of_no_folder_is_refused_before_there_is_a_job(home: Home, name: str, word: str) -> None:
    (home.root / "file.md").write_text("x")
    outcome = call("knowledge", "ingest", "x", str(home.root / name), home=home.root)
    assert (outcome.code, word in outcome.err, "[PS-" in outcome.err) == (2, True, True)
    assert not home.control_db.exists()


def test_a_demo_whose_result_cannot_be_written_does_not_start(home: Home) -> None:
    outcome = call("demo", "--json", str(home.root / "none" / "x.json"), home=home.root)
    assert (outcome.code, "cannot be written" in outcome.err) == (2, True)
    assert not home.control_db.exists()


def test_routes_and_providers_come_from_environment_without_their_secrets(home: Home) -> None:
    outcome = call("provider", "list", "--json", home=home.root, OPENAI_API_KEY="sk-secret-secret-secret")
    assert {row["provider"]: row["origin"] for row in outcome.json}["openai"] == "environment"
    assert "sk-secret" not in outcome.out


def test_doctor_names_what_is_missing_and_changes_nothing(tmp_path: Path) -> None:
    outcome = call("doctor", "--json", "--home", str(tmp_path / "none"))
    assert outcome.code == 0
    assert "does not exist yet" in str(outcome.json)
    assert not (tmp_path / "none").exists()


def test_doctor_tells_of_damaged_settings_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    call("key", "create", "--name", "a", "--home", str(home))
    (home / "penstock.toml").write_text("[routes\n")
    outcome = call("doctor", "--json", "--home", str(home))
    verdicts = [(each["what"], each["verdict"]) for each in outcome.json]
    assert ("settings", "bad") in verdicts and ("tables", "bad") not in verdicts


def test_a_bug_is_told_in_two_lines_and_kept_in_the_log(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults.DebugFlag, "home", home)
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError("with the key ps-abcdefghijklmnopqrstuvwxyz")
    assert faults.print_fault(caught.value) == 70
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 2
    assert "Traceback" not in told
    logged = (home.logs / "cli.log").read_text()
    assert "ZeroDivisionError" in logged
    assert "abcdefghijklm" not in told + logged


def test_errors_are_json_when_json_was_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults.DebugFlag, "is_json", True)
    assert faults.print_error(InvalidInput("No.", hint="Do so.")) == 2
    assert '"hint": "Do so."' in capsys.readouterr().err


def test_a_pipe_gets_tabs_and_no_terminal_codes(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows([{"a": "x\x1b[31m\ty\n", "b": None, "c": 0.5}], ("a", "b", "c"), as_json=False)
    assert capsys.readouterr().out == "a\tb\tc\nx�[31m y\t-\t0.5\n"


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_a_terminal_gets_one_line_a_row_with_whole_ids(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    row = {"id": "a" * 32, "kind": "chat 日本語 handbook", "text": "How long " * 30, "ms": 12.5}
    output.print_lines([row, row], ("id", "kind", "ms", "text"), give_up=("kind", "text"), shorten="text")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(len(line) <= width for line in lines)
    assert all("a" * 32 in line for line in lines[1:])
    assert ("kind" in lines[0]) == (width >= 100)
    assert ("…" in lines[1]) == ("text" in lines[0])


def test_a_payload_is_shown_as_text() -> None:
    value = {
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "One\nTwo\x1b"}],
        "data": [{"embedding": [0.5] * 384, "index": 0}],
        "n": None,
    }
    assert output.readable_lines(value) == [
        "messages:", "  system: Be kind.", "  user:", "    One", "    Two�",
        "data:", "  - embedding: (384 numbers)", "    index: 0", "n: -",
    ]  # fmt: skip


def test_a_span_whose_parent_has_not_come_says_so(home: Home) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4737"
    home.span_db.parent.mkdir(parents=True, exist_ok=True)
    store = DuckDBSpanStore(home.span_db)
    for span_id, parent_id, name in (("a", None, "ask"), ("b", "c", "chat")):
        parent = None if parent_id is None else parent_id * 16
        store.append(
            [Span(trace_id=trace_id, span_id=span_id * 16, parent_id=parent, name=name, start_ns=10**18)]
        )
    store.close()
    assert "chat (orphan: its parent has not come)" in call("traces", "show", trace_id, home=home.root).out
    spans = call("traces", "show", trace_id, "--json", home=home.root).json["spans"]
    assert [span["is_orphan"] for span in spans] == [False, True]


def test_a_trace_is_shown_as_a_tree_with_what_went_in_and_out(home: Home) -> None:
    common: Any = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "status": "ok"}
    asked = {"messages": [{"role": "user", "content": "How long?"}]}
    home.span_db.parent.mkdir(parents=True, exist_ok=True)
    store = DuckDBSpanStore(home.span_db)
    store.append(
        [
            Span(
                **common, span_id="a" * 16, name="chat", start_ns=10**18, end_ns=10**18 + 10**7, input=asked
            ),
            Span(
                **common,
                span_id="b" * 16,
                parent_id="a" * 16,
                name="answer",
                start_ns=10**18 + 10**6,
                usage=Usage(input_uncached=7, output_text=2),
            ),
        ]
    )
    store.close()
    told = call("traces", "show", common["trace_id"], "--content", home=home.root).out
    rows = [line.split("\t") for line in told.splitlines() if "\t" in line][-3:]
    assert [row[0] for row in rows] == ["span", "chat", "· answer"]
    assert rows[2][3:5] == ["1", "-"]
    assert rows[2][7] == "7 + 2"
    assert "    messages: user: How long?" in told.splitlines()
    assert call("traces", "show", "4BF92F35", "--json", home=home.root).json["trace_id"] == common["trace_id"]
    assert call("traces", "show", "4bf92f36", home=home.root).code == 2
    listed = call("traces", "list", home=home.root).out.splitlines()
    assert listed[1].startswith(f"{common['trace_id']}\t2001-09-09T01:46:40Z\tchat\t")


def test_a_failed_call_is_shown_with_its_code_its_text_and_why_each_attempt_failed(home: Home) -> None:
    trace_id = "5bf92f3577b34da6a3ce929d0e0e4737"
    refused = {
        "provider": "east",
        "model": "big",
        "outcome": "refused",
        "reason": "Slow down.",
        "http_status": 429,
        "fault": "rate-limit",
    }
    keyless = {"provider": "west", "model": "m", "outcome": "failed", "reason": "WEST_KEY is not set."}
    home.span_db.parent.mkdir(parents=True, exist_ok=True)
    store = DuckDBSpanStore(home.span_db)
    store.append(
        [
            Span(
                trace_id=trace_id,
                span_id="a" * 16,
                name="chat",
                start_ns=10**18,
                status="error",
                status_message="No target\x1b could serve.",
                error_code="PS-4602",
                events=[
                    SpanEvent(name="attempt failed", time_ns=10**18, attributes=attributes)
                    for attributes in (refused, keyless)
                ],
            )
        ]
    )
    store.close()
    assert call("traces", "show", trace_id, home=home.root).out.splitlines()[-4:] == [
        "chat",
        "  error [PS-4602]: No target� could serve.",
        "  east (big): refused, rate-limit, HTTP 429: Slow down.",
        "  west (m): failed: WEST_KEY is not set.",
    ]


def test_plain_progress_is_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine("work") as line:
        for number in range(101):
            line.tell(number / 100, "step")
        line.tell(0.0, "again")
    told = capsys.readouterr().err.splitlines()
    assert 10 <= len(told) <= 13
    assert "100 %" in told[-2]
    assert "again" in told[-1]
