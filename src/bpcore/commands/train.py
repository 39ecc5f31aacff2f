"""`bpcore train`: learn a table, measure the result on held-out rows, save it."""

import argparse
import hashlib
import os
import shlex
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import bpcore
from bpcore.commands.inputs import MODEL_FILE, load_with_encoder, model_path, read
from bpcore.commands.proof import prove
from bpcore.commands.report import Report, counted, remark
from bpcore.commands.scores import score
from bpcore.commands.train_options import EPILOG, SETTINGS, add_options, file_to_write
from bpcore.commands.train_report import save_train_report
from bpcore.encoding import TableEncoder, split_rows
from bpcore.errors import DivergenceError
from bpcore.files import replace_file
from bpcore.layers import ACTIVATIONS
from bpcore.optimizers import Optimizer
from bpcore.plot import save_loss_plot
from bpcore.tablefiles import format_of
from bpcore.tables import InputError, Table, list_names, possible_number

__all__ = ["EPILOG", "add_options", "run"]

CHECKED_ROWS = 32
EXPORTS = {
    "model.c": b"written by bpcore",
    "model.h": b"written by bpcore",
    "model.onnx": b"bpcore",
    "model.json": b'{\n  "inputs": [',
}
"""What `bpcore export` leaves beside a model, and what tells it from files of others."""


@dataclass
class Problem:
    """A table as arrays; the rows to learn from, and those held out."""

    table: Table
    encoder: TableEncoder
    x: np.ndarray
    y: np.ndarray
    train: np.ndarray
    held: np.ndarray

    @property
    def digest(self) -> str:
        """What tells this data from other data."""
        digest = hashlib.sha256(str((self.x.shape, self.y.dtype)).encode())
        for array in (self.x, self.y, self.train):
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()[:32]


def run(options: argparse.Namespace) -> int:
    """Train a network on a table, measure it on held-out rows and save it."""
    began = time.perf_counter()
    report = Report(options.json)
    net = _unfinished(options) if options.resume else None
    for name, usual in SETTINGS.items():  # those that are not given
        setattr(options, name, getattr(options, name, usual))
    rng = np.random.default_rng(options.seed)
    problem = _problem(options, rng)
    if net is None:
        net = _network(options, problem, rng)
        net.metadata["table"] = problem.encoder.to_dict()
    elif net.metadata["training"]["digest"] != problem.digest:
        raise InputError(f"{problem.table.name}: is not the table that {options.resume} began with")
    _describe(report, options, problem, net)

    sample = np.sort(rng.choice(problem.train, min(len(problem.train), CHECKED_ROWS), False))
    if not prove(report, net, problem.x[sample], problem.y[sample]):
        return report.fail("the gradients are not proven; nothing is saved", 1)
    folder, made = _folder(options, problem.table.name)
    try:
        return _train(report, options, problem, net, folder, began)
    except BaseException:
        if made and not any(folder.iterdir()):
            folder.rmdir()
        raise


def _train(
    report: Report,
    options: argparse.Namespace,
    problem: Problem,
    net: Any,
    folder: Path,
    began: float,
) -> int:
    table = problem.table
    about = net.metadata["training"] = {
        "data": options.data or "iris",
        "rows": len(table),
        "seed": options.seed,
        "digest": problem.digest,
        "settings": {name: getattr(options, name) for name in SETTINGS},
        "format": options.format,
        "report": options.report,
        "finished": False,
    }
    try:
        history = _fit(options, problem, net)
    except KeyboardInterrupt:
        if net._unfinished is None:  # it had not begun
            raise
        return _stopped(report, options, net, folder, table.name)
    about |= {"finished": True, "epochs": len(history)}
    try:
        _save_model(net, history, folder, bool(options.resume))
        scores = score(
            report, problem.encoder, table, net.predict(problem.x), problem.train, problem.held
        )
        about |= scores
        net.save(folder / MODEL_FILE)
        title = f"{table.name}: {problem.encoder.target['column']}"
        files = _save_plot(report, history, folder, title)
        if options.report:
            save_train_report(options, net, problem, history, folder / MODEL_FILE)
            report.line("report", options.report)
            files["report"] = options.report
    except KeyboardInterrupt:
        net.save(folder / MODEL_FILE)  # it may have come in between
        done = f"after all {counted(len(history), 'epoch')}"
        text = f"stopped by Ctrl-C {done}; the trained model is saved in {folder}"
        return report.fail(text, 130, folder=str(folder), epochs=len(history))
    data = "NEW-DATA" if options.data == "-" else shlex.quote(options.data or "iris")
    # one line, to be copied
    report.text(f"next:     bpcore predict {shlex.quote(str(folder))} {data}")
    report.put(
        score=scores,
        epochs=len(history),
        loss=history["loss"][-1],
        files={"folder": str(folder), **files},
        seconds=round(time.perf_counter() - began, 3),
    )
    report.end()
    return 0


def _stopped(
    report: Report, options: argparse.Namespace, net: Any, folder: Path, title: str
) -> int:
    """Save what there is after Ctrl-C, and say how it goes on."""
    _save_model(net, net.history, folder, bool(options.resume))
    with suppress(KeyboardInterrupt):  # once more; what counts is saved
        _save_plot(report, net.history, folder, title)
    resume = f"--resume {shlex.quote(str(folder))}"
    again = f"bpcore train {resume}"
    if options.data == "-":
        format = f" --format {options.format}" if options.format else ""
        again = f"bpcore train -{format} {resume} < THE-SAME-TABLE"
    return report.fail(
        f"stopped by Ctrl-C after {len(net.history)} of {options.epochs} epochs; "
        f"the model is saved, and this goes on: {again}",
        130,
        folder=str(folder),
        epochs=len(net.history),
    )


def _problem(options: argparse.Namespace, rng: np.random.Generator) -> Problem:
    """Read the table, decide what its columns are, and draw the rows to hold out."""
    target = options.target = options.target or _usual_target(options)
    table = read(options.data, (target or "", *options.categorical), options.format)
    if target is None:
        columns = list_names(table.columns)
        raise InputError(
            f"{table.name}: name the column to predict with --target; columns: {columns}"
        )
    encoder = TableEncoder.plan(table, target, options.task, options.drop, options.categorical)
    labels = encoder.encode_target(table) if encoder.classes else None
    train, held = split_rows(len(table), options.test_fraction, rng, labels)
    if len(train) < 2 or (options.test_fraction > 0 and len(table) < 5):
        found = counted(len(table), "row")
        raise InputError(f"{table.name}: found {found}, too few to learn from and to hold some out")
    if encoder.classes and options.loss:
        raise InputError(f"--loss is for a quantity; {target!r} has classes")
    encoder.fit_scales(table, train)
    x = encoder.encode_features(table, options.dtype)
    y = encoder.encode_target(table, options.dtype)
    return Problem(table, encoder, x, y, train, held)


def _usual_target(options: argparse.Namespace) -> str | None:
    if options.data in (None, "iris"):
        return "species"
    return "y" if (options.format or format_of(options.data)) == "npz" else None


def _network(options: argparse.Namespace, problem: Problem, rng: np.random.Generator) -> Any:
    classes = problem.encoder.classes
    if options.l2 is None:
        options.l2 = 1.0 / len(problem.train)
    try:
        n_in, layers = problem.x.shape[1], []
        for width in options.hidden:
            layers += [bpcore.Dense(n_in, width), ACTIVATIONS[options.activation]()]
            layers += [bpcore.Dropout(options.dropout)] if options.dropout else []
            n_in = width
        layers += [bpcore.Dense(n_in, len(classes or [0]))] + (
            [bpcore.Softmax()] if classes else []
        )
        loss = "cross_entropy" if classes else options.loss or "mse"
        return bpcore.Network(layers, loss=loss, dtype=options.dtype, rng=rng, l2=options.l2)
    except ValueError as error:
        raise InputError(str(error)) from None


def _unfinished(options: argparse.Namespace) -> Any:
    """Return the network whose training goes on; `options` become those that it began with."""
    path = model_path(options.resume)
    net, _ = load_with_encoder(options.resume)
    about = net.metadata.get("training", {})
    if net._unfinished is None or "settings" not in about:
        raise InputError(f"{path}: no training was stopped there; there is nothing to resume")
    saved = about["settings"]
    for name in SETTINGS:
        value = saved.get(name)
        if getattr(options, name, value) != value:
            option = "--" + name.replace("_", "-")
            raise InputError(
                f"--resume goes on with the settings that are saved; leave out {option} "
                f"(saved: {'none' if value in (None, []) else value})"
            )
        setattr(options, name, value)
    folder = os.path.dirname(path) or "."
    if options.out is not None and not (
        os.path.isdir(options.out) and os.path.samefile(options.out, folder)
    ):
        raise InputError(f"--resume goes on in {folder}; leave out --out")
    if options.data is None and about["data"] == "-":
        again = f"bpcore train - --resume {shlex.quote(options.resume)} < THE-SAME-TABLE"
        raise InputError(f"{path}: its table came from standard input; give it again: {again}")
    if options.data in (None, about["data"]):
        options.data, options.format = about["data"], options.format or about["format"]
    if options.report is None and about.get("report"):
        try:
            options.report = file_to_write(about["report"])
        except argparse.ArgumentTypeError as error:
            raise InputError(f"--report of the training that goes on: {error}") from None
    return net


def _fit(options: argparse.Namespace, problem: Problem, net: Any) -> Any:
    """Train; with --patience a tenth of the training rows decides, never a held-out row."""
    x, y, train, held = problem.x, problem.y, problem.train, problem.held
    keywords: dict[str, Any] = {}
    if options.patience:
        keywords["early_stopping"] = bpcore.EarlyStopping(patience=options.patience)
    elif len(held):
        keywords["validation_data"] = (x[held], y[held])
    if options.resume:
        keywords["resume"] = True
    else:
        rate = bpcore.CosineDecay(options.learning_rate, options.epochs)
        keywords |= {
            "epochs": options.epochs,
            "batch_size": options.batch_size,
            "optimizer": type(Optimizer.get(options.optimizer))(learning_rate=rate),
        }
        if options.patience:
            keywords["validation_fraction"] = 0.1
    if not options.quiet and sys.stderr.isatty():  # a bar in a log would be a line an update
        if find_spec("tqdm"):
            keywords["progress"] = True
        else:
            keywords["callbacks"] = [_lines(options.epochs)]
    sys.stdout.flush()  # before the progress bar, which goes to stderr
    try:
        return net.fit(x[train], y[train], **keywords)
    except DivergenceError as error:
        where = ""
        if error.epoch is not None:
            where = f" in epoch {error.epoch + 1} of {options.epochs}"
        if error.learning_rate is not None:
            where += f", at a learning rate of {error.learning_rate:.3g}"
        raise DivergenceError(
            f"training diverged{where}; nothing is saved; give a smaller --learning-rate "
            f"(it was {options.learning_rate:g})"
        ) from None


def _lines(epochs: int) -> Any:
    """Return a callback that prints ten lines in all, to where a progress bar goes."""

    def show(net: Any, epoch: int, logs: dict[str, Any]) -> None:
        if (epoch + 1) % max(1, epochs // 10) == 0:
            print(f"epoch {epoch + 1}/{epochs}  loss {logs['loss']:.6g}", file=sys.stderr)

    return show


def _describe(report: Report, options: argparse.Namespace, problem: Problem, net: Any) -> None:
    table, encoder = problem.table, problem.encoder
    source = " (shipped with bpcore; Fisher 1936)" if table.name == "iris" else ""
    size = f"{counted(len(table), 'row')}, {counted(len(encoder.features), 'feature')}"
    report.line("data", f"{table.name}{source}: {size}")
    for note in table.notes:
        report.line("", note)
    classes = encoder.classes
    what = "a quantity"
    if classes:
        named = list_names(classes[:6]) + (", ..." if len(classes) > 6 else "")
        what = f"{len(classes)} classes: {named}"
    report.line("target", f"{encoder.target['column']}, {what}")
    if classes and options.task == "auto" and all(map(possible_number, classes)):
        report.line("", "(--task regression predicts it as a quantity)")
    widths = [net.n_in, *options.hidden, net.n_out]
    activation = f" {options.activation}" if options.hidden else ""
    shown = f"{'-'.join(map(str, widths))}{activation}"
    report.line("network", f"{shown}, {net.parameters.size} parameters, {net.dtype}")
    report.put(
        data={
            "name": table.name,
            "rows": len(table),
            "training_rows": len(problem.train),
            "features": [feature["column"] for feature in encoder.features],
            "notes": table.notes,
        },
        target={"column": encoder.target["column"], "classes": classes},
        network={"widths": widths, "parameters": net.parameters.size, "loss": net.loss.kernel},
        settings={name: getattr(options, name) for name in SETTINGS},
    )


def _folder(options: argparse.Namespace, data: str) -> tuple[Path, bool]:
    """Return the folder for the results, and whether it is new."""
    if options.resume:
        return Path(model_path(options.resume)).parent, False
    if options.out is not None:
        folder = Path(options.out)
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        return folder, made
    stem = "stdin" if options.data == "-" else Path(data.removesuffix(".gz")).stem
    number = 1
    while True:
        folder = Path("bpcore-runs") / f"{stem}-{number}"
        try:
            folder.mkdir(parents=True)
            return folder, True
        except FileExistsError:
            number += 1


def _save_model(net: Any, history: Any, folder: Path, goes_on: bool) -> None:
    """Write model and history; an earlier model goes, and what was exported of it."""
    path = folder / MODEL_FILE
    replaced = path.exists()
    net.save(path)
    text = history.to_frame().to_csv(index=False, lineterminator="\n")
    replace_file(folder / "history.csv", text.encode())
    if not replaced:
        return
    stale = [name for name, mark in EXPORTS.items() if _is_export(folder / name, mark)]
    for name in stale:
        (folder / name).unlink()
    removed = f"; removed what was exported of it: {', '.join(stale)}" if stale else ""
    if removed or not goes_on:
        remark(f"replaced the earlier model in {folder}{removed}")


def _is_export(path: Path, mark: bytes) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return mark in file.read(200)


def _save_plot(report: Report, history: Any, folder: Path, title: str) -> dict[str, Any]:
    """Draw the loss; return the paths of all files in the folder."""
    files, picture, note = [MODEL_FILE, "history.csv"], folder / "loss.png", ""
    try:
        save_loss_plot(history, picture, title)
        files.append(picture.name)
    except ImportError:
        picture.unlink(missing_ok=True)  # of an earlier training
        note = "no loss.png: matplotlib is missing (pip install 'bpcore[cli]')"
    report.line("saved", f"{folder}: {', '.join(files)}")
    if note:
        report.line("", note)
    paths = {"model": folder / MODEL_FILE, "history": folder / "history.csv"}
    paths["plot"] = picture if picture.name in files else None
    return {name: None if path is None else str(path) for name, path in paths.items()}
