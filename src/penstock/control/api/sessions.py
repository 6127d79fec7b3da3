"""Sessions, their turns, and users over REST. Ids are whatever clients sent, slashes too."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.control.api.parameters import StoredNumber
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.store.spans.session_types import SessionOrder, SessionQuery, UserQuery

Limit = Annotated[int, Query(ge=1, le=500)]
TurnLimit = Annotated[int, Query(ge=1, le=200)]


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1` that read sessions and users."""
    router = APIRouter(prefix="/api/v1", tags=["sessions"])
    sessions = services.trace_sessions

    @router.get("/sessions")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def list_sessions(
        *,
        since_ns: StoredNumber | None = None,
        until_ns: StoredNumber | None = None,
        user: str | None = None,
        text: str | None = None,
        order: SessionOrder = "recent",
        limit: Limit = 50,
        cursor: str | None = None,
    ) -> Response:
        """One page of sessions with a turn in the window; their sums are over all of their turns."""
        query = SessionQuery(
            since_ns=since_ns,
            until_ns=until_ns,
            user_id=user,
            text=text,
            order=order,
            limit=limit,
            cursor=cursor,
        )
        return json_reply(sessions.list_sessions(query))

    @router.get("/sessions/{session_id:path}")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_session(session_id: str, limit: TurnLimit = 50, cursor: str | None = None) -> Response:
        """One session and a page of its turns, oldest first."""
        return json_reply(sessions.show_session(session_id, limit=limit, cursor=cursor))

    @router.get("/users")
    @needs(Permission.TRACES_READ)
    def list_users(
        *,
        since_ns: StoredNumber | None = None,
        until_ns: StoredNumber | None = None,
        text: str | None = None,
        order: SessionOrder = "recent",
        limit: Limit = 50,
        cursor: str | None = None,
    ) -> Response:
        """One page of users with their sums over the window."""
        query = UserQuery(
            since_ns=since_ns, until_ns=until_ns, text=text, order=order, limit=limit, cursor=cursor
        )
        return json_reply(sessions.list_users(query))

    @router.get("/users/{user_id:path}")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_user(
        user_id: str,
        since_ns: StoredNumber | None = None,
        until_ns: StoredNumber | None = None,
        limit: Limit = 50,
    ) -> Response:
        """One user: sums over the window and the newest sessions in it."""
        return json_reply(sessions.show_user(user_id, since_ns=since_ns, until_ns=until_ns, limit=limit))

    return router
