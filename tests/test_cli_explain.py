"""`bpcore explain`, and the batch that `bpcore check` saves for it."""

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_one_line
from safetensors.numpy import save_file

import bpcore
from bpcore.cli import main
from bpcore.tablefiles import iris_path, read_table


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m"
    assert main(["train", "--epochs", "20", "--quiet", "--out", str(path)]) == 0
    return path


@pytest.fixture
def batch(run, model):
    code, out, err = run("check", model, "iris", "--rows", 8, "--save-batch", "batch.npz")
    assert (code, err) == (0, "")
    assert out.endswith("saved:    batch.npz: a batch of 8 rows\n")
    return dict(np.load("batch.npz"))


def backward(batch, mistake=""):
    """A learner's own backward pass of 4-16-16-3 tanh with softmax."""
    X, y, l2 = batch["X"], batch["y"], batch["l2"]
    W1, b1, W2, b2, W3, b3 = (batch[name] for name in ("W1", "b1", "W2", "b2", "W3", "b3"))
    a1 = np.tanh(X @ W1 + b1)
    a2 = np.tanh(a1 @ W2 + b2)
    z = a2 @ W3 + b3
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    delta3 = (p - np.eye(3)[y]) / (1 if mistake == "sum_for_mean" else len(X))
    delta2 = delta3 @ W3.T * (1 if mistake == "derivative_missing" else 1 - a2**2)
    delta1 = delta2 @ W2.T * (1 - a1**2)
    l2 = 0 if mistake == "l2_missing" else l2
    return {
        "dW1": X.T @ delta1 + l2 * W1,
        "db1": delta1.sum(axis=0),
        "dW2": a1.T @ delta2 + l2 * W2,
        "db2": delta2.sum(axis=0),
        "dW3": a2.T @ delta3 + l2 * W3,
        "db3": delta3.sum(axis=0),
    }


def test_a_batch_holds_what_a_learner_needs(batch, model):
    net = bpcore.load(model / "model.safetensors")
    assert batch["X"].shape == (8, 4) and batch["y"].shape == (8,)
    loss, _ = net.loss_and_gradient(batch["X"], batch["y"])
    assert batch["loss"] == loss and batch["l2"] == net.l2
    np.testing.assert_array_equal(batch["W2"], net[2].weight)
    for name, array in backward(batch).items():
        np.testing.assert_allclose(batch[name], array, rtol=1e-9, atol=1e-15)


def test_right_gradients(run, model, batch):
    np.savez("mine.npz", **backward(batch))
    code, out, err = run("explain", model, "batch.npz", "mine.npz")
    assert (code, err) == (0, "")
    assert out.startswith("All gradients are right.")


@pytest.mark.parametrize(
    ("mistake", "layer"), [("derivative_missing", 3), ("l2_missing", None), ("sum_for_mean", None)]
)
def test_a_mistake_is_named(run, model, batch, mistake, layer):
    np.savez("mine.npz", **backward(batch, mistake))
    code, out, err = run("explain", model, "batch.npz", "mine.npz")
    assert (code, err) == (1, "")
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = run("explain", model, "batch.npz", "mine.npz", "--json")
    found = json.loads(out)
    assert (code, found["ok"], found["rows"]) == (1, False, 8)
    assert {one["code"] for one in found["mistakes"]} == {mistake}
    if layer is not None:
        assert found["mistakes"][0]["layer"] == layer
    verdicts = {name: row["verdict"] for name, row in found["arrays"].items()}
    assert list(verdicts) == ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"]
    if mistake == "derivative_missing":
        assert verdicts["4.weight"] == "right" and verdicts["2.bias"] == "wrong"


def test_every_kind_of_file(run, model, batch, monkeypatch):
    gradients = backward(batch, "derivative_missing")
    np.savez("mine.npz", **gradients)
    expected = run("explain", model, "batch.npz", "mine.npz")
    flat = np.concatenate([array.ravel() for array in gradients.values()])
    np.savez("ordered.npz", *gradients.values())
    names = ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"]
    np.savez("named.npz", **dict(zip(names, gradients.values(), strict=True)))
    np.save("flat.npy", flat)
    save_file(dict(zip(names, gradients.values(), strict=True)), "mine.safetensors")
    text = "\n".join(map(repr, flat.tolist()))
    Path("mine.txt").write_text(text)
    Path("mine.csv").write_text(text.replace("\n", ", "))
    for name in (
        "ordered.npz",
        "named.npz",
        "flat.npy",
        "mine.safetensors",
        "mine.txt",
        "mine.csv",
    ):
        assert run("explain", model, "batch.npz", name) == expected, name
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert run("explain", model, "batch.npz", "-") == expected


def test_rows_of_a_table(run, model):
    """Whoever encodes a table as the model does can leave out the batch."""
    net = bpcore.load(model / "model.safetensors")
    table = read_table(iris_path())
    scales = {f["column"]: (f["mean"], f["scale"]) for f in net.metadata["table"]["features"]}
    columns = [(table.numbers(c) - mean) / scale for c, (mean, scale) in scales.items()]
    y = np.repeat([0, 1, 2], 50)
    for rows in (60, None):
        _, gradient = net.loss_and_gradient(np.transpose(columns)[:rows], y[:rows])
        np.save("mine.npy", gradient)
        more = ["--rows", rows] if rows else []
        assert run("explain", model, "iris", "mine.npy", *more)[0] == 0
        np.save("mine.npy", 0.1 * gradient)
        code, out, err = run("explain", model, "iris", "mine.npy", "--learning-rate", 0.1, *more)
        assert (code, err) == (1, "")
        assert "learning rate is already multiplied in" in " ".join(out.split())


def test_what_explain_refuses(run, model, batch):
    mine = backward(batch)
    np.savez("mine.npz", **mine)
    np.savez("few.npz", dW1=mine["dW1"])
    np.save("short.npy", np.zeros(7))
    np.save("pickle.npy", np.array([{}]), allow_pickle=True)
    Path("words.txt").write_text("0.5 half")
    Path("bytes.txt").write_bytes(b"\xff\xfe\x00")
    Path("text.safetensors").write_text("0.5")
    save_file({"0.weight": np.zeros(3, np.int8)}, "bytes.safetensors")
    explain = ["explain", model, "batch.npz"]
    assert_one_line(run(*explain, "few.npz"), "few.npz: gradients lacks 0.bias")
    assert_one_line(
        run(*explain, "short.npy"), "short.npy: gradients has shape (7,), expected (403,"
    )
    assert_one_line(run(*explain, "pickle.npy"), "pickle.npy: holds Python objects (a pickle)")
    assert_one_line(run(*explain, "words.txt"), "words.txt: number 2 is 'half', expected numbers")
    assert_one_line(run(*explain, "bytes.txt"), "bytes.txt: expected numbers as text")
    assert_one_line(run(*explain, "text.safetensors"), "text.safetensors: not a safetensors file")
    assert_one_line(run(*explain, "bytes.safetensors"), "bytes.safetensors: tensor '0.weight'")
    assert_one_line(run(*explain, "gone.npz"), "gone.npz: No such file")
    assert_one_line(run("explain", model, "-", "-"), "only one of MODEL, DATA and GRADIENTS")
    assert run("train", "--epochs", 1, "--out", "other")[0] == 0
    result = run("explain", "other", "batch.npz", "mine.npz")
    assert_one_line(result, "batch.npz: array 'W1' is not that of the model")
    assert_one_line(run("predict", model, "batch.npz"), "is a batch saved by", "`bpcore explain`")


def test_a_batch_can_be_checked_again(run, model, batch):
    code, out, _ = run("check", model, "batch.npz")
    assert code == 0
    assert re.search(r"^check: +gradients proven: 435 ", out, re.M)


def test_standard_input_is_named(run, model, batch, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"1 2 3")))
    assert_one_line(run("explain", model, "batch.npz", "-"), "bpcore: standard input: gradients")
