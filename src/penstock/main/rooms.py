"""The rooms of one home that need the control tables and nothing heavy: keys, registry, jobs, blobs, snapshot.

Opened when first asked for. Commands use this directly; the processes build on it in `wiring`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.base.errors import InvalidInput, NotFound, PenstockError
from penstock.base.files import write_atomic
from penstock.base.late import late_imports
from penstock.deploy.deployments.rows import LiveDeployment
from penstock.deploy.errors import SnapshotDamaged, SnapshotInvalid, SnapshotMissing
from penstock.deploy.snapshots import build_snapshot, follow_on, read_snapshot, write_snapshot
from penstock.main.engine_files import engine_url, read_engine, read_shared
from penstock.main.errors import SettingsInvalid
from penstock.main.home_files import create_home, hold_lock, read_internal_key
from penstock.main.instance import find_addresses, is_owned
from penstock.main.job_kinds import (
    DATASET_PROPOSE,
    EVAL_RUN,
    EXPERIMENT_RUN,
    KNOWLEDGE_BUILD,
    KNOWLEDGE_COMPARE,
    KNOWLEDGE_INGEST,
    KNOWLEDGE_MEASURE,
    LOAD_TEST,
    MODEL_MEASURE,
    MODEL_PULL,
    MODEL_QUANTISE,
    MODEL_SHRINK,
    MODEL_VERIFY,
    TRACES_REMAP,
    TUNE_DISTILL,
    TUNE_RUN,
)
from penstock.main.prompt_routes import PromptVersions
from penstock.main.settings_problems import is_of_file
from penstock.registry.types import AliasMove, Version
from penstock.spec.assets import AssetRef
from penstock.spec.evaluations import Estimate
from penstock.spec.home import Home
from penstock.spec.snapshot import Snapshot
from penstock.store.sealing import master_key_path
from penstock.tuning.catalogue import ModelCatalogue

if TYPE_CHECKING:
    from sqlalchemy import Engine

with late_imports():
    from penstock.access import keys as key_service
    from penstock.access import secrets as secret_service
    from penstock.deploy import configuration as configuration_service
    from penstock.deploy import objects as stored_objects
    from penstock.deploy import queries as object_queries
    from penstock.deploy.deployments import queries as deployment_queries
    from penstock.deploy.deployments import service as deployment_service
    from penstock.evals.gates import evidence as gate_evidence
    from penstock.jobs import service as job_service
    from penstock.knowledge import living
    from penstock.knowledge.sources import secret_use
    from penstock.main import planning
    from penstock.main import serving_environment as serving
    from penstock.main import settings as settings_reading
    from penstock.registry import service as registry_service
    from penstock.store import blobs as blob_store
    from penstock.store.control import engine as control_engine
    from penstock.tuning.compress import store as measurement_store

SYSTEM = "penstock"
"""The actor of what nobody asked for: starts, and changes of the settings file."""
_log = logging.getLogger("penstock.settings")


class Rooms:
    """Services over one home. Safe to use from several threads once opened."""

    def __init__(
        self, home: Home, *, environ: Mapping[str, str] | None = None, keeps_running: bool = False
    ) -> None:
        """`keeps_running` is for processes: while the settings are damaged they go by the last good ones."""
        create_home(home)
        self.home = home
        self.environ = os.environ if environ is None else environ
        self._keeps_running = keeps_running
        self._told: str | None = None
        self.warnings = ""
        """What a person should look at in the configuration that was published last; empty when nothing."""

    @cached_property
    def storage_file(self) -> settings_reading.SettingsFile:
        """The settings as they were when these rooms were opened; where things are stored does not move."""
        try:
            return settings_reading.load_settings(self.home.settings)
        except SettingsInvalid as error:
            if not self._keeps_running or not self._last_good.exists():
                raise
            self._tell_damage(error)
            return settings_reading.load_settings(self._last_good)

    def _tell_damage(self, error: SettingsInvalid) -> None:
        """Log what is wrong with the settings, once until they are right or wrong in another way."""
        if error.message != self._told:
            self._told = error.message
            _log.error("settings are damaged, going by the last good ones", extra={"reason": error.message})

    @property
    def _last_good(self) -> Path:
        return self.home.run / "settings.good.toml"

    @cached_property
    def engine(self) -> Engine:
        """The control tables, migrated."""
        storage = self.storage_file.settings.storage
        url = storage.control_url
        if storage.control_url_env is not None:
            url = self.environ.get(storage.control_url_env)
            if not url:
                raise InvalidInput(
                    f"The variable {storage.control_url_env} is not set.",
                    hint="It holds the URL of the control tables; storage.control_url_env names it.",
                )
        return control_engine.open_control(url or control_engine.control_url(self.home))

    @cached_property
    def blobs(self) -> blob_store.BlobStore:
        """The artefacts."""
        return blob_store.BlobStore(self.storage_file.settings.storage.blobs_url or str(self.home.blobs))

    @cached_property
    def keys(self) -> key_service.KeyService:
        """The keys."""
        return key_service.KeyService(self.engine)

    @cached_property
    def secrets(self) -> secret_service.SecretService:
        """Upstream keys, sealed."""
        return secret_service.SecretService(self.engine, master_key_path(self.home.master_key, self.environ))

    def open_secret(self, name: str, address: str) -> str:
        """Return what a secret of the vault says, to be sent to the host of `address`."""
        return self.secrets.open(name, address)

    @cached_property
    def configuration(self) -> configuration_service.ConfigurationService:
        """Objects of the control tables, and what was published."""
        return configuration_service.ConfigurationService(self.engine, self)

    @cached_property
    def registry(self) -> registry_service.Registry:
        """The registry."""
        return registry_service.Registry(
            self.engine,
            self.blobs,
            check_evidence=gate_evidence.GateEvidence(self.engine).check,
            check_target=self._check_target,
        )

    def _check_target(self, version: Version) -> None:
        if version.kind == "knowledge":
            living.check_generation(self.engine, version.name, version.content)

    @cached_property
    def catalogue(self) -> ModelCatalogue:
        """Models as people look at them."""
        measurements = measurement_store.MeasurementStore(self.engine)

        def measured(digest: str) -> list[Estimate]:
            return [figure for part in measurements.newest(digest).values() for figure in part.figures]

        return ModelCatalogue(self.registry, measured=measured)

    @cached_property
    def jobs(self) -> job_service.JobService:
        """Durable work."""
        return job_service.JobService(
            self.engine,
            kinds=(
                MODEL_PULL,
                MODEL_QUANTISE,
                MODEL_SHRINK,
                MODEL_MEASURE,
                MODEL_VERIFY,
                TUNE_DISTILL,
                KNOWLEDGE_INGEST,
                KNOWLEDGE_MEASURE,
                KNOWLEDGE_COMPARE,
                KNOWLEDGE_BUILD,
                TRACES_REMAP,
                EVAL_RUN,
                EXPERIMENT_RUN,
                DATASET_PROPOSE,
                TUNE_RUN,
                LOAD_TEST,
            ),
        )

    @cached_property
    def internal_key(self) -> str:
        """The key of this installation's own processes."""
        return read_internal_key(self.home)

    def find_version(self, kind: str, name: str) -> Version | None:
        """Return the version that `prod` names, or None."""
        try:
            return self.registry.resolve(AssetRef(kind=kind, name=name, alias="prod"))  # type: ignore[arg-type]
        except NotFound:
            return None

    def live_versions(self, kind: str) -> Iterator[Version]:
        """Yield the version that `prod` names of every asset of a kind."""
        for asset in self.registry.list_assets(kind):
            try:
                yield self.registry.resolve(AssetRef(kind=asset.kind, name=asset.name, alias="prod"))
            except NotFound:
                continue

    def live_apps(self) -> list[Version]:
        """Return the versions of apps that `prod` names, without those that were deleted."""
        return [version for version in self.live_versions("app") if not version.content.get("is_deleted")]

    def app_aliases(self) -> dict[str, dict[str, Version]]:
        """Return what further aliases of apps stand for, by app."""
        return {
            asset.name: {
                alias: self.registry.resolve(AssetRef(kind="app", name=asset.name, number=number))
                for alias, number in asset.aliases.items()
                if alias != "prod"
            }
            for asset in self.registry.list_assets("app")
            if len(asset.aliases) > 1
        }

    def prompt_versions(self) -> list[PromptVersions]:
        """Return what the names and aliases of prompts stand for."""
        found: list[PromptVersions] = []
        for asset in self.registry.list_assets("prompt"):
            wanted = {*asset.aliases.values(), asset.aliases.get("prod", asset.latest)}
            versions = {
                number: self.registry.resolve(AssetRef(kind="prompt", name=asset.name, number=number))
                for number in wanted
            }
            live = versions[asset.aliases.get("prod", asset.latest)]
            aliases = {alias: versions[number] for alias, number in asset.aliases.items()}
            found.append(PromptVersions(live=live, aliases=aliases))
        return found

    def plan(self) -> planning.Plan:
        """Return the rows as settings file, control tables and registry say now. Raises `SettingsInvalid`."""
        return self._plan_by(self.home.settings, self._objects())

    def draft(
        self, objects: Sequence[stored_objects.StoredObject], *, by_last_good: bool = True
    ) -> tuple[Snapshot, planning.Plan]:
        """Return the snapshot that would be published with these objects, and how it came about.

        While the settings are damaged, rooms that keep running go by the last good ones, unless `by_last_good` is
        false. Raises `SettingsInvalid`, `SnapshotInvalid`.
        """
        try:
            planned = self._plan_by(self.home.settings, objects)
        except SettingsInvalid as error:
            if not by_last_good or not is_of_file(error):
                raise
            planned = self._plan_by_last_good(objects, error)
        return self._build(planned), planned

    def plan_file(self, settings: Path) -> tuple[Snapshot, planning.Plan]:
        """Return the snapshot that another settings file would make, for a look before it takes the place."""
        planned = self._plan_by(settings, self._objects())
        return self._build(planned), planned

    def _objects(self) -> Sequence[stored_objects.StoredObject]:
        with self.engine.connect() as connection:
            return object_queries.list_objects(connection)

    def _plan_by(self, settings: Path, objects: Sequence[stored_objects.StoredObject]) -> planning.Plan:
        return planning.plan(
            settings_reading.load_settings(settings),
            serving.serving_environment(self.home, self.environ),
            find_addresses(self.home),
            models=self._hosted_models(),
            model_aliases={f"model:{each.name}": each.aliases for each in self.registry.list_assets("model")},
            deployments=self._live_deployments(),
            apps=self.live_apps(),
            app_aliases=self.app_aliases(),
            prompts=self.prompt_versions(),
            bases=list(self.live_versions("knowledge")),
            objects=objects,
            secrets=self.secrets.sealed(),
        )

    def _plan_by_last_good(
        self, objects: Sequence[stored_objects.StoredObject], error: SettingsInvalid
    ) -> planning.Plan:
        """Plan by the settings that were good; raise `error`, what is wrong with the present ones, if that fails too.

        The copy is nothing that people know: what does not fit it does not fit the file either, or will once it is
        mended.
        """
        if not self._keeps_running or not self._last_good.exists():
            raise error
        try:
            return self._plan_by(self._last_good, objects)
        except SettingsInvalid:
            raise error from None

    def _hosted_models(self) -> list[Version]:
        """Return the versions that the shared engine hosts now; where none runs, those that `prod` names.

        A version that `prod` has just come to name is not served before its engine is up and proven, and until then
        nothing may say that it is.
        """
        shared = read_shared(self.home) if is_owned(self.home) else None
        file = None if shared is None else read_engine(self.home, shared.child)
        if file is None or file.models is None:
            return [
                version for version in self.live_versions("model") if planning.WEIGHTS in version.artefacts
            ]
        found = []
        for name, number in sorted(file.models.items()):
            with suppress(NotFound):  # a home that was restored over a running one
                found.append(self.registry.resolve(AssetRef(kind="model", name=name, number=number)))
        return found

    def _live_deployments(self) -> Sequence[LiveDeployment]:
        with self.engine.connect() as connection:
            stored = deployment_queries.list_deployments(connection)
        return deployment_service.live_deployments(stored, lambda child: engine_url(self.home, child))

    def look_again(self) -> str:
        """Return `warnings` as they are now: others may have mended what was told about."""
        if self.warnings:
            try:
                self.warnings = "; ".join(self.plan().warnings)
            except PenstockError:
                _log.debug("the configuration cannot be planned, its warnings stay")
        return self.warnings

    def users_of_secret(self, name: str) -> list[str]:
        """Return the providers and sources of documents that are sent this secret."""
        _, planned = self.draft(self._objects())
        providers = [provider.name for provider in planned.providers if provider.secret == name]
        return [*providers, *secret_use.sources_with_secret(self.engine, name)]

    def publish(self, *, actor: str, note: str) -> Snapshot:
        """Give gateways what stands now, and note who changed what."""
        return self.publish_snapshot(actor=actor, note=note)

    def publish_snapshot(self, *, actor: str = SYSTEM, note: str = "") -> Snapshot:
        """Bring the snapshot up to settings, objects, keys and registry, and return it; unchanged it is left alone.

        Whoever comes last has seen everything the others changed. While the settings are damaged, rooms that
        keep running carry keys and registry into a snapshot by the last good ones: a key that was revoked
        must not go on working. Otherwise raises `SettingsInvalid` (the snapshot stays as it was).
        """
        with self._snapshot_lock():
            try:
                return self._take_up_settings(actor, note)
            except SettingsInvalid as error:
                planned = self._plan_by_last_good(self._objects(), error)
                self._tell_damage(error)
                return self._publish(planned, actor, note)

    def take_up_settings(self) -> Snapshot:
        """Publish by the settings as they are now; raise `SettingsInvalid` rather than go by older ones."""
        with self._snapshot_lock():
            return self._take_up_settings(SYSTEM, "settings file")

    def take_up_alias(self, move: AliasMove) -> None:
        """Let everything that serves follow an alias that was moved.

        The engine sees for itself that `prod` of a model has moved, and takes it up once the version is proven.
        """
        self.publish_snapshot(actor=move.actor, note=f"{move.alias} of {move.kind} {move.name}")

    def _snapshot_lock(self) -> AbstractContextManager[None]:
        return hold_lock(self.home.run / "snapshot.lock")

    def _take_up_settings(self, actor: str, note: str) -> Snapshot:
        snapshot = self._publish(self.plan(), actor, note)
        self._keep_settings()
        return snapshot

    def _build(self, planned: planning.Plan) -> Snapshot:
        return build_snapshot(
            providers=planned.providers,
            routes=planned.routes,
            keys=self.keys.rows(),
            limits=planned.limits,
            limit_rules=planned.limit_rules,
            prices=planned.prices,
            secrets=self.secrets.sealed(),
            redis_url_env=planned.redis_url_env,
        )

    def _publish(self, planned: planning.Plan, actor: str, note: str) -> Snapshot:
        snapshot = self._build(planned)
        self.warnings = "; ".join(planned.warnings)
        try:
            current = read_snapshot(self.home.snapshot)
        except (SnapshotMissing, SnapshotDamaged, SnapshotInvalid):
            current = None
        if current is None or current.digest != snapshot.digest:
            snapshot = follow_on(snapshot, current)
            write_snapshot(self.home.snapshot, snapshot)
        self.configuration.remember(snapshot, actor=actor, note=note)
        return snapshot

    def _keep_settings(self) -> None:
        """Keep what was just found good, for a process that starts while the file is damaged."""
        self._told = None
        try:
            data = self.home.settings.read_bytes()
        except FileNotFoundError:
            data = b""
        if not self._last_good.exists() or self._last_good.read_bytes() != data:
            write_atomic(self._last_good, data, mode=0o600)

    def close(self) -> None:
        """Let go of the database."""
        if "engine" in self.__dict__:
            self.engine.dispose()
