"""Plots of losses, by epoch and by learning rate.

Only this module imports matplotlib, and only when it draws.
"""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .history import History
    from .raterange import LearningRateRange

__all__ = ["plot_history", "plot_learning_rate_range", "save_loss_plot"]

CURVES = ("loss", "validation_loss")


def plot_history(history: "History", ax: Any = None) -> Any:
    """Draw the loss of each epoch, and the validation loss where there is one.

    Parameters
    ----------
    history : History
        What `Network.fit` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new pyplot figure if not given.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on, with a logarithmic scale where the loss spans more than a factor of ten.
    """
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots()
    epochs = np.asarray(history["epoch"])
    drawn = []
    for name in CURVES:
        try:
            values = np.asarray(history[name], dtype=np.float64)
        except KeyError:
            continue
        ax.plot(
            epochs, values, label=name.replace("_", " "), marker="o" if len(values) == 1 else None
        )
        drawn.append(values[np.isfinite(values)])
    values = np.concatenate(drawn)
    if len(values) and values.min() > 0 and values.max() > 10 * values.min():
        ax.set_yscale("log")
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    if len(drawn) > 1:
        ax.legend()
    return ax


def plot_learning_rate_range(found: "LearningRateRange", ax: Any = None) -> Any:
    """Draw the losses of a learning-rate range test, and the rate that it suggests.

    Parameters
    ----------
    found : LearningRateRange
        What `bpcore.learning_rate_range` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new pyplot figure if not given.

    Returns
    -------
    matplotlib.axes.Axes
        With a logarithmic scale of rates.
    """
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots()
    ax.plot(found.learning_rates, found.losses, ".", alpha=0.4, label="loss")
    ax.plot(found.learning_rates, found.smoothed_losses, label="smoothed")
    if np.isfinite(found.suggestion):
        ax.axvline(found.suggestion, ls="--", label=f"suggestion {found.suggestion:.2g}")
    ax.set_xscale("log")
    ax.set_ylim(top=max(found.losses[0], found.smoothed_losses[0]) * 1.5)
    ax.set_xlabel("learning rate")
    ax.set_ylabel("loss")
    ax.legend()
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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    ax = plot_history(history, figure.subplots())
    ax.set_title(title)
    figure.savefig(path, format="png")
