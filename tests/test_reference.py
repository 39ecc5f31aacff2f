"""The oracle is right: finite differences, numbers from PyTorch 2.13, exact decimals."""

import decimal
import itertools

import bounds
import cases
import exact
import numpy as np
import pytest
import reference
import reference_training as training
from reference import Dense, Elementwise, Loss, Mask, Softmax

X = np.array([-3.0, -0.5, 0.25, 2.0])
PYTORCH_ACTIVATIONS = {  # values and derivatives at X
    "relu": ([0, 0, 0.25, 2], [0, 0, 1, 1]),
    "leaky_relu": ([-0.03, -0.005, 0.25, 2], [0.01, 0.01, 1, 1]),
    "sigmoid": (
        [0.04742587317756678, 0.3775406687981454, 0.5621765008857981, 0.8807970779778823],
        [0.04517665973091214, 0.2350037122015945, 0.24613408273759835, 0.10499358540350662],
    ),
    "tanh": (
        [-0.9950547536867305, -0.46211715726000974, 0.24491866240370913, 0.9640275800758169],
        [0.009866037165440166, 0.7864477329659274, 0.940014848806378, 0.07065082485316443],
    ),
    "elu": (
        [-0.950212931632136, -0.3934693402873666, 0.25, 2],
        [0.049787068367863944, 0.6065306597126334, 1, 1],
    ),
    "softplus": (
        [0.04858735157374206, 0.4740769841801067, 0.8259394198788436, 2.1269280110429727],
        [0.04742587317756679, 0.37754066879814546, 0.5621765008857981, 0.8807970779778824],
    ),
    "gelu": (
        [-0.00404969409489031, -0.15426876936299344, 0.14967658142073093, 1.9544997361036416],
        [-0.01194564720418392, 0.13250487534383712, 0.695373354883636, 1.085231801078197],
    ),
    "gelu_tanh": (
        [-0.0036373920817729943, -0.15428599017485606, 0.149675350701685, 1.954597694087775],
        [-0.011584166630969648, 0.13263009646535764, 0.6953540951510604, 1.0860992566236183],
    ),
    "exp": (
        [0.049787068367863944, 0.6065306597126334, 1.2840254166877414, 7.38905609893065],
        [0.049787068367863944, 0.6065306597126334, 1.2840254166877414, 7.38905609893065],
    ),
    "silu": (
        [-0.14227761953270035, -0.1887703343990727, 0.14054412522144952, 1.7615941559557646],
        [-0.08810410601516962, 0.2600388126973482, 0.6237100215701977, 1.0907842487848955],
    ),
}
Z = np.array([[0.3, -1.2, 0.9], [2.0, 0.1, -0.4]])
T = np.array([[1.0, 0.2, 0.0], [0.5, 0.0, 1.0]])
P = np.array([[0.3, 0.6, 0.9], [0.2, 0.1, 0.45]])
Q = np.array([[0.3, 0.6, 0.1], [0.2, 0.35, 0.45]])
LABELS = np.array([2, 0])
PYTORCH_LOSSES = {  # prediction, target, mean, sum, one entry of the gradient of the sum
    "mse": (Z, T, 1.2466666666666664, 7.48, -2.8),
    "mae": (Z, T, 1.0, 6.0, -1.0),
    "huber": (Z, T, 0.485, 2.91, -0.7),  # delta 0.7
    "bce": (P, T, 1.0269857585537097, 6.1619145513222575, 1.6666666666666665),
    "bce_logits": (Z, T, 0.8471885850091904, 5.083131510055142, 0.03147521650098237),
    "cross_entropy": (Q, LABELS, 1.9560115027140728, 3.9120230054281455, 0.0),
    "cross_entropy_logits": (Z, LABELS, 0.36446255901989855, 0.7289251180397971, 0.0732715659835),
    "quantile": (Z, T, 3.2 / 6, 3.2, -0.7),  # by hand, for 0.7
    "poisson": (P, T, 0.9098940969189927, 5.459364581513956, 2 / 3),
    "poisson_log": (Z, T, 2.102533865614516, 12.615203193687094, 0.10119421191220213),
}
GRADIENTS = [[0.5, -2.0], [-0.25, -1.0], [0.125, 0.5], [0.0, 0.75]]
PYTORCH_OPTIMIZERS = [  # (1, -2) after those four steps
    ("sgd", 0.1, {}, [0.9625, -1.825]),
    ("sgd", 0.1, {"momentum": 0.9}, [0.87205, -1.2112]),
    ("sgd", 0.1, {"momentum": 0.9, "nesterov": True}, [0.847345, -1.11508]),
    ("rmsprop", 0.01, {"rho": 0.9}, [0.9755750566939092, -1.9723429991432941]),
    ("adam", 0.05, {"beta_1": 0.8, "beta_2": 0.95}, [0.9119471016995228, -1.871631944335821]),
    ("adamw", 0.05, {"weight_decay": 0.1}, [0.8868324504979435, -1.8239716752600608]),
    ("rprop", 0.1, {}, [0.85, -1.84]),
]


def numeric_gradient(f, x, h=1e-4):
    """Five-point differences; their error is h^4 f^(5) / 30 and 1.5 eps |f| / h."""
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        steps = []
        for k in (1, -1, 2, -2):
            moved = x.copy()
            moved[i] += k * h
            steps.append(f(moved))
        gradient[i] = (8 * (steps[0] - steps[1]) - (steps[2] - steps[3])) / (12 * h)
    return gradient


def assert_is_gradient(gradient, f, x):
    expected = numeric_gradient(f, x)
    size = 1 + np.abs(expected).max() + abs(f(x))
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-10 * size)


def layers_for(rng, hidden, head, widths=(4, 5, 3), size=0.7):
    layers = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [Dense(rng.normal(0, size, (n_in, n_out)), rng.normal(0, 0.5, n_out)), hidden]
    return layers[:-1] + [named(name) for name in head.activations]


def named(name):
    if name == "softmax":
        return Softmax()
    return Elementwise(name, reference.ACTIVATIONS[name].parameter)


def rounded(layers, x, dtype):
    """Forward pass with every layer's output rounded to dtype."""
    values = [x]
    for layer in layers:
        values.append(reference.layer_forward(layer, values[-1]).astype(dtype))
    return values


@pytest.mark.parametrize("name", PYTORCH_ACTIVATIONS)
def test_activation_equals_pytorch(name):
    row = reference.ACTIVATIONS[name]
    for f, expected in zip((row.value, row.derivative), PYTORCH_ACTIVATIONS[name], strict=True):
        np.testing.assert_allclose(f(X, row.parameter), expected, rtol=1e-13)


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_activation_derivative(name):
    row = reference.ACTIVATIONS[name]
    x = np.concatenate([np.linspace(-9, -0.01, 70), np.linspace(0.01, 9, 70)])
    for v in x[:, None]:
        slope = row.derivative(v, row.parameter)
        assert_is_gradient(slope, lambda v: row.value(v, row.parameter).item(), v)


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_activation_curvature_and_jump(name):
    """The constants of the error analysis: right, and not larger than they must be."""
    row = reference.ACTIVATIONS[name]
    for a in {row.parameter, 2 * row.parameter}:
        x = np.linspace(0, 6, 2401)[1:]
        x = np.concatenate([-x[::-1], x])
        steps = np.abs(np.diff(row.derivative(x, a)) / np.diff(x))
        steps[len(steps) // 2] = 0  # across the kink
        bend = row.curvature(x[-1], a)
        assert 0.98 * bend <= max(steps) <= bend * (1 + 1e-9)
        sides = row.derivative(np.array([-1e-9, 0, 1e-9]), a)
        assert abs(sides[2] - sides[0]) == pytest.approx(row.jump(a), abs=1e-8)
        assert sides[1] == pytest.approx(sides[0], abs=1e-8)  # the left side's value


def test_softmax():
    rng = np.random.default_rng(1)
    z, dy = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    y = reference.softmax(z)
    np.testing.assert_allclose(y, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), rtol=1e-14)
    assert_is_gradient(
        reference.softmax_backward(dy, y), lambda v: (dy * reference.softmax(v)).sum(), z
    )


@pytest.mark.parametrize("name", reference.LOSSES)
def test_loss_equals_pytorch(name):
    prediction, target, mean, total, entry = PYTORCH_LOSSES[name]
    value, _ = reference.loss_and_slope(Loss(name, 0.7), prediction, target)
    assert value == pytest.approx(mean, rel=1e-13)
    value, slope = reference.loss_and_slope(Loss(name, 0.7, "sum"), prediction, target)
    assert value == pytest.approx(total, rel=1e-13)
    assert slope[0, 1] == pytest.approx(entry, rel=1e-10)


@pytest.mark.parametrize("reduction", reference.REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", reference.LOSSES)
def test_loss_gradient(name, weighted, reduction):
    rng = np.random.default_rng(2)
    loss = Loss(name, 0.7, reduction)
    p = rng.uniform(0.1, 0.9, (6, 3))
    w = cases.weights(rng, 6, float) if weighted else None
    for labels in (False, True):
        t = cases.targets(rng, name, 6, 3, float, labels)
        _, slope = reference.loss_and_slope(loss, p, t, w)
        assert_is_gradient(slope, lambda v, t=t: reference.loss_and_slope(loss, v, t, w)[0], p)


def test_reductions():
    """Two rows of two outputs with weights 1 and 3, by hand."""
    p, t, w = np.array([[1.0, 2.0], [0.0, 4.0]]), np.zeros((2, 2)), [1.0, 3.0]
    expected = {"mean": (2.5 + 3 * 8) / 4, "sum": 5 + 3 * 16, "sample_mean": (5 + 3 * 16) / 4}
    for reduction, value in expected.items():
        assert reference.loss_and_slope(Loss("mse", 1, reduction), p, t, w)[0] == value
    p, t = np.log([[0.25, 0.75], [0.5, 0.5]]), [0, 1]
    rows = np.log([4, 2])
    expected = {"mean": rows @ w / 4, "sum": rows @ w, "sample_mean": rows @ w / 4}
    for reduction, value in expected.items():
        got = reference.loss_and_slope(Loss("cross_entropy_logits", 1, reduction), p, t, w)[0]
        assert got == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("head", cases.HEADS, ids=str)
def test_network_gradient(head):
    rng = np.random.default_rng(3)
    layers = layers_for(rng, Elementwise("tanh"), head)
    layers.insert(2, Mask(rng.choice([0, 1.25], (6, 5))))
    loss = Loss(head.loss, 0.7)
    x, w = cases.inputs(rng, 6, 4, float), cases.weights(rng, 6, float)
    t = cases.targets(rng, head.loss, 6, 3, float)
    flat = reference.flat(reference.parameters(layers))

    def value(vector=flat, x=x):
        moved = reference.with_parameters(layers, vector)
        return reference.loss_and_gradient(moved, loss, x, t, w, l2=0.1, l1=0.01)[0]

    _, gradient, dx = reference.loss_and_gradient(layers, loss, x, t, w, l2=0.1, l1=0.01)
    assert np.abs(gradient).max() > 0.01 < np.abs(dx).max()
    assert_is_gradient(gradient, value, flat)
    assert_is_gradient(dx, lambda v: value(x=v), x)


def test_fusing_changes_nothing_where_nothing_is_clipped():
    rng = np.random.default_rng(4)
    for activation, loss in reference.FUSED:
        activation = named(activation)
        layers = [Dense(rng.normal(size=(4, 3))), activation]
        x, t = rng.normal(size=(6, 4)), cases.targets(rng, loss, 6, 3, float)
        fused = reference.loss_and_gradient(layers, Loss(loss), x, t)
        plain = reference.loss_and_gradient([*layers, Elementwise("identity")], Loss(loss), x, t)
        for a, b in zip(fused, plain, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name, rate, hyper, expected", PYTORCH_OPTIMIZERS)
def test_optimizer_equals_pytorch(name, rate, hyper, expected):
    p, slots = np.array([1.0, -2.0]), training.initial_slots(name, 2, rate)
    for step, gradient in enumerate(GRADIENTS, start=1):
        p = training.OPTIMIZERS[name](p, np.array(gradient), slots, rate, step, **hyper)
    np.testing.assert_allclose(p, expected, rtol=1e-13)


def test_every_optimizer_is_compared_with_pytorch():
    assert {row[0] for row in PYTORCH_OPTIMIZERS} == set(training.OPTIMIZERS) == set(training.SLOTS)


@pytest.mark.parametrize("name, rate, hyper, expected", PYTORCH_OPTIMIZERS)
def test_optimizer_bounds_hold_and_are_small(name, rate, hyper, expected):
    """Steps in float32 stay within the bounds; an error of one in a thousand does not."""
    rng, u = np.random.default_rng(7), bounds.unit(np.float32)
    p, g = rng.normal(size=(2, 300)).astype(np.float32)
    slots = {slot: (rng.normal(size=300) ** 2).astype(np.float32) for slot in training.SLOTS[name]}
    for step in (1, 3, 1000):
        small, wide = dict(slots), {slot: a.astype(float) for slot, a in slots.items()}
        before = dict(wide)
        got = training.OPTIMIZERS[name](p, g, small, rate, step, **hyper)
        p64, g64 = p.astype(float), g.astype(float)
        wanted = training.OPTIMIZERS[name](p64, g64, wide, rate, step, **hyper)
        e, e_slots = bounds.optimizer_step(name, p64, g64, before, rate, step, u, **hyper)
        bounds.assert_within(got, wanted, e, np.float32, name)
        assert (e <= 1e-3 * (np.abs(p) + np.abs(wanted - p))).all()
        for slot in e_slots:
            bounds.assert_within(small[slot], wide[slot], e_slots[slot], np.float32, slot)
            assert (e_slots[slot] <= 1e-3 * (np.abs(before[slot]) + np.abs(g))).all()


def test_schedules():
    assert [training.step_decay(e, 1.0, 0.5, 2) for e in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    assert [training.exponential_decay(e, 2.0, 0.5) for e in range(3)] == [2, 1, 0.5]
    rates = [training.cosine_decay(e, 3.0, 4, 1.0) for e in range(6)]
    root = np.sqrt(0.5)
    np.testing.assert_allclose(rates, [3, 2 + root, 2, 2 - root, 1, 1], rtol=1e-15)


def test_clip():
    g = np.array([3.0, -4.0])
    np.testing.assert_allclose(training.clip(g, 1.0), [0.6, -0.8], rtol=1e-15)
    assert training.clip(g, 6.0) is g


@pytest.mark.parametrize("name", reference.FUNCTIONS)
def test_exact_functions(name):
    """Long doubles agree with sixty decimal digits."""
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.uniform(-0.9, 30, 40), 10.0 ** rng.uniform(-30, 0, 40), [0.0]])
    if name != "log1p":
        x = np.concatenate([x, -x, rng.uniform(-700, -30, 20)])
    got = exact.function(name, x)
    eps = float(np.finfo(got.dtype).eps)
    for value, argument in zip(got, x, strict=True):
        expected = exact.in_decimals(name, argument)
        high = float(expected)  # compare in two parts: a long double has no exact decimal
        low = float(expected - decimal.Decimal(high))
        # expl(x) of a rounded argument, as in sigmoid, loses |x| roundings.
        assert abs(float(value - high) - low) <= eps * (4 + abs(argument)) * abs(high)


@pytest.mark.parametrize("hidden", cases.ACTIVATIONS)
@pytest.mark.parametrize("head", cases.HEADS, ids=str)
def test_bounds_hold_and_are_small(head, hidden):
    """Layers rounded to float32 stay within the bounds; an error of one in a thousand does not."""
    rng = np.random.default_rng(6)
    u = bounds.unit(np.float32)
    size = 0.2 if hidden == "exp" else 0.7  # it makes an activation behind it saturate
    layers = layers_for(rng, named(hidden), head, size=size)
    vector = reference.flat(reference.parameters(layers)).astype(np.float32).astype(float)
    layers = reference.with_parameters(layers, vector)
    x = cases.inputs(rng, 7, 4, np.float32).astype(float)
    t = cases.targets(rng, head.loss, 7, 3, np.float32)
    loss, w = Loss(head.loss, 0.75), cases.weights(rng, 7, np.float32)
    values = reference.forward(layers, x)
    errors = bounds.forward(layers, values, u)
    small = rounded(reference.with_parameters(layers, vector.astype(np.float32)), x, np.float32)
    bounds.assert_within(small[-1], values[-1], errors[-1], np.float32)
    expected = reference.loss_and_gradient(layers, loss, x, t, w)
    e = bounds.loss_and_gradient(layers, loss, x, t, w, u)
    assert e[0] <= 1e-3 * abs(expected[0])
    for gradient, error in zip(expected[1:], e[1:], strict=True):
        assert error.max() <= 1e-3 * np.abs(gradient).max()
        assert error.min() >= 0
        wrong = gradient.copy()
        wrong.flat[np.abs(gradient).argmax()] *= 1 + 1e-3
        with pytest.raises(AssertionError, match="1 of"):
            bounds.assert_within(wrong, gradient, error, np.float32)
