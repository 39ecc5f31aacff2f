"""Open and replace files so that an error leaves everything as it was."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

__all__ = ["open_regular", "replace_file"]


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file to read bytes, without touching a device or waiting at a FIFO.

    Parameters
    ----------
    path : str or os.PathLike
        File to read.

    Returns
    -------
    context manager of a binary file

    Raises
    ------
    OSError
        If `path` cannot be opened, or is not a regular file. Every OSError inside the ``with``
        block names `path` too.
    """
    path = os.fsdecode(path)
    flags = getattr(os, "O_NONBLOCK", 0)  # it may become a FIFO after the first look
    with _naming(path):
        _require_regular(os.stat(path))
        with open(path, "rb", opener=lambda name, mode: os.open(name, mode | flags)) as file:
            _require_regular(os.fstat(file.fileno()))
            yield file


def replace_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file such that at every moment `path` is the whole old or the whole new one.

    The bytes go to a temporary file in the same folder, which is synced and then renamed. After
    an error the old file is as it was and the temporary file is gone; only a process that is
    killed leaves it behind, as ``.bpcore-*.tmp``.

    Parameters
    ----------
    path : str or os.PathLike
        File to write. An existing file keeps its permissions; a symbolic link stays, and the file
        that it points to is replaced.
    data : bytes
        Content of the file.

    Raises
    ------
    OSError
        If `path` cannot be written or is not a regular file. The exception names `path`.

    Examples
    --------
    >>> import os, tempfile
    >>> from bpcore.files import open_regular, replace_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "notes")
    ...     replace_file(path, b"old")
    ...     replace_file(path, b"new")
    ...     with open_regular(path) as file:
    ...         print(file.read(), os.listdir(folder))
    b'new' ['notes']
    """
    path = os.fsdecode(path)
    with _naming(path):
        if not os.path.basename(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        target = os.path.realpath(path)
        mode = None
        with suppress(FileNotFoundError):
            mode = _require_regular(os.stat(target))
            if not os.access(target, os.W_OK):  # a rename alone would not mind
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        _write_and_rename(target, data, mode)
        # The new file is in place by now, and not every system can sync a directory.
        with suppress(OSError):
            folder = os.open(os.path.dirname(target), os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _write_and_rename(target: str, data: bytes, mode: int | None) -> None:
    temporary = os.path.join(os.path.dirname(target), f".bpcore-{os.urandom(8).hex()}.tmp")

    def create(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 if mode is None else mode)

    # Before the try: what exists already is not ours to remove.
    file = open(temporary, "xb", opener=create)  # noqa: SIM115
    try:
        with file:
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), mode)  # what the umask has taken away
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _require_regular(status: os.stat_result) -> int:
    """Return the permissions of a regular file; anything else is an OSError."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    return status.st_mode & 0o777


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Let every OSError name the path that the caller knows."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
