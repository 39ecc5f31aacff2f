"""The progress bar of a fit."""

import numpy as np

from bpcore.checks import boolean


class Progress:
    """A tqdm bar, or nothing."""

    def __init__(self, wanted: bool) -> None:
        self._bar = self._tqdm = None
        if not boolean(wanted, "progress"):
            return
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise ImportError("progress=True needs tqdm: pip install 'bpcore[cli]'") from error
        self._tqdm = tqdm

    def open(self, n_batches: int) -> None:
        """Begin at 0."""
        if self._tqdm is not None:
            self._bar = self._tqdm(total=n_batches, unit="batch", unit_scale=True)

    def show(self, batches: int, losses: np.ndarray) -> None:
        """Say how many batches are done, and the last loss."""
        if self._bar is not None:
            self._bar.update(batches - self._bar.n)
            if losses.size:
                self._bar.set_postfix(loss=f"{losses[-1]:.4g}", refresh=False)

    def close(self) -> None:
        """End the line."""
        if self._bar is not None:
            self._bar.close()
