"""Pages of datasets in process: every one stands, says what is in a version, and lets nobody in without permission."""

import re

import pytest

from penstock.base.clock import now_ns
from tests.console.conftest import make_app, sign_in
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import TRACE_ID, Furnished
from tests.fixtures.reviewed import NAME, furnish_datasets, furnish_proposals

CHANGED = "changed-questions"
"""For tests that change something, so that all can share a house."""


@pytest.fixture(scope="module")
def client(house: Furnished) -> AsgiClient:
    furnish_datasets(house.services)
    furnish_proposals(house.engine, now_ns=now_ns())
    return sign_in(AsgiClient(make_app(house)), house.owner_key)


def test_the_list_counts_rows_splits_and_what_waits(client: AsgiClient) -> None:
    page = client.get("/datasets").text
    assert f"/datasets/{NAME}/3" in page
    assert "What customers asked in spring." in page
    assert re.search(r"\d proposals to review", page)
    assert "no rows" in page  # a version that holds something else


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (f"/datasets/{NAME}/3", "exact duplicate 1"),
        (f"/datasets/{NAME}/3?where=lang:none&tag=hard", "q000"),
        (f"/datasets/{NAME}/3?where=nothing-like-this", "No row matches here."),
        (f"/datasets/{NAME}/3?tab=sheet", "Names of people"),
        (f"/datasets/{NAME}/3?tab=profile", "Guessed from script"),
        (f"/datasets/{NAME}/3/row?id=q001", f"/traces/{TRACE_ID}?span=0000000000000001"),
        (f"/datasets/{NAME}/diff?base=1&other=3", "Removed</dt><dd>1"),
        (f"/dataset-proposals?dataset={NAME}", "Variant 0"),
        ("/dataset-proposals?state=rejected", "Nothing is rejected"),
        (f"/dataset-import?name={NAME}", f'value="{NAME}"'),
    ],
)
def test_each_page_stands_and_says_what_it_is_for(client: AsgiClient, path: str, said: str) -> None:
    reply = client.get(path)
    assert reply.status == 200
    assert said in reply.text


def test_a_name_alone_leads_to_the_newest_version(client: AsgiClient) -> None:
    reply = client.get(f"/datasets/{NAME}")
    assert (reply.status, reply.headers["location"]) == (303, f"/datasets/{NAME}/3")


def test_a_version_without_rows_leads_to_its_asset(client: AsgiClient) -> None:
    reply = client.get("/datasets/handbook-questions/1")
    assert (reply.status, reply.headers["location"]) == (303, "/assets/dataset/handbook-questions/1")


def test_an_unknown_dataset_row_or_version_is_told(client: AsgiClient) -> None:
    for path in ("/datasets/none", f"/datasets/{NAME}/99", f"/datasets/{NAME}/3/row?id=none"):
        assert client.get(path).status == 404


def post(client: AsgiClient, page: str, path: str, fields: dict[str, str]) -> str:
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get(page).text)
    assert token is not None
    reply = client.post_form(path, {**fields, "csrf_token": token[1]})
    assert reply.status == 303, reply.text
    return str(reply.headers["location"])


def test_proposals_are_decided_and_added_without_a_script(client: AsgiClient, house: Furnished) -> None:
    furnish_datasets(house.services, CHANGED)
    furnish_proposals(house.engine, CHANGED, prefix="other")
    queue = f"/dataset-proposals?dataset={CHANGED}"
    post(
        client, queue, "/dataset-proposals/decide", {"id": "other_0", "verdict": "accept", "dataset": CHANGED}
    )
    edited = '{"input": "How long to sleep?", "expected": "Seven to nine."}'
    post(client, queue, "/dataset-proposals/decide", {"id": "other_1", "verdict": "accept", "fields": edited})
    post(
        client,
        queue,
        "/dataset-proposals/decide",
        {"id": "other_2", "verdict": "reject", "reason": "the same"},
    )
    assert post(client, queue, "/dataset-proposals/add", {"dataset": CHANGED}).startswith(
        f"/datasets/{CHANGED}/4"
    )
    rows = {row.id: row for row in house.services.datasets.read(f"{CHANGED}@4")}
    assert rows["other_1"].fields["input"] == "How long to sleep?"
    assert "other_2" not in rows
    assert "the same" in client.get("/dataset-proposals?state=rejected").text


def test_a_call_becomes_a_row_of_a_new_dataset(client: AsgiClient, house: Furnished) -> None:
    page = client.get(f"/traces/{TRACE_ID}").text
    assert "Add to dataset" in page
    span_id = re.search(r'name="span_id" value="([0-9a-f]{16})"', page)
    assert span_id is not None
    fields = {"dataset": "asked", "trace_id": TRACE_ID, "span_id": span_id[1], "expected": "Seven to nine."}
    where = post(client, f"/traces/{TRACE_ID}", "/dataset-from-trace", fields)
    assert where.startswith("/datasets/asked/1")
    (row,) = house.services.datasets.read("asked")
    assert row.fields["expected"] == "Seven to nine."
    assert row.provenance is not None and row.provenance.kind == "trace"


def test_markup_in_rows_stays_text(client: AsgiClient, house: Furnished) -> None:
    (row,) = list(house.services.datasets.read(NAME, "id:q000"))
    row.fields["input"] = "<script>alert(1)</script> | <b>x</b>"
    house.services.datasets.create_from_rows("markup", [row], "cases", description="<i>d</i>")
    for path in ("", "?tab=sheet", "?tab=profile", "/row?id=q000"):
        page = client.get(f"/datasets/markup/1{path}").text
        assert "<script>alert" not in page
        assert "<i>d</i>" not in page
