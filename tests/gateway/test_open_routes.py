"""Rows named `PROVIDER/*`: every model of a provider, without naming each."""

import pytest

from penstock.gateway.admission import resolve_route
from penstock.gateway.errors import UnknownModel
from penstock.gateway.table import Table
from penstock.spec.routes import KeyRow, Provider, Route, Target
from penstock.spec.snapshot import Snapshot

EVERYTHING = KeyRow(id="k", name="k", secret_sha256="0" * 64)


@pytest.fixture
def table() -> Table:
    far = Provider(name="far", base_url="http://127.0.0.1:9/v1", auth="none")
    routes = (
        Route(name="far/*", targets=(Target(provider="far", model="*"),)),
        Route(name="far/named", targets=(Target(provider="far", model="another"),)),
    )
    return Table(
        Snapshot(digest="", written_ns=1, providers=(far,), routes=routes), environ={}, internal_key=None
    )


def test_any_model_of_the_provider_is_answered_under_its_own_name(table: Table) -> None:
    ready = resolve_route(table, EVERYTHING, "far/org/model-7b", "chat")
    assert ready.targets[0].model == "org/model-7b"
    assert ready.route.name == "far/org/model-7b"
    assert (b"x-penstock-model", b"org/model-7b") in ready.targets[0].reply_headers
    assert (b"x-penstock-route", b"far/org/model-7b") in ready.targets[0].reply_headers


def test_a_route_with_the_very_name_goes_first(table: Table) -> None:
    assert resolve_route(table, EVERYTHING, "far/named", "chat").targets[0].model == "another"


@pytest.mark.parametrize("model", ["far", "far/", "near/x", "far/" + "x" * 257, "far/a\r\nb", "*", "far2/x"])
def test_other_names_are_unknown_and_the_open_row_is_told(table: Table, model: str) -> None:
    with pytest.raises(UnknownModel, match=r"far/\*"):
        resolve_route(table, EVERYTHING, model, "chat")


def test_the_open_row_is_not_a_model_itself(table: Table) -> None:
    assert list(table.routes) == ["far/named"]


@pytest.mark.parametrize("routes", [("far/*",), ("far/x",)])
def test_a_key_may_be_given_the_provider_or_one_model(table: Table, routes: tuple[str, ...]) -> None:
    row = KeyRow(id="k", name="k", secret_sha256="0" * 64, routes=routes)
    assert resolve_route(table, row, "far/x", "chat").targets[0].model == "x"


def test_a_key_for_one_model_may_not_call_another(table: Table) -> None:
    row = KeyRow(id="k", name="k", secret_sha256="0" * 64, routes=("far/x",))
    with pytest.raises(UnknownModel):
        resolve_route(table, row, "far/y", "chat")


def test_a_key_whose_routes_are_gone_is_not_told_that_there_are_none(table: Table) -> None:
    row = KeyRow(id="k", name="k", secret_sha256="0" * 64, routes=("gone",))
    with pytest.raises(UnknownModel) as refused:
        resolve_route(table, row, "far/x", "chat")
    assert refused.value.hint == "This key may call none of the routes."
