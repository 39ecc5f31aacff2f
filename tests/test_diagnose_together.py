"""explain_gradients: several mistakes at once, single numbers, tails of activations, words."""

import numpy as np
import pytest

import bpcore
from bpcore import ShapeError, explain_gradients

rng = np.random.default_rng(5)
X, W1, W2 = rng.normal(size=(7, 4)), rng.normal(size=(4, 5)), rng.normal(size=(5, 3))
Y = rng.uniform(size=(7, 3))
WEIGHT = rng.uniform(0.2, 2, 7)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def network(*layers, loss="mse", **keywords):
    """A network of activations and of dense layers with these weights and without biases."""
    made = [
        bpcore.Dense(*layer.shape, weight_init=layer, bias=False)
        if isinstance(layer, np.ndarray)
        else layer
        for layer in layers
    ]
    return bpcore.Network(made, loss=loss, **keywords)


def told(explanation):
    return sorted((m.code, m.layer) for m in explanation.mistakes)


# ---------------------------------------------------------------- at the loss


def test_mean_of_errors_in_place_of_each():
    net = network(W1, bpcore.Sigmoid())
    p, y = sigmoid(X @ W1), rng.uniform(size=(7, 5))
    delta = 2 * (p - y).mean() / p.size * p * (1 - p)
    assert told(explain_gradients(net, X, y, [X.T @ delta])) == [("error_averaged", 1)]


@pytest.mark.parametrize("loss", ["mse", "bce_logits"])
def test_mean_of_broadcast_targets(loss):
    """It was told as the loss times an odd number."""
    W, y = W2[:4, :1], (rng.uniform(size=7) > 0.5).astype(float)
    net = network(W, loss=loss)
    error = (X @ W if loss == "mse" else sigmoid(X @ W)) - y  # (7, 7)
    found = explain_gradients(net, X, y, [X.T @ np.full((7, 1), error.mean())])
    accounts = [found.mistakes, *found.alternatives]
    codes = {mistake.code for account in accounts for mistake in account}
    assert codes <= {"target_broadcast", "error_averaged", "factor", "sum_for_mean"}
    assert {"target_broadcast", "error_averaged"} <= codes


def test_loss_in_place_of_the_error_with_sample_weights():
    net = network(W1, bpcore.Tanh())
    y = rng.normal(size=(7, 5))
    p = np.tanh(X @ W1)
    loss = net.loss_value(X, y, sample_weight=WEIGHT)
    delta = WEIGHT[:, None] / WEIGHT.sum() * loss * (1 - p**2)
    found = explain_gradients(net, X, y, [X.T @ delta], sample_weight=WEIGHT)
    assert told(found) == [("loss_value", 1)]


def test_loss_over_two_rows_is_not_a_rate():
    net = network(W1, bpcore.Tanh())
    y = rng.normal(size=(2, 5))
    p = np.tanh(X[:2] @ W1)
    delta = net.loss_value(X[:2], y) / 2 * (1 - p**2)
    found = explain_gradients(net, X[:2], y, [X[:2].T @ delta], learning_rate=0.5)
    assert told(found) == [("loss_value", 1)]


@pytest.mark.parametrize("power", [0, 2])
def test_sample_weights_and_another_loss(power):
    net = network(W1, bpcore.Tanh())
    y = rng.normal(size=(7, 5))
    p = np.tanh(X @ W1)
    scale = WEIGHT[:, None] ** power / (WEIGHT.sum() if power else 7) / 5
    delta = scale * np.sign(p - y) * (1 - p**2)
    found = explain_gradients(net, X, y, [X.T @ delta], sample_weight=WEIGHT)
    code = "weights_twice" if power else "weights_ignored"
    assert told(found) == [("other_loss", 1), (code, 1)]


def test_wrong_sign_inside_binary_cross_entropy():
    net = network(W1, bpcore.Sigmoid(), loss="bce")
    p, y = sigmoid(X @ W1), (rng.uniform(size=(7, 5)) > 0.5).astype(float)
    error = (-y / p - (1 - y) / (1 - p)) / p.size
    for slope, codes in ((p * (1 - p), []), (1, [("derivative_missing", 1)])):
        found = explain_gradients(net, X, y, [X.T @ (error * slope)])
        assert told(found) in ([*codes, ("error_incomplete", 1)], [("error_incomplete", 1)])
        assert "sign" in str(found)


def test_softmax_elementwise_where_it_is_saturated():
    """-y / p is huge there, beside which the rest looked like rounding."""
    net = network(40 * W1, bpcore.Softmax(), loss="cross_entropy")
    y = np.eye(5)[rng.integers(0, 5, 7)]
    p = net.predict(X)
    given = X.T @ (-y * (1 - p) / 7)
    assert told(explain_gradients(net, X, y, [given])) == [("softmax_elementwise", 1)]


def test_what_is_right_but_for_a_factor_is_no_other_loss():
    """With two classes the derivative of binary cross-entropy is twice that of cross-entropy."""
    net = network(W1[:, :2], bpcore.Softmax(), loss="cross_entropy")
    y = rng.integers(0, 2, 7)
    (mistake,) = explain_gradients(net, X, y, net.loss_and_gradient(X, y)[1] / 49).mistakes
    assert mistake.code == "factor" and mistake.factor == pytest.approx(1 / 49)


def test_another_loss_of_a_single_number():
    net = network(W1[:, :1])
    x, y = X[:1], Y[:1, :1]
    error = x @ W1[:, :1] - y
    for loss, given in (("mae", error), ("mse", np.sign(error))):
        net = network(W1[:, :1], loss=loss)
        found = explain_gradients(net, x, y, [x.T @ given])
        assert ("other_loss", 0) in told(found) or any(
            "other_loss" in [m.code for m in other] for other in found.alternatives
        )


def test_equal_targets_that_are_broadcast_show_in_the_shape():
    net = network(W2[:4, :1])
    y = np.full(7, 0.5)
    delta = 2 * (X @ W2[:4, :1] - y) / 7
    found = explain_gradients(net, X, y, [X.T @ delta])
    assert told(found) == [("target_broadcast", 0)]


# ---------------------------------------------------------------- in the arrays of a layer


def test_mean_in_every_bias_is_not_a_rate():
    net = bpcore.mlp([4, 5, 3], hidden="tanh", rng=0)
    for n, rate in ((7, 1 / 7), (2, None)):
        net.loss_and_gradient(X[:n], Y[:n])
        arrays = {
            name: a / n if "bias" in name else a.copy() for name, a in net.gradient_arrays().items()
        }
        found = explain_gradients(net, X[:n], Y[:n], arrays, learning_rate=rate)
        assert told(found) == [("bias_mean", 0), ("bias_mean", 2)]
        assert all(len({m.code for m in other}) == 1 for other in found.alternatives)


def test_l1_and_l2_both_with_wrong_factors():
    net = network(W1, l2=0.1, l1=0.02)
    y = rng.normal(size=(7, 5))
    delta = 2 * (X @ W1 - y) / y.size
    given = X.T @ delta + 2 / 7 * 0.1 * W1 + 0.5 * 0.02 * np.sign(W1)
    found = explain_gradients(net, X, y, [given])
    assert {m.code: m.factor for m in found.mistakes} == {"l2_factor": 2 / 7, "l1_factor": 0.5}


def test_l1_on_bias_in_a_gradient_that_is_scaled():
    net = bpcore.mlp([4, 5, 3], hidden="tanh", rng=0, l1=1.0)
    net.layers[0].bias[...] = 0.3
    net.loss_and_gradient(X, Y)
    arrays = {name: a.copy() for name, a in net.gradient_arrays().items()}
    arrays["0.bias"] += 1.0
    found = explain_gradients(
        net, X, Y, {n: 0.05 * a for n, a in arrays.items()}, learning_rate=0.05
    )
    assert told(found) == [("l1_on_bias", 0), ("rate_applied", 2)]


def test_l2_on_the_bias_of_dead_units():
    net = bpcore.mlp([4, 5, 3], rng=0, l2=0.5)
    net.layers[0].bias[...] = -100
    net.loss_and_gradient(X, Y)
    arrays = {name: a.copy() for name, a in net.gradient_arrays().items()}
    arrays["0.bias"] += 0.5 * net.layers[0].bias
    assert told(explain_gradients(net, X, Y, arrays)) == [("l2_on_bias", 0)]


@pytest.mark.parametrize("codes", [["l1_on_bias", "l2_on_bias"], ["bias_row", "l2_on_bias"]])
def test_two_mistakes_in_one_bias(codes):
    net = bpcore.mlp([4, 3], output="sigmoid", rng=0, l2=0.1, l1=0.02)
    W, b = net.parameter_arrays().values()
    b[...] = [0.3, -0.5, 0.7]
    p = sigmoid(X @ W + b)
    delta = 2 * (p - Y) / Y.size * p * (1 - p)
    db = (delta[-1] if "bias_row" in codes else delta.sum(axis=0)) + 0.1 * b
    if "l1_on_bias" in codes:
        db = db + 0.02 * np.sign(b)
    net.loss_and_gradient(X, Y)
    found = explain_gradients(net, X, Y, [net.gradient_arrays()["0.weight"].copy(), db])
    assert told(found) == [(code, 0) for code in codes]


def test_weight_without_derivative_beside_one_output():
    """The bias is a single number, which any way back fits up to a factor."""
    net = bpcore.mlp([4, 1], output="sigmoid", rng=0)
    y = rng.uniform(size=7)
    W, b = net.parameter_arrays().values()
    p = sigmoid(X @ W + b)
    error = 2 * (p - y[:, None]) / 7
    for l2 in (0.0, 0.3):
        net = bpcore.mlp([4, 1], output="sigmoid", rng=0, l2=l2)
        given = [X.T @ error + l2 / 2 * W, (error * p * (1 - p)).sum(axis=0)]
        found = explain_gradients(net, X, y, given)
        codes = [("without_derivative", 0)]
        assert told(found) == ([("l2_factor", 0), *codes] if l2 else codes)
        assert {m.parameter for m in found.mistakes} == {"weight"}


def test_weight_without_derivative_and_a_row_for_the_bias():
    net = bpcore.mlp([4, 5, 3], hidden="tanh", rng=0)
    V1, b1, V2, b2 = net.parameter_arrays().values()
    a = np.tanh(X @ V1 + b1)
    delta2 = 2 * (a @ V2 + b2 - Y) / Y.size
    error = delta2 @ V2.T
    given = [X.T @ error, (error * (1 - a**2))[0], a.T @ delta2, delta2.sum(axis=0)]
    assert told(explain_gradients(net, X, Y, given)) == [("bias_row", 0), ("without_derivative", 0)]


def test_sum_that_cancels_in_float32():
    """With softmax delta's rows sum to 0, or to what float32 rounds."""
    net = bpcore.mlp([4, 7], output="softmax", loss="cross_entropy", rng=0, dtype="float32")
    y = rng.integers(0, 7, 7)
    net.loss_and_gradient(X, y)
    weight = net.gradient_arrays()["0.weight"].copy()
    z = X @ net.layers[0].weight.astype(float)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    delta = ((p - np.eye(7)[y]) / 7).astype("float32").astype(float)
    found = explain_gradients(net, X, y, [weight, delta.sum(axis=1)])
    accounts = [found.mistakes, *found.alternatives]
    assert "bias_wrong_axis" in {mistake.code for account in accounts for mistake in account}
    assert not found.unexplained


def test_what_both_arrays_share_is_told_once():
    V1, V2, V3 = (np.random.default_rng(i).normal(size=(4, 4)) for i in range(3))
    net = bpcore.mlp([4, 4, 4, 4], hidden="tanh", rng=0)
    for layer, V in zip((0, 2, 4), (V1, V2, V3), strict=True):
        net.layers[layer].weight[...] = V
    y = rng.normal(size=(7, 4))
    net.loss_and_gradient(X, y)
    arrays = {name: a.copy() for name, a in net.gradient_arrays().items()}
    a1 = np.tanh(X @ V1)
    a2 = np.tanh(a1 @ V2)
    error2 = 2 * (a2 @ V3 - y) / y.size @ V3  # and not V3.T
    delta2 = error2 * (1 - a2**2)
    delta1 = delta2 @ V2.T * (1 - a1**2)
    arrays |= {"2.weight": a1.T @ error2, "2.bias": delta2.sum(axis=0)}
    arrays |= {"0.weight": X.T @ delta1, "0.bias": delta1.sum(axis=0)}
    found = explain_gradients(net, X, y, arrays)
    assert told(found) == [("weights_transposed", 4), ("without_derivative", 2)]
    assert {m.code: m.parameter for m in found.mistakes}["weights_transposed"] is None


def test_column_for_each_target_has_its_own_penalty():
    net = network(W2[:4, :1], l2=0.5)
    y = rng.normal(size=7)
    delta = 2 * (X @ W2[:4, :1] - y) / 7  # (7, 7)
    found = explain_gradients(net, X, y, [X.T @ delta + 0.5 * W2[:4, :1]])
    assert told(found) == [("target_broadcast", 0)]


# ---------------------------------------------------------------- right gradients


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", ["gelu", "elu", "softplus"])
def test_tails_of_activations_may_be_rounded_to_zero(hidden, dtype):
    """expm1(z) as exp(z) - 1, log1p(exp(z)) as log(1 + exp(z)): no learner's mistakes."""
    net = bpcore.mlp([4, 5, 1], hidden=hidden, rng=0, dtype=dtype)
    x = np.array(X, dtype)
    V1, b1, V2, b2 = net.parameter_arrays().values()
    b1[:2] = -14 if hidden == "gelu" else -45
    z = x @ V1 + b1
    tail = np.exp(np.minimum(z, 0))
    match hidden:
        case "gelu":
            a = np.where(z < -8, 0, bpcore.GELU().forward(z))
        case "elu":
            a = np.where(z > 0, z, tail - 1)
        case "softplus":
            a = np.log(1 + np.exp(z))
    y = np.array(Y[:, :1], dtype)
    delta2 = 2 * (a @ V2 + b2 - y) / 7
    net.loss_and_gradient(x, y)
    given = {name: g.copy() for name, g in net.gradient_arrays().items()}
    given["2.weight"] = (a.T @ delta2).astype(dtype)
    explanation = explain_gradients(net, x, y, given)
    assert explanation.ok, explanation


def test_tail_that_decides_on_which_side_of_a_kink_a_unit_is():
    net = bpcore.Network(
        [bpcore.Dense(1, 1), bpcore.ELU(), bpcore.Dense(1, 1), bpcore.ReLU()], dtype="float32"
    )
    W1, b1, W2, b2 = net.parameter_arrays().values()
    W1[...], b1[...], W2[...], b2[...] = 1, 0, 1, 0
    x, y = np.array([[1e-9], [2.0]]), np.array([-1.0, -1.0])  # exp(1e-9) - 1 is 0
    gradients = []
    for a in (np.array([[1e-9], [2.0]]), np.array([[0.0], [2.0]])):
        delta2 = 2 * (a + 1) / 2 * (a > 0)
        gradients.append([x.T @ delta2, delta2.sum(axis=0), a.T @ delta2, delta2.sum(axis=0)])
    assert all(explain_gradients(net, x, y, given).ok for given in gradients)


def test_tail_before_a_rectifier_may_be_zero():
    layers = [
        bpcore.Dense(1, 1),
        bpcore.ELU(),
        bpcore.Dense(1, 1),
        bpcore.ReLU(),
        bpcore.Dense(1, 1),
    ]
    net = bpcore.Network(layers, dtype="float32")
    arrays = net.parameter_arrays().values()
    for array, value in zip(arrays, (1, 0, -1, 0, 1, 0), strict=True):
        array[...] = value
    x, y = np.array([[-1e-9], [2.0]]), np.array([-1.0, -1.0])  # exp(-1e-9) - 1 is 0
    net.loss_and_gradient(x, y)
    given = {name: a.copy() for name, a in net.gradient_arrays().items()}
    assert given["4.weight"] > 0
    given["4.weight"][...] = 0
    assert explain_gradients(net, x, y, given).ok


# ---------------------------------------------------------------- words and arguments


@pytest.fixture
def small():
    net = bpcore.mlp([4, 5, 3], hidden="sigmoid", rng=0)
    net.loss_and_gradient(X, Y)
    return net, [g.copy() for g in net.gradient_arrays().values()]


@pytest.mark.parametrize("names", ["dW1 db1 dW2 db2", "w1 b1 w2 b2", "dW_1 db_1 dW_2 db_2"])
def test_learners_names(small, names):
    net, arrays = small
    assert explain_gradients(net, X, Y, dict(zip(names.split(), arrays, strict=True))).ok


def test_unknown_name_lists_those_there_are(small):
    net, arrays = small
    with pytest.raises(ValueError, match=r"'W0'.*0\.weight.*or W1, b1, W2, b2"):
        explain_gradients(net, X, Y, dict(zip(("W0", "b0", "W1", "b1"), arrays, strict=True)))


def test_arrays_from_the_output_back(small):
    net, (dW1, db1, dW2, db2) = small
    for arrays in ([dW2, db2, dW1, db1], [db2, dW2, db1, dW1]):
        with pytest.raises(ShapeError, match="from the output back"):
            explain_gradients(net, X, Y, arrays)


def test_targets_must_be_finite(small):
    net, arrays = small
    with pytest.raises(ValueError, match="y must be finite"):
        explain_gradients(net, X, np.where(Y > 0.5, np.nan, Y), arrays)


def test_sentences(small):
    net, (dW1, db1, dW2, db2) = small
    text = str(explain_gradients(net, X, Y, [dW1 * np.nan, db1, dW2, db2]))
    assert "Nothing can be compared with nan or infinities: 0.weight." in text
    assert "No mistake known" not in text
    text = str(explain_gradients(net, X, Y, [dW1.T, db1, dW2, db2]))
    assert "WRONG in its shape only" in text and "e-16" not in text
    text = str(explain_gradients(net, X, Y, [rng.normal(size=(4, 5)), db1, dW2, db2]))
    assert "give its batch as previous_X" in text
    assert "2.bias, 2.weight and 0.bias are right and 0.weight is wrong first" in text


def test_formula_that_is_meant(small):
    net, (_, _, dW2, db2) = small
    V1, b1, V2, b2 = net.parameter_arrays().values()
    a = sigmoid(X @ V1 + b1)
    delta1 = 2 * (a @ V2 + b2 - Y) / Y.size @ V2.T
    found = explain_gradients(net, X, Y, [X.T @ delta1, delta1.sum(axis=0), dW2, db2])
    assert found.mistakes[0].meant == "f'(z) = a(1 - a)"
    error_only = [X.T @ delta1, (delta1 * a * (1 - a)).sum(axis=0), dW2, db2]
    (mistake,) = explain_gradients(net, X, Y, error_only).mistakes
    assert (mistake.code, mistake.layer) == ("without_derivative", 0)
    assert mistake.text.startswith("the weight of layer 0 (Dense(4, 5)): ")


def test_error_that_the_loss_has_cancelled_already():
    """Told to take the derivative at z, a learner would be wrong again."""
    net = network(W1, bpcore.Sigmoid(), loss="bce")
    y = (rng.uniform(size=(7, 5)) > 0.5).astype(float)
    error = sigmoid(X @ W1) - y
    delta = error * sigmoid(error) * (1 - sigmoid(error)) / y.size
    (mistake,) = explain_gradients(net, X, y, [X.T @ delta]).mistakes
    assert mistake.code == "derivative_at_error"
    assert mistake.meant.startswith("p - y, ") and mistake.used == "(p - y) f'(p - y)"


def test_one_factor_is_told_once():
    net = network(W1, bpcore.Sigmoid())
    y = rng.uniform(size=(7, 5))
    found = explain_gradients(net, X, y, net.loss_and_gradient(X, y)[1] * 35)
    (mistake,) = found.mistakes
    assert (mistake.code, mistake.layer, mistake.parameter) == ("sum_for_mean", 1, None)
    assert not found.alternatives and not found.suggestion


def test_quick_with_one_output_and_all_penalties():
    """Hundreds of ways back fit a single number: they are not all combined."""
    net = bpcore.mlp([3, 1, 1], hidden="relu", output="tanh", rng=0, l2=0.1, l1=0.05)
    x, y = X[:5, :3], Y[:5, :1]
    V1, b1, V2, b2 = net.parameter_arrays().values()
    a = np.maximum(x @ V1 + b1, 0)
    z = a @ V2 + b2
    delta2 = 2 * (np.tanh(z) - y) / 5 * (1 - z**2)
    delta1 = delta2 @ V2.T * (a > 0)
    given = [x.T @ delta1, delta1.sum(axis=0), np.tanh(z).T @ delta2, delta2.sum(axis=0)]
    for i, V in ((0, V1), (2, V2)):
        given[i] = given[i] + 0.1 * V + 0.05 * np.sign(V)
    found = explain_gradients(net, x, y, given)
    assert told(found) == [("output_formula_at_input", 3), ("own_output", 2)]
