"""How judges, calibrations and comparisons of them are printed."""

from collections.abc import Mapping
from typing import Any

from penstock.cli.output import print_json, print_record, print_rows, time_text

CALIBRATION_COLUMNS = (
    "id",
    "labels",
    "judge",
    "n",
    "agreement",
    "sensitivity",
    "specificity",
    "kappa",
    "made",
)
_FIGURES = (
    "agreement", "sensitivity", "specificity", "prevalence", "kappa", "alpha", "mean_error", "flip_rate", "first_place",
    "length_bias", "self_preference",
)  # fmt: skip


def figure_text(figure: Mapping[str, Any] | None, *, digits: int = 2) -> str | None:
    """Return a figure with its interval; why there is none where there is none."""
    if figure is None:
        return None
    if figure.get("value") is None:
        return str(figure.get("method") or "unknown")
    text = f"{figure['value']:.{digits}f}"
    if figure.get("low") is None or figure.get("high") is None:
        return text
    return f"{text} ({figure['low']:.{digits}f} to {figure['high']:.{digits}f})"


def calibration_row(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a calibration as one line."""
    return {
        "id": found["id"],
        "labels": found["name"],
        "judge": found["stamp"],
        "n": found["n_items"],
        **{
            name: figure_text(found.get(name))
            for name in ("agreement", "sensitivity", "specificity", "kappa")
        },
        "made": time_text(found.get("made_ns")),
    }


def print_calibration(found: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a calibration: figures, confusion, and what to take from it."""
    if as_json:
        print_json(found)
        return
    record: dict[str, Any] = {
        "calibration": found["id"],
        "labels": found["name"],
        "judge": found["stamp"],
        "model": found.get("model") or None,
        "outputs": found["n_items"],
        "raters": found.get("n_raters", 1),
    }
    record |= {name.replace("_", " "): figure_text(found[name]) for name in _FIGURES if found.get(name)}
    if found.get("human_alpha") is not None:
        record["alpha among people"] = found["human_alpha"]
    if found.get("kappa_by_prevalence"):
        record["kappa by share of yes"] = ", ".join(
            f"{share}: {kappa:.2f}" for share, kappa in found["kappa_by_prevalence"].items()
        )
    record["cost"] = found.get("cost_usd")
    record["median latency"] = f"{found['p50_latency_ms']:.0f} ms" if found.get("p50_latency_ms") else None
    print_record(record, as_json=False)
    labels = found.get("labels", [])
    if labels:
        print()
        head = "people \\ judge"
        rows = [
            {head: label, **dict(zip(labels, counts, strict=True))}
            for label, counts in zip(labels, found["confusion"], strict=True)
        ]
        print_rows(rows, (head, *labels), as_json=False)
    print()
    for sentence in found.get("sentences", []):
        print(sentence)


def print_benchmark(found: Mapping[str, Any], *, as_json: bool) -> None:
    """Print judges by agreement, and the choice."""
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "rank": row["rank"],
            "judge": row["calibration"]["stamp"],
            "model": row["calibration"].get("model"),
            "agreement": figure_text(row["calibration"]["agreement"]),
            "behind": figure_text(row.get("difference")),
            "worse": "surely" if row.get("is_worse") else "",
            "cost per output": row.get("cost_per_output_usd"),
            "latency ms": row["calibration"].get("p50_latency_ms"),
        }
        for row in found["rows"]
    ]
    columns = ("rank", "judge", "model", "agreement", "behind", "worse", "cost per output", "latency ms")
    print_rows(rows, columns, as_json=False)
    print()
    print(found["sentence"])


def print_pairs(found: Mapping[str, Any], *, as_json: bool) -> None:
    """Print how two evaluations came out side by side."""
    if as_json:
        print_json(found)
        return
    record = {
        "baseline": found["baseline"],
        "candidate": found["candidate"],
        "judge": found["judge"],
        "pairs": found["n_pairs"],
        "wins": found["n_wins"],
        "losses": found["n_losses"],
        "ties": found["n_ties"],
        "win rate": figure_text(found["win_rate"]),
        "flip rate": figure_text(found["flip_rate"]),
        "first place wins": figure_text(found["first_place"]),
        "errors": found["n_errors"],
        "cost": found.get("cost_usd"),
    }
    print_record(record, as_json=False)
    for message, n in found.get("errors", {}).items():
        print(f"{n} times: {message}")
    print()
    print(found["sentence"])
