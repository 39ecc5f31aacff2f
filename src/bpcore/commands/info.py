"""`bpcore info`: this installation, or what a model file holds."""

import argparse
import os
import platform
import re
from importlib import metadata
from typing import Any

import numpy as np

import bpcore
from bpcore.commands.inputs import load
from bpcore.commands.options import add_json, add_model
from bpcore.commands.report import Report, counted
from bpcore.commands.scores import show_r2
from bpcore.encoding import TableEncoder
from bpcore.tablefiles import STANDARD_INPUT
from bpcore.tables import list_names

__all__ = ["EPILOG", "add_options", "run"]

EPILOG = """\
examples:
  bpcore info
  bpcore info bpcore-runs/iris-1
  bpcore info bpcore-runs/iris-1 --json
  cat bpcore-runs/iris-1/model.safetensors | bpcore info -

exit codes: 0 shown; 2 wrong input; 130 Ctrl-C
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options of `bpcore info`."""
    add_model(parser, nargs="?")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Show the installation, or a model."""
    report = Report(options.json)
    if options.model is None:
        _installation(report)
    else:
        _model(report, options.model)
    report.end()
    return 0


def _installation(report: Report) -> None:
    level, levels = bpcore.simd_level(), bpcore.simd_levels()
    threads, cpus = bpcore.get_num_threads(), os.cpu_count()
    system = f"{platform.system()} {platform.machine()}"
    rows = [
        ("bpcore", bpcore.__version__),
        ("python", f"{platform.python_version()} on {system}"),
        ("numpy", np.__version__),
        ("SIMD", f"{level} in use; here are {', '.join(levels)}  (BPCORE_SIMD)"),
        ("threads", f"{threads} of {cpus} CPUs  (BPCORE_NUM_THREADS)"),
        ("safetensors", metadata.version("safetensors")),
    ]
    packages: dict[str, str | None] = {}
    for package, extra in _extras().items():
        try:
            packages[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            packages[package] = None
        missing = f"not installed: pip install 'bpcore[{extra}]'"
        rows.append((package, packages[package] or missing))
    for name, value in rows:
        report.text(f"{name:<14}{value}")
    report.put(
        bpcore=bpcore.__version__,
        python=platform.python_version(),
        numpy=np.__version__,
        system=system,
        simd={"level": level, "levels": levels},
        threads={"used": threads, "cpus": cpus},
        packages=packages,
    )


def _extras() -> dict[str, str]:
    """Return the optional packages, each with the extra that brings it."""
    found: dict[str, str] = {}
    try:
        requirements = metadata.requires("bpcore") or []
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return found
    for requirement in requirements:
        match = re.match(r"([\w.-]+).*; *extra *== *['\"](\w+)['\"]", requirement)
        if match and match[1] != "bpcore" and match[2] != "test":
            found.setdefault(match[1], match[2])
    return found


def _model(report: Report, model: str) -> None:
    net = load(model)
    stopped, config = net._unfinished, net._config()
    report.text(str(net.summary()))
    report.put(
        network={key: config[key] for key in config if key not in ("rng", "metadata")},
        n_in=net.n_in,
        n_out=net.n_out,
        parameters=net.parameters.size,
        metadata=net.metadata,
        finished=stopped is None,
    )
    report.text("")
    if "table" in net.metadata:
        _table(report, net.metadata["table"])
    if stopped is not None:
        done, planned = stopped.position["epoch"], stopped.settings["epochs"]
        report.line("stopped", f"after {done} of {planned} epochs; `bpcore train --resume` goes on")
    training = net.metadata.get("training")
    if isinstance(training, dict):
        data = STANDARD_INPUT if training.get("data") == "-" else training.get("data")
        report.line("trained", f"on {data}, {counted(training.get('rows'), 'row')}")
        where = "held-out" if training.get("held_out") else "training"
        rows = counted(training.get("scored_rows"), f"{where} row")
        if isinstance(accuracy := training.get("accuracy"), float):
            report.line("accuracy", f"{accuracy:.1%} of {rows}")
        if isinstance(r2 := training.get("r2"), float):
            report.line("R^2", f"{show_r2(r2)} on {rows}")


def _table(report: Report, table: Any) -> None:
    try:
        encoder = TableEncoder.from_dict(table)
    except ValueError as error:
        report.line("columns", str(error))
        return
    features = [
        f"{feature['column']} ({list_names(feature['categories'], 6)})"
        if "categories" in feature
        else feature["column"]
        for feature in encoder.features
    ]
    report.line("features", list_names(features, 40))
    classes = encoder.classes
    what = f"classes {list_names(classes, 20)}" if classes else "a quantity"
    report.line("target", f"{encoder.target['column']}: {what}")
