"""Models as pages: the list, and one version with its origin, proofs, measurements and what can be done with it."""

import re

import pytest

from penstock.console.lineage_graphs import draw_lineage
from penstock.console.measured_models import name_measured
from penstock.tuning.catalogue import LineageGraph, LineageNode
from tests.console.conftest import make_app, sign_in
from tests.console.test_dashboard_pages import form_token
from tests.console.test_evaluation_pages import text_of
from tests.fixtures.adapted import DONE, Adapted, adapted
from tests.fixtures.asgi import AsgiClient

__all__ = ["adapted"]


@pytest.fixture(scope="module")
def client(adapted: Adapted) -> AsgiClient:
    return sign_in(AsgiClient(make_app(adapted.found)), adapted.found.owner_key)


def test_the_list_shows_aliases_facts_and_what_is_served(client: AsgiClient) -> None:
    reply = client.get("/models")
    text = text_of(reply.text)
    assert reply.status == 200
    assert "small served candidate 2 prod 1" in text
    assert "7.5 MB" in text
    assert "Nothing matches" in client.get("/models?text=nothing-like-this").text
    assert client.get("/models?kind=chat").text.count('class="open"') == 1


def test_a_version_tells_origin_proofs_files_and_who_serves_it(client: AsgiClient) -> None:
    reply = client.get("/models/small/2")
    text = text_of(reply.text)
    assert reply.status == 200
    for part in (
        "made by lora from model:small@1",
        "Divergence from the source, mean (nats) 2.1e-06 at most 0.0005",
        "1 conversation, id by id",
        "torch 2.13.0",
        "model.gguf sha256:",
        "candidate set to version 2",
        "Agreement with the source",
    ):
        assert part in text, part
    assert f'href="/tuning/{DONE}"' in reply.text
    assert 'href="/deployments/pocket-candidate"' in reply.text
    assert "style=" not in reply.text


def test_the_live_version_is_shown_where_none_is_named(client: AsgiClient) -> None:
    assert "model:small@1" in client.get("/models/small").text.partition("</h1>")[0]
    assert client.get("/models/nobody").status == 404
    assert client.get("/models/small/99").status == 404


def test_a_child_shows_what_it_lost_and_won_against_its_parent_with_intervals(client: AsgiClient) -> None:
    text = text_of(client.get("/models/small/3").text)
    assert "file lower is better 4.0 MB – 7.5 MB −3.4 MB" in text
    assert "0.865 to 0.945 0.916 −1.1 points" in text
    assert "undecided" in text


def test_rounded_weights_are_no_base_and_are_not_rounded_again(client: AsgiClient) -> None:
    page = client.get("/models/small/3").text
    assert "/quantise" not in page
    assert "Tune from this" not in page
    assert "Tune from this" in client.get("/models/small/2").text


def test_work_on_a_version_is_queued_with_the_token_and_refused_without(
    client: AsgiClient, adapted: Adapted
) -> None:
    assert client.post_form("/models/small/2/quantise", {"precision:q8_0": "on"}).status == 403
    token = form_token(client, "/models/small/2")
    reply = client.post_form("/models/small/2/quantise", {"csrf_token": token, "precision:q8_0": "on"})
    assert reply.headers["location"] == "/jobs/job_made"
    kind, spec = adapted.work.queued[-1]
    assert (kind, spec["model"]) == ("quantise", "model:small@2")
    assert list(spec["precisions"]) == ["q8_0"]
    reply = client.post_form("/models/small/2/quantise", {"csrf_token": token})
    assert "at+least+one+precision" in reply.headers["location"]
    reply = client.post_form("/models/small/2/deploy", {"csrf_token": token, "deployment": "Not A Name"})
    assert "is+no+name" in reply.headers["location"]


def test_the_run_stands_between_what_a_version_was_made_from_and_the_version() -> None:
    nodes = (
        LineageNode(
            digest="own", label="model:a@2", kind="model", distance=0, method="lora", precision="f16"
        ),
        LineageNode(digest="base", label="model:a@1", kind="model", distance=-1),
        LineageNode(digest="data", label="dataset:d@1", kind="dataset", distance=-1),
        LineageNode(digest="child", label="model:a@3", kind="model", distance=1, precision="q8_0"),
    )
    edges = (("own", "base"), ("own", "data"), ("child", "own"))
    drawn = draw_lineage(LineageGraph(nodes=nodes, edges=edges, origin={"run": "run_x", "method": "lora"}))
    columns = {box.href: box.x for box in drawn.boxes}
    assert columns["/models/a/1"] == columns["/assets/dataset/d/1"] < columns["/tuning/run_x"]
    assert columns["/tuning/run_x"] < columns["/models/a/2"] < columns["/models/a/3"]
    assert len(drawn.paths) == 4
    assert re.match(r"Made from model:a@1, dataset:d@1; went into model:a@3", drawn.summary)


def test_a_crowded_column_is_cut_and_says_by_how_many() -> None:
    nodes = [LineageNode(digest="own", label="model:a@1", kind="model", distance=0)]
    nodes += [
        LineageNode(digest=f"d{n}", label=f"model:a@{n}", kind="model", distance=1) for n in range(2, 14)
    ]
    drawn = draw_lineage(LineageGraph(nodes=tuple(nodes), edges=(), origin={}))
    assert drawn.n_left_out == 4


def test_measured_figures_have_names_that_people_read() -> None:
    assert name_measured("reply_tokens_per_s_4") == "reply tokens, 4 streams"
    assert name_measured("prompt_tokens_per_s_1") == "prompt tokens, 1 stream"
    assert name_measured("reply_processor_ms_per_token_4") == "processor time a reply token, 4 streams"
    assert name_measured("token_f1") == "token f1"
