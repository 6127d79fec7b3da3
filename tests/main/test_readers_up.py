"""A whole installation, every process of it: documents for everyone, for finance and for one person, asked for by every way in.

Nobody gets a word of what they may not read: not by chat, search, agents' tools or the SDK; not from the response cache, nor
under somebody else's trace, from an explanation, a list or a count. The model behind the app says whatever it is shown, so what
reaches it reaches the caller. The tests share the installation and run in the order of this file.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

import penstock
from penstock.apps.document_ids import file_id_of
from penstock.main.control_client import ControlClient
from penstock.main.instance import InstanceState, read_state, wait_until_ready
from penstock.spec.home import Home
from tests.cli.commands import call
from tests.main.fleet import wait_until
from tests.sdk.conftest import switch_off

pytestmark = [pytest.mark.engine, pytest.mark.slow]
QUESTION = "What is the walnut budget of the harbour project?"
WORDS = {
    "open.md": "sevenfold",
    "finance/plan.md": "tangerine",
    "ada/diary.md": "peregrine",
    "bob/notes.md": "obsidian",
}
"""A word that stands in one document alone."""
READERS = {"finance": '["group:finance"]', "ada": '["user:ada"]', "bob": '["user:bob"]'}
SECRET = set(WORDS.values()) - {"sevenfold"}
CACHED_WAYS = ("chat", "stream", "front")
EVERY_WAY = ("chat", "stream", "front", "search", "mcp", "ask", "sdk")


class Echo:
    """A provider whose model repeats all that it is shown."""

    def __init__(self) -> None:
        self.n_asked = 0
        echo = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                echo.n_asked += 1
                text = "[1] " + " ".join(message["content"] for message in body["messages"])
                usage = {"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 19}
                told = {"id": "r", "created": 1, "model": "echo", "usage": usage}
                if body.get("stream"):
                    kind, choice = (
                        "text/event-stream",
                        {"index": 0, "delta": {"content": text}, "finish_reason": "stop"},
                    )
                    chunk = {**told, "object": "chat.completion.chunk", "choices": [choice]}
                    data = b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
                else:
                    message = {"role": "assistant", "content": text}
                    choice = {"index": 0, "message": message, "finish_reason": "stop"}
                    kind = "application/json"
                    data = json.dumps({**told, "object": "chat.completion", "choices": [choice]}).encode()
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_arguments: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"


@dataclass(frozen=True)
class Caller:
    """Who asks, and the words that they may read."""

    name: str
    key: str
    words: frozenset[str]
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def told(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}", **dict(self.headers)}


@dataclass
class Town:
    home: Home
    echo: Echo
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> InstanceState:
        state = read_state(self.home)
        assert state is not None
        return state

    @property
    def gateway(self) -> str:
        return self.state.addresses.gateway_url

    def call(self, *arguments: str) -> Any:
        outcome = call(*arguments, "--json", home=self.home.root)
        assert outcome.code == 0, outcome
        return outcome.json

    def callers(self) -> list[Caller]:
        """Whoever there is, with keys that are nobody's and keys that are somebody's."""
        shared, ada, bob = (self.keys[name] for name in ("shared", "ada", "bob"))
        user, groups = "x-penstock-user", "x-penstock-groups"

        def reads(*words: str) -> frozenset[str]:
            return frozenset({"sevenfold", *words})

        return [
            Caller("nobody told", shared, reads()),
            Caller("ada", shared, reads("peregrine"), ((user, "ada"),)),
            Caller("carl of finance", shared, reads("tangerine"), ((user, "carl"), (groups, "finance"))),
            Caller(
                "ada of finance",
                shared,
                reads("peregrine", "tangerine"),
                ((user, "ada"), (groups, "finance")),
            ),
            Caller("a group called ada", shared, reads(), ((groups, "ada"),)),
            Caller("a user called finance", shared, reads(), ((user, "finance"),)),
            Caller("ada's key", ada, reads("peregrine")),
            Caller("bob's key that says ada", bob, reads("obsidian"), ((user, "ada"), (groups, "finance"))),
            Caller(
                "bob's key with principals of its own",
                bob,
                reads("obsidian"),
                (("x-penstock-principals", "user%3Aada"),),
            ),
        ]

    def client(self, caller: Caller) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.gateway}/v1",
            api_key=caller.key,
            max_retries=0,
            default_headers=dict(caller.headers),
        )

    def ask(self, caller: Caller, way: str, question: str = QUESTION) -> str:
        """Return all that one way of asking gives, as text."""
        if way in ("mcp", "ask"):
            return asyncio.run(
                self._ask_tools(caller, "search_team" if way == "mcp" else "ask_team", question)
            )
        if way == "sdk":
            return self._ask_sdk(caller, question)
        messages: Any = [{"role": "user", "content": question}]
        with self.client(caller) as client:
            if way == "search":
                page = client.vector_stores.search("team", query=question, max_num_results=20)
                return page.model_dump_json()
            model = "front" if way == "front" else "team"
            if way == "stream":
                chunks = client.chat.completions.create(
                    model=model, messages=messages, stream=True, user="ada"
                )
                return "".join(chunk.model_dump_json() for chunk in chunks)
            return client.chat.completions.create(
                model=model, messages=messages, user="ada"
            ).model_dump_json()

    def agent(self, caller: Caller, http: httpx2.AsyncClient) -> Client:
        return Client(streamable_http_client(f"{self.gateway}/mcp", http_client=http))

    async def _ask_tools(self, caller: Caller, tool: str, question: str) -> str:
        argument = "query" if tool.startswith("search") else "question"
        async with (
            httpx2.AsyncClient(headers=caller.told, timeout=120) as http,
            self.agent(caller, http) as client,
        ):
            return (await client.call_tool(tool, {argument: question})).model_dump_json()

    def _ask_sdk(self, caller: Caller, question: str) -> str:
        told = dict(caller.headers)
        groups = [each for each in (told.get("x-penstock-groups") or "").split(",") if each]
        penstock.configure(
            url=self.state.addresses.console_url, key=caller.key, spill=False, enabled=True, timeout_s=60.0
        )
        try:
            found = penstock.retrieve(
                "team",
                question,
                k=20,
                user=told.get("x-penstock-user"),
                groups=groups,
                gateway_url=self.gateway,
            )
            return json.dumps(found.raw)
        finally:
            switch_off()


def words_in(text: str) -> set[str]:
    return {word for word in WORDS.values() if word in text.casefold()}


def get(url: str, key: str | None) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("readers")
    home, echo = Home(root=folder / "home"), Echo()
    home.root.mkdir()
    home.settings.write_text(
        f"""
[providers.fake]
base_url = "{echo.url}"
auth = "none"

[routes.small]
targets = [{{ provider = "fake", model = "small" }}]
cache.mode = "exact"

[routes.front]
targets = [{{ provider = "apps", model = "team" }}, {{ provider = "fake", model = "small", tier = 1 }}]
cache.mode = "exact"
"""
    )
    documents = folder / "documents"
    for path, word in WORDS.items():
        file = documents / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# Harbour\n\nThe walnut budget of the harbour project is {word} crowns.\n")
        if (readers := READERS.get(file.parent.name)) is not None:
            (file.parent / "_properties.toml").write_text(f'readers = {readers}\nteam = "{word}"\n')
    command = [sys.executable, "-m", "penstock.cli", "up", "--port", "0", "--console-port", "0"]
    process = subprocess.Popen(
        [*command, "--home", str(home.root)],
        env={**os.environ, "PENSTOCK_HOME": str(home.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: read_state(home), what="the installation to start")
        wait_until_ready(home, deadline_s=240.0)
        made = Town(home, echo)
        furnish(made, documents)
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=240)
        echo.server.shutdown()
        echo.server.server_close()


def furnish(town: Town, documents: Path) -> None:
    app = documents.parent / "team.toml"
    app.write_text(
        'name = "team"\nknowledge = "team"\nmodel = "small"\nsteps = ["retrieve", "answer", "check"]\nk = 20\n'
        'citations = "inline"\ncheck = {kind = "citations", then = "mark"}\n'
    )
    town.call("knowledge", "ingest", "team", str(documents))
    town.call("app", "create", str(app), "--reason", "to be asked")
    for name, options in (("shared", ()), ("ada", ("--user", "ada")), ("bob", ("--user", "bob"))):
        town.keys[name] = town.call("key", "create", "--name", name, *options)["key"]

    def is_served() -> bool:
        status, body = get(f"{town.gateway}/v1/models", town.keys["bob"])
        return status == 200 and {"team", "front"} <= {each["id"] for each in json.loads(body)["data"]}

    wait_until(is_served, what="the app to be a model")


@pytest.mark.parametrize("way", EVERY_WAY)
def test_every_way_gives_each_caller_what_they_may_read_and_nothing_else(town: Town, way: str) -> None:
    again = reversed(town.callers()) if way in CACHED_WAYS else ()
    for caller in [*town.callers(), *again]:
        assert words_in(town.ask(caller, way)) == caller.words, (way, caller.name)


def test_what_caches_hold_was_given_again_and_only_to_those_who_read_alike(town: Town) -> None:
    """The test above would pass with caches that are off."""
    question: Any = [{"role": "user", "content": "Which walnut budget has the harbour?"}]
    told: list[str | None] = []
    for caller in [*town.callers(), *town.callers()]:
        with town.client(caller) as client:
            raw = client.chat.completions.with_raw_response.create(model="front", messages=question)
        assert words_in(raw.text) == caller.words, caller.name
        told.append(raw.headers.get("x-penstock-cache"))
    n = len(town.callers())
    assert told[0] == "miss"
    assert told[n:] == ["hit"] * n


def test_a_filter_that_names_what_is_hidden_finds_and_says_nothing(town: Town) -> None:
    nobody = town.callers()[0]
    with town.client(nobody) as client:
        for told in ("team:tangerine", "path:finance/*", {"type": "eq", "key": "team", "value": "tangerine"}):
            page = client.vector_stores.search("team", query=QUESTION, filters=told)  # type: ignore[arg-type]  # texts too
            note = str((page.model_extra or {})["knowledge"]["note"]).replace("'team'", "")
            assert page.data == []
            assert words_in(note) == set()
            assert "1" not in note


def test_lists_documents_and_counts_speak_of_what_may_be_read(town: Town) -> None:
    for caller in town.callers():
        paths = sorted(path for path, word in WORDS.items() if word in caller.words)
        with town.client(caller) as client:
            (store,) = client.vector_stores.list().data
            assert store.file_counts.total == client.vector_stores.retrieve("team").file_counts.total
            assert store.file_counts.total == len(paths), caller.name
            assert store.metadata is not None
            assert store.metadata["n_passages"] == str(len(paths))
            files = {file.id for file in client.vector_stores.files.list("team")}
            assert files == {file_id_of(path) for path in paths}
            for path, word in WORDS.items():
                if word in caller.words:
                    read = client.vector_stores.files.content(file_id_of(path), vector_store_id="team")
                    assert word in str(read.data[0].text)
                else:
                    with pytest.raises(openai.NotFoundError):
                        client.vector_stores.files.content(file_id_of(path), vector_store_id="team")
                    with pytest.raises(openai.NotFoundError):
                        client.vector_stores.files.retrieve(file_id_of(path), vector_store_id="team")


async def test_agents_tools_and_resources_tell_nothing_of_the_rest(town: Town) -> None:
    for caller in town.callers():
        paths = sorted(path for path, word in WORDS.items() if word in caller.words)
        async with (
            httpx2.AsyncClient(headers=caller.told, timeout=120) as http,
            town.agent(caller, http) as client,
        ):
            tools = (await client.list_tools()).model_dump_json()
            assert f"({len(paths)} documents)" in tools, caller.name
            listed = await client.call_tool("list_documents", {"base": "team"})
            assert [each["document"] for each in (listed.structured_content or {})["documents"]] == paths
            resources = {str(each.uri) for each in (await client.list_resources()).resources}
            assert resources == {f"penstock://team/{path}" for path in paths}
            for path, word in WORDS.items():
                read = await client.call_tool("read_document", {"base": "team", "document": path})
                assert (word in read.model_dump_json()) == (word in caller.words)
                assert read.is_error == (word not in caller.words)


def test_the_trace_of_another_is_nobodys_business(town: Town) -> None:
    """Neither by joining it, nor by asking for it with a key that calls."""
    ada, nobody = town.callers()[1], town.callers()[0]
    question: Any = [{"role": "user", "content": QUESTION}]
    with town.client(ada) as client:
        raw = client.chat.completions.with_raw_response.create(model="team", messages=question)
    trace = raw.headers["x-penstock-trace-id"]
    joined = Caller(
        nobody.name, nobody.key, nobody.words, (("traceparent", f"00-{trace}-b7ad6b7169203331-01"),)
    )
    for way in ("chat", "search", "mcp", "ask"):
        assert words_in(town.ask(joined, way)) == nobody.words
    console = town.state.addresses.console_url
    base = f"{console}/api/v1"
    asked = (
        f"{base}/traces/{trace}",
        f"{base}/traces",
        f"{base}/knowledge",
        f"{base}/knowledge/team/documents",
        f"{base}/knowledge/team/search?q=walnut",
        f"{base}/knowledge/team/documents/finance/plan.md",
        f"{base}/knowledge/team/reports/unanswered",
    )
    for key in (*town.keys.values(), None):
        for url in asked:
            status, body = get(url, key)
            assert status in (401, 403), (url, status)
            assert words_in(body) == set()


def test_spans_of_a_run_hold_what_its_caller_could_read(town: Town) -> None:
    nobody = town.callers()[0]
    with town.client(nobody) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="team",
            messages=[{"role": "user", "content": QUESTION}],
            extra_headers={"x-penstock-cache": "bypass"},
        )
    trace = raw.headers["x-penstock-trace-id"]

    def spans() -> list[dict[str, Any]]:
        shown = call("traces", "show", trace, "--json", home=town.home.root)
        return shown.json["spans"] if shown.code == 0 else []

    wait_until(
        lambda: {"pack", "check", "answer"} <= {span["name"] for span in spans()}, what="the spans of the run"
    )
    control = ControlClient(town.home)
    payloads = {
        span["name"]: control.get(f"/api/v1/traces/{trace}/spans/{span['span_id']}/payload")
        for span in spans()
    }
    assert words_in(json.dumps([spans(), payloads])) == {"sevenfold"}
    (retrieval,) = [span for span in spans() if span["kind"] == "retrieval"]
    assert retrieval["attributes"]["retrieval.principals"] == ["everyone"]
    assert words_in(json.dumps(payloads["pack"]["output"])) == set()
    assert payloads["check"]["output"]["claims"]


def test_an_explanation_as_somebody_holds_what_they_may_read(town: Town) -> None:
    owner = town.home.admin_key.read_text().strip()
    url = f"{town.state.addresses.console_url}/api/v1/knowledge/team/explain"
    for principals, words in (
        (["everyone"], {"sevenfold"}),
        ([], {"sevenfold"}),
        (["everyone", "group:finance"], {"sevenfold", "tangerine"}),
        (["everyone", "user:ada"], {"sevenfold", "peregrine"}),
    ):
        body = {"question": QUESTION, "principals": principals, "k": 10}
        request = urllib.request.Request(
            url,
            data=json.dumps(body).encode(),
            headers={"authorization": f"Bearer {owner}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as response:
            told = response.read().decode()
        assert words_in(told) == words, principals
    for key in town.keys.values():
        request = urllib.request.Request(
            url, data=b"{}", headers={"authorization": f"Bearer {key}", "content-type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=120)
        with refused.value:
            assert refused.value.code in (401, 403)


# -- `penstock mcp`, as a client starts it


def stdio(town: Town, *options: str, **variables: str) -> Client:
    return Client(
        stdio_client(
            StdioServerParameters(
                command=sys.executable,
                args=["-m", "penstock.cli", "mcp", *options],
                env={"PATH": os.environ.get("PATH", ""), **variables},
            )
        )
    )


async def read_all(client: Client) -> tuple[set[str], set[str], str]:
    found = await client.call_tool("search_team", {"query": QUESTION, "limit": 20})
    asked = await client.call_tool("ask_team", {"question": QUESTION})
    listed = await client.call_tool("list_documents", {"base": "team"})
    assert not found.is_error
    assert asked.structured_content is not None
    assert asked.structured_content["outcome"]["state"] == "answered"
    return words_in(found.model_dump_json()), words_in(asked.model_dump_json()), listed.model_dump_json()


async def test_an_agent_over_standard_input_and_output_has_the_tools_of_the_home(town: Town) -> None:
    async with stdio(town, "--home", str(town.home.root)) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert tools == {"search_team", "ask_team", "list_documents", "read_document"}
        assert (await read_all(client))[:2] == ({"sevenfold"}, {"sevenfold"})
        assert (
            await client.call_tool("read_document", {"base": "team", "document": "ada/diary.md"})
        ).is_error
        (resource,) = (await client.list_resources()).resources
        read = await client.read_resource(str(resource.uri))
        assert "sevenfold" in read.model_dump_json()
        wrong = await client.call_tool("search_team", {"query": "x", "limit": 900})
        assert wrong.is_error


async def test_an_agent_over_standard_input_and_output_reads_as_whom_it_is_started_for(town: Town) -> None:
    home = ("--home", str(town.home.root))
    async with stdio(town, *home, "--user", "ada", "--group", "finance") as client:
        found, asked, listed = await read_all(client)
        assert found == asked == {"sevenfold", "peregrine", "tangerine"}
        assert "bob/notes.md" not in listed
    options = ("--url", f"{town.gateway}/v1", "--user", "ada", "--group", "finance")
    async with stdio(town, *options, PENSTOCK_KEY=town.keys["bob"]) as client:
        found, asked, _ = await read_all(client)
        assert found == asked == {"sevenfold", "obsidian"}


async def test_a_key_that_is_not_known_is_told_to_the_agent(town: Town) -> None:
    async with stdio(town, "--url", town.gateway, "--key", "ps-not-a-key-0123456789") as client:
        with pytest.raises(Exception, match=r"(?i)key"):
            await client.list_tools()
