"""Levenberg-Marquardt: against closed forms, its own formula, and the best of Adam."""

import re
import statistics

import numpy as np
import pytest

import bpcore
from bpcore import least_squares

LM = bpcore.LevenbergMarquardt


def curve():
    X = np.linspace(-2, 2, 200).reshape(-1, 1)
    return X, np.sin(3 * X) + X / 2


def start(seed, dtype="float64", **keywords):
    bias = bpcore.initializers.Uniform(low=-1, high=1)
    layers = [bpcore.Dense(1, 10, bias_init=bias), bpcore.Tanh(), bpcore.Dense(10, 1)]
    return bpcore.Network(layers, rng=seed, dtype=dtype, **keywords)


def wide(**keywords):
    """Too wide for the kernels of narrow layers."""
    return bpcore.mlp([3, 70, 2], hidden="softplus", rng=1, **keywords)


def narrow(**keywords):
    return bpcore.mlp([3, 6, 2], hidden="tanh", rng=1, **keywords)


def data(n=40, n_in=3, n_out=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_in)), rng.normal(size=(n, n_out)), rng.uniform(0, 2, n)


def test_the_bar_on_a_curve():
    X, y = curve()
    losses = []
    for seed in range(8):
        net = start(seed)
        net.fit(X, y, epochs=100, optimizer=LM())
        losses.append(net.loss_value(X, y))
    assert statistics.median(losses) <= 1e-7
    best = np.inf
    for rate in (0.001, 0.003, 0.01, 0.03):
        ends = []
        for seed in range(8):
            net = start(seed)
            adam = bpcore.Adam(learning_rate=rate)
            net.fit(X, y, epochs=5000, batch_size=None, optimizer=adam, health=False)
            ends.append(net.loss_value(X, y))
        best = min(best, statistics.median(ends))
    assert best >= 100 * statistics.median(losses)


@pytest.mark.parametrize("make", [narrow, wide])
@pytest.mark.parametrize("reduction", ["mean", "sum", "sample_mean"])
@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_solves_its_equations(make, reduction, l2, weighted):
    """J by single backward passes; the step from the matrix that the class documents."""
    net = make(loss=bpcore.MeanSquaredError(reduction=reduction), l2=l2)
    X, y, weight = data()
    weight = weight if weighted else None
    before = net.parameters.copy()
    loss, gradient = net.loss_and_gradient(X, y, sample_weight=weight)
    twin = make()  # without the penalty, so that its backward pass gives J
    rows = []
    for x in X:
        for unit in np.eye(2):
            twin.forward(x[None])
            twin.backward(unit[None])
            rows.append(twin.gradients.copy())
    J = np.array(rows)
    w = np.repeat(np.ones(40) if weight is None else weight, 2)
    scale = {"mean": 1 / w.sum(), "sum": 1.0, "sample_mean": 2 / w.sum()}[reduction]
    is_weight = np.concatenate(
        [
            np.full(array.size, name.endswith("weight"))
            for name, array in net.parameter_arrays().items()
        ]
    )
    H = 2 * scale * (J.T * w) @ J + np.diag(l2 * is_weight)
    damping = 0.5 * H.diagonal().max()
    expected = np.linalg.solve(H + damping * np.eye(len(H)), -gradient)

    history = net.fit(X, y, sample_weight=weight, optimizer=LM(damping=0.5))
    step = net.parameters - before
    # the condition is at most 3 or so, and sums are of 80 terms
    assert np.abs(step - expected).max() <= 1000 * np.finfo(float).eps * np.abs(expected).max()
    assert history["loss"] == [pytest.approx(loss, rel=1e-14)]
    assert np.abs(net.gradients - gradient).max() <= 1e-13 * np.abs(gradient).max()

    after = net.loss_value(X, y, sample_weight=weight)
    gain = (loss - after) / (0.5 * step @ (damping * step - gradient))
    nielsen = damping * max(1 / 3, 1 - (2 * gain - 1) ** 3)
    assert net.optimizer.state(net).slots[0] == pytest.approx(nielsen, rel=1e-9)


@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_a_linear_network_is_least_squares(l2):
    """The normal equations in closed form, with weights and a ridge on the weights alone."""
    X, y, weight = data(60)
    net = bpcore.Network([bpcore.Dense(3, 2)], rng=0, l2=l2)
    net.fit(X, y, epochs=40, sample_weight=weight, optimizer=LM())
    A = np.hstack([X, np.ones((60, 1))])
    c = 1 / (2 * weight.sum())
    ridge = l2 * np.diag([1, 1, 1, 0])
    solution = np.linalg.solve(2 * c * (A.T * weight) @ A + ridge, 2 * c * (A.T * weight) @ y)
    assert np.allclose(np.vstack([net.layers[0].weight, net.layers[0].bias]), solution, atol=1e-13)


def test_float32_steps_in_float64_and_rounds():
    X, y = curve()
    net = start(3, "float32")
    history = net.fit(X, y, epochs=100, optimizer=LM())
    assert net.parameters.dtype == net.gradients.dtype == np.float32
    assert np.all(np.diff(history["loss"]) <= 0)
    assert history["loss"][-1] < 1e-7  # Adam in float32 stays above 1e-5
    state = net.optimizer.state(net).slots[0]
    assert state.dtype == np.float32 and state.shape == (1,) and state[0] > 0


def test_losses_fall_and_where_they_cannot_nothing_changes():
    X, y, _ = data(30)
    net = narrow()
    first = net.loss_value(X, y)
    history = net.fit(X, y, epochs=30, optimizer=LM())
    assert history["loss"][0] == first
    assert np.all(np.diff(history["loss"]) <= 0)
    exact = bpcore.Network([bpcore.Dense(3, 1, weight_init="zeros")], rng=0)
    history = exact.fit(X, np.zeros(30), epochs=5, optimizer=LM())
    assert history["loss"] == [0.0] * 5 and not exact.parameters.any()
    assert exact.optimizer.state(exact).step == 0


def test_parts_of_the_jacobian_change_nothing_but_rounding(monkeypatch):
    X, y, weight = data(1000)
    for make in (narrow, wide):
        whole, parts = make(), make()
        whole.fit(X, y, sample_weight=weight, optimizer=LM())
        with monkeypatch.context() as patch:
            patch.setattr(least_squares, "CHUNK", 1)
            parts.fit(X, y, sample_weight=weight, optimizer=LM())
        scale = np.abs(whole.parameters).max()
        assert np.abs(parts.parameters - whole.parameters).max() <= 1e-12 * scale


def test_all_else_of_fit_works():
    X, y, weight = data(50)
    net = narrow()
    epochs = []
    history = net.fit(
        X, y, epochs=12, optimizer=LM(), sample_weight=weight, validation_fraction=0.2,
        callbacks=lambda net, epoch, logs: epochs.append((epoch, logs["validation_loss"])),
    )  # fmt: skip
    assert epochs == list(enumerate(history["validation_loss"]))
    assert history["learning_rate"] == [1.0] * 12
    stopped = narrow().fit(
        X, y, epochs=500, optimizer=LM(), validation_data=data(50, seed=9)[:2], early_stopping=3
    )
    assert len(stopped) < 500
    assert stopped["seconds"] == sorted(stopped["seconds"])


def test_a_callback_may_change_the_weights():
    X, y, _ = data()
    net = narrow()

    def shrink(net, epoch, logs):
        net.parameters *= 0.5

    history = net.fit(X, y, epochs=3, optimizer=LM(), callbacks=shrink)
    other = narrow()
    losses = []
    for _ in range(3):
        losses += other.fit(X, y, optimizer=other.optimizer or LM())["loss"]
        other.parameters *= 0.5
    assert history["loss"] == losses
    assert np.array_equal(net.parameters, other.parameters)


class Stop:
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, net, epoch, logs):
        return epoch == self.epoch


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_resume_ends_with_the_same_bits(tmp_path, dtype):
    X, y, weight = data(50)
    arguments = {"epochs": 9, "sample_weight": weight, "validation_fraction": 0.3}
    whole, parts = narrow(dtype=dtype), narrow(dtype=dtype)
    history = whole.fit(X, y, optimizer=LM(), **arguments)
    parts.fit(X, y, optimizer=LM(), callbacks=[Stop(3)], **arguments)
    parts.save(tmp_path / "net.safetensors")
    parts = bpcore.load(tmp_path / "net.safetensors")
    assert isinstance(parts.optimizer, LM)
    resumed = parts.fit(X, y, resume=True, sample_weight=weight)
    for name in ("loss", "validation_loss"):
        assert resumed[name] == history[name]
    assert np.array_equal(whole.parameters, parts.parameters)
    assert np.array_equal(whole.gradients, parts.gradients)
    states = [net.optimizer.state(net) for net in (whole, parts)]
    assert states[0].slots[0] == states[1].slots[0] and states[0].step == states[1].step == 9


@pytest.mark.parametrize("call", range(1, 12))
def test_ctrl_c_anywhere_leaves_whole_steps(monkeypatch, call):
    X, y, _ = data()
    whole = narrow()
    history = whole.fit(X, y, epochs=6, optimizer=LM())
    calls = []
    loss = least_squares.LeastSquaresFit._loss

    def interrupted(self, parameters):
        calls.append(None)
        if len(calls) == call:
            raise KeyboardInterrupt
        return loss(self, parameters)

    net = narrow()
    monkeypatch.setattr(least_squares.LeastSquaresFit, "_loss", interrupted)
    try:
        net.fit(X, y, epochs=6, optimizer=LM())
    except KeyboardInterrupt:
        done = len(net.history)
        reached = narrow()
        reached.fit(X, y, epochs=done, optimizer=LM())
        assert np.array_equal(net.parameters, reached.parameters)
        resumed = net.fit(X, y, resume=True)
        assert resumed["loss"] == history["loss"]
    assert np.array_equal(net.parameters, whole.parameters)


REFUSED = [
    (lambda: narrow(loss="mae"), {}, "for loss 'mse', the network has MeanAbsoluteError()"),
    (lambda: narrow(l1=0.1), {}, "cannot have an l1 penalty, the network has l1=0.1"),
    (
        lambda: bpcore.Network([bpcore.Dense(3, 2), bpcore.Dropout(0.5)], rng=0),
        {},
        "cannot train with Dropout",
    ),
    (narrow, {"gradient_clip": 1.0}, "cannot have a gradient_clip, got 1"),
    (narrow, {"batch_size": 10}, "takes all 40 rows: leave out batch_size"),
    (narrow, {"sampling": "replacement"}, "sampling='replacement'"),
]


@pytest.mark.parametrize(("make", "arguments", "message"), REFUSED)
def test_what_it_cannot_do_is_refused(make, arguments, message):
    net = make()
    before = net.parameters.copy()
    X, y, _ = data()
    with pytest.raises(ValueError, match=re.escape(message)):
        net.fit(X, y, optimizer=LM(), **arguments)
    assert np.array_equal(net.parameters, before) and net.optimizer is None


def test_matrices_that_memory_cannot_hold_are_refused():
    net = bpcore.mlp([1000, 3000, 1], rng=0)
    with pytest.raises(MemoryError, match="LevenbergMarquardt for 3,006,001 parameters"):
        net.fit(np.zeros((1, 1000)), [0.0], optimizer=LM())
    assert net.optimizer is None


def test_its_arguments_and_what_it_lacks():
    for damping in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="damping must be finite and > 0"):
            LM(damping=damping)
    assert repr(LM()) == "LevenbergMarquardt()"
    assert repr(LM(damping=0.5)) == "LevenbergMarquardt(damping=0.5)"
    with pytest.raises(AttributeError, match="has no learning_rate"):
        LM().learning_rate = 0.1
    net = narrow()
    with pytest.raises(NotImplementedError, match=re.escape("use net.fit")):
        LM().step(net)


def test_divergence_keeps_the_weights():
    net = bpcore.Network([bpcore.Dense(1, 1, weight_init=[[1e200]])], rng=0)
    before = net.parameters.copy()
    with pytest.raises(bpcore.DivergenceError, match="Try standardised inputs") as caught:
        net.fit([[1e200]], [0.0], optimizer=LM())
    assert "gradient_clip" not in str(caught.value) and "learning_rate" not in str(caught.value)
    assert np.array_equal(net.parameters, before)


def test_health_has_no_update_to_tell_of():
    X, y, _ = data()
    net = narrow()
    net.fit(X, y, epochs=2, optimizer=LM())
    assert np.isnan(net.health(X, y).layers["0"].update_ratio)
