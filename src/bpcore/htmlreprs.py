"""What a notebook shows of networks, histories and reports: bounded, and without scripts."""

from typing import TYPE_CHECKING

import numpy as np

from bpcore import svg
from bpcore.curves import LOSSES, recorded
from bpcore.htmltext import (
    STYLE,
    Markup,
    clipped,
    escape,
    number,
    percent,
    shortened,
    table,
    verdict,
)
from bpcore.layers import Dense, Dropout

if TYPE_CHECKING:
    from bpcore.explanation import Explanation
    from bpcore.gradreport import GradientReport
    from bpcore.healthreport import HealthReport
    from bpcore.history import History
    from bpcore.network import Network

_MOST_ROWS = 24
_MOST_COLUMNS = 12  # of a history


def view(*parts: object) -> str:
    """Return parts as one piece with its style."""
    content = "".join(escape(part) for part in parts)
    return f'<div class="bpcore"><style>{STYLE}</style>{content}</div>'


# ---- networks --------------------------------------------------------------------------------


def network_html(net: "Network") -> str:
    """Return a network's architecture and the table of its layers."""
    return view(network_picture(net), layers_table(net), network_line(net))


def network_picture(net: "Network") -> Markup:
    """Draw the dense layers, each with what follows it above."""
    widths, labels = [net.n_in], ["inputs"]
    for layer in net.layers:
        if isinstance(layer, Dense):
            widths.append(layer.n_out)
            labels.append("Dense")
        elif not isinstance(layer, Dropout):
            labels[-1] = type(layer).__name__
    shown, left, last = shortened(widths, _MOST_ROWS)
    numbers = [f"{n:,}" for n in shown] + ["..."] * (left > 0) + [f"{n:,}" for n in last]
    return svg.architecture(widths, labels, f"units of each layer: {', '.join(numbers)}")


def layers_table(net: "Network") -> Markup:
    """Return the layers with their widths and parameters."""
    rows, width = [], net.n_in
    for name, layer in zip(net.names, net.layers, strict=True):
        dense = isinstance(layer, Dense)
        before, width = width, layer.n_out if dense else width
        text = type(layer).__name__ if dense else repr(layer)
        count = layer.n_parameters if dense else 0
        rows.append((clipped(name, 30), clipped(text), f"{before:,} → {width:,}", f"{count:,}"))
    first, left, last = shortened(rows, _MOST_ROWS)
    between = [("…", f"{left} more layers", "", "")] if left else []
    head = ("name", "layer", "width", "parameters")
    return table(head, [*first, *between, *last], numeric=(2, 3))


def network_line(net: "Network") -> Markup:
    """Say what holds for the whole network."""
    penalties = "".join(
        f", {name} {number(value)}" for name, value in (("l2", net.l2), ("l1", net.l1)) if value
    )
    text = f"{net.parameters.size:,} parameters, {net.dtype}, loss {net.loss.kernel}{penalties}"
    return Markup(f"<p>{escape(text)}</p>")


# ---- histories -------------------------------------------------------------------------------


def history_html(history: "History") -> str:
    """Return the curves of the losses, and each column's last and extreme figures."""
    if not len(history):
        return view(Markup("<p>History of 0 epochs</p>"))
    lines = recorded(history, LOSSES)
    title = f"{' and '.join(lines)} of {_epochs(history)}".replace("_", " ")
    best = "" if history.best_epoch is None else f"; best epoch {history.best_epoch:,}"
    key = " (solid) and ".join(lines) + " (dashed)" if len(lines) > 1 else "".join(lines)
    named = escape(f"{_epochs(history)}{best}; {key}:".replace("_", " "))
    drawn = any(np.isfinite(values).any() for values in lines.values())
    curve = svg.sparkline(lines, title) if drawn else Markup("<p>no finite values</p>")
    return view(Markup(f"<p>{named}</p>"), curve, history_table(history))


def _epochs(history: "History") -> str:
    return f"{len(history):,} epoch{'s' * (len(history) != 1)}"


def history_table(history: "History") -> Markup:
    """Return the first, the last and the lowest figure of each column, and where that was."""
    names = [name for name in history if name not in ("epoch", "seconds")]
    rows = []
    for name in names[:_MOST_COLUMNS]:
        try:
            values = np.asarray(history[name], np.float64)
        except (TypeError, ValueError):  # a callback may record anything
            rows.append((clipped(name), "", clipped(history[name][-1]), "", ""))
            continue
        finite = np.isfinite(values)
        lowest = int(np.where(finite, values, np.inf).argmin()) if finite.any() else None
        least = ("", "") if lowest is None else (number(float(values[lowest])), f"{lowest:,}")
        gap = "nan" if name in LOSSES else ""  # of other columns: not recorded
        ends = (number(float(values[k])) or gap for k in (0, -1))
        rows.append((clipped(name), *ends, *least))
    if len(names) > _MOST_COLUMNS:
        rows.append(("…", f"{len(names) - _MOST_COLUMNS} more", "", "", ""))
    if "seconds" in history:
        rows.append(("seconds", "", number(float(history["seconds"][-1])), "", ""))
    head = ("figure", "first", "last", "lowest", "in epoch")
    return table(head, rows, numeric=(1, 2, 3, 4))


# ---- reports ---------------------------------------------------------------------------------


def gradients_html(report: "GradientReport") -> str:
    """Return the verdict of a gradient check and the table of its arrays."""
    return view(*gradient_parts(report))


def gradient_parts(report: "GradientReport") -> list[Markup]:
    """Return the sentence, the hint and a row for each array."""
    parts = [verdict(report.ok, report.sentence())]
    if report.hint:
        parts.append(Markup(f"<p>{escape(f'Hint: {report.hint}.')}</p>"))
    rows = []
    for array in report.arrays.values():
        index = array.worst_index
        place = ", ".join(map(str, index)) if isinstance(index, tuple) else index or ""
        error = number(array.worst_error, 2)
        rows.append(
            (
                clipped(array.name, 30),
                "\N{NO-BREAK SPACE}× ".join(f"{n:,}" for n in array.shape) or "number",
                f"{array.n_checked:,}",
                f"{array.n_wrong:,}",
                f"{array.n_kinks + array.n_undecided:,}",
                f"{error} at [{place}]" if error and place else error,
            )
        )
    first, left, last = shortened(rows, _MOST_ROWS)
    between = [("…", f"{left} more arrays", "", "", "", "")] if left else []
    head = ("array", "shape", "checked", "wrong", "left out", "worst relative error")
    if rows:
        parts.append(table(head, [*first, *between, *last], numeric=(2, 3, 4)))
    return parts


def health_html(report: "HealthReport") -> str:
    """Return what is wrong with a network's health, and the table of its layers."""
    return view(*health_parts(report))


def health_parts(report: "HealthReport") -> list[Markup]:
    """Return a sentence for each finding, and the figures."""
    rows_text = f"{report.n_rows:,} row{'s' * (report.n_rows != 1)}"
    parts = [verdict(True, f"Healthy on {rows_text}.")] if report.ok else []
    parts += [verdict(False, f"{finding.text}.") for finding in report.findings]
    facts = f"{len(report.inputs.unscaled):,} of {len(report.inputs.mean):,} inputs unscaled."
    if report.loss_ratio == report.loss_ratio:
        facts += f" The loss is {number(report.loss_ratio, 3)} times that of the best constant."
    parts.append(Markup(f"<p>{escape(facts)}</p>"))
    rows = [
        (
            clipped(layer.name, 30), clipped(layer.kind, 30), f"{layer.units:,}",
            percent(layer.dead), percent(layer.saturated),
            *(number(figure, 2) for figure in layer[5:]),
        )
        for layer in report.layers.values()
    ]  # fmt: skip
    first, left, last = shortened(rows, _MOST_ROWS)
    between = [("…", f"{left} more layers", *[""] * 7)] if left else []
    head = ("layer", "kind", "units", "dead", "flat", "mean", "std", "gradient", "update")
    parts.append(table(head, [*first, *between, *last], numeric=range(2, 9)))
    return parts


def explanation_html(explanation: "Explanation") -> str:
    """Return the mistakes found in somebody's gradients, and a verdict for each array."""
    right = [verdict(True, "All gradients are right.")]
    parts = right if explanation.ok else _story(explanation)
    rows = [(clipped(name, 30), str(found)) for name, found in explanation.arrays.items()]
    first, left, last = shortened(rows, _MOST_ROWS)
    between = [("…", f"{left} more arrays")] if left else []
    return view(*parts, table(("array", "verdict"), [*first, *between, *last]))


def _story(explanation: "Explanation") -> list[Markup]:
    """Return what `str` tells, its lists as lists."""
    parts, items = [], []

    def flush() -> None:
        if items:
            parts.append(Markup(f"<ul>{''.join(items)}</ul>"))
            items.clear()

    for line in explanation.story():
        if line.startswith("  - "):
            items.append(f"<li>{escape(line[4:])}</li>")
        else:
            flush()
            parts.append(verdict(False, line) if not parts else Markup(f"<p>{escape(line)}</p>"))
    flush()
    return parts
