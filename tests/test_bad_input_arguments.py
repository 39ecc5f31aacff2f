"""What fit, mlp and Network say to arguments that cannot be."""

import copy
import re
import tracemalloc

import numpy as np
import pytest
from refusal import N, good, refuses, regression, state

import bpcore
from bpcore import Dense, DTypeError, ShapeError

# --------------------------------------------------------------------------------- arguments of fit


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"epochs": -1}, ValueError, "^epochs must be >= 0, got -1$"),
        ({"epochs": 1.0}, TypeError, r"^epochs must be an integer, got 1.0 \(float\)$"),
        ({"epochs": True}, TypeError, r"^epochs must be an integer, got True \(bool\)$"),
        ({"epochs": "3"}, TypeError, "^epochs must be an integer, got '3'"),
        ({"epochs": None}, TypeError, "^epochs must be an integer, got None"),
        ({"batch_size": 0}, ValueError, "^batch_size must be >= 1, got 0$"),
        ({"batch_size": -5}, ValueError, "^batch_size must be >= 1, got -5$"),
        ({"batch_size": 2.0}, TypeError, "^batch_size must be an integer, got 2.0"),
        ({"batch_size": True}, TypeError, "^batch_size must be an integer, got True"),
        ({"batch_size": "all"}, TypeError, "^batch_size must be an integer, got 'all'"),
        ({"optimizer": "addam"}, ValueError, "unknown optimizer 'addam'; did you mean 'adam'.*sgd"),
        ({"optimizer": 0.1}, TypeError, "^optimizer must be a name or an object, got 0.1"),
        ({"optimizer": "relu"}, ValueError, "unknown optimizer 'relu'.* sgd, rmsprop, adam, adamw"),
        ({"sampling": "shufle"}, ValueError, "unknown sampling 'shufle'; did you mean 'shuffle'"),
        ({"sampling": True}, TypeError, "^sampling must be one of shuffle, sequential, replace"),
        ({"gradient_clip": 0}, ValueError, "^gradient_clip must be finite and > 0, got 0.0$"),
        ({"gradient_clip": -1}, ValueError, "^gradient_clip must be finite and > 0, got -1.0$"),
        ({"gradient_clip": np.nan}, ValueError, "^gradient_clip must be finite and > 0, got nan$"),
        ({"gradient_clip": np.inf}, ValueError, "^gradient_clip must be finite and > 0, got inf$"),
        ({"gradient_clip": "1"}, TypeError, "^gradient_clip must be a number, got '1'"),
        ({"validation_fraction": 1.0}, ValueError, "^validation_fraction must be .*, got 1.0$"),
        ({"validation_fraction": -0.1}, ValueError, "^validation_fraction must be .*, got -0.1$"),
        ({"validation_fraction": np.nan}, ValueError, "^validation_fraction must be .*, got nan$"),
        ({"validation_fraction": "a"}, TypeError, "^validation_fraction must be a number"),
        ({"validation_data": 5}, TypeError, r"^validation_data must be \(X, y\) or \(X, y, sampl"),
        ({"validation_data": ()}, TypeError, "^validation_data must be"),
        ({"validation_data": np.zeros((2, 4))}, TypeError, "^validation_data must be"),
        ({"early_stopping": 0}, ValueError, "^early_stopping must be >= 1, got 0$"),
        ({"early_stopping": 1.5}, TypeError, "^early_stopping must be an integer, got 1.5"),
        ({"early_stopping": "loss"}, TypeError, "^early_stopping must be an integer, got 'loss'"),
        ({"resume": "yes"}, TypeError, "^resume must be True or False, got 'yes'"),
        ({"epoch": 3}, TypeError, "unexpected keyword argument 'epoch'"),
    ],
)
def test_arguments_of_fit(keywords, error, message):
    net = regression()
    refuses(net, lambda: net.fit(*good(net), **({"optimizer": "rprop"} | keywords)), error, message)


def test_both_kinds_of_validation():
    net = regression()
    keywords = {"validation_data": good(net), "validation_fraction": 0.5}
    refuses(net, lambda: net.fit(*good(net), **keywords), ValueError, "not both")


def test_one_row_cannot_be_parted():
    net = regression()
    x, y = good(net)
    call = lambda: net.fit(x[:1], y[:1], validation_fraction=0.5)  # noqa: E731
    refuses(net, call, ValueError, "validation_fraction needs two rows at least")


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_a_schedule_that_returns_no_rate(value):
    net = regression()
    schedule = bpcore.SGD(learning_rate=lambda epoch: value if epoch == 2 else 0.1)
    message = rf"^learning_rate\(2\) must be finite and >= 0, got {value}"
    call = lambda: net.fit(*good(net), epochs=4, optimizer=schedule)  # noqa: E731
    refuses(net, call, ValueError, message)


def test_more_epochs_than_memory():
    net = regression()
    before = state(net)
    with pytest.raises(MemoryError):
        net.fit(*good(net), epochs=10**14, optimizer="rprop", validation_fraction=0.5)
    assert state(net) == before


# ---------------------------------------------------------------------------------- whole networks


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"widths": [4]}, ValueError, r"^widths must name the inputs and the outputs.*, got \[4\]"),
        ({"widths": []}, ValueError, "^widths must name the inputs and the outputs"),
        ({"widths": 4}, TypeError, "not iterable"),
        ({"widths": "43"}, TypeError, r"^Dense: n_in must be an integer, got '4' \(str\)"),
        ({"widths": [4, 0, 3]}, ValueError, "^Dense: n_out must be >= 1, got 0"),
        ({"widths": [0, 3]}, ValueError, "^Dense: n_in must be >= 1, got 0"),
        ({"widths": [4, -2]}, ValueError, "^Dense: n_out must be >= 1, got -2"),
        ({"widths": [4, 2.5, 3]}, ValueError, "^Dense: n_out must be a whole number >= 1, got 2.5"),
        ({"widths": [4, True]}, TypeError, "^Dense: n_out must be an integer, got True"),
        ({"hidden": "rleu"}, ValueError, "unknown activation 'rleu'; did you mean 'relu'.*tanh"),
        ({"output": "sofmax"}, ValueError, "unknown activation 'sofmax'; did you mean 'softmax'"),
        ({"hidden": None}, TypeError, "^activation must be a name or an object, got None"),
        ({"hidden": Dense(4, 4)}, TypeError, "^activation must be a name or an object, got Dense"),
        ({"loss": "mean"}, ValueError, "unknown loss 'mean'.* The choices are mse, mae, huber"),
        ({"loss": np.square}, TypeError, "^loss must be a name or an object, got <ufunc"),
        ({"dtype": "float16"}, DTypeError, "^dtype must be float32 or float64, got float16"),
        ({"dtype": int}, DTypeError, "^dtype must be float32 or float64, got int64"),
        ({"dtype": None}, DTypeError, "^dtype must be float32 or float64, got None"),
        ({"dtype": "double precision"}, DTypeError, "^dtype must be float32 or float64, got doubl"),
        ({"l2": -1e-3}, ValueError, "^l2 must be finite and >= 0, got -0.001"),
        ({"l2": np.nan}, ValueError, "^l2 must be finite and >= 0, got nan"),
        ({"l1": np.inf}, ValueError, "^l1 must be finite and >= 0, got inf"),
        ({"l1": "small"}, TypeError, "^l1 must be a number, got 'small'"),
        ({"l1": True}, TypeError, r"^l1 must be a number, got True \(bool\)"),
        ({"rng": -1}, ValueError, "non-negative"),
        ({"rng": 0.5}, TypeError, "0.5"),
    ],
)
def test_mlp(arguments, error, message):
    with pytest.raises(error, match=message):
        bpcore.mlp(**({"widths": [4, 5, 3]} | arguments))


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (lambda: [], ValueError, "needs at least one layer"),
        (lambda: [bpcore.ReLU()], ValueError, "needs at least one Dense layer"),
        (lambda: 5, TypeError, "not iterable"),
        (lambda: Dense(2, 3), TypeError, "not iterable"),
        (lambda: ["relu"], TypeError, r"layer 0 must be a layer or a \(name, layer\) pair, got 'r"),
        (lambda: [Dense(2, 3), bpcore.ReLU], TypeError, "layer 1 must be a layer or a .*, got <cl"),
        (lambda: [Dense(2, 3), None], TypeError, "layer 1 must be a layer .*, got None"),
        (lambda: [("a", "b")], TypeError, r"layer 0 must be a layer .*, got \('a', 'b'\)"),
        (lambda: [("", Dense(2, 3))], ValueError, "name must be text and not a number, got ''"),
        (lambda: [(5, Dense(2, 3))], ValueError, "name must be text and not a number, got 5"),
        (lambda: [("7", Dense(2, 3))], ValueError, "name must be text and not a number, got '7'"),
        (lambda: [("a", Dense(2, 3)), ("a", Dense(3, 3))], ValueError, "two layers are named 'a'"),
        (lambda: [Dense(2, 2)] * 2, ValueError, r"Dense\(2, 2\) is in the network twice; use a co"),
        (
            lambda: [Dense(2, 3), Dense(4, 1)], ShapeError,
            r"layer 0 \(Dense\(2, 3\)\) gives 3 outputs, but layer 1 \(Dense\(4, 1\)\) takes 4",
        ),
        (
            lambda: [("in", Dense(2, 3)), bpcore.Tanh(), bpcore.Dropout(0.1), ("out", Dense(2, 1))],
            ShapeError,
            r"layer in \(Dense\(2, 3\)\) gives 3 outputs, but layer out \(Dense\(2, 1\)\) takes 2",
        ),
        (
            lambda: [Dense(1, 1, weight_init=[[1e300]])], ValueError,
            r"1e\+300, beyond the range of float32",
        ),
    ],
)  # fmt: skip
def test_networks_that_cannot_be(layers, error, message):
    with pytest.raises(error, match=message):
        bpcore.Network(layers(), dtype="float32")


def test_a_layer_belongs_to_one_network():
    net = regression()
    message = r"Dense\(4, 5\) is already part of a network; use a copy.deepcopy of it"
    refuses(net, lambda: bpcore.Network([Dense(3, 4), net[0]]), ValueError, message)
    assert bpcore.Network([Dense(3, 4), copy.deepcopy(net[0])]).n_out == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: bpcore.mlp([10**9, 10**9]),
            r"^Dense\(1000000000, 1000000000\) needs [\d,]+ bytes",
        ),
        (lambda: bpcore.mlp([3, 2**62, 2**62]), r"^Dense\(3, \d+\) needs [\d,]+ bytes"),
        (
            lambda: bpcore.mlp([4, 10**13, 2]),
            r"^Dense\(4, 10000000000000\) needs 800,000,000,000,0",
        ),
        (lambda: bpcore.mlp([20_000] * 300), r"^a network of 119,605,980,000 parameters needs 1,9"),
    ],
)
def test_more_units_than_memory(make, message):
    """Known before anything is allocated."""
    tracemalloc.start()
    try:
        with pytest.raises(MemoryError, match=message):
            make()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("name", ["parameters", "gradients"])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.zeros(36), ShapeError, r"^{} has shape \(36,\), expected \(37,\)"),
        (np.zeros((37, 1)), ShapeError, r"^{} has shape \(37, 1\), expected \(37,\)"),
        (np.zeros((1, 37)), ShapeError, r"^{} has shape \(1, 37\), expected \(37,\)"),
        (0.0, ShapeError, r"^{} has shape \(\), expected \(37,\)"),
        (["a"] * 37, DTypeError, "^{} must hold real numbers, got dtype <U1"),
        (None, DTypeError, "^{} must hold real numbers"),
        (np.full(37, 1e300), ValueError, r"^{}\[0\] is 1e\+300, beyond the range of float32"),
        ([2**53 + 1] * 37, ValueError, r"^{}\[0\] is 9007199254740993, which float64 cannot hold"),
    ],
)
def test_assignment(name, value, error, message):
    net = regression("float32")
    refuses(net, lambda: setattr(net, name, value), error, message.format(name))


@pytest.mark.parametrize("shape", [(5, 4), (20,), (4, 5, 1), (1, 5), (4, 1), ()])
def test_assignment_to_a_layer(shape):
    net = regression()
    message = re.escape(f"weight has shape {shape}, expected (4, 5)")
    refuses(net, lambda: setattr(net[0], "weight", np.ones(shape)), ShapeError, message)


def test_bool_and_small_integers_are_numbers():
    net = regression()
    x = np.random.default_rng(0).integers(0, 2, (N, 4))
    expected = net.predict(x.astype(float))
    for given in (bool, np.int8, np.uint8, np.int16, np.uint64, np.float16, np.longdouble):
        np.testing.assert_array_equal(net.predict(x.astype(given)), expected)
