"""NumPy's npy and npz files: read without pickle, believing nothing that they say of their size."""

import io
import zipfile
import zlib
from typing import Any

import numpy as np

from bpcore.tables import InputError, Table, import_pandas, list_names, table_of

__all__ = ["array_bytes", "arrays_bytes", "read_array", "read_array_table", "read_arrays"]


def read_array(name: str, data: bytes) -> np.ndarray:
    """Return the array of an npy file.

    Parameters
    ----------
    name : str
        The file as errors name it.
    data : bytes
        Its content.

    Raises
    ------
    InputError
        Anything but a whole npy file of numbers, text or structures of these.
    """
    file = io.BytesIO(data)
    layout = np.lib.format
    try:
        version = layout.read_magic(file)
        read_header = (
            layout.read_array_header_1_0 if version == (1, 0) else layout.read_array_header_2_0
        )
        shape, _, dtype = read_header(file)
        if dtype.hasobject:
            raise InputError(f"{name}: holds Python objects (a pickle), which are never loaded")
        size, held = dtype.itemsize * int(np.prod(shape, dtype=object)), len(data) - file.tell()
        if size != held:
            raise InputError(
                f"{name}: announces {size} bytes of shape {shape}, but {held} follow its header"
            )
        file.seek(0)
        return layout.read_array(file, allow_pickle=False)
    except InputError:
        raise
    except (ValueError, TypeError, EOFError, SyntaxError) as error:
        raise InputError(f"{name}: is not an npy file ({_first(error)})") from None


def read_arrays(name: str, data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file by name; errors as those of `read_array`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {
                member.removesuffix(".npy"): archive.read(member) for member in archive.namelist()
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        # an encrypted member is a RuntimeError, an unknown compression a subclass of it
        raise InputError(f"{name}: is not an npz file ({_first(error)})") from None
    return {key: read_array(f"{name}, array {key!r}", content) for key, content in members.items()}


def read_array_table(
    name: str, data: bytes, text_columns: tuple[str, ...] = (), *, archive: bool
) -> Table:
    """Read a table from an npy file, or from the arrays X and y of an npz file.

    Parameters
    ----------
    name, data, text_columns
        As for `bpcore.csvfiles.read_csv`.
    archive : bool
        Whether the file is an npz file.

    Returns
    -------
    Table
        Of a plain array of shape (n, k) the columns are x0, x1, ..., and y; of a structured one its
        fields.

    Raises
    ------
    InputError
        A file that is damaged or holds something else.
    """
    frame = import_pandas().DataFrame
    if not archive:
        array = read_array(name, data)
        if array.dtype.names and array.ndim == 1:
            columns = {
                field: _plain(f"{name}, field {field!r}", array[field])
                for field in array.dtype.names
            }
            return table_of(name, frame(columns), text_columns)
        return table_of(name, frame(_columns(name, array)), text_columns)
    arrays = read_arrays(name, data)
    if "X" not in arrays:
        raise InputError(
            f"{name}: has no array 'X' (and 'y'); its arrays: {list_names(list(arrays)) or 'none'}"
        )
    if "encoded" in arrays:
        raise InputError(
            f"{name}: is a batch saved by `bpcore check --save-batch`; `bpcore explain` takes it"
        )
    columns = _columns(f"{name}, array 'X'", arrays.pop("X"))
    y = arrays.pop("y", None)
    if y is not None:
        n_rows = len(columns["x0"])
        if y.dtype.names or y.shape not in ((n_rows,), (n_rows, 1)):
            raise InputError(
                f"{name}: array 'y' has shape {y.shape}, expected ({n_rows},) as 'X' has "
                f"{n_rows} rows"
            )
        columns["y"] = _plain(f"{name}, array 'y'", y.reshape(-1))
    table = table_of(name, frame(columns), text_columns)
    if arrays:
        table.notes.append(f"left out of {name}: {list_names(list(arrays))}")
    return table


def array_bytes(array: np.ndarray) -> bytes:
    """Return the content of an npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def arrays_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """Return the content of an npz file."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _columns(name: str, array: np.ndarray) -> dict[str, Any]:
    if array.dtype.names or array.ndim != 2:
        hint = "; array.reshape(-1, 1) is one column" if array.ndim == 1 else ""
        raise InputError(
            f"{name}: expected an array of shape (rows, columns), found {array.shape}{hint}"
        )
    if array.shape[1] == 0:
        raise InputError(f"{name}: has no columns")
    array = _plain(name, array)
    return {f"x{i}": array[:, i] for i in range(array.shape[1])}


def _plain(name: str, array: np.ndarray) -> np.ndarray:
    """Return numbers in this machine's byte order, and bytes as text."""
    if array.dtype.kind not in "biufUS":
        raise InputError(f"{name}: holds {array.dtype}, expected numbers or text")
    if array.dtype.kind == "S":
        return np.char.decode(array, "latin-1")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
