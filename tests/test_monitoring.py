"""Figures that a user wants to follow: metrics, stopping on them, and the CSV logger."""

import copy
import csv
import shutil
from fractions import Fraction

import numpy as np
import pandas
import pytest
from sklearn import metrics as sklearn_metrics
from test_resume import Once, again, records, results

import bpcore

X = np.random.default_rng(3).normal(size=(60, 3))
LABELS = np.argmax(X + 0.5 * np.random.default_rng(4).normal(size=X.shape), axis=1)
SIDES = (X[:, 0] > X[:, 1]).astype(float)
NUMBERS = np.stack([X[:, 0] * X[:, 1], np.sin(X[:, 2])], axis=1)
HEADS = {  # output, loss, target, metric, the same by scikit-learn
    "labels": ("softmax", "cross_entropy", LABELS, "accuracy", lambda p: p.argmax(1)),
    "one-hot": ("softmax", "cross_entropy", np.eye(3)[LABELS], "accuracy", lambda p: p.argmax(1)),
    "logits": ("identity", "cross_entropy_logits", LABELS, "accuracy", lambda p: p.argmax(1)),
    "sides": ("sigmoid", "bce", SIDES, "accuracy", lambda p: p > 0.5),
    "sides, logits": ("identity", "bce_logits", SIDES, "accuracy", lambda p: p > 0),
    "numbers": ("identity", "mse", NUMBERS, "r2", None),
    "a number": ("identity", "huber", NUMBERS[:, 0], "r2", None),
}  # fmt: skip


def build(name="labels", **keywords):
    output, loss, y, *_ = HEADS[name]
    n_out = 3 if "cross" in loss else np.reshape(y, (60, -1)).shape[1]
    keywords = {"hidden": "tanh", "output": output, "loss": loss, "rng": 0} | keywords
    return bpcore.mlp([3, 8, n_out], **keywords), y


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("where", ["given", "held out", "validation"])
def test_metric(name, where, dtype):
    """What scikit-learn computes of the predictions, each epoch, on the rows meant."""
    net, y = build(name, dtype=dtype)
    function, decide = HEADS[name][3:]
    seen = []

    def check(net, epoch, logs):
        run = net._exclusive.run
        rows = {"given": slice(40), "validation": slice(30, None)}.get(where)
        rows = run.validation[3] if rows is None else rows
        p = net.predict(X[rows])
        if decide is None:
            value = sklearn_metrics.r2_score(y[rows], p)
        else:
            labels = y.argmax(1) if y.ndim == 2 else y
            value = sklearn_metrics.accuracy_score(labels[rows], decide(p).ravel())
        seen.append(value)

    metric = bpcore.Metric("figure", function, data=(X[:40], y[:40]) if where == "given" else None)
    keywords = {"held out": {"validation_fraction": 0.3}}.get(where, {})
    if where == "validation":
        keywords = {"validation_data": (X[30:], y[30:])}
    history = net.fit(
        X, y, epochs=4, optimizer="adam", callbacks=[check, metric], health=False, **keywords
    )
    np.testing.assert_allclose(history["figure"], seen, rtol=50 * np.finfo(dtype).eps)
    assert len(set(seen)) > 1 or decide is not None


def test_many_sides_are_counted_one_by_one():
    net = bpcore.Network([bpcore.Dense(1, 2, weight_init="zeros", bias_init=[1.0, -1.0])],
                         loss="bce_logits")  # fmt: skip
    y = [[1, 0], [1, 1], [0, 1]]
    metric = bpcore.Metric("accuracy", data=([[0.0]] * 3, y))
    rate = bpcore.SGD(learning_rate=1e-9)
    assert net.fit([[0.0]] * 3, y, optimizer=rate, callbacks=metric)["accuracy"] == [3 / 6]


def test_r2_of_a_constant_target():
    for bias, r2 in ((2.0, 1.0), (1.0, 0.0)):
        net = bpcore.Network([bpcore.Dense(1, 1, weight_init="zeros", bias_init=[bias])])
        logs = {}
        bpcore.Metric("r2", data=([[0.0], [1.0]], [2.0, 2.0])).on_epoch_end(net, 0, logs)
        assert logs == {"r2": r2}


def test_a_function_of_ones_own():
    """Gets the target in the shape of the predictions, may not change it, and returns a number."""
    net, y = build("a number")
    given = y.copy()

    def function(y, prediction):
        assert y.shape == prediction.shape == (60, 1)
        with pytest.raises(ValueError, match="read-only"):
            y[0] = 7
        return np.float32(0.5)

    metric = bpcore.Metric("mine", function)
    assert net.fit(X, y, validation_data=(X, given), callbacks=[metric])["mine"] == [0.5]
    assert given.flags.writeable


def test_a_metric_changes_no_bits():
    for name in ("labels", "numbers"):
        net, y = build(name)
        twin = copy.deepcopy(net)
        metric = bpcore.Metric(HEADS[name][3])
        keywords = {"epochs": 3, "validation_fraction": 0.25, "optimizer": "adam"}
        net.fit(X, y, callbacks=[metric], **keywords)
        twin.fit(X, y, **keywords)
        assert results(net) == results(twin)


def test_metrics_are_printed(capsys):
    net, y = build()
    history = net.fit(X, y, epochs=2, verbose=1, validation_fraction=0.25,
                      callbacks=[bpcore.Metric("accuracy"), bpcore.GradientNorms()])  # fmt: skip
    assert capsys.readouterr().out.splitlines() == [
        f"epoch {i + 1}/2  loss {history['loss'][i]:.6g}  validation_loss "
        f"{history['validation_loss'][i]:.6g}  accuracy {history['accuracy'][i]:.6g}"
        for i in range(2)
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("auc",), ValueError, "unknown metric 'auc'. The choices are accuracy, r2"),
        (("acc", "acuracy"), ValueError, "'acuracy'; did you mean 'accuracy'"),
        (("loss", max), ValueError, "cannot be called 'loss'"),
        (("", max), ValueError, "cannot be called ''"),
        ((max,), TypeError, "name of a metric must be text"),
        (("a", 3), TypeError, "function must be a callable or a name, got 3"),
    ],
)
def test_metrics_that_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        bpcore.Metric(*arguments)


@pytest.mark.parametrize(
    ("name", "metric", "message"),
    [
        ("labels", bpcore.Metric("r2", data=(X, LABELS)), "r2 is not for classes"),
        ("numbers", bpcore.Metric("accuracy", data=(X, NUMBERS)), "network has mse; give a func"),
        ("labels", bpcore.Metric("accuracy"), "metric 'accuracy' needs validation data"),
        ("labels", bpcore.Metric("a", max, data=(X[:, :2], LABELS)), "'a': X has 2 columns, but"),
        ("labels", bpcore.Metric("a", max, data=(X, LABELS + 1)), "'a': y: label 3 in row"),
        ("labels", bpcore.Metric("a", max, data=(X[:0], LABELS[:0])), "'a': X has no rows"),
        ("labels", bpcore.Metric("a", max, data=(X * np.nan, LABELS)), r"'a': X\[0, 0\] is nan"),
    ],
)
def test_a_metric_that_does_not_suit_the_fit(name, metric, message):
    """Nothing has begun."""
    net, y = build(name)
    before = net.parameters.copy(), str(net.rng.bit_generator.state)
    with pytest.raises(ValueError, match=message):
        net.fit(X, y, callbacks=[bpcore.GradientNorms(), metric])
    assert net.optimizer is None and net._interrupted is None
    assert net.parameters.tobytes() == before[0].tobytes()
    assert str(net.rng.bit_generator.state) == before[1]


@pytest.mark.parametrize(
    "value", [None, "0.5", b"1", [0.5], np.ones(1), np.ones((2, 2)), 1j, {}], ids=repr
)
def test_a_function_that_returns_no_number(value):
    net, y = build()
    metric = bpcore.Metric("mine", lambda y, prediction: value, data=(X, y))
    with pytest.raises(TypeError, match="function of metric 'mine' must return a number, got "):
        net.fit(X, y, callbacks=metric)


@pytest.mark.parametrize(
    ("value", "number"), [(True, 1.0), (np.int8(3), 3.0), (np.float32(0.5), 0.5),
                          (np.array(2), 2.0), (Fraction(1, 4), 0.25), (np.inf, np.inf)]
)  # fmt: skip
def test_numbers_that_a_function_may_return(value, number):
    net, y = build()
    metric = bpcore.Metric("mine", lambda y, prediction: value, data=(X, y))
    assert net.fit(X, y, callbacks=metric)["mine"] == [number]


class Script:
    def __init__(self, values):
        self.values, self.parameters = values, []

    def __call__(self, net, epoch, logs):
        logs["figure"] = self.values[epoch]
        self.parameters.append(net.parameters.copy())


class Silent(bpcore.Metric):
    """Adds more than its name, and does not say so."""

    def on_epoch_end(self, net, epoch, logs):
        super().on_epoch_end(net, epoch, logs)
        logs["figure"] = 1.0


ACCURACY = bpcore.Metric("accuracy", data=(X, LABELS))
UNFIT = {
    "mistyped": ([bpcore.EarlyStopping(monitor="acuracy", mode="max"), ACCURACY],
                 "'acuracy' is not recorded; there are loss, learning_rate, seconds, accuracy"),
    "no validation": ([bpcore.EarlyStopping(monitor="validation_loss")],
                      "'validation_loss' is not recorded; there are loss, learning_rate, seconds"),
    "no such layer": ([bpcore.GradientNorms(), bpcore.EarlyStopping(monitor="gradient_norm.1")],
                      "is not recorded; there are loss, .* gradient_norm.0, gradient_norm.2"),
    "of one name": ([ACCURACY, bpcore.Metric("accuracy", max, data=(X, LABELS))],
                    "two callbacks would record 'accuracy'.*; name one of them otherwise"),
    "of one name, and a function": ([lambda *a: None, ACCURACY, ACCURACY], "two callbacks"),
    "norms twice": ([bpcore.GradientNorms(), bpcore.GradientNorms(order=1)],
                    "two callbacks would record 'gradient_norm.0'"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_callbacks_that_do_not_suit_the_fit(name):
    """Are refused before it begins."""
    callbacks, message = UNFIT[name]
    net, y = build()
    before, heard = everything(net), []
    last = bpcore.Checkpoint("")  # adds nothing, and comes last
    last.on_fit_begin = lambda net: heard.append("begin")
    with pytest.raises(ValueError, match=message):
        net.fit(X, y, optimizer="adam", callbacks=[last, *callbacks])
    assert everything(net) == before and not heard


def everything(net):
    generator = str(net.rng.bit_generator.state)
    return net.parameters.tobytes(), net.optimizer, net._interrupted, net.history, generator


@pytest.mark.parametrize(
    "other", [Script([1.0, 1.0]), Silent("accuracy", data=(X, LABELS))], ids=["function", "class"]
)
def test_figures_that_nobody_spoke_of(other, tmp_path):
    """May be monitored and written all the same."""
    net, y = build()
    stopping = bpcore.EarlyStopping(monitor="figure", mode="max", patience=1)
    callbacks = [stopping, other, bpcore.CSVLogger(tmp_path / "log.csv", append=True)]
    for _ in range(2):
        assert net.fit(X, y, epochs=2, callbacks=callbacks)["figure"] == [1.0, 1.0]
    assert "figure" in read(tmp_path / "log.csv").columns


def test_a_callback_of_ones_own_that_is_asked():
    """Sees what the ones before it record, speaks of its own, and may refuse."""
    seen = []

    class Asked(Script):
        def check_fit(self, net, columns):
            seen.append((list(columns), columns.complete))
            columns.add("figure")

    net, y = build()
    first, second = Asked([1.0]), Asked([2.0])
    with pytest.raises(ValueError, match="two callbacks would record 'figure'"):
        net.fit(X, y, validation_fraction=0.5, callbacks=[first, second])
    names = ["loss", "validation_loss", "learning_rate", "seconds"]
    assert seen == [(names, True), ([*names, "figure"], True)]
    net.fit(X, y, callbacks=[lambda *a: None, first])
    assert seen[2] == (["loss", "learning_rate", "seconds"], False)
    mistyped = bpcore.EarlyStopping(monitor="figures", mode="min")
    with pytest.raises(ValueError, match=r"'figures' is not recorded; .* seconds, figure$"):
        net.fit(X, y, callbacks=[first, mistyped])


@pytest.mark.parametrize("data", [3, (X,), (X, LABELS, LABELS)])
def test_data_of_a_metric(data):
    with pytest.raises(TypeError, match=r"data must be \(X, y\)"):
        bpcore.Metric("accuracy", data=data)


# ---------------------------------------------------------------------------------- early stopping


LARGER = {  # values, keywords, epochs run, best epoch
    "improves": ([1, 2, 3, 4], {"patience": 1}, 4, 3),
    "gets worse": ([4, 3, 2, 1], {"patience": 2}, 3, 0),
    "negative": ([-3, -1, -2, -2, -2], {"patience": 2}, 4, 1),
    "by exactly so much": ([1, 2, 2, 3.5], {"patience": 2, "min_delta": 1}, 3, 0),
    "nan": ([np.nan, 0, np.nan, np.nan, 5], {"patience": 2}, 4, 1),
    "nan only": ([np.nan] * 4, {"patience": 2}, 3, -1),
}


@pytest.mark.parametrize("name", LARGER)
def test_stopping_where_larger_is_better(name):
    values, keywords, epochs, best = LARGER[name]
    net, y = build()
    script = Script(values)
    stopping = bpcore.EarlyStopping(monitor="figure", mode="max", **keywords)
    history = net.fit(X, y, epochs=len(values), callbacks=script, early_stopping=stopping)
    assert len(history) == epochs and stopping.best_epoch == best
    assert stopping.best == (-np.inf if best < 0 else values[best])
    np.testing.assert_array_equal(net.parameters, script.parameters[best])


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [(None, "min"), ("loss", "min"), ("accuracy", "max"), ("validation_r2", "max"),
     ("validation_score", "max"), ("R2", "max"), ("Accuracy", "max"), ("val_acc", "max"),
     ("auc", "max"), ("ROC-AUC", "max"), ("f1", "max"), ("Macro F1", "max"), ("recall", "max"),
     ("average_precision", "max"), ("validation_loss", "min"), ("Log-Loss", "min"),
     ("mean_squared_error", "min"), ("RMSE", "min"), ("gradient_norm.0", "min"),
     ("poisson deviance", "min"), ("seconds", "min")],
)  # fmt: skip
def test_mode_by_default(monitor, mode):
    assert bpcore.EarlyStopping(monitor=monitor).mode == mode
    for said in ("min", "max"):
        assert bpcore.EarlyStopping(monitor=monitor, mode=said).mode == said


@pytest.mark.parametrize(
    "monitor", ["figure", "r", "scores_mean", "floss", "neg_mean_squared_error", "brier_score", "7"]
)
def test_a_name_that_does_not_say_its_mode(monitor):
    with pytest.raises(ValueError, match=f"'{monitor}' does not say .* mode='min' or mode='max'"):
        bpcore.EarlyStopping(monitor=monitor)
    assert bpcore.EarlyStopping(monitor=monitor, mode="min").mode == "min"


def test_modes_that_cannot_be():
    with pytest.raises(ValueError, match="unknown mode 'maximum'; did you mean 'max'"):
        bpcore.EarlyStopping(mode="maximum")
    with pytest.raises(TypeError, match="monitor must be the name of a column or None, got 3"):
        bpcore.EarlyStopping(monitor=3)


def test_the_network_of_the_best_accuracy():
    """Wherever it stands among the callbacks, the figure is there when it is looked at."""
    net, y = build()
    for first in (True, False):
        trained = copy.deepcopy(net)
        stopping = bpcore.EarlyStopping(monitor="accuracy", patience=15)
        metric = bpcore.Metric("accuracy", data=(X, y))
        callbacks = [stopping, metric] if first else [metric, stopping]
        history = trained.fit(
            X[:30],
            y[:30],
            epochs=400,
            callbacks=callbacks,
            optimizer=bpcore.Adam(learning_rate=0.05),
        )
        accuracy = history["accuracy"]
        best = int(np.argmax(accuracy))  # the first of the largest
        assert len(history) == best + 16 < 400 and max(accuracy) > accuracy[-1]
        assert np.mean(trained.predict(X).argmax(1) == y) == stopping.best == accuracy[best]


@pytest.mark.parametrize("how", ["same", "file"])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_stopping_on_accuracy_goes_on(how, error, tmp_path):
    """Interrupted in any epoch: the same bits, history and best weights."""
    net, y = build()

    def given():
        stopping = bpcore.EarlyStopping(monitor="accuracy", patience=4)
        return {"callbacks": [bpcore.Metric("accuracy")], "early_stopping": stopping}

    keywords = {"epochs": 60, "validation_fraction": 0.5, "health": False}
    keywords["optimizer"] = bpcore.RMSProp(learning_rate=0.01)
    whole = copy.deepcopy(net)
    history = whole.fit(X, y, **keywords, **given())
    assert 6 < len(history) < 60
    for epoch in (0, 3, len(history) - 2):
        parts, kept = copy.deepcopy(net), given()
        kept["callbacks"].append(Once(epoch, error))
        if error is None:
            parts.fit(X, y, **keywords, **kept)
        else:
            with pytest.raises(error):
                parts.fit(X, y, **keywords, **kept)
        parts = again(parts, how, tmp_path / "model")
        parts.fit(X, y, **given(), resume=True)
        assert results(parts) == results(whole), epoch
        assert records(parts.history) == records(history), epoch


# -------------------------------------------------------------------------------------- CSV logger


def read(path, separator=","):
    """Of numbers, to the last bit, which not every pandas.read_csv gives."""
    with open(path, newline="") as file:
        names, *rows = csv.reader(file, delimiter=separator)
    frame = pandas.DataFrame(np.array(rows, float), columns=names)
    return frame.astype({"epoch": np.int64})


def same(path, history, separator=","):
    frame = history.to_frame()
    pandas.testing.assert_frame_equal(read(path, separator), frame, check_exact=True)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv(separator, tmp_path):
    """Holds the history to the last bit; every line is there as soon as the next callback."""
    net, y = build()
    path, lines = tmp_path / "history.csv", []

    def look(net, epoch, logs):
        if path.exists():
            lines.append(path.read_bytes().count(b"\n"))

    class Last(bpcore.Checkpoint):
        def on_epoch_end(self, net, epoch, logs):
            look(net, epoch, logs)

        def on_fit_end(self, net, history):
            pass

    callbacks = [bpcore.CSVLogger(path, separator=separator), bpcore.Metric("accuracy"), Last("")]
    history = net.fit(X, y, epochs=5, validation_fraction=0.2, callbacks=callbacks)
    same(path, history, separator)
    assert lines == [2, 3, 4, 5, 6], "it comes after the metric and before checkpoints"
    assert path.read_text().startswith(separator.join(["epoch", "loss", "validation_loss"]))
    net.fit(X, y, epochs=2, callbacks=callbacks[:1])
    assert len(read(path, separator)) == 2, "a new fit starts the file anew"


def test_csv_of_strange_figures(tmp_path):
    """Columns are those of the first epoch; what is not there is an empty field."""
    net, y = build()
    path = tmp_path / "history.csv"

    def note(net, epoch, logs):
        if epoch == 0:
            logs |= {'a "word", or two': 'x,"y"\nz', "n": np.int64(7), "yes": True, "m": "a\rb\nc"}
        else:
            logs |= {"later": 1.0, "n": np.float32(0.1)}

    net.fit(X, y, epochs=2, callbacks=[note, bpcore.CSVLogger(path)])
    with open(path, newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first)[-4:] == ['a "word", or two', "n", "yes", "m"]
    assert list(first.values())[-4:] == ['x,"y"\nz', "7", "True", "a\rb\nc"]
    assert list(second.values())[-4:] == ["", repr(float(np.float32(0.1))), "", ""]


class Crash(Exception):
    pass


def test_csv_appends(tmp_path):
    net, y = build()
    path = tmp_path / "history.csv"
    logger = bpcore.CSVLogger(path, append=True)
    histories = [net.fit(X, y, epochs=n, callbacks=logger) for n in (3, 2)]
    both = pandas.concat([history.to_frame() for history in histories], ignore_index=True)
    pandas.testing.assert_frame_equal(read(path), both, check_exact=True)
    before, network = path.read_bytes(), everything(net)
    other = r"has the columns 'epoch,loss,.*, and this fit records 'epoch,loss,validation_loss"
    with pytest.raises(ValueError, match=other):
        net.fit(X, y, optimizer="adam", validation_fraction=0.5, callbacks=logger)
    assert path.read_bytes() == before and everything(net) == network, "nothing has begun"
    with pytest.raises(ValueError, match=other):
        net.fit(X, y, validation_fraction=0.5, callbacks=[logger, lambda *a: None])
    assert path.read_bytes() == before, "who knows what a function records"
    with pytest.raises(ValueError, match=r"has the columns 'epoch,loss.*records 'epoch;loss"):
        net.fit(X, y, callbacks=bpcore.CSVLogger(path, append=True, separator=";"))
    assert path.read_bytes() == before


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("form", ["plain", "quoted", "BOM"])
def test_csv_appends_to_files_of_others(end, last, form, tmp_path):
    """Keeps how their lines end, and begins on a line of its own."""
    net, y = build()
    path, names = tmp_path / "history.csv", ["epoch", "loss", "learning_rate", "seconds"]
    head = ",".join(f'"{name}"' if form == "quoted" else name for name in names)
    before = end.join([head, "0,1.5,0.1,2.5"]).encode("utf-8-sig" if form == "BOM" else "utf-8")
    path.write_bytes(before + end.encode() * last)
    once = Once(1, Crash())
    callbacks = [once, bpcore.CSVLogger(path, append=True)]
    with pytest.raises(Crash):
        net.fit(X, y, epochs=3, callbacks=callbacks)
    callbacks[1] = bpcore.CSVLogger(path, append=True)
    history = net.fit(X, y, callbacks=callbacks, resume=True)
    assert path.read_bytes().startswith(before + end.encode())
    lines = path.read_bytes().decode("utf-8-sig").split(end)
    assert len(lines) == 6 and lines[-1] == "" and not any(set("\r\n") & set(s) for s in lines)
    assert [line.split(",")[:2] for line in lines[2:5]] == [
        [str(epoch), repr(history["loss"][epoch])] for epoch in range(3)
    ]


def test_csv_appends_to_an_empty_file(tmp_path):
    net, y = build()
    path = tmp_path / "history.csv"
    path.touch()
    same(path, net.fit(X, y, epochs=2, callbacks=bpcore.CSVLogger(path, append=True)))


@pytest.mark.parametrize("how", ["same", "file"])
def test_csv_goes_on_with_its_separator(how, tmp_path):
    """Another one is refused, and the lines that are there stay."""
    net, y = build()
    path = tmp_path / "history.csv"
    with pytest.raises(Crash):
        net.fit(X, y, epochs=4, callbacks=[bpcore.CSVLogger(path), Once(2, Crash())])
    net, before = again(net, how, tmp_path / "model"), path.read_bytes()
    assert before.count(b"\n") == 3
    net.parameters[...] += 1  # as if it were not what the fit goes on from
    net._interrupted.arrays["parameters"] = net.parameters - 1
    parameters, history = net.parameters.copy(), net.history
    with pytest.raises(ValueError, match=r"goes on with separator ',' in .*history.csv, got ';'"):
        net.fit(X, y, callbacks=[bpcore.CSVLogger(path, separator=";")], resume=True)
    assert path.read_bytes() == before and net.history is history
    np.testing.assert_array_equal(net.parameters, parameters)
    same(path, net.fit(X, y, callbacks=[bpcore.CSVLogger(path)], resume=True))


@pytest.mark.parametrize("how", ["same", "file"])
@pytest.mark.parametrize("append", [False, True])
def test_csv_goes_on(how, append, tmp_path, monkeypatch):
    """Interrupted before its line, in the middle of one, after it, and between epochs."""
    net, y = build()
    keywords = {"epochs": 5, "optimizer": "adam"}
    write, path = bpcore.CSVLogger._write, tmp_path / "history.csv"
    if append:
        net.fit(X, y, epochs=2, callbacks=bpcore.CSVLogger(path))
    before = path.read_bytes() if append else b""

    def broken(place, epoch):
        def _write(logger, rows):
            if rows[-1]["epoch"] != epoch:
                return write(logger, rows)
            if place == "after":
                write(logger, rows)
            if place == "middle":
                with open(path, "ab") as file:
                    file.write(b"1,0.2")
            raise Crash

        return _write

    for epoch in (0, 2, 4):
        for place in ("before", "middle", "after", "between"):
            path.write_bytes(before)
            parts, logger = copy.deepcopy(net), bpcore.CSVLogger(path, append=append)
            if place != "between":
                monkeypatch.setattr(bpcore.CSVLogger, "_write", broken(place, epoch))
            with pytest.raises(Crash):
                once = Once(epoch, Crash() if place == "between" else None)
                once.done = place != "between"
                parts.fit(X, y, **keywords, callbacks=[logger, once])
            monkeypatch.setattr(bpcore.CSVLogger, "_write", write)
            parts = again(parts, how, tmp_path / "model")
            logger = logger if how == "same" else bpcore.CSVLogger(path, append=append)
            parts.fit(X, y, callbacks=[logger], resume=True)
            frame = read(path)[2 if append else 0 :].reset_index(drop=True)
            pandas.testing.assert_frame_equal(frame, parts.history.to_frame(), check_exact=True)
            assert path.read_bytes().startswith(before)


@pytest.mark.parametrize("left", ["all", "half", "nothing"])
def test_csv_after_a_crash(left, tmp_path):
    """The checkpoint is older than the file, or the file is cut short or gone."""
    net, y = build()
    path, saved = tmp_path / "history.csv", tmp_path / "model"

    def given():
        return {"callbacks": [bpcore.CSVLogger(path), bpcore.Checkpoint(saved, every=3)]}

    def crash(net, epoch, logs):
        if epoch == 4:
            raise Crash

    with pytest.raises(Crash):
        net.fit(X, y, epochs=8, callbacks=[*given()["callbacks"], crash])
    assert len(read(path)) == 4  # and of them the checkpoint knows three
    if left == "half":
        shutil.copy(path, tmp_path / "copy")
        path.write_bytes(path.read_bytes()[:70])
    elif left == "nothing":
        path.unlink()
    parts = bpcore.load(saved)
    history = parts.fit(X, y, **given(), resume=True)
    assert len(history) == 8
    same(path, history)


@pytest.mark.parametrize("separator", ["", ",,", "a", "1", ".", '"', "\n", "-"])
def test_separators_that_cannot_be(separator):
    with pytest.raises(ValueError, match="separator must be one character"):
        bpcore.CSVLogger("x", separator=separator)


def test_csv_that_cannot_be(tmp_path):
    net, y = build()
    with pytest.raises(TypeError, match="separator must be text, got 3"):
        bpcore.CSVLogger("x", separator=3)
    with pytest.raises(TypeError, match="append must be True or False"):
        bpcore.CSVLogger("x", append=1)
    with pytest.raises(FileNotFoundError):
        net.fit(X, y, callbacks=[bpcore.CSVLogger(tmp_path / "none" / "x.csv")])
