"""`bpcore check`: the gradients of a trained model, proven on rows of a table."""

import argparse

import numpy as np

from bpcore.commands.batches import Batch, read_batch
from bpcore.commands.options import add_data, add_json, add_model, add_seed, whole
from bpcore.commands.proof import prove
from bpcore.commands.report import Report, counted

__all__ = ["EPILOG", "add_options", "run"]

EPILOG = """\
Every gradient is compared with central differences of the loss. --save-batch
keeps the rows it was done on for a backward pass of your own: an .npz file with
- X and y as the network takes them: standardised, classes as numbers from 0;
- the weights W1, b1, W2, b2, ...; a layer computes X @ W1 + b1;
- l2: to the mean over rows of the loss that `bpcore info MODEL` names comes a
  penalty, l2/2 times the sum of all squared weights, biases left out;
- what should come out: loss, dW1, db1, dW2, db2, ...
`bpcore explain` says what is wrong with yours.

examples:
  bpcore check bpcore-runs/iris-1 iris
  bpcore check bpcore-runs/iris-1 iris --rows 8 --save-batch batch.npz
  bpcore check bpcore-runs/iris-1 iris --json

exit codes: 0 proven; 1 not proven; 2 wrong input; 130 Ctrl-C
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options of `bpcore check`."""
    add_model(parser)
    add_data(parser)
    parser.add_argument(
        "--rows",
        metavar="N",
        type=whole(1),
        default=32,
        help="rows drawn for the check (default: 32)",
    )
    parser.add_argument(
        "--parameters",
        type=whole(1),
        metavar="N",
        help="parameters drawn for the check (default: at most 2000; "
        "for a large network random directions instead)",
    )
    add_seed(parser, "of the draw")
    parser.add_argument("--save-batch", metavar="FILE.npz", help="write the rows drawn, encoded")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Check a trained model's gradients on rows of a table."""
    report = Report(options.json)
    batch = read_batch(options.model, options.data, options.format)
    rng = np.random.default_rng(options.seed)
    n_rows = len(batch.x)
    rows = np.sort(rng.choice(n_rows, min(n_rows, options.rows), replace=False))
    batch = Batch(batch.net, batch.x[rows], batch.y[rows])
    ok = prove(report, batch.net, batch.x, batch.y, options.parameters, details=True)
    if options.save_batch:
        batch.save(options.save_batch)
        report.line("saved", f"{options.save_batch}: a batch of {counted(len(rows), 'row')}")
        report.put(batch=options.save_batch)
    report.end()
    return 0 if ok else 1
