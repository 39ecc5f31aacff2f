"""What watches a fit: callbacks, early stopping, gradient norms, printing and progress."""

import copy
import subprocess
import sys

import numpy as np
import pytest

import bpcore

N = 40


@pytest.fixture
def data(rng):
    x = rng.normal(size=(N, 4))
    return x, np.stack([x[:, 0] * x[:, 1], np.tanh(x[:, 2])], axis=1)


@pytest.fixture
def net():
    return bpcore.mlp([4, 6, 2], hidden="tanh", rng=0)


class Recorder:
    """Notes what it is told."""

    def __init__(self, stop_at=None):
        self.events, self.stop_at = [], stop_at

    def on_fit_begin(self, net):
        self.events.append(("begin", net))

    def on_epoch_end(self, net, epoch, logs):
        self.events.append((epoch, net, dict(logs)))
        return epoch == self.stop_at

    def on_fit_end(self, net, history):
        self.events.append(("end", net, history))


# --------------------------------------------------------------------------------------- protocol


def test_an_object_is_told_everything(net, data):
    recorder = Recorder()
    history = net.fit(*data, epochs=3, validation_data=data, callbacks=[recorder])
    assert [event[0] for event in recorder.events] == ["begin", 0, 1, 2, "end"]
    assert all(event[1] is net for event in recorder.events)
    assert recorder.events[-1][2] is history is net.history
    for epoch, _, logs in recorder.events[1:-1]:
        assert type(epoch) is int and set(logs) == set(history) - {"epoch"}
        assert all(logs[name] == history[name][epoch] for name in logs)


def test_a_function_is_called_after_each_epoch(net, data):
    """With the weights of that epoch."""
    calls = []
    twin = copy.deepcopy(net)
    history = net.fit(
        *data, epochs=3, callbacks=[lambda *now: calls.append((*now, net.parameters.copy()))]
    )
    assert [(seen, epoch) for seen, epoch, _, _ in calls] == [(net, 0), (net, 1), (net, 2)]
    assert [logs["loss"] for _, _, logs, _ in calls] == history["loss"]
    for *_, parameters in calls:
        twin.fit(*data)
        np.testing.assert_array_equal(parameters, twin.parameters)


def test_parts_of_the_protocol_will_do(net, data):
    class Begin:
        def on_fit_begin(self, net):
            self.begun = True

    class Function:
        def on_fit_end(self, net, history):
            self.ended = len(history)

        def __call__(self, net, epoch, logs):
            self.last = epoch

    begin, function = Begin(), Function()
    net.fit(*data, epochs=2, callbacks=iter([begin, function]))
    assert begin.begun and function.last == 1 and function.ended == 2


@pytest.mark.parametrize("true", [True, np.True_])
def test_true_stops(true, net, data, capsys):
    """After all callbacks of that epoch; on_fit_end is called, and the record ends there."""
    recorder, twin = Recorder(), copy.deepcopy(net)

    def stop(net, epoch, logs):
        return true if epoch == 2 else None

    history = net.fit(
        *data, epochs=9, callbacks=[stop, recorder], verbose=1, print_every=5,
        optimizer=bpcore.SGD(learning_rate=bpcore.ExponentialDecay(0.1, 0.9)),
    )  # fmt: skip
    assert [event[0] for event in recorder.events] == ["begin", 0, 1, 2, "end"]
    assert len(history) == 3 and all(len(values) == 3 for values in history.values())
    assert capsys.readouterr().out.startswith("epoch 3/9  loss ")
    twin.fit(*data, epochs=3, optimizer=net.optimizer)
    np.testing.assert_array_equal(net.parameters, twin.parameters)


@pytest.mark.parametrize("answer", [False, None, 1, "yes", 0.5, np.False_, [True]])
def test_only_true_stops(answer, net, data):
    assert len(net.fit(*data, epochs=3, callbacks=[lambda *arguments: answer])) == 3


def test_what_is_added_to_the_logs_is_recorded(net, data):
    def note(net, epoch, logs):
        logs["twice"] = 2 * logs["loss"]
        if epoch == 1:
            logs["once"] = "here"

    seen = Recorder()
    history = net.fit(*data, epochs=3, callbacks=[note, seen])
    assert history["twice"] == [2 * loss for loss in history["loss"]]
    assert list(history)[-2:] == ["once", "twice"]
    assert np.isnan([history["once"][0], history["once"][2]]).all()
    assert history["once"][1] == "here"
    assert seen.events[2][2]["once"] == "here", "later callbacks see it"
    assert history.to_frame().shape == (3, 6)


def test_what_a_callback_does_to_the_weights_lasts(net, data):
    """Assigned or in place; the loss of the next epoch is that of the new weights."""

    def restart(net, epoch, logs):
        if epoch == 0:
            net.parameters = np.full(net.parameters.size, 0.25)
        else:
            net["0"].weight[...] = 0

    history = net.fit(*data, epochs=3, batch_size=None, callbacks=[restart])
    other = bpcore.mlp([4, 6, 2], hidden="tanh")
    other.parameters = np.full(net.parameters.size, 0.25)
    assert history["loss"][1] == pytest.approx(other.loss_value(*data), rel=1e-12)
    assert (net["0"].weight == 0).all() and (net["0"].bias != 0).any()


def test_a_callback_may_use_the_network(net, data, tmp_path):
    """To predict, to save, to copy, to compute gradients: training goes on as if it had not."""
    x, y = data
    twin, copies = copy.deepcopy(net), []

    def use(net, epoch, logs):
        net.predict(x), net.loss_value(x, y), net.loss_and_gradient(x, y, input_gradient=True)
        net.backward(net.forward(x[:3]))
        net.save(tmp_path / "net.safetensors")
        assert net.check_gradients(x[:5], y[:5]).ok
        copies.append(copy.deepcopy(net))

    net.fit(x, y, epochs=4, batch_size=7, optimizer="adam", callbacks=[use])
    twin.fit(x, y, epochs=4, batch_size=7, optimizer="adam")
    np.testing.assert_array_equal(net.parameters, twin.parameters)
    saved = bpcore.load(tmp_path / "net.safetensors")
    for same in (saved, copies[-1]):
        np.testing.assert_array_equal(same.parameters, net.parameters)
        assert same.optimizer.state(same).step == 24
    copies[1].fit(x, y, epochs=2, batch_size=7)
    np.testing.assert_array_equal(copies[1].parameters, net.parameters)


def test_a_callback_cannot_train_the_network_again(net, data):
    with pytest.raises(RuntimeError, match="callback cannot train the network that is being tr"):
        net.fit(*data, epochs=3, callbacks=[lambda *arguments: net.fit(*data)])
    assert len(net.history) == 1
    other = copy.deepcopy(net)
    net.fit(*data, epochs=2, callbacks=[lambda *arguments: other.fit(*data)])
    assert other.optimizer.state(other).step == 6


# --------------------------------------------------------------------------------------- exceptions


class Mine(Exception):
    pass


@pytest.mark.parametrize("event", ["on_fit_begin", "on_epoch_end", "on_fit_end"])
@pytest.mark.parametrize("kind", [Mine, KeyboardInterrupt, ArithmeticError, StopIteration])
def test_a_callback_that_raises(event, kind, net, data):
    """The exception comes out as it is; the network has what it learnt and trains on."""
    error, twin = kind("from the callback"), copy.deepcopy(net)

    class Raises:
        calls = 0

    def method(self, *arguments):
        self.calls += 1
        if event != "on_epoch_end" or self.calls == 3:
            raise error

    setattr(Raises, event, method)
    with pytest.raises(kind) as caught:
        net.fit(*data, epochs=5, optimizer="adam", callbacks=[bpcore.GradientNorms(), Raises()])
    assert caught.value is error and error.__cause__ is None and error.__context__ is None
    epochs = {"on_fit_begin": 0, "on_epoch_end": 3, "on_fit_end": 5}[event]
    assert len(net.history) == epochs
    assert all(len(values) == epochs for values in net.history.values())
    twin.fit(*data, epochs=epochs, optimizer="adam")
    np.testing.assert_array_equal(net.parameters, twin.parameters)
    net.fit(*data, epochs=2)
    twin.fit(*data, epochs=2)
    if epochs:
        np.testing.assert_array_equal(net.parameters, twin.parameters)
    net.loss_and_gradient(*data)


def test_a_single_callback_needs_no_list(net, data):
    assert "gradient_norm.0" in net.fit(*data, callbacks=bpcore.GradientNorms())


def test_a_callback_changes_the_learning_rate(net, data):
    """It counts for the epochs that follow, in the record and in the steps."""

    def halve(net, epoch, logs):
        net.optimizer.learning_rate *= 0.5

    twin = copy.deepcopy(net)
    history = net.fit(*data, epochs=4, optimizer=bpcore.SGD(learning_rate=0.1), callbacks=halve)
    assert history["learning_rate"] == [0.1, 0.05, 0.025, 0.0125]
    twin.fit(*data, epochs=4, optimizer=bpcore.SGD(learning_rate=bpcore.ExponentialDecay(0.1, 0.5)))
    np.testing.assert_array_equal(net.parameters, twin.parameters)


def test_early_stopping_on_the_training_loss_restores_the_best_weights():
    """That loss is taken before each update, so the best weights are those at the epoch's start."""
    net = bpcore.Network([bpcore.Dense(1, 1, weight_init="zeros")])
    x, y = [[1.0], [2.0]], [1.0, 2.0]
    settings = {"batch_size": None, "optimizer": bpcore.SGD(learning_rate=0.55)}
    stopping = bpcore.EarlyStopping(patience=3)
    history = net.fit(x, y, epochs=20, early_stopping=stopping, **settings)
    assert len(history) == 4 and stopping.best == history["loss"][0] == net.loss_value(x, y) == 2.5


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([3], "a callback must be a function or an object with on_fit_begin, .*; got 3"),
        ([None], "a callback must be .*; got None"),
        (["print"], "a callback must be .*; got 'print'"),
        ([bpcore.GradientNorms], "a callback must be .*; got <class .*GradientNorms'>"),
    ],
)
def test_what_is_no_callback(callbacks, message, net, data):
    before = net.parameters.copy()
    with pytest.raises(TypeError, match=message):
        net.fit(*data, callbacks=callbacks)
    np.testing.assert_array_equal(net.parameters, before)


# ---------------------------------------------------------------------------------- early stopping


class Script:
    """Overwrites a figure by one from a list, for EarlyStopping to look at."""

    def __init__(self, values):
        self.values, self.parameters = values, []

    def __call__(self, net, epoch, logs):
        logs["figure"] = self.values[epoch]
        self.parameters.append(net.parameters.copy())


STOPS = {  # values, keywords, epochs run, best epoch
    "improves always": ([5, 4, 3, 2, 1], {"patience": 1}, 5, 4),
    "improves never": ([1, 1, 1, 1, 1], {"patience": 2}, 3, 0),
    "gets worse": ([1, 2, 3, 4, 5], {"patience": 1}, 2, 0),
    "waits": ([5, 4, 6, 6, 3, 6, 6, 6, 1], {"patience": 3}, 8, 4),
    "waits not": ([5, 4, 6, 6, 3, 6, 6, 6, 1], {"patience": 2}, 4, 1),
    "too little": ([5, 4.9, 4.8, 4.7], {"patience": 2, "min_delta": 0.5}, 3, 0),
    "little by little": ([5, 4.7, 4.4, 4.3], {"patience": 3, "min_delta": 0.5}, 4, 2),
    "by exactly so much": ([5, 4, 4, 2], {"patience": 2, "min_delta": 1}, 3, 0),
    "nan": ([np.nan, 3, np.nan, np.nan, np.nan], {"patience": 2}, 4, 1),
    "nan only": ([np.nan] * 5, {"patience": 2}, 3, -1),
    "too few epochs": ([2, 1, 3, 3], {"patience": 10}, 4, 1),
}


@pytest.mark.parametrize("name", STOPS)
@pytest.mark.parametrize("restore_best", [True, False])
def test_early_stopping(name, restore_best, net, data):
    values, keywords, epochs, best = STOPS[name]
    script = Script(values)
    keywords = keywords | {"mode": "min", "restore_best": restore_best}
    stopping = bpcore.EarlyStopping(monitor="figure", **keywords)
    history = net.fit(*data, epochs=len(values), callbacks=[script], early_stopping=stopping)
    assert len(history) == epochs and stopping.best_epoch == best
    assert stopping.best == (np.inf if best < 0 else values[best])
    wanted = script.parameters[best if restore_best else -1]
    np.testing.assert_array_equal(net.parameters, wanted)
    assert np.shares_memory(net["0"].weight, net.parameters)


def test_early_stopping_on_validation(rng):
    """Overfitting is noticed, and the network is as good as it ever was on the rows held out."""
    x, held_x = rng.normal(size=(20, 4)), rng.normal(size=(200, 4))
    y, held_y = x[:, :1] + rng.normal(size=(20, 1)), held_x[:, :1]
    net = bpcore.mlp([4, 40, 1], rng=0)
    keywords = {"epochs": 5000, "optimizer": bpcore.Adam(learning_rate=0.01)}
    history = net.fit(x, y, validation_data=(held_x, held_y), early_stopping=20, **keywords)
    losses = history["validation_loss"]
    best = int(np.argmin(losses))
    assert len(history) == best + 21 < 5000
    assert net.loss_value(held_x, held_y) == pytest.approx(losses[best], rel=1e-12)


def test_early_stopping_without_validation_looks_at_the_loss(net, data):
    stopping = bpcore.EarlyStopping(patience=3, min_delta=0.01)
    history = net.fit(*data, epochs=1000, early_stopping=stopping)
    assert len(history) < 1000
    assert stopping.best == history["loss"][stopping.best_epoch]


def test_early_stopping_forgets_an_earlier_fit(net, data):
    stopping = bpcore.EarlyStopping(monitor="figure", mode="min", patience=2)
    for values, best in (([5, 4, 3, 2], 2), ([9, 8, 7, 7, 7, 1], 7)):
        script = Script(values)
        net.fit(*data, epochs=len(values), callbacks=[script, stopping])
        assert (stopping.best, values[stopping.best_epoch]) == (best, best)
        np.testing.assert_array_equal(net.parameters, script.parameters[stopping.best_epoch])


def test_early_stopping_among_the_callbacks(net, data):
    stopping = bpcore.EarlyStopping(patience=1, min_delta=1e9)
    assert len(net.fit(*data, epochs=9, callbacks=[stopping])) == 2


def test_early_stopping_on_what_is_not_there(net, data):
    stopping = bpcore.EarlyStopping(monitor="validation_loss")
    with pytest.raises(ValueError, match="'validation_loss' is not recorded; there are loss, lea"):
        net.fit(*data, early_stopping=stopping)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"patience": 0}, ValueError, "patience must be >= 1, got 0"),
        ({"patience": 2.0}, TypeError, "patience must be an integer, got 2.0"),
        ({"min_delta": -1}, ValueError, "min_delta must be finite and >= 0, got -1.0"),
        ({"min_delta": np.nan}, ValueError, "min_delta must be finite and >= 0, got nan"),
        ({"restore_best": "no"}, TypeError, "restore_best must be True or False, got 'no'"),
    ],
)
def test_early_stopping_that_cannot_be(keywords, error, message):
    with pytest.raises(error, match=message):
        bpcore.EarlyStopping(**keywords)


# ----------------------------------------------------------------------------------- gradient norms


@pytest.mark.parametrize("order", [1, 2, np.inf])
def test_gradient_norms(order, data):
    """One column for each dense layer, by its name; the numbers are tested against the oracle."""
    layers = [("in", bpcore.Dense(4, 6)), bpcore.Tanh(), bpcore.Dense(6, 2, bias=False)]
    net = bpcore.Network(layers, rng=0)
    history = net.fit(*data, epochs=3, callbacks=[bpcore.GradientNorms(order=order)])
    assert list(history)[4:] == ["gradient_norm.2", "gradient_norm.in"]
    for name, weight in (("in", net["in"].grad_weight), ("2", net["2"].grad_weight)):
        norm = np.linalg.norm(weight.ravel(), order)
        assert history[f"gradient_norm.{name}"][-1] == pytest.approx(norm, rel=1e-12)
        assert len(set(history[f"gradient_norm.{name}"])) == 3


@pytest.mark.parametrize("order", [0, 3, -1, "2", None, np.nan])
def test_gradient_norms_of_no_order(order):
    with pytest.raises(ValueError, match=r"order must be 1, 2 or numpy\.inf, got"):
        bpcore.GradientNorms(order=order)


# ------------------------------------------------------------------------------ printing, progress


@pytest.mark.parametrize(
    ("epochs", "every", "printed"),
    [
        (5, 1, [1, 2, 3, 4, 5]),
        (5, 2, [2, 4, 5]),
        (6, 3, [3, 6]),
        (2, 10, [2]),
        (0, 1, []),
        (1, 1, [1]),
    ],
)
@pytest.mark.parametrize("watched", [False, True])
def test_lines(epochs, every, printed, watched, net, data, capsys):
    callbacks = [lambda *arguments: None] if watched else []
    history = net.fit(
        *data, epochs=epochs, verbose=1, print_every=every, validation_data=data,
        callbacks=callbacks,
    )  # fmt: skip
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines() == [
        f"epoch {i}/{epochs}  loss {history['loss'][i - 1]:.6g}  "
        f"validation_loss {history['validation_loss'][i - 1]:.6g}"
        for i in printed
    ]


def test_lines_go_through_print(net, data, monkeypatch):
    lines = []
    monkeypatch.setattr("builtins.print", lambda *words, **keywords: lines.append(words))
    history = net.fit(*data, epochs=2, verbose=True)
    assert lines == [(f"epoch {i}/2  loss {history['loss'][i - 1]:.6g}",) for i in (1, 2)]


def test_silence(net, data, capsys):
    for verbose in (0, False):
        net.fit(*data, epochs=3, verbose=verbose, print_every=1)
    assert capsys.readouterr() == ("", "")


def test_lines_of_a_long_fit(net, data, capsys):
    """C does not come back after each epoch; no line is lost or printed twice."""
    epochs = 30_000
    net.fit(*data, epochs=epochs, batch_size=None, verbose=1, print_every=500)
    numbers = [line.split("/")[0] for line in capsys.readouterr().out.splitlines()]
    assert numbers == [f"epoch {i}" for i in range(500, epochs + 1, 500)]


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"verbose": -1}, ValueError, "verbose must be >= 0, got -1"),
        ({"verbose": "yes"}, TypeError, "verbose must be an integer, got 'yes'"),
        ({"print_every": 0}, ValueError, "print_every must be >= 1, got 0"),
        ({"print_every": 1.5}, TypeError, "print_every must be an integer, got 1.5"),
        ({"progress": 1}, TypeError, "progress must be True or False, got 1"),
    ],
)
def test_printing_that_cannot_be(keywords, error, message, net, data):
    with pytest.raises(error, match=message):
        net.fit(*data, **keywords)


def test_progress(net, data, capsys):
    twin = copy.deepcopy(net)
    net.fit(*data, epochs=4, batch_size=7, progress=True)
    twin.fit(*data, epochs=4, batch_size=7)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "24.0/24.0" in captured.err and "100%" in captured.err and "loss=" in captured.err
    np.testing.assert_array_equal(net.parameters, twin.parameters)


def test_progress_is_closed_when_a_callback_raises(net, data, capsys):
    from tqdm.auto import tqdm

    def fail(net, epoch, logs):
        raise Mine

    with pytest.raises(Mine) as caught:
        net.fit(*data, epochs=4, progress=True, callbacks=[fail])
    assert caught.tb, "which keeps the bar alive"
    assert not tqdm._instances
    net.fit(*data, epochs=4, progress=True, callbacks=[lambda *arguments: True])
    assert "25%" in capsys.readouterr().err


def test_progress_without_tqdm(net, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    before = net.parameters.copy()
    with pytest.raises(ImportError, match=r"progress=True needs tqdm: pip install 'bpcore\[cli\]'"):
        net.fit(*data, progress=True)
    np.testing.assert_array_equal(net.parameters, before)


def test_progress_shows_losses_and_counts(net, data, capsys):
    history = net.fit(*data, epochs=4, batch_size=7, progress=True, validation_data=data)
    last = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    loss, validation = history["loss"][-1], history["validation_loss"][-1]
    assert f"loss={loss:.4g}, validation_loss={validation:.4g}]" in last
    assert "24.0/24.0" in last


def test_lines_stand_above_the_bar(net, data, capsys):
    history = net.fit(*data, epochs=3, progress=True, verbose=1, callbacks=[lambda *_: None])
    captured = capsys.readouterr()
    lines = [f"epoch {i + 1}/3  loss {history['loss'][i]:.6g}" for i in range(3)]
    assert captured.out.splitlines() == lines
    # before each line the bar is wiped away, and nothing but the last bar ends its line
    assert captured.err.count("\n") == 1 and captured.err.endswith("\n")
    assert "epoch 1/3" not in captured.err


def test_progress_is_full_after_early_stopping(net, data, capsys):
    history = net.fit(
        *data, epochs=500, progress=True, early_stopping=bpcore.EarlyStopping(min_delta=1e9)
    )
    assert len(history) < 500
    last = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert "100%" in last


def test_notebooks_without_widgets_get_a_bar_of_text_silently():
    """A kernel's IPython without ipywidgets: tqdm would warn."""
    code = """
import sys, types
kernel = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: kernel)
sys.modules["ipykernel.zmqshell"] = types.SimpleNamespace()
sys.modules["ipywidgets"] = None
import bpcore
bpcore.mlp([1, 1]).fit([[0.0], [1.0]], [0.0, 1.0], epochs=3, progress=True)
print(sys.modules["tqdm.notebook"].IProgress)
"""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n", "tqdm did look for widgets"
    assert "100%" in done.stderr and "arning" not in done.stderr
