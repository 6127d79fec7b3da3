"""Lists and documents of knowledge bases are requests like others: counted, bounded, recorded, and shown to no other site's pages."""

from decimal import Decimal
from typing import Any

import httpx2
import openai
import pytest

from penstock.apps.document_ids import file_id_of
from penstock.spec.limits import LimitRule
from tests.gateway.knowledge_house import ANNA, House, house

__all__ = ["house"]  # a fixture
FEW = LimitRule(name="few", scope="key", unit="requests", amount=Decimal(3), window="hour")
SLEEP = file_id_of("guides/sleep.md")


async def test_reads_of_documents_count_as_requests_of_the_key(house: House) -> None:
    house.begin(FEW)
    client = house.client()
    await client.vector_stores.list()  # what there is costs nothing, as with models
    await client.vector_stores.retrieve("handbook")
    await client.vector_stores.files.list("handbook")
    await client.vector_stores.files.retrieve(SLEEP, vector_store_id="handbook")
    read = await client.vector_stores.files.with_raw_response.content(SLEEP, vector_store_id="handbook")
    assert read.headers["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(openai.RateLimitError, match="few"):
        await client.vector_stores.files.content(SLEEP, vector_store_id="handbook")
    with pytest.raises(openai.RateLimitError, match="few"):
        await client.vector_stores.search("handbook", query="sleep")


async def test_bases_that_are_not_there_have_no_counter(house: House) -> None:
    house.begin(LimitRule(name="few", scope="route", unit="requests", amount=Decimal(1), window="hour"))
    client = house.client()
    for name in ("nowhere", "nowhere", "knowledge:nowhere"):
        with pytest.raises(openai.NotFoundError):
            await client.vector_stores.files.list(name)
    await client.vector_stores.files.list("handbook")
    with pytest.raises(openai.RateLimitError, match="few"):
        await client.vector_stores.files.list("knowledge:handbook")
    await client.vector_stores.files.list("ledger")


async def test_reads_of_documents_are_recorded_with_whose_key_read_what_as_whom(house: House) -> None:
    client = house.client(x_penstock_user="ada", x_penstock_groups="finance", x_penstock_session="s1")
    await client.vector_stores.files.list("handbook")
    await client.vector_stores.files.content(file_id_of("salaries.md"), vector_store_id="handbook")
    listed, read = house.recorder.spans
    assert (listed.name, read.name) == ("list handbook", "read handbook")
    assert read.input == {"base": "handbook", "document": "salaries.md"}
    assert (read.key_id, read.user_id, read.session_id) == ("key_anna", "ada", "s1")
    assert read.attributes["document.principals"] == ["everyone", "user:ada", "group:finance"]
    assert (listed.attributes["document.n_listed"], read.status) == (2, "ok")
    with pytest.raises(openai.NotFoundError):
        await house.client().vector_stores.files.content(
            file_id_of("salaries.md"), vector_store_id="handbook"
        )
    assert (house.recorder.spans[-1].status, house.recorder.spans[-1].user_id) == ("error", None)


@pytest.mark.parametrize("limit", ["0", "101", "\u00b2", "\u0663", "+5", " 5", "1e1", "-1", "9" * 5000])
async def test_what_is_no_count_is_told(house: House, limit: str) -> None:
    """`isdigit` takes superscripts and other scripts' digits, of which `int` takes some and breaks at others."""
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {ANNA}"}) as client:
        for path in ("", "/handbook/files"):
            reply = await client.get(f"{house.bench.url}/v1/vector_stores{path}", params={"limit": limit})
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, "limit")


async def test_a_page_asks_for_no_more_than_it_shows(house: House) -> None:
    files = house.client(x_penstock_groups="finance").vector_stores.files
    first = await files.list("handbook", limit=1)
    assert ([each.id for each in first.data], first.has_more) == ([SLEEP], True)
    await files.retrieve(SLEEP, vector_store_id="handbook")
    assert house.shelf.n_listed == [2]


@pytest.mark.parametrize(
    ("asked", "paths", "has_more"),
    [
        ({"limit": 2}, "ab", True),
        ({"after": "b", "limit": 2}, "cd", True),
        ({"after": "c"}, "de", False),
        ({"before": "e", "limit": 2}, "cd", True),
        ({"before": "c", "limit": 2}, "ab", False),
        ({"after": "a", "before": "d"}, "bc", False),
        ({"order": "desc", "limit": 2}, "ed", True),
        ({"order": "desc", "after": "d"}, "cba", False),
        ({"order": "desc", "before": "a", "limit": 2}, "cb", True),
        ({"order": "desc", "after": "e", "before": "b", "limit": 2}, "dc", False),
    ],
)
async def test_cursors_are_read_as_openai_does(
    house: House, asked: dict[str, Any], paths: str, has_more: bool
) -> None:
    """`before` is the page in front of the cursor, not the first page of the list."""
    house.shelf.readers = dict.fromkeys("abcde")
    told = {
        name: file_id_of(value) if name in ("after", "before") else value for name, value in asked.items()
    }
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {ANNA}"}) as client:
        reply = await client.get(f"{house.bench.url}/v1/vector_stores/handbook/files", params=told)
    page = reply.json()
    assert "".join(row["attributes"]["path"] for row in page["data"]) == paths
    assert page["has_more"] is has_more


async def test_a_query_has_a_bound(house: House) -> None:
    """One request may not have a book embedded."""
    for query in ("x" * 8001, ["short", "x" * 8001]):
        with pytest.raises(openai.BadRequestError, match="8,000 characters"):
            await house.client().vector_stores.search("handbook", query=query)
    assert house.retriever.calls == []
    await house.client().vector_stores.search("handbook", query="x" * 8000)


async def test_a_page_whose_site_took_the_gateways_address_is_refused(house: House) -> None:
    """DNS rebinding: the page's origin and the host it asks are the same name then."""
    told = {"authorization": f"Bearer {ANNA}"}
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    async with httpx2.AsyncClient(headers=told) as client:
        for origin, host, status in (
            ("http://evil.example:4600", "evil.example:4600", 403),
            ("http://127.0.0.1.evil.example", "127.0.0.1.evil.example", 403),
            ("null", "127.0.0.1", 403),
            ("http://localhost:3000", "localhost", 200),
            ("http://[::1]:80", "[::1]", 200),
        ):
            headers = {"origin": origin, "host": host}
            reply = await client.post(f"{house.bench.url}/mcp", json=ping, headers=headers)
            assert reply.status_code == status, origin
            listed = await client.get(f"{house.bench.url}/v1/vector_stores", headers=headers)
            assert listed.status_code == status, origin
