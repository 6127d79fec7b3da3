"""Who may read traces but not what was said in them gets it by no page and no route."""

import json

import pytest

from penstock.access import permissions
from penstock.access.permissions import Permission
from tests.console.conftest import make_app
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import TRACE_ID, Furnished

JSON = {"content-type": "application/json"}


def test_who_may_not_see_what_was_said_gets_it_nowhere(
    furnished: Furnished, monkeypatch: pytest.MonkeyPatch
) -> None:
    may = frozenset(Permission) - {Permission.TRACES_CONTENT}
    monkeypatch.setattr(permissions, "SCOPE_PERMISSIONS", {"call": may})
    client = AsgiClient(make_app(furnished), bearer=furnished.call_key)
    trace = TRACE_ID
    told = [
        f"/api/v1/traces/{trace}",
        f"/api/v1/traces/{trace}/spans?ids={1:016x}",
        f"/playground?span={trace}",
        "/dashboards/overview?where=refund",
        "/users",
    ]
    assert {path: client.get(path).status for path in told} == dict.fromkeys(told, 403)
    rule = {"content": {"measure": "calls", "alert": {"above": 1}, "where": "refund"}}
    assert (
        client.send("PUT", "/api/v1/alerts/oracle", body=json.dumps(rule).encode(), headers=JSON).status
        == 403
    )
    open_to_them = [f"/api/v1/traces/{trace}/skeleton", "/playground", "/api/v1/overview"]
    assert {path: client.get(path).status for path in open_to_them} == dict.fromkeys(open_to_them, 200)
