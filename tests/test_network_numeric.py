"""Networks against the oracle: predictions, losses, gradients, gradients at the input."""

import copy

import bounds
import cases
import numpy as np
import pytest
import reference
import reference_training as training
from agreement import (
    activation,
    assert_backward,
    assert_predicts,
    assert_trains,
    loss_object,
    network,
)

import bpcore
from bpcore import Dense


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_dense(bias, dtype, level, rng):
    """A dense layer alone, in all sizes around those of vectors and tiles."""
    widths = list(zip(cases.WIDTHS, reversed(cases.WIDTHS), strict=True))
    widths += [(2, 300), (300, 2), (4, 300), (300, 4)]  # transposed in ways of their own
    for i, (n_in, n_out) in enumerate(widths):
        n = 1 + 3 * i
        weight = rng.normal(size=(n_in, n_out)).astype(dtype)
        layer = Dense(n_in, n_out, bias=bias, weight_init=weight, dtype=dtype)
        if bias:
            layer.bias = rng.normal(size=n_out)
        x, dy = rng.normal(size=(n, n_in)).astype(dtype), rng.normal(size=(n, n_out)).astype(dtype)
        y, dx = layer.forward(x), layer.backward(dy)
        assert y.dtype == dx.dtype == dtype
        layers = [reference.Dense(weight.astype(float), layer.bias.astype(float) if bias else None)]
        values, u = reference.forward(layers, x), bounds.unit(dtype)
        errors = bounds.forward(layers, values, u)
        dy = dy.astype(float)
        expected, gradient = reference.backward(layers, values, dy)
        e_dx, e_gradient = bounds.backward(layers, values, errors, dy, np.zeros_like(dy), u)
        what = f"{n} x {n_in} x {n_out}"
        bounds.assert_within(y, values[-1], errors[-1], dtype, f"{what} y")
        bounds.assert_within(dx, expected, e_dx, dtype, f"{what} dx")
        got = [layer.grad_weight.ravel(), layer.grad_bias] if bias else [layer.grad_weight.ravel()]
        bounds.assert_within(np.concatenate(got), gradient, e_gradient, dtype, f"{what} gradient")


@pytest.mark.parametrize("hidden", cases.ACTIVATIONS)
@pytest.mark.parametrize("head", cases.HEADS, ids=str)
def test_every_combination(head, hidden, dtype, level, rng):
    """Each layer, activation, loss and reduction, with and without weights and labels."""
    n, widths = 7, (4, 5, 3)
    x, w = cases.inputs(rng, n, widths[0], dtype), cases.weights(rng, n, dtype)
    for reduction in reference.REDUCTIONS:
        layers = [Dense(4, 5), activation(hidden), Dense(5, 3), *map(activation, head.activations)]
        net = network(layers, rng, loss=loss_object(head.loss, reduction=reduction), dtype=dtype)
        if hidden == "exp":  # what follows could reach where probabilities are clipped
            net.parameters *= 0.5
        for labels in (False, True) if head.loss in reference.TAKES_LABELS else (False,):
            t = cases.targets(rng, head.loss, n, widths[-1], dtype, labels)
            assert_trains(net, x, t)
            assert_trains(net, x, t, w)
    assert_predicts(net, x)
    assert_backward(net, x, rng.normal(size=(n, widths[-1])).astype(dtype))


@pytest.mark.parametrize("width", cases.WIDTHS)
def test_every_size(width, dtype, level, rng):
    """Every width as inputs, as hidden units and as outputs, with every size of batch."""
    hidden = ("tanh", "relu")[width % 2]
    for widths in ((width, 5, 2), (3, width, 3), (4, 3, width), (width, width, width)):
        layers = [Dense(widths[0], widths[1]), activation(hidden), Dense(widths[1], widths[2])]
        net = network(layers, rng, dtype=dtype)
        for n in cases.ROWS:
            x = cases.inputs(rng, n, widths[0], dtype)
            t = cases.targets(rng, "mse", n, widths[2], dtype)
            assert_trains(net, x, t, cases.weights(rng, n, dtype))
            assert_predicts(net, x)


@pytest.mark.parametrize("n", [1, 131])
def test_large(n, dtype, level, rng):
    layers = [Dense(200, 300), bpcore.ReLU(), Dense(300, 100), bpcore.Tanh(), Dense(100, 10)]
    net = network([*layers, bpcore.Softmax()], rng, loss="cross_entropy", dtype=dtype)
    x, t = cases.inputs(rng, n, 200, dtype), rng.integers(0, 10, n)
    assert_trains(net, x, t, cases.weights(rng, n, dtype))
    assert_predicts(net, x)
    assert_backward(net, x, rng.normal(size=(n, 10)).astype(dtype))


STACKS = {
    "one layer": lambda: [Dense(3, 2)],
    "no bias": lambda: [Dense(3, 4, bias=False), bpcore.Tanh(), Dense(4, 2, bias=False)],
    "one bias": lambda: [Dense(3, 4, bias=False), bpcore.Tanh(), Dense(4, 2)],
    "no activation between": lambda: [Dense(3, 4), Dense(4, 5), Dense(5, 2)],
    "activations in a row": lambda: [
        Dense(3, 4), bpcore.Tanh(), bpcore.GELU(), bpcore.Softmax(), bpcore.ELU(), Dense(4, 2),
    ],
    "activation first": lambda: [bpcore.Softplus(), Dense(3, 2), bpcore.Sigmoid()],
    "softmax first": lambda: [bpcore.Softmax(), Dense(3, 2)],
    "dropout between": lambda: [Dense(3, 40), bpcore.Tanh(), bpcore.Dropout(0.5), Dense(40, 40)],
    "dropouts": lambda: [
        bpcore.Dropout(0.5), Dense(3, 40), bpcore.Dropout(0.5), bpcore.GELU(), bpcore.Dropout(0.5),
        bpcore.Dropout(0.5), Dense(40, 70), bpcore.Dropout(0.5), Dense(70, 40), bpcore.Dropout(0.5),
    ],
    "deep": lambda: [
        layer for i in range(10) for layer in (Dense(3 + i, 4 + i), bpcore.Tanh())
    ][:-1],
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_stacks(name, dtype, level, rng):
    """Layers in unusual orders; dropout does nothing here, as nothing is trained."""
    net = network(STACKS[name](), rng, l2=0.3, l1=0.2, dtype=dtype)
    for n in (1, 9, 64):
        x, t = cases.inputs(rng, n, 3, dtype), cases.targets(rng, "mse", n, net.n_out, dtype)
        assert_trains(net, x, t)
        assert_predicts(net, x)
        assert_backward(net, x, rng.normal(size=(n, net.n_out)).astype(dtype))


@pytest.mark.parametrize("l2, l1", [(0.5, 0.0), (0.0, 0.5), (0.3, 0.7)])
@pytest.mark.parametrize("reduction", reference.REDUCTIONS)
def test_penalty(reduction, l2, l1, dtype, level, rng):
    """On the weights, not on the biases, whatever the reduction; |.|'(0) = 0."""
    layers = [Dense(3, 4), bpcore.Tanh(), Dense(4, 2)]
    loss = bpcore.MeanSquaredError(reduction=reduction)
    net = network(layers, rng, loss=loss, l2=l2, l1=l1, dtype=dtype)
    net.layers[0].weight[1, 2] = 0
    x, t = cases.inputs(rng, 6, 3, dtype), cases.targets(rng, "mse", 6, 2, dtype)
    assert_trains(net, x, t, cases.weights(rng, 6, dtype))


@pytest.mark.parametrize("n", [33, 1500])
@pytest.mark.parametrize("p", [0.0, 0.25, 0.9])
def test_dropout_in_a_network(p, n, dtype, level, rng):
    """The mask is read from a copy with the same generator, whose later layers change nothing."""
    layers = [Dense(4, 6), bpcore.Tanh(), bpcore.Dropout(p), Dense(6, 6)]
    net = network(layers, rng, dtype=dtype)
    x, t = cases.inputs(rng, n, 4, dtype), cases.targets(rng, "mse", n, 6, dtype)
    probe = copy.deepcopy(net)
    probe.layers[3].weight, probe.layers[3].bias = np.eye(6), np.zeros(6)
    hidden = np.array(probe.predict(x), float)
    factors = probe.forward(x, training=True) / hidden
    kept = np.abs(factors) > 0.5
    np.testing.assert_allclose(factors[kept], 1 / (1 - p), rtol=4 * np.finfo(dtype).eps)
    assert not factors[~kept].any()
    assert kept.all() if p == 0 else not kept.all()
    known = reference.layers_of(net)
    known.insert(2, reference.Mask(kept * float(dtype.type(1 / (1 - p)))))
    twin = copy.deepcopy(net)
    assert_trains(net, x, t, layers=known, training=True)
    assert_predicts(net, x)  # without training nothing is dropped
    assert_trains(net, x, t)
    # One step of fit meets the same mask.
    gradient = twin.parameters.copy()
    twin.fit(x, t, batch_size=None, optimizer=bpcore.SGD(learning_rate=1.0))
    gradient -= twin.parameters
    setting = known, reference.loss_of(net), x.astype(float), t.astype(float)
    wanted = reference.loss_and_gradient(*setting)[1]
    u = bounds.unit(dtype)
    e = bounds.loss_and_gradient(*setting, None, u)[1]
    e = e + 4 * u * (np.abs(net.parameters) + np.abs(wanted))  # of the step and the difference
    bounds.assert_within(gradient, wanted, e, dtype, "the step of fit")


def test_dropout_masks_do_not_repeat(level):
    """Not from row to row at any distance, nor from layer to layer, nor from pass to pass."""
    n, k, p = 2100, 20, 0.5
    ones = [Dense(k, k, weight_init=np.eye(k)) for _ in range(3)]
    net = bpcore.Network([ones[0], bpcore.Dropout(p), ones[1], bpcore.Dropout(p), ones[2]], rng=3)
    twin = bpcore.Network([copy.deepcopy(ones[0]), bpcore.Dropout(p), copy.deepcopy(ones[1])])
    twin.rng.bit_generator.state = net.rng.bit_generator.state
    x = np.ones((n, k))
    first, both = twin.forward(x, training=True) > 0, net.forward(x, training=True) > 0
    limit = 6 * 0.5 / np.sqrt(n * k / 2)  # six deviations of the mean of as many coins
    assert abs(first.mean() - 0.5) < limit
    assert abs(both.mean() - 0.25) < limit
    for lag in range(1, 1050):
        assert abs((first[lag:] == first[:-lag]).mean() - 0.5) < limit, f"{lag} rows apart"
    again = twin.forward(x, training=True) > 0
    assert abs((first == again).mean() - 0.5) < limit


@pytest.mark.parametrize("k", [20, 70])
def test_dropout_masks_do_not_repeat_from_block_to_block(k, level):
    """Narrow and wide: 2y of an output y that was kept, and so doubled, is 4, doubled again 8."""
    n = 2100
    layers = [Dense(k, k, weight_init=np.eye(k)), bpcore.Dropout(0.5)]
    layers += [Dense(k, k, weight_init=np.eye(k))]
    net = bpcore.Network(layers, loss=loss_object("mse", reduction="sum"), rng=3)
    x = np.ones((n, k))
    _, _, dx = net.loss_and_gradient(x, np.zeros((n, k)), input_gradient=True, training=True)
    assert set(np.unique(dx)) == {0, 8}
    limit = 6 * 0.5 / np.sqrt(n * k / 2)
    for lag in range(1, 1050):
        assert abs((dx[lag:] == dx[:-lag]).mean() - 0.5) < limit, f"{lag} rows apart"


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_alone(p, dtype, level):
    """Zero or 1/(1-p), the same in both passes, in the right proportion, new at each pass."""
    layer, x = bpcore.Dropout(p, rng=5), np.ones((250, 400), dtype)
    y = layer.forward(x, training=True)
    dropped = y == 0
    np.testing.assert_allclose(y[~dropped], 1 / (1 - p), rtol=np.finfo(dtype).eps)
    deviation = np.sqrt(p * (1 - p) / x.size)
    assert abs(dropped.mean() - p) < 5 * deviation
    for axis in (0, 1):  # no row or column is special: 5.5 deviations of 650 means
        spread = np.sqrt(p * (1 - p) / x.shape[axis])
        assert np.abs(dropped.mean(axis=axis) - p).max() < 5.5 * spread
    np.testing.assert_array_equal(layer.backward(3 * x), 3 * y)
    again = layer.forward(x, training=True) == 0
    assert abs((again & dropped).mean() - p * p) < 5 * np.sqrt(p * p * (1 - p * p) / x.size)
    same = bpcore.Dropout(p, rng=5).forward(x, training=True)
    np.testing.assert_array_equal(same, y)
    np.testing.assert_array_equal(layer.forward(x), x)
    np.testing.assert_array_equal(layer.backward(x), x)


@pytest.mark.parametrize("loss", ["bce", "bce_logits"])
def test_huge_logits_of_sigmoid(loss, dtype, level):
    """Finite and right, where probabilities would have been clipped or have lost their gradient."""
    layers = [Dense(1, 1, weight_init=[[1.0]])] + [bpcore.Sigmoid()] * (loss == "bce")
    net = bpcore.Network(layers, loss=loss_object(loss, reduction="sum"), dtype=dtype)
    z = np.array([1e4, 1e4, -1e4, -1e4, 1e4, 40], dtype)[:, None]
    t = np.array([1, 0, 0, 1, 0.5, 0], dtype)
    losses, slopes = [0, 1e4, 0, 1e4, 5e3, 40], [0, 1, 0, -1, 0.5, 1]
    value, gradient, dx = net.loss_and_gradient(z, t, input_gradient=True)
    eps = float(np.finfo(dtype).eps)
    assert value == net.loss_value(z, t) == pytest.approx(sum(losses), rel=4 * eps)
    np.testing.assert_allclose(dx[:, 0], slopes, rtol=4 * eps)
    np.testing.assert_allclose(gradient, [sum(slopes * z[:, 0]), sum(slopes)], rtol=8 * eps)
    for i, expected in enumerate(losses):
        assert net.loss_value(z[i : i + 1], t[i : i + 1]) == pytest.approx(expected, rel=4 * eps)


@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy_logits"])
def test_huge_logits_of_softmax(loss, dtype, level):
    layers = [Dense(3, 3, weight_init=np.eye(3))] + [bpcore.Softmax()] * (loss == "cross_entropy")
    net = bpcore.Network(layers, loss=loss_object(loss, reduction="sum"), dtype=dtype)
    z = np.array([[1e4, -1e4, 0]] * 3 + [[-1e4] * 3], dtype)
    labels = np.array([0, 1, 2, 1])
    losses = [0, 2e4, 1e4, np.log(3)]
    slopes = [[0, 0, 0], [1, -1, 0], [1, 0, -1], [1 / 3, -2 / 3, 1 / 3]]
    eps = float(np.finfo(dtype).eps)
    for t in (labels, np.eye(3, dtype=dtype)[labels]):
        value, _, dx = net.loss_and_gradient(z, t, input_gradient=True)
        assert value == net.loss_value(z, t) == pytest.approx(sum(losses), rel=4 * eps)
        np.testing.assert_allclose(dx, slopes, rtol=4 * eps)
        for i, expected in enumerate(losses):
            single = net.loss_value(z[i : i + 1], t[i : i + 1])
            assert single == pytest.approx(expected, rel=4 * eps)


def test_targets_in_other_shapes(dtype, rng):
    """One output: (n,) is (n, 1). Labels: (n,), (n, 1) and one-hot rows mean the same."""
    net = network([Dense(3, 1)], rng, dtype=dtype)
    x, t = cases.inputs(rng, 6, 3, dtype), rng.normal(size=6)
    for a, b in zip(net.loss_and_gradient(x, t), net.loss_and_gradient(x, t[:, None]), strict=True):
        np.testing.assert_array_equal(a, b)
    net = network([Dense(3, 4), bpcore.Softmax()], rng, loss="cross_entropy", dtype=dtype)
    t = rng.integers(0, 4, 6)
    expected = net.loss_and_gradient(x, t)
    for same in (t[:, None], t.astype(float), t.tolist(), np.eye(4)[t], np.eye(4, dtype=int)[t]):
        for a, b in zip(net.loss_and_gradient(x, same), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=8 * np.finfo(dtype).eps)


def test_initializer_variances():
    """Mean and variance of 40,000 weights, within six of their standard deviations."""
    n_in, n_out, n = 100, 400, 40_000
    spreads = {n: f(n_in, n_out) for n, f in training.VARIANCES.items()}
    spreads |= {"normal": 1.0, "uniform": 1 / 12}
    means = {"uniform": 0.5}
    assert set(spreads) | {"auto"} == set(bpcore.initializers.INITIALIZERS)
    for name, variance in spreads.items():
        weight = Dense(n_in, n_out, weight_init=name, rng=3).weight
        kurtosis = 1.8 if "uniform" in name else 3.0
        mean = means.get(name, 0.0)
        assert abs(weight.mean() - mean) <= 6 * np.sqrt(variance / n), name
        assert abs(weight.var() - variance) <= 6 * variance * np.sqrt((kurtosis - 1) / n), name
        if "uniform" in name:
            assert np.abs(weight - mean).max() <= np.sqrt(3 * variance) * (1 + 1e-15), name
        elif variance:
            fourth = ((weight - mean) ** 4).mean() / variance**2
            assert abs(fourth - 3) <= 6 * np.sqrt(96 / n), name


def test_auto_initializer_looks_at_what_follows(rng):
    """He before rectifiers and their kin, Glorot before all else."""
    for name in [n for n in cases.ACTIVATIONS if n != "gelu_tanh"]:
        net = bpcore.mlp([50, 800, 1], hidden=name, rng=1)
        limit = np.sqrt(6 / 50 if name in reference.RECTIFIERS else 6 / 850)
        assert 0.999 * limit < np.abs(net.layers[0].weight).max() <= limit, name
