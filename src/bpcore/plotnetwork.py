"""Plots of a network: its weights, its activations, and what it answers on a plane."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.arguments import whole
from bpcore.checks import as_array
from bpcore.curves import COLOURS, spread
from bpcore.errors import ShapeError
from bpcore.healthfigures import values_of
from bpcore.layers import Dense, Dropout
from bpcore.outputs import predicted, task_of, wanted
from bpcore.plot import add_legend, new_axes, new_figure, say_nothing_finite

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bpcore.network import Network

_MOST_CELLS = 64  # of a heat map, either way; larger weights get a histogram
_MOST_VALUES = 100_000  # of a histogram
_MOST_PANELS = 16  # of weights, and of activations; of more layers the first and the last
_MOST_WORK = 1e9  # multiply-adds to spend on activations
_MOST_POINTS = 2000  # of data
_PER_ROW = 4
_MARKERS = "osD^vPX*"


def plot_network(net: "Network", X: "ArrayLike | None" = None, *, figure: Any = None) -> np.ndarray:
    """Draw weights, and with X activations; see `bpcore.Network.plot`."""
    weights = [
        (f"{name}: {layer.n_in:,} to {layer.n_out:,}", layer.weight)
        for name, layer in zip(net.names, net.layers, strict=True)
        if isinstance(layer, Dense)
    ]
    groups = [[(title, _draw_weights, array) for title, array in _ends(weights)]]
    if X is not None:
        groups += [[(title, _draw_values, array) for title, array in _ends(_activations(net, X))]]
    columns = min(_PER_ROW, max(map(len, groups)))
    rows = [group[i : i + columns] for group in groups for i in range(0, len(group), columns)]
    figure = new_figure(figure, "net.plot()", (3.2 * columns + 0.6, 2.6 * len(rows) + 0.3))
    axes = []
    for i, row in enumerate(rows):
        for j, (title, draw, array) in enumerate(row):
            ax = figure.add_subplot(len(rows), columns, i * columns + j + 1)
            ax.set_title(title, fontsize="medium", parse_math=False)
            draw(ax, array)
            axes.append(ax)
    return np.array(axes, dtype=object)


def _ends(panels: list[Any]) -> list[Any]:
    half = _MOST_PANELS // 2
    return panels if len(panels) <= _MOST_PANELS else panels[:half] + panels[-half:]


def _activations(net: "Network", X: "ArrayLike") -> list[tuple[str, np.ndarray]]:
    X = net._inputs(X)
    if not len(X):
        raise ShapeError("X has no rows")
    rows = int(max(1, min(1000, _MOST_WORK // max(1, net.parameters.size))))
    values = values_of(net, as_array(X[spread(len(X), rows)], "X", net.dtype))
    return [
        (f"{name}: output of {type(layer).__name__}", y)
        for name, layer, y in zip(net.names, net.layers, values[1:], strict=True)
        if not isinstance(layer, Dropout)
    ]


def _draw_weights(ax: Any, weight: np.ndarray) -> None:
    if max(weight.shape) > _MOST_CELLS:
        _draw_values(ax, weight, "weight")
        return
    finite = np.isfinite(weight)
    peak = float(np.abs(weight[finite]).max(initial=0)) or 1.0
    weight = np.where(finite, weight, np.nan)
    shown = ax.imshow(weight, cmap="PuOr", vmin=-peak, vmax=peak, aspect="auto")
    shown.set_cmap(shown.get_cmap().with_extremes(bad="0.6"))  # which is no colour of PuOr
    ax.set_xlabel("unit" if finite.all() else "unit (grey: not finite)")
    ax.set_ylabel("input")
    for axis, n in ((ax.xaxis, weight.shape[1]), (ax.yaxis, weight.shape[0])):
        axis.set_ticks(np.arange(0, n, max(1, -(-n // 6))))
    ax.figure.colorbar(shown, ax=ax, label="weight")


def _draw_values(ax: Any, values: np.ndarray, label: str = "activation") -> None:
    flat = values.ravel()
    flat = flat[spread(flat.size, _MOST_VALUES)].astype(np.float64)
    finite = flat[np.isfinite(flat)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    if high - low <= 1e-6 * max(abs(low), abs(high)):  # all the same but for rounding
        low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
    share = np.full(finite.size, 100 / flat.size)
    ax.hist(finite, bins=50, range=(low, high), weights=share, color=COLOURS[0])
    ax.set_xlabel(label)
    ax.set_ylabel("share, %")
    if not finite.size:
        say_nothing_finite(ax)


def plot_boundary(
    net: "Network",
    X: "ArrayLike",
    y: "ArrayLike",
    *,
    ax: Any = None,
    output: int = 0,
    feature_names: Sequence[str] = ("feature 0", "feature 1"),
    class_names: Sequence[str] | None = None,
    resolution: int = 200,
) -> Any:
    """Draw what a network of two inputs answers; see `bpcore.Network.plot_decision_boundary`."""
    if net.n_in != 2:
        raise ShapeError(
            f"a decision boundary needs a network of 2 inputs, this one has {net.n_in}"
        )
    X, y, _ = net._plain_data(X, y, None)
    output = whole(output, "output")
    resolution = whole(resolution, "resolution", 2)
    if output >= net.n_out:
        raise ValueError(f"output must be below the network's {net.n_out} outputs, got {output}")
    first, second = feature_names
    task = task_of(net, y)
    n_classes = net.n_out if task == "classes" else 2
    names = [f"class {k}" for k in range(n_classes)] if class_names is None else list(class_names)
    if task != "quantity" and len(names) != n_classes:
        raise ValueError(f"class_names must name {n_classes} classes, got {len(names)}")
    ax = new_axes(ax, "net.plot_decision_boundary()")
    across, up, outputs = _answers(net, X, resolution)
    answers, target = predicted(net, task, outputs), wanted(task, y)
    if task in ("labels", "quantity"):
        answers, target = answers[..., output], target[..., output]
    chosen = spread(len(X), _MOST_POINTS)
    if task == "quantity":
        _draw_surface(ax, across, up, answers, X[chosen], target[chosen])
    else:
        _draw_regions(ax, across, up, answers)
        _draw_classes(ax, X[chosen], target[chosen], names)
    ax.set_xlabel(first)
    ax.set_ylabel(second)
    return ax


def _answers(
    net: "Network", X: np.ndarray, resolution: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a grid around the data, and the network's outputs there."""
    low, high = X.min(axis=0).astype(float), X.max(axis=0).astype(float)
    margin = np.where(high > low, 0.08 * (high - low), 0.5)
    across, up = (
        np.linspace(low[i] - margin[i], high[i] + margin[i], resolution) for i in range(2)
    )
    grid = np.stack(np.meshgrid(across, up), axis=-1)
    answers = net.predict(grid.reshape(-1, 2))
    return across, up, answers.reshape(resolution, resolution, -1)


def _draw_regions(ax: Any, across: np.ndarray, up: np.ndarray, labels: np.ndarray) -> None:
    for label in np.unique(labels):
        inside = (labels == label).astype(float)
        ax.contourf(
            across,
            up,
            inside,
            levels=[0.5, 1.5],
            colors=[COLOURS[label % len(COLOURS)]],
            alpha=0.25,
        )
        if inside.min() < inside.max():
            ax.contour(across, up, inside, levels=[0.5], colors="0.3", linewidths=0.8)


def _draw_classes(ax: Any, X: np.ndarray, labels: np.ndarray, names: list[str]) -> None:
    for label, name in enumerate(names):
        points = X[labels == label]
        ax.plot(
            points[:, 0], points[:, 1], linestyle="none", markersize=5, markeredgecolor="white",
            markeredgewidth=0.5, marker=_MARKERS[label % len(_MARKERS)],
            color=COLOURS[label % len(COLOURS)], label=name,
        )  # fmt: skip
    if len(names) <= 12:
        add_legend(ax, framealpha=0.9)


def _draw_surface(
    ax: Any, across: np.ndarray, up: np.ndarray, answers: np.ndarray, X: np.ndarray, y: np.ndarray
) -> None:
    finite = np.isfinite(answers)
    values = np.r_[answers[finite], y]
    low, high = values.min(), values.max()
    high = high if high > low else low + 1.0
    if finite.any():
        levels, answers = np.linspace(low, high, 16), np.where(finite, answers, np.nan)
        filled = ax.contourf(across, up, answers, levels=levels, cmap="viridis")
    else:
        filled = None
        say_nothing_finite(ax)
    points = ax.scatter(
        X[:, 0], X[:, 1], c=y, cmap="viridis", vmin=low, vmax=high, s=22, edgecolors="white",
        linewidths=0.7,
    )  # fmt: skip
    shown = points if filled is None else filled
    ax.figure.colorbar(shown, ax=ax, label="prediction; points: target", format="%.3g")
