"""net.fit against the oracle's loop: the same batches, the same steps, the same recorded losses."""

import copy
import functools
import math

import bounds
import cases
import numpy as np
import pytest
import reference
import reference_training as training
from agreement import activation, loss_object, network

import bpcore
from bpcore import Dense

EPOCHS = 100
N = 50

# What differs from BASE in each case.
BASE = {
    "hidden": "tanh",
    "head": cases.Head((), "mse"),
    "reduction": "mean",
    "optimizer": "sgd",
    "hyper": {},
    "rate": 0.05,
    "batch_size": 7,
    "sampling": "shuffle",
    "weighted": False,
    "clip": None,
    "l2": 0.0,
    "l1": 0.0,
    "n": N,
}
STEP, EXPONENTIAL = ("StepDecay", 0.1, 0.5, 30), ("ExponentialDecay", 0.1, 0.98)
CASES = {
    "sgd": {},
    "momentum": {"hyper": {"momentum": 0.9}, "rate": 0.01},
    "nesterov": {"hyper": {"momentum": 0.9, "nesterov": True}, "rate": 0.01},
    "rmsprop": {"optimizer": "rmsprop", "rate": 0.002},
    "adam": {"optimizer": "adam", "rate": 0.005},
    "adam settings": {"optimizer": "adam", "rate": 0.005, "hyper": {"beta_1": 0.5, "beta_2": 0.9}},
    "adamw": {"optimizer": "adamw", "rate": 0.005, "hyper": {"weight_decay": 0.1}},
    "rprop": {"optimizer": "rprop", "batch_size": None},
    "one row": {"batch_size": 1, "rate": 0.01},
    "one row, sigmoid": {"batch_size": 1, "rate": 0.01, "head": cases.Head(("sigmoid",), "mse")},
    "one row, classes": {
        "batch_size": 1,
        "rate": 0.01,
        "head": cases.Head((), "cross_entropy_logits"),
    },
    "half": {"batch_size": 25},
    "all but one": {"batch_size": N - 1},
    "all by number": {"batch_size": N},
    "more than all": {"batch_size": N + 14},
    "all": {"batch_size": None},
    "blocks of a batch": {"n": 2500, "batch_size": 1100, "weighted": True},
    "two rows": {"n": 2, "batch_size": 1},
    "a single row": {"n": 1},
    "sequential": {"sampling": "sequential"},
    "sequential, one row": {"sampling": "sequential", "batch_size": 1, "rate": 0.01},
    "sequential, all": {"sampling": "sequential", "batch_size": None},
    "replacement": {"sampling": "replacement"},
    "replacement, one row": {"sampling": "replacement", "batch_size": 1, "rate": 0.01},
    "replacement, n": {"sampling": "replacement", "batch_size": N},
    "step decay": {"rate": STEP},
    "exponential decay": {"rate": EXPONENTIAL},
    "cosine decay": {"rate": ("CosineDecay", 0.1, EPOCHS)},
    "callable rate": {"rate": lambda epoch: 0.1 / (1 + epoch)},
    "adam with decay": {"optimizer": "adam", "rate": ("ExponentialDecay", 0.01, 0.97)},
    "weighted": {"weighted": True},
    "weighted sum": {"weighted": True, "reduction": "sum", "rate": 0.001},
    "weighted, all": {"weighted": True, "batch_size": None},
    "weighted sample_mean": {"weighted": True, "reduction": "sample_mean", "rate": 0.02},
    "weighted replacement": {"weighted": True, "sampling": "replacement"},
    "sum": {"reduction": "sum", "rate": 0.001},
    "sum, all": {"reduction": "sum", "rate": 0.0005, "batch_size": None},
    "clip": {"clip": 0.3},
    "clip with penalty": {"clip": 0.3, "l2": 0.1, "l1": 0.01},
    "clip, adam": {"clip": 0.1, "optimizer": "adam", "rate": 0.005},
    "clip that never acts": {"clip": 1e6},
    "l2": {"l2": 0.05},
    "l1": {"l1": 0.01},
    "l1 and l2, weighted": {"l1": 0.01, "l2": 0.05, "weighted": True},
    "l2, sum": {"l2": 0.05, "reduction": "sum", "rate": 0.001},
    "adamw with l2": {"optimizer": "adamw", "l2": 0.05, "rate": 0.005},
}
CASES |= {f"hidden {name}": {"hidden": name} for name in cases.ACTIVATIONS}
CASES |= {f"head {head}": {"head": head, "rate": 0.02} for head in cases.HEADS}
CASES |= {
    f"labels {head}": {"head": head, "labels": True}
    for head in cases.HEADS
    if head.loss in reference.TAKES_LABELS
}


def build(case):
    """The network, the data and the keywords of fit."""
    rng = np.random.default_rng(11)
    layers = [Dense(4, 6), activation(case["hidden"]), Dense(6, 3)]
    layers += map(activation, case["head"].activations)
    loss = loss_object(case["head"].loss, reduction=case["reduction"])
    net = network(layers, rng, loss=loss, l2=case["l2"], l1=case["l1"])
    x = cases.inputs(rng, case["n"], 4, float)
    y = cases.targets(rng, case["head"].loss, case["n"], 3, float, case.get("labels", False))
    w = cases.weights(rng, case["n"], float) + 0.01 if case["weighted"] else None
    rate = case["rate"]
    rate = getattr(bpcore, rate[0])(*rate[1:]) if isinstance(rate, tuple) else rate
    kind = type(bpcore.optimizers.get(case["optimizer"]))
    made = kind(learning_rate=rate, **case["hyper"])
    keywords = {key: case[key] for key in ("batch_size", "sampling")} | {"epochs": EPOCHS}
    keywords |= {"sample_weight": w, "gradient_clip": case["clip"], "optimizer": made}
    return net, x, y, keywords


def rates(case):
    rate = case["rate"]
    if isinstance(rate, tuple):
        formula = {
            "StepDecay": training.step_decay,
            "ExponentialDecay": training.exponential_decay,
            "CosineDecay": training.cosine_decay,
        }[rate[0]]
        return [formula(epoch, *rate[1:]) for epoch in range(EPOCHS)]
    return [rate(epoch) if callable(rate) else rate for epoch in range(EPOCHS)]


@functools.cache
def expected(name):
    """What the oracle makes of the case: parameters, losses, slots, generator's state."""
    case = BASE | CASES[name]
    net, x, y, keywords = build(case)
    rng = copy.deepcopy(net.rng)
    layers, losses, slots = training.fit(
        reference.layers_of(net),
        reference.loss_of(net),
        x,
        y,
        optimizer=case["optimizer"],
        rates=rates(case),
        rng=rng,
        batch_size=case["batch_size"],
        sampling=case["sampling"],
        sample_weight=keywords["sample_weight"],
        gradient_clip=case["clip"],
        l2=case["l2"],
        l1=case["l1"],
        **case["hyper"],
    )
    return reference.flat(reference.parameters(layers)), losses, slots, rng.bit_generator.state


def assert_close(got, wanted, what):
    """To 1e-9 of the largest entry: a hundred epochs of float64 roundings."""
    wanted = np.asarray(wanted)
    atol = 1e-9 * np.abs(wanted).max()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=atol, err_msg=what)


@pytest.mark.parametrize("name", CASES)
def test_fit(name, level):
    case = BASE | CASES[name]
    net, x, y, keywords = build(case)
    before = x.copy(), y.copy(), net.parameters.copy()
    history = net.fit(x, y, **keywords)
    parameters, losses, slots, state = expected(name)
    assert_close(history["loss"], losses, "losses")
    assert_close(net.parameters, parameters, "parameters")
    assert_close(history["learning_rate"], rates(case), "rates")
    made = keywords["optimizer"]
    for slot, a in zip(made.slot_names, made.state(net).slots, strict=True):
        assert_close(a, slots[slot], slot)
    assert net.rng.bit_generator.state == state, "another number of random numbers was drawn"
    assert len(history) == EPOCHS == len(history["epoch"])
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])
    assert np.abs(net.parameters - before[2]).max() > 1e-3, "nothing was trained"


def test_the_cases_are_not_the_same():
    """What a case changes does change the result."""
    same = {"all by number", "more than all", "all", "sequential, all", "clip that never acts"}
    same |= {"hidden tanh", "weighted sample_mean"}
    results = {name: expected(name)[0] for name in CASES if name not in same}
    results = {name: p for name, p in results.items() if not name.startswith(("head", "labels"))}
    names = list(results)
    for i, a in enumerate(names):
        for b in names[:i]:
            p, q = results[a], results[b]
            assert p.shape != q.shape or np.abs(p - q).max() > 1e-6, (a, b)
    np.testing.assert_array_equal(expected("all")[0], expected("more than all")[0])
    np.testing.assert_array_equal(expected("clip that never acts")[0], expected("sgd")[0])


GENERATORS = [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox]
GENERATORS += [np.random.SFC64]


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
def test_batches_come_from_the_generator(kind, sampling):
    """The order of rows is that of NumPy's methods, for every bit generator; then both go on alike.

    301 different rows in batches of 3: another order would give other weights.
    """
    n, epochs = 301, 3
    rng = np.random.Generator(kind(99))
    net = network([Dense(n, 1)], rng, loss=bpcore.MeanSquaredError(reduction="sum"))
    oracle = copy.deepcopy(net.rng)
    layers = reference.layers_of(net)
    x, y = np.eye(n) + 0.01 * np.arange(n), np.arange(n)[:, None] / n
    made = bpcore.SGD(learning_rate=1e-5)
    net.fit(x, y, epochs=epochs, batch_size=3, sampling=sampling, optimizer=made)
    layers, _, _ = training.fit(
        layers, reference.loss_of(net), x, y, optimizer="sgd", rates=[1e-5] * epochs, rng=oracle,
        batch_size=3, sampling=sampling,
    )  # fmt: skip
    assert_close(net.parameters, reference.flat(reference.parameters(layers)), "parameters")
    a, b = net.rng.random(5), oracle.random(5)
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("sampling", ["shuffle", "sequential", "replacement"])
def test_a_fit_that_pauses(sampling, level, rng):
    """Work of some tenths of a second: Python gets control back in the middle of batches."""
    layers = [Dense(200, 300), bpcore.Tanh(), Dense(300, 200)]
    net = network(layers, rng, loss="mae", l2=1e-3)
    x, y = cases.inputs(rng, 1500, 200, float), rng.normal(size=(1500, 200))
    w = rng.uniform(0.5, 2, 1500)
    before, oracle = reference.layers_of(net), copy.deepcopy(net.rng)
    history = net.fit(
        x, y, epochs=2, batch_size=700, sampling=sampling, sample_weight=w, gradient_clip=0.05
    )
    layers, losses, _ = training.fit(
        before, reference.loss_of(net), x, y,
        optimizer="sgd", rates=[0.01] * 2, rng=oracle, batch_size=700, sampling=sampling,
        sample_weight=w, gradient_clip=0.05, l2=1e-3,
    )  # fmt: skip
    assert_close(history["loss"], losses, "losses")
    assert_close(net.parameters, reference.flat(reference.parameters(layers)), "parameters")


@pytest.mark.parametrize("batch_size", [None, 64])
def test_one_epoch_of_sgd(batch_size, dtype, level, rng):
    """In float32 too, within what rounding explains; batches see the errors of earlier ones."""
    net = network([Dense(20, 30), bpcore.GELU(), Dense(30, 7)], rng, dtype=dtype)
    x, y = cases.inputs(rng, 130, 20, dtype), cases.targets(rng, "mse", 130, 7, dtype)
    layers, u = reference.layers_of(net), bounds.unit(dtype)
    loss, rate = reference.loss_of(net), 0.125
    oracle = copy.deepcopy(net.rng)
    net.fit(x, y, batch_size=batch_size, optimizer=bpcore.SGD(learning_rate=rate))
    e = 0.0
    for rows in training.epoch_batches(oracle, 130, batch_size, "shuffle"):
        setting = layers, loss, x[rows].astype(float), y[rows].astype(float), None
        p = reference.flat(reference.parameters(layers))
        gradient = reference.loss_and_gradient(*setting)[1]
        e_gradient = bounds.loss_and_gradient(*setting, u)[1]
        own = bounds.optimizer_step("sgd", p, gradient, {}, rate, 1, u)[0]
        # They move the gradient by the Hessian, of norm below 2 / rate where descent is stable.
        e = e + 2 * np.linalg.norm(e) + rate * e_gradient + own
        layers = reference.with_parameters(layers, p - rate * gradient)
    wanted = reference.flat(reference.parameters(layers))
    bounds.assert_within(net.parameters, wanted, e, dtype, "parameters")


def test_defaults_of_fit(rng):
    """One epoch of batches of 32, shuffled, plain gradient descent at 0.01."""
    net = network([Dense(3, 4), bpcore.Tanh(), Dense(4, 2)], rng)
    x, y = cases.inputs(rng, 70, 3, float), rng.normal(size=(70, 2))
    twin = copy.deepcopy(net)
    history = net.fit(x, y)
    assert len(history) == 1 and type(net.optimizer) is bpcore.SGD
    sgd = bpcore.SGD(learning_rate=0.01)
    twin.fit(x, y, epochs=1, batch_size=32, optimizer=sgd, sampling="shuffle")
    np.testing.assert_array_equal(net.parameters, twin.parameters)


@pytest.mark.parametrize("name", ["momentum", "rmsprop", "adam", "adamw", "rprop"])
@pytest.mark.parametrize("again", ["the same object", "nothing"])
def test_the_same_optimizer_goes_on(name, again):
    """Two fits with one optimiser are one long fit; a fresh one is not."""
    case = BASE | CASES[name]
    net, x, y, keywords = build(case)
    keywords |= {"epochs": 40}
    net.fit(x, y, **keywords)
    fresh = copy.deepcopy(net)
    optimizer = keywords.pop("optimizer")
    rest = keywords | {"epochs": EPOCHS - 40}
    net.fit(x, y, optimizer=optimizer if again == "the same object" else None, **rest)
    assert_close(net.parameters, expected(name)[0], "parameters")
    new = type(optimizer)(learning_rate=optimizer.learning_rate, **case["hyper"])
    fresh.fit(x, y, optimizer=new, **rest)
    assert np.abs(fresh.parameters - net.parameters).max() > 1e-6


def test_validation_loss(rng):
    """After each epoch, with the penalty, on rows that training does not see."""
    net = network([Dense(4, 6), bpcore.Tanh(), Dense(6, 3)], rng, l2=0.1)
    x, y = cases.inputs(rng, N, 4, float), rng.normal(size=(N, 3))
    held_x, held_y = cases.inputs(rng, 20, 4, float), rng.normal(size=(20, 3))
    layers, made = reference.layers_of(net), bpcore.Adam(learning_rate=0.01)
    keywords = {"batch_size": 7, "sampling": "sequential"}
    history = net.fit(x, y, epochs=5, optimizer=made, validation_data=(held_x, held_y), **keywords)
    wanted, slots = [], None
    for epoch in range(5):
        layers, _, slots = training.fit(
            layers, reference.loss_of(net), x, y, optimizer="adam", rates=[0.01], rng=None,
            slots=slots, first_step=1 + epoch * math.ceil(N / 7), l2=0.1, **keywords,
        )  # fmt: skip
        setting = layers, reference.loss_of(net), held_x, held_y
        wanted.append(reference.loss_and_gradient(*setting, l2=0.1)[0])
    assert_close(history["validation_loss"], wanted, "validation losses")
    last = net.loss_value(held_x, held_y)
    assert history["validation_loss"][-1] == pytest.approx(last, rel=1e-14)


@pytest.mark.parametrize("n", [9, 3000])
def test_validation_data_of_as_many_rows(n, dtype, level, rng):
    """Batches of all rows may be kept from one epoch to the next, but not others in their place."""
    x, other = rng.normal(size=(2, n, 3)).astype(dtype)
    y, other_y = rng.normal(size=(2, n, 2)).astype(dtype)
    net = bpcore.mlp([3, 5, 2], rng=4, dtype=dtype)
    alone = copy.deepcopy(net)
    history = net.fit(x, y, epochs=4, batch_size=None, validation_data=(other, other_y))
    alone.fit(x, y, epochs=4, batch_size=None)
    np.testing.assert_array_equal(net.parameters, alone.parameters)
    assert history["validation_loss"][-1] == net.loss_value(other, other_y)


@pytest.mark.parametrize("order", [1, 2, np.inf])
def test_gradient_norms(order, level, rng):
    """Of each weight's gradient in the epoch's last batch, before its update."""
    net = network([Dense(4, 6), bpcore.Tanh(), Dense(6, 3)], rng, l2=0.1)
    x, y = cases.inputs(rng, 20, 4, float), rng.normal(size=(20, 3))
    layers, wanted = reference.layers_of(net), {0: [], 2: []}
    for _ in range(3):
        setting = layers, reference.loss_of(net), x, y
        gradient = reference.loss_and_gradient(*setting, l2=0.1)[1]
        wanted[0].append(np.linalg.norm(gradient[:24], order))
        wanted[2].append(np.linalg.norm(gradient[30:48], order))
        p = reference.flat(reference.parameters(layers))
        layers = reference.with_parameters(layers, p - 0.01 * gradient)
    norms = bpcore.GradientNorms(order=order)
    history = net.fit(x, y, epochs=3, batch_size=None, callbacks=[norms])
    for layer, values in wanted.items():
        assert_close(history[f"gradient_norm.{layer}"], values, f"norms of layer {layer}")


def test_loop_of_ones_own():
    """loss_and_gradient and optimizer.step make the same steps as fit."""
    for name in ("all", "l1 and l2, weighted"):
        case = BASE | CASES[name] | {"batch_size": None}
        net, x, y, keywords = build(case)
        twin = copy.deepcopy(net)
        made, losses = keywords.pop("optimizer"), []
        for _ in range(EPOCHS):
            losses.append(net.loss_and_gradient(x, y, sample_weight=keywords["sample_weight"])[0])
            made.step(net)
        keywords |= {"batch_size": None, "optimizer": copy.deepcopy(made)}
        history = twin.fit(x, y, **keywords)
        assert_close(net.parameters, twin.parameters, "parameters")
        assert_close(losses, history["loss"], "losses")


def test_first_loss_of_a_full_batch_is_that_of_the_start(rng):
    for reduction in reference.REDUCTIONS:
        loss = bpcore.MeanSquaredError(reduction=reduction)
        net = network([Dense(4, 3)], rng, loss=loss, l2=0.1)
        x, y, w = cases.inputs(rng, N, 4, float), rng.normal(size=(N, 3)), rng.uniform(1, 2, N)
        start = net.loss_value(x, y, sample_weight=w)
        history = net.fit(x, y, sample_weight=w, batch_size=None)
        assert history["loss"][0] == pytest.approx(start, rel=1e-13)


@pytest.mark.parametrize("reduction", reference.REDUCTIONS)
def test_a_batch_without_weight_changes_nothing(reduction, level, rng):
    """Its rows count for nothing, also in the epoch's mean; nothing becomes nan."""
    loss = bpcore.MeanSquaredError(reduction=reduction)
    net = network([Dense(4, 3), bpcore.Tanh()], rng, loss=loss)
    x, y = cases.inputs(rng, 15, 4, float), rng.normal(size=(15, 3))
    w = np.repeat([1.0, 0.0, 2.0], 5)
    twin = copy.deepcopy(net)
    keywords = {"epochs": 3, "batch_size": 5, "sampling": "sequential"}
    a = net.fit(x, y, sample_weight=w, optimizer=bpcore.SGD(), **keywords)
    kept = w > 0
    b = twin.fit(x[kept], y[kept], sample_weight=w[kept], optimizer=bpcore.SGD(), **keywords)
    assert_close(net.parameters, twin.parameters, "parameters")
    assert_close(a["loss"], b["loss"], "losses")


def test_dropout_in_fit(level, rng):
    """One step on one row: its mask is read off the change of the last bias, 2 rate (p - t)."""
    rate, p = 0.01, 0.5
    for _ in range(5):
        layers = [Dense(4, 9), bpcore.Tanh(), bpcore.Dropout(p), Dense(9, 9, weight_init=np.eye(9))]
        net = network(layers, rng, loss=bpcore.MeanSquaredError(reduction="sum"))
        net.layers[3].bias[:] = 0
        known, loss = reference.layers_of(net), reference.loss_of(net)
        x, t = rng.normal(size=(1, 4)), rng.normal(size=(1, 9))
        net.fit(x, t, optimizer=bpcore.SGD(learning_rate=rate))
        prediction = t - net.layers[3].bias / (2 * rate)
        factors = prediction / np.tanh(x @ known[0].weight + known[0].bias)
        kept = np.abs(factors) > 1
        np.testing.assert_allclose(factors[kept], 2, rtol=1e-9)
        np.testing.assert_allclose(factors[~kept], 0, atol=1e-9)
        known.insert(2, reference.Mask(2.0 * kept))
        known, _, _ = training.fit(known, loss, x, t, optimizer="sgd", rates=[rate], rng=None)
        assert_close(net.parameters, reference.flat(reference.parameters(known)), "parameters")


def test_dropout_masks_are_new_and_repeatable(rng):
    x, y = cases.inputs(rng, N, 4, float), rng.normal(size=(N, 3))
    nets = []
    for seed in (1, 1, 2):
        layers = [Dense(4, 8), bpcore.ReLU(), bpcore.Dropout(0.5), Dense(8, 3)]
        nets.append(bpcore.Network(layers, rng=1))
        nets[-1].rng.bit_generator.state = np.random.PCG64(seed).state
        nets[-1].fit(x, y, epochs=10, batch_size=7, sampling="sequential")
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)
    assert (nets[0].parameters != nets[2].parameters).any()
