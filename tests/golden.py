"""Fingerprints of small programs: one for each program and dtype, on every level with fma.

    python tests/golden.py            say which programs differ from golden.json, fail if any do
    python tests/golden.py --renew    write golden.json anew, after a change that is to change bits

Data and weights are made from the raw bits of a bit generator by exact arithmetic, and the order of
rows is drawn in C. So a fingerprint depends neither on NumPy's methods, whose streams may change
between its versions, nor on the C library's functions (therefore no schedules).
"""

import hashlib
import itertools
import json
import sys
from pathlib import Path

import cases
import numpy as np
from agreement import activation, loss_object

import bpcore
from bpcore import Dense, Dropout, _core

PATH = Path(__file__).with_name("golden.json")
DTYPES = ("float32", "float64")
OPTIMIZERS = {
    "sgd": bpcore.SGD(learning_rate=0.05),
    "momentum": bpcore.SGD(learning_rate=0.02, momentum=0.9),
    "nesterov": bpcore.SGD(learning_rate=0.02, momentum=0.9, nesterov=True),
    "rmsprop": bpcore.RMSProp(learning_rate=0.005),
    "adam": bpcore.Adam(learning_rate=0.005),
    "adamw": bpcore.AdamW(learning_rate=0.005),
    "rprop": bpcore.Rprop(),
}
SAMPLINGS = ("shuffle", "sequential", "replacement")
NARROW, WIDE = (5, 9, 3), (20, 70, 5)  # by columns, and by products

# What differs from BASE in each program.
BASE = {
    "widths": NARROW,
    "hidden": "tanh",
    "head": cases.Head((), "mse"),
    "optimizer": "adam",
    "n": 61,
    "epochs": 4,
    "batch_size": 8,
    "sampling": "shuffle",
    "dropout": 0.0,
    "l2": 0.0,
    "l1": 0.0,
    "reduction": "mean",
    "weighted": False,
    "validated": False,
    "gradient_clip": None,
}
PROGRAMS = {
    "P1 sigmoid layer": {
        "widths": (1000, 2), "head": cases.Head(("sigmoid",), "mse"), "n": 10, "epochs": 50,
        "batch_size": None, "optimizer": "sgd",
    },
    "P2 logistic regression": {
        "widths": (5, 1), "head": cases.Head(("sigmoid",), "bce"), "n": 8, "epochs": 100,
        "batch_size": None, "optimizer": "sgd", "reduction": "sum",
    },
    "P3 relu regression": {
        "widths": (5, 4, 4, 1), "hidden": "relu", "n": 900, "epochs": 20, "batch_size": None,
        "optimizer": "sgd",
    },
    "P4 perceptron": {
        "widths": (3, 1), "head": cases.Head(("sigmoid",), "mse"), "n": 4, "epochs": 200,
        "batch_size": None, "optimizer": "sgd",
    },
    "P5 one row": {
        "widths": (4, 5, 3), "hidden": "sigmoid", "head": cases.Head(("sigmoid",), "mse"),
        "batch_size": 1, "optimizer": "sgd", "sampling": "sequential", "epochs": 20,
    },
    "long rows": {"widths": (30, 40, 3), "batch_size": 1, "optimizer": "sgd"},
    "rows with replacement": {"batch_size": 1, "optimizer": "sgd", "sampling": "replacement"},
    "striped": {"widths": (700, 3), "n": 20},
    "blocks": {"widths": (20, 70, 5), "n": 2500, "batch_size": 1100, "epochs": 2},
    "blocks in columns": {"widths": (4, 32, 16, 4), "n": 4000, "batch_size": None, "epochs": 3},
    "large": {"widths": (300, 700, 70), "n": 130, "batch_size": 64, "epochs": 2},
    "large sgd": {"widths": (300, 700, 70), "batch_size": 40, "epochs": 2, "optimizer": "sgd"},
    "deep": {"widths": (6, 8, 8, 8, 8, 8, 2), "hidden": "gelu"},
    "everything": {
        "widths": WIDE, "dropout": 0.3, "l2": 0.01, "l1": 0.001, "weighted": True,
        "validated": True, "gradient_clip": 0.5,
    },
}  # fmt: skip
for _name, _widths in {"narrow": NARROW, "wide": WIDE}.items():
    _set = {"widths": _widths}
    PROGRAMS |= {f"{_name} {o}": _set | {"optimizer": o} for o in OPTIMIZERS}
    PROGRAMS |= {f"{_name} {s}": _set | {"sampling": s} for s in SAMPLINGS}
    PROGRAMS |= {f"{_name} hidden {a}": _set | {"hidden": a} for a in cases.ACTIVATIONS}
    PROGRAMS |= {f"{_name} head {h}": _set | {"head": h} for h in cases.HEADS}
    PROGRAMS[f"{_name} dropout"] = _set | {"dropout": 0.3}
    PROGRAMS[f"{_name} weighted"] = _set | {"weighted": True}
    PROGRAMS[f"{_name} penalty"] = _set | {"l2": 0.01, "l1": 0.001}
    PROGRAMS[f"{_name} clip"] = _set | {"gradient_clip": 0.1}
    PROGRAMS[f"{_name} validated"] = _set | {"validated": True}
    PROGRAMS[f"{_name} all rows"] = _set | {"batch_size": None}


def numbers(seed, shape, dtype, low=-1.0, high=1.0):
    """Numbers that are the same everywhere: 53 raw bits, and arithmetic that is rounded once."""
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape))) >> np.uint64(11)
    unit = raw.astype(np.float64) / 2.0**53
    return (unit * (high - low) + low).reshape(shape).astype(dtype)


def build(program, dtype):
    """The network of a program, with weights of the raw bits."""
    widths, layers = program["widths"], []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        scale = 2.0 / 2.0 ** round(np.log2(n_in) / 2)
        weight = numbers(100 + i, (n_in, n_out), dtype) * dtype.type(scale)
        bias = numbers(200 + i, (n_out,), dtype)
        layers += [Dense(n_in, n_out, weight_init=weight, bias_init=bias, dtype=dtype)]
        if i + 2 < len(widths):
            layers += [activation(program["hidden"])]
            layers += [Dropout(program["dropout"])] if program["dropout"] else []
    head = program["head"]
    return bpcore.Network(
        layers + [activation(name) for name in head.activations],
        loss=loss_object(head.loss, reduction=program["reduction"]),
        dtype=dtype,
        rng=np.random.Generator(np.random.PCG64(1)),
        l2=program["l2"],
        l1=program["l1"],
    )


def data(program, dtype):
    """X, y and weights of a program, as C-ordered arrays."""
    n, k, loss = program["n"], program["widths"][-1], program["head"].loss
    x = numbers(1, (n, program["widths"][0]), dtype, -2, 2)
    y = numbers(2, (n, k), dtype, 0, 1)
    if loss.startswith("cross_entropy"):
        y = (np.random.PCG64(2).random_raw(n) % np.uint64(k)).astype(np.int64)
    return x, y, numbers(3, (n,), dtype, 0.25, 2)


def run(name, dtype, layout=lambda array: array):
    """All that a program computes, as a fingerprint; its arrays in another layout if wanted."""
    program, dtype = BASE | PROGRAMS[name], np.dtype(dtype)
    net = build(program, dtype)
    x, y, w = map(layout, data(program, dtype))
    optimizer = bpcore.optimizers.from_config(OPTIMIZERS[program["optimizer"]].config())
    loss, gradient, dx = net.loss_and_gradient(x, y, sample_weight=w, input_gradient=True)
    out = [loss, gradient, dx, net.predict(x)]
    history = net.fit(
        x,
        y,
        sample_weight=w if program["weighted"] else None,
        validation_data=(x, y, w) if program["validated"] else None,
        optimizer=optimizer,
        **{key: program[key] for key in ("epochs", "batch_size", "sampling", "gradient_clip")},
    )
    out += [net.parameters, net.gradients, *optimizer.state(net).slots, history["loss"]]
    out += [history.get("validation_loss", []), net.predict(x), net.rng.bit_generator.random_raw(2)]
    assert np.isfinite(net.parameters).all(), name
    return fingerprint(out)


def fingerprint(values):
    digest = hashlib.blake2b(digest_size=8)
    for value in values:
        array = np.asarray(value)
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def key(name, dtype):
    return f"{name}, {dtype}"


def known():
    return json.loads(PATH.read_text()) if PATH.exists() else {}


def main(renew):
    """Compare with golden.json at the level in use, and say what changed."""
    level = bpcore.simd_level()
    if level == "generic":
        sys.exit("golden.json is for the levels with fma")
    before = known()
    now = {key(name, dtype): run(name, dtype) for name in PROGRAMS for dtype in DTYPES}
    for other in set(bpcore.simd_levels()) - {"generic", level} if renew else ():
        _core.set_simd_level(other)
        for name in PROGRAMS:
            for dtype in DTYPES:
                if run(name, dtype) != now[key(name, dtype)]:
                    sys.exit(f"{key(name, dtype)}: {other} and {level} differ; nothing is written")
    changes = [f"changed: {name}" for name in now if before.get(name, now[name]) != now[name]]
    changes += [f"new: {name}" for name in now.keys() - before.keys()]
    changes += [f"gone: {name}" for name in before.keys() - now.keys()]
    print(*sorted(changes), f"{len(changes)} of {len(now)} differ, at {level}", sep="\n")
    if renew:
        PATH.write_text(json.dumps(now, indent=0) + "\n")
    elif changes:
        sys.exit(1)


if __name__ == "__main__":
    main("--renew" in sys.argv[1:])
