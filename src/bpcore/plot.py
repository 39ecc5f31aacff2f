"""Plots of a fit. Only this module imports matplotlib, and only when it draws.

What draws something else (`bpcore.plotgradients`, `bpcore.plotnetwork`) gets its axes here. Where
axes are given, nothing is done but drawing on them; nothing is ever shown or saved by itself.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.curves import COLOURS, LOSSES, alone, is_wide, recorded, thin

if TYPE_CHECKING:
    from bpcore.history import History
    from bpcore.raterange import LearningRateRange

__all__ = ["plot_history", "plot_learning_rate_range", "save_loss_plot"]

_MOST_POINTS = 4000  # of a curve
_STYLES = ("-", "--", "-.", ":")  # so that print without colour tells curves apart


def new_axes(ax: Any, what: str) -> Any:
    """Return `ax`, or the axes of a new pyplot figure; `what` was asked for."""
    if ax is not None:
        return ax
    return _import("pyplot", what).subplots(layout="constrained")[1]


def new_figure(figure: Any, what: str, size: tuple[float, float]) -> Any:
    """Return `figure`, or a new one of pyplot's with `size` in inches."""
    if figure is not None:
        return figure
    return _import("pyplot", what).figure(figsize=size, layout="constrained")


def say_nothing_finite(ax: Any) -> None:
    """Say why axes are empty."""
    ax.text(0.5, 0.5, "no finite values", transform=ax.transAxes, ha="center", va="center")


def add_legend(ax: Any, **keywords: Any) -> None:
    """Add a legend in which names stand as they are: a $ begins no formula."""
    for text in ax.legend(**keywords).get_texts():
        text.set_parse_math(False)


def _import(name: str, what: str) -> Any:
    from importlib import import_module

    try:
        import matplotlib  # noqa: F401 (says what is missing, whatever `name` is)

        return import_module(f"matplotlib.{name}")
    except ImportError as error:
        raise ImportError(f"{what} needs matplotlib: pip install 'bpcore[plot]'") from error


def plot_history(
    history: "History",
    ax: Any = None,
    *,
    names: Sequence[str] | None = None,
    learning_rate: bool | None = None,
) -> Any:
    """Draw figures of each epoch; see `bpcore.History.plot`."""
    names = [name for name in LOSSES if name in history] if names is None else _checked(names)
    for name in names:
        if name not in history:
            raise ValueError(f"names: {name!r} is not recorded; there are {', '.join(history)}")
    ax = new_axes(ax, "history.plot()")
    curves = recorded(history, names)
    epochs = np.asarray(history["epoch"])
    for i, (name, values) in enumerate(curves.items()):
        kept = thin(values, _MOST_POINTS)
        single = np.flatnonzero(alone(values[kept])).tolist()
        ax.plot(
            epochs[kept],
            values[kept],
            label=name.replace("_", " "),
            color=COLOURS[i % len(COLOURS)],
            linestyle=_STYLES[i % len(_STYLES)],
            marker="o" if single else None,
            markevery=single,
        )
    if is_wide(curves):
        ax.set_yscale("log")
    ax.set_xlabel("epoch")
    ax.set_ylabel(_label(names))
    ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    ax.grid(alpha=0.25)
    nothing = not any(np.isfinite(values).any() for values in curves.values())
    if nothing:
        say_nothing_finite(ax)
    if len(epochs) == 1 or (nothing and len(epochs)):  # matplotlib has no width to go by
        ax.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    if history.best_epoch is not None:
        ax.axvline(
            history.best_epoch, color="0.35", linewidth=1, linestyle=(0, (1, 2)),
            label=f"best epoch {history.best_epoch:,}",
        )  # fmt: skip
    handles = ax.get_legend_handles_labels()[0]
    rates = recorded(history, ("learning_rate",)).get("learning_rate", np.empty(0))
    if learning_rate is None:
        learning_rate = len(rates) > 0 and rates.min() < rates.max()
    if learning_rate:
        handles += _plot_rates(ax, epochs, rates)
    if len(handles) > 1:
        add_legend(ax, handles=handles)
    return ax


def _checked(names: Any) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _label(names: list[str]) -> str:
    """Say what the curves have in common."""
    if all(name.endswith("loss") for name in names):
        return "loss"
    return names[0].replace("_", " ") if len(names) == 1 else "value"


def _plot_rates(ax: Any, epochs: np.ndarray, rates: np.ndarray) -> Any:
    """Draw the learning rate faintly, on a scale of its own at the right."""
    right = ax.twinx()
    kept = thin(rates, _MOST_POINTS)
    drawn = right.plot(
        epochs[kept], rates[kept], color="0.45", linewidth=1, linestyle="-.", label="learning rate"
    )
    right.set_ylabel("learning rate", color="0.35")
    right.tick_params(colors="0.35")
    right.set_ylim(bottom=0)
    return drawn


def plot_learning_rate_range(found: "LearningRateRange", ax: Any = None) -> Any:
    """Draw the losses of a learning-rate range test; see `bpcore.LearningRateRange.plot`."""
    ax = new_axes(ax, "plot()")
    ax.plot(found.learning_rates, found.losses, ".", alpha=0.4, color=COLOURS[0], label="loss")
    ax.plot(found.learning_rates, found.smoothed_losses, color=COLOURS[1], label="smoothed")
    if np.isfinite(found.suggestion):
        label = f"suggestion {found.suggestion:.2g}"
        ax.axvline(found.suggestion, linestyle="--", color="0.35", label=label)
    ax.set_xscale("log")
    ax.set_ylim(top=max(found.losses[0], found.smoothed_losses[0]) * 1.5)
    ax.set_xlabel("learning rate")
    ax.set_ylabel("loss")
    ax.grid(alpha=0.25)
    add_legend(ax)
    return ax


def save_loss_plot(history: "History", path: str | os.PathLike[str], title: str = "") -> None:
    """Draw `history` into a PNG file; needs no display.

    Parameters
    ----------
    history : History
        What `Network.fit` returned.
    path : str or path-like
        The file to write.
    title : str, optional
        Stands above the plot.

    Raises
    ------
    ImportError
        Where matplotlib is not installed.
    """
    canvas = _import("backends.backend_agg", "a plot").FigureCanvasAgg
    figure = _import("figure", "a plot").Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    canvas(figure)
    ax = plot_history(history, figure.subplots(), learning_rate=False)
    ax.set_title(title)
    figure.savefig(path, format="png")
