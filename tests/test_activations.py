"""Activations alone: values and derivatives against the oracle, at kinks and at infinity."""

import bounds
import cases
import numpy as np
import pytest
import reference

import bpcore
from bpcore import _core, layers

# Every elementwise activation as a layer, under the name of its kernel, and a parameter behind it.
LAYERS = {name: cls for name, cls in layers.ACTIVATIONS.items() if name != "softmax"} | {
    "leaky_relu 0.3": lambda: bpcore.LeakyReLU(slope=0.3),
    "elu 0.5": lambda: bpcore.ELU(alpha=0.5),
    "gelu_tanh": lambda: bpcore.GELU(approximate="tanh"),
}
SIZES = (*cases.WIDTHS, 1000)
INF, NAN = np.inf, np.nan


def formula(name):
    """The oracle's row, and the parameter."""
    kernel, _, parameter = name.partition(" ")
    row = reference.ACTIVATIONS[kernel]
    return kernel, row, float(parameter) if parameter else row.parameter


def arguments(rng, n, dtype):
    """Sizes from 1e-6 to 100, both signs."""
    x = rng.choice([-1, 1], n) * 10.0 ** rng.uniform(-6, 2, n)
    return np.where(rng.random(n) < 0.6, rng.uniform(-6, 6, n), x).astype(dtype)


def test_every_activation_is_in_the_table():
    assert {formula(name)[0] for name in LAYERS} == set(reference.ACTIVATIONS)


@pytest.mark.parametrize("name", LAYERS)
def test_forward_and_backward(name, dtype, level, rng):
    _, row, a = formula(name)
    layer, u = LAYERS[name](), bounds.unit(dtype)
    for n in SIZES:
        x, dy = arguments(rng, n, dtype), rng.normal(size=n).astype(dtype)
        x[row.value(x.astype(float), a) > np.finfo(dtype).max] = 1  # test_far_out is for these
        y, dx = layer.forward(x), layer.backward(dy)
        assert y.dtype == dx.dtype == dtype
        x, dy = x.astype(float), dy.astype(float)
        e_value, e_slope = bounds.activation(formula(name)[0], a, x, np.zeros(n), u)
        slope = row.derivative(x, a)
        bounds.assert_within(y, row.value(x, a), e_value, dtype, f"{name} of {n}")
        error = np.abs(dy) * (e_slope + u * np.abs(slope))
        bounds.assert_within(dx, dy * slope, error, dtype, f"{name}' of {n}")


@pytest.mark.parametrize("name", LAYERS)
def test_kernel(name, dtype, level, rng):
    """The compiled functions below the layer, in place as well."""
    kernel, _, a = formula(name)
    for n in SIZES:
        x, dy = arguments(rng, n, dtype), rng.normal(size=n).astype(dtype)
        layer = LAYERS[name]()
        expected_y, expected_dx = layer.forward(x), layer.backward(dy)
        y, dx = np.empty_like(x), np.empty_like(x)
        _core.activation_forward(kernel, a, x, y)
        _core.activation_backward(kernel, a, dy, x, y, dx)
        np.testing.assert_array_equal(y, expected_y)
        np.testing.assert_array_equal(dx, expected_dx)


@pytest.mark.parametrize("name", LAYERS)
def test_at_zero(name, dtype, level):
    """At the kink and just beside it: there the derivative is that of the left side."""
    kernel, row, a = formula(name)
    layer, u = LAYERS[name](), bounds.unit(dtype)
    for x in (0.0, -0.0, 1e-30, -1e-30):
        for size in (1, 33):
            y = layer.forward(np.full(size, x, dtype))
            dx = layer.backward(np.full(size, -2, dtype))
            x_64 = np.full(size, x, dtype).astype(float)
            e_value, e_slope = bounds.activation(kernel, a, x_64, np.zeros(size), u)
            bounds.assert_within(y, row.value(x_64, a), e_value, dtype, f"{name}({x})")
            slope = row.derivative(x_64, a)
            bounds.assert_within(dx, -2 * slope, 2 * e_slope, dtype, f"{name}'({x})")


@pytest.mark.parametrize("name", LAYERS)
def test_far_out(name, dtype, level):
    """At infinity the limit, at large finite arguments the limit or the asymptote; never a nan."""
    _, row, a = formula(name)
    layer, eps = LAYERS[name](), np.finfo(dtype).eps
    large = float(np.finfo(dtype).max)
    for sign, (value, slope) in zip((-1, 1), row.limits(a), strict=True):
        for x in (1e3, 1e4, 1e20, large**0.4, large, INF):
            expected = value if np.isfinite(value) or x == INF else sign * x * slope
            for size in (1, 33):
                y = layer.forward(np.full(size, sign * x, dtype))
                np.testing.assert_allclose(
                    y, np.full(size, expected, dtype), rtol=2 * eps, err_msg=f"{name}({sign * x})"
                )
                dx = layer.backward(np.full(size, 3, dtype))
                np.testing.assert_allclose(
                    dx, 3 * slope, rtol=2 * eps, atol=0, err_msg=f"{name}'({sign * x})"
                )


def test_gelu_keeps_its_digits_far_to_the_left(level):
    """What x^2/2 is rounded by counts in the exponent; in float32, which the oracle outdoes."""
    x = np.linspace(-12, -1, 500).astype(np.float32)
    expected = reference.ACTIVATIONS["gelu"].value(x.astype(float), 0)
    tolerance = bounds.ROUNDINGS * bounds.unit(np.float32)
    np.testing.assert_allclose(bpcore.GELU().forward(x), expected, rtol=tolerance)


@pytest.mark.parametrize("name", LAYERS)
def test_nan_stays_nan(name, dtype, level):
    layer = LAYERS[name]()
    for size in (1, 33):
        x = np.zeros(size, dtype)
        x[-1] = NAN
        y = layer.forward(x)
        assert np.isnan(y).sum() == np.isnan(y[-1]) == 1
        dx = layer.backward(np.ones(size, dtype))
        assert not np.isnan(dx[:-1]).any()


@pytest.mark.parametrize("name", LAYERS)
def test_shapes(name, dtype, rng):
    """Any shape: the result is that of the flat array, and has the shape of x."""
    layer = LAYERS[name]()
    x, dy = (rng.normal(size=(2, 3, 4)).astype(dtype) for _ in range(2))
    y = layer.forward(x.ravel()).reshape(x.shape)
    dx = layer.backward(dy.ravel()).reshape(x.shape)
    for view in (slice(None), (0,), (0, 1), (slice(0, 0),), (slice(None), slice(None, None, -1))):
        np.testing.assert_array_equal(layer.forward(x[view]), y[view])
        np.testing.assert_array_equal(layer.backward(dy[view]), dx[view])
        assert layer.forward(x[view]).shape == x[view].shape


@pytest.mark.parametrize("shape", [(1,), (7,), (1, 1), (5, 1), (1, 17), (3, 33), (2, 3, 5)])
def test_softmax(shape, dtype, level, rng):
    layer, u = bpcore.Softmax(), bounds.unit(dtype)
    z, dy = (rng.normal(0, 3, shape).astype(dtype) for _ in range(2))
    y, dx = layer.forward(z), layer.backward(dy)
    assert y.dtype == dx.dtype == dtype
    z, dy = z.astype(float), dy.astype(float)
    expected, error = reference.softmax(z), bounds.softmax(z, np.zeros(shape), u)
    bounds.assert_within(y, expected, error, dtype, "softmax")
    error = bounds.softmax_backward(dy, np.zeros(shape), expected, error, u)
    bounds.assert_within(dx, reference.softmax_backward(dy, expected), error, dtype, "softmax'")


def test_softmax_of_large_numbers(dtype, level):
    layer = bpcore.Softmax()
    z = np.array([[1e4, -1e4, 1e4], [-1e30, 0, -1e30], [1e30, 1e30, -INF], [5, -INF, -INF]], dtype)
    y = layer.forward(z)
    np.testing.assert_array_equal(y, [[0.5, 0, 0.5], [0, 1, 0], [0.5, 0.5, 0], [1, 0, 0]])
    dx = layer.backward(np.array([[1, 2, 3]] * 4, dtype))
    np.testing.assert_array_equal(dx, [[-0.5, 0, 0.5], [0, 0, 0], [-0.25, 0.25, 0], [0, 0, 0]])
    y = layer.forward(np.array([[NAN, 0], [0, 1]], dtype))
    assert np.isnan(y[0]).all() and not np.isnan(y[1]).any()


def test_softmax_wherever_the_largest_is(dtype, level):
    """exp of its distance to the others overflows, and all are below the zeros of the padding."""
    for k in range(1, 36):
        z = 1e4 * np.eye(k, dtype=dtype) - 2e4
        np.testing.assert_array_equal(bpcore.Softmax().forward(z), np.eye(k))


@pytest.mark.parametrize("name", [n for n in cases.ACTIVATIONS if n != "gelu_tanh"])
def test_names(name):
    """A name stands for the class with its defaults."""
    layer = bpcore.mlp([2, 2, 2], hidden=name).layers[1]
    assert layer.name == name
    if name != "softmax":
        assert (layer.kernel, layer.parameter) == (name, reference.ACTIVATIONS[name].parameter)
