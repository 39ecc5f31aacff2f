"""What layers, losses, optimisers, initialisers and schedules say to arguments that cannot be."""

import re
from itertools import product

import numpy as np
import pytest

import bpcore
from bpcore import functions, initializers, layers, losses, optimizers, schedules

OPTIMIZERS = tuple(optimizers.OPTIMIZERS.values())
ALL_LOSSES = tuple(losses.LOSSES)
NOT_POSITIVE = (0.0, -1.0, np.nan, np.inf, -np.inf)
NOT_FRACTION = (-0.1, 1.0, np.nan, np.inf)
NOT_NON_NEGATIVE = (-1e-9, np.nan, np.inf)
NOT_NUMBERS = (True, "0.1", None, [0.1], 1j)


# -------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("value", NOT_POSITIVE)
def test_learning_rate(make, value):
    message = f"learning_rate must be finite and > 0, got {value}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make(learning_rate=value)


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("value", [*NOT_NUMBERS, bpcore.StepDecay])
def test_learning_rate_of_a_wrong_type(make, value):
    with pytest.raises(TypeError, match=r"^learning_rate must be a number, got"):
        make(learning_rate=value)


PARAMETERS = [
    *product([bpcore.SGD], ["momentum"], NOT_FRACTION),
    *product([bpcore.RMSProp], ["rho"], NOT_FRACTION),
    *product([bpcore.Adam, bpcore.AdamW], ["beta_1", "beta_2"], NOT_FRACTION),
    *product([bpcore.RMSProp, bpcore.Adam, bpcore.AdamW], ["epsilon"], NOT_POSITIVE),
    *product([bpcore.AdamW], ["weight_decay"], NOT_NON_NEGATIVE),
    *product([bpcore.LeakyReLU], ["slope"], NOT_NON_NEGATIVE),
    *product([bpcore.ELU], ["alpha"], NOT_NON_NEGATIVE),
    *product([bpcore.Dropout], ["p"], NOT_FRACTION),
    *product([bpcore.Huber], ["delta"], NOT_POSITIVE),
    *product([initializers.Normal], ["std"], NOT_NON_NEGATIVE),
    *product([initializers.Normal], ["mean"], [np.nan, np.inf]),
    *product([initializers.Uniform], ["low", "high"], [np.nan, np.inf, -np.inf]),
    *product([initializers.Constant], ["value"], [np.nan, np.inf]),
]


@pytest.mark.parametrize(("make", "name", "value"), PARAMETERS)
def test_parameter_out_of_range(make, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be .*, got {value}$"):
        make(**{name: value})


@pytest.mark.parametrize(("make", "name"), sorted({p[:2] for p in PARAMETERS}, key=str))
@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_parameter_of_a_wrong_type(make, name, value):
    with pytest.raises(TypeError, match=f"^{name} must be a number, got"):
        make(**{name: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"etas": (0.0, 1.2)}, r"etas\[0\] must be finite and > 0, got 0.0"),
        ({"etas": (0.5, np.inf)}, r"etas\[1\] must be finite and > 0, got inf"),
        ({"etas": (1.2, 0.5)}, r"etas must be below 1 and above 1, got \(1.2, 0.5\)"),
        ({"etas": (0.5, 1.0)}, "etas must be below 1 and above 1"),
        ({"step_sizes": (0.0, 1.0)}, r"step_sizes\[0\] must be finite and > 0"),
        ({"step_sizes": (1.0, np.nan)}, r"step_sizes\[1\] must be finite and > 0"),
        ({"step_sizes": (2.0, 1.0)}, r"step_sizes must be in order, got \(2.0, 1.0\)"),
    ],
)
def test_rprop(arguments, message):
    with pytest.raises(ValueError, match=message):
        bpcore.Rprop(**arguments)


@pytest.mark.parametrize("value", [0.5, (0.5,), (0.5, 1.2, 2.0), None, (True, 1.2), ("a", 1.2)])
@pytest.mark.parametrize("name", ["etas", "step_sizes"])
def test_rprop_wants_pairs_of_numbers(name, value):
    with pytest.raises(TypeError, match=f"^{name}"):
        bpcore.Rprop(**{name: value})


def test_nesterov_asks_for_momentum():
    with pytest.raises(ValueError, match="nesterov=True asks for a momentum above 0"):
        bpcore.SGD(nesterov=True)
    with pytest.raises(TypeError, match="nesterov must be True or False, got 1"):
        bpcore.SGD(momentum=0.9, nesterov=1)


def test_uniform_ends_in_order():
    with pytest.raises(ValueError, match="low must be <= high"):
        initializers.Uniform(low=1.0, high=0.0)
    with pytest.raises(ValueError, match="a finite way apart"):
        initializers.Uniform(low=-1.7e308, high=1.7e308)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bpcore.StepDecay(-0.1, 0.5, 2), "initial must be finite and > 0, got -0.1"),
        (lambda: bpcore.StepDecay(0.1, 0.0, 2), "factor must be finite and > 0, got 0.0"),
        (lambda: bpcore.StepDecay(0.1, 1.5, 2), "factor must be > 0 and <= 1, got 1.5"),
        (lambda: bpcore.StepDecay(0.1, 0.5, 0), "every must be >= 1, got 0"),
        (lambda: bpcore.ExponentialDecay(np.nan, 0.5), "initial must be finite and > 0, got nan"),
        (lambda: bpcore.ExponentialDecay(0.1, np.inf), "factor must be finite and > 0, got inf"),
        (lambda: bpcore.CosineDecay(0.0, 10), "initial must be finite and > 0, got 0.0"),
        (lambda: bpcore.CosineDecay(0.1, 0), "epochs must be >= 1, got 0"),
        (lambda: bpcore.CosineDecay(0.1, 10, final=-1e-3), "final must be finite and >= 0"),
    ],
)
def test_schedules(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("value", [2.0, True, "2", None])
def test_schedules_count_epochs_in_integers(value):
    with pytest.raises(TypeError, match="every must be an integer"):
        bpcore.StepDecay(0.1, 0.5, value)
    with pytest.raises(TypeError, match="epochs must be an integer"):
        bpcore.CosineDecay(0.1, value)


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_a_function_that_returns_no_learning_rate(value):
    def schedule(epoch):
        return value if epoch == 2 else 0.1

    with pytest.raises(ValueError, match=r"learning_rate\(2\) must be finite and >= 0, got"):
        schedules.rates(schedule, 4)
    with pytest.raises(TypeError, match=r"learning_rate\(0\) must be a number, got None"):
        schedules.rates(lambda epoch: None, 4)


# ------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("get", "name", "message"),
    [
        (layers.activation, "rleu", "unknown activation 'rleu'; did you mean 'relu'.*identity"),
        (losses.get, "msee", "unknown loss 'msee'; did you mean 'mse'.*huber.*bce_logits"),
        (optimizers.get, "addam", "unknown optimizer 'addam'; did you mean 'adam'.*rmsprop"),
        (initializers.get, "he_unifrom", "unknown initializer 'he_unifrom'; did you mean 'he_uni"),
        (losses.get, "zzzz", "unknown loss 'zzzz'. The choices are mse, mae"),
    ],
)
def test_unknown_names_list_the_choices_and_the_closest(get, name, message):
    with pytest.raises(ValueError, match=message):
        get(name)


@pytest.mark.parametrize("get", [layers.activation, losses.get, optimizers.get])
@pytest.mark.parametrize("spec", [None, 3, bpcore.Dropout(0.5), int])
def test_what_is_no_name_is_a_type_error(get, spec):
    with pytest.raises(TypeError, match="must be a name or an object, got"):
        get(spec)


def test_other_choices():
    with pytest.raises(ValueError, match="unknown reduction 'meann'; did you mean 'mean'"):
        bpcore.MeanSquaredError(reduction="meann")
    with pytest.raises(ValueError, match="unknown approximate 'tan'; did you mean 'tanh'"):
        bpcore.GELU(approximate="tan")
    with pytest.raises(TypeError, match="from_logits must be True or False, got 'yes'"):
        bpcore.BinaryCrossEntropy(from_logits="yes")
    with pytest.raises(ValueError, match="unknown initializer 'autto'"):
        bpcore.Dense(4, 3, weight_init="autto")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "Densee", "n_in": 1, "n_out": 1}, "unknown layer 'Densee'; did you mean 'Dense'"),
        ({"type": "Dense", "n_in": 1}, "Dense lacks its argument 'n_out'"),
        ({"type": "Dense", "n_in": 1, "n_out": 1, "rng": 0}, "Dense has no argument 'rng'"),
        ({"type": "Dense", "n_in": 1, "n_out": 0}, "Dense: n_out must be >= 1, got 0"),
        ({"type": "Activation"}, "unknown layer 'Activation'"),
        ({"n_in": 1}, "expected a layer as a dict with 'type'"),
        (None, "expected a layer as a dict with 'type', got None"),
    ],
)
def test_configurations_that_describe_no_layer(config, message):
    with pytest.raises(ValueError, match=message):
        layers.from_config(config)


# ------------------------------------------------------------------------------------------- dense


@pytest.mark.parametrize("name", ["n_in", "n_out"])
@pytest.mark.parametrize("value", [0, -1, 2.5, 3.0, np.nan])
def test_units_that_cannot_be(name, value):
    sizes = {"n_in": 4, "n_out": 3} | {name: value}
    with pytest.raises(ValueError, match=f"^Dense: {name} must be .*, got {value}$"):
        bpcore.Dense(**sizes)


@pytest.mark.parametrize("value", [True, "3", None])
def test_units_of_a_wrong_type(value):
    with pytest.raises(TypeError, match=r"^Dense: n_out must be an integer, got"):
        bpcore.Dense(4, value)


@pytest.mark.parametrize("sizes", [(10**9, 10**9), (10**6, 10**8), (2**62, 2**62), (1, 10**18)])
def test_more_units_than_memory(sizes):
    with pytest.raises(MemoryError, match=rf"^Dense\({sizes[0]}, {sizes[1]}\) needs [\d,]+ bytes"):
        bpcore.Dense(*sizes)


@pytest.mark.parametrize("dtype", ["float16", int, "complex128", object, None])
def test_dense_dtype(dtype):
    with pytest.raises(TypeError, match="dtype must be float32 or float64"):
        bpcore.Dense(4, 3, dtype=dtype)


def test_dense_rng_is_numpys():
    with pytest.raises(ValueError, match="non-negative"):
        bpcore.Dense(4, 3, rng=-1)
    with pytest.raises(TypeError):
        bpcore.Dropout(0.5, rng=0.5)


def test_initial_arrays_of_another_shape():
    message = r"weight_init has shape \(3, 4\), expected \(4, 3\)"
    with pytest.raises(bpcore.ShapeError, match=message):
        bpcore.Dense(4, 3, weight_init=np.zeros((3, 4)))
    with pytest.raises(bpcore.ShapeError, match=r"bias_init has shape \(3, 1\), expected \(3,\)"):
        bpcore.Dense(4, 3, bias_init=np.zeros((3, 1)))
    with pytest.raises(ValueError, match=r"initial value\[0\] is 1e\+300, beyond the range of fl"):
        _ = bpcore.Dense(1, 1, bias_init=[1e300], dtype="float32").bias
    with pytest.raises(TypeError, match="initial value must hold real numbers"):
        bpcore.Dense(1, 1, weight_init=[["a"]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("weight", (4, 3)), ("bias", (3,)), ("grad_weight", (4, 3)), ("grad_bias", (3,))],
)
@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (12,), (1, 3), (4, 1), (4, 3, 1)])
def test_assignment_of_another_shape_changes_nothing(name, expected, shape):
    layer = bpcore.Dense(4, 3, rng=0)
    before = getattr(layer, name).copy()
    message = re.escape(f"{name} has shape {shape}, expected {expected}")
    with pytest.raises(bpcore.ShapeError, match=message):
        setattr(layer, name, np.zeros(shape))
    np.testing.assert_array_equal(getattr(layer, name), before)


def test_assignment_of_what_cannot_be():
    layer = bpcore.Dense(4, 3, dtype="float32", rng=0)
    with pytest.raises(TypeError, match="weight must hold real numbers"):
        layer.weight = np.full((4, 3), "a")
    with pytest.raises(ValueError, match=r"bias\[1\] is 1e\+300, beyond the range of float32"):
        layer.bias = [0, 1e300, 0]
    with pytest.raises(ValueError, match=r"Dense\(4, 3, bias=False\) has no bias to assign to"):
        bpcore.Dense(4, 3, bias=False).bias = np.zeros(3)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4,), r"x must have shape \(n, 4\), got \(4,\): x.reshape\(1, -1\) makes it one row"),
        ((2, 3, 4), r"x must have shape \(n, 4\), got \(2, 3, 4\): x.reshape"),
        ((2, 3), r"x has 3 columns, but Dense\(4, 3\) takes 4"),
        ((), r"x must have shape \(n, 4\), got \(\)"),
    ],
)
def test_dense_input_of_another_shape(shape, message):
    with pytest.raises(bpcore.ShapeError, match=message):
        bpcore.Dense(4, 3).forward(np.zeros(shape))


# -------------------------------------------------------------------------------- forward, backward


LAYERS = [*layers.ACTIVATIONS.values(), lambda: bpcore.Dense(4, 3), lambda: bpcore.Dropout(0.5)]


@pytest.mark.parametrize("make", LAYERS)
def test_backward_before_forward(make):
    with pytest.raises(RuntimeError, match="call forward first"):
        make().backward(np.zeros((2, 3)))


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize("shape", [(), (3,), (1, 3), (2, 1), (3, 2), (2, 5), (2, 3, 1)])
def test_gradient_of_another_shape(make, shape):
    layer = make()
    expected = layer.forward(np.zeros((2, 4))).shape
    message = re.escape(f"dy has shape {shape}, expected {expected}")
    with pytest.raises(bpcore.ShapeError, match=message):
        layer.backward(np.zeros(shape))


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize("x", [["a"], [1j], [None], np.array(["2020-01-01"], "M8[D]")])
def test_input_that_is_no_number(make, x):
    with pytest.raises(bpcore.DTypeError, match="x must hold real numbers, got dtype"):
        make().forward([x] * 4)
    layer = make()
    layer.forward(np.zeros((2, 4)))
    with pytest.raises(bpcore.DTypeError, match="dy must hold real numbers, got dtype"):
        layer.backward([x] * 2)


def test_softmax_needs_an_axis():
    with pytest.raises(bpcore.ShapeError, match="x has no axis for softmax"):
        bpcore.Softmax().forward(1.0)


# ------------------------------------------------------------------------------------------ losses


@pytest.mark.parametrize("name", ALL_LOSSES)
def test_loss_backward_before_forward(name):
    with pytest.raises(RuntimeError, match="call forward first"):
        losses.get(name).backward()


@pytest.mark.parametrize("name", ALL_LOSSES)
@pytest.mark.parametrize("shape", [(4, 4), (3, 2), (4,), (2, 4), (1, 2), (4, 2, 1), ()])
def test_targets_are_never_broadcast(name, shape):
    loss = losses.get(name)
    if loss.takes_labels and shape == (4,):
        shape = (3,)
    with pytest.raises(bpcore.ShapeError) as caught:
        loss.forward(np.full((4, 2), 0.5), np.zeros(shape))
    assert str(shape) in str(caught.value) and "(4, 2)" in str(caught.value)


@pytest.mark.parametrize("name", ALL_LOSSES)
def test_a_column_never_meets_a_row(name):
    with pytest.raises(bpcore.ShapeError, match=r"\(1, 4\), expected \(4, 1\)"):
        losses.get(name).forward(np.full((4, 1), 0.5), np.zeros((1, 4)))


@pytest.mark.parametrize("name", ALL_LOSSES)
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 0), (2, 2, 2)])
def test_predictions_of_a_shape_without_a_loss(name, shape):
    with pytest.raises(bpcore.ShapeError, match="prediction"):
        losses.get(name).forward(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("name", ["bce", "bce_logits"])
@pytest.mark.parametrize("value", [2.0, -1e-6, np.nan])
def test_binary_targets_outside_0_and_1(name, value):
    with pytest.raises(ValueError, match=rf"target\[2, 0\] is {value}"):
        losses.get(name).forward([0.5, 0.5, 0.5], [0.0, 1.0, value])


@pytest.mark.parametrize("name", ["cross_entropy", "cross_entropy_logits"])
@pytest.mark.parametrize("label", [3, -1, 0.5, np.nan])
def test_labels_that_cannot_be(name, label):
    with pytest.raises(ValueError, match=rf"target: label {label} in row 1 .* from 0 to 2"):
        losses.get(name).forward(np.full((2, 3), 1 / 3), np.array([0, label]))
    with pytest.raises(ValueError, match=r"target: row 1 sums to 0.9"):
        losses.get(name).forward(np.full((2, 3), 1 / 3), [[1, 0, 0], [0.9, 0, 0]])


@pytest.mark.parametrize("name", ALL_LOSSES)
@pytest.mark.parametrize("weight", [[1.0], [1.0, -1.0], [np.nan, 1.0], [0.0, 0.0], [[1.0], [1.0]]])
def test_sample_weights_that_cannot_be(name, weight):
    loss = losses.get(name)
    prediction, target = np.full((2, 2), 0.5), np.eye(2)
    loss.forward(prediction, target)
    before = loss.backward()
    with pytest.raises(ValueError, match="sample_weight"):
        loss.forward(prediction, target, sample_weight=weight)
    np.testing.assert_array_equal(loss.backward(), before)


# --------------------------------------------------------------------------------------- functions


@pytest.mark.parametrize("name", functions.__all__)
def test_out_that_does_not_fit(name):
    function = getattr(functions, name)
    x = np.zeros((2, 3))
    with pytest.raises(bpcore.ShapeError, match=r"out has shape \(3, 2\), expected \(2, 3\)"):
        function(x, out=np.zeros((3, 2)))
    with pytest.raises(bpcore.ShapeError, match=r"out has shape \(1, 2, 3\)"):
        function(x, out=np.zeros((1, 2, 3)))
    with pytest.raises(bpcore.DTypeError, match="out has dtype float32, expected float64"):
        function(x, out=np.zeros((2, 3), "f4"))
    with pytest.raises(TypeError, match="out must be an array, got list"):
        function(x, out=[[0.0] * 3] * 2)
    frozen = np.zeros((2, 3))
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        function(x, out=frozen)
