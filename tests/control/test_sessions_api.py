"""Sessions and users over REST; ids may hold slashes."""

import msgspec

from penstock.store.spans.session_types import SessionPage, UserPage
from penstock.traces.sessions import SessionView, UserView
from tests.fixtures.asgi import AsgiClient


def test_what_rest_answers_reads_back_as_what_the_service_says(owner: AsgiClient) -> None:
    page = msgspec.convert(
        owner.get("/api/v1/sessions?order=longest&limit=3").json(), SessionPage, strict=False
    )
    assert len(page.rows) == 3
    assert page.rows[0].n_turns >= page.rows[1].n_turns
    more = owner.get(f"/api/v1/sessions?order=longest&limit=3&cursor={page.next_cursor}").json()
    assert page.rows[0].session_id not in {row["session_id"] for row in more["rows"]}
    view = msgspec.convert(owner.get("/api/v1/sessions/talk/0?limit=2").json(), SessionView, strict=False)
    assert (len(view.turns), view.next_cursor is not None) == (2, True)
    users = msgspec.convert(owner.get("/api/v1/users").json(), UserPage, strict=False)
    assert [row.user_id for row in users.rows] == ["ada"]
    user = msgspec.convert(owner.get("/api/v1/users/ada?limit=1").json(), UserView, strict=False)
    assert len(user.sessions) == 1


def test_unknown_ids_and_wrong_cursors_are_told_apart(owner: AsgiClient) -> None:
    for path, status, code in (
        ("/api/v1/sessions/nobody", 404, "PS-1980"),
        ("/api/v1/users/nobody", 404, "PS-1981"),
        ("/api/v1/sessions?cursor=x", 400, "PS-1105"),
        ("/api/v1/sessions?order=best", 400, "PS-1001"),
        ("/api/v1/sessions?since_ns=5&until_ns=4", 400, "PS-1001"),
    ):
        reply = owner.get(path)
        assert (reply.status, reply.json()["error"]["code"]) == (status, code), path
