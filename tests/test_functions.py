"""exp, log1p, tanh, sigmoid and softplus: accuracy in ulp, special values, out=."""

import warnings

import exact
import numpy as np
import pytest
import reference
from bounds import FUNCTION_ULPS

import bpcore
from bpcore import _core

NAMES = sorted(reference.FUNCTIONS)
INF, NAN = np.inf, np.nan
UINT = {4: np.uint32, 8: np.uint64}

# exp of the first is the largest finite number, to rounding; of the second half the smallest.
EXP_RANGE = {4: (88.72283, -103.97208), 8: (709.782712893384, -745.1332191019411)}


def points(name, dtype, rng):
    """Arguments of every size and sign where the result is finite, and the neighbours of edges."""
    high, low = EXP_RANGE[dtype.itemsize]
    info = np.finfo(dtype)
    tiny = float(info.smallest_subnormal)
    spans = [rng.uniform(a, b, 40_000) for a, b in ((-1, 1), (-20, 20), (low, high))]
    exponents = rng.uniform(np.log10(tiny), 0, 40_000)
    spans += [10.0**exponents, -(10.0**exponents)]
    edges = [tiny, float(info.tiny), float(info.eps), 0.0, 0.5, 1.0, np.log(2) / 2, np.log(2)]
    x = np.concatenate([*spans, edges, np.negative(edges), [high, low, low / 2]]).astype(dtype)
    x = np.concatenate([x, np.nextafter(x, dtype.type(INF)), np.nextafter(x, -dtype.type(INF))])
    if name == "log1p":
        large = 10.0 ** rng.uniform(0, np.log10(float(info.max)) * 0.999, 40_000)
        x = np.concatenate([x[x > -1], large.astype(dtype), [info.max]])
    elif name == "exp":
        x = x[(x >= low) & (x <= high)]
    else:
        large = 10.0 ** rng.uniform(0, np.log10(float(info.max)) * 0.999, 10_000)
        x = np.concatenate([x, large.astype(dtype), -large.astype(dtype), [info.max, info.min]])
    return x.astype(dtype)


def ulps(got, expected, dtype):
    """The distance in units in the last place of the expected result, denormals included."""
    largest = np.finfo(dtype).max
    below = np.nextafter(largest, dtype.type(0))  # the largest's own spacing reaches infinity
    with np.errstate(under="ignore", over="ignore"):
        unit = np.spacing(np.minimum(np.abs(expected).astype(dtype), below))
    return np.abs(got.astype(expected.dtype) - expected) / unit.astype(expected.dtype)


def evaluate(name, x):
    out = np.empty_like(x)
    _core.evaluate_function(name, x, out)
    return out


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_accuracy(name, dtype, level, rng):
    x = points(name, dtype, rng)
    if not exact.LONGDOUBLE_IS_WIDER and dtype == np.float64:
        x = x[::500].copy()  # in decimals, one by one
    expected = exact.function(name, x)
    error = ulps(evaluate(name, x), expected, dtype)
    # The oracle is one rounding off where it has no wider type.
    allowed = FUNCTION_ULPS
    if dtype == np.float64 and not exact.LONGDOUBLE_IS_WIDER:
        allowed += 0.5
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    assert error[worst] <= allowed, (
        f"{name}({x[worst]!r}) is {error[worst]:.2f} ulp off: got "
        f"{evaluate(name, x[worst : worst + 1])[0]!r}, expected {expected[worst]!r}"
    )


SPECIALS = {
    "exp": [(0.0, 1), (-0.0, 1), (INF, INF), (-INF, 0.0), (NAN, NAN), (1e4, INF), (-1e4, 0.0)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-1, -INF), (-2, NAN), (-INF, NAN), (NAN, NAN)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1), (NAN, NAN), (1e4, 1), (-1e4, -1)],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (INF, 1), (-INF, 0.0), (NAN, NAN), (1e4, 1), (-1e4, 0.0)],
    "softplus": [(INF, INF), (-INF, 0.0), (NAN, NAN), (1e4, 1e4), (-1e4, 0.0)],
}


def test_every_function_has_special_values():
    assert set(SPECIALS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_special_values(name, dtype, level):
    for x, expected in SPECIALS[name]:
        for size in (1, 33):  # in a tail and in whole vectors
            got = evaluate(name, np.full(size, x, dtype))
            np.testing.assert_array_equal(got, np.full(size, expected, dtype), f"{name}({x})")
            if not np.isnan(expected):
                assert (np.signbit(got) == np.signbit(expected)).all(), f"sign of {name}({x})"


@pytest.mark.parametrize("name", ["tanh", "log1p"])
def test_small_arguments_come_back(name, dtype, level):
    """f(x) = x to the last bit for arguments whose square is below half an ulp."""
    info = np.finfo(dtype)
    tiny = float(info.smallest_subnormal)
    x = np.array([tiny, 3 * tiny, info.tiny / 2, info.tiny, info.eps**2], dtype)
    x = np.concatenate([x, -x])
    assert same_bits(evaluate(name, x), x)


def test_overflow_edges(dtype, level):
    high, low = (dtype.type(v) for v in EXP_RANGE[dtype.itemsize])
    tiny = np.finfo(dtype).smallest_subnormal
    got = evaluate("exp", np.array([high, high * (1 + np.finfo(dtype).eps)], dtype))
    assert np.isfinite(got[0]) and np.isposinf(got[1])
    for name in ("exp", "sigmoid", "softplus"):  # all the same far to the left
        got = evaluate(name, np.array([low + 0.3, low - 0.7], dtype))
        np.testing.assert_array_equal(got, [tiny, 0], name)


@pytest.mark.parametrize("name", NAMES)
def test_levels_with_fma_give_the_same_bits(name, dtype, rng):
    x = points(name, dtype, rng)
    specials = [pair[0] for pair in SPECIALS[name]]
    x = np.concatenate([x, np.array(specials, dtype)])
    before, results = bpcore.simd_level(), {}
    try:
        for level in bpcore.simd_levels():
            if level != "generic":
                _core.set_simd_level(level)
                results[level] = evaluate(name, x)
    finally:
        _core.set_simd_level(before)
    first, *others = results
    for other in others:
        different = results[first].view(UINT[dtype.itemsize]) != results[other].view(
            UINT[dtype.itemsize]
        )
        different &= ~np.isnan(x)  # which nan is not promised
        assert not different.any(), f"{first} and {other} differ at {x[different][:5]}"


@pytest.mark.parametrize("name", NAMES)
def test_position_does_not_matter(name, dtype, level, rng):
    x = rng.uniform(-0.9, 30, 67).astype(dtype)
    whole = evaluate(name, x)
    for i in range(len(x)):
        assert same_bits(evaluate(name, x[i:].copy()), whole[i:])
        assert same_bits(evaluate(name, x[i : i + 1].copy()), whole[i : i + 1])


@pytest.mark.parametrize("name", NAMES)
def test_public_function(name, dtype, rng):
    """Any shape and layout; the dtype of x; no warning on the way; x is left alone."""
    f = getattr(bpcore.functions, name)
    x = rng.uniform(-0.9, 5, (6, 4, 3)).astype(dtype)
    expected = evaluate(name, x)
    views = [x, np.asfortranarray(x), x[:, ::-1], x[::2], x[:, :, 1], x[1, 1], x[:0]]
    views += [x.astype(x.dtype.newbyteorder()), x[0, 0, 0, ...]]
    for view in views:
        before = np.array(view)
        got = f(view)
        assert np.asarray(got).dtype == dtype and np.shape(got) == view.shape
        np.testing.assert_array_equal(got, evaluate(name, np.ascontiguousarray(view, dtype)))
        np.testing.assert_array_equal(view, before)
    assert same_bits(f(x), expected)
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        f(np.array([1e4, -1e4, INF, NAN, -1.0], dtype))


@pytest.mark.parametrize("name", NAMES)
def test_other_dtypes_are_taken_as_float64(name):
    f = getattr(bpcore.functions, name)
    expected = f(np.array([0.0, 1.0]))
    for value in ([0, 1], [False, True], np.array([0, 1], np.int8), np.array([0, 1], np.float16)):
        got = f(value)
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, expected)
    assert f(1) == expected[1]


@pytest.mark.parametrize("name", NAMES)
def test_out(name, dtype, rng):
    f = getattr(bpcore.functions, name)
    x = rng.uniform(-0.9, 5, (5, 7)).astype(dtype)
    expected = f(x)
    out = np.full_like(x, 9)
    assert f(x, out=out) is out
    assert same_bits(out, expected)
    own = x.copy()
    assert f(own, out=own) is own
    assert same_bits(own, expected)
    for shape in ((5, 6), (7, 5), (35,), (1, 5, 7)):
        out = np.full(shape, 9, dtype)
        with pytest.raises(ValueError, match="out"):
            f(x, out=out)
        assert (out == 9).all()
    frozen = np.full_like(x, 9)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match=r"out|read-only"):
        f(x, out=frozen)
    assert (frozen == 9).all()
    other = np.float64 if dtype == np.float32 else np.float32
    for out in (np.full(x.shape, 9, other), np.full(x.shape, 9), [[0.0] * 7] * 5):
        if getattr(out, "dtype", None) != dtype:
            with pytest.raises(TypeError, match="out"):
                f(x, out=out)


@pytest.mark.parametrize("name", NAMES)
def test_out_that_overlaps_or_is_strided(name, dtype, rng):
    """Either the right values, as with a ufunc, or a ValueError that leaves `out` alone."""
    f = getattr(bpcore.functions, name)
    values = rng.uniform(-0.9, 5, 40).astype(dtype)
    expected = f(values)
    cases = []
    memory = np.concatenate([values, values[:1]])
    cases.append((memory[:-1], memory[1:], values))
    memory = np.concatenate([values[:1], values])
    cases.append((memory[1:], memory[:-1], values))
    memory = values.copy()
    cases.append((memory, memory[::-1], values))
    cases.append((values.copy(), np.zeros(80, dtype)[::2], values))
    for x, out, _ in cases:
        before = out.copy()
        try:
            f(x, out=out)
        except ValueError as error:
            assert "out" in str(error)
            np.testing.assert_array_equal(out, before)
        else:
            np.testing.assert_array_equal(out, expected)
