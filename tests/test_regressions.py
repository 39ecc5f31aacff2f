"""Mistakes that were made once, each with the test that would have found it."""

import signal

import numpy as np
import pytest

import bpcore
from bpcore import _core


def test_backward_after_a_forward_that_got_no_memory():
    net = bpcore.mlp([1, 65536, 1], rng=0)
    net.forward([[1.0]])
    with pytest.raises(MemoryError):  # 5 TB
        net.forward(np.broadcast_to(np.ones((1, 1)), (10_000_000, 1)))
    with pytest.raises(RuntimeError, match="call forward first"):
        net.backward([[1.0]])


def test_float32_gradient_of_millions_of_rows():
    """One chain of additions would stop growing; blocks are summed on their own."""
    n, unit = 2**22, np.finfo(np.float32).eps / 2
    net = bpcore.Network([bpcore.Dense(1, 1, weight_init=[[1.0]])], dtype="float32")
    x = np.broadcast_to(np.float32([[0.7]]), (n, 1))
    y = np.broadcast_to(np.float32([[0.1]]), (n, 1))
    _, gradient = net.loss_and_gradient(x, y)
    terms = 1024 + n // 1024
    np.testing.assert_allclose(gradient, [0.84, 1.2], rtol=terms * unit)


X, Y = np.stack([np.zeros(8), np.ones(8)], axis=1), np.arange(8.0)
DIVERGES = {
    "epsilon that float32 rounds to 0": ("float32", bpcore.Adam(epsilon=1e-50)),
    "rate times weight_decay": ("float64", bpcore.AdamW(learning_rate=1.0, weight_decay=1e3)),
}


@pytest.mark.parametrize("name", DIVERGES)
def test_weights_stay_finite_whatever_the_settings(name, level):
    dtype, optimizer = DIVERGES[name]
    net = bpcore.mlp([2, 1], loss="mae", dtype=dtype, rng=0)
    with pytest.raises(bpcore.DivergenceError):
        net.fit(X, Y, epochs=2000, optimizer=optimizer)
    assert np.isfinite(net.parameters).all()
    assert all(np.isfinite(slot).all() for slot in optimizer.state(net).slots)


@pytest.mark.parametrize(
    ("optimizer", "size"),
    [
        (bpcore.RMSProp(), 1e25),
        (bpcore.SGD(momentum=0.99), 3e38),
        (bpcore.Rprop(learning_rate=3e38, step_sizes=(1e-6, 3e38)), 1.0),
    ],
)
def test_state_stays_finite(optimizer, size, level):
    net = bpcore.mlp([1, 1], dtype="float32", rng=0)
    with pytest.raises(bpcore.DivergenceError):
        for _ in range(3):
            net.gradients[:] = size
            optimizer.step(net)
    assert np.isfinite(net.parameters).all()
    assert all(np.isfinite(slot).all() for slot in optimizer.state(net).slots)


def test_a_step_of_a_large_velocity_is_noticed(level):
    """Weights and gradient are small."""
    net = bpcore.Network([bpcore.Dense(1, 1, weight_init=[[0.5]])], dtype="float32")
    sgd = bpcore.SGD(learning_rate=2.0, momentum=0.99)
    net.gradients[:] = 0
    sgd.step(net)
    sgd.state(net).slots[0][:] = 3e38
    with pytest.raises(bpcore.DivergenceError):
        sgd.step(net)
    np.testing.assert_array_equal(net.parameters, [0.5, 0])
    np.testing.assert_array_equal(sgd.state(net).slots[0], np.float32(3e38))


def test_a_signal_handler_cannot_use_a_network_in_the_middle_of_a_batch():
    net = bpcore.mlp([50, 200, 1], rng=0)
    x = np.zeros((200_000, 50))

    def interfere(*_):
        net.loss_and_gradient(x[:2], x[:2, :1])

    before = signal.signal(signal.SIGALRM, interfere)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)  # the first may come before the first batch
    try:
        with pytest.raises(RuntimeError, match="in the middle of a fit"):
            net.fit(x, x[:, :1], epochs=100_000, batch_size=None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    net.loss_and_gradient(x[:2], x[:2, :1])


def test_data_inside_the_arrays_that_a_pass_writes_to():
    net = bpcore.mlp([4, 3, 1], hidden="tanh", rng=0)
    net.gradients = np.random.default_rng(1).normal(size=net.gradients.size)
    x = net.gradients[:12].reshape(3, 4)
    expected = net.loss_and_gradient(x.copy(), [1.0, 2.0, 3.0])
    net.gradients = np.random.default_rng(1).normal(size=net.gradients.size)
    got = net.loss_and_gradient(x, [1.0, 2.0, 3.0])
    assert got[0] == expected[0]
    np.testing.assert_array_equal(got[1], expected[1])


def test_elu_slope_far_to_the_left(dtype, level):
    """alpha + y would cancel."""
    layer = bpcore.ELU()
    x = np.array([-5.0, -17.0, -36.0, -38.0, -80.0], dtype)
    layer.forward(x)
    np.testing.assert_allclose(
        layer.backward(np.ones_like(x)), np.exp(x), rtol=4 * np.finfo(dtype).eps
    )


def test_losses_whose_sum_is_beyond_float32(level):
    loss = bpcore.MeanSquaredError()
    assert loss.forward(np.full((1000, 1), 1e18, "f4"), np.zeros((1000, 1), "f4")) == pytest.approx(
        1e36
    )


def test_penalty_of_large_weights(level):
    """No term that is 0 may meet a square that overflows."""
    net = bpcore.Network([bpcore.Dense(1, 1, weight_init=[[1e20]])], l1=1e-3, dtype="float32")
    assert net.loss_value([[0.0]], [0.0]) == pytest.approx(1e17)


def test_gradient_clip_where_squares_overflow(level):
    dense = bpcore.Dense(1, 1, weight_init=[[0.0]], bias=False)
    net = bpcore.Network([dense], loss="mae", dtype="float32")
    net.fit([[1e25]], [1.0], optimizer=bpcore.SGD(learning_rate=0.5), gradient_clip=1.0)
    assert net.parameters == pytest.approx(0.5)


def test_core_refuses_what_would_break_c():
    p = np.zeros(3)
    with pytest.raises(ValueError, match="adam has 2 slots, got 0"):
        _core.optimizer_step("adam", p, p.copy(), (), (0.9, 0.999, 1e-8, 0.0), 0.1, 1)
    with pytest.raises(ValueError, match="expected a matrix"):
        _core.softmax_forward(p, p.copy())


SETTINGS = [(bpcore.LeakyReLU(), "slope"), (bpcore.Dropout(0.5), "p"), (bpcore.Huber(), "delta")]
SETTINGS += [(bpcore.MeanSquaredError(), "reduction"), (bpcore.GELU(), "approximate")]


@pytest.mark.parametrize(("made", "name"), SETTINGS)
def test_settings_that_c_was_told_cannot_be_changed(made, name):
    with pytest.raises(AttributeError, match=f"{name} of {type(made).__name__} is fixed"):
        setattr(made, name, 0.25)


def test_optimizer_and_rng_are_checked_when_set():
    net = bpcore.mlp([1, 1], rng=0)
    net.optimizer, net.rng = "adam", 7
    net.fit([[1.0]], [1.0])
    assert isinstance(net.optimizer, bpcore.Adam)
    with pytest.raises(ValueError, match="adam"):
        net.optimizer = "adma"


def test_layers_without_a_kernel_are_refused():
    class Own(bpcore.layers.Layer):
        pass

    with pytest.raises(TypeError, match="has no kernel in C"):
        bpcore.Network([bpcore.Dense(1, 1), Own()])


def test_weights_whose_sum_times_the_outputs_overflows():
    """A scale of 0 once meant that no gradient was wanted, and left the one of the call before."""
    net = bpcore.mlp([2, 3], rng=0)
    _, expected = net.loss_and_gradient([[1.0, 2.0]], [[0.0, 0.0, 1.0]])
    net.loss_and_gradient([[1.0, 1.0]], [[1000.0, 0.0, 0.0]])
    _, got = net.loss_and_gradient([[1.0, 2.0]], [[0.0, 0.0, 1.0]], sample_weight=[1e308])
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_parameters_are_measured_again_after_a_careful_step(batch_size):
    """Modest batches had promised thousands of harmless steps; one huge batch broke the promise."""
    X = np.zeros((4 + batch_size + 100, 2), np.float32)
    X[:, 1] = 1
    X[4 : 4 + batch_size] = [4.5e18, 0]
    net = bpcore.Network([bpcore.Dense(2, 1, bias=False)], rng=0, dtype="float32")
    sgd = bpcore.SGD(learning_rate=0.9, momentum=0.99)
    with pytest.raises(bpcore.DivergenceError):
        net.fit(
            X, np.zeros((len(X), 1)), batch_size=batch_size, sampling="sequential", optimizer=sgd
        )
    assert np.isfinite(net.parameters).all()


def test_a_row_of_infinite_loss_is_not_trained_on():
    """Its gradient was finite, so training one row at a time took the step, twice."""
    X = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    y = np.zeros((20, 2), np.float32)
    y[10] = 3e38
    by_row = bpcore.mlp([2, 3, 2], hidden="tanh", rng=0, dtype="float32", loss="mae")
    by_block = bpcore.mlp([2, 3, 2], hidden="tanh", rng=0, dtype="float32", loss="mae")
    options = {"batch_size": 1, "sampling": "sequential"}
    with pytest.raises(bpcore.DivergenceError):
        by_row.fit(X, y, optimizer=bpcore.SGD(learning_rate=0.1), **options)
    with pytest.raises(bpcore.DivergenceError):
        by_block.fit(X, y, optimizer=bpcore.SGD(learning_rate=0.1), gradient_clip=1e30, **options)
    assert np.array_equal(by_row.parameters, by_block.parameters)


@pytest.mark.parametrize("k", [2, 40])
def test_a_row_whose_step_is_infinite_is_not_trained_on(k, level):
    """Loss and gradient are finite, and those of usual numbers could be trained on at this rate."""
    X = np.random.default_rng(0).normal(size=(20, k)).astype(np.float32)
    X[0] = 1e28
    net = bpcore.Network([bpcore.Dense(k, 1)], rng=0, dtype="float32", loss="mae")
    before = net.parameters.copy()
    sgd = bpcore.SGD(learning_rate=1e14)
    with pytest.raises(bpcore.DivergenceError):
        net.fit(X, np.zeros(20), batch_size=1, sampling="sequential", optimizer=sgd)
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.parametrize("n", [16, 17])
def test_padding_of_a_block_does_not_overflow(n):
    """Rows of zeros after the last row went to infinity where no row of the data did."""
    net = bpcore.mlp([1, 1, 1, 1], hidden="relu", rng=0, dtype="float32")
    net.parameters[:] = [-1e20, 1e20, 1e20, 0, 1, 0]
    value, gradients = net.loss_and_gradient(np.full((n, 1), 2.0), np.zeros((n, 1)))
    assert value == 0
    assert not np.asarray(gradients).any()


def test_no_gradient_without_the_penalty_may_match_in_a_large_batch():
    """Where projections had ruled out all that a penalty is not added to, none were stacked."""
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(150, 4)), rng.integers(0, 3, 150)
    net = bpcore.mlp(
        [4, 16, 16, 3], hidden="tanh", output="softmax", loss="cross_entropy", l2=0.01, rng=0
    )
    net.fit(X, labels, epochs=20, optimizer="adam")
    _, gradient = net.loss_and_gradient(X, labels)
    found = bpcore.explain_gradients(net, X, labels, 0.1 * gradient, learning_rate=0.1)
    assert [mistake.code for mistake in found.mistakes] == ["rate_applied"]
