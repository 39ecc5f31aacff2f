"""Warnings come where something is wrong, their remedies work, and healthy fits get none."""

import itertools
import warnings

import numpy as np
import pytest
from reference_training import SLOTS

import bpcore
from bpcore import health, healthfigures, watch

SIZES = {"float32": 1e-4, "float64": 1e-9}
MEASUREMENTS = np.array([[4, 500, 6], [4, 550, 5.5], [2, 200, 3.5], [2, 250, 4]])
LABELS = np.array([1, 1, 0, 0])


def warned(fit, *arguments, **keywords):
    """Return the warnings of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(*arguments, **keywords)
    return caught


def kinds(caught):
    return [warning.category.__name__ for warning in caught]


def sgd(rate):
    return bpcore.SGD(learning_rate=rate)


def standardise(a):
    return (a - a.mean(axis=0)) / a.std(axis=0)


def perceptron():
    weight = np.random.RandomState(1).random_sample((3, 1))
    dense = bpcore.Dense(3, 1, weight_init=weight, bias=False)
    return bpcore.Network([dense, bpcore.Sigmoid()], loss="mse")


def logarithms(seed, n):
    """Program 3's rows."""
    rng = np.random.default_rng(seed)
    X, beta = rng.standard_normal((n, 5)), rng.standard_normal((5, 1))
    while (bad := (X @ beta <= -20).ravel()).any():
        X[bad] = rng.standard_normal((bad.sum(), 5))
    return X, np.log(X @ beta + 20)


def digits(dtype="float64"):
    from sklearn import datasets

    X, y = datasets.load_digits(return_X_y=True)
    return (X / 16).astype(dtype), y


# ---------------------------------------------------------------- the right ones


def original(seed):
    """Program 3's network from its original start."""
    net = bpcore.mlp([5, 4, 4, 1], rng=seed)
    net.parameters[:] = np.random.default_rng(seed).standard_normal(net.parameters.size)
    return net


def dead_shares(net, X):
    """Of each ReLU, by the layers alone."""
    shares = {}
    for name, layer in zip(net.names, net.layers, strict=True):
        X = layer.forward(X)
        if isinstance(layer, bpcore.ReLU):
            shares[name] = (X <= 0).all(axis=0).mean()
    return shares


def test_dead_units_of_one_row_at_a_time():
    """Whether a network dies depends on its start: all are warned of, and no other is."""
    one_row = {"epochs": 501, "batch_size": 1, "sampling": "sequential"}
    n_dead = 0
    for seed in range(20):
        X, y = logarithms(seed, 90)
        net = original(seed)
        try:
            caught = warned(net.fit, X, y, optimizer=sgd(0.1), **one_row)
        except bpcore.DivergenceError:
            continue
        shares = dead_shares(net, X)
        learnt = net.loss_value(X, y) < 0.5 * np.var(y)
        expected = max(shares.values()) >= 0.5 and not learnt
        assert kinds(caught) == ["DeadUnitsWarning"] * int(expected)
        if max(shares.values()) == 1:
            n_dead += 1
            place = max(shares, key=shares.get)
            text = str(caught[0].message)
            assert f"100% of the units of layer {place} (ReLU)" in text
            assert "he_normal" in text and "zero biases" in text
            assert "smaller learning_rate" in text and "standardised target" in text
    assert n_dead >= 5


@pytest.mark.parametrize("seed", range(10))
def test_the_remedy_for_dead_units(seed):
    """He's weights and zero biases, which a ReLU gets by itself, a smaller rate, another target."""
    X, y = logarithms(seed, 90)
    net = bpcore.mlp([5, 4, 4, 1], rng=seed)
    one_row = {"epochs": 501, "batch_size": 1, "sampling": "sequential"}
    assert not warned(net.fit, X, standardise(y), optimizer=sgd(0.01), **one_row)
    assert net.loss_value(X, standardise(y)) < 0.1


def test_unscaled_inputs_saturate_a_perceptron():
    caught = warned(
        perceptron().fit, MEASUREMENTS, LABELS, epochs=10, batch_size=None, optimizer=sgd(1.0)
    )
    assert kinds(caught) == ["UnscaledInputWarning", "SaturationWarning"]
    scale, flat = (str(warning.message) for warning in caught)
    assert "1 of 3 inputs" in scale and "column 1 (mean 375" in scale and "Standardise" in scale
    assert "100% of the outputs of layer 1 (Sigmoid)" in flat and "Standardise" in flat
    assert {warning.filename for warning in caught} == {__file__}

    net = perceptron()
    keywords = {"epochs": 10, "batch_size": None, "optimizer": sgd(1.0)}
    assert not warned(net.fit, standardise(MEASUREMENTS), LABELS, **keywords)
    assert ((net.predict(standardise(MEASUREMENTS)).ravel() > 0.5) == LABELS).all()


@pytest.mark.parametrize("start", ["uniform", "glorot_uniform"])
@pytest.mark.parametrize("seed", range(5))
def test_unscaled_inputs_saturate_a_hidden_layer(seed, start):
    net = bpcore.mlp([3, 4, 1], hidden="sigmoid", output="sigmoid", rng=seed)
    if start == "uniform":
        net.parameters[:] = np.random.RandomState(seed).random_sample(net.parameters.size)
    X = MEASUREMENTS
    caught = warned(net.fit, X, LABELS, epochs=10, batch_size=None, optimizer=sgd(1.0))
    assert kinds(caught) == ["UnscaledInputWarning", "SaturationWarning"]
    assert "layer 1 (Sigmoid)" in str(caught[1].message)


def test_saturated_by_large_weights():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 100))
    y = np.sign(X[:, 0])
    net = bpcore.mlp([100, 20, 1], hidden="tanh", rng=0)
    net[0].weight = rng.standard_normal((100, 20))  # not over the root of 100
    (only,) = warned(net.fit, X, y, epochs=10, optimizer=sgd(0.001))
    assert only.category is bpcore.SaturationWarning
    assert "glorot_uniform" in str(only.message) and "layer 1 (Tanh)" in str(only.message)
    net = bpcore.mlp([100, 20, 1], hidden="tanh", rng=0)
    assert not warned(net.fit, X, y, epochs=10, optimizer=sgd(0.001))


@pytest.mark.parametrize("epochs, expected", [(1, 0), (10, 1)])
def test_half_dead_is_early_to_say_at_first(epochs, expected, rng):
    """Half of all ReLUs answer 0 to positive inputs at first; an epoch says nothing about them."""
    X = rng.uniform(1, 2, (100, 1))
    net = bpcore.mlp([1, 10, 1], rng=0)
    net[0].weight = np.repeat([1.0, -1.0], [4, 6]).reshape(1, 10)
    caught = warned(net.fit, X, rng.standard_normal(100), epochs=epochs, optimizer=sgd(1e-3))
    assert kinds(caught) == ["DeadUnitsWarning"] * expected
    assert not expected or "60% of the units of layer 1 (ReLU)" in str(caught[0].message)


def test_silent_on_the_sample_is_not_dead():
    """A unit that answers a few rows only, which a sample misses, is alive."""
    X = -np.ones((20_000, 1))
    X[::2] = -0.5
    X[np.random.default_rng(0).permutation(20_000)[:600]] = 1.0
    X[np.arange(watch.MOST_ROWS) * 20_000 // watch.MOST_ROWS] = [[-1.0], [-0.5]] * 128
    net = bpcore.mlp([1, 4, 1], rng=0)
    net[0].weight = np.ones((1, 4))
    look = watch.Watch(net, (X, X, None, None), 1)
    rows = look._sample(look.n_rows)
    values = healthfigures.values_of(net, rows.X)
    inputs = look.look_at_inputs()
    assert health.judge_units(net, values, rows, inputs)
    assert not look._surely(values, 0.0)


@pytest.mark.parametrize(
    "column",
    [
        np.linspace(0, 255, 50),
        np.linspace(1990, 2020, 50),
        10 + 0.1 * np.sin(np.arange(50)),
        1e-4 * np.sin(np.arange(50)),
        8e-3 * np.sin(np.arange(50)),
    ],
    ids=["large", "years", "offset", "small", "hundredths"],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_unscaled_columns(column, dtype, rng):
    X = rng.standard_normal((50, 3))
    X[:, 2] = column
    net = bpcore.mlp([3, 2, 1], hidden="tanh", rng=0, dtype=dtype)
    y = X[:, 0]
    caught = warned(net.fit, X, y, optimizer=sgd(1e-6))
    assert "UnscaledInputWarning" in kinds(caught)
    assert "column 2" in str(caught[0].message) and "column 0" not in str(caught[0].message)
    again = bpcore.mlp([3, 2, 1], hidden="tanh", rng=0, dtype=dtype)
    assert not warned(again.fit, standardise(X), y, optimizer=sgd(1e-6))


def test_pixels_up_to_255():
    X, y = digits()
    net = bpcore.mlp([64, 10], output="softmax", loss="cross_entropy", rng=0)
    caught = warned(net.fit, X * 255, y, optimizer="adam")
    assert kinds(caught) == ["UnscaledInputWarning"]


def test_steps_too_short():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 4))
    y = X @ [1.0, -1.0, 0.5, 2.0]

    def train(rate):
        net = bpcore.mlp([4, 8, 1], hidden="tanh", rng=1)
        return kinds(warned(net.fit, X, y, epochs=50, optimizer=sgd(rate)))

    assert train(1e-9) == ["StalledWarning"]
    assert train(1e-2) == []


def test_vanishing_gradient():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 4))
    y = np.sign(X[:, 0] * X[:, 1])

    def train(hidden):
        net = bpcore.mlp([4, *[8] * 12, 1], hidden=hidden, rng=1)
        keywords = {"epochs": 60, "batch_size": None, "optimizer": sgd(0.1)}
        return warned(net.fit, X, y, **keywords)

    (only,) = train("sigmoid")
    assert only.category is bpcore.StalledWarning
    assert "layer 0" in str(only.message) and "he_normal" in str(only.message)
    assert train("relu") == []


def test_dropout_tells_alike_units_apart(rng):
    """It drops some and not others, so their gradients differ."""
    X, y = rng.standard_normal((50, 3)), rng.standard_normal(50)
    for p, told in ((0.5, False), (0.0, True)):
        layers = [bpcore.Dense(3, 4), bpcore.Tanh(), bpcore.Dropout(p), bpcore.Dense(4, 1)]
        net = bpcore.Network(layers, rng=1)
        for layer in (net[0], net[3]):
            layer.weight = np.full(layer.weight.shape, 0.5)
        assert any("alike" in str(finding) for finding in net.health(X, y).findings) == told
        net.fit(X, y, epochs=3, health=False)
        assert (net[0].weight.std(axis=1).max() == 0) == told


@pytest.mark.parametrize("hidden", ["tanh", "sigmoid", "gelu", "softplus"])
@pytest.mark.parametrize("start", ["zeros", "ones"])
def test_units_that_are_all_alike(hidden, start, rng):
    """Equal units get equal gradients: they learn no more than one of them would."""
    X = rng.standard_normal((200, 4))
    y = np.sign(X[:, 0] * X[:, 1])

    def make(start):
        net = bpcore.mlp([4, 8, 8, 1], hidden=hidden, rng=1)
        for layer in (net[0], net[2], net[4]):
            if start != "auto":
                layer.weight = np.full(layer.weight.shape, 0.1 * (start == "ones"))
        return net

    adam = {"epochs": 60, "optimizer": bpcore.Adam(learning_rate=0.01)}
    net = make(start)
    (only,) = warned(net.fit, X, y, **adam)
    assert only.category is bpcore.StalledWarning
    assert "100% of the units of layer 0 (Dense)" in str(only.message)
    assert "layer 2 (Dense)" in str(only.message) and "'auto'" in str(only.message)
    (finding,) = net.health(X, y).findings
    assert finding.text == str(only.message)
    net = make("auto")
    assert not warned(net.fit, X, y, **adam) and net.health(X, y).ok
    assert not warned(make(start).fit, X, y, epochs=2)  # it has hardly begun


@pytest.mark.parametrize("p", [0.0, 0.5])
@pytest.mark.parametrize("start", [0.0, 0.5])
@pytest.mark.parametrize("hidden", [bpcore.Tanh, bpcore.Sigmoid])
def test_dropout_tells_units_apart_that_are_alike(hidden, start, p, rng):
    """Each unit is dropped in other rows; only zeros that meet zeros stay what they are."""
    X = rng.standard_normal((64, 3))
    y = np.sign(X[:, 0] * X[:, 1])
    sizes = ((3, 4), (4, 1))
    below, above = (bpcore.Dense(*n, weight_init=np.full(n, start)) for n in sizes)
    net = bpcore.Network([below, hidden(), bpcore.Dropout(p), above], rng=0)
    told = [f.category for f in net.health(X, y).findings] == [bpcore.StalledWarning]
    net.fit(X, y, epochs=3, health=False)
    weights = (below.weight.T, above.weight)
    assert told == all(np.ptp(w, axis=0).max() < 1e-12 for w in weights)
    assert told == (p == 0 or (start == 0 and hidden is bpcore.Tanh))


def test_of_inputs_that_do_not_vary_no_units_are_judged():
    """`fit` and `health` agree: such rows tell nothing of the units."""
    X, y = np.ones((64, 3)), np.tile([0.0, 1.0], 32)
    net = bpcore.mlp([3, 4, 1], hidden="tanh")
    net.parameters[:] = 0
    caught = warned(net.fit, X, y, epochs=20, optimizer=sgd(1e-3))
    assert kinds(caught) == [] and net.health(X, y).ok


def test_divergence_names_unscaled_inputs():
    X = np.column_stack([np.linspace(0, 1000, 20), np.linspace(0, 1, 20)])
    net = bpcore.mlp([2, 1], rng=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(bpcore.DivergenceError, match="column 0") as caught:
            net.fit(X, X[:, 1], epochs=1000, optimizer=sgd(0.1))
    error = caught.value
    assert error.learning_rate == 0.1 and error.epoch >= 0 and error.batch == 0
    assert np.isfinite(net.parameters).all()


# ---------------------------------------------------------------- none


@pytest.mark.parametrize("seed", range(3))
def test_digits(seed):
    X, y = digits()
    net = bpcore.mlp([64, 64, 10], output="softmax", loss="cross_entropy", rng=seed)
    assert not warned(net.fit, X, y, epochs=20, optimizer="adam")
    assert net.health(X, y).ok


DATA = {
    "one_hot": lambda rng: np.eye(200)[rng.integers(0, 200, 400)],
    "sparse": lambda rng: (rng.random((400, 50)) < 0.01) * rng.standard_normal((400, 50)),
    "pixels": lambda rng: rng.random((400, 30)) ** 4,
    "edges": lambda rng: np.column_stack(
        [rng.random((400, 9)), (rng.random((400, 9)) < 0.05) * 2e-4, 1 - 0.01 * rng.random(400)]
    ),
    "constant": lambda rng: np.column_stack([np.ones(400), rng.standard_normal((400, 2))]),
    "zeros": lambda rng: np.zeros((400, 3)),
    "one_row": lambda rng: np.array([[4, 500, 6.0]]),
    "two_rows": lambda rng: rng.standard_normal((2, 3)),
    "uniform": lambda rng: rng.uniform(0, 6, (400, 4)),
}


@pytest.mark.parametrize("hidden", ["relu", "tanh", "sigmoid", "gelu", "elu", "softplus"])
@pytest.mark.parametrize("kind", DATA)
def test_sound_data(kind, hidden, rng):
    X = DATA[kind](rng)
    for epochs, n_out in itertools.product((1, 30), (1, 3)):
        y = rng.standard_normal((len(X), n_out))
        net = bpcore.mlp([X.shape[1], 16, n_out], hidden=hidden, rng=0)
        assert not kinds(warned(net.fit, X, y, epochs=epochs, optimizer=sgd(0.001)))


@pytest.mark.parametrize("hidden", ["sigmoid", "tanh", "relu"])
def test_saturated_units_that_have_learnt(hidden):
    """Units that saturate because they have learnt a step are as they should be."""
    X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]] * 8)
    y = X[:, 0] != X[:, 1]
    net = bpcore.mlp([2, 8, 1], hidden=hidden, output="sigmoid", rng=0)
    adam = bpcore.Adam(learning_rate=0.1)
    assert not warned(net.fit, X, y, epochs=2000, optimizer=adam)
    assert net.loss_value(X, y) < 1e-3


def test_a_second_fit_at_the_optimum_has_not_stalled(rng):
    X, y = rng.standard_normal((100, 3)), rng.standard_normal(100)
    net = bpcore.mlp([3, 1], rng=0)
    for _ in range(2):
        net._unwatched = 0.0  # as if it had trained for long
        assert not warned(net.fit, X, y, epochs=300, batch_size=None, optimizer=sgd(0.1))


def test_outputs_at_the_end_where_the_loss_wants_them(rng):
    """A sigmoid has no better answer than 0 to targets of mean 0."""
    X = rng.standard_normal((200, 3))
    y = rng.standard_normal((200, 2)) - 0.1
    net = bpcore.mlp([3, 2], output="sigmoid", rng=0)
    net[0].bias = [-20.0, -20.0]
    assert not warned(net.fit, X, y, epochs=20, optimizer=sgd(0.1))
    net = bpcore.mlp([3, 2], output="sigmoid", rng=0)
    net[0].bias = [-20.0, -20.0]
    assert kinds(warned(net.fit, X, y + 1, epochs=20, optimizer=sgd(0.1))) == ["SaturationWarning"]


@pytest.mark.parametrize("loss, expected", [("mse", ["SaturationWarning"]), ("bce", [])])
def test_saturation_before_cross_entropy_does_no_harm(loss, expected, rng):
    X = rng.standard_normal((200, 3))
    net = bpcore.mlp([3, 1], output="sigmoid", loss=loss, rng=0)
    net[0].bias = [40.0]
    y = np.zeros(200)
    y[:90] = 1
    assert kinds(warned(net.fit, X, y, epochs=10, optimizer=sgd(0.01))) == expected
    rows = healthfigures.Rows(X, y.reshape(-1, 1))
    _, gradient = healthfigures.gradients_of(net, healthfigures.values_of(net, X), rows)
    np.testing.assert_allclose(gradient, net.loss_and_gradient(X, y)[1], atol=1e-9)


# ---------------------------------------------------------------- nothing else changes


@pytest.mark.parametrize("optimizer", SLOTS)
@pytest.mark.parametrize("sampling", ["shuffle", "sequential", "replacement"])
def test_same_bits(optimizer, sampling, dtype, rng):
    X, y = rng.standard_normal((70, 5)), rng.integers(0, 3, 70)
    states = []
    for on in (True, False):
        layers = [bpcore.Dense(5, 8), bpcore.ReLU(), bpcore.Dropout(0.3), bpcore.Dense(8, 3)]
        loss = bpcore.CategoricalCrossEntropy(from_logits=True)
        net = bpcore.Network(layers, loss=loss, dtype=dtype.name, rng=5, l2=0.01)
        for _ in range(2):
            net.fit(X, y, epochs=7, batch_size=8, optimizer=optimizer, sampling=sampling, health=on)
            net._unwatched = 0.0
        states.append((net.parameters.tobytes(), net.gradients.tobytes(), net.rng.random()))
    assert states[0] == states[1]


def test_a_report_changes_nothing(rng):
    X, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    net = bpcore.Network([bpcore.Dense(3, 4), bpcore.Dropout(0.5), bpcore.Dense(4, 2)], rng=0)
    net.fit(X, y, optimizer="adam")
    net.forward(X)
    before = net.gradients.copy(), net.parameters.copy(), str(net.rng.bit_generator.state)
    slots = [slot.copy() for slot in net.optimizer.state(net).slots]
    net.health(X[:3], y[:3])
    after = net.gradients.copy(), net.parameters.copy(), str(net.rng.bit_generator.state)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(map(np.array_equal, slots, net.optimizer.state(net).slots))
    net.backward(np.ones((20, 2)))  # of the forward pass from before


def test_no_looks_without_health(monkeypatch, rng):
    monkeypatch.setattr(watch.Watch, "__init__", None)
    net = bpcore.mlp([2, 1], rng=0)
    net.fit(MEASUREMENTS[:, :2], LABELS, optimizer=sgd(1e-9), health=False)
    with pytest.raises(TypeError, match="health"):
        net.fit(MEASUREMENTS[:, :2], LABELS, health="yes")


def test_later_fits_are_looked_at_when_that_is_cheap(monkeypatch):
    net = bpcore.mlp([3, 1], rng=0)
    X, y, slow = MEASUREMENTS, LABELS, sgd(1e-9)
    assert kinds(warned(net.fit, X, y, optimizer=slow)) == ["UnscaledInputWarning"]
    assert net._unwatched > 0
    assert not warned(net.fit, X, y, optimizer=slow)
    net._unwatched = 1e-9
    assert kinds(warned(net.fit, X, y, optimizer=slow)) == ["UnscaledInputWarning"]


@pytest.mark.parametrize("rows", [None, "held out"])
def test_layouts(rows, rng):
    """Columns of Fortran order, swapped bytes, and rows held out."""
    X = np.asfortranarray(rng.standard_normal((300, 4)) * [1, 1, 1, 300]).astype(">f8")[::2]
    net = bpcore.mlp([4, 3, 1], hidden="tanh", rng=0)
    share = 0.0 if rows is None else 0.5
    weight = np.arange(150.0)
    caught = warned(
        net.fit, X, X[:, 0], sample_weight=weight, validation_fraction=share, optimizer=sgd(1e-3)
    )
    assert "column 3" in str(caught[0].message)


# ---------------------------------------------------------------- the figures


@pytest.mark.parametrize(
    "output, loss",
    [
        ("identity", "mse"),
        ("sigmoid", "bce"),
        ("softmax", "cross_entropy"),
        ("identity", "mae"),
        ("softmax", "mse"),
        ("sigmoid", "huber"),
        ("identity", "cross_entropy_logits"),
    ],
)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_are_those_of_the_network(output, loss, reduction, dtype, rng):
    loss = bpcore.losses.LOSSES[loss](reduction=reduction)
    net = bpcore.mlp(
        [4, 6, 5, 3],
        hidden="tanh",
        output=output,
        loss=loss,
        dtype=dtype.name,
        rng=0,
        l2=0.1,
        l1=0.01,
    )
    X = rng.standard_normal((9, 4)).astype(dtype)
    y = np.eye(3)[rng.integers(0, 3, 9)].astype(dtype)
    weight = rng.uniform(0.1, 2, 9).astype(dtype)
    rows = healthfigures.Rows(X, y, weight)
    values = healthfigures.values_of(net, X)
    np.testing.assert_allclose(values[-1], net.predict(X), rtol=SIZES[dtype.name])
    _, gradient = healthfigures.gradients_of(net, values, rows)
    _, expected = net.loss_and_gradient(X, y, sample_weight=weight)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=SIZES[dtype.name])


def test_update_ratio_is_that_of_the_next_step(rng):
    X, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    for optimizer in ("sgd", "adam", "rprop"):
        net = bpcore.mlp([3, 4, 2], rng=0)
        net.fit(X, y, optimizer=optimizer)
        report = net.health(X, y)
        before = net[2].weight.copy()
        net.loss_and_gradient(X, y)
        net.optimizer.step(net)
        expected = np.linalg.norm(net[2].weight - before) / np.linalg.norm(before)
        assert report.layers["2"].update_ratio == pytest.approx(expected, rel=1e-9)
        assert np.isnan(report.layers["1"].update_ratio)


def test_report():
    weight, bias = [[1.0, 1.0, -1.0, 1.0]], [0.0, -9.0, -9.0, 2.0]
    layers = [("first", bpcore.Dense(1, 4, weight_init=weight, bias_init=bias)), bpcore.ReLU()]
    net = bpcore.Network([*layers, bpcore.Dense(4, 1), bpcore.Tanh()], rng=0)
    X = np.array([[-1.0], [0.0], [1.0]])
    report = net.health(X, [0.0, 1.0, 0.0])
    assert list(report.layers) == ["first", "1", "2", "3"]
    relu = report.layers["1"]
    assert relu.dead == 0.5 and np.isnan(relu.saturated) and relu.units == 4
    hidden = np.maximum(X @ net[0].weight + net[0].bias, 0)
    assert relu.mean == pytest.approx(hidden.mean()) and relu.std == pytest.approx(hidden.std())
    assert report.layers["3"].saturated == 0 and np.isnan(report.layers["3"].dead)
    assert report.loss_ratio == pytest.approx(net.loss_value(X, [0.0, 1.0, 0.0]) / (2 / 9))
    assert not report.ok and report.findings[0].category is bpcore.DeadUnitsWarning
    assert "50% of the units of layer 1 (ReLU)" in str(report)
    assert max(map(len, str(report).splitlines())) <= 80
    assert "DeadUnitsWarning" in repr(report)


def test_report_as_a_frame():
    frame = bpcore.mlp([2, 3, 1], rng=0).health(np.eye(2), [0.0, 1.0]).to_frame()
    assert list(frame["layer"]) == ["0", "1", "2"]
    assert list(frame["units"]) == [3, 3, 1]
    assert {"dead", "saturated", "mean", "std", "gradient_std", "update_ratio"} <= set(frame)


def test_report_refuses_what_is_wrong():
    net = bpcore.mlp([2, 1], rng=0)
    with pytest.raises(bpcore.ShapeError):
        net.health(np.ones((3, 3)))
    with pytest.raises(bpcore.ShapeError):
        net.health(np.ones((0, 2)))
    with pytest.raises(bpcore.ShapeError):
        net.health(np.ones((3, 2)), np.ones(2))


@pytest.mark.parametrize("size", [1e150, 1e300])
def test_huge_numbers_are_no_trouble(size):
    net = bpcore.mlp([2, 3, 1], rng=0)
    assert not net.health(size * np.eye(2)).ok


@pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
def test_loss_ratio_leaves_out_the_entropy_of_the_target(loss):
    X = np.array([[0.0], [1.0]])
    y = np.array([[0.1, 0.9], [0.9, 0.1]])
    output = "sigmoid" if loss == "bce" else "softmax"
    net = bpcore.mlp([1, 2], output=output, loss=loss, rng=0)
    z = np.log(y / (1 - y)) / (1 if loss == "bce" else 2)
    net[0].weight, net[0].bias = z[1:] - z[:1], z[0]
    np.testing.assert_allclose(net.predict(X), y)
    assert abs(net.health(X, y).loss_ratio) < 1e-12
    net[0].weight, net[0].bias = np.zeros((1, 2)), np.zeros(2)
    assert net.health(X, y).loss_ratio == pytest.approx(1)


def test_a_wide_network_is_looked_at_on_few_rows(rng):
    X = rng.standard_normal((300, 2**17))
    net = bpcore.mlp([2**17, 2], rng=0)
    look = watch.Watch(net, (X, X[:, :2], None, None), 100)
    assert look.n_rows == 2**22 // 2**17
    assert watch.Watch(net, (X, X[:, :2], None, None), 1).n_rows == 7


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_gives_nan_is_not_healthy(value):
    net = bpcore.mlp([2, 3, 1], hidden="tanh", rng=0)
    net.layers[2].weight[0] = value
    report = net.health(np.random.default_rng(0).normal(size=(20, 2)), np.ones(20))
    assert not report.ok
    (finding,) = report.findings
    assert finding.text.startswith("layer 2 (Dense) gives nan or infinities for 20 of 20 rows")
