"""Deployments as pages: the list, one with its proof, processes and events, and what can be changed."""

import pytest

from penstock.base.errors import InvalidInput
from penstock.console.pages.deployments import read_form
from tests.console.conftest import make_app, sign_in
from tests.console.test_dashboard_pages import form_token
from tests.console.test_evaluation_pages import text_of
from tests.fixtures.adapted import Adapted, adapted
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished

__all__ = ["adapted"]
ONE = "/deployments/pocket-candidate"


@pytest.fixture(scope="module")
def client(adapted: Adapted) -> AsgiClient:
    return sign_in(AsgiClient(make_app(adapted.found)), adapted.found.owner_key)


def test_the_list_shows_what_answers_where_and_why_another_does_not(client: AsgiClient) -> None:
    reply = client.get("/deployments")
    text = text_of(reply.text)
    assert reply.status == 200
    assert "pocket-candidate ready small@2 pocket-candidate http://127.0.0.1:7001/v1 1 of 1 320" in text
    assert "The engine does not answer as the file does." in text
    assert "style=" not in reply.text


def test_a_process_without_deployments_says_so(unfurnished: Furnished) -> None:
    visitor = sign_in(AsgiClient(make_app(unfurnished)), unfurnished.owner_key)
    assert "Nothing can be deployed here" in visitor.get("/deployments").text


def test_one_tells_proof_processes_and_events(client: AsgiClient) -> None:
    text = text_of(client.get(ONE).text)
    for part in (
        "model:small@2 answers as pocket-candidate; before it, model:small@1 did",
        "differ by at most 0, 0.02 allowed",
        "engine-pocket-candidate~2 serving ready 320 12",
        "swapped model:small@2 answers",
        "Back to small@1",
    ):
        assert part in text, part
    assert 'data-final="yes"' in client.get(f"{ONE}/live").text
    assert client.get("/deployments/nobody").status == 404


def test_a_deployment_is_asked_for_swapped_and_taken_away_with_the_token_of_the_page(
    client: AsgiClient, adapted: Adapted
) -> None:
    wanted = {"name": "second", "model": "model:small@1", "replicas": "2"}
    assert client.post_form("/deployments-new", wanted).status == 403
    token = {"csrf_token": form_token(client, "/deployments-new")}
    assert client.post_form("/deployments-new", wanted | token).headers["location"] == "/deployments/second"
    client.post_form("/deployments/second/swap", token | {"model": "model:small@2", "replicas": "1"})
    service = adapted.services.deployments
    assert service is not None
    assert (service.get("second").spec.model, service.get("second").spec.replicas) == ("model:small@2", 1)
    reply = client.post_form("/deployments/second/rollback", token)
    assert "notice=" in reply.headers["location"]
    client.post_form("/deployments/second/delete", token)
    assert service.get("second").state == "draining"


def test_what_is_wrong_is_told_beside_what_was_typed(client: AsgiClient) -> None:
    token = {"csrf_token": form_token(client, "/deployments-new")}
    reply = client.post_form("/deployments-new", token | {"name": "handbook", "model": "model:small@1"})
    assert reply.status in {400, 409}
    assert "kept elsewhere" in reply.text
    assert 'value="model:small@1"' in reply.text
    reply = client.post_form(
        "/deployments-new", token | {"name": "x", "model": "model:small", "replicas": "two"}
    )
    assert "is no whole number" in reply.text


def test_fields_left_empty_keep_their_defaults() -> None:
    form = {
        "name": " a ",
        "model": "model:b",
        "replicas": "",
        "adapters": "model:c@1, model:d@2,",
        "follow": "on",
    }
    assert read_form(form) == {
        "name": "a",
        "model": "model:b",
        "adapters": ["model:c@1", "model:d@2"],
        "follow": True,
    }
    with pytest.raises(InvalidInput):
        read_form({"slots": "-1"})
