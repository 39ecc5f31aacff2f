"""What this machine can do at most, measured in C (benchmarks/c/machine.c)."""

import ctypes
from dataclasses import dataclass

import numpy as np

from benchmarks import compiler

LEVELS = {
    "generic": (16, ()),
    "avx2": (32, ("-mavx2", "-mfma")),
    "avx512": (64, ("-mavx512f", "-mavx512dq", "-mavx512vl", "-mfma")),
    "neon": (16, ()),
}
"""Bytes of a vector, and the compiler's flags."""

SECONDS = 0.1


@dataclass(frozen=True)
class Machine:
    """The limits for one dtype at one level."""

    level: str
    dtype: str

    @property
    def vector_bytes(self) -> int:
        return LEVELS[self.level][0]

    def _function(self, name: str) -> "ctypes._FuncPointer":
        size, flags = LEVELS[self.level]
        real = {"float32": "float", "float64": "double"}[self.dtype]
        options = ("-O3", "-ffp-contract=fast", "-std=gnu11", *flags)
        function = getattr(compiler.library("machine.c", options, REAL=real, BYTES=size), name)
        function.restype = ctypes.c_double
        return function

    def peak_flops(self) -> float:
        return self._function("peak_flops")(ctypes.c_double(SECONDS))

    def triad_bandwidth(self, total_bytes: int) -> float:
        """Bytes a second of a = b + s c, when all three take so many bytes."""
        n = total_bytes // 3 // np.dtype(self.dtype).itemsize
        took = self._time("triad_seconds", np.ones((3, n), self.dtype))
        return 3 * n * np.dtype(self.dtype).itemsize / took

    def adam_bandwidth(self, n: int) -> float:
        """Bytes a second of the least work on the arrays of an Adam step over n parameters."""
        took = self._time("four_arrays_seconds", np.ones((4, n), self.dtype))
        return 7 * n * np.dtype(self.dtype).itemsize / took

    def _time(self, name: str, arrays: np.ndarray) -> float:
        n = arrays.shape[1]
        counts = (ctypes.c_ssize_t(n), ctypes.c_ssize_t(max(1, 100_000 // n)))
        pointers = map(compiler.pointer, arrays)
        return self._function(name)(*pointers, *counts, ctypes.c_double(SECONDS))
