"""What comes between: other threads, Ctrl-C, divergence, and more rows than 32 bits count."""

import copy
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import bpcore
from bpcore import _core

N = 60


@pytest.fixture
def data(rng):
    x = rng.normal(size=(N, 4))
    return x, np.stack([x[:, 0] * x[:, 1], np.tanh(x[:, 2])], axis=1)


def network(seed=0, **keywords):
    return bpcore.mlp([4, 30, 2], hidden="tanh", rng=seed, **keywords)


class InAnotherThread:
    """A fit that another thread has begun, and that waits in a callback for the end of the test."""

    def __init__(self, net, data, **keywords):
        self.begun, self.end = threading.Event(), threading.Event()

        def wait(net, epoch, logs):
            self.begun.set()
            assert self.end.wait(30)
            return True

        def train():
            net.fit(*data, callbacks=[wait], **keywords)

        self.thread = threading.Thread(target=train)

    def __enter__(self):
        self.thread.start()
        assert self.begun.wait(30)

    def __exit__(self, *error):
        self.end.set()
        self.thread.join()


# ----------------------------------------------------------------------------------------- threads

TRAINING = {
    "fit": lambda net, x, y: net.fit(x, y),
    "loss_and_gradient": lambda net, x, y: net.loss_and_gradient(x, y),
    "forward": lambda net, x, y: net.forward(x),
    "backward": lambda net, x, y: net.backward(y),
    "step": lambda net, x, y: net.optimizer.step(net),
    "step of another": lambda net, x, y: bpcore.SGD().step(net),
    "save": lambda net, x, y: net.save("never.safetensors"),
}


@pytest.mark.parametrize("what", TRAINING)
def test_a_network_is_trained_by_one_thread(what, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = network()
    net.forward(data[0])
    with InAnotherThread(net, data, epochs=9, optimizer="adam"):
        before, gradients = net.parameters.copy(), net.gradients.copy()
        optimizer, generator = net.optimizer, net.rng.bit_generator.state
        with pytest.raises(RuntimeError, match="another thread is training this network"):
            TRAINING[what](net, *data)
        np.testing.assert_array_equal(net.parameters, before)
        np.testing.assert_array_equal(net.gradients, gradients)
        assert net.optimizer is optimizer and net.rng.bit_generator.state == generator
        assert optimizer.state(net).step == 2
    assert len(net.history) == 1 and not list(tmp_path.iterdir())
    TRAINING[what](net, *data)  # the lock is free again


def test_reading_while_another_thread_trains(data):
    net = network()
    with InAnotherThread(net, data):
        assert net.predict(data[0]).shape == (N, 2)
        assert net.loss_value(*data) > 0
        for copying in (copy.deepcopy, pickle.dumps, lambda net: net.check_gradients(*data)):
            with pytest.raises(RuntimeError, match="another thread is training this network"):
                copying(net)  # a step and its count must not be torn apart


@pytest.mark.parametrize("widths", [(4, 30, 2), (4, 300, 300, 2)])
def test_predictions_while_another_thread_trains(widths, dtype, rng):
    """At a rate of 0 the weights stay as they are, so all results must be the same bits."""
    net = bpcore.mlp(widths, dtype=dtype, rng=0)
    x, y = rng.normal(size=(3000, 4)).astype(dtype), rng.normal(size=(3000, 2)).astype(dtype)
    sizes = (1, 7, 500, 3000)
    expected = {n: net.predict(x[:n]).tobytes() for n in sizes}
    loss, stop, begun = net.loss_value(x, y), threading.Event(), threading.Event()

    def note(net, epoch, logs):
        begun.set()
        return stop.is_set()

    def predict(n):
        end = time.perf_counter() + 0.3
        for rounds in itertools.count():
            if rounds > 10 and time.perf_counter() > end:
                return
            assert net.predict(x[:n]).tobytes() == expected[n]
            assert net.loss_value(x, y) == loss

    rest = bpcore.SGD(learning_rate=lambda epoch: 0.0)
    with ThreadPoolExecutor(len(sizes) + 1) as pool:
        fitted = pool.submit(net.fit, x, y, epochs=10**5, optimizer=rest, callbacks=[note])
        try:
            assert begun.wait(30)
            assert list(pool.map(predict, sizes)) == [None] * len(sizes)
        finally:
            stop.set()
        assert len(fitted.result()) > 0


def test_networks_train_side_by_side(rng):
    """To the same bits as one after the other, with data that they share."""
    x, y = rng.normal(size=(500, 4)), rng.normal(size=(500, 2))
    nets = [network(seed) for seed in range(6)]
    alone = copy.deepcopy(nets)

    def train(net):
        return net.fit(x, y, epochs=60, optimizer="adam", validation_fraction=0.1)["loss"]

    expected = [train(net) for net in alone]
    with ThreadPoolExecutor(len(nets)) as pool:
        assert list(pool.map(train, nets)) == expected
    for net, same in zip(nets, alone, strict=True):
        assert net.parameters.tobytes() == same.parameters.tobytes()


def test_networks_that_share_a_generator_train_side_by_side(data):
    rng = np.random.default_rng(0)
    nets = [network(rng) for _ in range(4)]
    assert all(net.rng is rng for net in nets)
    with ThreadPoolExecutor(len(nets)) as pool:
        histories = list(pool.map(lambda net: net.fit(*data, epochs=300, batch_size=1), nets))
    assert all(history["loss"][-1] < history["loss"][0] / 2 for history in histories)


def test_other_threads_run_while_c_trains(rng):
    """Held for stretches of 50 ms, the interpreter would do about ten rounds in half a second."""
    net = network()
    x, y = rng.normal(size=(1000, 4)), rng.normal(size=(1000, 2))
    keywords = {"epochs": 100, "batch_size": 1, "optimizer": bpcore.SGD(learning_rate=1e-6)}
    thread = threading.Thread(target=net.fit, args=(x, y), kwargs=keywords)
    rounds, start = 0, time.perf_counter()
    thread.start()
    while thread.is_alive() and time.perf_counter() < start + 0.5:
        time.sleep(0.001)
        rounds += 1
    passed = time.perf_counter() - start
    thread.join()
    assert rounds > 60 * passed


class Scribbler:
    """Another thread that keeps changing arrays."""

    def __init__(self, *scribbles):
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, args=scribbles)

    def run(self, *scribbles):
        while not self.stop.is_set():
            for scribble in scribbles:
                scribble()

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *error):
        self.stop.set()
        self.thread.join()


def test_labels_that_change_during_fit_do_not_matter(rng):
    x, y = rng.normal(size=(N, 4)), rng.integers(0, 3, N)
    for labels in (y.copy(), y.astype("i4"), y.astype(float), y[:, None].copy()):
        nets = [bpcore.mlp([4, 9, 3], output="softmax", loss="cross_entropy", rng=0) for _ in "ab"]
        nets[0].fit(x, y, epochs=2000)
        begun = threading.Event()

        class Scribble:
            def on_fit_begin(self, net, labels=labels, begun=begun):
                labels[...] = 10**6
                begun.set()

        with Scribbler(lambda a=labels, e=begun: e.is_set() and a.fill(-(10**6))):
            nets[1].fit(x, labels, epochs=2000, callbacks=[Scribble()])
        assert nets[0].parameters.tobytes() == nets[1].parameters.tobytes()


@pytest.mark.parametrize("value", [0.5, 1e300, np.nan, -np.inf])
@pytest.mark.parametrize("which", ["X", "y", "sample_weight"])
def test_data_that_changes_during_fit(which, value, dtype, rng):
    """Rubbish in, DivergenceError or rubbish out; never a crash, nor weights not finite."""
    arrays = {
        "X": rng.normal(size=(N, 4)).astype(dtype), "y": rng.normal(size=(N, 2)).astype(dtype),
        "sample_weight": np.ones(N, dtype),
    }  # fmt: skip
    net = network(dtype=dtype)

    def scribble(net, epoch, logs):
        if epoch == 3:
            with np.errstate(over="ignore"):
                arrays[which][N // 2 :] = value

    diverged = False
    try:
        net.fit(**arrays, epochs=200, callbacks=[scribble], optimizer="adam", health=False)
    except bpcore.DivergenceError:
        diverged = True
    assert diverged or value in (0.5, 1e300) or which == "sample_weight"
    assert len(net.history) >= 4 and np.isfinite(net.history["loss"][:4]).all()
    assert np.isfinite(net.parameters).all()
    assert all(np.isfinite(slot).all() for slot in net.optimizer.state(net).slots)


def test_data_that_another_thread_changes_during_fit(rng):
    x, y, w = rng.normal(size=(N, 4)), rng.normal(size=(N, 2)), np.ones(N)
    noise = rng.normal(size=(N, 4))
    scribbles = (
        lambda: np.copyto(x, noise), lambda: x.fill(1), lambda: np.copyto(y, noise[:, :2]),
        lambda: y.fill(0.5), lambda: w.fill(0.1), lambda: w.fill(2),
    )  # fmt: skip
    net = network()
    with Scribbler(*scribbles):
        history = net.fit(x, y, sample_weight=w, epochs=5000, validation_data=(x, y, w))
    assert np.isfinite(net.parameters).all() and np.isfinite(history["validation_loss"]).all()


# ------------------------------------------------------------------------------------------ Ctrl-C

INTERRUPT = """
import json, signal, sys, threading, time
import numpy as np
import bpcore

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
widths, n, keywords = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
x, y = rng.normal(size=(n, widths[0])), rng.normal(size=(n, widths[-1]))
net = bpcore.mlp(widths, hidden="tanh", rng=0)
start = net.parameters.copy()
sgd = bpcore.SGD(learning_rate=1e-4)
if keywords.pop("watched", False):
    keywords["callbacks"] = [lambda net, epoch, logs: None]
waits, batches, total, state = [], -(-n // keywords["batch_size"]), 0, sgd.state(net)
for attempt in range(5):
    def interrupt():
        global sent
        while state.step == total:
            time.sleep(0.001)
        time.sleep(0.013 * attempt)
        sent = time.perf_counter()
        signal.raise_signal(signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        net.fit(x, y, epochs=10**6, optimizer=sgd, sampling="sequential", **keywords)
    except KeyboardInterrupt:
        waits.append(time.perf_counter() - sent)
    thread.join()
    steps = state.step
    assert steps > total, "it went on from where it was"
    assert len(net.history) == len(net.history["loss"]) == (steps - total) // batches
    if attempt == 0 and steps < 20000:
        own, bare = bpcore.mlp(widths, hidden="tanh"), bpcore.SGD(learning_rate=1e-4)
        own.parameters = start
        for step in range(steps):
            at = step % batches * keywords["batch_size"]
            rows = slice(at, at + keywords["batch_size"])
            own.loss_and_gradient(x[rows], y[rows])
            bare.step(own)
        assert own.parameters.tobytes() == net.parameters.tobytes(), "not at a batch boundary"
    total = steps
    net.predict(x), net.loss_and_gradient(x, y)
print(json.dumps(waits))
"""


@pytest.mark.parametrize(
    ("widths", "n", "keywords"),
    [
        ([4, 5, 3], 1000, {"batch_size": 1}),
        ([4, 5, 3], 10, {"batch_size": 10, "watched": True}),
        ([4, 5, 3], 10, {"batch_size": 3, "progress": True}),
        ([100, 300, 50], 5000, {"batch_size": 5000}),
        ([100, 300, 50], 5000, {"batch_size": 1900, "validation_fraction": 0}),
        ([1000, 1000, 1000], 1400, {"batch_size": 700}),  # a batch takes long, and is given up
    ],
    ids=str,
)
def test_ctrl_c(widths, n, keywords):
    """KeyboardInterrupt within 200 ms; the weights are at a batch boundary; training goes on."""
    command = [sys.executable, "-W", "error", "-c", INTERRUPT, json.dumps([widths, n, keywords])]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    waits = json.loads(done.stdout)
    assert len(waits) == 5
    assert sorted(waits)[2] < 0.2


HANDLE = """
import signal
import numpy as np
import bpcore

handled = []
def handle(number, frame):
    handled.append((net.rng.random(), float(net.predict(x[:1])[0, 0])))
    if len(handled) == 5:
        raise ZeroDivisionError("from the handler")
    signal.setitimer(signal.ITIMER_REAL, 0.06)
signal.signal(signal.SIGALRM, handle)
x = np.random.default_rng(0).normal(size=(1600, 1600))
net = bpcore.mlp([1600, 1600, 1600], rng=0)
signal.setitimer(signal.ITIMER_REAL, 0.06)
try:
    net.fit(x, x, epochs=10**6, batch_size=1600, optimizer=bpcore.SGD(learning_rate=1e-9))
except ZeroDivisionError as error:
    assert str(error) == "from the handler"
assert len(handled) == 5 and len(net.history) < 5
assert np.isfinite(net.parameters).all() and np.isfinite(handled).all()
net.predict(x[:1]), net.loss_and_gradient(x[:9], x[:9]), net.rng.random()
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
def test_handlers_run_in_the_middle_of_a_batch():
    """They may draw numbers and predict; what they raise ends the fit, and nothing else."""
    command = [sys.executable, "-W", "error", "-c", HANDLE]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_training_flushes_subnormals_and_nothing_else_does(data):
    """The caller's arithmetic is as before, after a fit and after one that failed."""
    tiny = np.array([5e-324])
    for targets in (data[1], data[1] * 1e200):
        net = network()
        try:
            net.fit(
                data[0], targets, epochs=3, optimizer=bpcore.SGD(learning_rate=1e3), health=False
            )
        except bpcore.DivergenceError:
            assert targets is not data[1] or np.isfinite(net.parameters).all()
        assert (tiny * 1 == tiny).all() and (np.array([2.3e-308]) / 4 > 0).all()
    net = bpcore.Network([bpcore.Dense(1, 1, weight_init=[[1e-310]])])
    assert net.predict([[0.5]])[0, 0] == 5e-311


# -------------------------------------------------------------------------------------- divergence


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "adam", "adamw", "rprop"])
@pytest.mark.parametrize("batch_size", [7, None])
def test_divergence(name, batch_size, dtype, level):
    """The weights are those before the step that failed: those of a loop of one's own."""
    make = {
        "sgd": lambda: bpcore.SGD(learning_rate=1e6),
        "momentum": lambda: bpcore.SGD(learning_rate=1e5, momentum=0.9),
        "rprop": lambda: bpcore.Rprop(learning_rate=large, step_sizes=(1e-6, large)),
    }.get(name, lambda: type(bpcore.optimizers.get(name))(learning_rate=large))
    large = 1e30 if dtype == np.float32 else 1e100
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(N, 4)).astype(dtype), rng.normal(size=(N, 2)).astype(dtype)
    net = bpcore.mlp([4, 6, 6, 2], hidden="softplus", rng=0, dtype=dtype)
    own, optimizer, size = copy.deepcopy(net), make(), batch_size or N
    with pytest.raises(bpcore.DivergenceError) as caught:
        net.fit(x, y, epochs=500, batch_size=batch_size, sampling="sequential", optimizer=make())
    error, steps = caught.value, net.optimizer.state(net).step
    assert isinstance(error, ArithmeticError)
    assert (error.epoch, error.batch) == divmod(steps, -(-N // size))
    rate = net.optimizer.learning_rate
    assert error.learning_rate == rate
    place = f"in epoch {error.epoch}, batch {error.batch}, at learning_rate {rate:g}"
    assert place in str(error) and error.__cause__ is None
    for step in range(steps):
        at = step % -(-N // size) * size
        own.loss_and_gradient(x[at : at + size], y[at : at + size])
        optimizer.step(own)
    assert net.parameters.tobytes() == own.parameters.tobytes()
    assert np.isfinite(net.parameters).all()
    both = zip(net.optimizer.state(net).slots, optimizer.state(own).slots, strict=True)
    assert all(a.tobytes() == b.tobytes() for a, b in both)
    assert len(net.history) == error.epoch and np.isfinite(net.history["loss"]).all()
    at = steps % -(-N // size) * size
    loss, gradient = own.loss_and_gradient(x[at : at + size], y[at : at + size])
    if np.isfinite(loss) and np.isfinite(gradient).all():
        with pytest.raises(bpcore.DivergenceError, match="a parameter would become non-finite"):
            optimizer.step(own)
    assert net.parameters.tobytes() == own.parameters.tobytes()


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop"])
def test_a_step_to_infinity_is_not_taken(name, dtype, level, data):
    """Loss and gradient are finite; a parameter would not be."""
    kind = bpcore.RMSProp if name == "rmsprop" else bpcore.SGD
    keywords = {"momentum": 0.9} if name == "momentum" else {}
    optimizer = kind(learning_rate=float(np.finfo(dtype).max) / 2, **keywords)
    net = network(dtype=dtype)
    before = net.parameters.copy()
    with pytest.raises(bpcore.DivergenceError, match="in epoch 0, batch 0, at learning_rate") as e:
        net.fit(data[0], 100 * data[1], optimizer=optimizer)
    assert (e.value.epoch, e.value.batch) == (0, 0)
    loss, gradient = net.loss_and_gradient(data[0], 100 * data[1])
    assert np.isfinite(loss) and np.isfinite(gradient).all() and np.abs(gradient).max() > 10
    with pytest.raises(bpcore.DivergenceError, match="a parameter would become non-finite before"):
        optimizer.step(net)
    np.testing.assert_array_equal(net.parameters, before)
    state = optimizer.state(net)
    assert state.step == 0 and not any(slot.any() for slot in state.slots)


def test_a_network_is_usable_after_divergence(data):
    net = network()
    with pytest.raises(bpcore.DivergenceError):
        net.fit(data[0] * 1e160, data[1] * 1e160, epochs=5)
    net.parameters = network().parameters
    net.fit(*data, epochs=3, optimizer="adam")
    twin = network()
    twin.rng.bit_generator.state = net.rng.bit_generator.state
    assert net.loss_value(*data) < twin.loss_value(*data)


# ------------------------------------------------------------------------------ beyond 32 bits


def many_rows(n, values):
    """A column of n float32, a byte apart, that ends with `values`; nothing else is touched."""
    size = 4 * len(values)
    try:
        memory = np.zeros(n + 3, np.uint8)
    except MemoryError:
        pytest.skip("this machine does not hand out 4 GB, not even of zeros")
    column = np.ndarray((n, 1), np.float32, memory, 0, (1, 1))
    memory[n + 3 - size :] = np.frombuffer(np.array(values, np.float32).tobytes(), np.uint8)
    rows = n - 1 - np.arange(0, size, 4)[::-1]
    np.testing.assert_array_equal(column[rows, 0], values)
    return column, rows


@pytest.mark.parametrize("sampling", ["sequential", "shuffle", "replacement"])
def test_rows_beyond_32_bits(sampling, dtype, level):
    """Rows past the 2**32nd are found in the data, the target and the weights."""
    n, values = 2**32 + 100, [3.0, 1.0, 4.0, 1.5, 9.0]
    x, rows = many_rows(n, values)
    few = np.array(values, np.float32)[:, None]
    results = []
    for data in ((x, x, x, rows), (few, few, few, np.arange(5))):
        net = bpcore.mlp([1, 3, 1], rng=0, dtype=dtype)
        losses, validation_losses, seconds = np.empty((3, 2))
        fit = _core.Fit(
            net._plan, data=data, validation=data, parameters=net.parameters,
            gradients=net.gradients, generator=net.rng, optimizer="sgd", slots=(),
            hyper=(0.0, 0.0, 0.0, 0.0), n_steps=0, gradient_clip=0.0, sampling=sampling,
            batch_size=2, order=np.empty(5, np.int64), learning_rates=np.full(2, 0.01),
            losses=losses, validation_losses=validation_losses, seconds=seconds,
        )  # fmt: skip
        while not fit.train(2, 1.0):
            pass
        results.append((net.parameters.tobytes(), losses.tolist(), validation_losses.tolist()))
    assert results[0] == results[1]
    assert results[0][1][0] > 1


def test_first_number_that_does_not_fit_beyond_32_bits():
    """Checked in blocks of rows by hand, as all of them would take seconds."""
    n = 2**32 + 100
    x, rows = many_rows(n, [3.0, np.inf])
    row, column = _core.find_unfit(x[n - 50 :], np.dtype("float32"))
    assert (row + n - 50, column) == (rows[-1], 0)


def test_strides_beyond_32_bits(dtype, level):
    """Five rows of 2**30 bytes and more, up and down."""
    step = 2**30 // dtype.itemsize + 5
    try:
        memory = np.zeros(4 * step + 4, dtype)
    except MemoryError:
        pytest.skip("this machine does not hand out 4 GB, not even of zeros")
    bytes_a_step = step * dtype.itemsize
    x = np.ndarray((5, 4), dtype, memory, 0, (bytes_a_step, dtype.itemsize))
    x[...] = np.arange(20).reshape(5, 4) / 10
    for far in (x, x[::-1]):
        near, y = far.copy(), np.cos(far[:, :1])
        net, twin = (bpcore.mlp([4, 5, 1], rng=0, dtype=dtype) for _ in range(2))
        assert net.predict(far).tobytes() == twin.predict(near).tobytes()
        assert net.loss_value(far, y) == twin.loss_value(near, y)
        net.fit(far, y, epochs=3, batch_size=2)
        twin.fit(near, y, epochs=3, batch_size=2)
        assert net.parameters.tobytes() == twin.parameters.tobytes()


def test_steps_beyond_32_bits(data):
    net = network()
    slots = np.full((2, net.parameters.size), 1e-3)
    net.optimizer = bpcore.Adam()
    net._set_optimizer_state(tuple(slots), 2**40)
    before = net.parameters.copy()
    net.fit(*data, batch_size=None)
    assert net.optimizer.state(net).step == 2**40 + 1
    m = 0.9 * slots[0] + 0.1 * net.gradients
    v = 0.999 * slots[1] + 0.001 * net.gradients**2
    change = 0.001 * m / (np.sqrt(v) + 1e-8)  # the corrections of the first steps have faded
    np.testing.assert_allclose(net.parameters, before - change, rtol=1e-12)
