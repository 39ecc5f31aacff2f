"""`bpcore export`: what is written computes what `bpcore predict` says, from a table's numbers."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas
import pytest
from command_line import assert_one_line

import bpcore
from bpcore.tablefiles import iris_path

TASKS = {
    "classes": ["iris"],
    "quantity": ["iris", "--target", "petal_width"],
    "float32": ["iris", "--target", "petal_width", "--dtype", "float32"],
}


def train(run, options):
    assert run("train", *options, "--epochs", 5, "--quiet", "--out", "m")[0] == 0
    return pandas.read_csv(iris_path())


def inputs_of(data, sidecar):
    """The inputs as a deployer makes them of the table and the sidecar."""
    columns = [
        data[entry["column"]]
        if "category" not in entry
        else (data[entry["column"]] == entry["category"])
        for entry in sidecar["inputs"]
    ]
    return np.array(columns, dtype=float).T


def expected(run, sidecar):
    """The model's answers as `predict` gives them: probabilities, or the quantity."""
    out = json.loads(run("predict", "m", "iris", "--json")[1])
    if out["classes"]:
        assert [entry["class"] for entry in sidecar["outputs"]] == out["classes"]
        return np.array(out["probabilities"])
    assert [entry["column"] for entry in sidecar["outputs"]] == [out["target"]]
    return np.array(out["predicted"])[:, None]


@pytest.mark.parametrize("options", TASKS.values(), ids=TASKS)
def test_onnx(run, options):
    import onnxruntime

    data = train(run, options)
    code, out, err = run("export", "onnx", "m")
    assert (code, err) == (0, "")
    assert "saved:    m/model.onnx, m/model.json" in out
    sidecar = json.loads(Path("m/model.json").read_text())
    dtype = bpcore.load("m/model.safetensors").dtype
    session = onnxruntime.InferenceSession("m/model.onnx", providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"input": inputs_of(data, sidecar).astype(dtype)})
    # some tens of roundings of numbers up to about ten
    tolerance = 1000 * np.finfo(dtype).eps
    np.testing.assert_allclose(answer, expected(run, sidecar), rtol=0, atol=tolerance)


MAIN = """
#include <stdio.h>
#include "unit.h"
int main(void)
{
    @real@ x[UNIT_N_IN], y[UNIT_N_OUT];
    double value;
    for (;;) {
        for (int i = 0; i < UNIT_N_IN; i++) {
            if (scanf("%lf", &value) != 1) return 0;
            x[i] = (@real@)value;
        }
        unit(x, y);
        for (int i = 0; i < UNIT_N_OUT; i++) printf("%.17g ", (double)y[i]);
        puts("");
    }
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
@pytest.mark.parametrize("options", TASKS.values(), ids=TASKS)
def test_c(run, options):
    data = train(run, options)
    code, out, err = run("export", "c", "m", "--out", "unit.c", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["files"] == ["unit.c", "unit.h", "unit.json"]
    sidecar = json.loads(Path("unit.json").read_text())
    assert json.loads(out)["inputs"] == sidecar["inputs"]
    dtype = bpcore.load("m/model.safetensors").dtype
    real = {"float32": "float", "float64": "double"}[dtype.name]
    Path("main.c").write_text(MAIN.replace("@real@", real))
    subprocess.run(["gcc", "-O1", "main.c", "unit.c", "-o", "unit", "-lm"], check=True)
    rows = "\n".join(" ".join(map(repr, map(float, row))) for row in inputs_of(data, sidecar))
    done = subprocess.run(["./unit"], input=rows, capture_output=True, text=True, check=True)
    answer = np.array([line.split() for line in done.stdout.splitlines()], dtype=float)
    tolerance = 1000 * np.finfo(dtype).eps
    np.testing.assert_allclose(answer, expected(run, sidecar), rtol=0, atol=tolerance)


def test_what_export_refuses(run):
    train(run, ["iris"])
    assert_one_line(run("export", "c", "m", "--out", "-"), "--out must name a file")
    assert_one_line(run("export", "c", "m", "--out", "unit.txt"), "--out must end in .c")
    assert_one_line(run("export", "c", "m", "--out", "my unit.c"), "my unit.c: 'my unit'", "--name")
    assert_one_line(run("export", "c", "m", "--name", "2x"), "--name: '2x' is no C identifier")
    result = run("export", "onnx", "m", "--name", "unit")
    assert result == (2, "", "bpcore: --name is for C\n")
    assert_one_line(run("export", "rust", "m"), "onnx|c")
    assert_one_line(run("export", "c", "gone"), "gone: No such file")
    bpcore.mlp([4, 3], rng=0).save("own.safetensors")
    assert_one_line(run("export", "c", "own.safetensors"), "was not written by `bpcore train`")
    assert {path.name for path in Path().iterdir()} == {"m", "own.safetensors"}
    assert_one_line(run("export", "c", "m", "--out", "gone/unit.c"), "gone/unit.")


def test_onnx_missing(run, monkeypatch):
    import sys

    train(run, ["iris"])
    for name in [name for name in sys.modules if name.split(".")[0] == "onnx"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert_one_line(run("export", "onnx", "m"), "pip install 'bpcore[onnx]'")
    assert not Path("m/model.json").exists()


def test_what_float32_rounds_away_is_told(run):
    """A time in seconds since 1970 over an hour; a temperature in kelvin is none of that."""
    rng = np.random.default_rng(0)
    time, kelvin = 1.7e9 + rng.uniform(0, 3600, 60), rng.uniform(280, 300, 60)
    table = pandas.DataFrame({"time": time, "kelvin": kelvin, "y": 1e6 + (time - 1.7e9) / 3600})
    table.to_csv("t.csv", index=False)
    for dtype, told in {"float32": ["time", "y"], "float64": []}.items():
        train = ["train", "t.csv", "--target", "y", "--dtype", dtype, "--epochs", 2, "--out", dtype]
        assert run(*train)[0] == 0
        code, out, err = run("export", "c", dtype, "--json")
        assert code == 0
        lines = err.splitlines()
        assert [line.split(":")[1].removeprefix(" column ") for line in lines] == told
        assert all("--dtype float64" in line for line in lines)
        assert json.loads(out)["remarks"] == [line.removeprefix("bpcore: ") for line in lines]
