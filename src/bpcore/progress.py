"""The progress bar of a fit."""

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from bpcore.checks import boolean
from bpcore.curves import LOSSES


class Progress:
    """A tqdm bar, or nothing; in a notebook a widget, or text where ipywidgets are missing."""

    def __init__(self, wanted: bool) -> None:
        self._bar: Any = None
        self._tqdm: Any = None
        if not boolean(wanted, "progress"):
            return
        try:
            # without ipywidgets tqdm warns, and does what is right
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from tqdm.auto import tqdm
        except ImportError as error:
            raise ImportError("progress=True needs tqdm: pip install 'bpcore[cli]'") from error
        self._tqdm = tqdm

    def open(self, n_batches: int) -> None:
        """Begin at 0."""
        if self._tqdm is not None:
            self._bar = self._tqdm(total=n_batches, unit="batch", unit_scale=True)

    def show(self, batches: int, logs: Callable[[], Mapping[str, float]]) -> None:
        """Say how many batches are done, and the figures of the last epoch, if there is one."""
        if self._bar is not None:
            last = logs()
            figures = {name: f"{last[name]:.4g}" for name in LOSSES if name in last}
            self._bar.set_postfix(figures, refresh=False)
            self._bar.update(batches - self._bar.n)

    def print(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._bar is None:
            print(line)
        else:
            self._tqdm.write(line, file=sys.stdout)

    def stop(self) -> None:
        """Call what is done all there was to do; a widget would turn red otherwise."""
        if self._bar is not None:
            self._bar.total = self._bar.n

    def close(self) -> None:
        """End the line."""
        if self._bar is not None:
            self._bar.close()
