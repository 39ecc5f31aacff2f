"""The page that `bpcore train --report` writes: `bpcore.htmlreport` for a table."""

import argparse
import csv
import io
import os
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np

from bpcore.commands.train_options import SETTINGS
from bpcore.htmlreport import save_report

if TYPE_CHECKING:
    from bpcore.commands.train import Problem
    from bpcore.encoding import TableEncoder
    from bpcore.tables import Table

__all__ = ["save_train_report"]

_WORDS = {"hidden": "none", "batch_size": "all"}  # of options that may be empty


def save_train_report(
    options: argparse.Namespace,
    net: Any,
    problem: "Problem",
    history: Any,
    model: "os.PathLike[str]",
) -> None:
    """Write the report of a training on a table to ``options.report``.

    Parameters
    ----------
    options : argparse.Namespace
        Those of `bpcore train`.
    net : Network
        Trained.
    problem : Problem
    history : History
    model : os.PathLike
        The file that holds the network.

    Raises
    ------
    OSError
        The report cannot be written.
    """
    encoder, table, train, held = problem.encoder, problem.table, problem.train, problem.held
    rows = held if len(held) else train
    target = encoder.target["column"]
    save_report(
        net,
        options.report,
        problem.x[rows],
        problem.y[rows],
        training_data=(problem.x[train], problem.y[train]),
        history=history,
        title=f"{target} from {os.path.basename(table.name)}",
        target=target,
        class_names=encoder.classes,
        offset=encoder.target.get("mean", 0.0),
        scale=encoder.target.get("scale", 1.0),
        rows="held-out" if len(held) else "training",
        facts=_facts(encoder, table, train, held),
        settings=_settings(options),
        usage=_usage(options, net, os.fspath(model)),
    )


def _facts(
    encoder: "TableEncoder", table: "Table", train: np.ndarray, held: np.ndarray
) -> dict[str, object]:
    numbers = [feature["column"] for feature in encoder.features if "categories" not in feature]
    texts = [
        f"{feature['column']} ({len(feature['categories'])} categories)"
        for feature in encoder.features
        if "categories" in feature
    ]
    return {
        "table": table.name,
        "rows": f"{len(table):,}: {len(train):,} to train on, {len(held):,} held out",
        **({"numbers, standardised": _listed(numbers)} if numbers else {}),
        **({"categories": _listed(texts)} if texts else {}),
    }


def _listed(names: list[str], most: int = 20) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _settings(options: argparse.Namespace) -> dict[str, object]:
    """Return what was trained how, by the names of the options."""
    return {name: text for name, text in _options(options).items() if name != "target"}


def _options(options: argparse.Namespace) -> dict[str, str]:
    """Return the options that say what to train, as the command line takes them."""
    given = {}
    for name in (*SETTINGS, "format"):
        value = getattr(options, name)
        if name in _WORDS and not value:
            given[name] = _WORDS[name]
        elif isinstance(value, list) and value:
            line = io.StringIO()
            csv.writer(line, lineterminator="").writerow(value)
            given[name] = line.getvalue()
        elif value is not None and value != []:
            given[name] = str(value)
    return {name.replace("_", "-"): text for name, text in given.items()}


def _usage(options: argparse.Namespace, net: Any, model: str) -> dict[str, str]:
    data = options.data or "iris"
    again = ["bpcore", "train", data]
    for name, text in _options(options).items():
        again += [f"--{name}", text]
    folder = os.path.dirname(model)
    new = "NEW-DATA" if data == "-" else data
    return {
        "Train it again": shlex.join(again),
        "Predict": shlex.join(["bpcore", "predict", folder, new]),
        "Load it in Python": (
            f"import bpcore\n\nnet = bpcore.load({model!r})\n"
            f"net.predict(X)  # X has {net.n_in} columns, as net.metadata['table'] says"
        ),
    }
