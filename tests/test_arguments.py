"""The checks of numbers, names, dtypes and sizes."""

import numpy as np
import pytest

from bpcore import DTypeError, arguments


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float64(0.5)])
@pytest.mark.parametrize(
    "check",
    [
        arguments.finite_positive,
        arguments.finite_non_negative,
        arguments.finite,
        arguments.fraction,
    ],
)
def test_numbers_become_floats(check, value):
    assert type(check(value, "p")) is float
    assert check(value, "p") == 0.5


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (arguments.finite_positive, -1.0, "p must be finite and > 0, got -1.0"),
        (arguments.finite_positive, 0, "p must be finite and > 0, got 0.0"),
        (arguments.finite_positive, np.nan, "p must be finite and > 0, got nan"),
        (arguments.finite_positive, np.inf, "p must be finite and > 0, got inf"),
        (arguments.finite_positive, 10**400, "p must be finite and > 0, got inf"),
        (arguments.finite_non_negative, -1e-300, "p must be finite and >= 0, got -1e-300"),
        (arguments.finite_non_negative, np.nan, "p must be finite and >= 0, got nan"),
        (arguments.finite, -np.inf, "p must be finite, got -inf"),
        (arguments.fraction, 1.0, "p must be at least 0 and below 1, got 1.0"),
        (arguments.fraction, -0.1, "p must be at least 0 and below 1, got -0.1"),
        (arguments.fraction, np.nan, "p must be at least 0 and below 1, got nan"),
        (arguments.whole, -1, "p must be >= 0, got -1"),
        (arguments.units, 0, "p must be >= 1, got 0"),
        (arguments.units, 2.5, "p must be a whole number >= 1, got 2.5"),
        (arguments.units, np.nan, "p must be a whole number >= 1, got nan"),
    ],
)
def test_wrong_numbers_are_value_errors(check, value, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        check(value, "p")


@pytest.mark.parametrize("value", [True, "0.1", None, 1j, [0.1], np.array(0.1), np.True_])
@pytest.mark.parametrize(
    "check",
    [arguments.finite_positive, arguments.finite_non_negative, arguments.fraction, arguments.whole],
)
def test_what_is_no_number_is_a_type_error(check, value):
    with pytest.raises(TypeError, match=r"^p must be"):
        check(value, "p")


def test_whole_numbers():
    assert arguments.whole(np.int32(3), "n", 1) == 3
    assert type(arguments.whole(np.int32(3), "n", 1)) is int
    with pytest.raises(TypeError, match=r"n must be an integer, got 3.0 \(float\)"):
        arguments.whole(3.0, "n")


def test_boolean():
    assert arguments.boolean(np.True_, "flag") is True
    with pytest.raises(TypeError, match=r"flag must be True or False, got 1 \(int\)"):
        arguments.boolean(1, "flag")


def test_choose():
    assert arguments.choose("tanh", ["relu", "tanh"], "activation") == "tanh"
    with pytest.raises(ValueError, match=r"unknown thing 'zzz'. The choices are relu, tanh"):
        arguments.choose("zzz", ["relu", "tanh"], "thing")
    with pytest.raises(ValueError, match=r"unknown thing 'ReLU'; did you mean 'relu'?"):
        arguments.choose("ReLU", ["relu", "tanh"], "thing")
    with pytest.raises(TypeError, match="thing must be one of relu, tanh, got 3"):
        arguments.choose(3, ["relu", "tanh"], "thing")


def test_as_dtype():
    for given in ("float32", "f4", np.float32, ">f4", arguments.FLOAT32):
        assert arguments.as_dtype(given) is arguments.FLOAT32
    for given in ("float64", float, np.float64, arguments.FLOAT64):
        assert arguments.as_dtype(given) is arguments.FLOAT64
    for given in ("float16", int, "complex128", object, None, "nonsense", 3):
        with pytest.raises(DTypeError, match="dtype must be float32 or float64"):
            arguments.as_dtype(given)


def test_as_generator():
    rng = np.random.default_rng(3)
    assert arguments.as_generator(rng) is rng
    assert arguments.as_generator(3).random() == np.random.default_rng(3).random()
    with pytest.raises(ValueError, match="non-negative"):
        arguments.as_generator(-1)
    with pytest.raises(TypeError):
        arguments.as_generator(0.5)


def test_check_memory():
    arguments.check_memory(2**20, "this")
    with pytest.raises(MemoryError, match=r"this needs 1,000,000,000,000,000,000,000 bytes"):
        arguments.check_memory(10**21, "this")
