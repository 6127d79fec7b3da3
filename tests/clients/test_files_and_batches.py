"""Files and batches with the official `openai` client."""

from collections.abc import Iterator

import openai
import pytest

from tests.clients.conftest import OTHER_KEY, Place

LINES = b'{"custom_id":"1","method":"POST","url":"/v1/embeddings","body":{}}\n'


@pytest.fixture(scope="module")
def client(running: Place) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.url + "/v1", api_key=running.key, max_retries=0) as made:
        yield made


def test_a_file_is_left_found_read_and_deleted(client: openai.OpenAI, place: Place) -> None:
    data = b"\r\n--\x00\xff" * 300_000
    file = client.files.create(file=("ünï.bin", data), purpose="user_data")
    assert (file.bytes, file.filename, file.purpose) == (len(data), "ünï.bin", "user_data")
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == data
    assert file.id in [listed.id for listed in client.files.list(purpose="user_data")]
    assert file.id not in [listed.id for listed in client.files.list(purpose="batch")]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)
    assert not place.upstream.seen


def test_a_file_may_expire(client: openai.OpenAI, place: Place) -> None:
    after = {"anchor": "created_at", "seconds": 7200}
    file = client.files.create(file=("a.txt", b"x"), purpose="user_data", expires_after=after)  # type: ignore[arg-type]
    assert file.expires_at == file.created_at + 7200
    with pytest.raises(openai.BadRequestError):
        client.files.create(file=("a.txt", b"x"), purpose="user_data", expires_after={**after, "seconds": 1})  # type: ignore[arg-type]


def test_lists_are_read_page_by_page(client: openai.OpenAI, place: Place) -> None:
    made = [client.files.create(file=("a.txt", b"x"), purpose="vision").id for _ in range(5)]
    pages = list(client.files.list(purpose="vision", limit=2).iter_pages())
    assert [len(page.data) for page in pages] == [2, 2, 1]
    assert {file.id for page in pages for file in page.data} == set(made)
    oldest = [file.id for file in client.files.list(purpose="vision", limit=2, order="asc")]
    assert oldest == list(reversed([file.id for page in pages for file in page.data]))


def test_a_batch_is_accepted_and_stays_as_it_is_until_something_runs_it(
    client: openai.OpenAI, place: Place
) -> None:
    file = client.files.create(file=("in.jsonl", LINES), purpose="batch")
    raw = client.batches.with_raw_response.create(
        input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h", metadata={"for": "test"}
    )
    batch = raw.parse()
    assert (batch.status, batch.in_progress_at, batch.input_file_id) == ("validating", None, file.id)
    assert batch.metadata == {"for": "test"}
    assert "does not run them" in raw.headers["x-penstock-warning"]
    assert client.batches.retrieve(batch.id) == batch
    second = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    assert {batch.id, second.id} <= {listed.id for listed in client.batches.list(limit=1)}
    cancelled = client.batches.cancel(batch.id)
    assert cancelled.status == "cancelled"
    assert cancelled.cancelled_at is not None
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def test_another_project_sees_none_of_it(client: openai.OpenAI, place: Place) -> None:
    file = client.files.create(file=("in.jsonl", LINES), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    other = client.with_options(api_key=OTHER_KEY)
    assert list(other.files.list()) == []
    assert list(other.batches.list()) == []
    for ask in (other.files.retrieve, other.files.content, other.files.delete):
        with pytest.raises(openai.NotFoundError):
            ask(file.id)
    for look in (other.batches.retrieve, other.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            look(batch.id)
    with pytest.raises(openai.NotFoundError):
        other.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")


def test_wrong_requests_are_told_by_their_parameter(client: openai.OpenAI, place: Place) -> None:
    text = client.files.create(file=("a.txt", b"x"), purpose="user_data")
    with pytest.raises(openai.BadRequestError) as purpose:
        client.files.create(file=("a.txt", b"x"), purpose="fun")  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError) as wrong:
        client.batches.create(input_file_id=text.id, endpoint="/v1/embeddings", completion_window="24h")
    with pytest.raises(openai.BadRequestError) as endpoint:
        client.batches.create(input_file_id=text.id, endpoint="/v1/nothing", completion_window="24h")  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError) as limit:
        client.files.list(limit=0)
    params = [error.value.param for error in (purpose, wrong, endpoint, limit)]
    assert params == ["purpose", "input_file_id", "endpoint", "limit"]
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="ps-wrong").files.list()
