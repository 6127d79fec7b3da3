"""Pages of apps in process: what answers, what it says in full, what changed, and how a version is made and moved."""

import json
import re
from typing import Any

import pytest

from tests.console.conftest import make_app, sign_in
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished

DECLARED = {"name": "helpdesk", "knowledge": "handbook", "model": "pocket", "description": "Sleep and food"}


@pytest.fixture(scope="module")
def client(house: Furnished) -> AsgiClient:
    house.services.apps.create(DECLARED, actor="ada", note="first try")
    house.services.apps.create({**DECLARED, "k": 8, "steps": ["retrieve", "filter", "answer"]}, actor="ada")
    return sign_in(AsgiClient(make_app(house)), house.owner_key)


def post(client: AsgiClient, path: str, fields: dict[str, str]) -> Any:
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/app-new").text)
    assert token is not None
    return client.post_form(path, {**fields, "csrf_token": token[1]})


def test_the_list_shows_what_answers_and_what_cannot_be_read(client: AsgiClient) -> None:
    page = client.get("/apps").text
    assert 'href="/apps/helpdesk/1"' in page
    assert 'href="/knowledge/handbook"' in page
    assert 'href="/playground?model=helpdesk"' in page
    assert "content is damaged" in page  # a version from before declarations


def test_a_name_alone_leads_to_the_version_that_answers(client: AsgiClient) -> None:
    reply = client.get("/apps/helpdesk")
    assert (reply.status, reply.headers["location"]) == (303, "/apps/helpdesk/1")


def test_a_version_tells_its_steps_its_settings_and_what_changed(client: AsgiClient) -> None:
    page = client.get("/apps/helpdesk/2").text
    assert "throw out what does not help" in page
    assert "Against version 1" in page
    assert "<del>5</del>" in page and "<ins>8</ins>" in page
    assert 'href="/knowledge/handbook"' in page


def test_a_declaration_is_checked_made_and_refused_with_reasons(client: AsgiClient, house: Furnished) -> None:
    told = {**DECLARED, "name": "nightdesk"}
    assert 'name="declaration"' in client.get("/app-new?version=helpdesk@2").text
    checked = post(client, "/app-new", {"declaration": json.dumps(told), "do": "check"})
    assert "It is complete" in checked.text
    assert "nightdesk" not in [each.name for each in house.services.apps.list_versions("helpdesk")]
    wrong = post(client, "/app-new", {"declaration": json.dumps({**told, "kk": 3}), "do": "save"})
    assert wrong.status == 400
    assert "kk" in wrong.text
    assert post(client, "/app-new", {"declaration": "[", "do": "save"}).status == 400
    before = len(house.published)
    made = post(client, "/app-new", {"declaration": json.dumps(told), "do": "save"})
    assert made.headers["location"].startswith("/apps/nightdesk/1?notice=")
    assert len(house.published) == before + 1


def test_an_alias_moves_with_a_reason_only(client: AsgiClient, house: Furnished) -> None:
    refused = post(client, "/apps/helpdesk/move", {"number": "2", "alias": "prod"})
    assert refused.status == 303
    assert house.services.apps.get("helpdesk").number == 1
    moved = post(client, "/apps/helpdesk/move", {"number": "2", "alias": "prod", "reason": "better"})
    assert "names+version+2" in moved.headers["location"]
    assert house.services.apps.get("helpdesk").number == 2
    assert ("app", "helpdesk", "prod", 2) in house.moved


def test_forms_need_their_token_and_unknown_apps_are_told(client: AsgiClient) -> None:
    assert client.post_form("/apps/helpdesk/move", {"number": "1"}).status == 403
    assert client.post_form("/app-new", {"declaration": "{}"}).status == 403
    assert client.get("/apps/none").status == 404
    assert client.get("/apps/helpdesk/99").status == 404
