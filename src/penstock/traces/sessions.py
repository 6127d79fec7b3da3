"""What pages, REST and the command line ask about sessions and users."""

import msgspec

from penstock.base.errors import InvalidInput, NotFound
from penstock.store.spans.port import Sessions
from penstock.store.spans.session_types import (
    SessionPage,
    SessionQuery,
    SessionRow,
    Turn,
    UserPage,
    UserQuery,
    UserRow,
)


class UnknownSession(NotFound):
    """No such session here."""

    code = "PS-1980"


class UnknownUser(NotFound):
    """No such user here, or not in this window."""

    code = "PS-1981"


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """One session: the sums over all of its turns, and one page of them, oldest first."""

    summary: SessionRow
    turns: list[Turn]
    next_cursor: str | None = None


class UserView(msgspec.Struct, frozen=True, kw_only=True):
    """One user: the sums over a window, which `series` cuts into equal slices, and the newest sessions in it."""

    summary: UserRow
    sessions: list[SessionRow]
    since_ns: int
    until_ns: int


class SessionService:
    """Lists and shows the sessions and users of a span store."""

    def __init__(self, store: Sessions) -> None:
        self._store = store

    def list_sessions(self, query: SessionQuery) -> SessionPage:
        """Return one page of sessions; raise `InvalidInput` for a window that ends before it begins."""
        _check_window(query)
        return self._store.list_sessions(query)

    def show_session(self, session_id: str, *, limit: int = 50, cursor: str | None = None) -> SessionView:
        """Return one session with a page of its turns; raise `UnknownSession`."""
        summary = self._store.get_session(session_id)
        if summary is None:
            raise UnknownSession(
                f"There is no session {session_id!r}.",
                hint="Spans name their session as `session.id` or `gen_ai.conversation.id`; `penstock session list`"
                " shows which there are.",
            )
        page = self._store.list_turns(session_id, limit=limit, cursor=cursor)
        return SessionView(summary=summary, turns=page.turns, next_cursor=page.next_cursor)

    def list_users(self, query: UserQuery) -> UserPage:
        """Return one page of users; raise `InvalidInput` for a window that ends before it begins."""
        _check_window(query)
        return self._store.list_users(query)

    def show_user(
        self, user_id: str, *, since_ns: int | None = None, until_ns: int | None = None, limit: int = 50
    ) -> UserView:
        """Return one user with the newest sessions of the window; raise `UnknownUser`."""
        found = self.list_users(UserQuery(user_id=user_id, since_ns=since_ns, until_ns=until_ns, limit=1))
        if not found.rows:
            raise UnknownUser(
                f"There is no trace of a user {user_id!r} in this window.",
                hint="Spans name their user as `user.id`; calls of a key that belongs to a user have it by themselves.",
            )
        sessions = self._store.list_sessions(
            SessionQuery(user_id=user_id, since_ns=since_ns, until_ns=found.until_ns, limit=limit)
        )
        return UserView(
            summary=found.rows[0],
            sessions=sessions.rows,
            since_ns=found.since_ns or 0,
            until_ns=found.until_ns or 0,
        )


def _check_window(query: SessionQuery | UserQuery) -> None:
    if query.since_ns is not None and query.until_ns is not None and query.since_ns > query.until_ns:
        raise InvalidInput("The time window ends before it begins.", hint="Swap `since` and `until`.")
