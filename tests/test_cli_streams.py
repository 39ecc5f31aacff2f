"""Pipes, formats and JSON: what goes to standard output is the result, and nothing else."""

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
from command_line import assert_one_line, command

import bpcore
from bpcore.cli import main
from bpcore.tablefiles import iris_path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A trained model of iris; one of a quantity."""
    folder = tmp_path_factory.mktemp("models")
    quick = ["--epochs", "20", "--quiet", "--out"]
    assert main(["train", *quick, str(folder / "iris")]) == 0
    assert main(["train", "iris", "--target", "petal_width", *quick, str(folder / "width")]) == 0
    return folder


def strict(text):
    """Parse JSON as the standard has it: no NaN, no Infinity, one object on one line."""

    def refuse(token):
        raise AssertionError(f"{token} is no JSON")

    assert text.count("\n") == 1
    return json.loads(text, parse_constant=refuse)


def stdin(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


JSON_COMMANDS = {
    "train": (["train", "--epochs", "2"], {"data", "target", "settings", "score", "seconds"}),
    "train a quantity": (
        ["train", "iris", "--target", "petal_width", "--epochs", "2"],
        {"score", "gradients", "files", "network", "epochs", "loss"},
    ),
    "predict": (["predict", "iris", "iris"], {"predicted", "probabilities", "classes", "score"}),
    "predict to a file": (["predict", "iris", "iris", "--out", "p.csv"], {"file", "rows"}),
    "check": (["check", "iris", "iris"], {"gradients"}),
    "export": (["export", "c", "iris", "--out", "unit.c"], {"files", "inputs", "outputs"}),
    "info": (["info"], {"bpcore", "simd", "threads", "packages"}),
    "info of a model": (["info", "iris"], {"network", "metadata", "finished", "parameters"}),
    "bench": (["bench", "--seconds", "0.1"], {"cases", "simd"}),
}


@pytest.mark.parametrize(("arguments", "keys"), JSON_COMMANDS.values(), ids=JSON_COMMANDS)
def test_json_is_one_strict_object(run, model, arguments, keys):
    if arguments[0] != "train":
        shutil.copytree(model / "iris", "iris")
    data = [
        str(iris_path()) if word == "iris" and i > 1 and arguments[0] != "export" else word
        for i, word in enumerate(arguments)
    ]
    code, out, err = run(*data, "--json")
    assert (code, err) == (0, "")
    assert keys <= strict(out).keys()


FAILURES = {
    "train gone.csv --target y": "gone.csv: No such file",
    "train --epochs 0": "--epochs: expected a whole number",
    "train --epoch 5": "unrecognized arguments: --epoch",
    "info gone": "gone: No such file",
    "nothing": "COMMAND",
    "train --optimizer sgd --learning-rate 1e300 --quiet": "a smaller --learning-rate",
}


@pytest.mark.parametrize(("line", "text"), FAILURES.items(), ids=FAILURES)
def test_json_of_a_failure(run, line, text):
    code, out, err = run(*line.split(), "--json")
    found = strict(out)
    assert found == {"error": found["error"], "exit": code}
    assert code == (1 if "1e300" in line else 2) and text in found["error"]
    assert err == f"bpcore: {found['error']}\n"


def test_json_of_train_says_what_lines_say(run):
    out = strict(run("train", "--epochs", "30", "--seed", "3", "--json")[1])
    lines = run("train", "--epochs", "30", "--seed", "3")[1]
    assert f"accuracy: {out['score']['accuracy']:.1%} of {out['score']['scored_rows']}" in lines
    assert f"{out['gradients']['checked']} derivatives" in lines
    assert out["gradients"]["ok"] is True
    assert out["score"]["baseline"] == pytest.approx(1 / 3)
    assert out["settings"]["seed"] == 3 and out["settings"]["l2"] == 1 / 120
    assert out["network"]["widths"] == [4, 16, 16, 3]
    assert out["files"]["folder"] == "bpcore-runs/iris-1"
    assert all(Path(out["files"][name]).is_file() for name in ("model", "history", "plot"))
    history = pandas.read_csv(out["files"]["history"])
    assert out["loss"] == history["loss"].iloc[-1] and out["epochs"] == len(history) == 30


def test_undefined_scores_are_null(run):
    Path("five.csv").write_text("x,t\n1,2.5\n2,3\n3,4\n4,5.5\n5,9\n")
    code, out, _ = run("train", "five.csv", "--target", "t", "--epochs", 2, "--json")
    assert code == 0
    assert strict(out)["score"]["r2"] is None


@pytest.mark.parametrize("what", ["csv", "tsv", "parquet", "npy", "npz"])
def test_predict_writes_every_format(run, model, what):
    for name in ("iris", "width"):
        answers = strict(run("predict", model / name, "iris", "--json")[1])
        code, out, err = run("predict", model / name, "iris", "--out", f"p.{what}")
        assert (code, out) == (0, f"saved 150 predictions in p.{what}\n")
        assert err.startswith("bpcore: ") and err.count("\n") == 1
        column = f"predicted_{answers['target']}"
        if what == "npy":
            found = np.load("p.npy")
        elif what == "npz":
            arrays = np.load("p.npz")
            found = arrays["predicted"]
            if name == "iris":
                np.testing.assert_array_equal(arrays["classes"], answers["classes"])
                np.testing.assert_array_equal(arrays["probabilities"], answers["probabilities"])
        else:
            readers = {"csv": pandas.read_csv, "tsv": pandas.read_table}
            frame = readers.get(what, pandas.read_parquet)(f"p.{what}")
            found = frame[column].to_numpy()
            assert ("probability" in frame) == (name == "iris")
        np.testing.assert_array_equal(found, answers["predicted"])


def test_predict_reads_every_format(run, model):
    table = pandas.read_csv(iris_path())
    table.to_csv("new.tsv", sep="\t", index=False)
    table.to_csv("new.csv.gz", index=False)
    expected = run("predict", model / "iris", "iris")
    assert run("predict", model / "iris", "new.tsv") == expected
    assert run("predict", model / "iris", "new.csv.gz") == expected
    shutil.copy("new.tsv", "new.dat")
    assert run("predict", model / "iris", "new.dat", "--format", "tsv") == expected
    table.to_parquet("new.parquet")
    assert run("predict", model / "iris", "new.parquet") == expected


def test_train_on_arrays(run):
    table = pandas.read_csv(iris_path())
    X, y = table.iloc[:, :4].to_numpy(), table["species"].to_numpy(dtype=str)
    np.savez("flowers.npz", X=X, y=y)
    code, out, _ = run("train", "flowers.npz", "--epochs", 20, "--json")
    assert code == 0
    assert strict(out)["target"] == {"column": "y", "classes": sorted(set(y))}
    whole = strict(run("train", "--epochs", 20, "--json")[1])
    assert strict(out)["score"] == whole["score"]  # the same table under other names
    np.save("flowers.npy", X)
    code, out, _ = run("train", "flowers.npy", "--target", "x3", "--epochs", 20, "--json")
    assert code == 0
    assert strict(out)["score"]["r2"] > 0.8
    np.save("new.npy", X[:, :3])
    code, out, err = run("predict", "bpcore-runs/flowers-2", "new.npy")
    assert (code, len(out.splitlines()), err) == (0, 151, "")
    assert_one_line(run("train", "flowers.npy"), "--target; columns: x0, x1, x2, x3")


def test_data_and_model_from_standard_input(run, model, monkeypatch):
    text = Path(iris_path()).read_bytes()
    expected = run("predict", model / "iris", "iris")
    stdin(monkeypatch, text)
    assert run("predict", model / "iris", "-") == expected
    stdin(monkeypatch, text.replace(b",", b"\t"))
    assert run("predict", model / "iris", "-", "--format", "tsv") == expected
    stdin(monkeypatch, (model / "iris/model.safetensors").read_bytes())
    assert run("predict", "-", "iris") == expected
    stdin(monkeypatch, text)
    code, out, _ = run("train", "-", "--target", "species", "--epochs", 2)
    assert code == 0
    assert "saved:    bpcore-runs/stdin-1: " in out
    assert "next:     bpcore predict bpcore-runs/stdin-1 NEW-DATA" in out
    assert_one_line(run("predict", "-", "-"), "cannot both be standard input")
    stdin(monkeypatch, b"x,t\n1,2,3\n")
    assert_one_line(run("train", "-", "--target", "t"), "standard input, line 2, column 3: found")
    stdin(monkeypatch, b"no model")
    assert_one_line(run("info", "-"), "standard input: ")


def test_a_binary_format_goes_through_a_pipe(model, tmp_path):
    words = ["predict", model / "width", "iris", "--out-format", "npy"]
    with command(*words, cwd=tmp_path, text=False) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err.count(b"\n")) == (0, 1)
    assert np.load(io.BytesIO(out)).shape == (150,)


def test_a_binary_format_is_not_for_a_terminal(run, model, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    result = run("predict", model / "iris", "iris", "--out-format", "npz")
    assert_one_line(result, "npz is not for a terminal")


def test_info_of_a_model_fits_a_terminal(run, model):
    out = run("info", model / "iris")[1]
    assert max(map(len, out.splitlines())) <= 80
    for part in (
        "Dense(4, 16)",
        "features: sepal_length, sepal_width, petal_length, petal_width",
        "target:   species: classes setosa, versicolor, virginica",
        "of 30 held-out rows",
    ):
        assert part in out
    assert "R^2:      0." in run("info", model / "width")[1]


@pytest.mark.parametrize("table", [3, {}, {"features": [], "target": {}}])
@pytest.mark.parametrize("training", [3, {}, {"accuracy": "good", "rows": None}])
def test_info_of_a_stranger(run, table, training):
    net = bpcore.mlp([4, 3], rng=0)
    net.save("own.safetensors")
    code, out, err = run("info", "own.safetensors")
    assert (code, err) == (0, "")
    assert "target" not in out
    net.metadata.update(table=table, training=training)
    net.save("own.safetensors")
    code, out, err = run("info", "own.safetensors")
    assert (code, err) == (0, "")
    assert "the description of the table is damaged" in out
    assert run("info", "own.safetensors", "--json")[0] == 0


def test_bench_is_a_table(run):
    before = bpcore.get_num_threads()
    code, out, err = run("bench", "--seconds", 0.1)
    assert (code, err) == (0, "")
    assert bpcore.get_num_threads() == before
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[2:]] == [
        name for name in ("4-5-3", "64-64-64-10", "784-128-10") for _ in range(3)
    ]
    for case in strict(run("bench", "--seconds", 0.1, "--json")[1])["cases"]:
        assert case["ratio"] == case["numpy_seconds"] / min(case["bpcore_seconds"].values())


@pytest.mark.parametrize("hidden", ["sigmoid", "tanh", "relu"])
def test_bench_compares_the_same_work(hidden):
    """The textbook's step and bpcore's end with the same weights."""
    from bpcore.commands.bench import _Plain

    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((8, 5), np.float32), rng.integers(0, 3, 8)
    net = bpcore.mlp([5, 6, 4, 3], hidden=hidden, output="softmax", loss="cross_entropy",
                     dtype="float32", rng=0)  # fmt: skip
    plain = _Plain(net, hidden, np.eye(3, dtype=np.float32)[labels])
    np.testing.assert_allclose(plain.forward(x)[-1], net.predict(x), rtol=1e-5)
    before = net.parameters.copy()
    for _ in range(5):
        plain.update(x)
    net.fit(x, labels, epochs=5, batch_size=None, optimizer=bpcore.SGD(learning_rate=0.001))
    own = np.concatenate([a.ravel() for pair in zip(plain.weights, plain.biases, strict=True)
                          for a in pair])  # fmt: skip
    moved = np.abs(net.parameters - before).max()
    # each is rounded some times at 2**-24 of numbers up to 1
    assert np.abs(own - net.parameters).max() < 5e-7 < 0.01 * moved


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes of this kind")
@pytest.mark.parametrize("line", ["info --json", "info gone --json"])
def test_nobody_reads_the_object(line):
    with command(*line.split()) as process:
        process.stdout.close()
        assert process.wait(timeout=20) == 141
        assert "Traceback" not in process.stderr.read()
