"""The plot of a fit's loss. Only this module imports matplotlib, and only when it draws."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .history import History

__all__ = ["plot_history", "save_loss_plot"]

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
