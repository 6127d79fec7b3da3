"""A gateway and an apps process over real sockets, with a scripted retriever and two documents, one of them finance's."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from penstock.apps.app import create_apps
from penstock.apps.types import AppDeclaration
from penstock.base.errors import NotFound
from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.knowledge.retrieval.filters import may_read, read_filter
from penstock.spec.knowledge import ChosenScope
from penstock.spec.limits import LimitRule
from penstock.spec.routes import CachePolicy, Provider, Route, Target
from tests.apps.conftest import FakeRetriever
from tests.gateway.conftest import Bench, SpanList, key_row, serve

ANNA, BOB, NARROW = "ps-anna-key-0123456789", "ps-bob-key-01234567890", "ps-narrow-key-01234567"


class FakeShelf:
    """Two documents, of which only finance may read one."""

    def __init__(self) -> None:
        self.readers: dict[str, list[str] | None] = {
            "guides/sleep.md": None,
            "salaries.md": ["group:finance"],
        }
        self.url: str | None = None
        self.n_listed: list[int] = []
        """How many documents were asked for, by each list."""

    def list_bases(self, *, scope: ChosenScope) -> list[Any]:
        return [
            SimpleNamespace(
                name=name, version=f"knowledge:{name}@1", n_documents=2, n_passages=3, updated_ns=10**18
            )
            for name in ("handbook", "ledger")
        ]

    def page_documents(
        self, name: str, *, after: str | None, limit: int, is_down: bool = False, scope: ChosenScope
    ) -> list[Any]:
        if name not in ("handbook", "ledger"):
            raise NotFound(f"no knowledge base {name!r}.")
        self.n_listed.append(limit)
        paths = [
            path
            for path in sorted(self.readers, reverse=is_down)
            if after is None or (path < after if is_down else path > after)
        ]
        seen = [path for path in paths if may_read(self.readers[path], scope.principals)]
        return [self._describe(path) for path in seen[:limit]]

    def find_document(self, name: str, path: str, *, scope: ChosenScope) -> Any:
        self.read_document(name, path, scope=scope)
        return self._describe(path)

    def _describe(self, path: str) -> Any:
        return SimpleNamespace(
            path=path, title="Sleep", media_type="text/markdown", size_bytes=9, error=None, created_ns=10**18
        )

    def read_document(self, name: str, path: str, *, scope: ChosenScope) -> Any:
        if path not in self.readers or not may_read(self.readers[path], scope.principals):
            raise NotFound(f"{name!r} holds no document {path!r}.")
        return SimpleNamespace(
            path=path, title="Sleep", media_type="text/markdown", url=self.url, text=f"All of {path}."
        )


@dataclass
class House:
    bench: Bench
    retriever: FakeRetriever
    shelf: FakeShelf
    recorder: SpanList
    apps: list[AppDeclaration]
    apps_url: str
    opened: AsyncExitStack

    def begin(
        self,
        *rules: LimitRule,
        cache: CachePolicy | None = None,
        routes: tuple[Route, ...] = (),
        holds: str | None = None,
    ) -> None:
        app_target = (Target(provider="apps", model="handbook"),)
        built = build_snapshot(
            providers=[
                Provider(name="fake", base_url=self.bench.upstream.url, price_id="openai"),
                Provider(name="apps", base_url=self.apps_url, local=True, price_id="local"),
            ],
            routes=[
                Route(name="gpt-4o-mini", targets=(Target(provider="fake", model="gpt-4o-mini"),)),
                Route(name="handbook", targets=app_target, kind="chat", cache=cache or CachePolicy()),
                Route(
                    name="knowledge:handbook",
                    targets=(Target(provider="apps", model="handbook"),),
                    kind="search",
                    holds=holds,
                ),
                Route(
                    name="knowledge:ledger", targets=(Target(provider="apps", model="ledger"),), kind="search"
                ),
                *routes,
            ],
            keys=[
                key_row(ANNA, "anna"),
                key_row(BOB, "bob", user="bob"),
                key_row(NARROW, "narrow", routes=("knowledge:handbook",)),
            ],
            limit_rules=list(rules),
        )
        write_snapshot(self.bench.folder / "current.json", built)
        assert self.bench.gateway is not None
        self.bench.gateway._watch.refresh()

    def client(self, key: str = ANNA, **headers: str) -> openai.AsyncOpenAI:
        made = openai.AsyncOpenAI(
            base_url=f"{self.bench.url}/v1",
            api_key=key,
            max_retries=0,
            default_headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        self.opened.push_async_callback(made.close)
        return made

    def principals(self) -> list[str] | None:
        return self.retriever.scopes[-1].principals


@pytest.fixture
async def house(bench: Bench) -> AsyncIterator[House]:
    retriever, shelf, recorder = FakeRetriever(), FakeShelf(), SpanList()
    apps = [AppDeclaration(name="handbook", knowledge="handbook", model="gpt-4o-mini", max_tokens=50)]
    app = create_apps(
        apps=lambda: apps,
        retriever=retriever,
        recorder=recorder,
        gateway_url=f"{bench.url}/v1",
        internal_key="internal-secret",
        shelf=shelf,
        read_filter=read_filter,
    )
    async with serve(app) as port, AsyncExitStack() as opened:
        made = House(bench, retriever, shelf, recorder, apps, f"http://127.0.0.1:{port}/v1", opened)
        made.begin()
        yield made
