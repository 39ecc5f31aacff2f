"""`bpcore export`: a trained model for other programs, with a description of its inputs."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import bpcore
from bpcore.commands.inputs import MODEL_FILE, load_with_encoder, model_path
from bpcore.commands.options import add_json, add_model
from bpcore.commands.report import Report, remark
from bpcore.encoding import TableEncoder
from bpcore.files import replace_file
from bpcore.layers import Dense
from bpcore.tables import InputError

__all__ = ["EPILOG", "add_options", "run"]

LOST = 1e-4  # rounding of a column in units of its scale, from which on it is told
EPILOG = """\
The exported model takes numbers as they are in the table: standardisation is
part of it. A text column is an input of 0 or 1 for each category. The outputs
are the probability of each class, or the quantity in its own units. A .json
file beside it lists inputs and outputs in their order. C comes as a .c and an
.h file; ONNX needs pip install 'bpcore[onnx]'.

examples:
  bpcore export onnx bpcore-runs/iris-1
  bpcore export c bpcore-runs/iris-1 --out controller.c --name controller

exit codes: 0 written; 2 wrong input; 130 Ctrl-C
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options of `bpcore export`."""
    parser.add_argument("kind", choices=["onnx", "c"], metavar="onnx|c", help="what to write")
    add_model(parser)
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="(default: model.onnx or model.c in the model's folder)",
    )
    parser.add_argument(
        "--name",
        metavar="NAME",
        help="of the C function (default: that of the file)",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Write a model, and the description of its inputs and outputs."""
    if options.kind == "onnx" and options.name:
        raise InputError("--name is for C")
    net, encoder = load_with_encoder(options.model)
    path = _path(options)
    name = options.name or path.stem
    if options.kind == "c" and not (name.isascii() and name.isidentifier() and name[0] != "_"):
        raise InputError(
            f"{'--name' if options.name else path}: {name!r} is no C identifier that starts with a "
            "letter; give the function one with --name"
        )
    remarks = _lost(encoder, net.dtype)
    standardization = _standardization(encoder)
    net = _in_own_units(net, encoder)
    try:
        if options.kind == "onnx":
            from bpcore import onnx

            onnx.export(net, path, standardization=standardization)
            files = [path]
        else:
            bpcore.export_c(net, path, name=name, standardization=standardization)
            files = [path, path.with_suffix(".h")]
    except ImportError as error:
        raise InputError(str(error)) from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}") from None
    sidecar = path.with_suffix(".json")
    described = {"inputs": _inputs(encoder), "outputs": _outputs(encoder)}
    replace_file(sidecar, (json.dumps(described, indent=2, ensure_ascii=False) + "\n").encode())

    report = Report(options.json)
    report.line("saved", ", ".join(map(str, [*files, sidecar])))
    shown = [_shown(entry) for entry in described["inputs"]]
    report.line("inputs", f"{len(shown)}: {', '.join(shown)}")
    shown = [entry.get("class", entry["column"]) for entry in described["outputs"]]
    report.line("outputs", f"{len(shown)}: {', '.join(shown)}")
    for text in remarks:
        remark(text)
    report.put(remarks=remarks, files=[str(file) for file in [*files, sidecar]], **described)
    report.end()
    return 0


def _path(options: argparse.Namespace) -> Path:
    ending = "." + options.kind
    if options.out == "-":
        raise InputError("--out must name a file: an export is more than one")
    if options.out is not None:
        path = Path(options.out)
        if path.suffix != ending:
            raise InputError(f"--out must end in {ending}, found {options.out!r}")
        return path
    folder = Path() if options.model == "-" else Path(model_path(options.model)).parent
    return folder / Path(MODEL_FILE).with_suffix(ending)


def _standardization(encoder: TableEncoder) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scale of each input; those of categories stay as they are."""
    mean, scale = [], []
    for feature in encoder.features:
        n = len(feature.get("categories", "1"))
        mean += [feature.get("mean", 0.0)] * n
        scale += [feature.get("scale", 1.0)] * n
    return np.array(mean), np.array(scale)


def _lost(encoder: TableEncoder, dtype: Any) -> list[str]:
    """Say where numbers so far from 0, as the table has them, lose much of what tells them apart.

    Rounding them to `dtype` moves them by eps * abs(mean), and that in units of the scale is what
    the network sees.
    """
    remarks = []
    for entry in (*encoder.features, encoder.target):
        if "scale" not in entry:
            continue
        error = float(np.finfo(dtype).eps) * abs(entry["mean"]) / entry["scale"]
        if error > LOST:
            remarks.append(
                f"column {entry['column']}: its values lie about {entry['mean']:.3g}, spread by "
                f"{entry['scale']:.3g}: {dtype} rounds away {error:.1g} of the spread; "
                "a model trained with --dtype float64 keeps it"
            )
    return remarks


def _in_own_units(net: Any, encoder: TableEncoder) -> Any:
    """Return a copy of the network whose last layer gives a quantity in its own units."""
    copy = net.astype(net.dtype)
    if encoder.classes is None:
        last = copy.layers[-1]
        if not isinstance(last, Dense) or not last.has_bias:
            raise InputError("a model of a quantity must end in a dense layer with a bias")
        mean, scale = encoder.target["mean"], encoder.target["scale"]
        last.weight[...] *= scale
        last.bias[...] = last.bias * scale + mean
    return copy


def _inputs(encoder: TableEncoder) -> list[dict[str, Any]]:
    """Describe each input; "mean" and "scale" are those that the exported model has inside."""
    entries: list[dict[str, Any]] = []
    for feature in encoder.features:
        for category in feature.get("categories", [None]):
            entry = {"index": len(entries), "column": feature["column"]}
            if category is None:
                entry |= {"mean": feature["mean"], "scale": feature["scale"]}
            else:
                entry["category"] = category
            entries.append(entry)
    return entries


def _outputs(encoder: TableEncoder) -> list[dict[str, Any]]:
    column = encoder.target["column"]
    if encoder.classes is None:
        return [{"index": 0, "column": column}]
    return [{"index": i, "column": column, "class": c} for i, c in enumerate(encoder.classes)]


def _shown(entry: dict[str, Any]) -> str:
    category = entry.get("category")
    return entry["column"] if category is None else f"{entry['column']}={category}"
