"""`penstock dashboard` and `penstock alert` on a stopped home: tables at once, the record from its file."""

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.cli.windows import read_length_s, read_moment_ns, read_window
from penstock.spec.home import Home
from penstock.store.spans.duckdb import DuckDBSpanStore
from tests.cli.commands import Outcome, call
from tests.fixtures.spans import make_call_trace, make_span
from tests.monitors.receiver import http_receiver

TEAM = """
[[dashboard]]
name = "team"
title = "Team"
panels = [{ title = "Calls", measures = ["calls"], by = ["model"], chart = "bar" }]
"""
ALERTS = """
[channels.ops]
kind = "webhook"
url = "https://hooks.example.com/x"

[alerts.errors]
measure = "error_share"
window_s = 300
alert = { above = 0.1, recover = 0.05 }
notify = ["ops"]
"""


@pytest.fixture
def recorded(home: Home) -> Path:
    """A stopped home with some calls of the last minutes."""
    store = DuckDBSpanStore(home.span_db)
    now = now_ns()
    for trace in range(1, 5):
        shift = now - trace * 60 * 10**9
        spans = make_call_trace(trace)
        first = spans[0].start_ns
        store.append(
            [
                make_span(
                    int(span.span_id, 16),
                    trace=trace,
                    parent_id=span.parent_id,
                    kind=span.kind,
                    model=span.model,
                    route=span.route,
                    usage=span.usage,
                    cost_usd=span.cost_usd,
                    start_ns=shift + span.start_ns - first,
                    end_ns=shift + span.start_ns - first + 10**8,
                    status="error" if trace == 1 else "ok",
                )
                for span in spans
            ]
        )
    store.close()
    return home.root


def done(*arguments: str, home: Path) -> Outcome:
    """Return what a command printed; it must succeed."""
    outcome = call(*arguments, home=home)
    assert outcome.code == 0, outcome.err
    return outcome


def as_json(*arguments: str, home: Path) -> Any:
    """Return what a command printed as JSON."""
    return done(*arguments, "--json", home=home).json


def test_anything_is_measured_by_anything(recorded: Path) -> None:
    report = as_json(
        "dashboard", "measure", "cost,calls", "--by", "model", "--compare", "previous", home=recorded
    )
    rows = {row["group"]["model"]: row for row in report["rows"]}
    assert rows["pocket"]["cells"]["calls"]["value"] == 4
    lines = done("dashboard", "measure", "error_share", "--subject", "trace", "--sliced", home=recorded).out
    assert lines.startswith("from\tn\terror_share") and "%" in lines
    assert call("dashboard", "measure", "nope", home=recorded).code == 2
    assert call("dashboard", "measure", "calls", "--where", "kind:", home=recorded).code == 2


def test_a_dashboard_is_shown_panel_by_panel(recorded: Path) -> None:
    out = done("dashboard", "show", "overview", "--compare", "day", home=recorded).out
    assert "Error share: 25%" in out and "n 4" in out
    assert "handbook\t4" in out, "the table of routes"
    assert [len(as_json("dashboard", "show", "cost", home=recorded)["panels"])] == [8]


def test_dashboards_come_from_files_and_go_to_files(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "team.toml"
    file.write_text(TEAM)
    assert "written" in done("dashboard", "import", str(file), home=home.root).out
    assert "unchanged" in done("dashboard", "import", str(file), home=home.root).out
    exported = tmp_path / "team.json"
    exported.write_text(done("dashboard", "export", "team", home=home.root).out)
    assert json.loads(exported.read_text())["dashboard"][0]["title"] == "Team"
    assert as_json("dashboard", "edit", "team", "--from", str(exported), home=home.root)["version"] == 2
    assert call("dashboard", "create", "team", "--from", str(exported), home=home.root).code == 4
    done("dashboard", "create", "again", "--from", str(exported), home=home.root)
    names = [row["dashboard"] for row in as_json("dashboard", "list", home=home.root)]
    assert names[-2:] == ["again", "team"]
    done("dashboard", "delete", "again", home=home.root)
    assert call("dashboard", "delete", "overview", home=home.root).code == 2
    assert "latency_p95" in done("dashboard", "measures", home=home.root).out


def test_alerts_come_from_a_file_and_keep_their_state_while_they_are_the_same(
    home: Home, tmp_path: Path
) -> None:
    file = tmp_path / "alerts.toml"
    file.write_text(ALERTS)
    assert [row["what"] for row in as_json("alert", "import", str(file), home=home.root)] == [
        "written",
        "written",
    ]
    assert [row["what"] for row in as_json("alert", "import", str(file), home=home.root)] == ["unchanged"] * 2
    again = tmp_path / "again.json"
    again.write_text(done("alert", "export", home=home.root).out)
    assert [row["what"] for row in as_json("alert", "import", str(again), home=home.root)] == [
        "unchanged"
    ] * 2
    file.write_text("")
    assert "deleted" in done("alert", "import", str(file), "--prune", home=home.root).out
    assert as_json("alert", "list", home=home.root) == []


def test_an_alert_is_made_changed_silenced_and_deleted(home: Home) -> None:
    options = ("--measure", "latency_p95", "--above", "4000", "--recover", "3000", "--window", "10m")
    done("alert", "create", "slow", *options, "--set", "for_evaluations=3", home=home.root)
    content = as_json(
        "alert", "edit", "slow", "--above", "5000", "--unset", "for_evaluations", home=home.root
    )["rule"]["content"]
    assert content == {"measure": "latency_p95", "window_s": 600, "alert": {"above": 5000, "recover": 3000}}
    assert as_json("alert", "silence", "slow", "--for", "2h", home=home.root)["is_silenced"]
    assert "told of again" in done("alert", "silence", "slow", "--end", home=home.root).out
    assert "latency_p95 > 5000 of calls in 600 s" in done("alert", "show", "slow", home=home.root).out
    assert as_json("alert", "history", home=home.root) == []
    assert call("alert", "test", "slow", home=home.root).code == 2, "it notifies nobody"
    done("alert", "delete", "slow", home=home.root)
    missing = call("alert", "show", "slow", home=home.root)
    assert missing.code == 2 and "PS-1974" in missing.err


def test_a_rule_is_previewed_on_the_record(recorded: Path, tmp_path: Path) -> None:
    file = tmp_path / "rule.toml"
    file.write_text('measure = "error_share"\nsubject = "trace"\nwindow_s = 600\nalert = { above = 0.2 }\n')
    found = as_json("alert", "preview", "--from", str(file), home=recorded)
    assert (found["state"], found["value"], found["n"]) == ("alert", 0.25, 4)


def test_a_test_message_is_sent_at_once_where_nothing_runs(home: Home) -> None:
    with http_receiver() as received:
        done(
            *("alert", "channel", "set", "ops", "--kind", "slack", "--url", received.url),
            *("--set", "allow_private=true"),
            home=home.root,
        )
        assert "sent" in done("alert", "channel", "test", "ops", home=home.root).out
        assert "a message of Penstock" in received.bodies[0].decode()
        received.statuses = [200, 500]
        failed = call("alert", "channel", "test", "ops", home=home.root)
        assert failed.code == 5 and "answered 500" in failed.err
    assert [one["state"] for one in as_json("alert", "messages", home=home.root)] == ["pending", "sent"]
    assert as_json("alert", "channel", "list", home=home.root)[0]["content"]["kind"] == "slack"
    assert "slack" in done("alert", "channel", "show", "ops", home=home.root).out
    done("alert", "channel", "delete", "ops", home=home.root)


def test_a_secret_names_the_address_and_its_host(home: Home) -> None:
    with http_receiver() as received:
        done("alert", "channel", "set", "env", "--kind", "slack", "--url-env", "PENSTOCK_ALERT_URL",
             "--set", "allow_private=true", home=home.root)  # fmt: skip
        missing = call("alert", "channel", "test", "env", home=home.root)
        assert missing.code == 5 and "PENSTOCK_ALERT_URL is not set" in missing.err
        sent = call("alert", "messages", "--retry", json.loads(
            call("alert", "messages", "--json", home=home.root).out)[0]["id"],
            home=home.root, PENSTOCK_ALERT_URL=received.url)  # fmt: skip
        assert sent.code == 0, sent.err
    assert len(received.bodies) == 1


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800), ("4w", 2_419_200)]
)
def test_lengths_are_written_as_people_say_them(text: str, seconds: int) -> None:
    assert read_length_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "2", "h", "2 h", "-2h", "1y"])
def test_other_lengths_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_length_s(text)


def test_moments_are_days_times_or_so_long_ago() -> None:
    day = 86_400 * 10**9
    assert read_moment_ns("1d", now_ns=5 * day) == 4 * day
    assert read_moment_ns("1970-01-03", now_ns=0) == 2 * day
    assert read_moment_ns("1970-01-03T01:00+01:00", now_ns=0) == 2 * day
    with pytest.raises(InvalidInput):
        read_moment_ns("soon", now_ns=0)
    with pytest.raises(InvalidInput):
        read_window("1h", "2h", length_s=60)
