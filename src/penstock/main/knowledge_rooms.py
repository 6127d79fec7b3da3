"""The rooms that answering from documents needs: knowledge bases, their embedder, the apps over them."""

from __future__ import annotations

import logging
import random
from functools import cached_property, partial

from penstock.apps.errors import WrongDeclaration
from penstock.apps.handbook import POCKET, declare_handbook
from penstock.apps.types import AppDeclaration, declaration_content
from penstock.base.errors import InvalidInput, NotFound
from penstock.base.late import late_imports
from penstock.knowledge.credentials import Credentials, bound_address
from penstock.knowledge.types import IngestReport
from penstock.knowledge.versions import RegistryVersions
from penstock.main.instance import find_addresses
from penstock.main.last_snapshot import LastSnapshot
from penstock.main.rooms import Rooms
from penstock.registry.types import Version
from penstock.traces.upkeep.seal import PrivacyKey

with late_imports():
    from penstock.apps import service as app_service
    from penstock.knowledge import reading as reading_service
    from penstock.knowledge import service as knowledge_service
    from penstock.knowledge.erasure import keep_out
    from penstock.knowledge.quality import evidence as comparison_evidence
    from penstock.knowledge.sources import service as source_service
    from penstock.main import embedders as embedding
    from penstock.main import gateway_embedder, planning, second_looks

MINILM = "minilm"
_log = logging.getLogger("penstock.apps")


class KnowledgeRooms(Rooms):
    """Rooms with knowledge bases and apps."""

    @cached_property
    def embedders(self) -> embedding.GatewayEmbedders:
        """Embedding models by recipe, through the gateway."""
        return embedding.GatewayEmbedders(
            gateway_embedder.GatewayCalls(lambda: find_addresses(self.home).gateway_url, self.internal_key),
            find_default=self.find_embedding_model,
            read_snapshot=LastSnapshot(self.home.snapshot).read,
            find_model=partial(self.find_version, "model"),
            blobs=self.blobs,
        )

    @cached_property
    def knowledge(self) -> knowledge_service.KnowledgeService:
        """Knowledge bases; which generation is live is kept in the registry."""
        return knowledge_service.KnowledgeService(
            self.engine,
            self.blobs,
            self.home.indexes,
            self.embedders,
            versions=RegistryVersions(self.registry),
            sources=self.sources,
            evidence=comparison_evidence.ComparisonEvidence(self.engine),
            fill_address=self.fill_address,
            is_used_elsewhere=self.registry.is_artefact,
            rerankers=second_looks.make_rerankers(
                find_gateway=lambda: find_addresses(self.home).gateway_url,
                find_engine=lambda: find_addresses(self.home).engine_url,
                internal_key=self.internal_key,
                find_embedding_model=self.find_embedding_model,
            ),
        )

    def fill_address(self, address: str) -> str:
        """Return the address of a server's index with secrets of the vault in their places."""
        return Credentials(self.open_secret, bound_address(address)).fill_address(address)

    @cached_property
    def sources(self) -> source_service.SourceService:
        """Where documents of knowledge bases come from."""
        return source_service.SourceService(
            self.engine,
            self.blobs,
            self.open_secret,
            chance=random.random,
            private_root=self.home.root,
            kept_out=keep_out.KeepOut(self.engine, lambda: PrivacyKey.load(self.home.privacy_key).digest),
        )

    @cached_property
    def reading(self) -> reading_service.Reading:
        """Documents of knowledge bases, for those who may read them."""
        return reading_service.Reading(self.engine, RegistryVersions(self.registry), self.blobs)

    def find_embedding_model(self) -> tuple[str, str]:
        """Return route and version of the embedding model: MiniLM where its weights are, else the lexical one."""
        version = self.find_version("model", MINILM)
        if version is not None and planning.WEIGHTS in version.artefacts:
            return MINILM, f"{version.label} {version.stamp.partition('@')[2]}"
        return planning.LEXICAL, "lexical@1"

    def declared_apps(self) -> list[AppDeclaration]:
        """Return the apps whose alias `prod` stands; one whose content is damaged is told in the log and left out."""
        found: list[AppDeclaration] = []
        for version in self.live_apps():
            try:
                found.append(app_service.read_content(version.content, version.name))
            except WrongDeclaration as error:
                _log.error("an app is left out", extra={"app": version.label, "reason": error.message})
        return found

    def find_app(self, reference: str) -> AppDeclaration | None:
        """Return the app that `NAME@ALIAS` or `NAME@NUMBER` names; None where nothing of it is to be had."""
        try:
            version = self.registry.resolve(f"app:{reference}")
        except (NotFound, InvalidInput):
            return None
        return (
            None
            if version.content.get("is_deleted")
            else app_service.read_content(version.content, version.name)
        )

    def register_app(self, declaration: AppDeclaration, report: IngestReport) -> Version:
        """Register an app over what an ingest made live, with its knowledge and model as parents.

        One that somebody declared stays as it is, and so does one that somebody deleted.
        """
        live = self.find_version("app", declaration.name)
        if live is not None and live.content.get("by_hand"):
            return live
        parts = [
            version
            for version in (
                self.find_version("knowledge", declaration.knowledge),
                self.find_version("model", declaration.model),
            )
            if version is not None
        ]
        version = self.registry.register(
            "app",
            declaration.name,
            {
                "declaration": declaration_content(declaration),
                "made_of": {part.asset: part.digest for part in parts},
            },
            parents=parts,
            note=f"over {report.version or report.generation}",
        )
        evidence = {"ingest": {**report.as_dict(), "dropped": len(report.dropped)}}
        self.registry.move_alias(
            "app",
            declaration.name,
            "prod",
            version.number,
            evidence=evidence,
            actor="knowledge.ingest",
            is_own_check=True,
        )
        return version

    def choose_app(self, knowledge: str) -> AppDeclaration:
        """Return the app that answers from a knowledge base: under its name, on Pocket."""
        return declare_handbook(model=POCKET, knowledge=knowledge, name=knowledge)

    def close(self) -> None:
        """Let go of the database and of the gateway."""
        if "embedders" in self.__dict__:
            self.embedders.close()
        super().close()
