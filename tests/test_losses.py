"""Losses alone: values and gradients against the oracle, at kinks, at clips and for huge logits."""

import bounds
import cases
import numpy as np
import pytest
import reference
from reference import Loss

import bpcore
from bpcore import _core

LOSSES = {
    "mse": lambda **kw: bpcore.MeanSquaredError(**kw),
    "mae": lambda **kw: bpcore.MeanAbsoluteError(**kw),
    "huber": lambda **kw: bpcore.Huber(**kw),
    "huber 0.25": lambda **kw: bpcore.Huber(delta=0.25, **kw),
    "bce": lambda **kw: bpcore.BinaryCrossEntropy(**kw),
    "bce_logits": lambda **kw: bpcore.BinaryCrossEntropy(from_logits=True, **kw),
    "cross_entropy": lambda **kw: bpcore.CategoricalCrossEntropy(**kw),
    "cross_entropy_logits": lambda **kw: bpcore.CategoricalCrossEntropy(from_logits=True, **kw),
    "quantile 0.5": lambda **kw: bpcore.Quantile(**kw),
    "quantile 0.9": lambda **kw: bpcore.Quantile(quantile=0.9, **kw),
    "poisson": lambda **kw: bpcore.Poisson(**kw),
    "poisson_log": lambda **kw: bpcore.Poisson(from_log=True, **kw),
}
SHAPES = [(1, 1), (1, 2), (2, 1), (3, 5), (7, 4), (5, 17), (33, 2), (100, 3), (2, 65), (1000, 1)]


def formula(name, reduction="mean"):
    kernel, _, parameter = name.partition(" ")
    return Loss(kernel, float(parameter or 1), reduction)


def predictions(rng, loss, n, k, dtype):
    if loss == "bce":
        return rng.uniform(0.02, 0.98, (n, k)).astype(dtype)
    if loss == "cross_entropy":
        return reference.softmax(rng.normal(0, 2, (n, k))).astype(dtype)
    if loss == "poisson":
        return rng.uniform(0.05, 5, (n, k)).astype(dtype)
    return rng.normal(0, 3, (n, k)).astype(dtype)


def assert_agrees(loss, expected_of, p, t, w, dtype, what):
    """Value and gradient of a bpcore loss, against those of the formula `expected_of`."""
    value = loss.forward(p, t, sample_weight=w)
    gradient = loss.backward()
    assert type(value) is float and gradient.dtype == dtype and gradient.shape == p.shape
    p = p.astype(float)
    expected = reference.loss_and_slope(expected_of, p, t, w, np.finfo(dtype).eps)
    e = bounds.loss_and_slope(expected_of, p, t, w, np.zeros_like(p), bounds.unit(dtype))
    bounds.assert_within(value, expected[0], e[0], dtype, f"{what} value")
    bounds.assert_within(gradient, expected[1], e[1], dtype, f"{what} gradient")


def test_every_loss_is_in_the_table():
    assert {formula(name).name for name in LOSSES} == set(reference.LOSSES)


@pytest.mark.parametrize("reduction", reference.REDUCTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient(name, reduction, dtype, level, rng):
    expected_of = formula(name, reduction)
    loss = LOSSES[name](reduction=reduction)
    assert (loss.kernel, loss.reduction) == (expected_of.name, reduction)
    for n, k in SHAPES:
        if k == 1 and name.startswith("cross_entropy"):
            continue
        p = predictions(rng, expected_of.name, n, k, dtype)
        for labels in (False, True):
            t = cases.targets(rng, expected_of.name, n, k, dtype, labels)
            for w in (None, cases.weights(rng, n, dtype)):
                what = f"{n} x {k}{' labels' * labels}{' weighted' * (w is not None)}"
                assert_agrees(loss, expected_of, p, t, w, dtype, what)


@pytest.mark.parametrize("name", LOSSES)
def test_kernel_without_gradient(name, dtype, level, rng):
    kernel = formula(name)
    p = predictions(rng, kernel.name, 7, 3, dtype)
    t = cases.targets(rng, kernel.name, 7, 3, dtype)
    gradient = np.full_like(p, 9)
    full = _core.loss_evaluate(kernel.name, kernel.parameter, "mean", p, t, None, gradient)
    bare = _core.loss_evaluate(kernel.name, kernel.parameter, "mean", p, t, None, None)
    loss = LOSSES[name]()
    assert full == bare == loss.forward(p, t)
    np.testing.assert_array_equal(gradient, loss.backward())


@pytest.mark.parametrize("name", LOSSES)
def test_labels_one_hot_and_columns(name, dtype, rng):
    """Labels mean their one-hot rows; one output may be (n,) or (n, 1)."""
    kernel, loss = formula(name).name, LOSSES[name]()
    if kernel in reference.TAKES_LABELS:
        p, labels = predictions(rng, kernel, 6, 3, dtype), rng.integers(0, 3, 6)
        expected = loss.forward(p, np.eye(3, dtype=dtype)[labels]), loss.backward()
        forms = [labels, labels[:, None], labels.astype(dtype), labels.astype(np.uint8)]
        forms += [labels.tolist(), np.eye(3)[labels], np.eye(3, dtype=bool)[labels]]
    else:
        p = predictions(rng, kernel, 6, 1, dtype)
        t = cases.targets(rng, kernel, 6, 1, dtype)
        expected = loss.forward(p, t), loss.backward()
        forms = [t[:, 0], t[:, 0].tolist(), np.asfortranarray(t), t.astype(t.dtype.newbyteorder())]
        assert loss.forward(p[:, 0], t[:, 0]) == expected[0]
        np.testing.assert_array_equal(loss.backward(), expected[1][:, 0])
    for form in forms:
        assert loss.forward(p, form) == pytest.approx(
            expected[0], rel=4 * float(np.finfo(dtype).eps)
        )
        np.testing.assert_allclose(loss.backward(), expected[1], rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("reduction", reference.REDUCTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_a_weight_of_two_is_the_row_twice(name, reduction, rng):
    kernel, loss = formula(name).name, LOSSES[name](reduction=reduction)
    p = predictions(rng, kernel, 5, 3, np.float64)
    t = cases.targets(rng, kernel, 5, 3, np.float64)
    twice, dropped = [0, 1, 1, 2, 3, 4], [1, 2, 3, 4]
    weighted = loss.forward(p, t, sample_weight=[1, 2, 1, 1, 1])
    slope = loss.backward()
    assert weighted == pytest.approx(loss.forward(p[twice], t[twice]), rel=1e-14)
    np.testing.assert_allclose(slope[1], 2 * loss.backward()[1], rtol=1e-14)
    weighted = loss.forward(p, t, sample_weight=[0, 1, 1, 1, 1])
    slope = loss.backward()
    assert weighted == pytest.approx(loss.forward(p[dropped], t[dropped]), rel=1e-14)
    assert not slope[0].any()
    np.testing.assert_allclose(slope[1:], loss.backward(), rtol=1e-14)


def test_program_5():
    """Four equal rows against four constants, summed."""
    p = np.tile([0.23, 0.25, 0.33], (4, 1))
    t = np.repeat([[0.25], [0.33], [0.77], [0.80]], 3, axis=1)
    loss = bpcore.MeanSquaredError(reduction="sum")
    assert loss.forward(p, t) == pytest.approx(1.6271, abs=5e-5)
    np.testing.assert_allclose(loss.backward(), 2 * (p - t), rtol=1e-15)


def test_kinks(dtype, level):
    d = np.array([[-2, -1, -0.5, 0, 0.5, 1, 2]], dtype)
    loss = bpcore.MeanAbsoluteError(reduction="sum")
    assert loss.forward(d, np.zeros_like(d)) == 7
    np.testing.assert_array_equal(loss.backward(), np.sign(d))
    loss = bpcore.Huber(delta=1.0, reduction="sum")
    assert loss.forward(d, np.zeros_like(d)) == 2 * (1.5 + 0.5 + 0.125)
    np.testing.assert_array_equal(loss.backward(), np.clip(d, -1, 1))


def test_huge_binary_logits(dtype, level):
    z = np.array([1e4, 1e4, 1e4, -1e4, -1e4, -1e4, 1e30, -1e30], dtype)[:, None]
    t = np.array([1, 0, 0.5, 0, 1, 0.5, 1, 0], dtype)
    expected = [0, 1e4, 5e3, 0, 1e4, 5e3, 0, 0]
    loss = bpcore.BinaryCrossEntropy(from_logits=True, reduction="sum")
    rel = 4 * float(np.finfo(dtype).eps)
    for i, value in enumerate(expected):
        assert loss.forward(z[i : i + 1], t[i : i + 1]) == pytest.approx(value, rel=rel, abs=0)
    assert loss.forward(z, t) == pytest.approx(3e4, rel=rel)
    np.testing.assert_array_equal(loss.backward()[:, 0], [0, 1, 0.5, 0, -1, -0.5, 0, 0])


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_small_binary_loss_keeps_its_digits(t, dtype, level):
    """log(1 + exp(-|z|)) at a confident, right answer: relative accuracy, not absolute."""
    z = np.array([[3.0], [10.0], [30.0], [60.0]], dtype) * (2 * t - 1)
    loss = bpcore.BinaryCrossEntropy(from_logits=True, reduction="sum")
    for row in z[:, None]:
        size = abs(float(row[0, 0]))
        exact = np.log1p(np.exp(-size))
        tolerance = (2 * size + 2 * bounds.ROUNDINGS) * bounds.unit(dtype)
        assert loss.forward(row, [t]) == pytest.approx(exact, rel=tolerance, abs=0)


def test_huge_class_logits(dtype, level):
    z = np.array([[1e4, -1e4, 0]] * 3 + [[-1e4, -1e4, -1e4]], dtype)
    loss = bpcore.CategoricalCrossEntropy(from_logits=True, reduction="sum")
    expected = [0, 2e4, 1e4, np.log(3)]
    slopes = [[0, 0, 0], [1, -1, 0], [1, 0, -1], [1 / 3, 1 / 3 - 1, 1 / 3]]
    for i, label in enumerate([0, 1, 2, 1]):
        value = loss.forward(z[i : i + 1], [label])
        # Not log-sum-exp minus logit: added to 1e4, half of log(3)'s digits would be lost.
        assert value == pytest.approx(expected[i], rel=4 * float(np.finfo(dtype).eps), abs=0)
        np.testing.assert_allclose(loss.backward()[0], slopes[i], rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("reduction", reference.REDUCTIONS)
def test_probabilities_are_clipped(reduction, dtype, level):
    """p is clipped to [eps, 1 - eps]; there the loss is flat, and so its gradient is 0."""
    eps = float(np.finfo(dtype).eps)
    p, t = np.array([[0.0], [1.0], [0.5], [0.0], [1.0]], dtype), np.array([1, 0, 1, 0, 1], dtype)
    loss = bpcore.BinaryCrossEntropy(reduction=reduction)
    scale = 1 if reduction == "sum" else 1 / 5
    value = loss.forward(p, t)
    expected = -2 * np.log(eps) + np.log(2) - 2 * np.log1p(-eps)
    assert value == pytest.approx(scale * expected, rel=8 * eps)
    np.testing.assert_allclose(loss.backward()[:, 0], [0, 0, -2 * scale, 0, 0], rtol=4 * eps)


def test_entries_without_target_do_not_count(dtype, level):
    """0 log 0 is 0, and so is its slope."""
    loss = bpcore.CategoricalCrossEntropy(reduction="sum")
    p = np.array([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0]], dtype)
    eps = float(np.finfo(dtype).eps)
    assert loss.forward(p, [0, 1]) == pytest.approx(-np.log(0.75), rel=8 * eps, abs=2 * eps)
    slope = loss.backward()
    np.testing.assert_allclose(slope[1], [0, -1 / 0.75, 0], rtol=4 * eps)
    np.testing.assert_array_equal(slope[0, 1:], 0)


def test_quantile_at_its_kink(dtype, level):
    d = np.array([[-2, -0.5, 0, 0.5, 2]], dtype)  # target - prediction
    loss = bpcore.Quantile(quantile=0.75, reduction="sum")
    assert loss.forward(-d, np.zeros_like(d)) == 0.25 * 2.5 + 0.75 * 2.5
    np.testing.assert_array_equal(loss.backward(), [[0.25, 0.25, 0, -0.75, -0.75]])


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_the_quantile_minimises_its_loss(quantile):
    """The mean of the slopes is the share of targets below, less the quantile."""
    t = np.random.default_rng(0).normal(size=101)
    loss = bpcore.Quantile(quantile=quantile)
    for share in (0.05, 0.45, 0.95):
        p = np.quantile(t, share) + 1e-9
        loss.forward(np.full_like(t, p), t)
        assert loss.backward().sum() == pytest.approx((t < p).mean() - quantile, abs=1e-12)


def test_rates_are_clipped(dtype, level):
    """p is clipped to at least eps; there the loss is flat, and so its gradient is 0."""
    eps = float(np.finfo(dtype).eps)
    p, t = np.array([[0.0], [-3.0], [eps], [0.5]], dtype), np.array([2, 0, 1, 1], dtype)
    loss = bpcore.Poisson(reduction="sum")
    expected = 4 * 0 + 3 * eps - 3 * np.log(eps) + 0.5 + np.log(2)
    assert loss.forward(p, t) == pytest.approx(expected, rel=8 * eps)
    np.testing.assert_allclose(loss.backward()[:, 0], [0, 0, 1 - 1 / eps, -1], rtol=4 * eps)


def test_rates_and_their_logs_without_end(dtype, level):
    """Where the rate overflows the loss is infinite, whatever the target; nowhere is it nan."""
    largest = np.finfo(dtype).max
    for target in (0.0, 3.0):
        loss = bpcore.Poisson(from_log=True, reduction="sum")
        for z in (1e3, 1e30, largest, np.inf):
            for size in (1, 33):
                assert loss.forward(np.full(size, z, dtype), np.full(size, target)) == np.inf
                np.testing.assert_array_equal(loss.backward(), np.full(size, np.inf, dtype))
        loss.forward(np.array([-1e3, -1e30, -largest, -np.inf], dtype), np.full(4, target))
        np.testing.assert_array_equal(loss.backward(), np.full(4, -target, dtype))
        loss = bpcore.Poisson(reduction="sum")
        assert loss.forward(np.array([np.inf], dtype), [target]) == np.inf
        np.testing.assert_array_equal(loss.backward(), [1])
        assert np.isnan(loss.forward(np.array([np.nan], dtype), [target]))
        assert np.isnan(loss.backward()).all()
    loss = bpcore.Poisson(from_log=True, reduction="sum")
    assert loss.forward(np.array([-np.inf, -largest], dtype), [0.0, 0.0]) == 0
