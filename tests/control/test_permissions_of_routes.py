"""Every route declares a permission, and the declaration is what decides."""

import re
from typing import Any

import pytest
from fastapi import FastAPI

from penstock.access.declarations import declared_permissions, needs, open_to_all
from penstock.access.permissions import Permission
from penstock.base.errors import BugError
from penstock.control.app import create_control
from penstock.control.authorize import check_declarations
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished


def test_a_bare_route_stops_the_start_up(furnished: Furnished) -> None:
    def add_bare_route(app: FastAPI) -> None:
        @app.get("/bare")
        def bare() -> str:
            return "anybody may read this"

    with pytest.raises(BugError, match="/bare"):
        create_control(furnished.services, mounts=[add_bare_route])


def test_a_bare_route_added_later_stops_the_start_up(app: FastAPI) -> None:
    app.add_api_route("/later", lambda: "late")
    with pytest.raises(BugError, match="/later"):
        check_declarations(app)


def test_a_bare_route_that_slipped_in_is_not_served(app: FastAPI, owner: AsgiClient) -> None:
    app.add_api_route("/later", lambda: "late")
    assert owner.get("/later").status == 500


def list_paths(app: Any) -> list[tuple[str, str]]:
    """Method and path, placeholders filled, of every documented route."""
    paths = app.openapi()["paths"].items()
    return [(method.upper(), re.sub(r"\{\w+\}", "x", path)) for path, item in paths for method in item]


def test_no_route_but_health_answers_without_a_key(app: Any) -> None:
    client = AsgiClient(app)
    paths = list_paths(app)
    assert len(paths) > 25
    for method, path in paths:
        status = client.send(method, path).status
        assert status == (200 if path in {"/healthz", "/readyz"} else 401), (method, path)


def test_a_call_key_may_send_spans_but_not_read_them(app: Any, furnished: Furnished) -> None:
    client = AsgiClient(app, bearer=furnished.call_key)
    refused = client.get("/api/v1/traces")
    assert refused.status == 403
    assert refused.json()["error"]["fields"]["permission"] == "traces.content"
    sent = client.send("POST", "/v1/traces", body=b"{}", headers={"content-type": "application/json"})
    assert sent.status == 200


def test_a_wrong_key_is_refused_even_on_an_open_route(app: Any) -> None:
    reply = AsgiClient(app, bearer="ps-" + "x" * 43).get("/healthz")
    assert reply.status == 401
    assert reply.json()["error"]["code"] == "PS-1401"


def test_declarations_say_something() -> None:
    with pytest.raises(TypeError):
        needs()
    with pytest.raises(TypeError):
        open_to_all("")

    @needs(Permission.ADMIN)
    def endpoint() -> None: ...

    assert declared_permissions(endpoint) == {Permission.ADMIN}
    assert declared_permissions(len) is None
