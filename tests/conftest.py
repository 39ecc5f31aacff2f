"""Fixtures of all tests."""

import numpy as np
import pytest

import bpcore
from bpcore import _core


@pytest.fixture(params=bpcore.simd_levels())
def level(request):
    """Each instruction-set level that this machine runs, in use for the test."""
    before = bpcore.simd_level()
    _core.set_simd_level(request.param)
    yield request.param
    _core.set_simd_level(before)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder; returns exit code, output and errors."""
    from bpcore.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run
