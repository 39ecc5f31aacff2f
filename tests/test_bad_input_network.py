"""What networks say to arrays that cannot be; and that nothing has changed after they said it."""

import re

import numpy as np
import pytest
from refusal import USES_OF_X, USES_OF_Y, N, binary, classes, good, named, refuses, regression

import bpcore
from bpcore import DTypeError, ShapeError

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
    message = "weights are all zero in the rows that validation_fraction drew"
    for w in np.eye(N):
        for fraction in (0.2, 0.9):
            keywords = {"sample_weight": w, "validation_fraction": fraction}
            refuses(net, lambda k=keywords: net.fit(*good(net), **k), ValueError, message, w)
