"""How a network is looked at: its plots, and its picture in a notebook."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike


class Pictures:
    """The part of `Network` that draws. Everything is imported when it is needed."""

    def plot(self, X: "ArrayLike | None" = None, *, figure: Any = None) -> "np.ndarray":
        """Draw the weights layer by layer with matplotlib, and the activations for some rows.

        Weights of up to 64 x 64 are heat maps, white at 0, larger ones histograms; of wide layers
        a part is drawn. Nothing is shown or saved.

        Parameters
        ----------
        X : array_like of shape (n, n_in), optional
            Rows whose activations to draw: a histogram of each layer's outputs. At most 1000 of
            them, evenly spread, are looked at.
        figure : matplotlib.figure.Figure or SubFigure, optional
            Where to draw; a new pyplot figure without it.

        Returns
        -------
        ndarray of matplotlib.axes.Axes
            One for each panel: weights, then activations.

        Raises
        ------
        ShapeError, DTypeError, ValueError
            `X` is not what it should be.
        ImportError
            matplotlib is not installed.
        """
        from bpcore.plotnetwork import plot_network

        return plot_network(self, X, figure=figure)

    def plot_decision_boundary(
        self,
        X: "ArrayLike",
        y: "ArrayLike",
        *,
        ax: Any = None,
        output: int = 0,
        feature_names: Sequence[str] = ("feature 0", "feature 1"),
        class_names: Sequence[str] | None = None,
        resolution: int = 200,
    ) -> Any:
        """Draw what a network of two inputs answers around the data, with matplotlib.

        With cross-entropy or binary cross-entropy, or with a last softmax or sigmoid and targets of
        0 and 1, the plane is coloured by class; otherwise by the predicted quantity.

        Parameters
        ----------
        X : array_like of shape (n, 2)
        y : array_like
            The target, as for `loss_value`.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new pyplot figure without it.
        output : int
            Which of several quantities, or of several yes-or-no answers.
        feature_names : two str
            What the axes are called.
        class_names : sequence of str, optional
            What the classes are called, in the order of the outputs.
        resolution : int
            Points of the grid each way, 2 or more.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ShapeError
            The network has not two inputs, or the data do not fit it.
        ValueError
            No such output, or not as many names as classes.
        ImportError
            matplotlib is not installed.
        """
        from bpcore.plotnetwork import plot_boundary

        return plot_boundary(
            self,
            X,
            y,
            ax=ax,
            output=output,
            feature_names=feature_names,
            class_names=class_names,
            resolution=resolution,
        )

    def _repr_html_(self) -> str:
        from bpcore.htmlreprs import network_html

        return network_html(self)
