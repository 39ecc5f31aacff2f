"""Columns to pandas frames."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


def to_frame(columns: Mapping[str, Sequence[Any]]) -> "pandas.DataFrame":
    """Return columns of equal length as a pandas DataFrame.

    Raises
    ------
    ImportError
        pandas is not installed; the message says how to get it.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_frame() needs pandas: pip install 'bpcore[cli]'") from error
    return pandas.DataFrame(dict(columns))
