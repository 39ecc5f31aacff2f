"""`input_jacobian`: the bits of single backward passes, and slopes of the outputs."""

import threading

import numpy as np
import pytest
from test_same_bits import FMA_LEVELS, NETWORKS, build, data

import bpcore
from bpcore import _core


@pytest.fixture(autouse=True)
def _as_before():
    level, threads = bpcore.simd_level(), bpcore.get_num_threads()
    yield
    _core.set_simd_level(level)
    bpcore.set_num_threads(threads)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_bits_of_backward_passes(name, dtype):
    net = build(name, dtype, dropout=True)
    X, _, _ = data(name, 300, dtype)
    jacobian = net.input_jacobian(X)
    assert jacobian.shape == (300, net.n_out, net.n_in) and jacobian.dtype == net.dtype
    net.forward(X)
    for output in range(net.n_out):
        dy = np.zeros((300, net.n_out))
        dy[:, output] = 1
        assert np.array_equal(jacobian[:, output], net.backward(dy))


@pytest.mark.parametrize("name", ["4-5-3", "65-64-10", "300-100-10", "5-130-2"])
def test_the_same_bits_whatever_stands_beside_a_row(name):
    net = build(name, "float32")
    X, _, _ = data(name, 700, "float32")
    expected = net.input_jacobian(X)
    for level in FMA_LEVELS:
        _core.set_simd_level(level)
        for threads in (1, 2, 3):
            bpcore.set_num_threads(threads)
            assert np.array_equal(net.input_jacobian(X), expected)
    for layout in (np.asfortranarray(X), X[::-1].copy()[::-1], X.astype(">f4")):
        assert np.array_equal(net.input_jacobian(layout), expected)
    assert np.array_equal(net.input_jacobian(X[13:14])[0], expected[13])


def test_slopes_of_a_wave_in_closed_form():
    """Of tanh(x W + b) V: V^T diag(1 - tanh^2) W^T."""
    rng = np.random.default_rng(0)
    net = bpcore.mlp([3, 20, 4], hidden="tanh", rng=0)
    X = rng.normal(size=(50, 3))
    W, b, V = net.layers[0].weight, net.layers[0].bias, net.layers[2].weight
    slopes = 1 - np.tanh(X @ W + b) ** 2
    expected = np.einsum("hj,rh,ih->rji", V, slopes, W)
    # sums of 20 terms, each with a few roundings
    bound = 30 * np.finfo(float).eps * np.einsum("hj,rh,ih->rji", abs(V), slopes + 1, abs(W))
    assert np.all(abs(net.input_jacobian(X) - expected) <= bound)


def test_the_slopes_of_a_softmax():
    net = bpcore.Network([bpcore.Dense(2, 2), bpcore.Softmax()], rng=0)
    p = net.predict([[0.3, 0.1]])[0]
    expected = (np.diag(p) - np.outer(p, p)) @ net.layers[0].weight.T
    assert np.allclose(net.input_jacobian([[0.3, 0.1]])[0], expected, rtol=0, atol=1e-15)


def test_it_leaves_all_else_alone():
    net = bpcore.mlp([3, 5, 2], rng=0)
    X = np.ones((4, 3))
    net.forward(X)
    expected = net.backward(np.ones((4, 2)))
    gradients = net.gradients.copy()
    net.forward(X)
    net.input_jacobian(np.zeros((90, 3)))
    assert np.array_equal(net.backward(np.ones((4, 2))), expected)
    net.gradients = gradients
    net.input_jacobian(X)
    assert np.array_equal(net.gradients, gradients)


def test_no_rows_and_bad_ones():
    net = bpcore.mlp([3, 5, 2], rng=0)
    assert net.input_jacobian(np.empty((0, 3))).shape == (0, 2, 3)
    with pytest.raises(bpcore.ShapeError, match=r"X must have shape \(n, 3\)"):
        net.input_jacobian([1.0, 2.0, 3.0])
    with pytest.raises(bpcore.ShapeError, match="X"):
        net.input_jacobian(np.ones((2, 4)))
    with pytest.raises(bpcore.DTypeError, match="X"):
        net.input_jacobian(np.ones((2, 3), complex))
    with pytest.raises(MemoryError, match="the Jacobian of so many rows needs 54,043,195"):
        net.input_jacobian(np.broadcast_to(1.0, (2**50, 3)))


def test_many_threads_may_ask_at_once():
    net = build("65-64-10", "float64")
    X, _, _ = data("65-64-10", 40, "float64")
    expected, wrong = net.input_jacobian(X), []

    def ask():
        for _ in range(50):
            if not np.array_equal(net.input_jacobian(X), expected):
                wrong.append(1)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
