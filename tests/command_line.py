"""What tests of the command share; the fixture `run` is in conftest.py."""

import os
import subprocess
import sys
from pathlib import Path

import bpcore


def assert_one_line(result, *parts, code=2):
    got, out, err = result
    assert (got, out) == (code, "")
    assert err.startswith("bpcore: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


def command(*arguments, **keywords):
    """Start the command as a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment["PYTHONPATH"] = str(Path(bpcore.__file__).parents[1])
    keywords = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | keywords
    return subprocess.Popen(
        [sys.executable, "-m", "bpcore", *map(str, arguments)], env=environment, **keywords
    )
