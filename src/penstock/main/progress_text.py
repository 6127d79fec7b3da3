"""How far a run of an evaluation is, in words."""

from penstock.evals.running.runner import Progress


def progress_text(progress: Progress) -> str:
    """Return how far a run is, in words."""
    parts = [f"{progress.n_done} of {progress.n_asked}"]
    if progress.n_errors:
        parts.append(f"{progress.n_errors} errors")
    if progress.spent_usd:
        unknown = f" and {progress.n_cost_unknown} unknown" if progress.n_cost_unknown else ""
        parts.append(f"${progress.spent_usd:.4f}{unknown}")
    if progress.eta_s is not None and progress.fraction < 1:
        minutes, seconds = divmod(round(progress.eta_s), 60)
        parts.append(f"{minutes} min {seconds} s left" if minutes else f"{seconds} s left")
    return ", ".join(parts)
