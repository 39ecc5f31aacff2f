"""A report on a network as one page: results, training, proof and health, to print or to send.

The page needs nothing but itself: style and drawings are in it, and there are no scripts. It says
so to the browser, which then loads nothing else.
"""

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bpcore import svg
from bpcore.curves import LOSSES, recorded, spread
from bpcore.files import replace_file
from bpcore.htmlreprs import (
    gradient_parts,
    health_parts,
    history_table,
    layers_table,
    network_line,
    network_picture,
)
from bpcore.htmlresults import Result, results_of
from bpcore.htmltext import STYLE, Markup, escape, number, pair, table
from bpcore.pagestyle import PAGE_STYLE

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bpcore.gradreport import GradientReport
    from bpcore.history import History
    from bpcore.network import Network

__all__ = ["report_html", "save_report"]

_CHECKED_ROWS, _CHECKED_PARAMETERS, _HEALTH_ROWS = 32, 2000, 256
_COST = 2e9  # of the gradient check, in multiply-adds: a second or two
_PASSES, _PASSES_PER_LINE = 40, 6  # that it takes to measure the rounding, and each derivative
_LEAST_SAMPLE = 200  # of parameters; where fewer can be afforded, directions prove more
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def save_report(
    net: "Network", path: "str | os.PathLike[str]", X: "ArrayLike", y: "ArrayLike", **keywords: Any
) -> None:
    """Write a report on a network as one HTML page.

    Parameters
    ----------
    net : Network
    path : str or os.PathLike
        The file, replaced whole or not at all.
    X, y, **keywords
        As for `report_html`.

    Raises
    ------
    OSError
        The file cannot be written; an older one of that name is as it was.
    ShapeError, DTypeError, ValueError
        The data do not fit the network.
    """
    text = report_html(net, X, y, **keywords)
    replace_file(path, text.encode("utf-8", "replace"))


def report_html(
    net: "Network",
    X: "ArrayLike",
    y: "ArrayLike",
    *,
    training_data: "tuple[ArrayLike, ArrayLike] | None" = None,
    history: "History | None" = None,
    gradients: "GradientReport | None" = None,
    title: str = "A network",
    target: str = "target",
    class_names: Sequence[str] | None = None,
    offset: float = 0.0,
    scale: float = 1.0,
    rows: str = "given",
    facts: Mapping[str, object] | None = None,
    settings: Mapping[str, object] | None = None,
    usage: Mapping[str, str] | None = None,
) -> str:
    """Return a report on a network as one HTML page.

    Parameters
    ----------
    net : Network
        Nothing of it changes but `gradients`.
    X : array_like of shape (n, n_in)
        The rows to measure the network on, best ones that it was not trained on.
    y : array_like
        Their target, as for `Network.loss_value`.
    training_data : (X, y), optional
        The rows it was trained on: the baseline, the health and the gradient check are theirs.
        Without it, those of `X` and `y`.
    history : History, optional
        By default that of the last fit, if there was one.
    gradients : GradientReport, optional
        Shown instead of a check of the network as it is, on 32 training rows and at most 2000
        parameters; in wide networks on fewer rows, and along random directions.
    title : str
    target : str
        What is predicted.
    class_names : sequence of str, optional
        In the order of the outputs, or for one output "no" and "yes".
    offset, scale : float
        Where a quantity was standardised: it is ``scale * output + offset``.
    rows : str
        What kind of rows `X` are, such as "held-out".
    facts, settings : mapping of str to object, optional
        More to tell about the data, and what it takes to train this network again.
    usage : mapping of str to str, optional
        Code to show, by what it is ("Python", "Command line").

    Returns
    -------
    str

    Raises
    ------
    ShapeError, DTypeError, ValueError
        The data do not fit the network, or there are not as many names as classes.

    Examples
    --------
    >>> import numpy as np
    >>> import bpcore
    >>> from bpcore.htmlreport import report_html
    >>> X = np.linspace(-1, 1, 50).reshape(-1, 1)
    >>> net = bpcore.mlp([1, 4, 1], hidden="tanh", rng=0)
    >>> history = net.fit(X, X**2, epochs=3)
    >>> page = report_html(net, X, X**2, title="A parabola")
    >>> "<title>A parabola</title>" in page, "<script" in page
    (True, False)
    """
    X, y, _ = net._plain_data(X, y, None)
    train_X, train_y = X, y
    if training_data is not None:
        train_X, train_y, _ = net._plain_data(*training_data, None)
    history = net.history if history is None else history
    result = results_of(
        net, X, y, train_y, target=target, names=class_names, offset=offset, scale=scale, rows=rows
    )
    if gradients is None:
        gradients = _check(net, train_X, train_y)
    chosen = spread(len(train_X), _HEALTH_ROWS)
    health = net.health(train_X[chosen], train_y[chosen])
    sections = [
        Section("Result", result.parts),
        Section("Training", _training(history)),
        Section("Network", [pair(network_picture(net), layers_table(net)), network_line(net)]),
        Section("Gradients", [_looked_at(net, gradients), *gradient_parts(gradients)]),
        Section("Health", health_parts(health)),
        Section("Data and settings", _settings(facts, settings)),
        Section("Use it", _usage(usage)),
    ]
    tiles = _tiles(net, result, history, gradients, health.ok)
    return _page(title, result.summary, tiles, [section for section in sections if section.parts])


class Section(NamedTuple):
    """A part of the page under a heading."""

    heading: str
    parts: list[Markup]


def _check(net: "Network", X: np.ndarray, y: np.ndarray) -> "GradientReport":
    n_rows, parameters = _affordable(net, len(X))
    chosen = spread(len(X), n_rows)
    return net.check_gradients(X[chosen], y[chosen], parameters=parameters)


def _affordable(net: "Network", n_rows: int) -> tuple[int, str | int]:
    """Return on how many rows to check gradients, and of which parameters, at about `_COST`."""
    size, n_rows = net.parameters.size, min(n_rows, _CHECKED_ROWS)
    lines = int((_COST / (n_rows * size) - _PASSES) / _PASSES_PER_LINE) if n_rows else 0
    sample = min(_CHECKED_PARAMETERS, lines // 2)  # as many are drawn from the input
    if size <= sample:
        return n_rows, "all"
    if sample >= _LEAST_SAMPLE:
        return n_rows, sample
    directions = 3 * (len(net.parameter_arrays()) + 1)  # of the input too
    affordable = _COST / (size * (_PASSES + _PASSES_PER_LINE * directions))
    return min(n_rows, max(1, int(affordable))), "projections"


def _looked_at(net: "Network", report: "GradientReport") -> Markup:
    """Say what the check is of."""
    size = net.parameters.size
    looked = sum(len(array.index) for name, array in report.arrays.items() if name != "input")
    if report.along_directions:
        what = (
            "along random directions, three in each array: an error in any entry shows that is "
            "above about 1e-4 of the norm of its array's gradient"
        )
    elif 0 < looked < size:
        what = f"for {looked:,} of the {size:,} parameters, drawn at random"
    else:
        what = f"for each of the {size:,} parameters"
    if "input" in report.arrays:
        n_rows = report.arrays["input"].shape[0]
        what = f"on {n_rows:,} row{'s' * (n_rows != 1)}, {what}"
    text = (
        "The derivatives that training computes are compared with central differences of the "
        f"loss, in float64, {what}."
    )
    return Markup(f"<p>{escape(text)}</p>")


def _training(history: "History | None") -> list[Markup]:
    if history is None or not len(history):
        return []
    lines = recorded(history, LOSSES)
    last = ", ".join(f"{name} {number(float(v[-1]))}" for name, v in lines.items())
    title = f"losses of {len(history):,} epochs; at last {last}".replace("_", " ")
    return [pair(svg.curves(lines, title, mark=history.best_epoch), history_table(history))]


def _settings(
    facts: Mapping[str, object] | None, settings: Mapping[str, object] | None
) -> list[Markup]:
    return [
        table((head, "value"), list(found.items()))
        for head, found in (("data", facts), ("settings", settings))
        if found
    ]


def _usage(usage: Mapping[str, str] | None) -> list[Markup]:
    return [
        Markup(
            f"<h3>{escape(name)}</h3>"
            f'<pre tabindex="0" aria-label="{escape(name)}"><code>{escape(code)}</code></pre>'
        )
        for name, code in (usage or {}).items()
    ]


def _tiles(
    net: "Network",
    result: Result,
    history: "History | None",
    gradients: "GradientReport",
    healthy: bool,
) -> list[tuple[str, str, str]]:
    """Return (name, figure, note) of what matters most."""
    tiles = [result.tile]
    if history is not None and len(history):
        tiles.append(("epochs", f"{len(history):,}", _duration(history)))
    tiles.append(("parameters", f"{net.parameters.size:,}", str(net.dtype)))
    proven = "proven" if gradients.ok else "wrong" if gradients.n_wrong else "not proven"
    kind = " directions" if gradients.along_directions else ""
    tiles.append(("gradients", proven, f"{gradients.n_checked:,}{kind} checked"))
    tiles.append(("health", "good" if healthy else "see below", ""))
    return tiles


def _duration(history: "History") -> str:
    if "seconds" not in history:
        return ""
    seconds = float(history["seconds"][-1])
    return f"{number(seconds, 3)} s" if seconds >= 1 else f"{number(1000 * seconds, 3)} ms"


def _page(
    title: str, summary: str, tiles: list[tuple[str, str, str]], sections: list[Section]
) -> str:
    """Put the page together."""
    boxes = "".join(
        f"<div><dt>{escape(name)}</dt><dd><b>{escape(figure)}</b> <span>{escape(note)}</span></dd>"
        "</div>"
        for name, figure, note in tiles
    )
    body = "".join(
        f'<section aria-labelledby="s{i}"><h2 id="s{i}">{escape(section.heading)}</h2>'
        f"{''.join(section.parts)}</section>\n"
        for i, section in enumerate(sections)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{PAGE_STYLE}</style>\n</head>\n"
        f'<body class="bpcore">\n<main>\n<header><h1>{escape(title)}</h1>'
        f"<p>{escape(summary)}</p></header>\n"
        f'<dl class="tiles">{boxes}</dl>\n{body}</main>\n'
        f"<footer>{escape(_versions())}</footer>\n</body>\n</html>\n"
    )


def _versions() -> str:
    import bpcore

    now = datetime.datetime.now(datetime.UTC)
    return (
        f"Written on {now:%Y-%m-%d %H:%M} UTC by bpcore {bpcore.__version__} "
        f"({bpcore.simd_level()}), Python {platform.python_version()}, NumPy {np.__version__}, "
        f"{platform.system()} {platform.machine()}."
    )
