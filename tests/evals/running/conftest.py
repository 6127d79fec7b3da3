"""The house in which evaluations are run."""

from tests.evals.running.house import house

__all__ = ["house"]
