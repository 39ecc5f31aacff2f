"""Optimiser steps and schedules against the oracle."""

import copy

import bounds
import cases
import numpy as np
import pytest
import reference_training as training

import bpcore
from bpcore import Dense, _core

SETTINGS = {  # kernel, and arguments other than the defaults
    "sgd": ("sgd", {}),
    "sgd with momentum": ("sgd", {"momentum": 0.9}),
    "sgd with nesterov": ("sgd", {"momentum": 0.7, "nesterov": True}),
    "rmsprop": ("rmsprop", {}),
    "rmsprop 0.5": ("rmsprop", {"rho": 0.5, "epsilon": 1e-3}),
    "adam": ("adam", {}),
    "adam 0.5": ("adam", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}),
    "adam 0": ("adam", {"beta_1": 0.0, "beta_2": 0.0}),
    "adamw": ("adamw", {}),
    "adamw 0.2": ("adamw", {"beta_1": 0.8, "weight_decay": 0.2}),
    "rprop": ("rprop", {}),
    "rprop tight": ("rprop", {"etas": (0.3, 1.5), "step_sizes": (0.004, 0.02)}),
}
RATE = 0.01


def optimizer(name, rate=RATE):
    kernel, hyper = SETTINGS[name]
    return bpcore.optimizers.get(kernel).__class__(learning_rate=rate, **hyper)


def state(rng, name, n, dtype):
    """Slots as training leaves them: of any size, some of them still zero."""
    slots = []
    for slot in optimizer(name).slot_names:
        a = rng.normal(size=n) * 10.0 ** rng.uniform(-4, 2, n)
        if slot in ("square_average", "second_moment"):
            a = a**2
        if slot == "step_size":
            a = 10.0 ** rng.uniform(-7, 2, n)
        else:
            a[::5] = 0
        slots.append(a.astype(dtype))
    return tuple(slots)


def gradients(rng, n, dtype):
    g = rng.normal(size=n) * 10.0 ** rng.uniform(-4, 2, n)
    g[::7] = 0
    return g.astype(dtype)


def assert_step(name, before, after, g, step, dtype, rate=RATE):
    """(parameters, slots) before and after one step, in dtype, against one step of the oracle."""
    kernel, hyper = SETTINGS[name]
    slot_names = optimizer(name).slot_names
    p, g = before[0].astype(float), g.astype(float)
    slots = {s: a.astype(float) for s, a in zip(slot_names, before[1], strict=True)}
    expected_slots = dict(slots)
    setting = rate, step
    expected = training.OPTIMIZERS[kernel](p, g, expected_slots, *setting, **hyper)
    e, e_slots = bounds.optimizer_step(kernel, p, g, slots, *setting, bounds.unit(dtype), **hyper)
    for slot, a in zip(slot_names, after[1], strict=True):
        bounds.assert_within(a, expected_slots[slot], e_slots[slot], dtype, f"{name}: {slot}")
    bounds.assert_within(after[0], expected, e, dtype, f"{name}: parameters at step {step}")


def test_every_optimizer_is_in_the_table():
    assert {kernel for kernel, _ in SETTINGS.values()} == set(training.OPTIMIZERS)


@pytest.mark.parametrize("step", [1, 2, 10, 1000, 10**7])
@pytest.mark.parametrize("name", SETTINGS)
def test_one_step(name, step, dtype, level, rng):
    """From any state, in all sizes around those of vectors."""
    for n in (*cases.WIDTHS, 1000):
        p, g = rng.normal(size=n).astype(dtype), gradients(rng, n, dtype)
        slots, g_before = state(rng, name, n, dtype), g.copy()
        before = p.copy(), tuple(a.copy() for a in slots)
        made = optimizer(name)
        _core.optimizer_step(made.kernel, p, g, slots, made.hyper, RATE, step)
        np.testing.assert_array_equal(g, g_before)
        assert_step(name, before, (p, slots), g, step, dtype)


@pytest.mark.parametrize("name", SETTINGS)
def test_steps_of_a_network(name, dtype, level, rng):
    """optimizer.step(net), each step from where the one before it ended."""
    net = bpcore.Network([Dense(4, 5), Dense(5, 3)], rng=rng, dtype=dtype)
    made = optimizer(name)
    for step in range(1, 30):
        g = gradients(rng, net.parameters.size, dtype)
        net.gradients[:] = g
        kept = made.state(net)
        before = net.parameters.copy(), tuple(a.copy() for a in kept.slots)
        assert kept.step == step - 1
        made.step(net)
        after = made.state(net)
        assert after.step == step and net.optimizer is made
        np.testing.assert_array_equal(net.gradients, g)
        assert_step(name, before, (net.parameters, after.slots), g, step, dtype)


@pytest.mark.parametrize("name", SETTINGS)
def test_zero_gradients_move_nothing(name, dtype, level):
    """From a fresh state; only weight decay shrinks."""
    made, p = optimizer(name), np.linspace(-1, 1, 37).astype(dtype)
    before, slots = p.copy(), made.initial_slots(37, dtype, RATE)
    _core.optimizer_step(made.kernel, p, np.zeros_like(p), slots, made.hyper, RATE, 1)
    decay = SETTINGS[name][1].get("weight_decay", 0.01) if made.kernel == "adamw" else 0
    np.testing.assert_allclose(p, before * (1 - RATE * decay), rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", SETTINGS)
def test_initial_slots(name, dtype):
    kernel, hyper = SETTINGS[name]
    made = optimizer(name)
    expected = training.initial_slots(kernel, 5, RATE)
    if kernel != "sgd" or hyper:
        assert made.slot_names == training.SLOTS[kernel]
    for slot, a in zip(made.slot_names, made.initial_slots(5, dtype, RATE), strict=True):
        assert a.dtype == dtype
        np.testing.assert_array_equal(a, expected[slot].astype(dtype))


def test_defaults():
    """Those of torch.optim, in the names of the contract."""
    expected = {
        bpcore.SGD: {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False},
        bpcore.RMSProp: {"learning_rate": 0.01, "rho": 0.99, "epsilon": 1e-8},
        bpcore.Adam: {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8},
        bpcore.AdamW: {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
        | {"weight_decay": 0.01},
        bpcore.Rprop: {"learning_rate": 0.01, "etas": (0.5, 1.2), "step_sizes": (1e-6, 50.0)},
    }
    assert {cls().kernel for cls in expected} == set(training.OPTIMIZERS)
    for cls, values in expected.items():
        made = cls()
        assert {key: getattr(made, key) for key in values} == values


def test_state_belongs_to_the_network(rng):
    """A second network starts afresh, and the first goes on where it was."""
    made = bpcore.Adam()
    nets = [bpcore.Network([Dense(2, 2)], rng=i) for i in range(2)]
    for _ in range(3):
        nets[0].gradients[:] = rng.normal(size=6)
        made.step(nets[0])
    kept = [a.copy() for a in made.state(nets[0]).slots]
    assert made.state(nets[1]).step == 0
    assert not any(a.any() for a in made.state(nets[1]).slots)
    nets[1].gradients[:] = 1
    made.step(nets[1])
    assert (made.state(nets[0]).step, made.state(nets[1]).step) == (3, 1)
    for a, b in zip(kept, made.state(nets[0]).slots, strict=True):
        np.testing.assert_array_equal(a, b)


SCHEDULES = [
    (lambda: bpcore.StepDecay(0.5, 0.1, 3), training.step_decay, (0.5, 0.1, 3)),
    (lambda: bpcore.ExponentialDecay(0.5, 0.9), training.exponential_decay, (0.5, 0.9)),
    (lambda: bpcore.CosineDecay(0.5, 7), training.cosine_decay, (0.5, 7)),
    (lambda: bpcore.CosineDecay(0.5, 7, final=0.1), training.cosine_decay, (0.5, 7, 0.1)),
]


@pytest.mark.parametrize("make, formula, arguments", SCHEDULES)
def test_schedules(make, formula, arguments):
    schedule = make()
    expected = [formula(epoch, *arguments) for epoch in range(12)]
    np.testing.assert_allclose([schedule(e) for e in range(12)], expected, rtol=1e-13, atol=1e-17)
    made = bpcore.SGD(learning_rate=schedule)
    np.testing.assert_allclose([made.rate(e) for e in range(12)], expected, rtol=1e-13, atol=1e-17)
    assert made.rate() == schedule(0)


def test_step_takes_the_rate_of_its_epoch(rng):
    net = bpcore.Network([Dense(2, 2)], rng=rng)
    made = bpcore.SGD(learning_rate=lambda epoch: 1.0 / (1 + epoch))
    for epoch in range(4):
        before = copy.copy(net.parameters)
        net.gradients[:] = 1
        made.step(net, epoch=epoch)
        np.testing.assert_allclose(before - net.parameters, 1 / (1 + epoch), rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("array", "value"),
    [("gradient", np.inf), ("parameter", np.nan), ("first", np.nan), ("second", -1.0)],
)
def test_one_unfit_number_anywhere_stops_a_step(level, dtype, array, value):
    net = bpcore.Network([Dense(12, 12)], dtype=dtype, rng=0)
    optimizer, n = bpcore.Adam(), net.parameters.size
    for position in range(n):
        arrays = {name: np.full(n, 0.5, dtype) for name in ("gradient", "first", "second")}
        arrays["parameter"] = np.linspace(-1, 1, n).astype(dtype)
        arrays[array][position] = value
        net.parameters[:] = arrays["parameter"]
        net.gradients[:] = arrays["gradient"]
        optimizer.set_state(net, (arrays["first"], arrays["second"]), 1)
        with pytest.raises(bpcore.DivergenceError):
            optimizer.step(net)
        np.testing.assert_array_equal(net.parameters, arrays["parameter"])
        np.testing.assert_array_equal(optimizer.state(net).slots[1], arrays["second"])
