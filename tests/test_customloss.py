"""Losses written in Python: checked when they are made, and as good as bpcore's own in training."""

import copy
import itertools
import pickle
import signal
import threading
import time

import numpy as np
import pytest

import bpcore
from bpcore import CustomLoss, DivergenceError, DTypeError, ShapeError, losses
from bpcore.customloss import OUTPUTS, ROWS

WIDE = (20, 70, 5)  # no layer of it goes by columns, so sums have the order of a caller's loss
N = 61


def squares(prediction, target):
    return (prediction - target) ** 2


def squares_gradient(prediction, target):
    return 2 * (prediction - target)


def distances(prediction, target):
    """One number a row."""
    return np.sqrt(1 + ((prediction - target) ** 2).sum(axis=1))


def distances_gradient(prediction, target):
    return (prediction - target) / distances(prediction, target)[:, None]


def custom(**keywords):
    return CustomLoss(squares, squares_gradient, **keywords)


class Recorder:
    """Squares that count their calls, and do something at one of them."""

    def __init__(self, at=None, action=None):
        self.at, self.action, self.calls, self.seen = None, action, 0, []
        self.loss = CustomLoss(self.function, squares_gradient, name="recorded")
        self.at, self.calls, self.seen = at, 0, []  # without the calls of the check

    def function(self, prediction, target):
        self.calls += 1
        self.seen.append((threading.get_ident(), prediction, target))
        if self.calls == self.at:
            return self.action(prediction, target)
        return squares(prediction, target)


def network(loss, dtype="float64", widths=WIDE, dropout=0.0, **keywords):
    layers = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [bpcore.Dense(n_in, n_out), bpcore.Tanh(), bpcore.Dropout(dropout)]
    return bpcore.Network(layers[:-2], loss=loss, dtype=dtype, rng=0, **keywords)


def data(n=N, widths=WIDE):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, widths[0])), rng.normal(size=(n, widths[-1])), rng.uniform(0, 2, n)


def raises(error):
    def action(prediction, target):
        raise error

    return action


# ---------------------------------------------------------------- the same as bpcore's own


@pytest.mark.parametrize("reduction", losses.REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_alone(reduction, weighted, dtype):
    rng = np.random.default_rng(2)
    p, t = rng.normal(size=(2, 600, 3)).astype(dtype)
    w = rng.uniform(0, 2, 600) if weighted else None
    loss, own = custom(reduction=reduction), bpcore.MeanSquaredError(reduction=reduction)
    value = loss.forward(p, t, sample_weight=w)
    assert type(value) is float
    assert value == pytest.approx(
        own.forward(p, t, sample_weight=w), rel=1e3 * float(np.finfo(dtype).eps)
    )
    assert loss.backward().dtype == dtype
    np.testing.assert_array_equal(loss.backward(), own.backward())
    assert loss.forward(p[:, 0], t[:, 0]) == pytest.approx(own.forward(p[:, 0], t[:, 0]), rel=1e-5)
    assert loss.backward().shape == (600,)


@pytest.mark.parametrize("reduction", losses.REDUCTIONS)
def test_one_number_a_row(reduction):
    """It is not averaged over the outputs, whatever the reduction."""
    rng = np.random.default_rng(3)
    p, t = rng.normal(size=(2, 9, 4))
    w = rng.uniform(0.1, 2, 9)
    loss = CustomLoss(distances, distances_gradient, reduction=reduction)
    scale = w if reduction == "sum" else w / w.sum()
    expected = (scale * distances(p, t)).sum()
    assert loss.forward(p, t, sample_weight=w) == pytest.approx(expected, rel=1e-14)
    expected = scale[:, None] * distances_gradient(p, t)
    np.testing.assert_allclose(loss.backward(), expected, rtol=1e-14)
    net, (X, y, w) = network(loss), data()
    assert net.check_gradients(X[:9], y[:9], sample_weight=w[:9]).ok
    scale = w if reduction == "sum" else w / w.sum()
    expected = (scale * distances(net.predict(X), y)).sum()
    assert net.loss_value(X, y, sample_weight=w) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sampling": "replacement"},
        {"sampling": "sequential", "batch_size": 1},
        {"batch_size": None, "gradient_clip": 0.1},
        {"optimizer": "sgd", "validation_fraction": 0.2},
        {"optimizer": "rprop", "batch_size": None},
        {"weighted": True, "l2": 0.1, "l1": 0.01, "dropout": 0.3, "gradient_clip": 0.5},
    ],
    ids=str,
)
def test_trains_as_bpcores_own(settings, dtype):
    """To the last bit where the order of the sums is the same, losses to rounding."""
    settings = {"optimizer": "adam", "batch_size": 8, "epochs": 4} | settings
    X, y, w = data()
    of_network = {name: settings.pop(name) for name in ("l2", "l1", "dropout") if name in settings}
    weight = w if settings.pop("weighted", False) else None
    nets = [network(loss, dtype, **of_network) for loss in (custom(), "mse")]
    records = [net.fit(X, y, sample_weight=weight, **settings) for net in nets]
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)
    np.testing.assert_array_equal(nets[0].gradients, nets[1].gradients)
    for name in records[0].keys() - {"seconds"}:
        np.testing.assert_allclose(records[0][name], records[1][name], rtol=2e-6)


@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_trains_narrow_networks(batch_size):
    """These go by rows and by columns with bpcore's own losses, and by blocks here."""
    X, y, _ = data(widths=(4, 5, 3))
    nets = [network(loss, widths=(4, 5, 3)) for loss in (custom(), "mse")]
    for net in nets:
        net.fit(X, y, epochs=20, batch_size=batch_size, optimizer="sgd")
    np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=0, atol=1e-12)


def test_passes(dtype):
    X, y, w = data(1100)
    nets = [network(loss, dtype) for loss in (custom(), "mse")]
    for weight in (None, w):
        values = [net.loss_value(X, y, sample_weight=weight) for net in nets]
        assert values[0] == pytest.approx(values[1], rel=1e-6)
        results = [
            net.loss_and_gradient(X, y, sample_weight=weight, input_gradient=True) for net in nets
        ]
        np.testing.assert_array_equal(results[0][1], results[1][1])
        np.testing.assert_array_equal(results[0][2], results[1][2])
    np.testing.assert_array_equal(nets[0].predict(X), nets[1].predict(X))


def test_a_network_without_weights():
    net = bpcore.Network(
        [bpcore.Tanh(), bpcore.Dense(3, 2), bpcore.Softmax()], loss=custom(), rng=0
    )
    rng = np.random.default_rng(4)
    assert net.check_gradients(rng.normal(size=(6, 3)), rng.normal(size=(6, 2))).ok
    net = bpcore.Network([bpcore.Dense(3, 3), bpcore.Dropout(0.2)], loss=custom(), rng=0)
    assert net.check_gradients(rng.normal(size=(6, 3)), rng.normal(size=(6, 3))).ok


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_change_no_bit(threads):
    """Blocks are computed one after the other, and by the thread that called."""
    X, y, w = data(3000)
    before, fitted = bpcore.get_num_threads(), []
    try:
        for n in (1, threads):
            bpcore.set_num_threads(n)
            recorder = Recorder()
            net = network(recorder.loss)
            net.fit(X, y, epochs=2, batch_size=None, sample_weight=w, validation_data=(X, y))
            assert {ident for ident, *_ in recorder.seen} == {threading.get_ident()}
            assert len(recorder.seen) > 2 * 2 * 2
            fitted.append((net.parameters, net.history["loss"], net.history["validation_loss"]))
    finally:
        bpcore.set_num_threads(before)
    for a, b in zip(*fitted, strict=True):
        np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------- the check


@pytest.mark.parametrize(
    "gradient, text",
    [
        (lambda p, t: p - t, "factor 1/2"),
        (lambda p, t: 2 * (t - p), "sign"),
        (lambda p, t: 2 * np.abs(p - t), "differ"),
        (lambda p, t: np.zeros_like(p), "differ"),
    ],
)
def test_wrong_gradients_are_refused(gradient, text):
    with pytest.raises(ValueError, match="the gradient of CustomLoss squares is wrong") as caught:
        CustomLoss(squares, gradient)
    assert text in str(caught.value) and "x (7, 3): " in str(caught.value)
    loss = CustomLoss(squares, gradient, check=False)
    net, (X, y, _) = network(loss), data()
    assert not net.check_gradients(X[:5], y[:5], parameters=20).ok


def test_kinks_are_no_mistakes():
    assert CustomLoss(lambda p, t: np.abs(p - t), lambda p, t: np.sign(p - t)).by_element
    t = np.zeros((4, 2))
    loss = CustomLoss(
        lambda p, t: np.abs(p - t), lambda p, t: np.sign(p - t), check_with=(t[:, :] + [0, 1], t)
    )
    assert loss.by_element


def test_what_is_tried_is_documented():
    seen = []

    def function(p, t):
        seen.append((p.shape, t.shape, p.dtype, p.flags.writeable, t.flags.writeable))
        return squares(p, t)

    CustomLoss(function, squares_gradient, check=False)
    assert seen[0] == ((ROWS, OUTPUTS), (ROWS, OUTPUTS), np.float64, False, False)
    assert f"{ROWS} rows of {OUTPUTS}" in " ".join(CustomLoss.__doc__.split())


def test_check_with():
    """A loss of rates and counts, of one output."""
    function = lambda p, t: p - t * np.log(p)  # noqa: E731
    gradient = lambda p, t: 1 - t / p  # noqa: E731
    with pytest.raises(ValueError, match=r"gave nan for prediction .*check_with="):
        CustomLoss(function, gradient)
    points = [[0.5], [1.5], [3.0]], [[0], [2], [1]]
    loss = CustomLoss(function, gradient, check_with=points)
    own = bpcore.Poisson()
    assert loss.forward(*points) == pytest.approx(own.forward(*points), rel=1e-14)
    np.testing.assert_allclose(loss.backward(), own.backward(), rtol=1e-14)
    assert loss.forward([0.5, 1.5], [0, 2]) == own.forward([0.5, 1.5], [0, 2])
    for wrong, error, text in (
        ((1, 2, 3), TypeError, r"check_with must be \(prediction, target\)"),
        ([[1.0]], TypeError, r"check_with must be \(prediction, target\)"),
        ((np.ones(3), np.ones(3)), ShapeError, r"check_with prediction must have shape \(n, k\)"),
        ((np.ones((0, 2)), np.ones((0, 2))), ShapeError, "check_with prediction is empty"),
        ((np.ones((3, 2)), np.ones((2, 2))), ShapeError, "check_with target has shape"),
        ((np.ones((3, 2)), np.full((3, 2), np.nan)), ValueError, r"check_with target\[0, 0\]"),
    ):
        with pytest.raises(error, match=text):
            CustomLoss(function, gradient, check_with=wrong)


@pytest.mark.parametrize(
    "function, gradient, error, text",
    [
        (None, squares_gradient, TypeError, "function must be callable, got NoneType"),
        (squares, 3, TypeError, "gradient must be callable, got int"),
        (lambda p, t: squares(p, t).mean(), squares_gradient, ShapeError, r"shape \(\).*reduction"),
        (lambda p, t: squares(p, t).mean(axis=0), squares_gradient, ShapeError, r"shape \(3,\)"),
        (lambda p, t: squares(p, t).T, squares_gradient, ShapeError, r"expected a loss for each"),
        (squares, lambda p, t: p[:, 0], ShapeError, r"gradient of .* \(7,\).*expected \(7, 3\)"),
        (squares, lambda p, t: None, DTypeError, "what gradient of CustomLoss squares gave"),
        (lambda p, t: 1j * p, squares_gradient, DTypeError, "real numbers, got dtype complex128"),
        (squares, lambda p, t: p / 0, ValueError, "gradient of CustomLoss squares gave -?inf"),
        (lambda p, t: squares(p, t) / len(p), squares_gradient, ValueError, "row alone"),
        (squares, lambda p, t: 2 * (p - t) / len(p), ValueError, "gradient of .* row alone"),
        (lambda p, t: (p - t - p.mean(axis=0)) ** 2, squares_gradient, ValueError, "row alone"),
    ],
)
def test_other_mistakes_are_refused(function, gradient, error, text):
    with pytest.raises(error, match=text):
        CustomLoss(function, gradient)


def test_other_arguments():
    with pytest.raises(TypeError, match="name must be a string, got int"):
        custom(name=3)
    with pytest.raises(TypeError, match="check must be True or False"):
        custom(check="no")
    with pytest.raises(ValueError, match="unknown reduction 'average'"):
        custom(reduction="average")
    with pytest.raises(AttributeError, match="function of CustomLoss is fixed"):
        custom().function = distances
    assert repr(custom()) == "CustomLoss(squares, squares_gradient)"
    named = custom(name="mine", reduction="sum")
    assert repr(named) == (
        "CustomLoss(squares, squares_gradient, name='mine', reduction='sum')"
    )  # fmt: skip
    assert "loss=mine, " in repr(network(named)) and "loss mine, " in network(named).summary()
    assert "CustomLoss" not in losses.LOSSES and "custom" not in losses.LOSSES


def test_array_likes_will_do():
    """Lists, integers and float64 from a float32 network, in any layout."""
    loss = CustomLoss(
        lambda p, t: squares(p, t).tolist(),
        lambda p, t: np.asfortranarray(squares_gradient(p, t), dtype=float),
    )
    X, y, _ = data()
    nets = [network(loss, "float32"), network(custom(), "float32")]
    for net in nets:
        net.fit(X, y)
    np.testing.assert_allclose(*(net.parameters for net in nets), rtol=0, atol=1e-5)
    whole = CustomLoss(
        lambda p, t: np.abs(p - t), lambda p, t: (p > t).astype(int) - (p < t).astype(int)
    )
    assert whole.forward([1.0, 5.0], [2.0, 2.0]) == 2


# ---------------------------------------------------------------- when it fails


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), KeyboardInterrupt(), ValueError("x")])
@pytest.mark.parametrize("n", [N, 2000], ids=["one block", "blocks"])
def test_an_exception_leaves_the_weights_of_the_batch_before(error, n):
    """And the fit can be finished to the same bits."""
    X, y, _ = data(n)
    settings = {"epochs": 3, "batch_size": n // 2 + 1, "optimizer": "adam"}
    whole = Recorder()
    expected, before = network(whole.loss, dropout=0.2), network(custom(), dropout=0.2)
    expected.fit(X, y, **settings)
    assert (whole.calls == 6) == (n == N)
    recorder = Recorder(whole.calls // 2, raises(error))  # the last block of the third batch
    net = network(recorder.loss, dropout=0.2)
    with pytest.raises(type(error)) as caught:
        net.fit(X, y, **settings)
    assert caught.value is error
    before.fit(X, y, **settings | {"epochs": 1})
    np.testing.assert_array_equal(net.parameters, before.parameters)
    assert net.predict(X).shape == (n, WIDE[-1]) and np.isfinite(net.loss_value(X, y))
    history = net.fit(X, y, resume=True, callbacks=[])
    np.testing.assert_array_equal(net.parameters, expected.parameters)
    assert history["loss"] == expected.history["loss"]


def test_an_exception_in_validation():
    X, y, _ = data()
    settings = {"epochs": 3, "batch_size": None, "validation_data": (X, y)}
    expected = network(custom())
    expected.fit(X, y, **settings)
    error = ZeroDivisionError()
    net = network(Recorder(4, raises(error)).loss)  # the second epoch's validation
    with pytest.raises(ZeroDivisionError) as caught:
        net.fit(X, y, **settings)
    assert caught.value is error
    history = net.fit(X, y, resume=True, validation_data=(X, y))
    np.testing.assert_array_equal(net.parameters, expected.parameters)
    assert history["validation_loss"] == expected.history["validation_loss"]


@pytest.mark.parametrize("method", ["loss_value", "loss_and_gradient"])
def test_an_exception_in_a_pass(method):
    (X, y, _), error = data(), ArithmeticError("mine")
    recorder = Recorder(1, raises(error))
    net = network(recorder.loss)
    with pytest.raises(ArithmeticError) as caught:
        getattr(net, method)(X, y)
    assert caught.value is error
    assert np.isfinite(net.loss_value(X, y))
    assert net.fit(X, y)["loss"]


def test_an_exception_of_arithmetic_is_not_taken_for_divergence():
    (X, y, _), error = data(), FloatingPointError("mine")
    with pytest.raises(FloatingPointError) as caught:
        network(Recorder(2, raises(error)).loss).fit(X, y)
    assert caught.value is error


@pytest.mark.parametrize(
    "wrong, error, text",
    [
        (lambda p, t: squares(p, t)[:, 0], ShapeError, "function of CustomLoss recorded gave an"),
        (lambda p, t: squares(p, t)[1:], ShapeError, r"\(7, 5\) for predictions of shape \(8, 5\)"),
        (lambda p, t: "loss", DTypeError, "what function of CustomLoss recorded gave"),
        (
            lambda p, t: squares(p, t) * np.nan,
            DivergenceError,
            "function of CustomLoss .* gave nan",
        ),
        (lambda p, t: squares(p, t) / 0, DivergenceError, "function of CustomLoss .* gave inf"),
    ],
)
def test_results_are_looked_at_each_time(wrong, error, text):
    X, y, _ = data()
    net = network(Recorder(3, wrong).loss)
    with np.errstate(all="ignore"), pytest.raises(error, match=text) as caught:
        net.fit(X, y, batch_size=8)
    if error is DivergenceError:
        assert (caught.value.epoch, caught.value.batch, caught.value.learning_rate) == (0, 2, 0.01)
        assert "epoch 0, batch 2, at learning_rate 0.01" in str(caught.value)
    assert np.isfinite(net.parameters).all() and np.isfinite(net.loss_value(X, y))


def test_too_large_for_float32():
    X, y, _ = data()
    net = network(Recorder(1, lambda p, t: p.astype(float) * 1e300).loss, "float32")
    with pytest.raises(DivergenceError, match="function of CustomLoss recorded gave"):
        net.loss_value(X, y)


def test_divergence_keeps_the_last_finite_weights():
    X, y, _ = data()
    net = network(custom())
    with pytest.raises(DivergenceError, match="learning_rate"), np.errstate(all="ignore"):
        net.fit(X, 1e100 * y, epochs=100, optimizer=bpcore.SGD(learning_rate=1e10))
    assert np.isfinite(net.parameters).all()


# ---------------------------------------------------------------- what a function may do


def test_arrays_are_the_functions_to_keep_and_not_to_change():
    X, y, _ = data()
    recorder = Recorder()
    net = network(recorder.loss)
    net.fit(X, y, epochs=2, batch_size=N, sampling="sequential")
    (_, first, target), (_, second, _) = recorder.seen[-2:]
    np.testing.assert_array_equal(target, y)
    assert not np.array_equal(first, second) and not np.shares_memory(first, second)

    def changes(p, t):
        p += 1

    net = network(Recorder(1, changes).loss)
    with pytest.raises(ValueError, match="read-only"):
        net.fit(X, y)
    prediction = np.ones((2, 2))
    with pytest.raises(ValueError, match="read-only"):
        Recorder(1, changes).loss.forward(prediction, prediction)
    assert prediction.flags.writeable


def test_the_generator_may_be_used():
    """It is locked while C draws from it, and not while the loss is computed."""
    X, y, _ = data()
    drawn = []

    def draws(p, t):
        drawn.append(net.rng.random())
        return squares(p, t)

    net = network(Recorder(2, draws).loss)
    net.fit(X, y)
    assert len(drawn) == 1


def test_subnormal_numbers_are_as_the_caller_has_them():
    tiny = np.array([5e-324])
    X, y, _ = data()
    found = []

    def looks(p, t):
        found.append(float((tiny * 3)[0]))
        return squares(p, t)

    network(Recorder(2, looks).loss).fit(X, y)
    assert found == [1.5e-323]


def test_the_network_may_predict_and_not_compute_meanwhile():
    X, y, _ = data()

    def uses(p, t):
        assert net.predict(X).shape == y.shape
        with pytest.raises(RuntimeError, match="in the middle of"):
            net.loss_and_gradient(X, y)
        with pytest.raises(RuntimeError, match=r"in the middle of|cannot train"):
            net.fit(X, y)
        with pytest.raises(RuntimeError, match="in the middle of"):
            net.forward(X)
        return squares(p, t)

    for use in ("fit", "loss_and_gradient"):
        recorder = Recorder(1, uses)
        net = network(recorder.loss)
        getattr(net, use)(X, y)
        assert recorder.calls >= 1
        net.loss_and_gradient(X, y)


def test_threads_may_compute_the_loss_of_one_network():
    X, y, _ = data(500)
    net = network(custom())
    expected, found = net.loss_value(X, y), []
    threads = [
        threading.Thread(target=lambda: found.extend(net.loss_value(X, y) for _ in range(20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 80


# ---------------------------------------------------------------- with the rest


def test_early_stopping_and_callbacks():
    X, y, _ = data()
    histories = []
    for loss in (custom(), "mse"):
        net = network(loss)
        histories.append(net.fit(X, y, epochs=200, early_stopping=3, validation_fraction=0.3,
                                 optimizer=bpcore.Adam(learning_rate=0.05)))  # fmt: skip
    assert 3 < len(histories[0]) == len(histories[1]) < 200


def test_copies_share_the_functions():
    X, y, _ = data()
    recorder = Recorder()
    net = network(recorder.loss)
    for twin in (copy.copy(net), copy.deepcopy(net), net.astype("float32")):
        assert twin.loss.function == recorder.loss.function and twin.loss is not net.loss
        before = recorder.calls
        twin.fit(X, y)
        assert recorder.calls > before
    net.fit(X, y)
    np.testing.assert_array_equal(net.parameters, copy.copy(net).parameters)


def test_pickles_hold_the_functions():
    X, y, _ = data()
    net = network(custom(name="mine", reduction="sum"))
    twin = pickle.loads(pickle.dumps(net))
    assert twin.loss.config() == net.loss.config() and twin.loss.function is squares
    for each in (net, twin):
        each.fit(X, y, epochs=2)
    np.testing.assert_array_equal(net.parameters, twin.parameters)


def test_files(tmp_path):
    X, y, _ = data()
    path, net = tmp_path / "model.safetensors", network(custom(name="mine"))
    net.fit(X, y, epochs=2, optimizer="adam")
    net.save(path)
    with pytest.raises(
        ValueError, match=r"CustomLoss, 'mine'.*load\(path, loss=\.\.\.\)"
    ) as caught:
        bpcore.load(path)
    assert not isinstance(caught.value, bpcore.ModelFileError)
    again = bpcore.load(path, loss=custom(name="mine"))
    for each in (net, again):
        each.fit(X, y, epochs=2)
    np.testing.assert_array_equal(net.parameters, again.parameters)
    assert bpcore.load(path, loss="huber").loss.kernel == "huber"
    with pytest.raises(ValueError, match="unknown loss 'hubert'"):
        bpcore.load(path, loss="hubert")
    with pytest.raises(ValueError, match="CustomLoss lacks its argument 'function'"):
        losses.from_config(net.loss.config())
    network("mse").save(path)
    assert bpcore.load(path, loss=custom()).loss.function is squares


def test_an_interrupted_fit_goes_on_from_a_file(tmp_path):
    X, y, _ = data()
    path, settings = tmp_path / "half.safetensors", {"epochs": 3, "batch_size": 8}
    expected = network(custom())
    expected.fit(X, y, **settings)
    net = network(Recorder(11, raises(KeyboardInterrupt())).loss)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y, **settings)
    net.save(path)
    again = bpcore.load(path, loss=custom())
    again.fit(X, y, resume=True)
    np.testing.assert_array_equal(again.parameters, expected.parameters)
    assert again.history["loss"] == expected.history["loss"]


def test_health_and_explanations():
    X, y, _ = data()
    net = network(custom())
    report = net.health(X, y)
    assert (
        report.ok and np.isnan(report.loss_ratio) and np.isfinite(report.layers["0"].update_ratio)
    )
    with pytest.raises(ValueError, match=r"CustomLoss\(squares, .*is none"):
        bpcore.explain_gradients(net, X, y, net.gradients)


def test_a_gradient_check_may_leave_the_domain():
    """A step too far gives nan, as it does with bpcore's own losses."""
    points = [[0.5], [1.5], [3.0]], [[0], [2], [1]]
    loss = CustomLoss(
        lambda p, t: p - t * np.log(p), lambda p, t: 1 - t / p, check_with=points, name="rates"
    )
    net = bpcore.Network([bpcore.Dense(2, 1, weight_init=[[1.0], [1.0]])], loss=loss)
    report = net.check_gradients([[0.02, 0.01], [1.0, 1.0]], [1, 2])
    assert report.n_wrong == 0 and report.n_checked > 0


class Rung(Exception):
    """What the handler of the test below raises."""


def test_signals_while_another_thread_holds_the_generator():
    """The loss gives the generator's lock back, and must have it again before C goes on."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(64, 3))
    generator = np.random.default_rng(1)
    loss = bpcore.CustomLoss(lambda p, t: (p - t) ** 2, lambda p, t: 2 * (p - t), name="square")
    net = bpcore.mlp([3, 5, 1], hidden="tanh", loss=loss, rng=generator)
    stop = threading.Event()

    def hold():
        while not stop.is_set():
            with generator.bit_generator.lock:
                time.sleep(0.002)

    def ring(number, frame):
        raise Rung

    before = signal.signal(signal.SIGALRM, ring)
    holder = threading.Thread(target=hold)
    holder.start()
    rung = 0
    try:
        for i in range(25):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                net.fit(X, X[:, 0], epochs=10**6, batch_size=16, resume=i > 0, health=False)
            except Rung:
                rung += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        stop.set()
        holder.join()
    assert rung == 25
    assert generator.bit_generator.lock.acquire(timeout=10)
    generator.bit_generator.lock.release()
    assert np.isfinite(net.parameters).all()
