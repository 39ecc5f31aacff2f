"""What the commands `bpcore train`, `bpcore predict` and `bpcore check` do."""

import argparse
import os
import shlex
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import bpcore

from .encoding import TableEncoder, split_rows
from .files import replace_file
from .layers import ACTIVATIONS
from .optimizers import Optimizer
from .plot import save_loss_plot
from .tables import InputError, Table, iris_path, list_names, possible_number, read_table
from .trainreport import save_train_report

__all__ = ["check", "predict", "train"]

MODEL_FILE = "model.safetensors"
CHECKED_ROWS = 32
CHECKED_PARAMETERS = 2000  # of a larger network a random sample of so many


def train(options: argparse.Namespace) -> int:
    """Train a network on a table, measure it on held-out rows and save it."""
    target = options.target or ("species" if options.data in (None, "iris") else None)
    table = _read(options.data, (target or "", *options.categorical))
    if target is None:
        columns = list_names(table.columns)
        raise InputError(
            f"{table.name}: name the column to predict with --target; columns: {columns}"
        )
    shown = table.name
    encoder = TableEncoder.plan(table, target, options.task, options.drop, options.categorical)
    rng = np.random.default_rng(options.seed)
    labels = encoder.encode_target(table) if encoder.classes else None
    train, held = split_rows(len(table), options.test_fraction, rng, labels)
    if len(train) < 2 or (options.test_fraction > 0 and len(table) < 5):
        raise InputError(
            f"{shown}: found {len(table)} rows, too few to learn from and to hold some out"
        )
    encoder.fit_scales(table, train)
    x, y = encoder.encode_features(table), encoder.encode_target(table)
    if encoder.classes and options.loss:
        raise InputError(f"--loss is for a quantity; {target!r} has classes")
    if options.l2 is None:
        options.l2 = 1.0 / len(train)
    net = _network(options, x.shape[1], len(encoder.classes or [0]), rng)
    _describe(options, table, encoder, net)

    sample = np.sort(rng.choice(train, min(len(train), CHECKED_ROWS), replace=False))
    if not _prove(net, x[sample], y[sample]):
        return 1
    folder, made = _folder(options.out, Path(shown).stem)
    try:
        history = _fit(options, net, x, y, train, held)
        score = _score(encoder, table, net.predict(x), train, held)
        net.metadata["table"] = encoder.to_dict()
        net.metadata["training"] = {
            "data": shown,
            "rows": len(table),
            "seed": options.seed,
            **score,
        }
        net.save(folder / MODEL_FILE)
        _save_history(history, folder, f"{shown}: {target}")
        if options.report:
            model = folder / MODEL_FILE
            save_train_report(options, net, encoder, table, train, held, history, model)
            _say("report", options.report)
    except BaseException:
        if made and not any(folder.iterdir()):
            folder.rmdir()
        raise
    # one line, to be copied
    print(f"next:     bpcore predict {shlex.quote(str(folder))} {shlex.quote(shown)}")
    return 0


def predict(options: argparse.Namespace) -> int:
    """Apply a trained model to a table."""
    net, encoder = _load(options.model)
    table = _read(options.data, encoder.text_columns)
    prediction = net.predict(encoder.encode_features(table))
    answer = encoder.decode(prediction)
    target = encoder.target["column"]
    frame = table.frame[[]].assign(**{f"predicted_{target}": answer})
    if encoder.classes:
        frame["probability"] = prediction.max(axis=1, initial=0.0).round(6)
    text = frame.to_csv(index=False, lineterminator="\n")
    if options.out:
        if all(map(os.path.exists, (options.out, table.name))) and os.path.samefile(
            options.out, table.name
        ):
            raise InputError(f"{options.out}: is the data; --out must name another file")
        replace_file(options.out, text.encode())
        print(f"saved {len(table)} predictions in {options.out}")
    else:
        sys.stdout.write(text)
    if target in table.columns:
        _compare(encoder, table, answer)
    return 0


def check(options: argparse.Namespace) -> int:
    """Check a trained model's gradients on rows of a table."""
    net, encoder = _load(options.model)
    table = _read(options.data, encoder.text_columns)
    if len(table) == 0:
        raise InputError(f"{table.name}: there are no rows after the header")
    x, y = encoder.encode_features(table), encoder.encode_target(table)
    rng = np.random.default_rng(options.seed)
    sample = np.sort(rng.choice(len(table), min(len(table), options.rows), replace=False))
    return 0 if _prove(net, x[sample], y[sample], options.parameters, details=True) else 1


def _say(label: str, text: str) -> None:
    """Print a line of the report, wrapped where it is long."""
    lines = textwrap.wrap(text, 70, break_long_words=False, break_on_hyphens=False)
    print(f"{label + ':' if label else '':<10}" + ("\n" + " " * 10).join(lines))


def _read(name: str | None, text_columns: tuple[str, ...]) -> Table:
    """Read the table; "iris" is the shipped one unless there is such a file."""
    if name is not None and (name != "iris" or os.path.isfile(name)):
        return read_table(name, text_columns)
    table = read_table(iris_path(), text_columns)
    table.name = "iris"
    return table


def _network(options: argparse.Namespace, n_in: int, n_out: int, rng: np.random.Generator) -> Any:
    classes = n_out > 1
    try:
        layers: list[Any] = []
        for width in options.hidden:
            layers += [bpcore.Dense(n_in, width), ACTIVATIONS[options.activation]()]
            layers += [bpcore.Dropout(options.dropout)] if options.dropout else []
            n_in = width
        layers += [bpcore.Dense(n_in, n_out)] + ([bpcore.Softmax()] if classes else [])
        loss = "cross_entropy" if classes else options.loss or "mse"
        net = bpcore.Network(layers, loss=loss, dtype=options.dtype, rng=rng, l2=options.l2)
    except ValueError as error:
        raise InputError(str(error)) from None
    return net


def _fit(
    options: argparse.Namespace,
    net: Any,
    x: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    held: np.ndarray,
) -> Any:
    """Train; with --patience a tenth of the training rows decides, never a held-out row."""
    keywords: dict[str, Any] = {"epochs": options.epochs, "batch_size": options.batch_size}
    if options.patience:
        early_stopping = bpcore.EarlyStopping(patience=options.patience)
        keywords |= {"validation_fraction": 0.1, "early_stopping": early_stopping}
    elif len(held):
        keywords["validation_data"] = (x[held], y[held])
    if find_spec("tqdm"):
        keywords["progress"] = not options.quiet
    elif not options.quiet:
        keywords |= {"verbose": 1, "print_every": max(1, options.epochs // 10)}
    rate = bpcore.CosineDecay(options.learning_rate, options.epochs)
    optimizer = type(Optimizer.get(options.optimizer))(learning_rate=rate)
    sys.stdout.flush()  # before the progress bar, which goes to stderr
    try:
        return net.fit(x[train], y[train], optimizer=optimizer, **keywords)
    except ValueError as error:  # a number that float32 cannot hold, say
        raise InputError(f"{options.data or 'iris'}: {error}") from None


def _describe(options: argparse.Namespace, table: Table, encoder: TableEncoder, net: Any) -> None:
    source = " (shipped with bpcore; Fisher 1936)" if table.name == "iris" else ""
    _say("data", f"{table.name}{source}: {len(table)} rows, {len(encoder.features)} features")
    for note in table.notes:
        _say("", note)
    classes = encoder.classes
    what = "a quantity"
    if classes:
        named = list_names(classes[:6]) + (", ..." if len(classes) > 6 else "")
        what = f"{len(classes)} classes: {named}"
    _say("target", f"{encoder.target['column']}, {what}")
    if classes and options.task == "auto" and all(map(possible_number, classes)):
        _say("", "(--task regression predicts it as a quantity)")
    widths = "-".join(map(str, [net.n_in, *options.hidden, net.n_out]))
    activation = f" {options.activation}" if options.hidden else ""
    _say("network", f"{widths}{activation}, {net.parameters.size} parameters, {net.dtype}")


def _prove(
    net: Any, x: np.ndarray, y: np.ndarray, parameters: int | None = None, details: bool = False
) -> bool:
    """Check the network's gradients on these rows and say how it came out."""
    count = min(parameters or CHECKED_PARAMETERS, net.parameters.size)
    report = net.check_gradients(x, y, parameters="all" if count == net.parameters.size else count)
    if details or not report.ok:
        print(report)
    found = f"{report.n_checked} derivatives, worst relative error {report.worst_error:.1e}"
    if report.n_undecided:
        found += f", {report.n_undecided} too small to judge"
    _say("check", f"gradients {'proven' if report.ok else 'NOT proven'}: {found}")
    return report.ok


def _score(
    encoder: TableEncoder, table: Table, prediction: np.ndarray, train: np.ndarray, held: np.ndarray
) -> dict[str, Any]:
    """Say how good the prediction of the held-out rows is, beside the trivial one."""
    rows, where = (held, "held-out") if len(held) else (train, "training")
    answer = encoder.decode(prediction)[rows]
    column = encoder.target["column"]
    score: dict[str, float | None]
    if encoder.classes:
        truth = table.text(column)
        names, counts = np.unique(truth[train].astype(str), return_counts=True)
        majority = str(names[counts.argmax()])
        score = {
            "accuracy": float((answer == truth[rows]).mean()),
            "baseline": float((truth[rows] == majority).mean()),
        }
        trivial = f"(always {majority!r}: {score['baseline']:.1%})"
        _say("accuracy", f"{score['accuracy']:.1%} of {len(rows)} {where} rows {trivial}")
    else:
        truth = table.numbers(column)
        mean = np.full(len(rows), truth[train].mean())
        score = {"r2": _r2(truth[rows], answer), "baseline": _r2(truth[rows], mean)}
        shown, trivial = map(_show_r2, score.values())
        _say("R^2", f"{shown} on {len(rows)} {where} rows (always the mean: {trivial})")
        rms, rms_mean = (_rms(truth[rows] - guess) for guess in (answer, mean))
        _say("", f"root mean squared error {rms:.6g} (always the mean: {rms_mean:.6g})")
    return {"scored_rows": len(rows), "held_out": bool(len(held)), **score}


def _compare(encoder: TableEncoder, table: Table, answer: np.ndarray) -> None:
    """Score a prediction on the rows that have a target, to standard error."""
    column = encoder.target["column"]
    if encoder.classes:
        truth = table.frame[column].to_numpy(dtype=object)
        known = np.array([isinstance(text, str) and text != "" for text in truth], dtype=bool)
    else:
        truth = table.possible_numbers(column)
        known = np.isfinite(truth)
    if not known.any():
        return
    if encoder.classes:
        score = f"accuracy: {(truth == answer)[known].mean():.1%}"
    else:
        score = f"R^2: {_show_r2(_r2(truth[known], answer[known]))}"
    print(f"{score} of {known.sum()} rows that have {column!r}", file=sys.stderr)


def _r2(truth: np.ndarray, answer: np.ndarray) -> float | None:
    """Return 1 - residual / variation, or None where the truth does not vary."""
    deviation = truth - truth.mean()
    largest = np.abs(deviation).max()
    if not 0 < largest < np.inf:
        return None
    residual = (truth - answer) / largest  # so that no square overflows
    value = 1 - np.sum(residual**2) / np.sum((deviation / largest) ** 2)
    return float(value) if np.isfinite(value) else None


def _rms(error: np.ndarray) -> float:
    largest = float(np.abs(error).max()) or 1.0
    return largest * float(np.sqrt(np.mean((error / largest) ** 2)))


def _show_r2(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _folder(out: str | None, stem: str) -> tuple[Path, bool]:
    """Return the folder for the results, and whether it is new."""
    if out is not None:
        folder = Path(out)
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        return folder, made
    number = 1
    while True:
        folder = Path("bpcore-runs") / f"{stem}-{number}"
        try:
            folder.mkdir(parents=True)
            return folder, True
        except FileExistsError:
            number += 1


def _save_history(history: Any, folder: Path, title: str) -> None:
    text = history.to_frame().to_csv(index=False, lineterminator="\n")
    replace_file(folder / "history.csv", text.encode())
    files, picture, note = [MODEL_FILE, "history.csv"], folder / "loss.png", ""
    try:
        save_loss_plot(history, picture, title)
        files.append(picture.name)
    except ImportError:
        picture.unlink(missing_ok=True)  # of an earlier training
        note = "no loss.png: matplotlib is missing (pip install 'bpcore[cli]')"
    _say("saved", f"{folder}: {', '.join(files)}")
    if note:
        _say("", note)


def _load(model: str) -> tuple[Any, TableEncoder]:
    path = os.path.join(model, MODEL_FILE) if os.path.isdir(model) else model
    net = bpcore.load(path)
    if "table" not in net.metadata:
        raise InputError(f"{path}: was not written by `bpcore train`: it names no columns")
    try:
        encoder = TableEncoder.from_dict(net.metadata["table"])
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    if (encoder.n_features, len(encoder.classes or [0])) != (net.n_in, net.n_out):
        raise InputError(f"{path}: the description of the table does not fit the network")
    return net, encoder
