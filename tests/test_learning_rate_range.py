"""The learning-rate range test: against steps by hand, and without a trace."""

import copy

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_resume import Once, results

import bpcore

N = 120
X = np.random.default_rng(0).normal(size=(N, 3))
Y = np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]], axis=1)
WEIGHT = np.where(np.arange(N) % 3, np.linspace(0.1, 2, N), 0.0)


def build(**keywords):
    return bpcore.mlp([3, 8, 2], hidden="tanh", rng=0, **keywords)


OPTIMIZERS = {
    "none": None,
    "name": "adam",
    "momentum": bpcore.SGD(learning_rate=7.0, momentum=0.9),
    "schedule": bpcore.RMSProp(learning_rate=bpcore.CosineDecay(0.1, 5)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_by_hand(name, weight, dtype):
    """With all rows a step: the losses after each step of a fit of one epoch, at that rate."""
    net, optimizer = build(dtype=dtype), OPTIMIZERS[name]
    found = bpcore.learning_rate_range(
        net, X, Y, lowest=1e-4, highest=0.02, n_steps=20, batch_size=None, optimizer=optimizer,
        sample_weight=weight,
    )  # fmt: skip
    twin = copy.deepcopy(net)
    twin.optimizer = copy.deepcopy(optimizer) if optimizer else bpcore.SGD()
    rates, losses = 1e-4 * 200 ** (np.arange(20) / 19), []
    for rate in rates:
        twin.optimizer.learning_rate = rate
        twin.fit(X, Y, batch_size=None, sample_weight=weight, health=False)
        losses.append(twin.loss_value(X, Y, sample_weight=weight))
    np.testing.assert_allclose(found.learning_rates, rates, rtol=1e-13)
    np.testing.assert_allclose(found.losses, losses, rtol=1e3 * np.finfo(dtype).eps)
    assert len(found) == 20 and not found.diverged


def test_smoothing():
    """Of each loss before, `smoothing` to the power of its age, over the sum of these."""
    for smoothing in (0.0, 0.8):
        found = bpcore.learning_rate_range(build(), X, Y, n_steps=30, smoothing=smoothing)
        expected = [
            np.average(found.losses[: i + 1], weights=smoothing ** np.arange(i + 1.0)[::-1])
            for i in range(len(found))
        ]
        np.testing.assert_allclose(found.smoothed_losses, expected, rtol=1e-13)


def everything(net):
    return {
        "gradients": net.gradients.tobytes(),
        "optimizer": repr(net.optimizer),
        "history": net.history,
        "interrupted": net._interrupted,
        "metadata": net.metadata,
        **results(net),
    }


@pytest.mark.parametrize("optimizer", [None, "sgd", bpcore.Adam()])
def test_nothing_changes(optimizer):
    """Not a bit of the network, and an interrupted fit goes on as if nothing had happened."""
    keywords = {"epochs": 5, "optimizer": bpcore.RMSProp(learning_rate=0.01)}
    whole = bpcore.Network([bpcore.Dense(3, 8), bpcore.Dropout(0.3), bpcore.Dense(8, 2)], rng=0)
    net = copy.deepcopy(whole)
    whole.fit(X, Y, **copy.deepcopy(keywords))
    net.fit(X, Y, callbacks=Once(2), **keywords)
    net.forward(X[:5])
    before, data = everything(net), (X.tobytes(), Y.tobytes())
    first = bpcore.learning_rate_range(net, X, Y, optimizer=optimizer)
    assert everything(net) == before and (X.tobytes(), Y.tobytes()) == data
    again = bpcore.learning_rate_range(net, X, Y, optimizer=optimizer)
    assert first.losses.tobytes() == again.losses.tobytes(), "it is a function of the network"
    assert net.backward(Y[:5]).shape == (5, 3), "what forward kept is there"
    net.fit(X, Y, resume=True)
    assert results(net) == results(whole)
    with pytest.raises(ValueError, match="lowest must be below highest"):
        bpcore.learning_rate_range(net, X, Y, lowest=1, highest=1)


def test_the_optimizer_that_the_network_has_goes_on():
    """With its moments; another one starts afresh, and the caller's is left alone."""
    net, mine = build(), bpcore.Adam()
    net.fit(X, Y, epochs=3, optimizer=mine)
    found = [
        bpcore.learning_rate_range(net, X, Y, optimizer=each, batch_size=None).losses
        for each in (None, mine, bpcore.Adam())
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert mine.learning_rate == 0.001 and net.optimizer is mine
    fresh = bpcore.SGD()
    bpcore.learning_rate_range(net, X, Y, optimizer=fresh)
    assert net.optimizer is mine and fresh.learning_rate == 0.01


def test_divergence_ends_the_sweep():
    """Of least squares, steps longer than 2 / (the largest curvature) diverge, others do not."""
    x = X - X.mean(axis=0)
    curvature = max(2 * np.linalg.eigvalsh(x.T @ x / N)[-1], 2.0)  # that of the bias is 2
    net = bpcore.Network([bpcore.Dense(3, 1)], rng=0)
    found = bpcore.learning_rate_range(
        net, x, x @ [1.0, 2.0, 3.0] + 4, batch_size=None, n_steps=300, highest=1e3
    )
    assert found.diverged and len(found) < 300
    assert 2 / curvature < found.learning_rates[-1] < 100 / curvature
    assert 0.02 / curvature < found.suggestion < 2 / curvature
    assert np.isfinite(found.losses).all() and found.losses.min() < 1e-3


def test_what_is_not_finite_ends_it_too():
    net = bpcore.mlp([3, 8, 8, 1], rng=0)
    found = bpcore.learning_rate_range(net, X, 1e150 * X[:, 0], lowest=1e-200, highest=1e300)
    assert found.diverged and np.isfinite(found.losses).all()
    net.parameters[:] = 1e200
    with pytest.raises(bpcore.DivergenceError, match="not finite at the lowest rate"):
        bpcore.learning_rate_range(net, X, X[:, 0])


def squares(prediction, target):
    return ((prediction - target) ** 2).mean(axis=1)


def slopes(prediction, target):
    return 2 * (prediction - target) / prediction.shape[1]


@pytest.mark.parametrize("optimizer", [None, "adam"])
def test_a_loss_in_python(optimizer, dtype):
    """As the built-in one; and what is not finite ends the sweep, where it is looked at too."""
    losses = "mse", bpcore.CustomLoss(squares, slopes)
    same = [
        bpcore.learning_rate_range(build(loss=loss, dtype=dtype), X, Y, optimizer=optimizer)
        for loss in losses
    ]
    np.testing.assert_allclose(same[0].losses, same[1].losses, rtol=1e4 * np.finfo(dtype).eps)
    highest = np.finfo(dtype).max ** 0.4  # then predictions are finite, their squares are not
    for loss in losses:
        net = bpcore.mlp([3, 8, 2], loss=loss, rng=0, dtype=dtype)
        keywords = {"highest": highest, "n_steps": 2, "optimizer": optimizer}
        with np.errstate(over="ignore"):
            found = bpcore.learning_rate_range(net, X, Y, **keywords)
        assert found.diverged and len(found) == 1 and np.isfinite(found.losses).all()


def test_rows_of_weight_0_do_not_count():
    changed = np.where(WEIGHT[:, None] > 0, X, 1e6)
    for batch_size in (1, 7, 79, None):
        keywords = {"sample_weight": WEIGHT, "batch_size": batch_size}
        found = [bpcore.learning_rate_range(build(), x, Y, **keywords) for x in (X, changed)]
        np.testing.assert_array_equal(found[0].losses, found[1].losses)


def test_many_rows():
    """Are not all looked at, and the copy's generator says which."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 3))
    net, seen = build(), []
    loss_value = bpcore.Network.loss_value

    class Seen(bpcore.Network):
        def loss_value(self, X, y, **keywords):
            seen.append(X)
            return loss_value(self, X, y, **keywords)

    net.__class__ = Seen
    bpcore.learning_rate_range(net, x, x[:, :2], n_steps=3)
    assert [rows.shape for rows in seen] == [(256, 3)] * 3
    assert all(rows is seen[0] for rows in seen)


def test_a_suggestion_trains():
    """Better than a tenth of it, and nearly as well as any."""
    labels = (X[:, 0] > X[:, 1] ** 2).astype(int)
    start = bpcore.mlp([3, 16, 2], output="softmax", loss="cross_entropy", rng=0)
    for make in (bpcore.SGD, bpcore.Adam):
        found = bpcore.learning_rate_range(start, X, labels, optimizer=make())

        def loss(rate, make=make):
            net = copy.deepcopy(start)
            net.fit(X, labels, epochs=20, optimizer=make(learning_rate=rate), health=False)
            return net.loss_value(X, labels)

        assert loss(found.suggestion) < min(loss(found.suggestion / 10), 0.3)


def test_within_a_fit():
    """A callback may ask, and the fit goes on to the same bits."""
    net, found = build(), []
    twin = copy.deepcopy(net)

    def ask(net, epoch, logs):
        found.append(bpcore.learning_rate_range(net, X, Y, n_steps=5))

    net.fit(X, Y, epochs=2, callbacks=ask, optimizer="adam")
    twin.fit(X, Y, epochs=2, optimizer="adam")
    assert len(found) == 2 and results(net) == results(twin)


def test_to_look_at():
    found = bpcore.learning_rate_range(build(), X, Y)
    assert repr(found).startswith(f"LearningRateRange({len(found)} rates from 1e-06 to ")
    assert ("where the loss diverged" in repr(found)) == found.diverged
    assert f"suggestion {found.suggestion:.3g}" in repr(found)
    frame = found.to_frame()
    assert list(frame.columns) == ["learning_rate", "loss", "smoothed_loss"]
    np.testing.assert_array_equal(frame["smoothed_loss"], found.smoothed_losses)
    ax = Figure().subplots()
    assert found.plot(ax) is ax and ax.get_xscale() == "log"
    np.testing.assert_array_equal(ax.lines[1].get_data(), (found.learning_rates,
                                                           found.smoothed_losses))  # fmt: skip
    assert ax.lines[2].get_xdata()[0] == found.suggestion


def test_without_a_suggestion():
    """Where the loss only rises."""
    net = bpcore.Network([bpcore.Dense(3, 1, weight_init="zeros")])
    found = bpcore.learning_rate_range(net, X, np.zeros(N) + 1e-9, lowest=10, highest=1e5)
    assert np.isnan(found.suggestion) and "suggestion nan" in repr(found)
    assert len(found.plot(Figure().subplots()).lines) == 2


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"lowest": 0}, ValueError, "lowest must be finite and > 0, got 0"),
        ({"highest": np.inf}, ValueError, "highest must be finite and > 0, got inf"),
        ({"lowest": 2, "highest": 1}, ValueError, r"lowest must be below highest, got 2\.0 and 1"),
        ({"n_steps": 1}, ValueError, "n_steps must be >= 2, got 1"),
        ({"n_steps": 2.5}, TypeError, r"n_steps must be an integer, got 2\.5"),
        ({"batch_size": 0}, ValueError, "batch_size must be >= 1, got 0"),
        ({"smoothing": 1.0}, ValueError, r"smoothing must be at least 0 and below 1, got 1\.0"),
        ({"optimizer": "rprop"}, ValueError, "Rprop finds its steps by itself"),
        ({"optimizer": bpcore.LevenbergMarquardt()}, ValueError, "has no learning_rate to look"),
        ({"optimizer": "sdg"}, ValueError, "did you mean 'sgd'"),
        ({"sample_weight": [1.0]}, ValueError, "sample_weight has shape"),
    ],
)
def test_arguments_that_cannot_be(keywords, error, message):
    with pytest.raises(error, match=message):
        bpcore.learning_rate_range(build(), X, Y, **keywords)


def test_data_that_cannot_be():
    with pytest.raises(ValueError, match="X has 2 columns, but the network takes 3"):
        bpcore.learning_rate_range(build(), X[:, :2], Y)
    with pytest.raises(ValueError, match=r"y\[0, 0\] is nan"):
        bpcore.learning_rate_range(build(), X, Y * np.nan)
