"""What networks say to input that cannot be; and that nothing has changed after they said it."""

import copy
import re
import tracemalloc

import numpy as np
import pytest

import bpcore
from bpcore import Dense, DTypeError, ShapeError

N = 6


def regression(dtype="float64", n_out=2, loss="mse"):
    return trained(bpcore.mlp([4, 5, n_out], hidden="tanh", loss=loss, dtype=dtype, rng=0))


def binary(loss="bce"):
    output = "sigmoid" if loss == "bce" else "identity"
    return trained(bpcore.mlp([4, 5, 2], output=output, loss=loss, rng=0))


def classes(loss="cross_entropy"):
    output = "softmax" if loss == "cross_entropy" else "identity"
    return trained(bpcore.mlp([4, 5, 3], output=output, loss=loss, rng=0))


def good(net):
    """Data that the network takes: X and y."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N, 4))
    if net.loss.takes_labels:
        return x, rng.integers(0, 3, N)
    return x, rng.uniform(0, 1, (N, net.n_out))


def trained(net):
    """The network with state to lose: weights, gradients, an optimiser's, a forward pass."""
    x, y = good(net)
    net.fit(x, y, epochs=2, batch_size=4, optimizer=bpcore.Adam())
    net.forward(x)
    net.metadata["kept"] = 1
    return net


def state(net):
    tape = copy.deepcopy(net.gradients)
    dx = net.backward(np.ones((N, net.n_out)))  # of the forward pass that `trained` made
    after = net.gradients.tobytes()
    net.gradients = tape
    optimizer = net.optimizer
    return (
        net.parameters.tobytes(), net.gradients.tobytes(), dx.tobytes(), after, id(optimizer),
        [slot.tobytes() for slot in optimizer.state(net).slots], optimizer.state(net).step,
        str(net.rng.bit_generator.state), id(net.history), dict(net.metadata), repr(net),
    )  # fmt: skip


def refuses(net, call, error, message, *given):
    """The call raises the error, with a message that has all of that, and changes nothing."""
    before = state(net)
    kept = [copy.deepcopy(a) if isinstance(a, np.ndarray) else None for a in given]
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value).__module__ in ("builtins", "bpcore.errors")
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    for a, same in zip(given, kept, strict=True):
        if same is not None:
            np.testing.assert_array_equal(a, same)
    assert state(net) == before


USES_OF_X = {
    "predict": lambda net, x: net.predict(x),
    "call": lambda net, x: net(x),
    "predict out": lambda net, x: net.predict(x, out=np.zeros((N, net.n_out), net.dtype)),
    "forward": lambda net, x: net.forward(x),
    "forward training": lambda net, x: net.forward(x, training=True),
    "loss_value": lambda net, x: net.loss_value(x, good(net)[1]),
    "loss_and_gradient": lambda net, x: net.loss_and_gradient(x, good(net)[1], training=True),
    "fit": lambda net, x: net.fit(x, good(net)[1], optimizer="rprop"),
    "validation": lambda net, x: net.fit(*good(net), validation_data=(x, good(net)[1])),
}
USES_OF_Y = {
    "loss_value": lambda net, y, w=None: net.loss_value(good(net)[0], y, sample_weight=w),
    "loss_and_gradient": lambda net, y, w=None: net.loss_and_gradient(
        good(net)[0], y, sample_weight=w, input_gradient=True
    ),
    "fit": lambda net, y, w=None: net.fit(
        good(net)[0], y, sample_weight=w, optimizer="rprop", validation_fraction=0.3
    ),
    "validation": lambda net, y, w=None: net.fit(
        *good(net), optimizer="rprop", validation_data=(good(net)[0], y, w)
    ),
}


def named(use, argument):
    """How messages call the argument."""
    return f"^validation_data {argument}" if use == "validation" else f"^{argument}"


# ------------------------------------------------------------------------------------------ shapes


@pytest.mark.parametrize("use", USES_OF_X)
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4,), r" must have shape \(n, 4\), got \(4,\): .*X.reshape\(1, -1\) makes it one row"),
        ((6,), r" must have shape \(n, 4\), got \(6,\): .*reshape\(1, -1\) .*reshape\(-1, 1\)"),
        ((N, 2, 2), r" must have shape \(n, 4\), got \(6, 2, 2\): .*X.reshape\(len\(.*X\), -1\)"),
        ((), r" must have shape \(n, 4\), got \(\)"),
        ((N, 3), " has 3 columns, but the network takes 4"),
        ((N, 5), " has 5 columns, but the network takes 4"),
        ((4, N), " has 6 columns, but the network takes 4"),
        ((N, 0), " has 0 columns, but the network takes 4"),
        ((0, 3), " has 3 columns, but the network takes 4"),
    ],
)
def test_shape_of_x(use, shape, message):
    net, x = regression(), np.zeros(shape)
    assert issubclass(ShapeError, ValueError)
    refuses(net, lambda: USES_OF_X[use](net, x), ShapeError, named(use, "X") + message, x)


def test_one_input_asks_for_a_column():
    net = bpcore.mlp([1, 2], rng=0)
    with pytest.raises(ShapeError, match=r"got \(3,\): X.reshape\(-1, 1\) makes it one column"):
        net.predict(np.zeros(3))


@pytest.mark.parametrize("use", USES_OF_Y)
@pytest.mark.parametrize(
    ("n_out", "shape"),
    [
        (1, (5,)), (1, (7,)), (1, (1, N)), (1, (N, N)), (1, (N, 2)), (1, (N, 1, 1)), (1, ()),
        (2, (N,)), (2, (N, 1)), (2, (1, 2)), (2, (2, N)), (2, (5, 2)), (2, (N, 3)), (2, (2,)),
        (2, (12,)), (2, (0, 2)),
    ],
)  # fmt: skip
def test_targets_are_never_broadcast(use, n_out, shape):
    net, y = regression(n_out=n_out), np.zeros(shape)
    message = named(use, "y") + re.escape(f" has shape {shape}, expected {(N, n_out)}")
    refuses(net, lambda: USES_OF_Y[use](net, y), ShapeError, message, y)


@pytest.mark.parametrize("use", USES_OF_Y)
@pytest.mark.parametrize("shape", [(5,), (7, 1), (1, N), (N, 2), (N, 4), ()])
def test_labels_of_another_shape(use, shape):
    net, y = classes(), np.zeros(shape, int)
    message = named(use, "y") + re.escape(f" has shape {shape}, expected (6, 3), or class labels")
    refuses(net, lambda: USES_OF_Y[use](net, y), ShapeError, message, y)


@pytest.mark.parametrize("use", ["fit", "validation", "loss_value", "loss_and_gradient"])
def test_zero_rows(use):
    net = regression()
    x, y = np.empty((0, 4)), np.empty((0, 2))
    call = {
        "fit": lambda: net.fit(x, y),
        "validation": lambda: net.fit(*good(net), validation_data=(x, y)),
        "loss_value": lambda: net.loss_value(x, y),
        "loss_and_gradient": lambda: net.loss_and_gradient(x, y),
    }[use]
    refuses(net, call, ShapeError, named(use, "X") + " has no rows")


def test_backward():
    net = regression()
    for shape in ((N, 3), (5, 2), (N,), (2, N), (), (N, 2, 1), (0, 2)):
        message = re.escape(f"dy has shape {shape}, expected (6, 2), as the output of forward")
        refuses(net, lambda s=shape: net.backward(np.zeros(s)), ShapeError, message)
    refuses(net, lambda: net.backward([["a", "b"]] * N), DTypeError, "^dy must hold real numbers")
    narrow = regression("float32")
    message = r"^dy\[1, 0\] is 1e\+300, beyond the range of float32"
    dy = np.zeros((N, 2))
    dy[1, 0] = 1e300
    refuses(narrow, lambda: narrow.backward(dy), ValueError, message, dy)
    fresh = bpcore.mlp([4, 2])
    fresh.loss_and_gradient(np.zeros((1, 4)), np.zeros((1, 2)))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="call forward first"):
            fresh.backward(np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros((N, 3)), ShapeError, r"^out has shape \(6, 3\), expected \(6, 2\)"),
        (np.zeros((N + 1, 2)), ShapeError, r"^out has shape \(7, 2\), expected \(6, 2\)"),
        (np.zeros(2 * N), ShapeError, r"^out has shape \(12,\), expected \(6, 2\)"),
        (np.zeros((N, 2), "f4"), TypeError, "^out must be an array of float64, got float32"),
        (np.zeros((N, 2), int), TypeError, "^out must be an array of float64, got int64"),
        (np.zeros((N, 2), object), TypeError, "^out must be an array of float64, got object"),
        ([[0.0, 0.0]] * N, TypeError, "^out must be an array of float64, got list"),
        (np.zeros((2, N)).T, ValueError, "^out must be C-contiguous, aligned and writeable"),
        (np.zeros((N, 4))[:, ::2], ValueError, "^out must be C-contiguous"),
        (np.zeros((N, 2))[::-1], ValueError, "^out must be C-contiguous"),
        (np.broadcast_to(0.0, (N, 2)), ValueError, "^out must be C-contiguous"),
        (np.frombuffer(bytes(16 * N)).reshape(N, 2), ValueError, "^out .* writeable"),
        (np.zeros(16 * N + 1, "u1")[1:].view(float).reshape(N, 2), ValueError, "^out .* aligned"),
        (np.zeros((N, 2)).view(np.dtype(float).newbyteorder()), TypeError, "^out .*, got >f8|<f8"),
    ],
)
def test_out(out, error, message):
    net = regression()
    refuses(net, lambda: net.predict(good(net)[0], out=out), error, message, out)


# ------------------------------------------------------------------------------------------ values

NO_NUMBERS = {
    "object": (np.full((N, 4), None), r"must hold real numbers, got dtype object \(NoneType\)"),
    "text": (np.full((N, 4), "1.0"), "must hold real numbers, got dtype <U3"),
    "bytes": (np.full((N, 4), b"1"), r"must hold real numbers, got dtype \|S1"),
    "complex": (np.ones((N, 4), complex), "must hold real numbers, got dtype complex128"),
    "dates": (np.zeros((N, 4), "M8[D]"), r"must hold real numbers, got dtype datetime64\[D\]"),
    "times": (np.zeros((N, 4), "m8[s]"), r"must hold real numbers, got dtype timedelta64\[s\]"),
    "records": (np.zeros((N, 4), "f8,f8"), "must hold real numbers, got dtype"),
    "a list of text": ([["1", "2", "3", "4"]] * N, "must hold real numbers, got dtype <U1"),
    "None": (None, r"must hold real numbers, got dtype object \(NoneType\)"),
    "masked": (
        np.ma.masked_greater(np.arange(4.0 * N).reshape(N, 4), 21),
        "is a masked array with 2 masked values; fill or drop them first",
    ),
}


@pytest.mark.parametrize("use", USES_OF_X)
@pytest.mark.parametrize("what", NO_NUMBERS)
def test_x_that_is_no_number(use, what):
    assert issubclass(DTypeError, TypeError)
    net, (x, message) = regression(), NO_NUMBERS[what]
    refuses(net, lambda: USES_OF_X[use](net, x), DTypeError, named(use, "X") + " " + message)


@pytest.mark.parametrize("make", [regression, binary, classes])
@pytest.mark.parametrize("use", USES_OF_Y)
@pytest.mark.parametrize("what", NO_NUMBERS)
def test_y_that_is_no_number(use, what, make):
    (y, message), net = NO_NUMBERS[what], make()
    if what == "masked":
        y, message = y[:, : net.n_out], message.replace("2", r"\d")
        y[0, 0] = np.ma.masked
    elif isinstance(y, np.ndarray):
        y = y[:, : net.n_out]
    refuses(net, lambda: USES_OF_Y[use](net, y), DTypeError, named(use, "y") + " " + message)


def test_masked_arrays_with_nothing_masked_are_taken():
    net = regression()
    x, y = good(net)
    plain = net.loss_value(x, y)
    for mask in (np.ma.nomask, np.zeros(x.shape, bool)):
        assert net.loss_value(np.ma.masked_array(x, mask), np.ma.masked_array(y)) == plain


@pytest.mark.parametrize("use", USES_OF_X)
def test_ragged_x(use):
    net = regression()
    x = [[1.0, 2.0, 3.0, 4.0]] * (N - 1) + [[1.0]]
    message = named(use, "X") + " is not a rectangular array"
    refuses(net, lambda: USES_OF_X[use](net, x), ShapeError, message)


@pytest.mark.parametrize("use", USES_OF_X)
@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**64 - 1])
def test_integers_that_float64_rounds(use, value):
    net = regression()
    x = np.zeros((N, 4), np.uint64 if value >= 2**63 else np.int64)
    x[3, 1] = value
    message = named(use, "X") + rf"\[3, 1\] is {value}, which float64 cannot hold exactly"
    refuses(net, lambda: USES_OF_X[use](net, x), ValueError, message, x)


def test_integers_that_float64_holds(dtype):
    net = bpcore.mlp([4, 2], dtype=dtype, rng=0)
    for value in (2**53, -(2**53), 2**54, 2**62, -(2**63), 2**63 + 2**11):
        x = np.zeros((1, 4), np.uint64 if value >= 2**63 else np.int64)
        x[0, 2] = value
        np.testing.assert_array_equal(net.predict(x), net.predict(x.astype(float)))


@pytest.mark.parametrize("use", USES_OF_X)
@pytest.mark.parametrize("value", [1e300, -1e39, 3.5e38, np.longdouble(1e300)])
def test_x_beyond_the_range_of_float32(use, value):
    net = regression("float32")
    x = np.zeros((N, 4), np.asarray(value).dtype)
    x[2, 3], x[5, 0] = value, value
    message = named(use, "X") + re.escape(f"[2, 3] is {value}, beyond the range of float32")
    refuses(net, lambda: USES_OF_X[use](net, x), ValueError, message, x)


@pytest.mark.parametrize("use", USES_OF_Y)
def test_y_and_weights_beyond_the_range_of_float32(use):
    net = regression("float32")
    y = np.zeros((N, 2))
    y[4, 1] = 1e300
    message = named(use, "y") + r"\[4, 1\] is 1e\+300, beyond the range of float32"
    refuses(net, lambda: USES_OF_Y[use](net, y), ValueError, message, y)
    w = np.ones(N)
    w[3] = 1e300
    message = r"sample_weight\[3\] is 1e\+300, beyond the range of float32"
    refuses(net, lambda: USES_OF_Y[use](net, good(net)[1], w), ValueError, message, w)


@pytest.mark.parametrize("use", ["fit", "validation"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("given", ["f4", "f8", ">f8", "g"])
def test_x_that_is_not_finite(use, value, given, dtype):
    net = regression(dtype)
    x = np.ones((N, 4), given)
    x[3, 2] = value
    message = named(use, "X") + rf"\[3, 2\] is {value}; 1 of its 24 values is not finite"
    refuses(net, lambda: USES_OF_X[use](net, x), ValueError, message, x)
    x[3:5] = value
    message = named(use, "X") + rf"\[3, 0\] is {value}; 8 of its 24 values are not finite"
    for layout in (x, np.asfortranarray(x), x[::-1].copy()[::-1], np.repeat(x, 2, axis=0)[::2]):
        refuses(net, lambda a=layout: USES_OF_X[use](net, a), ValueError, message, layout)


@pytest.mark.parametrize("use", ["fit", "validation"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_y_that_is_not_finite(use, value):
    net = regression()
    y = np.ones((N, 2))
    y[1, 1] = y[5, 0] = value
    message = named(use, "y") + rf"\[1, 1\] is {value}; 2 of its 12 values are not finite"
    refuses(net, lambda: USES_OF_Y[use](net, y), ValueError, message, y)


def test_numbers_that_are_not_finite_pass_through_inference():
    """predict is arithmetic; the row that has one is the only one to suffer."""
    net = regression()
    x = np.ones((N, 4))
    expected = net.predict(x)
    x[2, 1] = np.nan
    y = net.predict(x)
    assert np.isnan(y[2]).all()
    np.testing.assert_array_equal(np.delete(y, 2, axis=0), np.delete(expected, 2, axis=0))
    assert np.isnan(net.loss_value(x, np.ones((N, 2))))


@pytest.mark.parametrize("use", USES_OF_Y)
@pytest.mark.parametrize("loss", ["bce", "bce_logits"])
@pytest.mark.parametrize("value", [2.0, -0.5, 1 + 1e-9, np.nan, np.inf])
def test_binary_targets_outside_0_and_1(use, loss, value):
    net = binary(loss)
    y = np.ones((N, 2))
    y[4, 1] = value
    message = named(use, "y") + rf"\[4, 1\] is {value}, but .* wants targets in \[0, 1\]"
    refuses(net, lambda: USES_OF_Y[use](net, y), ValueError, message, y)


@pytest.mark.parametrize("use", USES_OF_Y)
@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy_logits"])
@pytest.mark.parametrize(
    ("label", "given", "what"),
    [
        (3, int, "is out of range"), (-1, int, "is out of range"), (2**31, int, "is out of range"),
        (2**63, np.uint64, "is out of range"), (-1, np.int8, "is out of range"),
        (255, np.uint8, "is out of range"), (3.0, float, "is out of range"),
        (0.5, float, "is not a whole number"), (np.nan, float, "is not a whole number"),
        (np.inf, float, "is not a whole number"), (1e300, float, "is out of range"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be(use, loss, label, given, what):
    net = classes(loss)
    y = np.zeros(N, given)
    y[4] = label
    message = named(use, "y") + rf": label {re.escape(str(label))} in row 4 {what}; .* from 0 to 2"
    for shape in ((N,), (N, 1)):
        refuses(net, lambda s=shape: USES_OF_Y[use](net, y.reshape(s)), ValueError, message, y)


@pytest.mark.parametrize("use", USES_OF_Y)
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.5, 0.25, 0.2], ": row 2 sums to 0.95, expected 1"),
        ([1, 1, 0], ": row 2 sums to 2.0, expected 1"),
        ([0, 0, 0], ": row 2 sums to 0.0, expected 1"),
        ([1 - 3e-6, 0, 0], ": row 2 sums to 0.99999"),
        ([1.5, -0.5, 0], r"\[2, 1\] is -0.5, but must be >= 0"),
        ([np.nan, 0, 0], ": row 2 sums to nan, expected 1"),
        ([np.inf, 0, 0], ": row 2 sums to inf, expected 1"),
        ([np.inf, -np.inf, 0], ": row 2 sums to nan, expected 1"),
    ],
)
def test_rows_that_are_no_distribution(use, row, message):
    net, y = classes(), np.eye(3)[[0, 1, 2, 0, 1, 2]]
    y[2] = row
    refuses(net, lambda: USES_OF_Y[use](net, y), ValueError, named(use, "y") + message, y)


def test_rows_that_sum_to_1_almost():
    net, x = classes(), good(classes())[0]
    y = np.full((N, 3), 1 / 3) + np.array([5e-7, 0, 0])
    assert np.isfinite(net.loss_value(x, y))


@pytest.mark.parametrize("use", USES_OF_Y)
@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        ([1, 1, -1, 1, 1, 1], ValueError, r"sample_weight\[2\] is -1.0, but .* finite and >= 0"),
        ([1, np.nan, 1, 1, 1, 1], ValueError, r"sample_weight\[1\] is nan, but"),
        ([1, 1, 1, 1, 1, np.inf], ValueError, r"sample_weight\[5\] is inf, but"),
        ([0] * N, ValueError, "sample_weight is all zero"),
        ([1.7e308] * N, ValueError, "sample_weight sums to more than float64 can hold"),
        ([1] * 5, ShapeError, r"sample_weight has shape \(5,\), expected \(6,\)"),
        ([[1]] * N, ShapeError, r"sample_weight has shape \(6, 1\), expected \(6,\)"),
        (1.0, ShapeError, r"sample_weight has shape \(\), expected \(6,\)"),
        (["a"] * N, DTypeError, "sample_weight must hold real numbers, got dtype <U1"),
        ([1j] * N, DTypeError, "sample_weight must hold real numbers, got dtype complex128"),
        (np.ma.masked_less(np.arange(6), 2), DTypeError, "sample_weight is a masked array with 2"),
        ([2**53 + 1] * N, ValueError, r"sample_weight\[0\] is 9007199254740993, which float64"),
    ],
)
def test_sample_weights_that_cannot_be(use, weight, error, message):
    net = regression()
    refuses(net, lambda: USES_OF_Y[use](net, good(net)[1], weight), error, message)


def test_weights_all_zero_in_a_part_of_the_rows():
    """A loss without weight would be nan; the generator is as it was."""
    net = regression()
    w = np.zeros(N)
    w[3] = 1
    message = "sample_weight is all zero in the rows that validation_fraction drew"
    for fraction in (0.2, 0.5, 0.9):
        refuses(
            net, lambda f=fraction: net.fit(*good(net), sample_weight=w, validation_fraction=f),
            ValueError, message, w,
        )  # fmt: skip


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
        (lambda: ["relu"], TypeError, r"layer 0 must be a layer or a \(name, layer\) pair, got 're"),
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
