"""What proposals need of other rooms: models through the gateway, passages of knowledge bases, jobs."""

import http.client
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

from sqlalchemy import Engine

from penstock.base.errors import NotFound
from penstock.datasets.cleaning.service import CleaningService
from penstock.datasets.proposals.ports import ModelAnswer
from penstock.datasets.proposals.service import ProposalService
from penstock.datasets.service import DatasetService
from penstock.datasets.sheet import Ancestor
from penstock.jobs.service import JobService
from penstock.jobs.worker import Worker
from penstock.knowledge.service import KnowledgeService
from penstock.main.job_kinds import DATASET_PROPOSE
from penstock.registry.service import Registry
from penstock.registry.types import LineageNode
from penstock.spec.cases import Passage

TIMEOUT_S = 300.0
MAX_REPLY_BYTES = 8 * 1024 * 1024


class RoutePricing(Protocol):
    """Knows what calls of a route cost now."""

    def estimate_usd(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return the price of so many tokens, or None."""
        ...


class GatewayModels:
    """`datasets.proposals.ports.ChatModels` over the gateway, with the installation's own key. Safe for threads."""

    def __init__(
        self, find_url: Callable[[], str], key: str, prices: RoutePricing, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._find_url = find_url
        self._key = key
        self._prices = prices
        self._timeout_s = timeout_s

    def ask(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        parameters: Mapping[str, Any],
        session: str,
    ) -> ModelAnswer:
        """Return the answer; see the port."""
        body = json.dumps({"model": model, "messages": list(messages), **parameters}).encode()
        headers = {
            "authorization": f"Bearer {self._key}",
            "content-type": "application/json",
            "x-penstock-session": session,
            "cache-control": "no-store",  # the same question again is to bring other proposals
        }
        url = urlsplit(self._find_url())
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=self._timeout_s)
        try:
            connection.request(
                "POST", f"{url.path.rstrip('/')}/v1/chat/completions", body=body, headers=headers
            )
            response = connection.getresponse()
            data = response.read(MAX_REPLY_BYTES)
            trace_id = response.getheader("x-penstock-trace-id")
            status = response.status
        except TimeoutError:
            return ModelAnswer(status="timeout", reason=f"no answer within {self._timeout_s:g} s")
        except (OSError, http.client.HTTPException) as error:
            return ModelAnswer(status="error", reason=f"the gateway could not be reached: {error}")
        finally:
            connection.close()
        return read_reply(status, data, trace_id)

    def price(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return what such a call costs now."""
        return self._prices.estimate_usd(model, input_tokens=input_tokens, output_tokens=output_tokens)


def read_reply(status: int, data: bytes, trace_id: str | None) -> ModelAnswer:
    """Return what a reply of the gateway to a chat call says."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return ModelAnswer(status="error", reason=f"status {status} without JSON", trace_id=trace_id)
    if status != http.client.OK:
        told = value.get("error")
        message = told.get("message") if isinstance(told, dict) else told
        timeout = status in {http.client.REQUEST_TIMEOUT, http.client.GATEWAY_TIMEOUT}
        return ModelAnswer(
            status="timeout" if timeout else "error",
            reason=f"status {status}: {message}"[:500],
            trace_id=trace_id,
        )
    try:
        choice = value["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text, refusal = message.get("content"), message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError):
        return ModelAnswer(status="error", reason="no chat reply", trace_id=trace_id)
    usage = value.get("usage") if isinstance(value.get("usage"), dict) else {}
    is_refused = bool(refusal) or finish == "content_filter"
    return ModelAnswer(
        status="refused" if is_refused else "ok",
        text=text if isinstance(text, str) and not is_refused else "",
        reason=str(refusal or "the provider's filter stopped it")[:500] if is_refused else "",
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        trace_id=trace_id,
    )


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


class KnowledgePassages:
    """`datasets.proposals.ports.PassageSource` over the knowledge bases of a home."""

    def __init__(self, knowledge: KnowledgeService) -> None:
        self._knowledge = knowledge

    def read(self, name: str) -> Iterator[Passage]:
        """Yield the passages of the live index, document by document."""
        for document in self._knowledge.list_documents(name):
            for each in self._knowledge.list_passages(name, document.path):
                yield Passage(text=each.text, id=each.id, document=document.path)


class QueuedProposals:
    """`datasets.proposals.ports.ProposalJobs` over the lease table."""

    def __init__(self, jobs: JobService) -> None:
        self._jobs = jobs

    def submit(self, spec: dict[str, Any]) -> str:
        """Queue a run; money is at stake, so what failed for good is not tried again by itself."""
        return self._jobs.submit(DATASET_PROPOSE, spec, max_attempts=2).id


class NoKnowledge:
    """Stands for knowledge bases where there are none at hand."""

    def read(self, name: str) -> Iterator[Passage]:
        """Refuse."""
        raise NotFound(f"There is no knowledge base {name!r} here.")


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """Cleaning and proposals over the datasets of a home, and the loop that does the jobs of proposals."""

    cleaning: CleaningService
    proposals: ProposalService
    loop: Callable[[threading.Event], None]


def create_cleaning(
    engine: Engine,
    registry: Registry,
    datasets: DatasetService,
    jobs: JobService,
    models: GatewayModels,
    *,
    knowledge: KnowledgeService | None,
) -> Cleaning:
    """Return the services, with a worker of their own: a model that takes long holds no other job up."""
    source = NoKnowledge() if knowledge is None else KnowledgePassages(knowledge)
    proposals = ProposalService(engine, datasets, models, source, QueuedProposals(jobs))
    worker = Worker(engine, {DATASET_PROPOSE: proposals.runs.run}, f"proposals-{os.getpid()}")
    return Cleaning(
        cleaning=CleaningService(datasets, find_lineage=partial(find_lineage, registry)),
        proposals=proposals,
        loop=worker.run,
    )


def find_lineage(registry: Registry, ref: str) -> tuple[list[Ancestor], list[Ancestor]]:
    """Return what a version was made from, and what was made from it, nearest first."""
    found = registry.lineage(ref)

    def ancestors(nodes: Sequence[LineageNode]) -> list[Ancestor]:
        return [
            Ancestor(
                label=f"{each.kind}:{each.name}@{each.number}", digest=each.digest, distance=each.distance
            )
            for each in nodes
        ]

    return ancestors(found.up), ancestors(found.down)
