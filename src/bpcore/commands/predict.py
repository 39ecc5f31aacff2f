"""`bpcore predict`: a trained model's answers for a table."""

import argparse
import os
from typing import Any

import numpy as np

from bpcore.arrayfiles import array_bytes, arrays_bytes
from bpcore.commands.inputs import load_with_encoder, read
from bpcore.commands.options import add_data, add_json, add_model
from bpcore.commands.report import Report, counted, remark
from bpcore.commands.scores import compare
from bpcore.encoding import TableEncoder
from bpcore.tablefiles import FORMATS, format_of, frame_bytes, write_bytes
from bpcore.tables import InputError

__all__ = ["EPILOG", "add_options", "run"]

EPILOG = """\
The answer has a row for each row of DATA: a column predicted_<target> and, for
classes, the probability of the one predicted. An .npy file gets the predicted
column alone, an .npz file arrays predicted, probabilities (rows, classes) and
classes. Where DATA has the target too, the score goes to standard error.

examples (flowers.csv stands for a table of yours):
  bpcore predict bpcore-runs/iris-1 iris
  bpcore predict bpcore-runs/iris-1 flowers.csv --out species.csv
  bpcore predict bpcore-runs/iris-1/model.safetensors iris --out species.parquet
  head -n 20 flowers.csv | bpcore predict bpcore-runs/iris-1 - | sort | uniq -c
  bpcore predict bpcore-runs/iris-1 - --format tsv --json < flowers.tsv

exit codes: 0 predicted; 2 wrong input; 130 Ctrl-C
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options of `bpcore predict`."""
    add_model(parser)
    add_data(parser)
    parser.add_argument(
        "--out",
        metavar="FILE",
        default="-",
        help="write here: .csv, .tsv, .parquet, .npy, .npz, or .txt for CSV (default: -, standard "
        "output)",
    )
    parser.add_argument(
        "--out-format",
        metavar="NAME",
        choices=list(FORMATS),
        help="as --format (default: what the name of --out says, else csv)",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Apply a trained model to a table."""
    net, encoder = load_with_encoder(options.model, options.data)
    _check_out(options)
    table = read(options.data, encoder.text_columns, options.format)
    prediction = net.predict(encoder.encode_features(table, net.dtype))
    answer = encoder.decode(prediction)
    score = compare(encoder, table, answer)
    report, text = Report(options.json), score.pop("text", None)
    report.put(rows=len(table), target=encoder.target["column"], classes=encoder.classes)
    report.put(score=score or None)
    if options.json and options.out == "-":
        report.put(predicted=answer)
        if encoder.classes:
            report.put(probabilities=prediction)
    else:
        format = options.out_format or format_of(options.out)
        content = _content(table.frame[[]], encoder, prediction, answer, format)
        write_bytes(options.out, content, format)
        if options.out != "-":
            report.text(f"saved {counted(len(table), 'prediction')} in {options.out}")
            report.put(file=options.out)
    report.end()
    if text and not options.json:
        remark(text)
    return 0


def _check_out(options: argparse.Namespace) -> None:
    same = all(map(os.path.exists, (options.out, options.data)))
    if same and os.path.samefile(options.out, options.data):
        raise InputError(f"{options.out}: is the data; --out must name another file")
    ending = os.path.splitext(options.out.lower().removesuffix(".gz"))[1]
    if options.out_format or ending in ("", ".txt") or format_of(options.out, "") in FORMATS:
        return
    known = ", ".join(endings[0] for endings in FORMATS.values())
    raise InputError(
        f"{options.out}: --out must end in {known} or .txt, or say what it is with --out-format"
    )


def _content(
    empty: Any, encoder: TableEncoder, prediction: np.ndarray, answer: np.ndarray, format: str
) -> bytes:
    """Return the answer as a file of this format holds it."""
    if format in ("npy", "npz"):
        plain = answer.astype(str) if encoder.classes else answer
        if format == "npy":
            return array_bytes(plain)
        arrays = {"predicted": plain}
        if encoder.classes:
            arrays |= {"probabilities": prediction, "classes": np.array(encoder.classes)}
        return arrays_bytes(arrays)
    frame = empty.assign(**{f"predicted_{encoder.target['column']}": answer})
    if encoder.classes:
        frame["probability"] = prediction.max(axis=1, initial=0.0).round(6)
    return frame_bytes(frame, format)
