"""What a command has found: lines for a person as they come, or one JSON object at the end."""

import json
import math
import sys
import textwrap
from typing import Any

import numpy as np

__all__ = ["Report", "counted", "one_line", "remark"]


class Report:
    """Where a command's results go: standard output.

    Parameters
    ----------
    as_json : bool
        One JSON object at the end in place of lines. It is strict: nan and infinities are null.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.results: dict[str, Any] = {}

    def line(self, label: str, text: str) -> None:
        """Print a line for a person, wrapped where it is long."""
        lines = textwrap.wrap(text, 70, break_long_words=False, break_on_hyphens=False)
        self.text(f"{label + ':' if label else '':<10}" + ("\n" + " " * 10).join(lines))

    def text(self, text: str) -> None:
        """Print a text for a person; only lines longer than a terminal's are wrapped."""
        if not self.as_json:
            print("\n".join(map(_wrapped, text.split("\n"))), flush=True)

    def put(self, **results: Any) -> None:
        """Keep results for machines."""
        self.results |= results

    def end(self) -> None:
        """Print the object, if that is what is wanted."""
        if self.as_json:
            print(json.dumps(_plain(self.results), allow_nan=False, ensure_ascii=False))

    def fail(self, message: str, code: int, **more: Any) -> int:
        """Say what went wrong, to machines too; return the exit code."""
        remark(message)
        self.put(error=one_line(message), exit=code, **more)
        self.end()
        return code


def remark(text: str) -> None:
    """Print one line that is no result."""
    print(f"bpcore: {one_line(text)}", file=sys.stderr)


def one_line(message: object) -> str:
    """Return a message without line breaks."""
    return " ".join(str(message).split())


def counted(number: Any, what: str) -> str:
    """Return "1 row", "2 rows"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _wrapped(line: str) -> str:
    """Wrap a line at 80 columns; what it goes on with is indented."""
    if len(line) <= 80:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    wrapped = textwrap.wrap(
        line, 80, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(wrapped)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
