"""Data of other libraries: whatever has __array__ or __dlpack__, and frames."""

import copy

import numpy as np
import pandas
import pytest

import bpcore
from bpcore.checks import as_matrix

N = 30
X = np.random.default_rng(0).normal(size=(N, 3))
LABELS = np.random.default_rng(1).integers(0, 2, N)
WEIGHT = np.random.default_rng(2).uniform(0.5, 2, N)


class Arraylike:
    """As a table of Arrow, a frame of polars or a tensor: an array on demand."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class Tensor:
    """Has DLPack alone, as arrays of some libraries; a sequence too, which must not be used."""

    def __init__(self, array, device=(1, 0), error=None):
        self.array, self.device, self.error = array, device, error

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **keywords):
        if self.error is not None:
            raise self.error
        return self.array.__dlpack__(**keywords)

    def __len__(self):
        raise AssertionError("read element by element")


KINDS = {
    "pandas": lambda a: pandas.DataFrame(a) if a.ndim == 2 else pandas.Series(a),
    "pandas, by columns": lambda a: (
        pandas.DataFrame({f"c{i}": a[:, i] for i in range(a.shape[1])}, index=range(5, 5 + N))
        if a.ndim == 2
        else pandas.Series(a, index=range(5, 5 + N))
    ),
    "array-like": Arraylike,
    "DLPack": Tensor,
}


@pytest.mark.parametrize("kind", KINDS)
def test_training_data(kind, dtype):
    """The same bits as from arrays, and arrays as predictions."""
    of = KINDS[kind]
    net = bpcore.mlp([3, 4, 2], output="softmax", loss="cross_entropy", dtype=dtype, rng=0)
    twin, x, w = copy.deepcopy(net), X.astype(dtype), WEIGHT.astype(dtype)
    history = net.fit(of(x), of(LABELS), epochs=3, sample_weight=of(w),
                      validation_data=(of(x), of(LABELS), of(w)))  # fmt: skip
    expected = twin.fit(x, LABELS, epochs=3, sample_weight=w, validation_data=(x, LABELS, w))
    assert history["validation_loss"] == expected["validation_loss"]
    np.testing.assert_array_equal(net.parameters, twin.parameters)
    y = net.predict(of(x))
    assert type(y) is np.ndarray and y.dtype == dtype
    np.testing.assert_array_equal(y, twin.predict(x))
    assert net.loss_value(of(x), of(LABELS)) == twin.loss_value(x, LABELS)
    out = np.empty((N, 2), dtype)
    assert net.predict(of(x), out=out) is out
    np.testing.assert_array_equal(out, y)


@pytest.mark.parametrize("kind", ["pandas", "array-like", "DLPack"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_no_copy(kind, order, dtype):
    """float32 stays float32, and is read where it lies."""
    x = np.array(X, dtype, order=order)
    x.flags.writeable = kind != "pandas"  # which then need not copy it
    value = pandas.DataFrame(x, copy=False) if kind == "pandas" else KINDS[kind](x)
    matrix = as_matrix(value, "X")
    assert matrix.dtype == dtype and np.shares_memory(matrix, x)


MIXED = {  # columns, what NumPy makes of them
    "bool, float32": ({"a": np.float32([1.5, 2]), "b": [True, False]}, np.float32),
    "bool, int8": ({"a": np.int8([1, 2]), "b": [True, False]}, np.float64),
    "int64, bool": ({"a": [1, 2], "b": [True, False]}, np.float64),
    "float32, float64": ({"a": np.float32([1, 2]), "b": [0.1, 0.2]}, np.float64),
    "nullable": ({"a": pandas.array([1, 2], dtype="Int64"), "b": [0.5, 1]}, np.float64),
    "nullable Float32": (
        {"a": pandas.array([1, 2], dtype="Float32"), "b": pandas.array([1, 0], dtype="boolean")},
        np.float32,
    ),
    "object": ({"a": np.array([1.5, 2.5]), "b": pandas.Categorical([3, 4])}, np.float64),
}


@pytest.mark.parametrize("name", MIXED)
def test_columns_of_different_dtypes(name):
    """pandas makes objects of some of them."""
    columns, dtype = MIXED[name]
    matrix = as_matrix(pandas.DataFrame(columns), "X")
    expected = np.column_stack([np.asarray(column, np.float64) for column in columns.values()])
    np.testing.assert_array_equal(matrix, expected)
    assert matrix.dtype == dtype


def test_two_columns_of_one_name():
    frame = pandas.DataFrame([[1, True], [2, False]], columns=["a", "a"])
    frame = pandas.concat([frame.iloc[:, :1], frame.iloc[:, 1:].astype(bool)], axis=1)
    np.testing.assert_array_equal(as_matrix(frame, "X"), [[1, 1], [2, 0]])


def test_missing_values():
    """Are nan: refused by fit, which says where, whatever the column's dtype."""
    net = bpcore.mlp([2, 1], rng=0)
    for column in (
        [1.0, None, 2.0],
        pandas.array([1, None, 2], dtype="Int64"),
        pandas.array([1.0, None, 2.0], dtype="Float32"),
    ):
        frame = pandas.DataFrame({"a": [0.0, 1.0, 2.0], "b": column})
        before = net.parameters.copy()
        with pytest.raises(ValueError, match=r"X\[1, 1\] is nan; 1 of its 6 values is not finite"):
            net.fit(frame, [0.0, 1.0, 2.0])
        with pytest.raises(ValueError, match=r"y\[1, 0\] is nan"):
            net.fit(np.ones((3, 2)), frame["b"])
        np.testing.assert_array_equal(net.parameters, before)
        assert np.isnan(net.predict(frame)).ravel().tolist() == [False, True, False]


class Refuses(Arraylike):
    def __array__(self, dtype=None, copy=None):
        raise self.array


WRONG = {
    "text": (pandas.DataFrame({"a": [1.0] * N, "b": [1.0] * N, "city": ["x"] * N}),
             r"X, column 'city', must hold real numbers, got dtype object \(str\)"),
    "dates": (pandas.DataFrame({"a": np.ones(N), "b": True, "day": pandas.Timestamp(2020, 1, 1)}),
              "X, column 'day', must hold real numbers, got dtype datetime64"),
    "None among bool": (Arraylike(np.array([[True, None, 1.0]] * N)), r"object \(NoneType\)"),
    "requires grad": (Refuses(RuntimeError("Can't call numpy() on Tensor that requires grad.")),
                      "X cannot be read as an array: Can't call .* requires grad"),
    "on a GPU": (Refuses(TypeError("can't convert cuda:0 device type tensor to numpy")),
                 "X cannot be read as an array: can't convert cuda:0"),
    "on a GPU, DLPack": (Tensor(X, device=(2, 1)), r"another device than the CPU, \(2, 1\) in DLP"),
    "exports nothing": (Tensor(X, error=BufferError("Can't export")), "as an array: Can't export"),
    "no array": (object(), r"got dtype object \(object\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read(name):
    value, message = WRONG[name]
    net = bpcore.mlp([3, 1], rng=0)
    with pytest.raises(bpcore.DTypeError, match=message):
        net.predict(value)
    with pytest.raises(bpcore.DTypeError, match=message):
        net.fit(value, np.zeros(N))
