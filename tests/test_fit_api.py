"""net.fit as its users see it: the record, the options, the optimisers, learning from real data."""

import copy
import inspect
import time
import weakref

import numpy as np
import pytest

import bpcore
from bpcore import Dense

N = 40


@pytest.fixture
def data(rng):
    x = rng.normal(size=(N, 4))
    return x, np.stack([x[:, 0] * x[:, 1], np.tanh(x[:, 2])], axis=1)


def network(**keywords):
    return bpcore.mlp([4, 6, 2], hidden="tanh", **({"rng": 0} | keywords))


def state(net):
    return net.parameters.tobytes(), net.gradients.tobytes(), str(net.rng.bit_generator.state)


# ----------------------------------------------------------------------------------------- history


def test_history(data):
    net = network()
    history = net.fit(*data, epochs=7)
    assert isinstance(history, bpcore.History) and net.history is history
    assert list(history) == ["epoch", "loss", "learning_rate", "seconds"]
    assert len(history) == 7 and all(len(values) == 7 for values in history.values())
    assert history["epoch"] == list(range(7))
    assert history["learning_rate"] == [0.01] * 7
    assert all(type(value) is float for value in history["loss"])
    assert all(a > b for a, b in zip(history["loss"], history["loss"][1:], strict=False))
    assert "loss" in history and "validation_loss" not in history
    assert set(history.keys()) == set(dict(history)) == set(history)
    with pytest.raises(KeyError, match="los"):
        history["los"]
    last = f"loss {history['loss'][-1]:.6g}, learning_rate 0.01"
    assert repr(history).startswith(f"History(7 epochs, at last {last}")
    assert "\n" not in repr(history)


def test_history_of_one_fit_alone(data):
    """A second fit has a record of its own, from epoch 0."""
    net = network()
    first = net.fit(*data, epochs=3)
    kept = list(first["loss"])
    second = net.fit(*data, epochs=2)
    assert second["epoch"] == [0, 1] and net.history is second
    assert first["loss"] == kept and second["loss"][0] < kept[-1]


def test_history_as_a_frame(data):
    net = network()
    history = net.fit(*data, epochs=3, validation_data=data, callbacks=[bpcore.GradientNorms()])
    frame = history.to_frame()
    assert list(frame.columns[:2]) == ["epoch", "loss"]
    assert frame.shape == (3, 7) and set(frame.columns) == set(history)
    for name, values in history.items():
        assert frame[name].tolist() == values
    assert network().fit(*data, epochs=0).to_frame().shape == (0, 4)


def test_seconds_are_of_training(data):
    shares = []
    for _ in range(5):  # a busy machine may take its time before or after
        start = time.perf_counter()
        seconds = network().fit(*data, epochs=2000, batch_size=1)["seconds"]
        shares.append(seconds[-1] / (time.perf_counter() - start))
        assert 0 < seconds[0] <= seconds[999] < seconds[-1] and seconds == sorted(seconds)
    assert 0.3 < max(shares) <= 1
    slow = network().fit(*data, epochs=3, callbacks=[lambda *arguments: time.sleep(0.05)])
    assert slow["seconds"][-1] < 0.05


def test_schedules_are_in_the_record(data):
    schedule = bpcore.StepDecay(0.1, 0.5, 2)
    history = network().fit(*data, epochs=5, optimizer=bpcore.Adam(learning_rate=schedule))
    assert history["learning_rate"] == [0.1, 0.1, 0.05, 0.05, 0.025]
    asked = []

    def rate(epoch):
        asked.append(epoch)
        return 0.1 / (1 + epoch)

    net = network()
    sgd = bpcore.SGD(learning_rate=rate)
    assert net.fit(*data, epochs=3, optimizer=sgd)["learning_rate"] == [0.1, 0.05, 0.1 / 3]
    assert set(asked) == {0, 1, 2} and all(type(epoch) is int for epoch in asked)
    decay = bpcore.CosineDecay(0.1, 2)
    before = net.fit(*data, epochs=2, optimizer=bpcore.SGD(learning_rate=decay))
    assert before["learning_rate"] == pytest.approx([0.1, 0.05])
    history = net.fit(*data, epochs=4, optimizer=bpcore.SGD(learning_rate=decay))
    assert history["learning_rate"][2:] == [0, 0]
    assert history["loss"][2] == pytest.approx(history["loss"][3]), "a rate of 0 changes nothing"


# --------------------------------------------------------------------------------- arguments of fit


def test_keywords_and_their_defaults():
    parameters = inspect.signature(bpcore.Network.fit).parameters
    defaults = {
        "epochs": 1, "batch_size": 32, "optimizer": None, "sampling": "shuffle",
        "sample_weight": None, "class_weight": None, "gradient_clip": None,
        "validation_data": None, "validation_fraction": 0.0, "early_stopping": None,
        "callbacks": (), "verbose": 0, "print_every": 1, "progress": False, "resume": False,
        "health": True,
    }  # fmt: skip
    keywords = {n: p.default for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert keywords == defaults
    assert [n for n in parameters if n not in defaults][1:] == ["X", "y"]


@pytest.mark.parametrize("keywords", [{}, {"validation_fraction": 0.25}, {"optimizer": "adam"}])
def test_no_epochs_do_nothing(keywords, data):
    net = network()
    net.fit(*data, optimizer="rprop")
    before, optimizer = state(net), net.optimizer
    step = optimizer.state(net).step
    history = net.fit(*data, epochs=0, **keywords)
    assert len(history) == 0 and history and list(history)[:2] == ["epoch", "loss"]
    assert repr(history) == "History(0 epochs)"
    assert state(net) == before, "the generator included"
    assert net.optimizer is optimizer and optimizer.state(net).step == step


@pytest.mark.parametrize("sampling", ["shuffle", "sequential", "replacement"])
def test_batches_of_all_rows(sampling, data):
    nets = []
    for batch_size in (None, N, N + 1, 10**12, np.int32(N)):
        nets.append(network())
        nets[-1].fit(*data, epochs=3, batch_size=batch_size, sampling=sampling)
        assert nets[-1].optimizer.state(nets[-1]).step == 3
    assert len({state(net) for net in nets}) == 1


def test_the_last_batch_may_be_short(data):
    for batch_size, steps in ((1, 40), (7, 6), (8, 5), (39, 2)):
        net = network()
        net.fit(*data, batch_size=batch_size)
        assert net.optimizer.state(net).step == steps
        net.fit(*data, epochs=2, batch_size=batch_size, sampling="replacement")
        assert net.optimizer.state(net).step == 3 * steps


def test_labels_and_one_hot_rows_are_the_same(dtype, rng, level):
    """To the last bit, whatever the integer type; (n, 1) too."""
    x, labels = rng.normal(size=(N, 4)), rng.integers(0, 3, N)
    results = set()
    for y in (
        labels, labels.astype("u1"), labels.astype(float), labels[:, None], labels.tolist(),
        np.eye(3)[labels], np.eye(3, dtype="f4")[labels], np.eye(3, dtype=bool)[labels],
    ):  # fmt: skip
        net = bpcore.mlp([4, 5, 3], output="softmax", loss="cross_entropy", dtype=dtype, rng=0)
        history = net.fit(x, y, epochs=4, batch_size=7, validation_data=(x, y))
        results.add((state(net), *history["loss"], *history["validation_loss"]))
    assert len(results) == 1


def test_weights_count_rows(rng, level):
    """Whole weights are repeated rows, weights of 0 rows left out, one for all no weights."""
    x, y = rng.normal(size=(N, 4)), rng.normal(size=(N, 2))
    w = rng.integers(0, 4, N)
    net, repeated, plain, ones = (network(l2=0.1) for _ in range(4))
    keywords = {"epochs": 20, "batch_size": None, "optimizer": "adam"}
    a = net.fit(x, y, sample_weight=w, **keywords)
    b = repeated.fit(np.repeat(x, w, axis=0), np.repeat(y, w, axis=0), **keywords)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-10)
    np.testing.assert_allclose(net.parameters, repeated.parameters, rtol=0, atol=1e-9)
    plain.fit(x, y, **keywords)
    ones.fit(x, y, sample_weight=np.full(N, 0.25), **keywords)
    np.testing.assert_allclose(plain.parameters, ones.parameters, rtol=0, atol=1e-12)
    assert np.abs(plain.parameters - net.parameters).max() > 1e-3


def test_gradient_clip(data):
    """The step of plain descent is at most the rate times the limit."""
    net = network()
    before = net.parameters.copy()
    sgd = bpcore.SGD(learning_rate=1.0)
    net.fit(data[0], 100 * data[1], batch_size=None, optimizer=sgd, gradient_clip=1e-3)
    assert np.linalg.norm(net.parameters - before) == pytest.approx(1e-3, rel=1e-9)
    assert np.linalg.norm(net.gradients) == pytest.approx(1e-3, rel=1e-9)
    free, clipped = network(), network()
    free.fit(*data, epochs=3)
    clipped.fit(*data, epochs=3, gradient_clip=1e9)
    assert state(free) == state(clipped)


def test_memory_maps_are_read_where_they_lie(rng, dtype, tmp_path):
    x, y = rng.normal(size=(N, 4)).astype(dtype), rng.normal(size=(N, 2)).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy"]
    a, b = network(dtype=dtype), network(dtype=dtype)
    a.fit(x, y, epochs=3, validation_fraction=0.2)
    b.fit(*mapped, epochs=3, validation_fraction=0.2)
    assert state(a) == state(b)


def test_data_is_not_copied(dtype, tmp_path):
    """64 MB that nobody has written to: fit asks for far less."""
    import tracemalloc

    x = np.zeros((2**20, 64 // dtype.itemsize), dtype)[:, ::-1]
    y = np.zeros((2**20, 1), dtype)
    net = bpcore.mlp([x.shape[1], 1], dtype=dtype, rng=0)
    tracemalloc.start()
    try:
        net.fit(x, y, batch_size=4096, sampling="sequential", validation_data=(x, y))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_data_is_let_go(data):
    net = network()
    x, y = data[0].copy(), data[1].copy()
    references = [weakref.ref(x), weakref.ref(y)]
    net.fit(x, y, epochs=2, validation_data=(x, y), callbacks=[lambda *arguments: None])
    del x, y
    assert [r() for r in references] == [None, None]


# -------------------------------------------------------------------------------------- validation


def test_validation_data(data, dtype):
    net = network(l2=0.1, dtype=dtype)
    w = np.linspace(0, 1, N)
    twin = copy.deepcopy(net)
    history = net.fit(*data, epochs=3, batch_size=7, validation_data=(*data, w))
    assert list(history)[:3] == ["epoch", "loss", "validation_loss"]
    for epoch in range(3):
        twin.fit(*data, batch_size=7)
        expected = twin.loss_value(*data, sample_weight=w)
        assert history["validation_loss"][epoch] == pytest.approx(expected, rel=1e-6)
    assert state(net) == state(twin)


def test_validation_fraction(data, level):
    """The rows are those of rng.permutation; the others are trained on in their order."""
    x, y = data
    w = np.linspace(0.1, 1, N)
    for fraction, held_out in ((0.25, 10), (0.01, 1), (0.99, N - 1), (0.5, 20)):
        net, twin = network(), network()
        keywords = {"epochs": 3, "batch_size": 4}
        history = net.fit(x, y, sample_weight=w, validation_fraction=fraction, **keywords)
        order = twin.rng.permutation(N)
        held, rest = np.sort(order[:held_out]), np.sort(order[held_out:])
        wanted = twin.fit(
            x[rest], y[rest], sample_weight=w[rest],
            validation_data=(x[held], y[held], w[held]), **keywords,
        )  # fmt: skip
        assert state(net) == state(twin)
        for name in ("loss", "validation_loss"):
            assert history[name] == wanted[name]


def test_validation_fraction_of_labels(rng):
    x, y = rng.normal(size=(N, 4)), rng.integers(0, 3, N)
    nets = [bpcore.mlp([4, 3], output="softmax", loss="cross_entropy", rng=0) for _ in range(2)]
    losses = [
        net.fit(x, target, validation_fraction=0.3, sampling="replacement")["validation_loss"]
        for net, target in zip(nets, (y, np.eye(3)[y]), strict=True)
    ]
    assert losses[0] == losses[1] and np.isfinite(losses).all()


# -------------------------------------------------------------------------------------- optimisers


def test_optimizer_none_goes_on_with_the_last(data):
    """State and all; and SGD() at first."""
    net, twin = network(), network()
    net.fit(*data, epochs=2)
    assert type(net.optimizer) is bpcore.SGD and repr(net.optimizer) == "SGD()"
    adam = bpcore.Adam()
    net, twin = network(), network()
    net.fit(*data, epochs=2, optimizer=adam)
    net.fit(*data, epochs=3)
    twin.fit(*data, epochs=5, optimizer=bpcore.Adam())
    assert net.optimizer is adam and adam.state(net).step == 10
    assert state(net) == state(twin)


def test_the_same_object_goes_on_and_others_start_afresh(data):
    nets = {}
    for second in ("same", "name", "new", "class", "copy"):
        net = nets[second] = network()
        adam = bpcore.Adam()
        net.fit(*data, epochs=2, optimizer=adam)
        again = {
            "same": adam, "name": "adam", "new": bpcore.Adam(), "class": bpcore.Adam,
            "copy": copy.deepcopy(adam),
        }[second]  # fmt: skip
        net.fit(*data, epochs=3, optimizer=again)
        assert net.optimizer.state(net).step == (10 if second == "same" else 6)
    assert len({state(nets[second]) for second in ("name", "new", "class", "copy")}) == 1
    assert state(nets["same"]) != state(nets["new"])


def test_one_optimizer_for_two_networks(data):
    """Each pair has a state of its own."""
    adam = bpcore.Adam()
    a, b, alone = network(rng=1), network(rng=2), network(rng=2)
    a.fit(*data, epochs=3, optimizer=adam)
    b.fit(*data, epochs=1, optimizer=adam)
    a.fit(*data, epochs=1, optimizer=adam)
    b.fit(*data, epochs=1, optimizer=adam)
    alone.fit(*data, epochs=2, optimizer="adam")
    assert state(b) == state(alone)
    assert (adam.state(a).step, adam.state(b).step) == (8, 4)


def test_rate_may_change_between_fits(data):
    net, sgd = network(), bpcore.SGD(learning_rate=0.1, momentum=0.9)
    net.fit(*data, optimizer=sgd)
    sgd.learning_rate = 0.025
    assert net.fit(*data)["learning_rate"] == [0.025]
    assert sgd.state(net).step == 4


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "adam", "adamw", "rprop"])
@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_a_loop_of_ones_own_is_fit(name, batch_size, dtype, level, rng):
    """loss_and_gradient and optimizer.step: the same bits as fit, in order."""
    decay = bpcore.ExponentialDecay(0.02, 0.8)
    make = {"momentum": lambda: bpcore.SGD(learning_rate=decay, momentum=0.9)}.get(
        name, lambda: type(bpcore.optimizers.get(name))(learning_rate=decay)
    )
    layers = [Dense(4, 6), bpcore.Tanh(), bpcore.Dropout(0.2), Dense(6, 2)]
    fitted = bpcore.Network(layers, rng=0, dtype=dtype, l2=0.01, l1=0.001)
    own, optimizer = copy.deepcopy(fitted), make()
    x, y = rng.normal(size=(N, 4)).astype(dtype), rng.normal(size=(N, 2)).astype(dtype)
    w = rng.uniform(0.1, 1, N).astype(dtype)
    size, epochs, losses = batch_size or N, 4, []
    for epoch in range(epochs):
        total = weight = 0.0
        for start in range(0, N, size):
            batch = slice(start, start + size)
            loss, _ = own.loss_and_gradient(
                x[batch], y[batch], sample_weight=w[batch], training=True
            )
            optimizer.step(own, epoch=epoch)
            part = float(w[batch].astype(float).sum())
            total, weight = total + loss * part, weight + part
        losses.append(total / weight)
    keywords = {"epochs": epochs, "batch_size": batch_size, "sampling": "sequential"}
    history = fitted.fit(x, y, sample_weight=w, optimizer=make(), **keywords)
    assert fitted.parameters.tobytes() == own.parameters.tobytes()
    assert fitted.gradients.tobytes() == own.gradients.tobytes()
    assert history["loss"] == pytest.approx(losses, rel=1e-13)
    both = zip(fitted.optimizer.state(fitted).slots, optimizer.state(own).slots, strict=True)
    assert all(a.tobytes() == b.tobytes() for a, b in both)
    assert own.optimizer is optimizer


# ------------------------------------------------------------------------------------- real things


def test_digits(dtype):
    """scikit-learn's 1,797 images: 97 % of held-out ones are read, over five ways to hold out."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    right = []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(x))
        train, held_out = order[360:], order[:360]
        net = bpcore.mlp(
            [64, 128, 10], output="softmax", loss="cross_entropy", dtype=dtype, rng=seed, l2=1e-3
        )
        adam = bpcore.Adam(learning_rate=bpcore.CosineDecay(3e-3, 60))
        net.fit(x[train] / 16, y[train], epochs=60, optimizer=adam)
        right.append((net.predict(x[held_out] / 16).argmax(axis=1) == y[held_out]).mean())
    assert np.mean(right) >= 0.97 and min(right) >= 0.95


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam", "adamw", "rprop"])
@pytest.mark.parametrize("hidden", ["sigmoid", "relu", "tanh", "gelu"])
def test_a_curve(optimizer, hidden, dtype):
    """Every optimiser fits a sine to under a twentieth of its variance."""
    x = np.linspace(-3, 3, 200)[:, None]
    y = np.sin(x)
    net = bpcore.mlp([1, 20, 1], hidden=hidden, dtype=dtype, rng=0)
    rate = {"sgd": 0.01, "rmsprop": 0.005, "adamw": 0.02}.get(optimizer, 0.01)
    kind = type(bpcore.optimizers.get(optimizer))
    momentum = {"momentum": 0.9} if optimizer == "sgd" else {}
    batch_size = None if optimizer == "rprop" else 20
    made = kind(learning_rate=rate, **momentum)
    net.fit(x, y, epochs=400, batch_size=batch_size, optimizer=made)
    assert net.loss_value(x, y) < 0.05 * y.var()


def test_data_that_change_between_fits_are_read_again():
    """Batches of all rows are kept from update to update, but not from fit to fit."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    net = bpcore.mlp([3, 4, 2], rng=0)
    net.fit(X, y, epochs=3, batch_size=20)
    X[:] = rng.normal(size=X.shape)
    y[:] = rng.normal(size=y.shape)
    other = copy.deepcopy(net)
    net.fit(X, y, epochs=3, batch_size=20)
    other.fit(X.copy(), y.copy(), epochs=3, batch_size=20)
    assert np.array_equal(net.parameters, other.parameters)


def test_validation_does_not_take_the_place_of_the_data():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    validated = bpcore.mlp([3, 4, 2], rng=0)
    plain = copy.deepcopy(validated)
    held_out = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    history = validated.fit(X, y, epochs=5, batch_size=20, validation_data=held_out)
    assert history["validation_loss"][-1] == validated.loss_value(*held_out)
    plain.fit(X, y, epochs=5, batch_size=20)
    assert np.array_equal(validated.parameters, plain.parameters)


def test_weights_that_were_not_finite_before_are_named():
    net = bpcore.mlp([1, 1], rng=0)
    net.parameters[0] = np.nan
    with pytest.raises(bpcore.DivergenceError, match="the weights were not finite before"):
        net.fit([[1.0]], [1.0])
