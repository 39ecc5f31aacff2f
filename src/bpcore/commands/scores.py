"""How good a prediction is, beside the trivial one."""

from typing import Any

import numpy as np

from bpcore.commands.report import Report, counted
from bpcore.encoding import TableEncoder
from bpcore.tables import Table, is_missing, same_name

__all__ = ["compare", "score", "show_r2"]


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
    n_rows = counted(len(rows), f"{where} row")
    answer = encoder.decode(prediction)[rows]
    column = encoder.target["column"]
    score: dict[str, float | None]
    if encoder.classes:
        truth = np.array(encoder.classes, dtype=object)[encoder.encode_target(table)]
        names, counts = np.unique(truth[train].astype(str), return_counts=True)
        majority = str(names[counts.argmax()])
        score = {
            "accuracy": float((answer == truth[rows]).mean()),
            "baseline": float((truth[rows] == majority).mean()),
        }
        trivial = f"(always {majority!r}: {score['baseline']:.1%})"
        report.line("accuracy", f"{score['accuracy']:.1%} of {n_rows} {trivial}")
    else:
        truth = table.numbers(column)
        mean = np.full(len(rows), truth[train].mean())
        score = {"r2": _r2(truth[rows], answer), "baseline": _r2(truth[rows], mean)}
        shown, trivial = map(show_r2, score.values())
        report.line("R^2", f"{shown} on {n_rows} (always the mean: {trivial})")
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
        classes = {same_name(name): name for name in encoder.classes}
        texts = [same_name(str(text)) for text in table.frame[column]]
        truth = np.array([classes.get(text, text) for text in texts], dtype=object)
        known = np.array([text in classes or not is_missing(text) for text in texts], dtype=bool)
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
        text = f"R^2: {show_r2(score['r2'])}"
    n_known = score["scored_rows"]
    rows = f"{counted(n_known, 'row')} that {'has' if n_known == 1 else 'have'}"
    return score | {"text": f"{text} of {rows} {column!r}"}


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


def show_r2(value: float | None) -> str:
    """Return R^2 with three digits."""
    if value is None:
        return "undefined"
    return f"{round(value, 3) + 0.0:.3f}"  # no -0.000
