"""The fingerprints of golden.json hold: on every level with fma, for all threads and layouts."""

import golden
import numpy as np
import pytest
import test_same_bits

import bpcore
from bpcore import _core

LEVELS = [name for name in bpcore.simd_levels() if name != "generic"]
needs_fma = pytest.mark.skipif(not LEVELS, reason="no level with fma on this machine")
KNOWN = golden.known()

# Those whose work is shared between threads, and one of each way to train.
SHARED = ["blocks", "blocks in columns", "large", "large sgd", "everything", "wide all rows"]
WAYS = ["P5 one row", "long rows", "narrow adam", "wide sgd", "everything", "striped", "blocks"]
LAYOUTS = ("Fortran", "strided", "negative strides", "byte-swapped", "unaligned", "read-only")


@pytest.fixture(params=LEVELS)
def fma_level(request):
    before = bpcore.simd_level()
    _core.set_simd_level(request.param)
    yield request.param
    _core.set_simd_level(before)


def expected(name, dtype):
    value = KNOWN.get(golden.key(name, dtype))
    if value is None:  # of an activation or a loss that is new
        pytest.skip("no fingerprint yet: python tests/golden.py --renew")
    return value


def test_fingerprints_are_of_programs_that_there_are():
    """`python tests/golden.py --renew` writes them."""
    wanted = {golden.key(name, dtype) for name in golden.PROGRAMS for dtype in golden.DTYPES}
    assert KNOWN.keys() <= wanted and len(KNOWN) >= 200
    assert len(set(KNOWN.values())) > 0.9 * len(KNOWN)  # some are the base under several names


@needs_fma
@pytest.mark.parametrize("name", golden.PROGRAMS)
def test_the_same_bits_as_ever(name, dtype, fma_level):
    assert golden.run(name, dtype) == expected(name, dtype)


@needs_fma
@pytest.mark.parametrize("n_threads", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("name", SHARED)
def test_threads(name, n_threads, dtype, fma_level):
    before = bpcore.get_num_threads()
    try:
        bpcore.set_num_threads(n_threads)
        assert golden.run(name, dtype) == expected(name, dtype)
    finally:
        bpcore.set_num_threads(before)


@needs_fma
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", WAYS)
def test_layouts(name, layout, dtype, fma_level):
    def change(array):
        swapped = layout == "byte-swapped" and array.dtype.kind != "f"  # labels
        return array if swapped else test_same_bits.LAYOUTS[layout](array, None)

    assert golden.run(name, dtype, change) == expected(name, dtype)


@needs_fma
def test_a_fingerprint_tells_one_bit():
    """Of any of the results."""
    values = [np.arange(5.0), [1.0, 2.0], 3.0]
    assert golden.fingerprint(values) == golden.fingerprint([*values[:2], np.array(3.0)])
    for i in range(3):
        other = [np.array(value, float) for value in values]
        other[i].reshape(-1)[-1] = np.nextafter(other[i].reshape(-1)[-1], 9)
        assert golden.fingerprint(other) != golden.fingerprint(values)
