"""What runs need of the rest of the program. Joined in `main`; the tests' fakes are as small as these."""

from collections.abc import Callable, Iterator
from typing import Protocol

from penstock.spec.datasets import DatasetFormat, DatasetRow
from penstock.spec.tuning import PinnedAsset

Tell = Callable[[float | None, str], None]


class PinnedRows(Protocol):
    """One version of a dataset."""

    @property
    def pinned(self) -> PinnedAsset:
        """Which version, by digest."""
        ...

    @property
    def format(self) -> DatasetFormat:
        """What its rows hold."""
        ...

    @property
    def license(self) -> str | None:
        """As its version says; None is unknown."""
        ...

    @property
    def n_rows(self) -> int:
        """All of its rows."""
        ...

    def read(self, split: str | None = None) -> Iterator[tuple[int, DatasetRow]]:
        """Yield rows with their number in the dataset, from 1; of one split, where one is named."""
        ...


class TrainingData(Protocol):
    """Datasets."""

    def open(self, ref: str) -> PinnedRows:
        """Return the version that `dataset:NAME[@VERSION]` names now; raise what finding it raises."""
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
