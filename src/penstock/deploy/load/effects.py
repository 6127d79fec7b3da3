"""How long a reply takes by how long it is: a straight line through all calls, and how well it fits. Pure."""

from collections.abc import Sequence

import numpy as np

from penstock.base.distributions import t_quantile
from penstock.deploy.load.measures import e2e
from penstock.deploy.load.types import Estimate, LengthEffect, Sample

MIN_CALLS = 8
N_BINS = 5
_ALIKE = 0.1
"""Prompts whose lengths differ by less than this share (standard deviation by mean) tell nothing of their effect."""


def fit_length_effect(label: str, samples: Sequence[Sample], *, level: float = 0.95) -> LengthEffect | None:
    """Return end-to-end ms = base + per prompt token + per completion token by least squares.

    None for fewer than 8 calls with usage, or completions that are all of one length: nothing tells base and slope apart.
    """
    calls = [each for each in samples if not each.error and each.completion_tokens]
    out = np.array([each.completion_tokens for each in calls], np.float64)
    if len(calls) < MIN_CALLS or np.ptp(out) < 1:
        return None
    times = np.array([e2e(each) for each in calls], np.float64)
    prompts = np.array([each.prompt_tokens or 0 for each in calls], np.float64)
    columns = [np.ones_like(out), out]
    is_prompt_told = prompts.mean() > 0 and prompts.std() / prompts.mean() > _ALIKE
    if is_prompt_told and np.linalg.matrix_rank(np.stack([*columns, prompts], axis=1)) == 3:
        columns.append(prompts)
    design = np.stack(columns, axis=1)
    found, *_ = np.linalg.lstsq(design, times, rcond=None)
    residuals = times - design @ found
    degrees = len(calls) - len(columns)
    variance = float(residuals @ residuals) / degrees
    errors = np.sqrt(np.maximum(0, variance * np.diag(np.linalg.inv(design.T @ design))))
    half = t_quantile((1 + level) / 2, degrees) * errors
    total = float(((times - times.mean()) ** 2).sum())
    fit = 1 - float(residuals @ residuals) / total if total > 0 else None
    estimates = [
        Estimate(value=float(value), low=float(value - width), high=float(value + width), n=len(calls))
        for value, width in zip(found, half, strict=True)
    ]
    return LengthEffect(
        label=label,
        n=len(calls),
        base_ms=estimates[0],
        per_completion_token_ms=estimates[1],
        per_prompt_token_ms=estimates[2] if len(estimates) > 2 else None,
        r_squared=fit,
        residual_ms=variance**0.5,
        bins=_bins(out, times),
        sentence=_sentence(label, estimates, fit, float(out.min()), float(out.max())),
    )


def _bins(out: "np.ndarray", times: "np.ndarray") -> tuple[tuple[int, int, int, float, float], ...]:
    edges = np.unique(np.quantile(out, np.linspace(0, 1, N_BINS + 1)).round())
    found = []
    for number, low in enumerate(edges[:-1]):
        is_last = number == len(edges) - 2
        high = edges[number + 1]
        inside = (out >= low) & ((out <= high) if is_last else (out < high))
        if inside.any():
            chosen = times[inside]
            found.append(
                (
                    int(out[inside].min()),
                    int(out[inside].max()),
                    int(inside.sum()),
                    float(np.median(chosen)),
                    float(np.quantile(chosen, 0.95)),
                )
            )
    return tuple(found)


def _sentence(label: str, estimates: Sequence[Estimate], fit: float | None, least: float, most: float) -> str:
    slope = estimates[1]
    assert slope.value is not None
    assert slope.low is not None
    assert slope.high is not None
    text = (
        f"{label}: {estimates[0].value:.0f} ms and {slope.value:.2f} ms for each completion token "
        f"({slope.low:.2f} to {slope.high:.2f}), over {least:.0f} to {most:.0f} tokens"
    )
    if len(estimates) > 2:
        text += f", and {estimates[2].value:.2f} ms for each prompt token"
    if fit is None:
        return f"{text}."
    poor = "" if fit >= 0.5 else ": length explains little here, waiting or something else does"
    return f"{text}; the line explains {100 * fit:.0f} % of the differences{poor}."
