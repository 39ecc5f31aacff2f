"""Exported C: arguments that are refused, names, paths and files."""

import contextlib
import os
import re
import subprocess

import numpy as np
import pytest
from exported import C99

import bpcore
from bpcore import ELU, Dense, LeakyReLU, Network, ShapeError, cparts
from bpcore.cnames import check_name
from bpcore.csource import literal


@pytest.fixture
def net():
    return bpcore.mlp([3, 4, 2], hidden="tanh", rng=0)


BAD_NAMES = [
    "",
    "2net",
    "my net",
    "net-1",
    "_net",
    "näme",
    "int",
    "register",
    "class",
    "main",
    "exp",
    *("size_t", "int8_t", "my_t", "NULL", "NAN", "INFINITY", "INT16_MAX", "FLT_MAX", "M_PI"),
    *("isnan", "signbit", "cbrt", "lgamma", "expf", "sqrtl", "j0", "y0", "yn", "index", "I"),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names(net, name, tmp_path):
    with pytest.raises(ValueError, match=f"name must be .*{name!r}"):
        bpcore.export_c(net, tmp_path / "net.c", name=name)
    assert not os.listdir(tmp_path)


GOOD_NAMES = [
    *("torque", "memory_2", "strategy", "issue", "arm", "tower", "floats", "expo", "input"),
    *("x", "a1", "A", "t", "M_arm", "FP_loop"),
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_good_names(name):
    check_name(name)


@pytest.mark.parametrize("dialect", ["-std=c99", "-std=gnu17"])
def test_names_of_the_included_headers_are_refused(dialect, tmp_path):
    """Macros and functions, as the compiler here has them."""
    text = "#include <float.h>\n" + cparts.INCLUDES
    command = ["gcc", dialect, "-E", "-xc", "-"]
    macros, declared = (
        subprocess.run([*command, *more], input=text, capture_output=True, text=True).stdout
        for more in (["-dM"], ["-P"])
    )
    names = {*re.findall(r"#define ([A-Za-z]\w*)", macros)}
    names |= {*re.findall(r"\b([A-Za-z]\w*) \(", declared), *re.findall(r"\b\w+_t\b", declared)}
    names = {name for name in names if not name.startswith("_")}
    assert {"isnan", "hypotf", "memcpy", "uint64_t", "NULL", "DBL_MAX"} <= names
    free = set()
    for name in names:
        with contextlib.suppress(ValueError):
            check_name(name)
            free.add(name)
    assert not free


@pytest.mark.parametrize(
    "error, message, keywords",
    [
        (TypeError, "name must be text, got None", {"name": None}),
        (ValueError, "unknown workspace 'heap'", {"workspace": "heap"}),
        (ValueError, r"standardization must be a pair \(mean, scale\)", {"standardization": 1.0}),
        (ValueError, r"scale\[1\] is 0", {"standardization": (0.0, [1.0, 0.0, 1.0])}),
        (ValueError, "mean.* is nan", {"standardization": (np.nan, 1.0)}),
        (ShapeError, r"mean has shape \(2,\), expected \(3,\)", {"standardization": ([1, 2], 1.0)}),
        (ValueError, "unknown quantize 'int4'", {"quantize": "int4", "X": [[1.0, 2.0, 3.0]]}),
        (ValueError, "go together", {"quantize": "int8"}),
        (ValueError, "go together", {"X": [[1.0, 2.0, 3.0]]}),
        (ValueError, "float_wrapper needs quantize", {"float_wrapper": True}),
        (TypeError, "float_wrapper must be True or False", {"float_wrapper": 1}),
        (ShapeError, "X has 2 columns", {"quantize": "int8", "X": [[1.0, 2.0]]}),
        (ShapeError, "X has no rows", {"quantize": "int8", "X": np.zeros((0, 3))}),
        (ValueError, r"X\[0, 1\] is inf", {"quantize": "int8", "X": [[1.0, np.inf, 2.0]]}),
    ],
)
def test_bad_arguments(net, tmp_path, error, message, keywords):
    with pytest.raises(error, match=message):
        bpcore.export_c(net, tmp_path / "net.c", **keywords)
    assert not os.listdir(tmp_path)


def test_bad_networks(net, tmp_path):
    with pytest.raises(TypeError, match="net must be a Network, got Dense"):
        bpcore.export_c(net.layers[0], tmp_path / "net.c")
    net.layers[2].weight[3, 1] = np.inf
    with pytest.raises(ValueError, match=r"2\.weight\[3, 1\] is inf"):
        bpcore.export_c(net, tmp_path / "net.c")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("layer", [ELU(alpha=1e39), LeakyReLU(slope=1e39)])
@pytest.mark.parametrize("keywords", [{}, {"quantize": "int16", "X": np.eye(3)}])
def test_parameters_beyond_the_dtype(tmp_path, layer, keywords):
    net = Network([Dense(3, 2), layer], dtype="float32", rng=0)
    with pytest.raises(ValueError, match=r"layer 1 is .*1e\+39.* beyond the range of float32"):
        bpcore.export_c(net, tmp_path / "net.c", **keywords)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_no_literal_of_what_is_not_finite(value):
    with pytest.raises(ValueError, match=f"C has no literal for {value}"):
        literal(np.float32(value))


def test_bad_paths(net, tmp_path):
    for path in ("net.h", "net", "net.cpp", ".c"):
        with pytest.raises(ValueError, match=r"path must end in \.c"):
            bpcore.export_c(net, tmp_path / path)
    with pytest.raises(ValueError, match="that #include can take"):
        bpcore.export_c(net, tmp_path / 'a"b.c')
    with pytest.raises(ValueError, match="that #include can take"):
        bpcore.export_c(net, tmp_path / "q??-x.c")
    with pytest.raises(ValueError, match="path must have a file name in UTF-8"):
        bpcore.export_c(net, os.fsencode(tmp_path) + b"/\xff.c")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        bpcore.export_c(net, tmp_path / "nowhere" / "net.c")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("blocked", ["net.c", "net.h"])
@pytest.mark.parametrize("before", [None, "old"])
def test_both_files_or_neither(net, tmp_path, blocked, before):
    (tmp_path / blocked).mkdir()
    other = tmp_path / {"net.c": "net.h", "net.h": "net.c"}[blocked]
    if before:
        other.write_text(before)
    with pytest.raises(IsADirectoryError, match=blocked):
        bpcore.export_c(net, tmp_path / "net.c")
    assert (other.read_text() if other.exists() else None) == before
    assert len(os.listdir(tmp_path)) == 1 + bool(before)


def test_include_guards_are_those_of_the_functions(net, tmp_path):
    """Files whose names differ in symbols only."""
    for name, file in (("one", "a-b.c"), ("two", "a_b.c")):
        bpcore.export_c(net, tmp_path / file, name=name)
    text = '#include "a-b.h"\n#include "a_b.h"\nint n = ONE_N_IN + TWO_N_IN;\n'
    (tmp_path / "both.c").write_text(text)
    subprocess.run(["gcc", *C99, "-fsyntax-only", "both.c"], cwd=tmp_path, check=True)
