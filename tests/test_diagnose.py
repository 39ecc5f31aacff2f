"""explain_gradients: the mistakes it names, the right gradients it leaves alone, its arguments."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from seeded_mistakes import CODES, float32_gradients, make, right_case, verdict

import bpcore
from bpcore import DTypeError, ShapeError, explain_gradients
from bpcore.suspects import SUSPECTS

RIGHT = 50
PAIRS = [
    ("delta_factor", "bias_row"),
    ("loss_value", "formula_at_input"),
    ("derivative_missing", "bias_mean"),
    ("derivative_twice", "weight_transposed"),
    ("input_before_activation", "bias_zero"),
    ("l2_missing", "everything"),
]


def cases_of(names, count, seed, tries=200):
    rng = np.random.default_rng(seed)
    found = (make(rng, names) for _ in range(tries))
    return list(itertools.islice((case for case in found if case is not None), count))


@pytest.mark.parametrize("name", CODES)
def test_names_the_mistake(name):
    cases = cases_of([name], 2, 1)
    assert len(cases) == 2
    for case in cases:
        explanation = case.explain()
        assert verdict(case, explanation) in ("exact", "ambiguous"), (case.mistakes, explanation)
        for mistake in explanation.mistakes:
            assert mistake.code in SUSPECTS
            assert mistake.text.rstrip(".") in str(explanation)


@pytest.mark.parametrize("names", PAIRS, ids="+".join)
def test_names_two_mistakes(names):
    for case in cases_of(list(names), 3, 2):
        explanation = case.explain()
        assert verdict(case, explanation) in ("exact", "ambiguous"), (case.mistakes, explanation)


def test_every_code_has_a_test():
    seeded = set().union(*CODES.values())
    here = set(re.findall(r'code == "(\w+)"', Path(__file__).read_text("utf-8")))
    assert set(SUSPECTS) <= seeded | here
    assert seeded <= set(SUSPECTS)


def test_the_table_in_the_docs():
    page = Path(__file__).parents[1] / "docs" / "mistakes.md"
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", page.read_text("utf-8"), re.MULTILINE)
    wanted = [(code, s.sentence) for code, s in SUSPECTS.items()]
    assert [(code, cells.split(" | ")[0]) for code, cells in rows] == wanted


# ---------------------------------------------------------------- right gradients


def test_right_gradients_are_right():
    rng = np.random.default_rng(3)
    for _ in range(RIGHT):
        case = right_case(rng)
        assert case.explain().ok, case
        net, X, y, gradients = float32_gradients(case)
        explanation = explain_gradients(net, X, y, gradients, sample_weight=case.w)
        assert explanation.ok and not explanation.mistakes, (case, str(explanation))


# ---------------------------------------------------------------- the five programs


def randn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def dense(W, b=None):
    keywords = {"bias": False} if b is None else {"bias_init": np.ravel(b)}
    return bpcore.Dense(*W.shape, weight_init=W, **keywords)


def codes(explanation):
    return [mistake.code for mistake in explanation.mistakes]


def test_p1_sum_for_mean():
    x, y, W = randn(10, 1000), randn(10, 2, seed=1), randn(1000, 2, seed=2)
    net = bpcore.Network([dense(W), bpcore.Sigmoid()])
    p = sigmoid(x @ W)
    found = explain_gradients(net, x, y, [2 * x.T @ ((p - y) * p * (1 - p))])
    assert codes(found) == ["sum_for_mean"]
    assert found.mistakes[0].factor == 20


def test_p2_derivative_of_the_error():
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.uniform(2, 7, (4, 5)), rng.uniform(-2, 3, (4, 5))])
    y = np.array([1.0] * 4 + [0.0] * 4).reshape(-1, 1)
    w, b = randn(5, 1), randn(1)
    loss = bpcore.BinaryCrossEntropy(reduction="sum")
    net = bpcore.Network([dense(w, b), bpcore.Sigmoid()], loss=loss)
    error = sigmoid(x @ w + b) - y
    delta = error * sigmoid(error) * (1 - sigmoid(error))
    found = explain_gradients(net, x, y, [x.T @ delta, delta.sum(axis=0)])
    assert codes(found) == ["derivative_at_error"]


def p3():
    X = randn(90, 5)
    y = np.log(np.abs(X @ randn(5, 1, seed=1)) + 20)
    shapes = [(5, 4), (4, 4), (4, 1)]
    Ws = [randn(*shape, seed=i + 2) for i, shape in enumerate(shapes)]
    bs = [randn(shape[1], seed=i + 7) for i, shape in enumerate(shapes)]
    net = bpcore.Network(
        [
            dense(Ws[0], bs[0]),
            bpcore.ReLU(),
            dense(Ws[1], bs[1]),
            bpcore.ReLU(),
            dense(Ws[2], bs[2]),
        ]
    )
    return net, X, y, Ws, bs


def relu(z):
    return np.maximum(z, 0)


def test_p3_stale_layer_and_no_factor_two():
    net, X, y, (W1, W2, W3), (b1, b2, b3) = p3()
    before = randn(90, 5, seed=20)
    a2_stale = relu(relu(before @ W1 + b1) @ W2 + b2)
    z1 = X @ W1 + b1
    z2 = relu(z1) @ W2 + b2
    delta3 = (a2_stale @ W3 + b3 - y) / len(X)
    delta2 = delta3 @ W3.T * (z2 > 0)
    delta1 = delta2 @ W2.T * (z1 > 0)
    gradients = []
    for a, delta in ((X, delta1), (relu(z1), delta2), (a2_stale, delta3)):
        gradients += [a.T @ delta, delta.sum(axis=0)]
    found = explain_gradients(net, X, y, gradients, previous_X=before)
    assert sorted(codes(found)) == ["factor", "stale_forward"]
    assert [m.factor for m in found.mistakes if m.code == "factor"] == [0.5]


def test_everything_stale(small):
    net, X, y, _ = small
    older = randn(7, 4, seed=3)
    gradient = net.loss_and_gradient(older, y)[1]
    found = explain_gradients(net, X, y, gradient, previous_X=older)
    assert codes(found) == ["stale_forward"] and "all values" in str(found)


def test_p3_last_prediction_with_all_targets():
    net, X, y, (W1, W2, W3), (b1, b2, b3) = p3()
    a1 = relu(X @ W1 + b1)
    a2 = relu(a1 @ W2 + b2)
    delta3 = 2 * ((a2 @ W3 + b3)[-1:] - y) / len(X)
    delta2 = delta3 @ W3.T * (a2 > 0)
    delta1 = delta2 @ W2.T * (a1 > 0)
    gradients = []
    for a, delta in ((X, delta1), (a1, delta2), (a2, delta3)):
        gradients += [a.T @ delta, delta.sum(axis=0)]
    found = explain_gradients(net, X, y, gradients)
    assert codes(found) == ["one_prediction"]


def test_p3_sigmoid_without_brackets():
    X, y, W, b = randn(9, 3), np.arange(9.0) % 2, randn(3, 1, seed=1), randn(1, seed=2)
    net = bpcore.Network([dense(W, b), bpcore.Sigmoid()])
    p = 1 / 1 + np.exp(-(X @ W + b))
    delta = 2 * (p - y[:, None]) / 9 * p * (1 - p)
    found = explain_gradients(net, X, y, [X.T @ delta, delta.sum(axis=0)])
    assert codes(found) == ["other_forward"] and "brackets" in str(found)


X4 = np.array([[4, 500, 6], [4, 550, 5.5], [2, 200, 3.5], [2, 250, 4]])
Y4 = np.array([1.0, 1, 0, 0])


def test_p4_several_at_once():
    rng = np.random.default_rng(6)
    X = (X4 - X4.mean(axis=0)) / X4.std(axis=0)
    W, b = rng.uniform(0, 1, (3, 1)), rng.uniform(0, 1, 1)
    net = bpcore.Network([dense(W, b), bpcore.Sigmoid()])
    z = X @ W + b
    loss = 2 * np.mean((Y4 - sigmoid(z)) ** 2)  # (4,) against (4, 1): (4, 4)
    delta = -loss * z * (1 - z)
    found = explain_gradients(net, X, Y4, [X.T @ delta, delta.sum(axis=0)])
    assert set(codes(found)) == {"loss_value", "output_formula_at_input", "sign"}
    assert "broadcast" in str(found)


def test_p4_output_for_hidden_activations():
    rng = np.random.default_rng(7)
    X = (X4 - X4.mean(axis=0)) / X4.std(axis=0)
    W1, b1 = rng.uniform(-1, 1, (3, 4)), rng.uniform(-1, 1, 4)
    W2, b2 = rng.uniform(-1, 1, (4, 1)), rng.uniform(-1, 1, 1)
    net = bpcore.Network([dense(W1, b1), bpcore.Sigmoid(), dense(W2, b2), bpcore.Sigmoid()])
    a = sigmoid(X @ W1 + b1)
    p = sigmoid(a @ W2 + b2)
    delta2 = 2 * (p - Y4[:, None]) / 4 * p * (1 - p)
    delta1 = delta2 @ W2.T * a * (1 - a)
    for dW2 in (p.T @ delta2, np.tile(p.T @ delta2, (4, 1))):
        gradients = [X.T @ delta1, delta1.sum(axis=0), dW2, delta2.sum(axis=0)]
        assert codes(explain_gradients(net, X, Y4, gradients)) == ["own_output"]


@pytest.mark.parametrize(
    "loss, factor, wanted",
    [("mse", 50 * 3 * 50, "factor"), ("mae", 150, "sum_for_mean"), ("bce", 50 * 150, "factor")],
)
def test_p5_scales(loss, factor, wanted):
    """2 N where 2 / N is meant, a sum's gradient for a mean, N where 1 / N is meant."""
    X, y = randn(50, 4), np.random.default_rng(1).uniform(size=(50, 3))
    net = bpcore.mlp([4, 5, 3], hidden="sigmoid", output="sigmoid", loss=loss, rng=0)
    gradient = net.loss_and_gradient(X, y)[1]
    found = explain_gradients(net, X, y, factor * gradient)
    assert codes(found) == [wanted]
    assert found.mistakes[0].factor == pytest.approx(factor)


# ---------------------------------------------------------------- rates


def test_rate_and_update():
    net = bpcore.mlp([4, 5, 3], hidden="tanh", rng=0)
    X, y = randn(7, 4), randn(7, 3)
    gradient = net.loss_and_gradient(X, y)[1]
    (mistake,) = explain_gradients(net, X, y, 0.03 * gradient, learning_rate=0.03).mistakes
    assert mistake.code == "rate_applied" and mistake.factor == 0.03
    (mistake,) = explain_gradients(net, X, y, -0.03 * gradient, learning_rate=0.03).mistakes
    assert mistake.code == "update_given"
    (mistake,) = explain_gradients(net, X, y, -gradient).mistakes
    assert mistake.code == "sign"
    gradient *= 0.0371
    (mistake,) = explain_gradients(net, X, y, gradient).mistakes
    assert mistake.code == "factor" and mistake.factor == pytest.approx(0.0371)


def test_constants_have_names():
    net = bpcore.mlp([4, 5, 3], rng=0)
    X, y = randn(7, 4), randn(7, 3)
    gradient = net.loss_and_gradient(X, y)[1]
    (mistake,) = explain_gradients(net, X, y, gradient / 7).mistakes
    assert mistake.code == "mean_twice"
    (mistake,) = explain_gradients(net, X, y, gradient / 3).mistakes
    assert mistake.code == "outputs_factor"
    total = bpcore.mlp([4, 5, 3], rng=0, loss=bpcore.MeanSquaredError(reduction="sum"))
    gradient = total.loss_and_gradient(X, y)[1]
    (mistake,) = explain_gradients(total, X, y, gradient / 7).mistakes
    assert mistake.code == "mean_for_sum"


def test_rows_equal_outputs_is_ambiguous():
    net = bpcore.mlp([4, 5, 7], rng=0)
    X, y = randn(7, 4), randn(7, 7, seed=1)
    found = explain_gradients(net, X, y, net.loss_and_gradient(X, y)[1] / 7)
    every = {m.code for account in (found.mistakes, *found.alternatives) for m in account}
    assert {"mean_twice", "outputs_factor"} <= every
    assert "rows" in found.suggestion


# ---------------------------------------------------------------- arguments


@pytest.fixture
def small():
    net = bpcore.mlp([4, 5, 3], hidden="tanh", rng=0)
    X, y = randn(7, 4), randn(7, 3, seed=1)
    return net, X, y, net.loss_and_gradient(X, y)[1]


def test_forms_of_gradients(small):
    net, X, y, flat = small
    arrays = [g.copy() for g in net.gradient_arrays().values()]
    named = dict(zip(net.parameter_arrays(), arrays, strict=True))
    short = dict(zip(("W1", "b1", "W2", "b2"), arrays, strict=True))
    pairs = [tuple(arrays[:2]), tuple(arrays[2:])]
    forms = [flat, flat.tolist(), arrays, tuple(arrays), named, short, pairs]
    forms += [lambda: flat, lambda X, y: arrays, lambda net, X, y: named]
    for gradients in forms:
        assert explain_gradients(net, X, y, gradients).ok
    rows = [arrays[0], arrays[1][None, :], arrays[2], arrays[3][:, None]]
    assert explain_gradients(net, X, y, rows).ok


def test_nothing_changes(small):
    net, X, y, flat = small
    before = net.parameters.copy(), net.gradients.copy(), net.rng.bit_generator.state
    explain_gradients(net, X, y, flat * 3 + 1)
    assert (net.parameters == before[0]).all() and (net.gradients == before[1]).all()
    assert net.rng.bit_generator.state == before[2]


def test_errors(small):
    net, X, y, flat = small
    arrays = list(net.gradient_arrays().values())
    with pytest.raises(ShapeError, match=r"expected \(43,\)"):
        explain_gradients(net, X, y, flat[1:])
    with pytest.raises(ShapeError, match="3 arrays, expected 4"):
        explain_gradients(net, X, y, arrays[:3])
    with pytest.raises(ShapeError, match=r"0.weight has shape \(4, 6\)"):
        explain_gradients(net, X, y, [np.zeros((4, 6)), *arrays[1:]])
    with pytest.raises(ShapeError, match="summed over the rows"):
        explain_gradients(net, X, y, [arrays[0], np.zeros((7, 5)), *arrays[2:]])
    with pytest.raises(ShapeError, match=r"0.weight has shape \(1, 1\)"):
        explain_gradients(net, X, y, [np.ones((1, 1)), *arrays[1:]])
    with pytest.raises(DTypeError, match=r"0\.bias"):
        explain_gradients(net, X, y, [arrays[0], np.array(["a"] * 5), *arrays[2:]])
    with pytest.raises(ValueError, match=r"lacks 2\.bias"):
        explain_gradients(net, X, y, dict(list(net.gradient_arrays().items())[:3]))
    with pytest.raises(ValueError, match=r"'3\.bias'"):
        explain_gradients(net, X, y, {**net.gradient_arrays(), "3.bias": flat})
    with pytest.raises(TypeError, match="flat array"):
        explain_gradients(net, X, y, 3)
    with pytest.raises(ShapeError, match="no rows"):
        explain_gradients(net, X[:0], y[:0], flat)
    with pytest.raises(ValueError, match="learning_rate"):
        explain_gradients(net, X, y, flat, learning_rate=-1)


def test_transposed_shape_is_a_mistake(small):
    net, X, y, _ = small
    W1, b1, W2, b2 = net.gradient_arrays().values()
    (mistake,) = explain_gradients(net, X, y, [W1.T, b1, W2, b2]).mistakes
    assert mistake.code == "gradient_transposed"
    assert (mistake.layer, mistake.parameter) == (0, "weight")


def test_not_finite(small):
    net, X, y, flat = small
    flat[0] = np.nan
    found = explain_gradients(net, X, y, flat)
    assert not found.ok and found.arrays["0.weight"].verdict == "not finite"
    assert found.arrays["2.weight"].ok and "0.weight" in found.unexplained


def test_what_nothing_explains(small):
    net, X, y, _ = small
    W1, b1, W2, b2 = net.gradient_arrays().values()
    noise = randn(4, 5, seed=9)
    found = explain_gradients(net, X, y, [noise, b1, W2, b2])
    assert found.unexplained == ["0.weight"] and not found.mistakes
    assert [name for name, verdict in found.arrays.items() if not verdict.ok] == ["0.weight"]
    assert "wrong first" in str(found) and "correlation" in str(found)
    found = explain_gradients(net, X, y, [2 * W1, 2 * b1, randn(5, 3, seed=8), b2])
    assert found.unexplained == ["2.weight"]  # and the layer below it is judged all the same
    assert [(m.code, m.factor, m.layer) for m in found.mistakes] == [("factor", 2.0, 1)]


def test_zero_gradients_of_dead_units_are_right():
    net = bpcore.mlp([4, 5, 3], rng=0)
    net.layers[0].bias[...] = -1000
    X, y = randn(7, 4), randn(7, 3, seed=1)
    explanation = explain_gradients(net, X, y, net.loss_and_gradient(X, y)[1])
    assert explanation.ok and "dead" in str(explanation)


def test_named_layers_and_texts(small):
    _, X, y, _ = small
    layers = [("first", bpcore.Dense(4, 5)), bpcore.Tanh(), ("second", bpcore.Dense(5, 3))]
    net = bpcore.Network(layers, rng=0)
    net.loss_and_gradient(X, y)
    named = {name: g.copy() for name, g in net.gradient_arrays().items()}
    named["second.bias"] /= 7
    found = explain_gradients(net, X, y, named)
    assert str(found).splitlines()[0] == "1 mistake:"
    assert "the bias of layer second (Dense(5, 3)): " in found.mistakes[0].text
    assert repr(found) == "<Explanation ok=False: bias_mean>"
    assert "right" in str(found.arrays["first.weight"])


def test_large_network_is_quick_enough():
    net = bpcore.mlp([784, 128, 10], output="softmax", loss="cross_entropy", rng=0)
    rng = np.random.default_rng(0)
    X, y = rng.uniform(size=(32, 784)), rng.integers(0, 10, 32)
    gradient = net.loss_and_gradient(X, y)[1]
    (mistake,) = explain_gradients(net, X, y, gradient * 32).mistakes
    assert mistake.code == "sum_for_mean"


def test_broadcast_targets_give_a_column_for_each():
    X, y = randn(7, 3), np.random.default_rng(0).uniform(size=7)
    W, b = randn(3, 1), randn(1)
    net = bpcore.Network([dense(W, b), bpcore.Sigmoid()])
    p = sigmoid(X @ W + b)
    delta = 2 * (p - y) / 7 * p * (1 - p)  # (7, 7)
    found = explain_gradients(net, X, y, [X.T @ delta, delta.sum(axis=0)])
    assert codes(found) == ["target_broadcast"]
    with pytest.raises(ShapeError, match="broadcast against"):
        explain_gradients(net, X, y, [randn(3, 7, seed=5), delta.sum(axis=0)])


def test_all_layers_updated_before_the_way_back():
    net = bpcore.mlp([4, 5, 6, 3], hidden="tanh", rng=0)
    X, y = randn(9, 4), randn(9, 3, seed=1)
    W1, b1, W2, b2, W3, b3 = (a.copy() for a in net.parameter_arrays().values())
    a1 = np.tanh(X @ W1 + b1)
    a2 = np.tanh(a1 @ W2 + b2)
    d3 = 2 * (a2 @ W3 + b3 - y) / 27
    dW3 = a2.T @ d3
    for rate in (0.1, 0.0371):
        d2 = d3 @ (W3 - rate * dW3).T * (1 - a2**2)
        dW2 = a1.T @ d2
        d1 = d2 @ (W2 - rate * dW2).T * (1 - a1**2)
        found = explain_gradients(
            net, X, y, [X.T @ d1, d1.sum(axis=0), dW2, d2.sum(axis=0), dW3, d3.sum(axis=0)]
        )
        assert [(m.code, m.layer) for m in found.mistakes] == [
            ("updated_weights", 4),
            ("updated_weights", 2),
        ]
