"""How good a prediction is, beside the trivial one."""

from typing import Any

import numpy as np

from bpcore.commands.report import Report
from bpcore.encoding import TableEncoder
from bpcore.tables import Table

__all__ = ["compare", "score"]


def score(
    report: Report,
    encoder: TableEncoder,
    table: Table,
    prediction: np.ndarray,
    train: np.ndarray,
    held: np.ndarray,
) -> dict[str, Any]:
    """Say how good the prediction of the held-out rows is, beside the trivial one."""
    rows, where = (held, "held-out") if len(held) else (train, "training")
    answer = encoder.decode(prediction)[rows]
    column = encoder.target["column"]
    score: dict[str, float | None]
    if encoder.classes:
        truth = table.text(column)
        names, counts = np.unique(truth[train].astype(str), return_counts=True)
        majority = str(names[counts.argmax()])
        score = {
            "accuracy": float((answer == truth[rows]).mean()),
            "baseline": float((truth[rows] == majority).mean()),
        }
        trivial = f"(always {majority!r}: {score['baseline']:.1%})"
        report.line("accuracy", f"{score['accuracy']:.1%} of {len(rows)} {where} rows {trivial}")
    else:
        truth = table.numbers(column)
        mean = np.full(len(rows), truth[train].mean())
        score = {"r2": _r2(truth[rows], answer), "baseline": _r2(truth[rows], mean)}
        shown, trivial = map(_show_r2, score.values())
        report.line("R^2", f"{shown} on {len(rows)} {where} rows (always the mean: {trivial})")
        rms, rms_mean = (_rms(truth[rows] - guess) for guess in (answer, mean))
        report.line("", f"root mean squared error {rms:.6g} (always the mean: {rms_mean:.6g})")
        score |= {"rmse": rms, "baseline_rmse": rms_mean}
    return {"scored_rows": len(rows), "held_out": bool(len(held)), **score}


def compare(encoder: TableEncoder, table: Table, answer: np.ndarray) -> dict[str, Any]:
    """Score a prediction on the rows that have a target; "text" says it in a line."""
    column = encoder.target["column"]
    if column not in table.columns:
        return {}
    if encoder.classes:
        truth = table.frame[column].to_numpy(dtype=object)
        known = np.array([isinstance(text, str) and text != "" for text in truth], dtype=bool)
    else:
        truth = table.possible_numbers(column)
        known = np.isfinite(truth)
    if not known.any():
        return {}
    score: dict[str, Any] = {"scored_rows": int(known.sum())}
    if encoder.classes:
        score["accuracy"] = float((truth == answer)[known].mean())
        text = f"accuracy: {score['accuracy']:.1%}"
    else:
        score["r2"] = _r2(truth[known], answer[known])
        text = f"R^2: {_show_r2(score['r2'])}"
    return score | {"text": f"{text} of {known.sum()} rows that have {column!r}"}


def _r2(truth: np.ndarray, answer: np.ndarray) -> float | None:
    """Return 1 - residual / variation, or None where the truth does not vary."""
    deviation = truth - truth.mean()
    largest = np.abs(deviation).max()
    if not 0 < largest < np.inf:
        return None
    residual = (truth - answer) / largest  # so that no square overflows
    value = 1 - np.sum(residual**2) / np.sum((deviation / largest) ** 2)
    return float(value) if np.isfinite(value) else None


def _rms(error: np.ndarray) -> float:
    largest = float(np.abs(error).max()) or 1.0
    return largest * float(np.sqrt(np.mean((error / largest) ** 2)))


def _show_r2(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
