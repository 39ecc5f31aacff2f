"""Small drawings as inline SVG: curves, points, bars, sparklines and architectures.

Each is one element with a title for those who cannot see it. Colours of text and axes are those of
the text around it; those of curves are ``--bpcore-0``, ``--bpcore-1``, ... or, where a page does
not set them, fallbacks that stand out on white and on black.
"""

from collections.abc import Sequence

import numpy as np

from bpcore.axis import Scale
from bpcore.curves import alone, is_wide, spread, thin
from bpcore.htmltext import Markup, clipped, escape

FALLBACKS = ("#1f83c4", "#d9691f", "#12956b", "#b86a9e")
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
_WIDTH, _HEIGHT = 480, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 14, 34, 46
_LINE = 20  # of text
_MOST_OF_CURVE, _MOST_DOTS = 400, 600


def colour(k: int) -> str:
    """Return the k-th colour of curves."""
    k %= len(FALLBACKS)
    return f"var(--bpcore-{k},{FALLBACKS[k]})"


def drawing(
    width: float, height: float, title: str, parts: Sequence[str], size: str = ""
) -> Markup:
    """Return an ``<svg>`` of these parts."""
    title = escape(title)
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{size or f"{width:g}"}" role="img" aria-label="{title}" font-size="14">'
        f"<title>{title}</title>{''.join(parts)}</svg>"
    )


def left_of(y: Scale) -> float:
    """Return where the drawing begins, right of the labels of y."""
    return max(_LEFT, round(y.ticks().width) + 8)


def frame(x: Scale, y: Scale, x_label: str, y_label: str) -> list[str]:
    """Return axes with ticks, grid and labels."""
    x_ticks, y_ticks = x.fitting_ticks(), y.ticks()
    parts = ['<g stroke="currentColor" stroke-opacity=".18" fill="none">']
    parts += [f'<path d="M{x.start} {y(t):.1f}H{x.end}"/>' for t in y_ticks.values]
    parts.append('</g><g stroke="currentColor" stroke-opacity=".6" fill="none">')
    parts.append(f'<path d="M{x.start} {y.end}V{y.start}H{x.end}"/>')
    parts += [f'<path d="M{x(t):.1f} {y.start}v5"/>' for t in x_ticks.values]
    parts.append("</g>")
    for t, text in zip(y_ticks.values, y_ticks.labels, strict=True):
        parts.append(f'<text x="{x.start - 7}" y="{y(t) + 5:.1f}" text-anchor="end">{text}</text>')
    for t, text in zip(x_ticks.values, x_ticks.labels, strict=True):
        across = min(x(t), _WIDTH - 4.2 * len(text))  # the last one must not be cut off
        parts.append(
            f'<text x="{across:.1f}" y="{y.start + 20}" text-anchor="middle">{text}</text>'
        )
    middle = (x.start + x.end) / 2
    parts.append(
        f'<text x="{middle}" y="{y.start + 40}" text-anchor="middle">'
        f"{escape(x_label + x_ticks.offset)}</text>"
    )
    parts.append(f'<text x="4" y="18">{escape(y_label + y_ticks.offset)}</text>')
    return parts


def curves(
    lines: "dict[str, np.ndarray]", title: str, *, mark: int | None = None, y_label: str = "loss"
) -> Markup:
    """Draw figures of each epoch; `mark` is the best epoch."""
    n = max((len(values) for values in lines.values()), default=0)
    finite = np.concatenate([v[np.isfinite(v)] for v in lines.values()] or [np.empty(0)])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    y = Scale(low, high, _HEIGHT - _BOTTOM, _TOP, is_wide(lines))
    ends = (0, n - 1) if n > 1 else (-0.5, 0.5)
    x = Scale(*ends, left_of(y), _WIDTH - _RIGHT, whole=True)
    parts = frame(x, y, "epoch", y_label)
    if not len(finite):
        parts.append(_nothing_finite(x))
    if mark is not None:
        parts.append(
            f'<path d="M{x(mark):.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="currentColor" '
            'stroke-dasharray="2 3" fill="none"/>'
        )
    for k, values in enumerate(lines.values()):
        parts.append(_curve(values, x, y, k))
    lower = _LINE if y.ticks().offset else 0  # where the label needs the width of the legend
    parts = [f'<g transform="translate(0 {lower})">', *parts, "</g>", *_legend([*lines], mark)]
    return drawing(_WIDTH, _HEIGHT + lower, title, parts)


def _nothing_finite(x: Scale) -> str:
    middle = (x.start + x.end) / 2
    return f'<text x="{middle}" y="{_HEIGHT / 2}" text-anchor="middle">no finite values</text>'


def _curve(values: np.ndarray, x: Scale, y: Scale, k: int, width: float = 2) -> str:
    kept = thin(values, _MOST_OF_CURVE)
    finite = np.isfinite(values[kept])
    across, up = x(kept), y(np.where(finite, values[kept], y.low))
    path, pen = [], "M"
    for here, there, drawn in zip(across, up, finite, strict=True):
        if drawn:
            path.append(f"{pen}{here:.1f} {there:.1f}")
        pen = "L" if drawn else "M"
    single = alone(values[kept])
    dots = "".join(
        f'<circle cx="{here:.1f}" cy="{there:.1f}" r="{1.5 * width:g}" style="fill:{colour(k)}"/>'
        for here, there in zip(across[single], up[single], strict=True)
    )
    dash = _DASHES[k % len(_DASHES)]
    return dots + (
        f'<path d="{"".join(path)}" fill="none" stroke-width="{width:g}" stroke-linecap="round" '
        f'stroke-linejoin="round"{_dashed(dash)} '
        f'style="stroke:{colour(k)}"/>'
    )


def _legend(names: list[str], mark: int | None) -> list[str]:
    """Name the curves at the upper right, beside the axis' label."""
    entries = [(name.replace("_", " "), k) for k, name in enumerate(names)]
    if mark is not None:
        entries.append((f"best epoch {mark:,}", -1))
    wide = [46 + 7.2 * len(text) for text, _ in entries]  # an estimate that fits most fonts
    across, parts = _WIDTH - _RIGHT + 12 - sum(wide), []
    for (text, k), width in zip(entries, wide, strict=True):
        dash = "2 3" if k < 0 else _DASHES[k % len(_DASHES)]
        parts.append(
            f'<path d="M{across:.1f} 13h24" fill="none" stroke-width="2" '
            f'style="stroke:{colour(k) if k >= 0 else "currentColor"}"{_dashed(dash)}/>'
            f'<text x="{across + 30:.1f}" y="18">{escape(text)}</text>'
        )
        across += width
    return parts


def _dashed(dash: str) -> str:
    return f' stroke-dasharray="{dash}"' if dash else ""


def sparkline(lines: "dict[str, np.ndarray]", title: str) -> Markup:
    """Draw curves alone, the size of a line or two of text."""
    width, height = 220, 48
    finite = np.concatenate([v[np.isfinite(v)] for v in lines.values()] or [np.empty(0)])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    n = max((len(values) for values in lines.values()), default=1)
    x = Scale(*((0, n - 1) if n > 1 else (-0.5, 0.5)), 3, width - 3)
    y = Scale(low, high, height - 4, 4, is_wide(lines))
    parts = [_curve(values, x, y, k, 1.6) for k, values in enumerate(lines.values())]
    return drawing(width, height, title, parts)


def scatter(
    x_values: np.ndarray, y_values: np.ndarray, title: str, *, x_label: str, y_label: str
) -> Markup:
    """Draw points on a plane of equal axes, with its diagonal."""
    rows = np.flatnonzero(np.isfinite(x_values) & np.isfinite(y_values))
    rows = rows[spread(len(rows), _MOST_DOTS)]
    both = np.r_[x_values[rows], y_values[rows]]
    low, high = (float(both.min()), float(both.max())) if len(both) else (0.0, 1.0)
    pad = 0.03 * (high / 2 - low / 2) * 2
    y = Scale(low - pad, high + pad, _HEIGHT - _BOTTOM, _TOP)
    x = Scale(low - pad, high + pad, left_of(y), _WIDTH - _RIGHT)
    parts = frame(x, y, x_label, y_label)
    parts.append(
        f'<path d="M{x.start} {y.start}L{x.end} {y.end}" stroke="currentColor" '
        'stroke-opacity=".6" stroke-dasharray="5 4" fill="none"/>'
    )
    if not len(rows):
        parts.append(_nothing_finite(x))
    parts.append(f'<g style="fill:{colour(0)}" fill-opacity=".6">')
    for here, there in zip(x(x_values[rows]), y(y_values[rows]), strict=True):
        parts.append(f'<circle cx="{here:.1f}" cy="{there:.1f}" r="3"/>')
    parts.append("</g>")
    return drawing(_WIDTH, _HEIGHT, title, parts)


def histogram(values: np.ndarray, title: str, *, x_label: str) -> Markup:
    """Draw how often values occur, with a line at 0."""
    values = values[np.isfinite(values)]
    peak = float(np.abs(values).max(initial=0)) or 1.0
    n_bins = int(min(31, max(5, 2 * round(len(values) ** (1 / 3)) + 1)))
    counts, edges = np.histogram(values / peak, bins=n_bins, range=(-1, 1))
    y = Scale(0, max(5.0, float(counts.max())), _HEIGHT - _BOTTOM, _TOP)
    x = Scale(-peak, peak, left_of(y), _WIDTH - _RIGHT)
    parts = frame(x, y, x_label, "rows")
    if not len(values):
        parts.append(_nothing_finite(x))
    places = x(edges * peak)
    for k, count in enumerate(counts):
        if count:
            parts.append(
                f'<rect x="{places[k] + 0.5:.1f}" y="{y(count):.1f}" '
                f'width="{places[k + 1] - places[k] - 1:.1f}" '
                f'height="{y.start - y(count):.1f}" style="fill:{colour(0)}"/>'
            )
    parts.append(
        f'<path d="M{x(0):.1f} {y.start}V{y.end}" stroke="currentColor" stroke-dasharray="2 3"/>'
    )
    return drawing(_WIDTH, _HEIGHT, title, parts)


_MOST_UNITS, _MOST_COLUMNS = 7, 8
_STEP, _GAP = 76, 15  # between columns, and between units


def architecture(widths: Sequence[int], labels: Sequence[str], title: str) -> Markup:
    """Draw units as dots, a column a layer, with the widths below and the labels above.

    Parameters
    ----------
    widths : sequence of int
        Inputs, then the units of each dense layer; of many the first and the last are drawn.
    labels : sequence of str
        What stands above each column.
    title : str
    """
    columns = list(range(len(widths)))
    if len(columns) > _MOST_COLUMNS:
        columns = [*columns[: _MOST_COLUMNS - 3], -1, *columns[-2:]]
    height = _GAP * (min(_MOST_UNITS, max(widths[c] for c in columns if c >= 0)) - 1)
    middle, parts, earlier = 28 + height / 2, [], None
    for place, column in enumerate(columns):
        across = 38 + _STEP * place
        if column < 0:
            parts.append(f'<text x="{across}" y="{middle + 5}" text-anchor="middle">…</text>')
            earlier = None
            continue
        n = widths[column]
        shown = min(n, _MOST_UNITS)
        dots = [middle + _GAP * (k - (shown - 1) / 2) for k in range(shown)]
        if n > shown:
            del dots[shown // 2]  # where an ellipsis goes
            parts.append(f'<text x="{across}" y="{middle + 4:g}" text-anchor="middle">⋮</text>')
        if earlier is not None:
            ends = [(a, b) for a in earlier for b in dots]
            path = "".join(f"M{across - _STEP} {a:g}L{across} {b:g}" for a, b in ends)
            parts.insert(0, f'<path d="{path}" stroke="currentColor" stroke-opacity=".16"/>')
        fill = colour(0 if column in (0, len(widths) - 1) else 2)
        circles = "".join(f'<circle cx="{across}" cy="{up:g}" r="4.5"/>' for up in dots)
        parts.append(f'<g style="fill:{fill}">{circles}</g>')
        parts.append(
            f'<text x="{across}" y="{height + 56}" text-anchor="middle">{n:,}</text>'
            f'<text x="{across}" y="13" text-anchor="middle" font-size="12">'
            f"{escape(clipped(labels[column], 11))}</text>"
        )
        earlier = dots
    return drawing(_STEP * len(columns), height + 66, title, parts)
