"""The gradient check of networks, its report and its hints."""

import pickle
import sys

import numpy as np
import pytest

import bpcore
from bpcore import Dense, Network, ShapeError, check_gradients, mlp
from bpcore.errors import DTypeError

ACTIVATIONS = tuple(bpcore.layers.ACTIVATIONS.values())
LOSSES = {
    "mse": bpcore.MeanSquaredError,
    "mae": bpcore.MeanAbsoluteError,
    "huber": bpcore.Huber,
    "bce": bpcore.BinaryCrossEntropy,
    "bce_logits": lambda **options: bpcore.BinaryCrossEntropy(from_logits=True, **options),
    "cross_entropy": bpcore.CategoricalCrossEntropy,
    "cross_entropy_logits": lambda **o: bpcore.CategoricalCrossEntropy(from_logits=True, **o),
    "quantile": lambda **options: bpcore.Quantile(quantile=0.8, **options),
    "poisson": bpcore.Poisson,
    "poisson_log": lambda **options: bpcore.Poisson(from_log=True, **options),
}


def batch(seed=0, n=8, n_in=4, n_out=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_in)), rng.normal(size=(n, n_out))


def random_case(seed):
    """A network of random parts and a batch for it, zeros in both included."""
    rng = np.random.default_rng(seed)
    depth = rng.integers(1, 4)
    widths = rng.integers(1, 8, depth + 1).tolist()
    layers = []
    for i in range(depth):
        bias_init = ["zeros", "normal"][rng.integers(2)]
        layers.append(Dense(widths[i], widths[i + 1], bias=rng.random() < 0.9, bias_init=bias_init))
        if i < depth - 1:
            layers.append(ACTIVATIONS[rng.integers(len(ACTIVATIONS))]())
            if rng.random() < 0.1:
                layers.append(bpcore.Dropout(0.3))
    n, k = int(rng.choice([1, 2, 5, 20, 100])), widths[-1]
    loss = list(LOSSES)[rng.integers(len(LOSSES))]
    if loss == "bce":
        layers.append(bpcore.Sigmoid())
    elif loss == "cross_entropy":
        layers.append(bpcore.Softmax())
    elif loss == "poisson":
        layers.append([bpcore.Exp, bpcore.Softplus][rng.integers(2)]())
    elif loss in ("mse", "mae", "huber", "quantile") and rng.random() < 0.6:
        layers.append(ACTIVATIONS[rng.integers(len(ACTIVATIONS))]())
    net = Network(
        layers,
        loss=LOSSES[loss](reduction=["mean", "sum", "sample_mean"][rng.integers(3)]),
        dtype=["float32", "float64"][rng.integers(2)],
        rng=seed,
        l2=rng.choice([0.0, 1e-3, 0.1]),
        l1=rng.choice([0.0, 1e-3, 0.1]),
    )
    net.parameters[:] *= 10.0 ** rng.uniform(-1, 0.7)
    X = rng.normal(size=(n, widths[0])) * 10.0 ** rng.uniform(-1, 1)
    if rng.random() < 0.3:
        net.parameters[rng.random(net.parameters.size) < 0.3] = 0
        X[rng.random(X.shape) < 0.3] = 0
        X[0] = 0
    if loss in ("mse", "mae", "huber", "quantile"):
        y = rng.normal(size=(n, k))
    elif loss in ("poisson", "poisson_log"):
        y = rng.poisson(2, size=(n, k)).astype(float)
    elif loss in ("bce", "bce_logits"):
        y = rng.uniform(size=(n, k)).round(int(rng.integers(2)))
    elif k > 1 and rng.random() < 0.5:
        y = rng.integers(0, k, n)
    else:
        y = rng.uniform(0.1, 1, (n, k))
        y /= y.sum(axis=1, keepdims=True)
    weight = rng.uniform(0.1, 1, n) if rng.random() < 0.4 else None
    while not np.isfinite(net.astype("float64").loss_value(X, y)):  # an exponential of another
        net.parameters[:] *= 0.5
    return net, X, y, weight


@pytest.fixture
def broken(monkeypatch):
    """Let all networks return gradients that a function has changed in place."""
    right = Network.loss_and_gradient

    def break_with(change):
        def wrong(self, X, y, *, sample_weight=None, training=False, input_gradient=False):
            loss, gradient, dX = right(self, X, y, sample_weight=sample_weight, input_gradient=True)
            start, arrays = 0, {"input": dX}
            for name, array in self.parameter_arrays().items():
                arrays[name] = gradient[start : start + array.size].reshape(array.shape)
                start += array.size
            change(arrays)
            return (loss, gradient, dX) if input_gradient else (loss, gradient)

        monkeypatch.setattr(Network, "loss_and_gradient", wrong)

    return break_with


# -------------------------------------------------------------------------------- right and wrong


@pytest.mark.parametrize("seed", range(300))
def test_right_networks_are_never_called_wrong(seed):
    net, X, y, weight = random_case(seed)
    report = net.check_gradients(X, y, sample_weight=weight)
    assert report.n_wrong == 0, f"{net}\n{report}"
    total = net.parameters.size + (X.size if X.size <= 512 else 256)
    assert report.n_checked + report.n_kinks + report.n_undecided == total
    if report.n_checked:
        assert report.worst_error < 5e-5
    if not report.ok:
        assert "0" in report.problems[0]


@pytest.mark.parametrize("seed", [88, 232, 266, 332, 348, 700, 830, 892])
def test_kinks_closer_than_rounding_lets_one_look(seed):
    """Weights so small that any step on a bias crosses the kinks of many rows at once."""
    rng = np.random.default_rng(seed)
    net = mlp([4, 9, 9, 3], hidden="leaky_relu", rng=seed)
    net.parameters[:] *= 10.0 ** rng.uniform(-5, -2)
    report = net.check_gradients(rng.normal(size=(33, 4)), rng.normal(size=(33, 3)))
    assert report.n_wrong == 0, str(report)


def breakable_case(seed, mistake):
    """A case in which the mistake can be made, with the names of the arrays where it can."""
    for attempt in range(1000 + seed, 10_000, 100):
        case = net, X, y, weight = random_case(attempt)
        right = net.check_gradients(X, y, sample_weight=weight)
        names = [
            name
            for name, array in right.arrays.items()
            if np.any((array.verdict == "right") & (np.abs(array.analytic) > 0))
            and (name == "input") == (mistake == "input")
            and (mistake != "transposed" or (len(array.shape) == 2 and 1 not in array.shape))
        ]
        if names and right.ok:
            return case, right, names
    raise AssertionError("no such case")


@pytest.mark.parametrize("mistake", ["factor", "entry", "sign", "transposed", "input"])
@pytest.mark.parametrize("seed", range(12))
def test_seeded_mistakes_are_caught(seed, mistake, broken):
    (net, X, y, weight), right, names = breakable_case(seed, mistake)
    name = names[seed % len(names)]
    array = right.arrays[name]
    good = np.flatnonzero((array.verdict == "right") & (array.analytic != 0))
    at = array.index[good[seed % good.size]]

    def change(arrays):
        g = arrays[name]
        if mistake in ("factor", "input"):
            g *= 1 + 1e-4
        elif mistake == "entry":
            g[at] *= 1 + 1e-4
        elif mistake == "sign":
            g *= -1
        else:
            g[...] = g.T.copy().reshape(g.shape)

    broken(change)
    report = net.check_gradients(X, y, sample_weight=weight)
    assert not report.ok
    assert report.worst_location[0] == name
    if mistake == "entry":
        assert report.worst_location == (name, at)


def test_penalties_are_part_of_the_check(broken):
    X, y = batch()
    net = mlp([4, 5, 3], hidden="tanh", rng=0, l2=0.1, l1=0.01)
    assert net.check_gradients(X, y).ok

    def forget_l2(arrays):
        arrays["0.weight"] -= 0.1 * net.layers[0].weight

    broken(forget_l2)
    report = net.check_gradients(X, y)
    assert not report.ok
    assert report.worst_location[0] == "0.weight"


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
def test_losses_of_any_scale(scale):
    """1e-12 to 1e12, for squared error."""
    X, y = batch()
    net = mlp([4, 5, 3], hidden="tanh", rng=0)
    net.layers[2].weight *= scale
    report = net.check_gradients(X, y * scale)
    assert report.ok, report
    assert report.n_undecided == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zero_weights_have_steps_too(dtype):
    X, y = batch()
    net = mlp([4, 5, 3], hidden="tanh", rng=0, dtype=dtype)
    net.parameters[:] = 0
    report = net.check_gradients(X, y)
    assert report.ok
    assert report.n_checked == 43 + 32


def test_float32_networks_are_checked_in_float64():
    X, y = batch()
    net = mlp([4, 5, 3], hidden="sigmoid", rng=0, dtype="float32")
    report = net.check_gradients(X.astype("float32"), y)
    assert report.ok
    assert report.worst_error < 1e-7
    assert report.arrays["0.weight"].analytic.dtype == np.float64


# ----------------------------------------------------------------------------- kinks and saturation


def test_relu_with_inputs_exactly_at_zero():
    X, y = batch()
    X[:3] = 0
    net = mlp([4, 6, 3], rng=0)  # biases are zero
    report = net.check_gradients(X, y)
    assert report.ok
    assert report.n_kinks >= 6  # the hidden biases
    assert report.arrays["0.bias"].n_kinks == 6
    assert report.arrays["2.weight"].n_checked == 18


def test_relu_units_that_hide_one_another_at_zero():
    hidden = Dense(1, 2, weight_init=[[1.0, -1.0]])
    net = Network([hidden, bpcore.ReLU(), Dense(2, 1, weight_init=[[1.0], [-1.0]])])
    report = net.check_gradients([[0.0], [1.0]], [[1.0], [3.0]])
    assert report.n_wrong == 0
    assert report.arrays["input"].verdict[0] == "kink"


def test_many_rows_with_kinks_everywhere():
    X, y = batch(n=5000, n_out=2)
    net = mlp([4, 30, 2], rng=0)
    report = net.check_gradients(X, y)
    assert report.ok
    assert report.n_kinks < 0.05 * report.n_checked
    assert len(report.arrays["input"].index) == 256


@pytest.mark.parametrize("loss", ["mse", "mae", "bce"])
def test_saturated_units_are_too_small_to_judge(loss):
    X, _ = batch()
    net = mlp([4, 5, 1], hidden="sigmoid", output="sigmoid", loss=loss, rng=0)
    net.parameters[:] *= 60
    y = (net.predict(X) > 0.5).astype(float)
    report = net.check_gradients(X, y)
    assert report.n_wrong == 0
    assert report.n_undecided > 0


def test_all_zero_gradients_prove_nothing():
    X, y = batch()
    net = mlp([4, 5, 3], rng=0)
    report = net.check_gradients(X, net.predict(X))  # a perfect fit
    assert not report.ok
    assert "exactly 0" in report.problems[0]
    net.layers[0].bias[:] = -100  # all units are dead; the last bias still learns
    report = net.check_gradients(X, y)
    assert report.ok
    assert "Exactly 0 throughout: 0.weight, 0.bias, 2.weight, input" in str(report)


def test_a_check_that_left_out_nearly_everything_proves_nothing():
    x = np.zeros(20)
    x[0] = 1.0
    report = check_gradients(lambda x: np.sum(np.abs(x)), np.sign, x)
    assert (report.n_checked, report.n_kinks) == (1, 19)
    assert not report.ok
    assert "19 of 20 entries had to be left out" in report.problems[0]


def test_a_function_in_float32_is_told_so():
    x = np.random.default_rng(0).normal(size=30)

    def f(x):
        return float(np.sum(np.tanh(x.astype(np.float32))))

    report = check_gradients(f, lambda x: 1 - np.tanh(x) ** 2, x)
    assert report.n_wrong == 0
    assert "float64" in report.problems[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(value):
    X, y = batch()
    net = mlp([4, 5, 3], hidden="tanh", rng=0)
    net.layers[2].weight[0, 0] = value
    report = net.check_gradients(X, y)
    assert not report.ok
    assert f"the value at this point is {value}" in str(report)
    report = check_gradients(lambda x: np.sum(x**2), lambda x: x * [1, value], [1.0, 2.0])
    assert not report.ok
    assert report.worst_location == ("x", (1,))
    assert report.worst_error == np.inf
    assert f"the gradient of x is {value}" in str(report)


# ------------------------------------------------------------------------------ what is looked at


def test_samples_take_some_of_each_array():
    X, y = batch(n=300)
    net = mlp([4, 50, 3], hidden="tanh", rng=0)
    report = net.check_gradients(X, y, parameters=40)
    assert report.ok
    sizes = {name: len(array.index) for name, array in report.arrays.items()}
    assert sum(sizes.values()) - sizes["input"] == 40
    assert min(sizes.values()) >= 1
    assert sizes["0.weight"] > sizes["0.bias"]
    assert sizes["input"] == 40
    report = net.check_gradients(X, y, parameters=10**6)
    assert report.n_checked == net.parameters.size + 1200


def test_projections_of_a_large_network(broken, monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.uniform(size=(32, 784)), rng.integers(0, 10, 32)
    net = mlp([784, 512, 512, 10], output="softmax", loss="cross_entropy", rng=0, dtype="float32")
    evaluations = []
    loss_value = Network.loss_value
    monkeypatch.setattr(
        Network, "loss_value", lambda *a, **k: evaluations.append(1) or loss_value(*a, **k)
    )
    report = net.check_gradients(X, y, parameters="projections")
    assert report.ok
    assert report.n_checked == 3 * 7
    assert len(evaluations) < 250

    def change(arrays):
        worst = np.unravel_index(np.abs(arrays["2.weight"]).argmax(), (512, 512))
        arrays["2.weight"][worst] *= -1

    broken(change)
    report = net.check_gradients(X, y, parameters="projections")
    assert not report.ok
    assert report.worst_location[0] == "2.weight"


def test_nothing_is_changed():
    X, y = batch()
    net = mlp([4, 5, 3], rng=0)
    net.fit(X, y, epochs=2, optimizer="adam")
    dx = net.forward(X)
    before = pickle.dumps(net)
    state = net.rng.bit_generator.state
    copies = X.copy(), y.copy(), net.parameters.copy(), net.gradients.copy()
    assert net.check_gradients(X, y).ok
    assert net.optimizer.state(net).step > 0
    for now, then in zip((X, y, net.parameters, net.gradients), copies, strict=True):
        np.testing.assert_array_equal(now, then)
    assert net.rng.bit_generator.state == state
    assert pickle.dumps(net) == before
    assert net.backward(dx).shape == X.shape  # the last forward pass is kept too
    X.flags.writeable = False
    assert net.check_gradients(X, y).ok


def test_functions_get_arrays_of_their_own():
    def f(x):
        x *= 2
        return np.sum(x**2)

    x = np.array([1.0, 2.0])
    assert check_gradients(f, lambda x: 8 * x, x).ok
    np.testing.assert_array_equal(x, [1.0, 2.0])


def test_random_functions_are_refused():
    rng = np.random.default_rng(0)
    report = check_gradients(lambda x: np.sum(x) + rng.random(), np.ones_like, [1.0, 2.0])
    assert not report.ok
    assert "hold its random numbers fixed" in str(report)


# ------------------------------------------------------------------------------------------ hints


@pytest.mark.parametrize(
    ("factor", "hint"),
    [
        (-1, "sign: what was given is -1 times the right gradient"),
        (2, "factor 2: what was given is 2 times the right gradient"),
        (0.5, "factor 1/2: what was given is 1/2 times the right gradient"),
        (1 / 12, "factor 1/12: what was given is 1/12 times the right gradient"),
        (-20, "factor -20, sign reversed: what was given is -20 times the right gradient"),
        (1.37, "factor 1.37: what was given is 1.37 times the right gradient"),
        (0, "zeros: what was given is 0 everywhere"),
        (1, ""),
    ],
)
@pytest.mark.parametrize("parameters", ["all", 5, "projections"])
def test_hint_of_a_factor(factor, hint, parameters):
    x = np.random.default_rng(0).normal(size=(3, 4))
    report = check_gradients(
        lambda x: np.sum(np.sin(x)), lambda x: factor * np.cos(x), x, parameters=parameters
    )
    assert report.hint == hint
    assert report.ok == (factor == 1)


@pytest.mark.parametrize(
    ("factor", "meaning"),
    [
        (7, "(the number of rows)"),
        (1 / 7, "(1 over the number of rows)"),
        (3, "(the number of outputs)"),
        (21, "(rows times outputs)"),
        (14, "(twice the number of rows)"),
        (2 / 7, "(2 over the number of rows)"),
    ],
)
def test_hint_of_a_factor_that_means_something(factor, meaning, broken):
    X, y = batch(n=7)
    net = mlp([4, 5, 3], hidden="tanh", rng=0)

    def change(arrays):
        for array in arrays.values():
            array *= factor

    broken(change)
    hint = net.check_gradients(X, y).hint
    assert hint.startswith("every array: factor")
    assert meaning in hint


def test_hint_of_a_single_array(broken):
    X, y = batch()

    def change(arrays):
        arrays["2.bias"] /= 8

    broken(change)
    hint = mlp([4, 5, 3], hidden="tanh", rng=0).check_gradients(X, y).hint
    assert hint.startswith("2.bias: factor 1/8 (1 over the number of rows)")


def test_hint_of_a_transposition():
    rng = np.random.default_rng(0)
    c = rng.normal(size=(4, 4))
    report = check_gradients(lambda x: np.sum(c * x), lambda x: c.T, rng.normal(size=(4, 4)))
    assert report.hint == "transposition: it is the transposed gradient"
    c = rng.normal(size=(3, 4))
    x = rng.normal(size=(3, 4))
    report = check_gradients(lambda x: np.sum(c * x), lambda x: c.T, x)
    assert not report.ok
    assert "(4, 3)" in report.problems[0]
    assert report.hint == "transposition: it is the transposed gradient"
    report = check_gradients(lambda x: np.sum(c * x), lambda x: c.T.reshape(3, 4), x)
    assert report.hint == "transposition: its rows and columns read in the wrong order"
    report = check_gradients(lambda x: np.sum(c * x), lambda x: -2 * c.T.reshape(3, 4), x)
    assert "transposition" in report.hint
    assert "factor -2" in report.hint


def test_hint_of_a_mask():
    x = np.array([1.0, -2.0, 3.0, -4.0])

    def f(x):
        return np.sum(np.maximum(x, 0) ** 2)

    report = check_gradients(f, lambda x: 2 * x, x)
    assert report.hint == "zeros: right but for 2 entries that should be 0 (a mask left out?)"
    report = check_gradients(f, lambda x: 2 * x * (x > 2), x)
    assert report.hint == "zeros: right but for one entry that should not be 0 (masked too much?)"


def test_no_hint_where_nothing_explains_it():
    x = np.random.default_rng(0).normal(size=8)
    report = check_gradients(lambda x: np.sum(np.sin(x)), np.sin, x)
    assert not report.ok
    assert report.hint == ""


# ------------------------------------------------------------------------------------- the report


def test_p5_table():
    """The finite-difference table of P5: linear 4-3, sigmoid, squared error."""
    x, y = [[2.34, 3.8, 34.44, 5.33]], [[3.2, 4.2, 5.3]]
    rng = np.random.default_rng(5)
    layer = Dense(4, 3, weight_init=0.01 * rng.normal(size=(4, 3)))
    net = Network([layer, bpcore.Sigmoid()], loss=bpcore.MeanSquaredError(reduction="sum"))
    report = net.check_gradients(x, y)
    assert report.ok
    assert report.n_checked == 12 + 3 + 4
    frame = report.to_frame()
    assert list(frame.columns) == [
        "array",
        "index",
        "analytic",
        "numeric",
        "error_estimate",
        "relative_error",
        "verdict",
    ]
    assert len(frame) == 19
    weight = frame[frame["array"] == "0.weight"]
    assert list(weight["index"]) == [(i, j) for i in range(4) for j in range(3)]
    p = net.predict(x)
    right = np.outer(x, 2 * (p - y) * p * (1 - p)).ravel()
    np.testing.assert_allclose(weight["analytic"], right, rtol=1e-12)
    np.testing.assert_allclose(weight["numeric"], right, rtol=1e-7)
    assert (weight["error_estimate"] < 1e-6 * np.abs(right)).all()
    assert set(weight["verdict"]) == {"right"}
    rows = np.repeat(x, 1000, axis=0), np.repeat(y, 1000, axis=0)
    deeper = mlp([4, 5, 3], hidden="sigmoid", output="sigmoid", rng=5)
    deeper.parameters[:] *= 0.1
    report = deeper.check_gradients(*rows)
    assert report.ok
    assert report.n_undecided < 0.1 * report.n_checked


def test_text():
    report = check_gradients(lambda x: np.sum(x**3), lambda x: 3 * x**2, np.arange(1.0, 7.0))
    text = str(report)
    assert text.startswith("Gradients proven: all 6 entries agree with central differences")
    assert "x (6,): 6 checked" in text
    assert "... and 2 more" in text
    assert text.count("right") == 4
    assert repr(report).startswith("<GradientReport ok=True: 6 checked, 0 wrong")
    report = check_gradients(lambda x: x**3, lambda x: 4 * x**2, 2.0)
    assert str(report).startswith(
        "Gradients WRONG: 1 of 1 entry differs from central differences, worst at x "
    )
    assert report.worst_location == ("x", ())
    assert max(map(len, str(report).splitlines())) < 160


def test_to_frame_says_how_to_get_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    report = check_gradients(lambda x: np.sum(x), np.ones_like, [1.0, 2.0])
    with pytest.raises(ImportError, match=r"pip install '?bpcore\[cli\]"):
        report.to_frame()


# ------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ("some", ValueError, "all, projections"),
        (0, ValueError, "parameters must be >= 1, got 0"),
        (1.5, TypeError, "parameters must be an integer"),
        (True, TypeError, "parameters must be an integer"),
    ],
)
def test_bad_parameters(parameters, error, message):
    X, y = batch()
    with pytest.raises(error, match=message):
        mlp([4, 3], rng=0).check_gradients(X, y, parameters=parameters)
    with pytest.raises(error, match=message):
        check_gradients(np.sum, np.ones_like, X, parameters=parameters)


def test_bad_batches():
    X, y = batch()
    net = mlp([4, 5, 3], rng=0)
    with pytest.raises(ShapeError, match="reshape"):
        net.check_gradients(X[0], y)
    with pytest.raises(ShapeError, match="4"):
        net.check_gradients(X[:, :3], y)
    with pytest.raises(ShapeError, match="y has shape"):
        net.check_gradients(X, y[:, :1])
    with pytest.raises(ValueError, match=r"sample_weight\[0\]"):
        net.check_gradients(X, y, sample_weight=-np.ones(8))
    with pytest.raises(DTypeError, match="masked"):
        net.check_gradients(X, np.ma.masked_less(y, 0))


def test_bad_functions():
    x = np.ones((3, 4))
    with pytest.raises(TypeError, match="f must be callable"):
        check_gradients(1.0, np.ones_like, x)
    with pytest.raises(ShapeError, match=r"one number, got an array of shape \(3, 4\)"):
        check_gradients(lambda x: x, np.ones_like, x)
    with pytest.raises(DTypeError, match="real number"):
        check_gradients(lambda x: None, np.ones_like, x)
    with pytest.raises(ShapeError, match=r"gradient has shape \(3,\), but x has shape \(3, 4\)"):
        check_gradients(np.sum, np.ones(3), x)
    with pytest.raises(DTypeError, match="gradient"):
        check_gradients(np.sum, lambda x: None, x)
    with pytest.raises(ShapeError, match="nothing to differentiate"):
        check_gradients(np.sum, np.ones_like, x[:0])
    with pytest.raises(ValueError, match="finite"):
        check_gradients(np.sum, np.ones_like, x * np.nan)


def test_errors_of_the_function_pass_through():
    def f(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        check_gradients(f, np.ones_like, [1.0])
