"""`deploy.deployments.ports.ModelVersions` over the registry."""

from collections.abc import Sequence

from penstock.base.errors import InvalidInput, PenstockError
from penstock.deploy.deployments.errors import DeploymentInvalid
from penstock.deploy.deployments.types import PinnedModel
from penstock.main.embedded import ModelRooms
from penstock.main.planning import WEIGHTS
from penstock.main.vllm_command import find_program
from penstock.registry.types import Version
from penstock.spec.routes import RouteKind
from penstock.spec.tuning import DeploymentSpec


def pinned_model(version: Version) -> PinnedModel:
    """Return a version as far as serving goes."""
    told = version.content.get("kind")
    kind: RouteKind = "embedding" if told == "embedding" else "rerank" if told == "rerank" else "chat"
    return PinnedModel(
        asset=version.asset,
        number=version.number,
        digest=version.digest,
        kind=kind,
        context_length=int(version.content.get("context_length") or 0),
    )


class RegisteredModels:
    """Versions of one home."""

    def __init__(self, rooms: ModelRooms) -> None:
        self._rooms = rooms

    def pin(self, reference: str) -> PinnedModel:
        """Return the version that `model:NAME[@…]` names now."""
        version = self._rooms.registry.resolve(reference)
        if version.kind != "model":
            raise InvalidInput(f"{version.label} is no model.", hint="Write model:NAME@ALIAS.")
        return pinned_model(version)

    def check_servable(
        self, spec: DeploymentSpec, model: PinnedModel, adapters: Sequence[PinnedModel]
    ) -> None:
        """Raise a `PenstockError` when this engine cannot serve this version with these adapters."""
        version = self._rooms.registry.get_by_digest(model.digest)
        if spec.engine == "embedded":
            if version.content.get("adapter") is None and WEIGHTS not in version.artefacts:
                raise DeploymentInvalid(
                    f"{model.label} has no {WEIGHTS}, which the embedded engine reads.",
                    hint="Serve it with --engine vllm, or register it with a GGUF file.",
                )
            try:
                self._rooms.models.serve_version(model.label, adapters=[each.label for each in adapters])
            except PenstockError as error:
                error.message = f"{model.label} cannot be served: {error.message}"
                raise
        elif spec.engine == "vllm" and not spec.url:
            find_program(self._rooms.environ)
            if model.kind != "chat":
                raise DeploymentInvalid(f"{model.label} is no chat model; vLLM is started for those only.")
        if spec.context_length is not None and spec.context_length > model.context_length:
            raise DeploymentInvalid(
                f"{model.label} was made for {model.context_length} tokens; {spec.context_length} were asked for.",
                hint="Leave --context-length away, or give less.",
                param="context_length",
            )
