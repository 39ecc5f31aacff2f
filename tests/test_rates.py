"""Networks of rates and quantiles: what they learn, where they overflow, what is said of them."""

import numpy as np
import pytest

import bpcore
from bpcore import Dense, DivergenceError, Exp, Network, Poisson, Quantile


def rates(loss="poisson", dtype="float64", hidden="tanh", widths=(3, 4, 2)):
    layers = [Dense(*widths[:2]), bpcore.layers.activation(hidden), Dense(*widths[1:])]
    return Network([*layers, Exp()] if loss == "poisson" else layers, loss=loss, dtype=dtype, rng=0)


def counts(n=50, k=2):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, 3)), rng.poisson(1.5, size=(n, k)).astype(float)


# ---------------------------------------------------------------- what they learn


def test_the_best_constant_rate_is_the_mean():
    """A Poisson regression on two groups, which has a closed form."""
    X = np.repeat(np.eye(2), [30, 50], axis=0)
    y = np.random.default_rng(2).poisson(np.repeat([0.5, 4.0], [30, 50])).astype(float)
    net = Network([Dense(2, 1, bias=False), Exp()], loss="poisson", rng=0)
    net.fit(X, y, epochs=3000, batch_size=None, optimizer=bpcore.SGD(learning_rate=0.3))
    assert np.abs(net.gradients).max() < 1e-12
    np.testing.assert_allclose(net.predict(np.eye(2))[:, 0], [y[:30].mean(), y[30:].mean()], 1e-10)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_the_best_constant_is_the_quantile(quantile):
    y = np.random.default_rng(3).exponential(size=301)
    net = Network([Dense(1, 1)], loss=Quantile(quantile=quantile), rng=0)
    optimizer = bpcore.SGD(learning_rate=bpcore.CosineDecay(0.3, 2000))
    net.fit(np.zeros((301, 1)), y, epochs=2000, batch_size=None, optimizer=optimizer)
    assert (y < net.predict([[0.0]])[0, 0]).mean() == pytest.approx(quantile, abs=0.01)


def test_rates_are_computed_from_their_logs(dtype):
    """To the same bits as a network without the last layer and the loss of logs."""
    X, y = counts()
    nets = [rates("poisson", dtype), rates("poisson_log", dtype)]
    for net in nets:
        net.fit(X, y, epochs=5, optimizer="adam", validation_fraction=0.2)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)
    assert nets[0].history["validation_loss"] == nets[1].history["validation_loss"]
    np.testing.assert_array_equal(nets[0].predict(X), Exp().forward(nets[1].predict(X)))
    net = Network([Dense(1, 1, weight_init=[[1.0]]), Exp()], loss="poisson", dtype=dtype)
    expected = np.exp(-500.0) if dtype == "float64" else 0
    assert net.loss_value([[-500.0]], [0.0]) == pytest.approx(expected, abs=0)
    loss, gradient = net.loss_and_gradient([[-60.0]], [2.0])
    assert loss == 120 and gradient[1] == -2  # not flat, as it would be for a clipped rate


# ---------------------------------------------------------------- where they overflow


@pytest.mark.parametrize("batch_size", [1, 7, None], ids=["rows", "batches", "all"])
@pytest.mark.parametrize("width", [4, 70], ids=["narrow", "wide"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    "loss, hidden", [("poisson", "tanh"), ("poisson_log", "exp"), ("mse", "exp")]
)
def test_rates_without_end_are_divergence(loss, hidden, optimizer, width, batch_size, dtype, level):
    """Steps so large that the next exponential overflows: an error, and the finite weights kept."""
    X, y = counts()
    net = rates(loss, dtype, hidden, (3, width, 2))
    optimizer = bpcore.optimizers.OPTIMIZERS[optimizer](learning_rate=300.0)
    with pytest.raises(DivergenceError, match="became non-finite"):
        net.fit(X, y, epochs=50, batch_size=batch_size, optimizer=optimizer, health=False)
    assert np.isfinite(net.parameters).all()


@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("width", [4, 70], ids=["narrow", "wide"])
def test_one_row_that_overflows(width, batch_size, dtype):
    """The weights are those of the batch before it, to the last bit."""
    X, y = counts(21)
    X[14, 0] = 1e6
    settings = {"sampling": "sequential", "batch_size": batch_size, "health": False}
    settings["optimizer"] = bpcore.SGD(learning_rate=1e-4)
    nets = [rates("poisson", dtype, "leaky_relu", (3, width, 2)) for _ in range(2)]
    for net in nets:
        net.layers[0].weight[0] = 1.0
        net.layers[2].weight[:] = 0.02
    with pytest.raises(DivergenceError) as caught:
        nets[0].fit(X, y, **settings)
    assert (caught.value.epoch, caught.value.batch) == (0, 14 // batch_size)
    nets[1].fit(X[:14], y[:14], **settings)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


def test_a_large_loss_of_modest_gradients_is_no_divergence():
    """exp(z) near the ends of float32 in a network that nothing else makes large."""
    net = Network([Dense(1, 1, weight_init=[[1.0]]), Exp()], loss="poisson", dtype="float32")
    assert np.isfinite(net.loss_value([[88.0]], [1.0]))
    with np.errstate(over="ignore"):
        assert net.loss_value([[89.0]], [1.0]) == np.inf


# ---------------------------------------------------------------- what is said of them


@pytest.mark.parametrize("where", ["fit", "loss", "validation", "explain"])
def test_counts_are_not_negative(where):
    X, y = counts()
    wrong = y.copy()
    wrong[3, 1] = -0.5
    net = rates()
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=r"\[3, 1\] is -0.5, but the Poisson loss wants targets"):
        match where:
            case "fit":
                net.fit(X, wrong)
            case "loss":
                Poisson(from_log=True).forward(y, wrong)
            case "validation":
                net.fit(X, y, validation_data=(X, wrong))
            case "explain":
                bpcore.explain_gradients(net, X, wrong, net.gradients)
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.parametrize("quantile", [0.0, 1.0, -0.1, np.nan, 90])
def test_quantiles_lie_between_0_and_1(quantile):
    with pytest.raises(ValueError, match="quantile must be above 0 and below 1, got"):
        Quantile(quantile=quantile)


def test_other_arguments():
    with pytest.raises(TypeError, match=r"quantile must be a number, got '0.5'"):
        Quantile(quantile="0.5")
    with pytest.raises(TypeError, match="from_log must be True or False, got 1"):
        Poisson(from_log=1)
    with pytest.raises(AttributeError, match="quantile of Quantile is fixed"):
        Quantile().quantile = 0.3
    assert repr(bpcore.losses.get("poisson_log")) == "Poisson(from_log=True)"
    assert repr(Quantile(quantile=0.9)) == "Quantile(quantile=0.9)"


def test_other_losses_have_one_kernel_for_each_scale():
    names = bpcore.losses.LOSSES
    scales = {type(names[name]()).__name__: name for name in names if "_lo" in name}
    assert scales == {
        "BinaryCrossEntropy": "bce_logits",
        "CategoricalCrossEntropy": "cross_entropy_logits",
        "Poisson": "poisson_log",
    }


@pytest.mark.parametrize(
    "delta, code",
    [
        (lambda p, t, z: p - t, None),
        (lambda p, t, z: 1 - t / p, "other"),  # dL/dp, and no derivative after it
        (lambda p, t, z: (p - t) * p, "derivative_extra"),
        (lambda p, t, z: t - p, "sign"),
        (lambda p, t, z: z - t, "error_before_activation"),
        (lambda p, t, z: -t / p * p, "error_incomplete"),
    ],
)
def test_mistakes_with_rates_are_named(delta, code):
    X, y = counts(9)
    net = rates()
    W1, b1, W2, b2 = net.parameter_arrays().values()
    a = np.tanh(X @ W1 + b1)
    z = a @ W2 + b2
    d2 = delta(np.exp(z), y, z) / y.size
    d1 = d2 @ W2.T * (1 - a**2)
    mine = [X.T @ d1, d1.sum(axis=0), a.T @ d2, d2.sum(axis=0)]
    explanation = bpcore.explain_gradients(net, X, y, mine)
    assert explanation.ok == (code is None)
    codes = [mistake.code for mistake in explanation.mistakes]
    if code == "other":
        assert codes == ["derivative_missing"]
    elif code == "sign":
        assert codes[0] in ("sign", "swapped")
    else:
        assert codes == ([] if code is None else [code])


def test_mistakes_with_hidden_exponentials_are_named():
    X, _ = counts(9)
    y = np.random.default_rng(4).normal(size=(9, 2))
    net = rates("quantile", hidden="exp")
    W1, b1, W2, b2 = net.parameter_arrays().values()
    z = X @ W1 + b1
    a = np.exp(z)
    d2 = np.where(a @ W2 + b2 < y, -0.5, 0.5) / y.size
    for slope, code in (
        (a, None),
        (1, "derivative_missing"),
        (a * a, "derivative_twice"),
        (z * np.exp(z - 1), "derivative_incomplete"),
        (z, "output_formula_at_input"),
    ):
        d1 = d2 @ W2.T * slope
        mine = [X.T @ d1, d1.sum(axis=0), a.T @ d2, d2.sum(axis=0)]
        explanation = bpcore.explain_gradients(net, X, y, mine)
        assert [m.code for m in explanation.mistakes] == ([] if code is None else [code]), code


def test_health_of_rates():
    """The loss beside that of the mean, above what the counts' own scatter costs."""
    X, y = counts(200)
    net = rates()
    ratio = net.health(X, y).loss_ratio
    p = net.predict(X)
    floor = np.where(y > 0, y - y * np.log(np.maximum(y, 1)), 0).mean()
    loss, best = (p - y * np.log(p)).mean(), (y.mean(axis=0) - y * np.log(y.mean(axis=0))).mean()
    assert ratio == pytest.approx((loss - floor) / (best - floor), rel=1e-9)
    assert rates("poisson_log").health(X, y).loss_ratio == pytest.approx(ratio, rel=1e-9)


def test_health_of_quantiles():
    """A network that answers the quantile has learnt nothing, though it beats the mean."""
    X = np.random.default_rng(5).normal(size=(400, 2))
    y = np.random.default_rng(6).exponential(size=400)
    layers = [Dense(2, 1, weight_init="zeros", bias_init=np.quantile(y, [0.9]))]
    net = Network(layers, loss=Quantile(quantile=0.9))
    assert net.health(X, y).loss_ratio == pytest.approx(1)


def test_slow_training_of_rates_is_told_from_a_loss_below_zero():
    """A loss that is negative cannot be compared by quotients."""
    X = np.random.default_rng(7).normal(size=(300, 1))
    y = np.random.default_rng(8).poisson(np.exp(3 + 0.3 * X[:, 0])).astype(float)
    net = Network([Dense(1, 1, bias_init=[y.mean()]), Exp()], loss="poisson", rng=0)
    net.layers[0].bias[:] = np.log(y.mean())
    net.fit(X, y, epochs=300, batch_size=None, optimizer=bpcore.SGD(learning_rate=0.02))
    assert net.history["loss"][-1] < 0 and net.health(X, y).loss_ratio < 0.5
