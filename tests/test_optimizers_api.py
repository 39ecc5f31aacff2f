"""Optimisers and schedules: formulas step by step, state, copies, configs."""

import copy
import gc
import json
import math
import pickle

import numpy as np
import pytest

import bpcore
from bpcore import optimizers, schedules
from bpcore.passes import Exclusive

OPTIMIZERS = tuple(optimizers.OPTIMIZERS.values())


class Net:
    """As much of a network as an optimiser needs."""

    def __init__(self, parameters, dtype="f8"):
        self.parameters = np.array(parameters, dtype)
        self.gradients = np.zeros_like(self.parameters)
        self.optimizer = None
        self._exclusive = Exclusive()

    def follow(self, optimizer, gradients, **keywords):
        """Take one step for each of the gradients, and return the parameters."""
        for gradient in gradients:
            self.gradients[...] = gradient
            optimizer.step(self, **keywords)
        return self.parameters


GRADIENTS = np.array([[1.0, -2.0, 0.5], [0.5, -1.0, -0.5], [-1.0, -3.0, 0.0], [0.25, 1.0, 2.0]])
START = np.array([1.0, 2.0, -3.0])


def by_hand(name, gradients, rate, h):
    """Follow the published formulas, one parameter at a time."""
    end = []
    for p, column in zip(START.tolist(), gradients.T.tolist(), strict=True):
        a = b = 0.0
        size = rate
        for t, g in enumerate(column, start=1):
            if name == "SGD":
                a = h["momentum"] * a + g
                p -= rate * (g + h["momentum"] * a if h["nesterov"] else a)
            elif name == "RMSProp":
                a = h["rho"] * a + (1 - h["rho"]) * g * g
                p -= rate * g / (math.sqrt(a) + h["epsilon"])
            elif name == "Rprop":
                eta = 1.0 if a * g == 0 else h["etas"][1] if a * g > 0 else h["etas"][0]
                size = min(max(size * eta, h["step_sizes"][0]), h["step_sizes"][1])
                if a * g < 0:
                    g = 0.0
                a = g
                p -= size * (g > 0) - size * (g < 0)
            else:
                if name == "AdamW":
                    p *= 1 - rate * h["weight_decay"]
                a = h["beta_1"] * a + (1 - h["beta_1"]) * g
                b = h["beta_2"] * b + (1 - h["beta_2"]) * g * g
                first, second = a / (1 - h["beta_1"] ** t), b / (1 - h["beta_2"] ** t)
                p -= rate * first / (math.sqrt(second) + h["epsilon"])
        end.append(p)
    return end


@pytest.mark.parametrize(
    "optimizer",
    [
        bpcore.SGD(),
        bpcore.SGD(learning_rate=0.3, momentum=0.9),
        bpcore.SGD(learning_rate=0.3, momentum=0.5, nesterov=True),
        bpcore.RMSProp(),
        bpcore.RMSProp(learning_rate=0.2, rho=0.5, epsilon=0.1),
        bpcore.Adam(),
        bpcore.Adam(learning_rate=0.2, beta_1=0.5, beta_2=0.75, epsilon=0.1),
        bpcore.AdamW(),
        bpcore.AdamW(learning_rate=0.2, weight_decay=0.5),
        bpcore.Rprop(),
        bpcore.Rprop(learning_rate=0.2, etas=(0.25, 3.0), step_sizes=(0.1, 0.5)),
    ],
    ids=repr,
)
def test_steps_follow_the_published_formulas(optimizer, dtype):
    name = type(optimizer).__name__
    expected = by_hand(name, GRADIENTS, optimizer.learning_rate, vars(optimizer))
    reached = Net(START, dtype).follow(optimizer, GRADIENTS)
    np.testing.assert_allclose(reached, expected, rtol=20 * np.finfo(dtype).eps)


def test_defaults_are_those_of_the_contract():
    assert vars(bpcore.SGD()).items() >= {
        "learning_rate": 0.01, "momentum": 0.0, "nesterov": False,
    }.items()  # fmt: skip
    assert vars(bpcore.RMSProp()).items() >= {
        "learning_rate": 0.01, "rho": 0.99, "epsilon": 1e-8,
    }.items()  # fmt: skip
    adam = {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
    assert vars(bpcore.Adam()).items() >= adam.items()
    assert vars(bpcore.AdamW()).items() >= (adam | {"weight_decay": 0.01}).items()
    assert vars(bpcore.Rprop()).items() >= {
        "learning_rate": 0.01, "etas": (0.5, 1.2), "step_sizes": (1e-6, 50.0),
    }.items()  # fmt: skip


# ------------------------------------------------------------------------------------------- state


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_state_belongs_to_the_pair_of_optimiser_and_network(make):
    optimizer, net, other = make(), Net(START), Net(START)
    net.follow(optimizer, GRADIENTS[:2])
    assert optimizer.state(net).step == 2
    assert optimizer.state(other).step == 0
    assert optimizer.state(net) is optimizer.state(net)
    assert net.optimizer is optimizer and other.optimizer is None
    together = other.follow(optimizer, GRADIENTS)
    np.testing.assert_array_equal(net.follow(optimizer, GRADIENTS[2:]), together)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_slots_are_flat_arrays_of_the_networks_dtype(make, dtype):
    net = Net(START, dtype)
    optimizer = make()
    state = optimizer.state(net)
    assert len(state.slots) == len(optimizer.slot_names)
    for slot in state.slots:
        assert slot.shape == (3,) and slot.dtype == dtype
    sizes = dict(zip(optimizer.slot_names, state.slots, strict=True)).get("step_size")
    if sizes is not None:
        np.testing.assert_array_equal(sizes, dtype.type(0.01))


def test_a_network_that_is_gone_is_forgotten():
    optimizer, net = bpcore.Adam(), Net(START)
    net.follow(optimizer, GRADIENTS)
    net.optimizer = None
    del net
    gc.collect()
    assert len(optimizer._states) == 0


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_forget_starts_afresh(make):
    optimizer, net = make(), Net(START)
    net.follow(optimizer, GRADIENTS)
    optimizer.forget(net)
    optimizer.forget(net)
    net.parameters[...] = START
    np.testing.assert_array_equal(
        net.follow(optimizer, GRADIENTS), Net(START).follow(make(), GRADIENTS)
    )


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_set_state_continues(make):
    first, net = make(), Net(START)
    net.follow(first, GRADIENTS[:2])
    second, twin = make(), Net(net.parameters)
    state = first.state(net)
    second.set_state(twin, state.slots, state.step)
    for ours, theirs in zip(second.state(twin).slots, state.slots, strict=True):
        assert not np.shares_memory(ours, theirs)
    np.testing.assert_array_equal(
        twin.follow(second, GRADIENTS[2:]), net.follow(first, GRADIENTS[2:])
    )


def test_set_state_checks_what_it_gets():
    optimizer, net = bpcore.Adam(), Net(START)
    with pytest.raises(bpcore.ShapeError, match="Adam has 2 arrays of state, got 1"):
        optimizer.set_state(net, (np.zeros(3),), 1)
    with pytest.raises(bpcore.ShapeError, match=r"second_moment has shape \(4,\), expected \(3,\)"):
        optimizer.set_state(net, (np.zeros(3), np.zeros(4)), 1)
    assert optimizer.state(net).step == 0


def test_momentum_changed_under_way_asks_for_a_velocity():
    optimizer, net = bpcore.SGD(), Net(START)
    net.follow(optimizer, GRADIENTS[:1])
    assert optimizer.state(net).slots == ()
    optimizer.momentum = 0.9
    net.follow(optimizer, GRADIENTS[1:2])
    np.testing.assert_array_equal(optimizer.state(net).slots[0], GRADIENTS[1])


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(make, value, dtype):
    optimizer, net = make(), Net(START, dtype)
    net.follow(optimizer, GRADIENTS[:1])
    before = net.parameters.copy()
    slots = copy.deepcopy(optimizer.state(net).slots)
    net.gradients[1] = value
    with pytest.raises(
        bpcore.DivergenceError, match=rf"gradients\[1\] is {value} before step 2 at"
    ):
        optimizer.step(net)
    np.testing.assert_array_equal(net.parameters, before)
    assert optimizer.state(net).step == 1
    for now, then in zip(optimizer.state(net).slots, slots, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))]
)
def test_a_copy_has_served_no_network(make, clone):
    optimizer, net = make(learning_rate=0.125), Net(START)
    net.follow(optimizer, GRADIENTS)
    twin = clone(optimizer)
    assert twin.config() == optimizer.config()
    assert twin.state(net).step == 0 and optimizer.state(net).step == 4


# ------------------------------------------------------------------------------- learning rates


def test_a_step_takes_the_rate_of_its_epoch():
    net = Net([1.0])
    optimizer = bpcore.SGD(learning_rate=bpcore.ExponentialDecay(0.5, 0.5))
    assert net.follow(optimizer, [[1.0]]).tolist() == [0.5]
    assert net.follow(optimizer, [[1.0]], epoch=1).tolist() == [0.25]
    assert net.follow(optimizer, [[1.0]], epoch=2).tolist() == [0.125]


def test_schedules_follow_their_formulas():
    epochs = range(25)
    step = schedules.rates(bpcore.StepDecay(0.1, 0.5, 10), 25)
    np.testing.assert_allclose(step, [0.1 * 0.5 ** (epoch // 10) for epoch in epochs])
    exponential = schedules.rates(bpcore.ExponentialDecay(0.1, 0.9), 25)
    np.testing.assert_allclose(exponential, [0.1 * 0.9**epoch for epoch in epochs])
    cosine = schedules.rates(bpcore.CosineDecay(0.1, 20, final=0.02), 25)
    expected = [0.02 + 0.04 * (1 + math.cos(math.pi * min(e, 20) / 20)) for e in epochs]
    np.testing.assert_allclose(cosine, expected)
    assert bpcore.CosineDecay(0.1, 20)(20) == 0.0
    assert bpcore.ExponentialDecay(0.1, 0.5)(10**6) == 0.0


def test_rates_of_numbers_and_functions():
    assert schedules.rates(0.25, 3).tolist() == [0.25, 0.25, 0.25]
    assert schedules.rates(lambda epoch: np.float32(epoch), 3).tolist() == [0.0, 1.0, 2.0]
    assert schedules.rates(0.25, 0).shape == (0,)
    assert schedules.rates(0.25, 3).dtype == schedules.rates(abs, 3).dtype == np.float64


# ------------------------------------------------------------------------------- names and configs


@pytest.mark.parametrize(
    "optimizer",
    [
        *(make() for make in OPTIMIZERS),
        bpcore.SGD(learning_rate=0.5, momentum=0.9, nesterov=True),
        bpcore.Rprop(etas=(0.25, 2.0), step_sizes=(1e-3, 1.0)),
        bpcore.Adam(learning_rate=bpcore.StepDecay(0.1, 0.5, 10)),
        bpcore.SGD(learning_rate=bpcore.ExponentialDecay(0.1, 0.5)),
        bpcore.SGD(learning_rate=bpcore.CosineDecay(0.1, 10, final=0.01)),
    ],
    ids=repr,
)
def test_config_and_back(optimizer):
    twin = optimizers.from_config(json.loads(json.dumps(optimizer.config())))
    assert type(twin) is type(optimizer)
    assert twin.config() == optimizer.config()
    assert repr(twin) == repr(optimizer)
    assert twin.hyper == optimizer.hyper and twin.rate(3) == optimizer.rate(3)


def test_a_function_of_ones_own_cannot_be_saved():
    optimizer = bpcore.SGD(learning_rate=lambda epoch: 0.1)
    assert optimizer.rate(5) == 0.1
    with pytest.raises(ValueError, match="a function of one's own cannot be saved"):
        optimizer.config()


def test_optimizer_by_name_class_and_object():
    optimizer = bpcore.Adam(learning_rate=0.5)
    assert optimizers.get(optimizer) is optimizer
    assert type(optimizers.get("adam")) is type(optimizers.get(bpcore.Adam)) is bpcore.Adam
    assert set(optimizers.OPTIMIZERS) == {"sgd", "rmsprop", "adam", "adamw", "rprop"}
