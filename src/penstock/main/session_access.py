"""Sessions and users for the command line: of the running control process, else from the stopped home's file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from penstock.base.late import late_imports
from penstock.main.control_client import ControlClient
from penstock.main.instance import running_instance
from penstock.spec.home import Home
from penstock.store.spans.session_types import SessionPage, SessionQuery, UserPage, UserQuery

with late_imports():
    from penstock.main import stopped_spans
    from penstock.store.spans import session_queries
    from penstock.traces import sessions as session_service


class SessionAccess(Protocol):
    """What the command line asks; the words of `SessionService`."""

    def list_sessions(self, query: SessionQuery) -> SessionPage:
        """Return one page of sessions."""

    def show_session(
        self, session_id: str, *, limit: int = 50, cursor: str | None = None
    ) -> session_service.SessionView:
        """Return one session with a page of its turns."""

    def list_users(self, query: UserQuery) -> UserPage:
        """Return one page of users."""

    def show_user(
        self, user_id: str, *, since_ns: int | None = None, until_ns: int | None = None, limit: int = 50
    ) -> session_service.UserView:
        """Return one user with the newest sessions."""


@contextmanager
def open_sessions(home: Home) -> Iterator[SessionAccess]:
    """Yield access to the sessions and users of `home`, running or not."""
    if running_instance(home) is not None:
        yield _Remote(ControlClient(home))
        return
    with stopped_spans.read_stopped(home) as store:
        yield session_service.SessionService(session_queries.DuckDBSessions(store.file))


class _Remote:
    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def list_sessions(self, query: SessionQuery) -> SessionPage:
        value = self._client.get("/api/v1/sessions", **_filters(query))
        return msgspec.convert(value, SessionPage, strict=False)

    def show_session(
        self, session_id: str, *, limit: int = 50, cursor: str | None = None
    ) -> session_service.SessionView:
        value = self._client.get(f"/api/v1/sessions/{quote(session_id)}", limit=limit, cursor=cursor)
        return msgspec.convert(value, session_service.SessionView, strict=False)

    def list_users(self, query: UserQuery) -> UserPage:
        value = self._client.get("/api/v1/users", **_filters(query))
        return msgspec.convert(value, UserPage, strict=False)

    def show_user(
        self, user_id: str, *, since_ns: int | None = None, until_ns: int | None = None, limit: int = 50
    ) -> session_service.UserView:
        value = self._client.get(
            f"/api/v1/users/{quote(user_id)}", since_ns=since_ns, until_ns=until_ns, limit=limit
        )
        return msgspec.convert(value, session_service.UserView, strict=False)


def _filters(query: SessionQuery | UserQuery) -> dict[str, Any]:
    filters: dict[str, Any] = msgspec.to_builtins(query)
    filters["user"] = filters.pop("user_id", None)
    return filters
