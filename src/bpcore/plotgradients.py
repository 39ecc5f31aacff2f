"""Plots of reports: analytic against numeric derivatives, and the health of layers."""

from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.curves import COLOURS, spread
from bpcore.plot import add_legend, new_axes

if TYPE_CHECKING:
    from bpcore.gradreport import ArrayCheck, GradientReport
    from bpcore.healthreport import HealthReport

_MARKERS = "osD^vPX*"
_MOST_POINTS = 2000  # of an array; the wrong ones among them are drawn all the same
_MOST_ARRAYS = 8  # that the legend names
_MOST_NAMED = 5  # wrong entries
_SMALLEST_THRESHOLD = 1e-200  # matplotlib's scale overflows at smaller ones
_WRONG = ("wrong", "not finite")


def plot_gradients(report: "GradientReport", ax: Any = None) -> Any:
    """Draw analytic against numeric derivatives; see `bpcore.GradientReport.plot`."""
    ax = new_axes(ax, "report.plot()")
    arrays = list(report.arrays.values())
    threshold = _threshold(arrays)
    if threshold > _SMALLEST_THRESHOLD:
        for scale in (ax.set_xscale, ax.set_yscale):
            scale("symlog", linthresh=threshold, linscale=1)
    ends = _ends(arrays)
    ax.plot(ends, ends, color="0.5", linewidth=1, zorder=0)
    for i, array in enumerate(arrays):  # on top those with few entries, which others would hide
        _draw(ax, array, i, zorder=2 + 1 / (1 + len(array.index)))
    _name_wrong(ax, arrays)
    ax.set_xlabel("numeric derivative (central differences)")
    ax.set_ylabel("analytic derivative")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(_ticks(threshold, max(map(abs, ends))))
        axis.set_ticks([], minor=True)
    ax.grid(alpha=0.25)
    ax.set_title(_title(report), fontsize="medium")
    if arrays:
        add_legend(ax, fontsize="small", framealpha=0.9)
    return ax


def _threshold(arrays: "list[ArrayCheck]") -> float:
    """Return below what size the scale is linear: at most eight decades below the largest."""
    sizes = np.abs(np.concatenate([*(array.numeric for array in arrays), []]))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if not len(sizes):
        return 1.0
    return float(max(np.quantile(sizes, 0.1), 1e-8 * sizes.max()))


def _ends(arrays: "list[ArrayCheck]") -> list[float]:
    values = np.concatenate([*(np.r_[a.numeric, a.analytic] for a in arrays), []])
    values = values[np.isfinite(values)]
    return [float(values.min()), float(values.max())] if len(values) else [-1.0, 1.0]


def _draw(ax: Any, array: "ArrayCheck", position: int, zorder: float) -> None:
    """Draw an array's entries: judged ones filled, others hollow, wrong ones ringed in black."""
    colour = COLOURS[position % len(COLOURS)]
    style = {"color": colour, "marker": _MARKERS[position % len(_MARKERS)], "linestyle": "none"}
    label = array.name if position < _MOST_ARRAYS else None
    if not array.n_checked:
        label = None
    for judged in (True, False):
        entries = np.flatnonzero(array.judged == judged)
        chosen = entries[spread(len(entries), _MOST_POINTS)]
        ax.plot(
            array.numeric[chosen], array.analytic[chosen], markersize=4, alpha=0.8, zorder=zorder,
            markerfacecolor=colour if judged else "none", label=label if judged else None, **style,
        )  # fmt: skip
    wrong = np.isin(array.verdict, _WRONG)
    ax.plot(
        array.numeric[wrong], array.analytic[wrong], linestyle="none", marker="o", markersize=9,
        markerfacecolor="none", markeredgecolor="black", zorder=4,
    )  # fmt: skip


def _name_wrong(ax: Any, arrays: "list[ArrayCheck]") -> None:
    """Number the worst entries, and name them in the legend."""
    worst = [
        (float(array.relative_error[k]), array, k)
        for array in arrays
        if array.n_wrong
        for k in array.order()[: min(_MOST_NAMED, array.n_wrong)]
    ]
    worst.sort(key=lambda entry: -entry[0])
    for number, (error, array, k) in enumerate(worst[:_MOST_NAMED], 1):
        index = array.index[k]
        place = ", ".join(map(str, index)) if isinstance(index, tuple) else index
        name = f"{array.name}[{place}]" if place else array.name
        x, y = array.numeric[k], array.analytic[k]
        if np.isfinite([x, y]).all():
            ax.annotate(
                str(number), (x, y), (6, 4 + 7 * (number % 2)), textcoords="offset points",
                fontweight="bold", zorder=5,
            )  # fmt: skip
            label = f"{name}, relative error {error:.1e}"
        else:
            label = f"{name}, {y} (not drawn)"
        ax.plot([], [], linestyle="none", marker=f"${number}$", color="black", label=label)


def _ticks(threshold: float, largest: float) -> list[float]:
    """Return a few powers of ten of either sign, and 0, such that their labels stay apart."""
    first = int(np.floor(np.log10(threshold))) + 1
    last = min(308, int(np.ceil(np.log10(max(largest, 1e-300)))))
    step = max(1, -(-(last - first) // 3))
    powers = [10.0**e for e in range(first, last + 1, step)]
    return [*(-power for power in reversed(powers)), 0.0, *powers]


def _title(report: "GradientReport") -> str:
    if report.ok:
        verdict = "gradients proven"
    else:
        verdict = f"{report.n_wrong} WRONG" if report.n_wrong else "not proven"
    left = report.n_kinks + report.n_undecided
    text = f"{verdict}: {report.n_checked:,} checked, worst relative error {report.worst_error:.1e}"
    return text + (f"\n{left:,} left out (hollow)" if left else "")


def plot_health(report: "HealthReport", ax: Any = None) -> Any:
    """Draw each layer's shares of dead units and saturated outputs."""
    ax = new_axes(ax, "report.plot()")
    layers = [
        layer
        for layer in report.layers.values()
        if layer.dead == layer.dead or layer.saturated == layer.saturated
    ]
    places = np.arange(len(layers))
    for i, (name, label) in enumerate((("dead", "dead units"), ("saturated", "flat outputs"))):
        shares = [100 * np.nan_to_num(getattr(layer, name)) for layer in layers]
        ax.barh(
            places + 0.4 * i - 0.2, shares, 0.38, label=label, color=COLOURS[i], edgecolor="white",
            hatch=("", "///")[i],
        )  # fmt: skip
    ax.set_yticks(places, [f"{layer.name} {layer.kind}" for layer in layers])
    ax.invert_yaxis()
    ax.set_xlim(0, 100)
    ax.set_xlabel(f"share on {report.n_rows:,} rows, %")
    ax.set_ylabel("layer")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax
