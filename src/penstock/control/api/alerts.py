"""Alerts, the channels that tell of them, and the messages under way, over REST."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.control.api.parameters import StoredNumber
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.monitors.rules import read_channel, read_rule
from penstock.monitors.types import MessageState

Limit = Annotated[int, Query(ge=1, le=500)]


class ContentBody(BaseModel):
    """Body of a change of a rule or channel."""

    model_config = ConfigDict(extra="forbid")
    content: dict[str, Any]
    expected_version: Annotated[int, Field(ge=0)] | None = None
    """The version that was read, 0 for what is not there yet; another is answered with 409."""


class PreviewBody(BaseModel):
    """Body of a preview."""

    model_config = ConfigDict(extra="forbid")
    content: dict[str, Any]


class SilenceBody(BaseModel):
    """Body of a silence: until a moment, or for a time; neither ends it."""

    model_config = ConfigDict(extra="forbid")
    until_ns: StoredNumber | None = None
    for_s: Annotated[int, Field(ge=1, le=366 * 86_400)] | None = None


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/alerts`, `/api/v1/channels` and `/api/v1/messages`."""
    router = APIRouter(prefix="/api/v1", tags=["alerts"])
    for add in (_add_reading, _add_writing, _add_channels, _add_messages):
        add(router, services)
    return router


def _add_reading(router: APIRouter, services: ControlServices) -> None:
    alerts = services.alerts

    @router.get("/alerts")
    @needs(Permission.ALERTS_READ)
    def list_alerts() -> Response:
        """All rules with how they stand."""
        return json_reply({"alerts": alerts.list()})

    @router.get("/alerts/{name}")
    @needs(Permission.ALERTS_READ)
    def show_alert(name: str) -> Response:
        """One rule with how it stands."""
        return json_reply(alerts.get(name))

    @router.get("/alerts/{name}/history")
    @needs(Permission.ALERTS_READ)
    def show_history_of(name: str, limit: Limit = 50, before: str | None = None) -> Response:
        """What changed the state of a rule, newest first; of a deleted one too."""
        return json_reply({"transitions": alerts.history(name, limit=limit, before=before)})

    @router.get("/alert-history")
    @needs(Permission.ALERTS_READ)
    def show_history(limit: Limit = 50, before: str | None = None) -> Response:
        """What changed the state of any rule, newest first."""
        return json_reply({"transitions": alerts.history(limit=limit, before=before)})

    @router.post("/alert-preview")
    @needs(Permission.ALERTS_READ, Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def preview(body: PreviewBody) -> Response:
        """What a rule would say now, and its value in the windows before; nothing is kept."""
        return json_reply(alerts.preview(read_rule(body.content)))


def _add_writing(router: APIRouter, services: ControlServices) -> None:
    alerts = services.alerts

    @router.put("/alerts/{name}")
    @needs(Permission.ALERTS_WRITE, Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def put_alert(name: str, body: ContentBody, request: Request) -> Response:
        """Create or replace a rule; it is evaluated within seconds. Its search tells what was said, so that has to be allowed."""
        view = alerts.put(
            name,
            read_rule(body.content),
            actor=actor_of(request.state.caller),
            expected_version=body.expected_version,
        )
        return json_reply(view, status=201 if view.rule.version == 1 else 200)

    @router.delete("/alerts/{name}")
    @needs(Permission.ALERTS_WRITE)
    def delete_alert(name: str) -> Response:
        """Forget a rule; its history stays."""
        alerts.delete(name)
        return json_reply({"name": name, "deleted": True})

    @router.post("/alerts/{name}/silence")
    @needs(Permission.ALERTS_WRITE)
    def silence(name: str, body: SilenceBody, request: Request) -> Response:
        """Tell nobody of a rule until a moment or for a time; without either the silence ends."""
        if body.until_ns is not None and body.for_s is not None:
            raise InvalidInput("Give one of until_ns and for_s.")
        until = body.until_ns if body.for_s is None else now_ns() + body.for_s * 1_000_000_000
        return json_reply(alerts.silence(name, until, actor=actor_of(request.state.caller)))

    @router.post("/alerts/{name}/test")
    @needs(Permission.ALERTS_WRITE)
    def test_alert(name: str, request: Request) -> Response:
        """Send a message, marked as a test, through every channel of a rule."""
        return json_reply({"messages": alerts.test(name, actor=actor_of(request.state.caller))}, status=202)


def _add_channels(router: APIRouter, services: ControlServices) -> None:
    channels = services.channels

    @router.get("/channels")
    @needs(Permission.ALERTS_READ)
    def list_channels() -> Response:
        """All channels; secrets are only named in them."""
        return json_reply({"channels": channels.list()})

    @router.get("/channels/{name}")
    @needs(Permission.ALERTS_READ)
    def show_channel(name: str) -> Response:
        """One channel."""
        return json_reply(channels.get(name))

    @router.put("/channels/{name}")
    @needs(Permission.ALERTS_WRITE)
    def put_channel(name: str, body: ContentBody, request: Request) -> Response:
        """Create or replace a channel."""
        channel = channels.put(
            name,
            read_channel(body.content),
            actor=actor_of(request.state.caller),
            expected_version=body.expected_version,
        )
        return json_reply(channel, status=201 if channel.version == 1 else 200)

    @router.delete("/channels/{name}")
    @needs(Permission.ALERTS_WRITE)
    def delete_channel(name: str) -> Response:
        """Forget a channel that no rule names."""
        channels.delete(name)
        return json_reply({"name": name, "deleted": True})

    @router.post("/channels/{name}/test")
    @needs(Permission.ALERTS_WRITE)
    def test_channel(name: str, request: Request) -> Response:
        """Send a test message through a channel."""
        return json_reply(channels.test(name, actor=actor_of(request.state.caller)), status=202)


def _add_messages(router: APIRouter, services: ControlServices) -> None:
    channels = services.channels

    @router.get("/messages")
    @needs(Permission.ALERTS_READ)
    def list_messages(state: MessageState | None = None, limit: Limit = 100) -> Response:
        """Messages that were sent, wait, or were given up (`dead`), newest first."""
        return json_reply({"messages": channels.messages(state=state, limit=limit)})

    @router.get("/messages/{identity}")
    @needs(Permission.ALERTS_READ)
    def show_message(identity: str) -> Response:
        """One message."""
        return json_reply(channels.message(identity))

    @router.post("/messages/{identity}/retry")
    @needs(Permission.ALERTS_WRITE)
    def retry_message(identity: str) -> Response:
        """Try a message that was given up again."""
        return json_reply(channels.retry(identity))
