"""Interrupted fits that go on: the same bits, in the same process or another."""

import contextlib
import copy
import itertools
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import test_health as health
import test_model_file_errors as model_file

import bpcore
from bpcore import Dense, fitrun
from bpcore.progress import Progress

N, EPOCHS = 61, 6
OPTIMIZERS = {
    "sgd": lambda rate: bpcore.SGD(learning_rate=rate),
    "momentum": lambda rate: bpcore.SGD(learning_rate=rate, momentum=0.9),
    "nesterov": lambda rate: bpcore.SGD(learning_rate=rate, momentum=0.9, nesterov=True),
    "rmsprop": lambda rate: bpcore.RMSProp(learning_rate=rate),
    "adam": lambda rate: bpcore.Adam(learning_rate=rate),
    "adamw": lambda rate: bpcore.AdamW(learning_rate=rate),
    "rprop": lambda rate: bpcore.Rprop(learning_rate=rate),
}
SCHEDULES = {
    "step": bpcore.StepDecay(0.02, 0.5, 2),
    "exponential": bpcore.ExponentialDecay(0.02, 0.8),
    "cosine": bpcore.CosineDecay(0.02, 5),
}
# What differs from {"optimizer": "adam", "rate": 0.01, "batch_size": 7} in each case; "p" is
# dropout's, "weighted" and "validated" say what data there are.
CASES = {
    f"{name} {sampling}": {"optimizer": name, "sampling": sampling}
    for name in OPTIMIZERS
    for sampling in ("shuffle", "sequential", "replacement")
}
CASES |= {f"schedule {name}": {"rate": rate} for name, rate in SCHEDULES.items()}
CASES |= {
    f"dropout {s}": {"p": 0.3, "sampling": s} for s in ("shuffle", "sequential", "replacement")
}
CASES |= {
    "one row": {"batch_size": 1},
    "one row, sgd": {"batch_size": 1, "optimizer": "sgd"},
    "one row, replacement": {"batch_size": 1, "optimizer": "sgd", "sampling": "replacement"},
    "all rows": {"batch_size": None},
    "all rows, rprop": {"batch_size": None, "optimizer": "rprop"},
    "more than all": {"batch_size": 1000},
    "weighted": {"weighted": True},
    "clipped": {"gradient_clip": 0.1},
    "penalty": {"l2": 0.1, "l1": 0.01},
    "validated": {"validated": True},
    "held out": {"validation_fraction": 0.25},
    "held out, replacement": {"validation_fraction": 0.25, "sampling": "replacement", "p": 0.2},
    "all at once": {
        "p": 0.2,
        "weighted": True,
        "validated": True,
        "gradient_clip": 0.3,
        "l2": 0.01,
        "rate": SCHEDULES["cosine"],
    },
}
SPLITTABLE = {name: case for name, case in CASES.items() if "validation_fraction" not in case}
"""Each call of fit holds out rows of its own."""


def build(case, dtype=np.float64, epochs=EPOCHS):
    """The network, the positional arguments of fit, and its keywords."""
    settings = {"optimizer": "adam", "rate": 0.01, "batch_size": 7} | case
    take = settings.pop
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(N, 4)).astype(dtype), rng.normal(size=(N, 3)).astype(dtype)
    layers = [Dense(4, 6), bpcore.Tanh()]
    if p := take("p", 0):
        layers.append(bpcore.Dropout(p))
    layers += [Dense(6, 3)]
    net = bpcore.Network(layers, rng=3, dtype=dtype, l2=take("l2", 0.0), l1=take("l1", 0.0))
    settings["optimizer"] = OPTIMIZERS[settings["optimizer"]](take("rate"))
    if take("weighted", False):
        settings["sample_weight"] = rng.uniform(0.1, 2, N).astype(dtype)
    if take("validated", False):
        settings["validation_data"] = (x[:20] + 1, y[:20], np.linspace(0.1, 1, 20, dtype=dtype))
    return net, (x, y), settings | {"epochs": epochs}


def results(net):
    """All that must be the same, as bytes."""
    optimizer = net.optimizer.state(net)
    return {
        "parameters": net.parameters.tobytes(),
        "slots": [slot.tobytes() for slot in optimizer.slots],
        "counts": (optimizer.step, optimizer.epoch),
        "generator": str(net.rng.bit_generator.state),
        "config": net._config(),
    }


def records(history):
    return {
        name: np.array(history[name]).tobytes()
        for name in history
        if name not in ("seconds", "epoch")
    } | {"epoch": history["epoch"]}


class Interrupted(Exception):
    pass


@pytest.fixture
def interrupt(monkeypatch):
    """interrupt(k): a fit returns to Python often, and the k-th time with an exception."""
    show = Progress.show

    def arm(k):
        calls = iter(range(k, -1, -1))

        def fail(bar, *arguments):
            show(bar, *arguments)
            if next(calls, None) == 0:
                raise Interrupted

        monkeypatch.setattr(Progress, "show", fail)

    monkeypatch.setattr(fitrun, "BUDGET", 0.0)
    yield arm


def again(net, how, path):
    """The same network from a file, a pickle, or as it is."""
    if how == "file":
        net.save(path)
        return bpcore.load(path)
    return {"copy": copy.deepcopy, "pickle": lambda n: pickle.loads(pickle.dumps(n))}.get(
        how, lambda n: n
    )(net)


def fit_in_pieces(net, data, keywords, interrupt, rounds, how, path):
    """Interrupted several times, each time a few batches on; returns the network and the places."""
    places = []
    for k in rounds:
        interrupt(k)
        try:
            net.fit(*data, **keywords, resume=bool(places))
        except Interrupted:
            position = net._interrupted.position
            places.append([position[name] for name in ("epoch", "validating", "batch")])
            net = again(net, how, path)
        else:
            return net, places
    interrupt(-1)
    net.fit(*data, **keywords, resume=True)
    return net, places


@pytest.mark.parametrize("name", CASES)
def test_an_interrupted_fit_is_finished(name, dtype, interrupt, tmp_path):
    """Wherever it was interrupted, also several times, as it is and through a file."""
    net, data, keywords = build(CASES[name], dtype)
    whole = copy.deepcopy(net)
    history = whole.fit(*data, **copy.deepcopy(keywords))
    batches = 0
    for how, rounds in [("same", (0, 1, 2)), ("file", (1, 0, 3))]:
        parts, places = fit_in_pieces(
            copy.deepcopy(net), data, copy.deepcopy(keywords), interrupt, rounds, how,
            tmp_path / "model",
        )  # fmt: skip
        assert places and places == sorted(places)
        assert results(parts) == results(whole), f"{how} at {places}"
        assert records(parts.history) == records(history), f"{how} at {places}"
        assert parts.gradients.tobytes() == whole.gradients.tobytes()
        assert parts._interrupted is None
        batches += sum(batch for _, _, batch in places)
    if keywords["batch_size"] == 7:
        assert batches, "no interruption was inside an epoch"


@pytest.mark.parametrize("how", ["copy", "pickle"])
def test_copies_are_as_unfinished(how, interrupt, tmp_path):
    net, data, keywords = build(CASES["all at once"])
    whole = copy.deepcopy(net)
    whole.fit(*data, **copy.deepcopy(keywords))
    parts, _ = fit_in_pieces(net, data, keywords, interrupt, (2, 1), how, tmp_path / "model")
    assert results(parts) == results(whole)


def test_of_another_dtype_there_is_nothing_to_finish(interrupt):
    net, data, keywords = build({})
    interrupt(1)
    with pytest.raises(Interrupted):
        net.fit(*data, **keywords)
    with pytest.raises(ValueError, match="nothing to resume"):
        net.astype("float32").fit(*data, resume=True)


def interrupted_while(what, interrupt, net, data, keywords, times, path):
    """How many of these interruptions came at such a position; each fit is resumed from a file."""
    whole = copy.deepcopy(net)
    history = whole.fit(*data, **keywords)
    found = 0
    for k in times:
        interrupt(k)
        parts = copy.deepcopy(net)
        with pytest.raises(Interrupted):
            parts.fit(*data, **keywords)
        found += parts._interrupted.position[what]
        interrupt(-1)
        parts = again(parts, "file", path)
        parts.fit(*data, **keywords, resume=True)
        assert results(parts) == results(whole)
        assert records(parts.history) == records(history)
    return found


def test_a_batch_of_many_blocks_starts_again(interrupt, tmp_path):
    """Interrupted between the blocks of a batch, whose rows and dropout key are drawn."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(3000, 4)), rng.normal(size=(3000, 3))
    for sampling in ("shuffle", "replacement"):
        layers = [Dense(4, 90), bpcore.Tanh(), bpcore.Dropout(0.5), Dense(90, 3)]
        net = bpcore.Network(layers, rng=1)
        keywords = {"epochs": 2, "batch_size": 2000, "sampling": sampling, "optimizer": "adam"}
        keywords |= {"validation_data": data}
        assert interrupted_while(
            "drawn", interrupt, net, data, keywords, range(5), tmp_path / "model"
        ), "no interruption was inside a batch"


def test_interrupted_while_it_validates(interrupt, tmp_path):
    rng = np.random.default_rng(0)
    data, many = (rng.normal(size=(9, 4)), rng.normal(size=(9, 3))), rng.normal(size=(20000, 7))
    net = bpcore.mlp([4, 90, 3], rng=1)
    keywords = {"epochs": 2, "optimizer": "adam", "validation_data": (many[:, :4], many[:, 4:])}
    assert interrupted_while(
        "validating", interrupt, net, data, keywords, range(1, 5), tmp_path / "model"
    ), "no interruption was inside a validation"


# --------------------------------------------------------------------------------------- callbacks


class Once:
    """Raises, or stops, at the end of one epoch, and not again."""

    def __init__(self, epoch, error=None):
        self.epoch, self.error, self.done = epoch, error, False

    def __call__(self, net, epoch, logs):
        if epoch == self.epoch and not self.done:
            self.done = True
            if self.error is not None:
                raise self.error
            return True


@pytest.mark.parametrize("how", ["same", "file"])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("monitor", [None, "loss"])
@pytest.mark.parametrize("first", [True, False])
def test_early_stopping_goes_on(how, error, monitor, first, tmp_path):
    """From the best weights so far, although those of the stop have been put back."""
    case = {"validated": True, "rate": 0.002, "optimizer": "rmsprop"}
    net, data, keywords = build(case, epochs=60)

    def stopping():
        return bpcore.EarlyStopping(monitor=monitor, patience=4, min_delta=1e-3)

    whole, early = copy.deepcopy(net), stopping()
    history = whole.fit(*data, **copy.deepcopy(keywords), callbacks=[early])
    assert 8 < len(history) < 60
    for epoch in (0, 5, early.best_epoch + 1, len(history) - 2):
        parts, other = copy.deepcopy(net), stopping()
        once = Once(epoch, error)
        callbacks = [once, other] if first else [other, once]
        given = copy.deepcopy(keywords)
        if error is None:
            parts.fit(*data, **given, callbacks=callbacks)
        else:
            with pytest.raises(error):
                parts.fit(*data, **given, callbacks=callbacks)
        assert len(parts.history) == epoch + 1
        parts = again(parts, how, tmp_path / "model")
        other = other if how == "same" else stopping()
        parts.fit(*data, **given, callbacks=[other], resume=True)
        assert results(parts) == results(whole), epoch
        assert records(parts.history) == records(history), epoch
        assert (other.best, other.best_epoch) == (early.best, early.best_epoch)
        with pytest.raises(ValueError, match="nothing to resume"):
            parts.fit(*data, **given, callbacks=[other], resume=True)


def test_what_callbacks_recorded_is_kept(tmp_path):
    net, data, keywords = build({}, epochs=6)

    def note(net, epoch, logs):
        logs["twice"] = 2 * logs["loss"]
        logs["even"] = epoch % 2 == 0
        if epoch in (1, 4):
            logs["word"] = "here"

    whole = copy.deepcopy(net)
    history = whole.fit(*data, **copy.deepcopy(keywords), callbacks=[note, bpcore.GradientNorms()])
    for how in ("same", "file"):
        parts = copy.deepcopy(net)
        callbacks = [note, bpcore.GradientNorms(), Once(2)]
        parts.fit(*data, **copy.deepcopy(keywords), callbacks=callbacks)
        got = again(parts, how, tmp_path / "model").fit(*data, callbacks=callbacks, resume=True)
        assert how == "file" or str(got["word"]) == str(history["word"])
        for name in set(history) - {"seconds", "word"}:  # a file holds numbers
            assert str(np.array(got[name], float)) == str(np.array(history[name], float)), name
        assert str(got["word"][3:]) == str(history["word"][3:])


@pytest.mark.parametrize("validated", [False, True])
def test_gradients_that_a_callback_has_yet_to_see_are_kept(validated, monkeypatch, tmp_path):
    """Ctrl-C mostly comes while C computes: after an epoch, but before callbacks hear of it."""
    net, data, keywords = build({"validated": validated}, epochs=4)
    given = {"callbacks": [bpcore.GradientNorms()]}
    whole = copy.deepcopy(net)
    history = whole.fit(*data, **copy.deepcopy(keywords), **given)
    stretch, places = fitrun.Run.stretch, set()
    monkeypatch.setattr(fitrun, "BUDGET", 0.0)
    for k in itertools.count():
        calls = iter(range(k, -1, -1))

        def interrupted(run, stop_epoch, calls=calls):
            done = stretch(run, stop_epoch)
            if next(calls, None) == 0:
                raise Interrupted
            return done

        monkeypatch.setattr(fitrun.Run, "stretch", interrupted)
        parts = copy.deepcopy(net)
        try:
            parts.fit(*data, **copy.deepcopy(keywords), **given)
        except Interrupted:
            position = parts._interrupted.position
        else:
            break
        places.add((position["batch"] > 0, position["validating"], position["told"]))
        parts = again(parts, "file", tmp_path / "model")
        parts.fit(*data, **copy.deepcopy(keywords), **given, resume=True)
        assert records(parts.history) == records(history), position
        assert results(parts) == results(whole), position
        assert parts.gradients.tobytes() == whole.gradients.tobytes(), position
    assert {(False, False, told) for told in range(4)} <= places


@pytest.mark.parametrize("place", ["alone", "before norms", "after norms"])
def test_a_checkpoint_holds_gradients_for_others_only(place, tmp_path):
    """Those with a state that are told after it: a resumed fit starts where the epoch has ended."""
    net, data, keywords = build({}, epochs=4)
    files = []

    class Kept(bpcore.Checkpoint):
        def on_epoch_end(self, net, epoch, logs):
            super().on_epoch_end(net, epoch, logs)
            shutil.copy(self.path, tmp_path / str(len(files)))
            files.append(tmp_path / str(len(files)))

    checkpoint, norms = Kept(tmp_path / "model"), bpcore.GradientNorms()
    callbacks = {
        "alone": [checkpoint],
        "before norms": [checkpoint.on_epoch_end, norms],  # as a `Checkpoint` it would come last
        "after norms": [norms, checkpoint],
    }[place]
    history = net.fit(*data, **copy.deepcopy(keywords), callbacks=callbacks)
    nets = [bpcore.load(file) for file in files]
    found = ["gradients" in parts._interrupted.arrays for parts in nets]
    assert found == [*[place == "before norms"] * 3, True]  # the last are what the fit leaves
    del keywords["optimizer"]
    for parts in nets:
        got = parts.fit(*data, **keywords, callbacks=callbacks, resume=True)
        assert records(got) == records(history)
        assert parts.gradients.tobytes() == net.gradients.tobytes()


def test_a_checkpoint_holds_what_callbacks_recorded_before_it(tmp_path):
    """Of the epoch at whose end it is made too, should the process end there."""
    net, data, keywords = build({}, epochs=5)
    path = tmp_path / "model"

    def given():
        return {"callbacks": [bpcore.GradientNorms(), bpcore.Checkpoint(path, every=2), crash]}

    def crash(net, epoch, logs):
        if epoch == 3 and path.exists():
            shutil.copy(path, tmp_path / "crashed")

    history = net.fit(*data, **keywords, **given())
    parts = bpcore.load(tmp_path / "crashed")
    assert records(parts.fit(*data, **given(), resume=True)) == records(history)


@pytest.mark.parametrize("how", ["same", "file"])
def test_an_interrupted_gradient_norm_is_computed_again(how, monkeypatch, tmp_path):
    net, data, keywords = build({}, epochs=4)
    given = {"callbacks": [bpcore.GradientNorms()]}
    whole = copy.deepcopy(net)
    history = whole.fit(*data, **copy.deepcopy(keywords), **given)
    norm, calls = np.linalg.norm, iter([1, 1, 1, 0])  # the second layer's, of the second epoch

    def interrupted(*arguments):
        if not next(calls, 1):
            raise KeyboardInterrupt
        return norm(*arguments)

    monkeypatch.setattr(np.linalg, "norm", interrupted)
    with pytest.raises(KeyboardInterrupt):
        net.fit(*data, **keywords, **given)
    net = again(net, how, tmp_path / "model")
    assert records(net.fit(*data, **given, resume=True)) == records(history)


def test_a_learning_rate_that_a_callback_sets_is_kept(tmp_path):
    """The optimiser may be named as at the start of the fit."""
    net, data, keywords = build({"rate": 0.02}, epochs=8)

    def halve(net, epoch, logs):
        if epoch % 2:
            net.optimizer.learning_rate = net.optimizer.learning_rate / 2

    whole = copy.deepcopy(net)
    history = whole.fit(*data, **copy.deepcopy(keywords), callbacks=[halve])
    parts = copy.deepcopy(net)
    parts.fit(*data, **copy.deepcopy(keywords), callbacks=[halve, Once(4)])
    parts = again(parts, "file", tmp_path / "model")
    parts.fit(*data, **copy.deepcopy(keywords), callbacks=[halve], resume=True)
    assert results(parts) == results(whole)
    assert records(parts.history) == records(history)


class Counter:
    """A callback with a state of its own, which hears of each epoch once."""

    def __init__(self):
        self.heard, self.begins = [], 0

    def on_fit_begin(self, net):
        self.begins += 1

    def on_epoch_end(self, net, epoch, logs):
        self.heard.append(epoch)

    def state_dict(self):
        return {"heard": list(self.heard), "begins": self.begins, "size": 0.5, "none": None}

    def load_state_dict(self, state):
        assert state["size"] == 0.5 and state["none"] is None
        self.heard, self.begins = list(state["heard"]), state["begins"]


@pytest.mark.parametrize("how", ["same", "file"])
def test_a_callback_with_state_hears_of_each_epoch_once(how, tmp_path):
    net, data, keywords = build({})
    counters = [Counter(), Counter()]
    boom = Once(3, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        net.fit(*data, **keywords, callbacks=[counters[0], boom, counters[1]])
    assert [c.heard for c in counters] == [[0, 1, 2, 3], [0, 1, 2]]
    net = again(net, how, tmp_path / "model")
    plain = []
    counters = [Counter(), Counter()]
    callbacks = [*counters, lambda net, epoch, logs: plain.append(epoch)]
    net.fit(*data, **keywords, callbacks=callbacks, resume=True)
    assert [c.heard for c in counters] == [list(range(EPOCHS))] * 2
    assert [c.begins for c in counters] == [1, 1]
    assert plain == [4, 5], "a plain function is not called again for the epoch it missed"


def test_callbacks_may_be_left_out_and_come_back():
    """They hear of what comes after that."""
    net, data, keywords = build({})
    net.fit(*data, **keywords, callbacks=[Once(1)])
    with pytest.raises(ZeroDivisionError):
        net.fit(*data, callbacks=[Once(2, ZeroDivisionError)], resume=True)
    for epoch in (3, 4):
        net.fit(*data, callbacks=[Once(epoch)], resume=True)
    heard = []
    net.fit(*data, callbacks=[lambda net, epoch, logs: heard.append(epoch)], resume=True)
    assert heard == [5] and len(net.history) == EPOCHS


# ------------------------------------------------------------------------------------------ signals


def test_ctrl_c(tmp_path, monkeypatch):
    """Real signals, at moments that nobody chose."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(2000, 20)), rng.normal(size=(2000, 2))
    net = bpcore.mlp([20, 30, 2], rng=1)
    keywords = {"epochs": 150, "batch_size": 16, "optimizer": "adam"}
    monkeypatch.setattr(fitrun, "BUDGET", 0.002)
    whole = copy.deepcopy(net)
    history = whole.fit(*data, **keywords)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    interruptions, finished = 0, False
    try:
        for seconds in (0.004, 0.033, 0.02, 0.06):
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                # on a busy machine the first signal may come before there is anything to resume
                net.fit(*data, **keywords, resume=net._interrupted is not None)
                finished = True
                break
            except KeyboardInterrupt:
                interruptions += 1
                net = again(net, "file", tmp_path / "model")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interruptions
    if not finished:
        net.fit(*data, **keywords, resume=net._interrupted is not None)
    assert results(net) == results(whole) and records(net.history) == records(history)


PROGRAM = """
import os, sys, time
import numpy as np
import bpcore

path = sys.argv[1]
rng = np.random.default_rng(0)
X, y = rng.normal(size=(300, 6)), rng.normal(size=(300, 2))
layers = [bpcore.Dense(6, 9), bpcore.Tanh(), bpcore.Dropout(0.2), bpcore.Dense(9, 2)]
net = bpcore.Network(layers, rng=1)
resume = os.path.exists(path)
if resume:
    net = bpcore.load(path)
if net._interrupted is None and resume:
    sys.exit(print("finished"))
sys.stdout.write("begun\\n")
sys.stdout.flush()
adam = bpcore.Adam(learning_rate=bpcore.CosineDecay(0.01, 300))
checkpoint = bpcore.Checkpoint(path, every=3)
net.fit(X, y, epochs=300, batch_size=10, optimizer=adam, validation_fraction=0.2,
        callbacks=[lambda *_: time.sleep(0.002), checkpoint], early_stopping=250, resume=resume)
print("finished")
"""


def test_killed_at_any_time(tmp_path):
    """kill -9, again and again: the file is whole, and the fit ends as if nothing had happened."""

    def run(path):
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path)], stdout=subprocess.PIPE, text=True
        )

    with run(tmp_path / "whole") as process:
        assert process.communicate(timeout=60)[0] == "begun\nfinished\n"
    moments, kills, epochs = random.Random(5), 0, set()
    for _ in range(60):
        with run(tmp_path / "parts") as process:
            said = process.stdout.readline()
            if said == "begun\n" and kills < 4:
                time.sleep(moments.uniform(0.0, 0.12))
                process.send_signal(signal.SIGKILL)
            rest = process.communicate(timeout=60)[0]
        if "finished" in said + rest:
            break
        kills += 1
        if (tmp_path / "parts").exists():
            epochs.add(bpcore.load(tmp_path / "parts")._interrupted.position["epoch"])
    assert kills >= 2 and epochs, "it was never killed in the middle"
    whole, parts = (bpcore.load(tmp_path / name) for name in ("whole", "parts"))
    assert results(whole) == results(parts), sorted(epochs)
    left = [name for name in os.listdir(tmp_path) if not name.startswith(".bpcore-")]
    assert sorted(left) == ["parts", "whole"]


# ------------------------------------------------------------------------------- k and n - k epochs

CONTINUE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import bpcore, test_resume
for name, files in json.loads(sys.argv[2]).items():
    net = bpcore.load(files[0])
    _, data, keywords = test_resume.build(test_resume.CASES[name], net.dtype)
    keywords |= {"optimizer": None, "epochs": 4}
    history = net.fit(*data, **keywords)
    net.metadata = {"loss": history["loss"], "rate": history["learning_rate"]}
    net.save(files[1])
"""


def test_the_rest_in_another_process(tmp_path):
    """6 epochs, or 2, a file, and 4 more: for every optimiser, sampling, dropout and schedule."""
    expected, files = {}, {}
    for i, (name, case) in enumerate(SPLITTABLE.items()):
        net, data, keywords = build(case)
        half = copy.deepcopy(net)
        history = net.fit(*data, **copy.deepcopy(keywords))
        net.metadata = {"loss": history["loss"][2:], "rate": history["learning_rate"][2:]}
        expected[name] = results(net)
        half.fit(*data, **keywords | {"epochs": 2})
        files[name] = [str(tmp_path / f"{i}"), str(tmp_path / f"{i} again")]
        half.save(files[name][0])
    folder = os.path.dirname(os.path.abspath(__file__))
    arguments = [sys.executable, "-c", CONTINUE, folder, json.dumps(files)]
    subprocess.run(arguments, check=True, timeout=120)
    for name, (_, path) in files.items():
        assert results(bpcore.load(path)) == expected[name], name


def test_a_schedule_goes_on_with_its_optimizer(tmp_path):
    """With a second fit of the same optimiser; one that is new begins again."""
    net, data, _ = build({})
    decay = bpcore.ExponentialDecay(0.5, 0.5)
    sgd = bpcore.SGD(learning_rate=decay)
    assert net.fit(*data, epochs=2, optimizer=sgd)["learning_rate"] == [0.5, 0.25]
    assert net.fit(*data, epochs=2)["learning_rate"] == [0.125, 0.0625]
    assert copy.deepcopy(net).fit(*data)["learning_rate"] == [0.03125]
    assert again(net, "file", tmp_path / "model").fit(*data)["learning_rate"] == [0.03125]
    assert net.fit(*data, optimizer=sgd)["learning_rate"] == [0.03125]
    twin = copy.deepcopy(net)
    expected = twin.fit(*data, epochs=4)["learning_rate"]
    net.fit(*data, epochs=4, callbacks=[Once(1)])
    assert (
        net.fit(*data, resume=True)["learning_rate"]
        == expected
        == [0.5 / 2**k for k in (5, 6, 7, 8)]
    )
    assert results(net) == results(twin)
    other = bpcore.SGD(learning_rate=decay)
    assert net.fit(*data, epochs=2, optimizer=other)["learning_rate"] == [0.5, 0.25]
    net.optimizer.learning_rate = 0.5
    assert net.fit(*data)["learning_rate"] == [0.5]


# -------------------------------------------------------------------------------------- arguments


@pytest.fixture
def interrupted(interrupt):
    """A network whose fit stopped in epoch 1 or later, and the fit's arguments."""
    net, data, keywords = build({"gradient_clip": 0.5, "validated": True, "weighted": True})
    net.fit(*data, **keywords, callbacks=[Once(2)])
    return net, data, keywords


def test_what_is_not_given_is_as_it_was(interrupted):
    net, data, keywords = interrupted
    given = {name: keywords[name] for name in ("sample_weight", "validation_data")}
    twin = copy.deepcopy(net)
    twin.fit(*data, **keywords | {"optimizer": copy.deepcopy(keywords["optimizer"])}, resume=True)
    net.fit(*data, **given, resume=True)
    assert results(net) == results(twin)
    assert records(net.history) == records(twin.history) and len(net.history) == EPOCHS


def test_more_epochs_are_allowed(interrupted):
    net, data, keywords = interrupted
    whole, _, fresh = build({"gradient_clip": 0.5, "validated": True, "weighted": True})
    history = whole.fit(*data, **fresh | {"epochs": 9})
    net.fit(*data, **keywords | {"epochs": 9}, resume=True)
    assert results(net) == results(whole) and records(net.history) == records(history)


REFUSED = {
    "batch_size": (32, r"batch_size 7, got 32"),
    "all rows": (None, r"batch_size 7, got 61"),
    "sampling": ("replacement", "sampling shuffle, got replacement"),
    "gradient_clip": (0.25, r"gradient_clip 0\.5, got 0\.25"),
    "validation_fraction": (0.5, "validation_data or validation_fraction, not both"),
    "validation_data": (None, "rows of validation_data 20, got None"),
    "sample_weight": (None, "sample_weight True, got False"),
    "optimizer": ("rprop", r"optimizer Adam\(learning_rate=0\.01\), got Rprop\(\)"),
    "epochs": (2, "epochs=2, but the interrupted fit has begun 3 epochs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_fit_is_refused(name, interrupted):
    """And nothing has changed, so that the right one can follow."""
    net, data, keywords = interrupted
    before = results(net)
    value, message = REFUSED[name]
    changed = keywords | {{"all rows": "batch_size"}.get(name, name): value}
    with pytest.raises(ValueError, match=message):
        net.fit(*data, **changed, resume=True)
    assert results(net) == before
    net.fit(*data, **keywords, resume=True)
    assert len(net.history) == EPOCHS


def test_other_data_are_refused(interrupted):
    net, (x, y), keywords = interrupted
    changed = keywords | {"sample_weight": keywords["sample_weight"][:-1]}
    with pytest.raises(ValueError, match="the number of rows 61, got 60"):
        net.fit(x[:-1], y[:-1], **changed, resume=True)


def test_nothing_to_resume(interrupted):
    net, data, keywords = interrupted
    fresh = bpcore.mlp([4, 6, 3])
    with pytest.raises(ValueError, match="nothing to resume"):
        fresh.fit(*data, resume=True)
    net.fit(*data)  # another fit, and the interrupted one is forgotten
    with pytest.raises(ValueError, match="nothing to resume"):
        net.fit(*data, **keywords, resume=True)


def test_a_finished_network_is_saved_as_before(interrupted, tmp_path):
    net, data, keywords = interrupted
    net.save(tmp_path / "interrupted")
    net.fit(*data, **keywords, resume=True)
    net.save(tmp_path / "finished")
    text = (tmp_path / "finished").read_bytes()
    assert b'"fit' not in text and b'\\"fit' not in text
    assert len(text) < len((tmp_path / "interrupted").read_bytes())


def test_divergence_leaves_a_fit_that_can_go_on_otherwise(tmp_path):
    """At a lower rate, set on the optimiser."""
    net, (x, y), keywords = build({"optimizer": "sgd", "rate": 1e308})
    data = x, 1e4 * y
    with pytest.raises(bpcore.DivergenceError):
        net.fit(*data, **keywords)
    net = again(net, "file", tmp_path / "model")
    with pytest.raises(bpcore.DivergenceError):
        net.fit(*data, **keywords, resume=True)
    net.optimizer.learning_rate = 1e-5
    assert len(net.fit(*data, resume=True)) == EPOCHS


def test_checkpoint(tmp_path):
    """Saves every so many epochs and at the end, after all others; the path may be of any kind."""
    net, data, keywords = build({})
    path, sizes = tmp_path / "model.safetensors", []

    def look(net, epoch, logs):
        sizes.append(bpcore.load(path)._interrupted.position["epoch"] if path.exists() else None)

    checkpoint = bpcore.Checkpoint(path, every=2)
    early = bpcore.EarlyStopping(patience=50)
    net.fit(*data, **keywords, callbacks=[checkpoint, look], early_stopping=early)
    assert sizes == [None, None, 2, 2, 4, 4]
    saved = bpcore.load(path)
    assert results(saved) == results(net) and saved._interrupted is None
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="every must be >= 1"):
            bpcore.Checkpoint(path, every=wrong)
    with pytest.raises(TypeError, match="every must be an integer"):
        bpcore.Checkpoint(path, every=1.5)
    with pytest.raises(TypeError):
        bpcore.Checkpoint(3)


# -------------------------------------------------------------------------------------- bad files

JUNK = [None, -1, 0, 3, 2**60, 1.5, "x", True, [1], {"a": 1}]


def paths(value, path=()):
    """Where the entries of a description are."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from paths(value[key], (*path, key))


def test_a_file_that_someone_changed(tmp_path):
    """One entry at a time: ModelFileError, or an exception of fit, or a fit; never a crash."""
    net, data, keywords = build({"p": 0.1, "validation_fraction": 0.25})
    callbacks = [Once(3, KeyboardInterrupt), bpcore.EarlyStopping(patience=3)]
    with pytest.raises(KeyboardInterrupt):
        net.fit(*data, **keywords, callbacks=callbacks)
    net._interrupted.arrays["order"] = np.arange(40)
    net._interrupted.position |= {"batch": 2, "drawn": True}
    net.save(tmp_path / "model")
    header, description, tensors = model_file.parts(tmp_path / "model")
    refused = done = 0
    for path in paths(description["fit"]):
        for junk in JUNK:
            changed = copy.deepcopy(description)
            place = changed["fit"]
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = junk
            header["__metadata__"]["bpcore"] = json.dumps(changed)
            model_file.write_parts(tmp_path / "changed", header, tensors)
            try:
                again = bpcore.load(tmp_path / "changed")
            except bpcore.ModelFileError:
                refused += 1
                continue
            with contextlib.suppress(ValueError, TypeError, LookupError):
                again.fit(*data, epochs=8, callbacks=[bpcore.EarlyStopping()], resume=True)
                done += 1
    assert refused > 150 and done > 15


@pytest.mark.parametrize("name", ["order", "held_out"])
@pytest.mark.parametrize("row", [-1, N, 2**62])
def test_rows_that_there_are_not(name, row, tmp_path):
    net, data, keywords = build({"validation_fraction": 0.25})
    net.fit(*data, **keywords, callbacks=[Once(3)])
    net._interrupted.arrays["order"] = np.arange(40)
    net._interrupted.arrays[name] = net._interrupted.arrays[name].copy()
    net._interrupted.arrays[name][3] = row
    net.save(tmp_path / "model")
    with pytest.raises(bpcore.ModelFileError, match=f"{name} has a row number"):
        bpcore.load(tmp_path / "model")


def test_a_file_from_before(tmp_path):
    """Without the entries that are new."""
    net, data, keywords = build({})
    net.fit(*data, **keywords)
    net.save(tmp_path / "model")
    header, description, tensors = model_file.parts(tmp_path / "model")
    assert description.pop("optimizer_epoch") == EPOCHS and "fit" not in description
    header["__metadata__"]["bpcore"] = json.dumps(description)
    model_file.write_parts(tmp_path / "old", header, tensors)
    old = bpcore.load(tmp_path / "old")
    assert old.optimizer.epochs_done(old) == 0 and old._interrupted is None
    assert old.parameters.tobytes() == net.parameters.tobytes()


# --------------------------------------------------------------------------------------- health


def stop_after(epoch):
    return lambda net, done, logs: done + 1 == epoch


def test_health_judges_the_epochs_before_the_interruption_too():
    """Of 12 epochs, 6 of them before a resume, it can say that the loss stands still; of 6 not."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    y = -X[:, 0]
    short = {"epochs": 12, "optimizer": bpcore.SGD(learning_rate=1e-6)}
    net = bpcore.mlp([3, 4, 1], hidden="tanh", rng=0)
    assert not health.warned(net.fit, X, y, callbacks=stop_after(6), **short)
    net._unwatched = 0.0  # as if it had trained for long
    net = pickle.loads(pickle.dumps(net))
    caught = health.warned(net.fit, X, y, resume=True)
    assert health.kinds(caught) == ["StalledWarning"]
    assert {warning.filename for warning in caught} == {health.__file__}
    assert len(net.history) == 12


@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
def test_health_changes_no_bits_of_a_fit_that_goes_on(sampling):
    X, y = health.MEASUREMENTS, health.LABELS
    keywords = {"epochs": 10, "batch_size": 3, "sampling": sampling}
    states = []
    for on in (True, False):
        for stop in (None, 4):
            net = bpcore.mlp([3, 4, 1], hidden="tanh", rng=0)
            callbacks = () if stop is None else stop_after(stop)
            arguments = keywords | {"optimizer": bpcore.Adam(), "health": on}
            caught = health.warned(net.fit, X, y, callbacks=callbacks, **arguments)
            assert ("UnscaledInputWarning" in health.kinds(caught)) == on
            if stop is not None:
                net._unwatched = 0.0
                caught = health.warned(net.fit, X, y, resume=True, health=on)
                assert ("UnscaledInputWarning" in health.kinds(caught)) == on
            states.append((results(net), records(net.history)))
    assert all(state == states[0] for state in states)


def test_a_warning_that_is_an_error_interrupts_and_the_fit_can_go_on():
    X, y = health.MEASUREMENTS, health.LABELS
    keywords = {"epochs": 10, "batch_size": 3}
    whole = bpcore.mlp([3, 4, 1], hidden="tanh", rng=0)
    whole.fit(X, y, optimizer="adam", health=False, **keywords)
    net = bpcore.mlp([3, 4, 1], hidden="tanh", rng=0)
    heard = []

    def hear(net, epoch, logs):
        heard.append(epoch)

    with pytest.raises(bpcore.UnscaledInputWarning), warnings.catch_warnings():
        warnings.simplefilter("error")
        net.fit(X, y, optimizer="adam", callbacks=hear, **keywords)
    net.fit(X, y, resume=True, health=False, callbacks=hear)
    assert heard == list(range(10))
    assert results(net) == results(whole)
    assert records(net.history) == records(whole.history)
