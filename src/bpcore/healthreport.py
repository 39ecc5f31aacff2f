"""What is told of a network's health: figures of its inputs and layers, and what is wrong."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bpcore.frames import to_frame

if TYPE_CHECKING:
    import pandas

LARGE_SCALE = 20.0
"""An input is unscaled where its root mean square is above this, ..."""
SMALL_SCALE = 0.01
"""... or all its values are below this in size, and half of them not 0, ..."""
LARGE_OFFSET = 20.0
"""... or its mean is more than this many standard deviations from 0, and values are above 2."""

NAMED = 4
"""Columns, or layers, that one message names; of the others it gives the number."""


class LayerHealth(NamedTuple):
    """What some rows made of one layer; nan where a figure makes no sense or was not asked for."""

    name: str
    kind: str
    units: int
    dead: float
    """The share of units that no row gets through, so that their weights cannot learn."""
    saturated: float
    """The share of outputs on the flat ends of a sigmoid, tanh or softmax."""
    mean: float
    std: float
    """Of the layer's outputs."""
    gradient_std: float
    """The spread of the loss's gradient at the layer's outputs."""
    update_ratio: float
    """The size of the optimiser's next step beside that of the weights."""


_COLUMNS = ("layer", *LayerHealth._fields[1:])


class Finding(NamedTuple):
    """Something that is wrong, in a sentence with its remedy."""

    category: type[Warning]
    text: str


class InputHealth:
    """The scale and offset of each input.

    Attributes
    ----------
    mean, std, peak : ndarray of shape (n_in,)
        Of each column; `peak` is the largest absolute value.
    unscaled : ndarray of int
        The columns whose scale or offset is far from unit. Constant ones are left out.
    vary : bool
        Whether any column does.
    """

    def __init__(self, X: np.ndarray) -> None:
        with np.errstate(all="ignore"):
            top, bottom = X.max(axis=0), X.min(axis=0)
            self.peak = np.maximum(np.abs(top), np.abs(bottom))
            self.mean = X.mean(axis=0, dtype=float)
            # a sum of squares by columns, without a copy of X
            square = np.einsum("ij,ij->j", X, X, dtype=float) / len(X)
            self.std = np.sqrt(np.maximum(square - self.mean**2, 0.0))
            varies = (top > bottom) & (len(X) > 1)
            large = square > LARGE_SCALE**2
            small = varies & (self.peak < SMALL_SCALE)
            if small.any():  # and not merely seldom anything else than 0, as pixels at an edge
                small[small] = (X[:, small] != 0).mean(axis=0) >= 0.5
            far = (np.abs(self.mean) > LARGE_OFFSET * self.std) & (self.peak > 2)
        self.unscaled = np.flatnonzero(varies & (large | small | far))
        self.vary = bool(varies.any())

    def describe(self) -> str:
        """Name the worst of the unscaled columns."""
        columns = self.unscaled[np.argsort(-self.peak[self.unscaled], kind="stable")]
        shown = ", ".join(
            f"column {c} (mean {self.mean[c]:.3g}, standard deviation {self.std[c]:.3g})"
            for c in sorted(columns[:NAMED])
        )
        return shown + (f", and {len(columns) - NAMED} more" if len(columns) > NAMED else "")


class HealthReport:
    """What `Network.health` found; `print` it to read it.

    Attributes
    ----------
    layers : dict of str to LayerHealth
        By the layers' names.
    inputs : InputHealth
    n_rows : int
    loss_ratio : float
        The loss beside that of the best constant answer: at 1 nothing is learnt. Without penalty;
        nan without `y`, and where the target is constant.
    findings : list of Finding
        What is wrong: `category`, the class of warning, and `text`, with a remedy.

    Examples
    --------
    >>> import numpy as np
    >>> import bpcore
    >>> net = bpcore.mlp([3, 4, 1], hidden="sigmoid", output="sigmoid", rng=1)
    >>> X = np.array([[4, 500, 6], [4, 550, 5.5], [2, 200, 3.5], [2, 250, 4]])
    >>> report = net.health(X)
    >>> report.ok, report.layers["1"].saturated, report.inputs.unscaled.tolist()
    (False, 1.0, [1])
    >>> net.health((X - X.mean(axis=0)) / X.std(axis=0)).ok
    True
    """

    def __init__(
        self,
        layers: dict[str, LayerHealth],
        inputs: InputHealth,
        n_rows: int,
        loss_ratio: float,
        findings: list[Finding],
    ) -> None:
        self.layers, self.inputs, self.n_rows = layers, inputs, n_rows
        self.loss_ratio, self.findings = loss_ratio, findings

    @property
    def ok(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.findings

    def to_frame(self) -> "pandas.DataFrame":
        """Return a pandas DataFrame with a row for each layer.

        Returns
        -------
        pandas.DataFrame
            With columns layer, kind, units, dead, saturated, mean, std, gradient_std, update_ratio.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        layers = self.layers.values()
        return to_frame(
            {
                column: [getattr(layer, name) for layer in layers]
                for column, name in zip(_COLUMNS, LayerHealth._fields, strict=True)
            }
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw each layer's share of dead units and of saturated outputs with matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new pyplot figure without it.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        from bpcore.plotgradients import plot_health

        return plot_health(self, ax)

    def _repr_html_(self) -> str:
        from bpcore.htmlreprs import health_html

        return health_html(self)

    def __repr__(self) -> str:
        kinds = ", ".join(finding.category.__name__ for finding in self.findings)
        return f"<HealthReport ok={self.ok}: {self.n_rows} rows{', ' if kinds else ''}{kinds}>"

    def __str__(self) -> str:
        import textwrap  # as it is rarely needed

        verdict = "healthy" if self.ok else f"{len(self.findings)} found wrong"
        lines = [f"Health on {self.n_rows} row{'s' * (self.n_rows != 1)}: {verdict}."]
        for finding in self.findings:
            lines += textwrap.wrap(finding.text, 80, break_long_words=False)
        if self.loss_ratio == self.loss_ratio:
            lines.append(f"The loss is {self.loss_ratio:.3g} times that of the best constant.")
        unscaled, n_in = len(self.inputs.unscaled), len(self.inputs.mean)
        lines += [f"{unscaled} of {n_in} inputs unscaled.", "", *self._table()]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        titles = ("layer", "kind", "units", "dead", "flat", "mean", "std", "gradient", "update")
        rows = [titles]
        for layer in self.layers.values():
            shares = map(_percent, (layer.dead, layer.saturated))
            figures = map(_short, layer[5:])
            rows.append((layer.name[:10], layer.kind[:10], str(layer.units), *shares, *figures))
        widths = (11, 10, 6, 7, 7, 9, 9, 9, 9)
        aligned = ("<", "<", *">" * 7)
        return [
            "".join(
                f"{cell:{side}{width}}"
                for cell, side, width in zip(row, aligned, widths, strict=True)
            ).rstrip()
            for row in rows
        ]


def _percent(share: float) -> str:
    return "" if share != share else f"{100 * share:.0f} %"


def _short(figure: float) -> str:
    return "" if figure != figure else f"{figure:.2g}"
