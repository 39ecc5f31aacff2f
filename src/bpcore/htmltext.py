"""Text and tables as HTML, and the style that notebooks and the report share.

Whatever comes from outside goes through `escape`. There are no scripts and no links to elsewhere.
"""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

STYLE = """
.bpcore{line-height:1.45}
.bpcore table{border-collapse:collapse;margin:.4em 0;font-variant-numeric:tabular-nums}
.bpcore th,.bpcore td{padding:.2em .7em;text-align:left;border:0;\
border-bottom:1px solid rgba(128,128,128,.35);vertical-align:top}
.bpcore thead th{border-bottom-width:2px;font-weight:600;vertical-align:bottom}
.bpcore tbody th{font-weight:500}
.bpcore td.number,.bpcore th.number{text-align:right}
.bpcore td.number,.bpcore tbody th{white-space:nowrap}
.bpcore .wide{overflow-x:auto}
.bpcore caption{text-align:left;caption-side:top;padding:.2em 0;font-weight:600}
.bpcore svg{max-width:100%;height:auto;font-family:system-ui,sans-serif}
.bpcore svg text{fill:currentColor}
.bpcore .good,.bpcore .bad{font-weight:600}
"""


# control characters, halves of pairs, and what is no character
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """Return text as HTML, control characters replaced; `Markup` stays as it is.

    Examples
    --------
    >>> from bpcore.htmltext import escape
    >>> escape('a < b & "c"')
    'a &lt; b &amp; &quot;c&quot;'
    """
    if isinstance(value, Markup):
        return value
    text = _UNFIT.sub("\N{REPLACEMENT CHARACTER}", str(value))
    return Markup(html.escape(text))


def number(value: float, digits: int = 4) -> str:
    """Return a figure as people read it; nan, where there is none, is empty.

    Examples
    --------
    >>> from bpcore.htmltext import number
    >>> number(0.000012345), number(1234567.0), number(3), number(float("nan"))
    ('1.234e-5', '1,234,567', '3', '')
    """
    if value != value:
        return ""
    size = abs(value)
    if isinstance(value, int) or (1000 <= size < 1e9):
        return f"{value:,.0f}"
    if size and not 1e-3 <= size < 1e9:
        return scientific(value, digits)
    return f"{value:.{max(digits, 3) if size >= 100 else digits}g}"


def scientific(value: float, digits: int = 4) -> str:
    """Return a figure with a power of ten, without zeros that tell nothing."""
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if not exponent:  # an infinity
        return mantissa
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}"


def percent(share: float, digits: int = 0) -> str:
    """Return a share in per cent; nan is empty."""
    return "" if share != share else f"{share:.{digits}%}"


def table(
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    numeric: Iterable[int] = (),
    caption: str = "",
) -> Markup:
    """Return a table; columns in `numeric` are aligned right, and the first names the row."""
    right = set(numeric)
    mark = [' class="number"' if i in right else "" for i in range(len(head))]
    lines = ['<div class="wide"><table>']
    if caption:
        lines.append(f"<caption>{escape(caption)}</caption>")
    cells = (f'<th scope="col"{mark[i]}>{escape(cell)}</th>' for i, cell in enumerate(head))
    lines.append(f"<thead><tr>{''.join(cells)}</tr></thead><tbody>")
    for row in rows:
        first = f'<th scope="row"{mark[0]}>{escape(row[0])}</th>'
        rest = (f"<td{mark[i]}>{escape(row[i])}</td>" for i in range(1, len(row)))
        lines.append(f"<tr>{first}{''.join(rest)}</tr>")
    lines.append("</tbody></table></div>")
    return Markup("\n".join(lines))


def pair(first: object, second: object) -> Markup:
    """Return two parts that stand side by side where there is room."""
    return Markup(f'<div class="pair"><div>{escape(first)}</div><div>{escape(second)}</div></div>')


def verdict(ok: bool, text: str) -> Markup:
    """Return a paragraph that says, by a sign too, whether all is well."""
    kind, sign = ("good", "✓") if ok else ("bad", "✗")
    return Markup(f'<p><span class="{kind}">{sign}</span> {escape(text)}</p>')


def shortened(rows: Sequence[Any], most: int) -> "tuple[list[Any], int, list[Any]]":
    """Return the first rows, how many are left out, and the last ones."""
    if len(rows) <= most:
        return list(rows), 0, []
    last = most // 3
    return list(rows[: most - last]), len(rows) - most, list(rows[len(rows) - last :])


def clipped(text: object, most: int = 60) -> str:
    """Return text of at most so many characters, without its middle where it is longer.

    Examples
    --------
    >>> from bpcore.htmltext import clipped
    >>> clipped("abcdefghijklmnop", 10)
    'abcdef…nop'
    """
    text = str(text)
    tail = (most - 1) // 3
    return text if len(text) <= most else f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"
