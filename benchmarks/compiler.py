"""The system's C compiler, for peers in C and for measuring the machine."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers import Unsupported

if TYPE_CHECKING:
    import numpy as np

SOURCES = Path(__file__).parent / "c"
NATIVE = ("-O3", "-march=native", "-ffast-math")


@cache
def compiler() -> str:
    found = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not found:
        raise ImportError("no C compiler (cc) found")
    return found


@cache
def version() -> str:
    done = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


@cache
def folder() -> Path:
    """Where libraries are kept for the length of this process."""
    return Path(_temporary().name)


@cache
def _temporary() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="bpcore-benchmarks-")


def library(source: str, flags: tuple[str, ...] = NATIVE, **macros: object) -> ctypes.CDLL:
    """Compile a file of benchmarks/c into a shared library and load it."""
    defines = [f"-D{name}={value}" for name, value in sorted(macros.items())]
    command = [compiler(), *flags, "-fPIC", "-shared", *defines, str(SOURCES / source), "-lm"]
    built = folder() / (hashlib.sha256(" ".join(command).encode()).hexdigest()[:16] + ".so")
    if not built.exists():
        done = subprocess.run([*command, "-o", str(built)], capture_output=True, text=True)
        if done.returncode:
            raise Unsupported(f"{source} does not compile: {done.stderr.strip()[-300:]}")
    return ctypes.CDLL(str(built))


def pointer(array: "np.ndarray") -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
