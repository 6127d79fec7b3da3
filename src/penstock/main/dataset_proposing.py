"""What proposals need of other rooms: models through the gateway, passages of knowledge bases, jobs."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

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
from penstock.main.chat_calls import ChatCalls, RoutePricing
from penstock.main.job_kinds import DATASET_PROPOSE
from penstock.registry.service import Registry
from penstock.registry.types import LineageNode
from penstock.spec.cases import Passage

_ANEW = {"cache-control": "no-store"}
"""The same question again is to bring other proposals."""


class GatewayModels:
    """`datasets.proposals.ports.ChatModels` over the gateway, with the installation's own key. Safe for threads."""

    def __init__(self, calls: ChatCalls, prices: RoutePricing) -> None:
        self._calls = calls
        self._prices = prices

    def ask(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        parameters: Mapping[str, Any],
        session: str,
    ) -> ModelAnswer:
        """Return the answer; see the port."""
        answer = self._calls.ask(model, messages, parameters=parameters, session=session, headers=_ANEW)
        return ModelAnswer(
            status=answer.status,
            text=answer.text,
            reason=answer.reason,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            trace_id=answer.trace_id,
        )

    def price(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return what such a call costs now."""
        return self._prices.estimate_usd(model, input_tokens=input_tokens, output_tokens=output_tokens)


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
