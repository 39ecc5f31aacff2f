"""Replacing files whole or not at all, and opening nothing but files."""

import errno
import os
import pathlib
import stat
import tempfile
import threading

import pytest

from bpcore.files import open_regular, replace_file

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX files")
NOBODY = 65534


@pytest.fixture
def path_of_an_ordinary_user():
    """A file that one may be denied: root, who is denied nothing, becomes nobody for a while."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model"
        path.write_bytes(b"old")
        if os.geteuid() != 0:
            yield path
            return
        os.chown(path, NOBODY, NOBODY)
        os.chown(folder, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, 0)
        try:
            yield path
        finally:
            os.setresuid(0, 0, 0)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"old")
    return path


def read(path):
    with open_regular(path) as file:
        return file.read()


def assert_unchanged(path):
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("kind", [str, os.fsencode, lambda path: path])
def test_kinds_of_path(kind, tmp_path):
    path = tmp_path / ("ä" * 120)
    for data in (b"old", b"new" * 100_000, b""):
        replace_file(kind(path), data)
        assert read(kind(path)) == data
        assert os.listdir(tmp_path) == [path.name]


def test_relative_path(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    replace_file(path.name, b"new")
    assert read(path.name) == b"new"


def test_permissions(tmp_path):
    path = tmp_path / "model"
    old = os.umask(0o027)
    try:
        replace_file(path, b"data")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o666)
        replace_file(path, b"data")
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
    finally:
        os.umask(old)


def test_symbolic_links_stay(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    link.symlink_to("folder/target")
    for data in (b"first", b"second"):  # at first the target doesn't exist
        replace_file(link, data)
        assert link.is_symlink() and not target.is_symlink()
        assert read(link) == read(target) == data
    assert os.listdir(tmp_path / "folder") == ["target"]


def test_readers_of_the_old_file_keep_it(path):
    with open_regular(path) as file:
        replace_file(path, b"new")
        assert file.read() == b"old"


def test_writers_in_threads_do_not_mix(path):
    contents = [bytes([i]) * 100_000 for i in range(8)]
    threads = [threading.Thread(target=replace_file, args=(path, data)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(path) in contents
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("n_bytes", [0, 100, 100_000])
def test_disk_full(path, n_bytes):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        with pytest.raises(OSError) as caught:
            replace_file(path, b"x" * 1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert_unchanged(path)


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file(path, monkeypatch, function, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(error)) as caught:
        replace_file(path, b"new")
    assert getattr(caught.value, "filename", str(path)) == str(path)
    assert_unchanged(path)


SPECIAL = {
    "folder": ("", IsADirectoryError),
    "trailing slash": ("file/", OSError),
    "missing folder": ("no/model", FileNotFoundError),
    "file as folder": ("file/model", NotADirectoryError),
    "loop": ("loop", OSError),
    "FIFO": ("fifo", OSError),
    "link to a FIFO": ("link", OSError),
    "long name": ("x" * 300, OSError),
    "null": ("/dev/null", OSError),
    "full": ("/dev/full", OSError),
}


@pytest.mark.parametrize("use", [read, lambda path: replace_file(path, b"new")])
@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_no_file(tmp_path, name, use):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("fifo")
    os.mkfifo(tmp_path / "fifo")
    entries = sorted(os.listdir(tmp_path))
    path, kind = SPECIAL[name]
    path = os.path.join(tmp_path, path) if path else str(tmp_path)
    outcome = []

    def run():
        try:
            outcome.append(use(path))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)  # a FIFO might block
    thread.start()
    thread.join(10)
    assert outcome and isinstance(outcome[0], kind), outcome
    assert outcome[0].filename == path
    assert sorted(os.listdir(tmp_path)) == entries
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize("use", [read, lambda path: replace_file(path, b"new")])
def test_no_path(use):
    with pytest.raises(OSError):
        use("")
    for wrong in (3, None, 1.5):
        with pytest.raises(TypeError):
            use(wrong)


def test_a_fifo_that_appears_late_does_not_block(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"")
    regular = os.stat(tmp_path / "file")
    monkeypatch.setattr(os, "stat", lambda path: regular)
    with pytest.raises(OSError, match="Not a regular file"):
        read(tmp_path / "fifo")


def test_no_permission(path_of_an_ordinary_user):
    path = path_of_an_ordinary_user
    path.chmod(0o000)
    with pytest.raises(PermissionError, match="model"):
        read(path)
    path.chmod(0o400)
    with pytest.raises(PermissionError, match="model"):
        replace_file(path, b"new")
    path.chmod(0o600)
    path.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="model"):
            replace_file(path, b"new")
    finally:
        path.parent.chmod(0o700)
    assert_unchanged(path)
