"""The checks of arguments: what they let through, in what form, and what they say of the rest."""

import numpy as np
import pytest

from bpcore import DTypeError, ShapeError, checks
from bpcore.checks import FLOAT32, FLOAT64, as_array, as_matrix, as_sample_weight, as_target

VALUES = np.arange(12.0).reshape(3, 4)


def unaligned(values):
    """Return a copy of `values` that starts at an odd address."""
    buffer = np.zeros(values.nbytes + 1, np.uint8)
    copy = buffer[1:].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def read_only(values):
    copy = values.copy()
    copy.flags.writeable = False
    return copy


LAYOUTS = {
    "C": lambda values: values.copy(),
    "Fortran": np.asfortranarray,
    "reversed": lambda values: values[::-1, ::-1].copy()[::-1, ::-1],
    "strided": lambda values: np.repeat(np.repeat(values, 2, axis=0), 3, axis=1)[::2, ::3],
    "byte-swapped": lambda values: values.astype(values.dtype.newbyteorder()),
    "read-only": read_only,
    "unaligned": unaligned,
    "matrix": lambda values: values.view(np.matrix),
    "unmasked": lambda values: np.ma.masked_array(values, mask=np.zeros(values.shape, bool)),
    "list": lambda values: values.tolist(),
}


# ---------------------------------------------------------------------------------------- as_array


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_as_array_makes_every_layout_contiguous(layout, dtype):
    given = LAYOUTS[layout](VALUES.astype(dtype))
    before = np.array(given)
    array = as_array(given, "x")
    assert type(array) is np.ndarray
    assert array.dtype == (FLOAT64 if layout == "list" else dtype)
    assert array.dtype.isnative
    assert array.flags.c_contiguous and array.flags.aligned
    np.testing.assert_array_equal(array, VALUES)
    np.testing.assert_array_equal(np.asarray(given), before)


def test_as_array_does_not_copy_what_is_right_already():
    for dtype in (FLOAT32, FLOAT64):
        given = VALUES.astype(dtype)
        assert as_array(given, "x") is given
        assert as_array(given, "x", dtype) is given
        assert as_array(read_only(given), "x").base is None


def test_as_array_reads_memory_maps(tmp_path):
    np.save(tmp_path / "x.npy", VALUES)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    array = as_array(mapped, "x")
    assert type(array) is np.ndarray
    np.testing.assert_array_equal(array, VALUES)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 0), (2, 3, 4)])
def test_as_array_keeps_the_shape(shape):
    for order in "CF":
        assert as_array(np.ones(shape, "f4", order), "x", FLOAT64).shape == shape
        assert as_array(np.ones(shape, "i4", order), "x").shape == shape


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "i8", "u8", "f2", "f8", "g"])
def test_as_array_makes_other_dtypes_float64(dtype):
    array = as_array(np.array([0, 1], dtype), "x")
    assert array.dtype == FLOAT64
    assert array.tolist() == [0.0, 1.0]


def test_as_array_lets_infinities_and_nan_pass():
    special = [np.nan, np.inf, -np.inf]
    for given in (special, np.array(special), np.array(special, "f4"), np.array(special, "g")):
        for dtype in (None, FLOAT32, FLOAT64):
            np.testing.assert_array_equal(as_array(given, "x", dtype), special)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (["a", "b"], "<U1"),
        ([b"a"], "S1"),
        ([1 + 2j], "complex128"),
        (np.array(["2020-01-01"], "M8[D]"), "datetime64"),
        (np.array([1], "m8[s]"), "timedelta64"),
        (np.array([1, 2], object), r"object \(int\)"),
        ([None, 1.0], r"object \(NoneType\)"),
        (None, r"object \(NoneType\)"),
        ([2**70], r"object \(int\)"),
        (np.zeros(2, [("a", "f8")]), "'a'"),
        (np.array([], object), "object"),
    ],
)
@pytest.mark.parametrize("check", [as_array, as_matrix, lambda v, a: as_target(v, a, 2, 1)])
def test_what_is_no_real_number_is_a_type_error(check, given, got):
    with pytest.raises(DTypeError, match=f"^x must hold real numbers, got dtype .*{got}"):
        check(given, "x")


def test_a_masked_value_is_a_type_error():
    masked = np.ma.masked_array(VALUES, mask=VALUES > 9)
    for check in (as_array, as_matrix):
        with pytest.raises(TypeError, match="x is a masked array with 2 masked values"):
            check(masked, "x")


def test_a_ragged_list_is_a_value_error():
    with pytest.raises(ShapeError, match="x is not a rectangular array"):
        as_array([[1.0], [2.0, 3.0]], "x")


@pytest.mark.parametrize("exact", [2**53, -(2**53), 2**53 + 2, 2**62, -(2**63), 3 * 2**60])
def test_integers_that_float64_holds_pass(exact):
    assert int(as_array([0, exact], "x")[1]) == exact


@pytest.mark.parametrize("dtype", [None, FLOAT32, FLOAT64])
@pytest.mark.parametrize("rounded", [2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**62 + 2])
def test_integers_that_float64_would_round_are_named(rounded, dtype):
    with pytest.raises(ValueError, match=rf"x\[1, 0\] is {rounded}, which float64 cannot hold"):
        as_array([[0, 1], [rounded, 2]], "x", dtype)


def test_unsigned_integers_are_checked_too():
    assert as_array(np.array([2**63, 2**64 - 2**11], "u8"), "x").tolist() == [2**63, 2**64 - 2**11]
    with pytest.raises(ValueError, match=r"x\[0\] is 18446744073709551615"):
        as_array(np.array([2**64 - 1], "u8"), "x")


def test_values_beyond_float32_are_named():
    with pytest.raises(ValueError, match=r"^x\[1, 2\] is -1e\+300, beyond the range of float32$"):
        as_array([[0, 0, 0], [np.inf, 0, -1e300]], "x", FLOAT32)
    with pytest.raises(ValueError, match=r"^x is 1e\+39, beyond the range of float32$"):
        as_array(1e39, "x", FLOAT32)
    largest = np.finfo("f4").max
    assert as_array([float(largest)], "x", FLOAT32)[0] == largest


# --------------------------------------------------------------------------------------- as_matrix


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("layout", sorted(LAYOUTS.keys() - {"list"}))
def test_as_matrix_never_copies_floats(layout, dtype):
    given = LAYOUTS[layout](VALUES.astype(dtype))
    matrix = as_matrix(given, "X", 4)
    assert type(matrix) is np.ndarray
    assert matrix.dtype == given.dtype
    assert np.shares_memory(matrix, np.asarray(given))


def test_as_matrix_does_not_copy_memory_maps(tmp_path):
    np.save(tmp_path / "x.npy", VALUES)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.shares_memory(as_matrix(mapped, "X"), mapped)


@pytest.mark.parametrize(
    ("shape", "n_columns", "message"),
    [
        ((4,), 4, r"X must have shape \(n, 4\), got \(4,\): X.reshape\(1, -1\) makes it one row"),
        ((4,), 1, r"\(n, 1\), got \(4,\): X.reshape\(-1, 1\) makes it one column"),
        ((4,), None, r"\(n, k\), got \(4,\): X.reshape\(1, -1\) .* X.reshape\(-1, 1\)"),
        ((5,), 4, r"\(n, 4\), got \(5,\)"),
        ((), 4, r"\(n, 4\), got \(\)"),
        ((2, 2, 2), 4, r"\(n, 4\), got \(2, 2, 2\): X.reshape\(len\(X\), -1\)"),
        ((3, 5), 4, "X has 5 columns, but the network takes 4"),
    ],
)
def test_as_matrix_names_the_shape_and_the_remedy(shape, n_columns, message):
    with pytest.raises(ShapeError, match=message):
        as_matrix(np.zeros(shape), "X", n_columns)


# --------------------------------------------------------------------------------------- as_target


def test_as_target_takes_a_row_of_single_outputs():
    y = np.arange(3.0)
    target = as_target(y, "y", 3, 1)
    assert target.shape == (3, 1)
    assert np.shares_memory(target, y)
    assert as_target([[1], [2]], "y", 2, 1).tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize(
    ("shape", "n_rows", "n_out"),
    [((3,), 3, 2), ((3, 1), 3, 2), ((1, 3), 3, 1), ((2,), 3, 1), ((3, 2), 3, 1), ((), 1, 1)],
)
def test_as_target_never_broadcasts(shape, n_rows, n_out):
    with pytest.raises(ShapeError) as caught:
        as_target(np.zeros(shape), "y", n_rows, n_out)
    assert str(shape) in str(caught.value) and str((n_rows, n_out)) in str(caught.value)


@pytest.mark.parametrize("dtype", ["i8", "u1", "f8", "f4", ">f8", "?"])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_as_target_makes_labels_int64(shape, dtype):
    given = np.array([0, 1, 1], dtype).reshape(shape)
    labels = as_target(given, "y", 3, 2, labels=True)
    assert labels.dtype == np.int64 and labels.shape == (3,)
    assert labels.tolist() == [0, 1, 1]
    assert not np.shares_memory(labels, given)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3, 1], "y: label 3 in row 1 is out of range; labels go from 0 to 2"),
        ([0, 1, -1], "y: label -1 in row 2 is out of range; labels go from 0 to 2"),
        ([0.0, 0.5, 1.0], "y: label 0.5 in row 1 is not a whole number; labels go from 0 to 2"),
        ([0.0, 0.0, np.nan], "y: label nan in row 2 is not a whole number"),
        ([np.inf, 0.0, 1.0], "y: label inf in row 0 is not a whole number"),
        (np.array([0, 2**64 - 1, 0], "u8"), "y: label 18446744073709551615 in row 1 is out of"),
    ],
)
def test_as_target_names_the_label_the_row_and_the_range(labels, message):
    with pytest.raises(ValueError, match=message):
        as_target(labels, "y", 3, 3, labels=True)


def test_labels_are_not_text():
    with pytest.raises(TypeError, match="y must hold real numbers"):
        as_target(["a", "b"], "y", 2, 2, labels=True)


def test_as_target_takes_one_hot_rows_and_other_distributions():
    rows = [[1, 0, 0], [0.25, 0.25, 0.5 + 5e-7]]
    assert as_target(rows, "y", 2, 3, labels=True).tolist() == rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 0], [1, 1]], "y: row 1 sums to 2.0, expected 1$"),
        ([[0.5, 0.5 + 2e-6], [1, 0]], "y: row 0 sums to 1.0000"),
        ([[1, 0], [np.nan, 1]], "y: row 1 sums to nan"),
        ([[1, 0], [-1, 2]], r"y\[1, 0\] is -1.0, but must be >= 0"),
    ],
)
def test_as_target_refuses_rows_that_are_no_distribution(rows, message):
    with pytest.raises(ValueError, match=message):
        as_target(rows, "y", 2, 2, labels=True)


def test_labels_for_one_output_lead_to_binary_cross_entropy():
    with pytest.raises(ValueError, match="use binary cross-entropy"):
        as_target([0, 1], "y", 2, 1, labels=True)


# --------------------------------------------------------------- weights, finiteness, probabilities


def test_sample_weights_become_a_float_row():
    assert as_sample_weight(None, 3) is None
    assert as_sample_weight([True, False, 2], 3).tolist() == [1.0, 0.0, 2.0]
    assert as_sample_weight(np.ones(3, "f4"), 3).dtype == FLOAT32
    assert as_sample_weight(np.ones(3), 3, FLOAT32).dtype == FLOAT32
    assert as_sample_weight([], 0).shape == (0,)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1, 2], r"sample_weight has shape \(2,\), expected \(3,\)"),
        ([[1], [2], [3]], r"sample_weight has shape \(3, 1\), expected \(3,\)"),
        (1.0, r"sample_weight has shape \(\), expected \(3,\)"),
        ([1, -2, 3], r"sample_weight\[1\] is -2.0"),
        ([1, 2, np.nan], r"sample_weight\[2\] is nan"),
        ([np.inf, 2, 1], r"sample_weight\[0\] is inf"),
        ([0, 0, 0], "sample_weight is all zero"),
        ([1e308, 1e308, 1], "sample_weight sums to more than float64 can hold"),
    ],
)
def test_bad_sample_weights_are_named(weight, message):
    with pytest.raises(ValueError, match=message):
        as_sample_weight(weight, 3)


def test_sample_weights_are_checked_in_the_dtype_they_are_used_in():
    with pytest.raises(ValueError, match="all zero"):
        as_sample_weight([1e-60, 1e-60], 2, FLOAT32)
    with pytest.raises(ValueError, match="beyond the range of float32"):
        as_sample_weight([1e60, 1], 2, FLOAT32)


@pytest.mark.parametrize("layout", sorted(LAYOUTS.keys() - {"list", "matrix", "unmasked"}))
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
def test_check_finite_names_the_first_and_counts(dtype, layout):
    values = VALUES.astype(dtype)
    checks.check_finite(LAYOUTS[layout](values), "X", dtype)
    values[1, 2] = -np.inf
    with pytest.raises(ValueError, match=r"^X\[1, 2\] is -inf; 1 of its 12 values is not finite$"):
        checks.check_finite(LAYOUTS[layout](values), "X", dtype)
    values[2, 0] = values[1, 3] = np.nan
    with pytest.raises(ValueError, match=r"X\[1, 2\] is -inf; 3 of its 12 values are not finite"):
        checks.check_finite(LAYOUTS[layout](values), "X", dtype)


def test_check_finite_asks_for_the_range_of_the_network():
    values = np.array([[0.0, 1e39]])
    checks.check_finite(values, "X", FLOAT64)
    with pytest.raises(ValueError, match=r"X\[0, 1\] is 1e\+39, beyond the range of float32"):
        checks.check_finite(values, "X", FLOAT32)


@pytest.mark.parametrize("value", [-1e-9, 1.0000001, 2.0, np.nan, np.inf])
def test_check_probabilities_names_row_and_value(value):
    checks.check_probabilities(np.array([[0.0, 1.0], [0.5, -0.0]]), "y")
    with pytest.raises(ValueError, match=rf"y\[1, 0\] is {value}"):
        checks.check_probabilities(np.array([[0.0, 1.0], [value, 0.5]]), "y")
