"""`penstock provider`, `route`, `limit`, `price`, `secret`, `config` and the later verbs of `key`."""

import io
import json
import shutil
import sys
from pathlib import Path
from unittest import mock

import pytest

from penstock.base.errors import InvalidInput
from penstock.cli.key import read_duration, read_moment
from penstock.cli.objects import read_setting
from penstock.main.rooms import Rooms
from penstock.spec.home import Home
from tests.cli.commands import Outcome, call

URL = "http://127.0.0.1:9/v1"


@pytest.fixture
def run(home: Home, migrated_sqlite: Path) -> "Runner":
    shutil.copy(migrated_sqlite, home.control_db)
    return Runner(home)


class Runner:
    """Commands on one home; each must end well unless its exit code is named."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def __call__(self, *arguments: str, code: int = 0, stdin: str = "", **variables: str) -> Outcome:
        with mock.patch.object(sys, "stdin", io.StringIO(stdin)):
            outcome = call(*arguments, home=self.home.root, **variables)
        assert outcome.code == code, outcome
        return outcome


def test_an_object_is_created_edited_shown_and_deleted(run: Runner) -> None:
    run("provider", "create", "far", "--base-url", URL, "--set", "headers.x-team=search")
    run("route", "create", "fast", "--target", "far/m:8b,weight=2", "--target", "far/n,tier=1")
    run("route", "edit", "fast", "--set", "retry.max_attempts=5", "--set", "on_loss=refuse")
    content = run("route", "show", "fast", "--json").json["content"]
    assert content == {
        "targets": [
            {"provider": "far", "model": "m:8b", "weight": 2},
            {"provider": "far", "model": "n", "tier": 1},
        ],
        "retry": {"max_attempts": 5},
        "on_loss": "refuse",
    }
    run("route", "edit", "fast", "--unset", "on_loss", "--unset", "retry.max_attempts")
    content = run("route", "show", "fast", "--json").json["content"]
    assert (content["retry"], "on_loss" in content) == ({}, False)
    listed = {row["name"]: row["owner"] for row in run("route", "list", "--json").json}
    assert listed == {"fast": "database", "far/*": "database", "lexical": "built in"}
    refused = run("provider", "delete", "far", code=2)
    assert "route 'fast' (database): its target names the provider 'far'" in refused.err
    run("route", "delete", "fast")
    run("provider", "delete", "far")
    assert "There is no provider 'far'" in run("provider", "show", "far", code=2).err


def test_how_a_key_is_sent_is_always_shown(run: Runner) -> None:
    for name, dialect, auth in (("one", "anthropic", "x-api-key"), ("two", "openai", "bearer")):
        run("provider", "create", name, "--base-url", URL, "--dialect", dialect, "--api-key-env", "FAR_KEY")
        assert f"auth\t{auth}\n" in run("provider", "show", name).out
        assert run("provider", "show", name, "--json").json["row"]["auth"] == auth


def test_limits_and_prices_have_options_of_their_own(run: Runner) -> None:
    run(
        "limit",
        "create",
        "team",
        "--scope",
        "project",
        "--unit",
        "usd",
        "--amount",
        "50",
        "--window",
        "month",
    )
    run("limit", "edit", "team", "--amount", "80.25", "--match", "search")
    (row,) = run("limit", "list", "--json").json
    assert (row["for"], row["amount"], row["version"]) == ("project search", "80.25 usd a month", 2)
    price = (
        "price",
        "create",
        "far/m*",
        "--input",
        "0.20",
        "--output",
        "0.6",
        "--set",
        "input_cache_read=0.02",
    )
    for told in (run(*price, "--check").out, run(*price).out):
        assert "note: input_cache_write, " in told
    (row,) = run("price", "list", "--json").json
    assert row["row"]["usd_per_million"] == {
        "input_uncached": "0.20",
        "input_cache_read": "0.02",
        "output_text": "0.6",
    }
    run("limit", "delete", "team")
    run("price", "delete", "far/m*")
    assert run("limit", "list", "--json").json == run("price", "list", "--json").json == []


def test_a_document_says_an_object_too(run: Runner, tmp_path: Path) -> None:
    file = tmp_path / "far.toml"
    file.write_text(f'base_url = "{URL}"\ntimeout_s = 5.0\n')
    run("provider", "create", "far", "--from", str(file), "--set", "timeout_s=9")
    route = {"targets": [{"provider": "far", "model": "m"}]}
    run("route", "create", "fast", "--from", "-", stdin=json.dumps(route))
    assert run("provider", "show", "far", "--json").json["content"] == {"base_url": URL, "timeout_s": 9}
    assert "neither JSON nor TOML" in run("route", "create", "x", "--from", "-", code=2, stdin="{").err


def test_a_check_changes_nothing(run: Runner) -> None:
    out = run("provider", "create", "far", "--base-url", URL, "--check").out
    assert "+ provider far" in out
    assert not [row for row in run("provider", "list", "--json").json if row["name"] == "far"]


def test_a_wrong_value_is_told_by_its_key_and_exits_2(run: Runner) -> None:
    for arguments, words in [
        (("provider", "create", "far", "--base-url", "x"), "base_url: must be an address"),
        (("provider", "create", "far", "--set", "base_ulr=x"), "Did you mean 'base_url'"),
        (("provider", "create", "far", "--set", "nonsense"), "is not KEY=VALUE"),
        (("route", "create", "r", "--target", "far"), "is not PROVIDER/MODEL"),
        (("limit", "create", "x", "--scope", "team"), "scope"),
        (("limit", "show", "x"), "There is no limit 'x'"),
        (("config", "diff"), "Which version?"),
        (("config", "rollback", "7"), "No configuration was published as number 7"),
        (("config", "plan", "--file", "/nowhere.toml"), "There is no file"),
        (("key", "rotate", "key_x", "--overlap", "soon"), "is no length of time"),
    ]:
        assert words in run(*arguments, code=2).err, arguments


def test_what_the_file_keeps_is_named_with_its_line_and_exits_4(run: Runner) -> None:
    run.home.settings.write_text(f'# mine\n[providers.far]\nbase_url = "{URL}"\n')
    for arguments in [
        ("provider", "edit", "far", "--set", "timeout_s=5"),
        ("provider", "delete", "far"),
        ("provider", "create", "far", "--base-url", URL),
    ]:
        assert "stands in penstock.toml on line 2" in run(*arguments, code=4).err, arguments
    assert run("provider", "show", "far", "--json").json["line"] == 2


def test_history_diff_and_rollback_work_while_nothing_runs(run: Runner) -> None:
    run("provider", "create", "far", "--base-url", URL, "--note", "first try")
    run("provider", "edit", "far", "--set", "timeout_s=5")
    versions = run("config", "history", "--json").json
    assert [(row["version"], row["note"]) for row in versions] == [(2, "edit provider far"), (1, "first try")]
    assert "timeout_s: unset → 5.0" in run("config", "diff", "1", "2").out
    assert "~ provider far" in run("config", "rollback", "1", "--check").out
    assert len(run("config", "history", "--json").json) == 2
    done = run("config", "rollback", "1", "--json").json
    assert (done["version"], done["remaining"]) == (3, [])
    assert "no difference" in run("config", "diff", "1", "3").out
    assert "nothing changes" in run("config", "diff", "--pending").out
    run.home.settings.write_text("[limits]\nmax_json_depth = 32\n")
    assert "limits.max_json_depth" not in run("config", "plan").out
    assert "max_json_depth: unset → 32" in run("config", "plan").out
    other = run.home.root / "next.toml"
    other.write_text("[limits]\nmax_json_depth = 16\n")
    assert "max_json_depth: unset → 16" in run("config", "plan", "--file", str(other)).out
    assert len(run("config", "history", "--json").json) == 3
    run.home.settings.write_text('[routes.r]\ntargets = [{provider = "nobody", model = "m"}]\n')
    for command in (("config", "plan"), ("config", "diff", "--pending")):
        assert "nobody" in run(*command, code=2).err


def test_a_diff_repeats_no_names_and_writes_moments(run: Runner) -> None:
    run("provider", "create", "far", "--base-url", URL)
    run("price", "create", "far/m*", "--input", "0.20")
    run("key", "create", "--name", "ci", "--expires", "2101-01-31")
    told = run("config", "diff", "1").out
    assert "+ price far/m*\n    usd_per_million" in told
    assert "expires_ns: unset → 2101-01-31" in told
    assert "    name: " not in told


def test_check_tells_of_names_that_are_in_both_places(run: Runner) -> None:
    run("provider", "create", "far", "--base-url", URL)
    run.home.settings.write_text(f'[providers.far]\nbase_url = "{URL}"\n')
    warnings = run("config", "check", "--json").json["warnings"]
    assert any("in the settings file (line 1) and in the database" in text for text in warnings)


def test_a_secret_comes_from_input_variable_or_file_and_never_shows(run: Runner, tmp_path: Path) -> None:
    run("provider", "create", "far", "--base-url", URL)
    file = tmp_path / "key.txt"
    file.write_text("sk-from-file\n")
    told = [
        run("secret", "set", "one", "--provider", "far", stdin="sk-from-input\n"),
        run("secret", "set", "two", "--url", URL, "--from-env", "MINE", MINE="sk-from-env"),
        run("secret", "set", "three", "--provider", "openai", "--from-file", str(file)),
        run("secret", "rotate", "one", stdin="sk-second"),
        run("provider", "edit", "far", "--secret", "one"),
        run("provider", "show", "far", "--json"),
        run("secret", "list", "--json"),
        run("secret", "rekey"),
        run("config", "history", "--json"),
    ]
    assert "sk-" not in "".join(outcome.out + outcome.err for outcome in told)
    assert "sk-" not in run.home.snapshot.read_text()
    listed = {row["secret"]: row["for"] for row in told[6].json}
    assert listed == {
        "one": "http://127.0.0.1:9",
        "two": "http://127.0.0.1:9",
        "three": "https://api.openai.com",
    }
    assert "sealed 3 secrets" in told[7].out
    assert "is used by far" in run("secret", "delete", "one", code=4).err
    run("secret", "delete", "two")
    assert "whom the secret is for" in run("secret", "set", "x", code=2, stdin="y").err
    assert "is not set" in run("secret", "set", "x", "--url", URL, "--from-env", "NONE", code=2).err


def test_a_key_expires_changes_and_rotates(run: Runner) -> None:
    made = run(
        "key", "create", "--name", "ci", "--expires", "90d", "--user", "ada", "--rpm", "5", "--json"
    ).json
    shown = run("key", "show", made["id"], "--json").json
    assert (shown["state"], shown["user"], shown["expires"] > shown["created"]) == ("active", "ada", True)
    changed = run(
        "key", "edit", made["id"], "--rpm", "9", "--clear", "expires", "--clear", "user", "--json"
    ).json
    assert (changed["requests_per_minute"], changed["expires"], changed["user"]) == (9, None, None)
    fresh = run("key", "rotate", made["id"], "--overlap", "24h", "--json").json
    assert fresh["id"] == made["id"]
    number = run("config", "history", "--json").json[1]["version"]
    difference = run("config", "diff", str(number)).out
    assert "    text: changed\n" in difference
    assert "sha256" not in difference
    rooms = Rooms(run.home, environ={})
    assert rooms.keys.verify(made["key"]) == rooms.keys.verify(fresh["key"]) is not None
    rooms.close()
    assert "cannot be cleared" in run("key", "edit", made["id"], "--clear", "name", code=2).err


def test_a_key_goes_by_its_name_while_that_tells_which(run: Runner) -> None:
    first = run("key", "create", "--name", "ci", "--json").json["id"]
    assert run("key", "rotate", "ci", "--json").json["id"] == first
    assert run("config", "history", "--json").json[0]["note"] == f"rotate key ci ({first})"
    second = run("key", "create", "--name", "ci", "--json").json["id"]
    refused = run("key", "revoke", "ci", code=2).err
    assert first in refused and second in refused
    run("key", "revoke", first)
    assert run("key", "show", "ci", "--json").json["id"] == second, "the one that is not revoked"
    assert "There is no key 'di'" in run("key", "show", "di", code=2).err


def test_a_provider_is_tested_through_a_running_gateway_only(run: Runner) -> None:
    run("provider", "create", "far", "--base-url", URL)
    assert "No Penstock runs" in run("provider", "test", "far", code=2).err
    assert "There is no provider 'near'" in run("provider", "test", "near", code=2).err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=5", {"a": 5}),
        ("a.b=true", {"a": {"b": True}}),
        ("a=text of words", {"a": "text of words"}),
        ('a="5"', {"a": "5"}),
        ("on=['connect']", {"on": ["connect"]}),
        ('headers."x.y"=1=2', {"headers": {"x.y": "1=2"}}),
    ],
)
def test_a_setting_is_read_as_toml_else_as_text(text: str, value: object) -> None:
    assert read_setting(text) == value


def test_lengths_of_time_and_dates_are_read() -> None:
    assert [read_duration(text) for text in ("90s", "30m", "24h", "7d", "2w")] == [
        90,
        1800,
        86_400,
        604_800,
        1_209_600,
    ]
    assert read_moment("1h", clock=lambda: 5) == 3_600_000_000_005
    assert read_moment("1970-01-02") == 86_400 * 10**9
    assert read_moment("1970-01-01T01:00:00+01:00") == 0
    for text in ("", "7", "d", "1.5h", "tomorrow"):
        with pytest.raises(InvalidInput):
            read_moment(text)


def test_a_secret_for_a_cloud_is_for_the_host_that_its_variables_name(run: Runner) -> None:
    refused = run("secret", "set", "aws", "--provider", "bedrock", code=2, stdin="x")
    assert "needs the variable AWS_REGION" in refused.err
    run("secret", "set", "aws", "--provider", "bedrock", stdin="id:secret", AWS_REGION="eu-central-1")
    (row,) = run("secret", "list", "--json").json
    assert row["for"] == "https://bedrock-runtime.eu-central-1.amazonaws.com"
