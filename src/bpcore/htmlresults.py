"""The part of a report that tells how good a network is, beside the best constant answer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bpcore import svg
from bpcore.htmltext import Markup, clipped, escape, number, pair, percent, table
from bpcore.measures import ClassMeasures, quantity_measures
from bpcore.outputs import predicted, task_of, wanted

if TYPE_CHECKING:
    from bpcore.network import Network

_MOST_CLASSES = 20  # of a confusion matrix; of more the commonest confusions are listed
_MOST_BESIDE = 5  # of a matrix that has its figures beside it
_MOST_LISTED = 40  # classes, confusions, or outputs
_MOST_DRAWN = 4  # outputs


class Result(NamedTuple):
    """What the page says of the predictions."""

    summary: str
    tile: tuple[str, str, str]
    parts: list[Markup]


class Subject(NamedTuple):
    """What is predicted, on which rows, and how to call it."""

    target: str
    rows: str
    truth: np.ndarray
    answer: np.ndarray
    learnt: np.ndarray
    """The target of the rows trained on, which the baseline knows."""


def results_of(
    net: "Network",
    X: np.ndarray,
    y: np.ndarray,
    train_y: np.ndarray,
    *,
    target: str,
    names: Sequence[str] | None,
    offset: float,
    scale: float,
    rows: str,
) -> Result:
    """Predict and measure; the arguments are those of `bpcore.htmlreport.report_html`."""
    task = task_of(net, y)
    answer, truth = predicted(net, task, net.predict(X)), wanted(task, y)
    subject = Subject(
        target, f"{len(X):,} {rows} row{'s' * (len(X) != 1)}", truth, answer, wanted(task, train_y)
    )
    if task == "quantity":
        return _quantities(
            subject._replace(
                **{
                    name: scale * getattr(subject, name).astype(np.float64) + offset
                    for name in ("truth", "answer", "learnt")
                }
            )
        )
    names = _names(net, task, names)
    return _answers(subject, names) if task == "labels" else _classes(subject, names)


def _names(net: "Network", task: str, names: Sequence[str] | None) -> list[str]:
    count = 2 if task == "binary" else net.n_out
    if names is None:
        return ["no", "yes"] if task == "binary" else [str(k) for k in range(count)]
    if len(names) != count:
        raise ValueError(f"class_names must name {count} classes, got {len(names)}")
    return [str(name) for name in names]


# ---- classes ---------------------------------------------------------------------------------


def _classes(subject: Subject, names: list[str]) -> Result:
    measures = ClassMeasures(subject.truth, subject.answer, len(names))
    majority = int(np.bincount(subject.learnt, minlength=len(names)).argmax())
    baseline = float((subject.truth == majority).mean())
    always = f"always {clipped(names[majority], 30)!r}: {percent(baseline, 1)}"
    figure = percent(measures.accuracy, 1)
    text = f"Accuracy {figure} of {subject.rows} ({always})."
    few = len(names) <= _MOST_CLASSES
    tables = (
        _confusion(measures, names) if few else _confusions(measures, names),
        _per_class(measures, names),
    )
    beside = len(names) <= _MOST_BESIDE or not few
    parts = [Markup(f"<p>{escape(text)}</p>"), *([pair(*tables)] if beside else tables)]
    summary = f"Predicts {subject.target}, one of {len(names)} classes."
    return Result(summary, ("accuracy", figure, always), parts)


def _confusion(measures: ClassMeasures, names: list[str]) -> Markup:
    """Return the matrix as a table; the darker, the larger the share of the row's class."""
    head = "".join(f'<th scope="col" class="number">{escape(clipped(n, 16))}</th>' for n in names)
    lines = []
    for k, (name, counts) in enumerate(zip(names, measures.confusion(), strict=True)):
        cells = []
        for j, count in enumerate(counts.tolist()):
            share = count / max(1, int(measures.support[k]))
            kind = "hit" if j == k else "miss"
            shade = f' {kind}" style="--share:{share:.0%}"' if count else '"'
            cells.append(f'<td class="number{shade}>{count:,}</td>')
        row = f'<th scope="row">{escape(clipped(name, 30))}</th>{"".join(cells)}'
        lines.append(f"<tr>{row}</tr>")
    return Markup(
        '<div class="wide" tabindex="0" role="region" aria-label="confusion matrix">'
        '<table class="confusion"><caption>Rows of each class (down), by the class predicted '
        f'(across)</caption><thead><tr><th scope="col">class</th>{head}</tr></thead><tbody>\n'
        + "\n".join(lines)
        + "</tbody></table></div>"
    )


def _confusions(measures: ClassMeasures, names: list[str]) -> Markup:
    """Return the commonest confusions, where there are too many classes for a matrix."""
    rows = [
        (clipped(names[i], 30), clipped(names[j], 30), f"{count:,}")
        for i, j, count in measures.confusions(_MOST_LISTED)
    ]
    return table(("class", "predicted", "rows"), rows, (2,), "The commonest confusions")


def _per_class(measures: ClassMeasures, names: list[str]) -> Markup:
    rows = [
        (
            clipped(name, 30),
            *(percent(float(figure), 1) for figure in figures),
            f"{measures.support[k]:,}",
        )
        for k, (name, *figures) in enumerate(
            zip(names, measures.precision, measures.recall, measures.f1, strict=True)
        )
    ]
    worst = np.argsort(np.nan_to_num(measures.f1), kind="stable")[:_MOST_LISTED]
    caption = "Each class"
    if len(rows) > _MOST_LISTED:
        rows, caption = (
            [rows[k] for k in worst],
            f"The worst {_MOST_LISTED} of {len(names)} classes",
        )
    head = ("class", "precision", "recall", "F1", "rows")
    return table(head, rows, (1, 2, 3, 4), caption)


def _answers(subject: Subject, names: list[str]) -> Result:
    """Tell of several yes-or-no answers."""
    truth, answer = subject.truth, subject.answer
    usual = (subject.learnt.mean(axis=0) > 0.5).astype(np.int64)
    accuracy, baseline = float((truth == answer).mean()), float((truth == usual).mean())
    always = f"always the commoner: {percent(baseline, 1)}"
    rows = []
    for k, name in enumerate(names[:_MOST_LISTED]):
        found = ClassMeasures(truth[:, k], answer[:, k], 2)
        figures = (found.accuracy, found.precision[1], found.recall[1], found.f1[1])
        texts = (percent(float(figure), 1) for figure in figures)
        rows.append((clipped(name, 30), *texts, f"{found.support[1]:,}"))
    if len(names) > _MOST_LISTED:
        rows.append(("…", f"{len(names) - _MOST_LISTED} more", "", "", "", ""))
    head = ("output", "accuracy", "precision", "recall", "F1", "rows with it")
    text = f"{percent(accuracy, 1)} of the answers on {subject.rows} are right ({always})."
    parts = [Markup(f"<p>{escape(text)}</p>"), table(head, rows, range(1, 6))]
    summary = f"Predicts {subject.target}, {len(names)} answers of yes or no."
    return Result(summary, ("accuracy", percent(accuracy, 1), always), parts)


# ---- quantities ------------------------------------------------------------------------------


def _quantities(subject: Subject) -> Result:
    n_out = subject.truth.shape[1]
    rows, parts = [], []
    for k in range(min(n_out, _MOST_LISTED)):
        truth, answer = subject.truth[:, k], subject.answer[:, k]
        constant = np.full(len(truth), subject.learnt[:, k].mean())
        found, baseline = quantity_measures(truth, answer), quantity_measures(truth, constant)
        name = subject.target if n_out == 1 else f"{subject.target} {k}"
        figures = (_r2(found.r2), number(found.rmse), number(found.mae))
        rows.append((clipped(name, 30), *figures))
        constants = (_r2(baseline.r2), number(baseline.rmse), number(baseline.mae))
        rows.append(("always the mean", *constants))
        if k < _MOST_DRAWN:
            parts.append(_drawn(name, truth, answer))
        if k == 0:
            first = (figures[0], f"always the mean: {constants[0]}")
    if n_out > _MOST_LISTED:
        rows.append(("…", f"{n_out - _MOST_LISTED} more", "", ""))
    head = ("quantity", "R²", "root mean squared error", "mean absolute error")
    text = f"R² {first[0]} on {subject.rows} ({first[1]})."
    parts = [Markup(f"<p>{escape(text)}</p>"), table(head, rows, (1, 2, 3)), *parts]
    what = "a quantity" if n_out == 1 else f"{n_out} quantities"
    return Result(f"Predicts {subject.target}, {what}.", ("R²", *first), parts)


def _drawn(name: str, truth: np.ndarray, answer: np.ndarray) -> Markup:
    """Draw predictions against the truth, and how often they are how far off."""
    name = clipped(name, 30)
    both = svg.scatter(
        truth,
        answer,
        f"{name}: predicted against true",
        x_label=f"true {name}",
        y_label="predicted",
    )
    error = svg.histogram(
        answer - truth, f"{name}: errors of the predictions", x_label="predicted - true"
    )
    return pair(both, error)


def _r2(value: float) -> str:
    return "undefined" if value != value else f"{round(value, 3) + 0.0:.3f}"  # never -0.000
