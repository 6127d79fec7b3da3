"""Experiments: a grid of prompts, models and parameters over the same cases, and which cell is best."""

from penstock.evals.types import ExperimentPage, ExperimentRecord, ExperimentSpec, Leaderboard


class ExperimentService:
    """Starts, lists and ranks experiments. All of it may be called from any thread."""

    def plan(self, spec: ExperimentSpec) -> "list[dict[str, object]]":
        """Return each cell with its calls and estimated cost; asks no model."""
        raise NotImplementedError

    def start(self, spec: ExperimentSpec, *, actor: str) -> ExperimentRecord:
        """Store the grid and queue its evaluations under one budget and pace."""
        raise NotImplementedError

    def list(self, *, tag: str | None = None, cursor: str | None = None, limit: int = 50) -> ExperimentPage:
        """Return one page, newest first."""
        raise NotImplementedError

    def get(self, experiment_id: str) -> ExperimentRecord:
        """Return one experiment, by id or by the name of the newest. Raises `UnknownExperiment`."""
        raise NotImplementedError

    def leaderboard(self, experiment_id: str, *, score: str | None = None) -> Leaderboard:
        """Return its cells by quality, cost and latency, and whether the best one is certain."""
        raise NotImplementedError

    def stop(self, experiment_id: str, *, reason: str = "stopped by hand") -> ExperimentRecord:
        """Stop the cells that run and start no further ones."""
        raise NotImplementedError

    def resume(self, experiment_id: str) -> ExperimentRecord:
        """Go on with the cells that are not done."""
        raise NotImplementedError

    def delete(self, experiment_id: str) -> None:
        """Forget the experiment; its evaluations stay unless they are deleted too."""
        raise NotImplementedError
