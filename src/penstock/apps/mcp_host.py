"""What an MCP server needs of this installation, asked of the gateway over HTTP as any client would.

So keys, limits, budgets, spans and access hold for agents as for everybody. One host stands for one caller.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from penstock.apps.document_ids import file_id_of
from penstock.apps.errors import HostRefused
from penstock.spec.callers import CALLER_HEADER

TIMEOUT_S = 600.0
"""The gateway and the apps bound each call themselves."""
MAX_PAGE = 100


class GatewayHost:
    """Asks the gateway for one caller."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, headers: Mapping[str, str]) -> None:
        """`base_url` ends in `/v1`; `headers` say who asks."""
        self._session = session
        self._base = base_url.rstrip("/")
        self._headers = dict(headers)

    async def list_bases(self) -> list[dict[str, Any]]:
        """Return the knowledge bases that the caller may search, as vector stores."""
        found: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            page = await self._get("/vector_stores", {"limit": MAX_PAGE, "after": after})
            found += page["data"]
            if not page["has_more"]:
                return found
            after = page["last_id"]

    async def search(self, base: str, query: str, k: int, filters: Any) -> dict[str, Any]:
        """Return the page of results."""
        body: dict[str, Any] = {"query": query, "max_num_results": k}
        if filters:
            body["filters"] = filters
        return await self._post(f"/vector_stores/{quote(base, safe='')}/search", body)

    async def ask(self, app: str, messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """Return an app's reply."""
        return await self._post("/chat/completions", {"model": app, "messages": list(messages)})

    async def list_documents(self, base: str, after: str | None, limit: int) -> dict[str, Any]:
        """Return a page of the documents of a base; `after` is the id of a file."""
        return await self._get(
            f"/vector_stores/{quote(base, safe='')}/files", {"limit": limit, "after": after}
        )

    async def read_document(self, base: str, path: str) -> dict[str, Any]:
        """Return what a document says, as the content of a file."""
        return await self._get(f"/vector_stores/{quote(base, safe='')}/files/{file_id_of(path)}/content", {})

    async def _get(self, path: str, query: Mapping[str, Any]) -> dict[str, Any]:
        asked = {name: str(value) for name, value in query.items() if value is not None}
        return await self._read(
            self._session.get(f"{self._base}{path}", params=asked, headers=self._headers, timeout=_TIMEOUT)
        )

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._read(
            self._session.post(
                f"{self._base}{path}",
                data=msgspec.json.encode(body),
                headers={**self._headers, "content-type": "application/json"},
                timeout=_TIMEOUT,
            )
        )

    async def _read(self, asked: Any) -> dict[str, Any]:
        try:
            async with asked as response:
                data = await response.read()
                status = response.status
        except TimeoutError:
            raise HostRefused("The gateway did not answer in time.") from None
        except aiohttp.ClientError as error:
            raise HostRefused(
                f"The gateway cannot be reached: {str(error) or type(error).__name__}.",
                hint="Is Penstock running?",
            ) from None
        try:
            value = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise HostRefused(f"The gateway answered status {status} without JSON.") from None
        if status != 200:
            told = value.get("error") if isinstance(value, dict) else None
            message = told.get("message") if isinstance(told, dict) else None
            raise HostRefused(str(message or f"The gateway answered status {status}."), status=status)
        if not isinstance(value, dict):
            raise HostRefused("The gateway answered something else than an object.")
        return value


class HostMaker:
    """Makes hosts for the callers that the gateway tells of, over one HTTP session."""

    def __init__(self, gateway_url: str, internal_key: str) -> None:
        """`gateway_url` ends in `/v1`."""
        self._base = gateway_url
        self._key = internal_key
        self._session: aiohttp.ClientSession | None = None

    def __call__(self, request: Any) -> GatewayHost:
        """Return what answers for the caller of a request that the gateway has passed on."""
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False)
        headers = {"authorization": f"Bearer {self._key}"}
        for name in (CALLER_HEADER, "traceparent"):
            if (told := request.headers.get(name)) is not None:
                headers[name] = told
        return GatewayHost(self._session, self._base, headers)

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None


_TIMEOUT = aiohttp.ClientTimeout(total=TIMEOUT_S)
