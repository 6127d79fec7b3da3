"""Configuration objects: one owner each, checked as a whole, published, remembered, and gone back to."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from penstock.base.errors import InvalidInput
from penstock.deploy.configuration import ConfigurationService, UnknownVersion
from penstock.deploy.objects import (
    ObjectChanged,
    ObjectExists,
    ObjectInvalid,
    ObjectOwnedElsewhere,
    UnknownObject,
)
from penstock.deploy.snapshots import read_snapshot
from penstock.main.errors import SettingsInvalid
from penstock.main.rooms import Rooms
from penstock.spec.home import Home
from penstock.spec.snapshot import Snapshot

FAR = {"base_url": "http://127.0.0.1:9/v1"}
ROUTE = {"targets": [{"provider": "far", "model": "m"}]}
RULE = {"scope": "project", "unit": "usd", "amount": "12.50", "window": "month"}


@pytest.fixture
def rooms(home: Home, migrated_sqlite: Path) -> Iterator[Rooms]:
    shutil.copy(migrated_sqlite, home.control_db)
    opened = Rooms(home, environ={}, keeps_running=True)
    yield opened
    opened.close()


@pytest.fixture
def configuration(rooms: Rooms) -> ConfigurationService:
    return rooms.configuration


def put(configuration: ConfigurationService, kind: Any, name: str, content: Any, **options: Any) -> Any:
    return configuration.put(kind, name, content, actor="ada", **options)


def published(rooms: Rooms) -> Snapshot:
    return read_snapshot(rooms.home.snapshot)


def routes(rooms: Rooms) -> set[str]:
    return {route.name for route in published(rooms).routes}


def test_an_object_is_kept_published_and_shown_with_its_owner(
    rooms: Rooms, configuration: ConfigurationService
) -> None:
    view = put(configuration, "provider", "far", FAR)
    assert (view.owner, view.version, view.actor, view.content) == ("database", 1, "ada", FAR)
    put(configuration, "route", "team/fast", ROUTE)
    put(configuration, "limit", "team", RULE)
    put(configuration, "price", "far/m*", {"input_uncached": "0.10"})
    snapshot = published(rooms)
    assert {"team/fast", "far/*"} <= routes(rooms)
    assert str(snapshot.limit_rules[0].amount) == "12.50"
    assert str(snapshot.prices[0].usd_per_million["input_uncached"]) == "0.10"
    owners = {view.name: view.owner for view in configuration.list("provider")}
    assert owners == {"apps": "built in", "engine": "built in", "far": "database"}
    assert configuration.get("route", "team/fast").row["targets"] == ROUTE["targets"]
    with pytest.raises(UnknownObject, match="Did you mean 'team/fast'"):
        configuration.get("route", "team/fats")


def test_what_a_gateway_could_not_be_given_is_refused_and_nothing_changes(
    rooms: Rooms, configuration: ConfigurationService
) -> None:
    put(configuration, "provider", "far", FAR)
    put(configuration, "route", "fast", ROUTE)
    before = rooms.home.snapshot.read_bytes()
    n_versions = len(configuration.history())
    wrong: list[tuple[Any, str, Any, type[Exception]]] = [
        ("route", "other", {"targets": [{"provider": "nobody", "model": "m"}]}, SettingsInvalid),
        ("route", "fast", {**ROUTE, "fallbacks": [{"route": "fast"}]}, SettingsInvalid),
        ("provider", "far", {"base_url": "http://169.254.169.254/v1"}, SettingsInvalid),
        ("provider", "far", {**FAR, "secret": "none"}, SettingsInvalid),
        ("provider", "engine", FAR, SettingsInvalid),
        ("provider", "far", {"base_ulr": "x"}, ObjectInvalid),
        ("limit", "x", {**RULE, "amount": 0}, SettingsInvalid),
        ("engine", "x", {}, InvalidInput),
    ]
    for kind, name, content, error in wrong:
        with pytest.raises(error):
            put(configuration, kind, name, content)
    with pytest.raises(SettingsInvalid, match="names the provider 'far'"):
        configuration.delete("provider", "far", actor="ada")
    assert rooms.home.snapshot.read_bytes() == before
    assert len(configuration.history()) == n_versions
    assert configuration.get("provider", "far").content == FAR
    assert configuration.get("route", "fast").version == 1


def test_a_change_on_top_of_somebody_elses_is_refused(configuration: ConfigurationService) -> None:
    put(configuration, "provider", "far", FAR)
    put(configuration, "provider", "far", {**FAR, "timeout_s": 5.0}, expected_version=1)
    with pytest.raises(ObjectChanged, match="ada made it version 2"):
        put(configuration, "provider", "far", {**FAR, "timeout_s": 9.0}, expected_version=1)
    with pytest.raises(ObjectChanged):
        configuration.delete("provider", "far", actor="bob", expected_version=1)
    with pytest.raises(ObjectExists):
        put(configuration, "provider", "far", FAR, is_new=True)
    with pytest.raises(ObjectChanged, match="it is not there"):
        put(configuration, "provider", "near", FAR, expected_version=3)
    assert configuration.get("provider", "far").content == {**FAR, "timeout_s": 5.0}
    configuration.delete("provider", "far", actor="bob", expected_version=2)
    with pytest.raises(UnknownObject):
        configuration.delete("provider", "far", actor="bob")


def test_of_many_changes_at_once_one_wins_each_version(configuration: ConfigurationService) -> None:
    put(configuration, "provider", "far", FAR)
    outcomes: list[str] = []

    def change(seconds: float) -> None:
        try:
            put(configuration, "provider", "far", {**FAR, "timeout_s": seconds}, expected_version=1)
            outcomes.append("changed")
        except ObjectChanged:
            outcomes.append("refused")

    threads = [threading.Thread(target=change, args=(float(number),)) for number in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["changed", *["refused"] * 4]


def test_what_stands_in_the_file_is_changed_there(rooms: Rooms, configuration: ConfigurationService) -> None:
    rooms.home.settings.write_text('\n[providers.far]\nbase_url = "http://127.0.0.1:9/v1"\n')
    with pytest.raises(ObjectOwnedElsewhere, match=r"stands in penstock\.toml on line 2"):
        put(configuration, "provider", "far", FAR)
    with pytest.raises(ObjectOwnedElsewhere, match="line 2"):
        configuration.delete("provider", "far", actor="ada")
    with pytest.raises(ObjectOwnedElsewhere, match="line 2"):
        configuration.get_stored("provider", "far")
    with pytest.raises(ObjectOwnedElsewhere, match="line 2"):
        configuration.validate("provider", "far", FAR)
    view = configuration.get("provider", "far")
    assert (view.owner, view.line, view.version, view.content) == ("settings", 2, None, None)
    put(configuration, "route", "fast", ROUTE)  # an object may point to what the file keeps


def test_what_comes_by_itself_is_not_deleted_but_may_be_replaced(home: Home, migrated_sqlite: Path) -> None:
    shutil.copy(migrated_sqlite, home.control_db)
    rooms = Rooms(home, environ={"OPENAI_API_KEY": "sk-x"})
    with pytest.raises(ObjectOwnedElsewhere, match="comes from the environment"):
        rooms.configuration.delete("provider", "openai", actor="ada")
    with pytest.raises(ObjectOwnedElsewhere, match="is built in"):
        rooms.configuration.delete("route", "lexical", actor="ada")
    view = put(rooms.configuration, "provider", "openai", {"timeout_s": 5.0})
    assert (view.owner, view.row["api_key_env"]) == ("database", "OPENAI_API_KEY")
    rooms.configuration.delete("provider", "openai", actor="ada")
    assert rooms.configuration.get("provider", "openai").owner == "environment"
    rooms.close()


def test_of_one_name_in_both_places_the_file_wins_and_it_is_said(
    rooms: Rooms, configuration: ConfigurationService
) -> None:
    put(configuration, "provider", "far", FAR)
    rooms.home.settings.write_text('[providers.far]\nbase_url = "http://127.0.0.1:8/v1"\n')
    snapshot = rooms.take_up_settings()
    assert next(row.base_url for row in snapshot.providers if row.name == "far").endswith(":8/v1")
    assert "provider 'far' is in the settings file (line 1) and in the database" in rooms.warnings
    assert configuration.pending().warnings
    configuration.delete("provider", "far", actor="ada")  # the way out
    assert rooms.warnings == ""


def test_a_change_of_the_file_that_objects_do_not_fit_is_refused_as_a_whole(
    rooms: Rooms, configuration: ConfigurationService
) -> None:
    rooms.home.settings.write_text('[providers.far]\nbase_url = "http://127.0.0.1:9/v1"\n')
    put(configuration, "route", "fast", ROUTE)
    before = rooms.home.snapshot.read_bytes()
    rooms.home.settings.write_text("")
    with pytest.raises(
        SettingsInvalid, match=r"route 'fast' \(database\): its target names the provider 'far'"
    ):
        rooms.take_up_settings()
    assert rooms.home.snapshot.read_bytes() == before


def test_a_dry_run_says_what_would_change_and_changes_nothing(
    rooms: Rooms, configuration: ConfigurationService
) -> None:
    put(configuration, "provider", "far", FAR)
    before = rooms.home.snapshot.read_bytes()
    draft = configuration.validate("route", "fast", {**ROUTE, "retry": {"max_attempts": 5}})
    assert [(change.action, change.kind, change.name) for change in draft.changes] == [
        ("added", "route", "fast")
    ]
    with pytest.raises(SettingsInvalid):
        configuration.validate("provider", "far", {"base_url": "http://169.254.169.254/"})
    assert [change.action for change in configuration.validate("provider", "far", None).changes] == [
        "removed",
        "removed",  # its open route goes too
    ]
    assert rooms.home.snapshot.read_bytes() == before
    assert len(configuration.history()) == 1


def test_every_published_configuration_is_numbered_with_who_and_why(
    rooms: Rooms, configuration: ConfigurationService
) -> None:
    put(configuration, "provider", "far", FAR, note="try it")
    rooms.publish_snapshot()  # nothing changed: no version
    put(configuration, "provider", "far", {**FAR, "timeout_s": 5.0})
    rooms.home.settings.write_text("[limits]\nmax_json_depth = 32\n")
    rooms.take_up_settings()
    told = [(version.number, version.actor, version.note) for version in configuration.history()]
    assert told == [(3, "penstock", "settings file"), (2, "ada", "edit provider far"), (1, "ada", "try it")]
    (change,) = configuration.diff(1, 2)
    assert (change.kind, change.name, change.action) == ("provider", "far", "changed")
    assert [(field.path, field.before, field.after) for field in change.fields] == [("timeout_s", None, 5.0)]
    (change,) = configuration.diff(2)
    assert (change.kind, change.fields[0].path, change.fields[0].after) == ("settings", "max_json_depth", 32)
    with pytest.raises(UnknownVersion):
        configuration.diff(1, 9)
    assert configuration.history(limit=1, before=3)[0].number == 2


def test_a_pending_change_of_the_file_is_seen_before_it_is_published(
    rooms: Rooms, configuration: ConfigurationService
) -> None:
    rooms.publish_snapshot()
    rooms.home.settings.write_text('[providers.far]\nbase_url = "http://127.0.0.1:9/v1"\n')
    assert {(change.action, change.name) for change in configuration.pending().changes} == {
        ("added", "far"),
        ("added", "far/*"),
    }
    rooms.publish_snapshot()
    assert configuration.pending().changes == ()


@pytest.mark.parametrize(
    "damage", ["[routes\n", '[routes.r]\ntargets = [{provider = "nobody", model = "m"}]\n']
)
def test_a_file_that_would_be_refused_is_no_pending_change(
    rooms: Rooms, configuration: ConfigurationService, damage: str
) -> None:
    rooms.publish_snapshot()
    rooms.home.settings.write_text(damage)
    with pytest.raises(SettingsInvalid):
        configuration.pending()
    assert configuration.pending(by_last_good=True).changes == ()


def test_what_does_not_fit_the_file_is_told_of_the_file_that_people_know(
    rooms: Rooms, configuration: ConfigurationService
) -> None:
    rooms.publish_snapshot()
    empty = configuration.history()[0].number
    put(configuration, "provider", "far", FAR)
    rooms.home.settings.write_text('[routes.r]\ntargets = [{provider = "far", model = "m"}]\n')
    rooms.take_up_settings()
    for change in (
        lambda: configuration.rollback(empty, actor="ada"),
        lambda: configuration.check_rollback(empty),
        lambda: configuration.delete("provider", "far", actor="ada"),
    ):
        with pytest.raises(SettingsInvalid) as refused:
            change()
        assert str(rooms.home.settings) in refused.value.message
        assert "good.toml" not in refused.value.message


def test_going_back_can_be_tried(rooms: Rooms, configuration: ConfigurationService) -> None:
    put(configuration, "provider", "far", FAR)
    wanted = configuration.history()[0].number
    put(configuration, "route", "fast", ROUTE)
    put(configuration, "limit", "team", RULE)
    before, n_published = rooms.home.snapshot.read_bytes(), len(configuration.history())
    draft = configuration.check_rollback(wanted)
    assert {(change.kind, change.name, change.action) for change in draft.changes} == {
        ("route", "fast", "removed"),
        ("limit", "team", "removed"),
    }
    assert (rooms.home.snapshot.read_bytes(), len(configuration.history())) == (before, n_published)
    assert configuration.get("route", "fast").content == ROUTE
    assert configuration.rollback(wanted, actor="ada").restored == draft.changes
    with pytest.raises(UnknownVersion):
        configuration.check_rollback(99)


def test_going_back_restores_objects_and_names_what_else_differs(
    rooms: Rooms, configuration: ConfigurationService
) -> None:
    put(configuration, "provider", "far", FAR)
    put(configuration, "route", "fast", ROUTE)
    wanted = configuration.history()[0].number
    put(configuration, "route", "fast", {**ROUTE, "deadline_s": 9.0})
    put(configuration, "route", "extra", ROUTE)
    configuration.delete("route", "extra", actor="ada")
    put(configuration, "limit", "team", RULE)
    rooms.home.settings.write_text("[limits]\nmax_json_depth = 32\n")
    rooms.take_up_settings()
    done = configuration.rollback(wanted, actor="bob")
    assert {(change.kind, change.name, change.action) for change in done.restored} == {
        ("route", "fast", "changed"),
        ("limit", "team", "removed"),
    }
    assert [(change.kind, change.name) for change in done.remaining] == [("settings", "limits")]
    assert done.version is not None
    assert (done.version.actor, done.version.note) == ("bob", f"roll back to {wanted}")
    assert published(rooms).limit_rules == ()
    assert configuration.get("route", "fast").content == ROUTE
    again = configuration.rollback(wanted, actor="bob")
    assert again.restored == ()


def test_going_back_to_what_no_longer_fits_is_refused(
    rooms: Rooms, configuration: ConfigurationService
) -> None:
    rooms.home.settings.write_text('[providers.far]\nbase_url = "http://127.0.0.1:9/v1"\n')
    put(configuration, "route", "fast", ROUTE)
    wanted = configuration.history()[0].number
    configuration.delete("route", "fast", actor="ada")
    rooms.home.settings.write_text("")
    rooms.take_up_settings()
    before = rooms.home.snapshot.read_bytes()
    with pytest.raises(SettingsInvalid, match="names the provider 'far'"):
        configuration.rollback(wanted, actor="ada")
    assert rooms.home.snapshot.read_bytes() == before
    assert "fast" not in routes(rooms)


def test_no_secret_stands_in_history_snapshot_or_diff(
    rooms: Rooms, configuration: ConfigurationService
) -> None:
    rooms.secrets.create("mine", "sk-upstream-secret", url=FAR["base_url"], actor="ada")
    made = rooms.keys.create("client")
    rooms.keys.rotate(made.id, overlap_s=60)
    put(configuration, "provider", "far", {**FAR, "secret": "mine"})
    rooms.secrets.rotate("mine", "sk-second-secret", actor="ada")
    rooms.publish_snapshot()
    number = configuration.history()[0].number
    with rooms.engine.connect() as connection:
        kept = str(connection.execute(text("SELECT * FROM config_versions")).all())
    told = kept + str(configuration.diff(number - 1)) + rooms.home.snapshot.read_text()
    assert "sk-" not in told
    assert made.key not in told
    (row,) = [key for key in rooms.keys.rows() if key.id == made.id]
    assert row.previous_sha256 is not None
    assert row.secret_sha256 not in kept
    assert row.previous_sha256 not in kept
    assert rooms.secrets.sealed()["mine"] not in kept
    (change,) = configuration.diff(number - 1, number)
    assert (change.kind, change.name, change.action) == ("secret", "mine", "changed")
    assert rooms.users_of_secret("mine") == ["far"]


def test_that_a_text_was_replaced_is_told_and_nothing_of_it(
    rooms: Rooms, configuration: ConfigurationService
) -> None:
    rooms.publish_snapshot()
    made = rooms.keys.create("client")
    rooms.secrets.create("mine", "sk-upstream-secret", url=FAR["base_url"], actor="ada")
    rooms.publish_snapshot()
    number = configuration.history()[0].number
    rooms.keys.rotate(made.id, overlap_s=0)
    rooms.secrets.rotate("mine", "sk-second-secret", actor="ada")
    replaced = configuration.diff(number)
    assert [(change.kind, change.name) for change in replaced] == [("key", made.id), ("secret", "mine")]
    assert all(field.is_hidden for change in replaced for field in change.fields)
    assert [field.path for change in replaced for field in change.fields] == ["text", "seal"]
    rooms.publish_snapshot()
    rolled = configuration.rollback(number, actor="ada")
    assert rolled.remaining == replaced
    shown = [configuration.diff(number - 1), replaced, configuration.version(number)[1]["keys"],
             configuration.version(number)[1]["secrets"]]  # fmt: skip
    assert "sha256" not in str(shown)


def test_a_provider_that_moves_does_not_take_its_secret_along(
    rooms: Rooms, configuration: ConfigurationService
) -> None:
    rooms.secrets.create("mine", "sk-x", url=FAR["base_url"], actor="ada")
    put(configuration, "provider", "far", {**FAR, "secret": "mine"})
    moved = {"base_url": "http://127.0.0.1:8/v1", "secret": "mine"}
    with pytest.raises(SettingsInvalid, match="was entered for http:"):
        put(configuration, "provider", "far", moved)
    rooms.secrets.create("mine-2", "sk-x", url="http://127.0.0.1:8", actor="ada")
    put(configuration, "provider", "far", {**moved, "secret": "mine-2"})


def test_objects_are_changed_while_the_file_is_damaged(
    rooms: Rooms, configuration: ConfigurationService
) -> None:
    rooms.home.settings.write_text('[providers.far]\nbase_url = "http://127.0.0.1:9/v1"\n')
    rooms.publish_snapshot()
    rooms.home.settings.write_text("[oops")
    put(configuration, "route", "fast", ROUTE)
    assert "fast" in routes(rooms)


def test_ports_of_own_processes_are_no_change(rooms: Rooms, configuration: ConfigurationService) -> None:
    rooms.publish_snapshot()
    _, content = configuration.version(1)
    assert "base_url" not in content["providers"]["engine"]
    assert json.dumps(content)


def test_objects_and_history_work_the_same_on_both_databases(control_engine: Engine, home: Home) -> None:
    rooms = Rooms(home, environ={})
    rooms.__dict__["engine"] = control_engine
    put(rooms.configuration, "provider", "far", FAR)
    put(rooms.configuration, "price", "far/m", {"output_text": 1.25}, expected_version=0)
    put(rooms.configuration, "provider", "far", {**FAR, "timeout_s": 5.0}, expected_version=1)
    rooms.configuration.delete("price", "far/m", actor="ada")
    assert [version.number for version in rooms.configuration.history()] == [4, 3, 2, 1]
    done = rooms.configuration.rollback(2, actor="ada")
    assert len(done.restored) == 2
    assert str(published(rooms).prices[0].usd_per_million["output_text"]) == "1.25"


def test_a_warning_goes_once_somebody_else_has_mended_it(
    rooms: Rooms, configuration: ConfigurationService
) -> None:
    put(configuration, "provider", "far", FAR)
    rooms.home.settings.write_text('[providers.far]\nbase_url = "http://127.0.0.1:8/v1"\n')
    rooms.take_up_settings()
    assert "the file wins" in rooms.look_again()
    other = Rooms(rooms.home, environ={})
    other.configuration.delete("provider", "far", actor="bob")
    other.close()
    assert rooms.look_again() == ""
