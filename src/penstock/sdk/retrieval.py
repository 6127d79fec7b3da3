"""`penstock.retrieve("handbook", "how long should I sleep")`: passages of a knowledge base in a program. Standard library only.

    found = penstock.retrieve("handbook", question, k=5, filter="language:en", user="ada")
    for passage in found:
        print(passage.document, passage.text)

The search goes through the gateway, like calls of models: its keys, limits and spans hold, and so does what `user` and
`groups` may read. It is traced here as a span of kind retrieval, above the gateway's own.
"""

import asyncio
import http.client
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from penstock.sdk.carried import read_carried
from penstock.sdk.errors import RetrievalFailed, RetrievalRefused, SdkSettingInvalid
from penstock.sdk.observation import span
from penstock.sdk.propagation import SESSION_HEADER, USER_HEADER, headers
from penstock.sdk.runtime import RUNTIME
from penstock.sdk.settings import SdkSettings

GATEWAY_VARIABLE = "PENSTOCK_GATEWAY_URL"
GROUPS_HEADER = "x-penstock-groups"
MAX_REPLY_BYTES = 32 * 1024 * 1024
Filter = str | Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RetrievedPassage:
    """A passage that was found."""

    passage_id: str
    document: str
    """Path of the document in its base."""
    text: str
    score: float
    """Between 0 and 1 within one search."""
    title: str | None = None
    section: str | None = None
    anchor: str | None = None
    url: str | None = None
    """Where a reader can open it."""


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """What one search found, best first, and what was searched."""

    passages: tuple[RetrievedPassage, ...]
    version: str | None
    """Such as `knowledge:handbook@3`."""
    generation: str | None
    mode: str | None
    """`hybrid`, `lexical`, `dense` or `none`."""
    note: str | None
    """Why the search was less than it could be."""
    raw: Mapping[str, Any] = field(repr=False)

    def __iter__(self) -> Iterator[RetrievedPassage]:
        return iter(self.passages)

    def __len__(self) -> int:
        return len(self.passages)


def retrieve(
    base: str,
    query: str,
    *,
    k: int = 5,
    filter: Filter | None = None,  # noqa: A002  # the word that everybody looks for
    user: str | None = None,
    groups: Sequence[str] = (),
    gateway_url: str | None = None,
    timeout_s: float = 30.0,
) -> Retrieved:
    """Return at most `k` passages (50 are the most) of knowledge base `base` for `query`, best first.

    `filter` is a text such as `language:de -tag:draft`, or a filter of OpenAI's vector stores. `user` and `groups` say for whom
    it is searched: only what they may read is found; without them what everybody may. The user of `penstock.attributes`
    holds where none is given. The gateway is found at `gateway_url`, else PENSTOCK_GATEWAY_URL, else one port below the
    console's. Raises `RetrievalRefused` when the request is at fault and `RetrievalFailed` when the answer cannot be had.
    """
    RUNTIME.start()
    settings = RUNTIME.settings
    assert settings is not None
    with span(f"retrieve {base}", kind="retrieval", input={"query": query, "k": k}) as seen:
        body: dict[str, Any] = {"query": query, "max_num_results": k}
        if filter:
            body["filters"] = filter
        page = _post(
            gateway_url or _find_gateway(settings),
            f"/v1/vector_stores/{quote(base, safe='')}/search",
            body,
            _headers(settings, user, groups),
            timeout_s,
        )
        found = _read_page(page)
        seen.update(
            output={
                "documents": [
                    {
                        "passage_id": each.passage_id,
                        "document": each.document,
                        "text": each.text,
                        "score": each.score,
                    }
                    for each in found
                ]
            },
            metadata={"version": found.version, "mode": found.mode},
        )
        return found


async def retrieve_async(
    base: str,
    query: str,
    *,
    k: int = 5,
    filter: Filter | None = None,  # noqa: A002  # as in `retrieve`
    user: str | None = None,
    groups: Sequence[str] = (),
    gateway_url: str | None = None,
    timeout_s: float = 30.0,
) -> Retrieved:
    """Do what `retrieve` does, on a thread: the loop goes on meanwhile."""
    return await asyncio.to_thread(
        retrieve,
        base,
        query,
        k=k,
        filter=filter,
        user=user,
        groups=groups,
        gateway_url=gateway_url,
        timeout_s=timeout_s,
    )


def _find_gateway(settings: SdkSettings) -> str:
    told = os.environ.get(GATEWAY_VARIABLE)
    if told:
        return told
    parts = urlsplit(settings.url)
    if parts.port is None:
        return settings.url
    return f"{parts.scheme}://{_host(parts.hostname or '')}:{parts.port - 1}"


def _host(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _headers(settings: SdkSettings, user: str | None, groups: Sequence[str]) -> dict[str, bytes]:
    if isinstance(groups, str):
        raise SdkSettingInvalid("`groups` is one text.", hint=f"Give a list: groups=[{groups!r}].")
    found = {name: value.encode() for name, value in headers().items()}
    carried = read_carried().attributes
    told = {
        USER_HEADER: user or carried.get("user.id"),
        SESSION_HEADER: carried.get("session.id"),
        # a name may hold a comma, which would make it two
        GROUPS_HEADER: ",".join(quote(each, safe="") for each in groups),
    }
    for name, value in told.items():
        if value:
            if not str(value).isprintable():
                raise SdkSettingInvalid(f"What {name} is to say cannot stand in a header: {str(value)!r}.")
            found[name] = str(value).encode()
    found["authorization"] = f"Bearer {settings.key or ''}".encode()
    found["content-type"] = b"application/json"
    return found


def _post(
    url: str, path: str, body: Mapping[str, Any], sent: Mapping[str, bytes], timeout_s: float
) -> Mapping[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise SdkSettingInvalid(
            f"{url!r} is no address of a gateway.", hint="Give one such as http://127.0.0.1:4600."
        )
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=timeout_s)
    base = parts.path.rstrip("/").removesuffix("/v1")
    try:
        connection.request("POST", base + path, body=json.dumps(body).encode(), headers=sent)
        response = connection.getresponse()
        data = response.read(MAX_REPLY_BYTES)
        status = response.status
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise RetrievalFailed(
            f"The gateway at {url} did not answer: {str(error) or type(error).__name__}.",
            hint=f"Is Penstock running, and {GATEWAY_VARIABLE} its gateway's address?",
        ) from error
    finally:
        connection.close()
    try:
        value = json.loads(data)
    except ValueError as error:
        raise RetrievalFailed(f"The gateway at {url} answered status {status} without JSON.") from error
    if status == http.client.OK and isinstance(value, dict):
        return value
    if status == http.client.OK:
        raise RetrievalFailed(f"The gateway at {url} answered something else than a page of results.")
    told = value.get("error") if isinstance(value, dict) else None
    message = str(told.get("message")) if isinstance(told, dict) else f"status {status}"
    if status < http.client.INTERNAL_SERVER_ERROR:
        raise RetrievalRefused(f"The search was refused with status {status}: {message}", status=status)
    raise RetrievalFailed(f"The search failed with status {status}: {message}", status=status)


def _read_page(page: Mapping[str, Any]) -> Retrieved:
    try:
        passages = tuple(_read_row(row) for row in page["data"])
        told = page.get("knowledge") or {}
        return Retrieved(
            passages=passages,
            version=told.get("version"),
            generation=told.get("generation"),
            mode=told.get("mode"),
            note=told.get("note"),
            raw=page,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RetrievalFailed(
            f"The gateway answered something else than a page of results ({type(error).__name__}: {error})."
        ) from error


def _read_row(row: Mapping[str, Any]) -> RetrievedPassage:
    place = row.get("attributes") or {}
    return RetrievedPassage(
        passage_id=str(row["passage_id"]),
        document=str(row["filename"]),
        text="\n".join(str(part["text"]) for part in row["content"]),
        score=float(row["score"]),
        title=place.get("title"),
        section=place.get("section"),
        anchor=place.get("anchor"),
        url=place.get("url"),
    )
