"""What pages suggest: questions that find an answer, commands that reach this home, names that say what ran."""

import json
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest

from penstock.base.clock import now_ns
from penstock.console.cards import parse_card
from penstock.console.formats import format_calls, name_job
from penstock.console.pages.playground import EXAMPLES
from penstock.console.rendering import asset_url
from penstock.spec.home import DEFAULT_ROOT, Home
from tests.console.conftest import make_app, sign_in
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished, make_failure


def test_suggested_questions_are_in_the_words_that_the_handbook_is_known_to_answer() -> None:
    lines = (files("penstock.data") / "handbook" / "questions.jsonl").read_text().splitlines()
    answered = {each["question"] for each in map(json.loads, lines) if each["answer"]}
    assert set(EXAMPLES) <= answered


def test_questions_are_suggested_while_the_handbook_is_chosen(visitor: AsgiClient) -> None:
    asked = visitor.get("/playground").text
    assert all(question in asked for question in EXAMPLES)
    assert re.search(r'data-examples="handbook"(?! hidden)', asked)
    other = visitor.get("/playground?model=pocket").text
    assert "<span data-asked>pocket</span>" in other
    assert 'data-examples="handbook" hidden' in other


def test_a_home_without_the_handbook_gets_no_question_about_it(furnished: Furnished) -> None:
    snapshot = furnished.services.read_snapshot()
    assert snapshot is not None
    routes = tuple(route for route in snapshot.routes if route.name != "handbook")
    left = msgspec.structs.replace(snapshot, routes=routes)
    services = replace(furnished.services, read_snapshot=lambda: left)
    client = sign_in(AsgiClient(make_app(replace(furnished, services=services))), furnished.owner_key)
    text = client.get("/playground").text
    assert "<span data-asked>pocket</span>" in text
    assert "data-example" not in text


@pytest.mark.parametrize("path", ["/", "/traces", "/knowledge", "/assets", "/jobs", "/playground"])
def test_a_command_on_a_page_names_the_home_when_it_is_not_the_default(
    unfurnished: Furnished, path: str
) -> None:
    services = replace(unfurnished.services, home_option=" --home '/srv/my ai'")
    client = sign_in(AsgiClient(make_app(replace(unfurnished, services=services))), unfurnished.owner_key)
    commands = re.findall(r"<pre><code>(penstock [^<]+)</code>", client.get(path).text)
    assert commands
    assert all(command.endswith(" --home &#39;/srv/my ai&#39;") for command in commands)


def test_only_a_home_elsewhere_must_be_named() -> None:
    assert Home(root=DEFAULT_ROOT.expanduser()).option == ""
    assert Home(root=Path("/srv/ai")).option == " --home /srv/ai"
    assert Home(root=Path("/srv/my ai")).option == " --home '/srv/my ai'"


def test_a_job_is_named_by_what_it_does_and_to_what(visitor: AsgiClient, house: Furnished) -> None:
    listed = visitor.get("/jobs").text
    assert ">knowledge.ingest handbook</a>" in listed
    assert ">model.pull minilm</a>" in listed
    assert "<h1>knowledge.ingest handbook</h1>" in visitor.get(f"/jobs/{house.job_id}").text
    assert name_job("sweep", {"name": 3}) == name_job("sweep", {}) == "sweep"


def test_keys_show_no_column_that_nothing_fills(visitor: AsgiClient) -> None:
    assert "Last used" not in visitor.get("/keys").text


def test_a_table_of_a_card_is_a_table() -> None:
    (block,) = parse_card("| | F1 |\n| --- | --: |\n| **Pocket** | 0.90 |")
    assert (block.kind, len(block.rows)) == ("table", 2)
    assert block.rows[1][0] == (("strong", "Pocket"),)


def test_the_icon_that_browsers_ask_for_is_there_for_everybody(house: Furnished) -> None:
    reply = AsgiClient(make_app(house)).get("/favicon.ico")
    assert (reply.status, reply.headers["location"]) == (308, asset_url("mark.svg"))


def test_a_page_that_is_not_there_keeps_the_menu_of_whoever_is_signed_in(
    visitor: AsgiClient, house: Furnished
) -> None:
    assert 'aria-label="Pages"' in visitor.get("/nothing").text
    stranger = AsgiClient(make_app(house)).get("/nothing")
    assert (stranger.status, 'aria-label="Pages"' in stranger.text) == (404, False)


def test_a_key_can_be_limited_to_routes_that_exist(furnished: Furnished) -> None:
    client = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)
    found = re.search(r'name="csrf-token" content="(\w+)"', client.get("/keys").text)
    assert found is not None
    fields = {"name": "notebook", "scope": "call", "csrf_token": found[1]}
    wrong = client.post_form("/keys", fields | {"routes": "pokcet"})
    assert (wrong.status, "There is no route &#39;pokcet&#39;" in wrong.text) == (400, True)
    assert client.post_form("/keys", fields | {"routes": "pocket, handbook"}).status == 200
    assert [key.routes for key in furnished.services.keys.list() if key.name == "notebook"] == [
        ("pocket", "handbook")
    ]
    assert client.post_form("/keys", fields | {"name": "free", "routes": " "}).status == 200
    assert [key.routes for key in furnished.services.keys.list() if key.name == "free"] == [None]


def test_a_trace_names_the_key_that_called(furnished: Furnished) -> None:
    key = next(each for each in furnished.services.keys.list() if each.name == "demo client")
    (span,) = make_failure(now_ns(), trace_id="cc" * 16)
    furnished.spans.append([msgspec.structs.replace(span, key_id=key.id)])
    client = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)
    assert f"<dd>demo client ({key.id})</dd>" in client.get(f"/traces/{'cc' * 16}").text


def test_what_came_without_a_route_is_not_laid_at_the_door_of_clients_alone(furnished: Furnished) -> None:
    (span,) = make_failure(now_ns() - 1_000_000_000, trace_id="dd" * 16)
    furnished.spans.append([msgspec.structs.replace(span, route=None)])
    text = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key).get("/").text
    assert re.search(
        r">no route</a> <span[^>]*>refused before one was known, or spans sent by clients<", text
    )


def test_one_call_is_a_call() -> None:
    assert (format_calls(0), format_calls(1), format_calls(12_345)) == ("0 calls", "1 call", "12,345 calls")
