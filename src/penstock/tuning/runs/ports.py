"""What runs need of the rest of the program. Joined in `main`; the tests' fakes are as small as these."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from penstock.spec.assets import AssetRef
from penstock.spec.prompts import PromptContent
from penstock.spec.tuning import PinnedAsset, Recipe
from penstock.tuning.convert.gguf_file import Precision
from penstock.tuning.model_types import BaseFolder, ModelLineage, RegisteredModel
from penstock.tuning.preflight.types import BaseFacts
from penstock.tuning.renderer import Renderer
from penstock.tuning.rows.types import RowSource


@dataclass(frozen=True, kw_only=True)
class StartFolder:
    """What training begins from, in Hugging Face layout: with weights, or from nothing without them."""

    folder: Path
    renderer: Renderer
    stop_ids: tuple[int, ...]
    pad_id: int
    context_length: int


Tell = Callable[[float | None, str], None]


class TrainingAssets(Protocol):
    """What recipes name by reference, pinned to versions."""

    def dataset(self, ref: str) -> tuple[PinnedAsset, RowSource]:
        """Return the version that `dataset:NAME[@VERSION]` names now; raise what finding it raises."""
        ...

    def prompt(self, ref: str) -> tuple[PinnedAsset, PromptContent]:
        """Return the version that `prompt:NAME[@VERSION]` names now."""
        ...

    def base(self, ref: str) -> tuple[PinnedAsset, BaseFacts]:
        """Return the version that `model:NAME[@VERSION]` names now; `prod` where nothing is said."""
        ...


class Models(Protocol):
    """Weights out of the registry and into it: `tuning.models.ModelService`."""

    def checkout(self, ref: AssetRef | str, folder: Path, *, merge_adapters: bool = True) -> BaseFolder:
        """Write a version's weights in Hugging Face layout."""
        ...

    def register_trained(
        self,
        name: str,
        folder_hf: Path | None,
        *,
        base: AssetRef | str | None,
        lineage: ModelLineage,
        precisions: Sequence[Precision] = ...,
        form: Literal["merged", "adapter", "both"] = ...,
        adapter_folder: Path | None = ...,
        alias: str | None = ...,
        license_id: str | None = ...,
        description: str = ...,
        note: str = ...,
        actor: str = ...,
        progress: Callable[[float, str], None] | None = ...,
    ) -> RegisteredModel:
        """Convert, prove and register what a run made."""
        ...


class Prices(Protocol):
    """What a teacher's replies cost."""

    def cost_usd(self, model: str, tokens_in: int, tokens_out: int) -> float | None:
        """Return the price of so many tokens; None where it is not known."""
        ...


class RunContext(Protocol):
    """The job, or the command, that drives a run."""

    def progress(self, fraction: float | None, message: str | None = None) -> None:
        """Tell how far it is."""
        ...

    def log(self, text: str) -> None:
        """Keep a line."""
        ...

    def check_cancelled(self) -> None:
        """Raise when the run is to stop."""
        ...

    def step(self, name: str, inputs: dict[str, Any], fn: Callable[[], Any]) -> Any:
        """Return what `fn()` returned for these inputs, once; see `jobs.context`."""
        ...


class RunJobs(Protocol):
    """The durable jobs that drive runs."""

    def submit(self, run_id: str, *, attempt: int) -> str:
        """Queue driving a run and return the job's id."""
        ...

    def ending(self, job_id: str) -> tuple[str, str] | None:
        """Return (`failed` or `stopped`, why) of a job that has ended; None while it waits or runs."""
        ...

    def cancel(self, job_id: str) -> None:
        """End it at its next step."""
        ...


Distiller = Callable[[Recipe, RunContext, Path], str]
"""Asks a teacher for replies, resumably, and returns the dataset that holds them: `dataset:NAME@NUMBER`. The path is a
file of the run that keeps each reply as it arrives."""
