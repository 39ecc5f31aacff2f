"""Ctrl-C in a training, and how it goes on."""

import io
import json
import os
import signal
import sys
from pathlib import Path

import pandas
import pytest
from command_line import assert_one_line, command

import bpcore
from bpcore.tablefiles import iris_path


def stop_at(monkeypatch, epoch):
    """Let the next trainings be stopped after so many epochs, as by Ctrl-C."""
    fit = bpcore.Network.fit

    def interrupt(net, now, logs):
        if now == epoch:
            raise KeyboardInterrupt

    def stopped(net, *arguments, **keywords):
        with monkeypatch.context() as patch:
            patch.setattr(bpcore.Network, "fit", fit)
            return fit(net, *arguments, **keywords, callbacks=[interrupt])

    monkeypatch.setattr(bpcore.Network, "fit", stopped)


OPTIONS = {
    "default": [],
    "patience": ["--patience", "3", "--learning-rate", "0.05"],
    "dropout": ["--dropout", "0.2", "--dtype", "float32", "--batch-size", "all"],
    "quantity": ["--target", "petal_width", "--test-fraction", "0", "--seed", "4"],
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_resumed_training_gives_the_same_bits(run, monkeypatch, options):
    options = ["train", "--epochs", 12, *options]
    assert run(*options, "--out", "whole")[0] == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        code, _, err = run(*options, "--out", "parts")
    assert code == 130
    assert err == (
        "bpcore: stopped by Ctrl-C after 5 of 12 epochs; the model is saved, and this goes on: "
        "bpcore train --resume parts\n"
    )
    assert run("predict", "parts", "iris")[0] == 0  # what there is works
    out = run("info", "parts")[1]
    assert "stopped:  after 5 of 12 epochs" in out
    assert len(Path("parts/history.csv").read_text().splitlines()) == 6
    code, out, err = run("train", "--resume", "parts")
    assert (code, err) == (0, "")
    assert "saved:    parts: " in out
    whole, parts = (bpcore.load(f"{name}/model.safetensors") for name in ("whole", "parts"))
    assert whole.parameters.tobytes() == parts.parameters.tobytes()
    whole_history, history = (pandas.read_csv(f"{name}/history.csv") for name in ("whole", "parts"))
    pandas.testing.assert_frame_equal(
        history.drop(columns="seconds"), whole_history.drop(columns="seconds")
    )
    assert whole.metadata["training"] == parts.metadata["training"]
    assert "stopped" not in run("info", "parts")[1]
    assert_one_line(run("train", "--resume", "parts"), "no training was stopped there")


def test_what_resume_refuses(run, monkeypatch):
    table = Path(iris_path()).read_text()
    Path("flowers.csv").write_text(table)
    with monkeypatch.context() as patch:
        stop_at(patch, 0)
        assert run("train", "flowers.csv", "--target", "species", "--out", "m")[0] == 130
    before = Path("m/model.safetensors").read_bytes()
    assert_one_line(run("train", "--resume", "m", "--epochs", 9), "leave out --epochs (saved: 200)")
    assert_one_line(run("train", "--resume", "m", "--out", "n"), "leave out --out")
    for option in (["--drop", "x"], ["--loss", "mse"], ["--target", "petal_width"]):
        assert_one_line(run("train", "--resume", "m", *option), f"leave out {option[0]}")
    Path("flowers.csv").write_text(table.replace("5.1", "5.2", 1))
    assert_one_line(run("train", "--resume", "m"), "flowers.csv: is not the table that m began")
    Path("flowers.csv").unlink()
    assert_one_line(run("train", "--resume", "m"), "flowers.csv: No such file")
    assert_one_line(run("train", "--resume", "gone"), "gone: No such file")
    assert Path("m/model.safetensors").read_bytes() == before
    Path("moved.csv").write_text(table)
    same = ["--epochs", 200, "--target", "species", "--hidden", "16,16", "--out", "./m"]
    code, out, _ = run("train", "moved.csv", "--resume", "m", "--json", *same)
    assert code == 0
    assert json.loads(out)["epochs"] == 200


def test_a_default_that_is_given_counts(run, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 0)
        assert run("train", "--epochs", 9, "--seed", 3, "--quiet", "--out", "m")[0] == 130
    assert_one_line(run("train", "--resume", "m", "--epochs", 200), "--epochs (saved: 9)")
    assert_one_line(run("train", "--resume", "m", "--seed", 0), "leave out --seed (saved: 3)")
    assert run("train", "--resume", "m", "--seed", 3)[0] == 0


def test_the_report_is_written_in_the_end(run, monkeypatch):
    for name, more in {"saved": [], "given": ["--report", "other.html"]}.items():
        with monkeypatch.context() as patch:
            stop_at(patch, 0)
            train = ["train", "--epochs", 3, "--out", name, "--report", f"{name}.html"]
            assert run(*train)[0] == 130
        assert not Path(f"{name}.html").exists()
        assert run("train", "--resume", name, *more)[0] == 0
    assert Path("saved.html").exists() and Path("other.html").exists()
    assert not Path("given.html").exists()


def test_a_table_from_standard_input_is_piped_in_again(run, monkeypatch):
    def pipe():
        text = Path(iris_path()).read_bytes().replace(b",", b"\t")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))

    pipe()
    with monkeypatch.context() as patch:
        stop_at(patch, 0)
        train = ["train", "-", "--format", "tsv", "--target", "species", "--epochs", 2]
        code, _, err = run(*train, "--out", "m")
    again = "train - --format tsv --resume m < THE-SAME-TABLE"
    assert code == 130 and err.endswith(f"this goes on: bpcore {again}\n")
    assert_one_line(run("train", "--resume", "m"), "standard input; give it again: bpcore train - ")
    assert "on standard input, 150 rows" in run("info", "m")[1]
    pipe()
    assert run(*again.partition(" <")[0].split())[0] == 0


@pytest.mark.parametrize("where", ["score", "save_loss_plot", "save_train_report"])
def test_ctrl_c_after_the_last_epoch(run, monkeypatch, where):
    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"bpcore.commands.train.{where}", stop)
    code, out, err = run(
        "train", "--epochs", 3, "--out", "m", "--report", "r.html", "--json", "--quiet"
    )
    text = "stopped by Ctrl-C after all 3 epochs; the trained model is saved in m"
    assert (code, err) == (130, f"bpcore: {text}\n")
    found = json.loads(out)
    assert [found[name] for name in ("error", "exit", "folder", "epochs")] == [text, 130, "m", 3]
    assert run("predict", "m", "iris")[0] == 0
    assert len(Path("m/history.csv").read_text().splitlines()) == 4
    assert bpcore.load("m/model.safetensors").metadata["training"]["finished"] is True


def test_a_stopped_training_as_json(run, monkeypatch):
    stop_at(monkeypatch, 1)
    code, out, err = run("train", "--epochs", 9, "--out", "m", "--json")
    found = json.loads(out)
    assert code == found["exit"] == 130
    assert err == f"bpcore: {found['error']}\n"
    assert (found["folder"], found["epochs"]) == ("m", 2)


@pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals differ")
def test_ctrl_c_in_training(tmp_path):
    # what a shell runs in the background ignores the signal otherwise
    import termios

    attend = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    terminal, end = os.openpty()
    termios.tcsetwinsize(terminal, (24, 80))  # in none a progress bar has no room
    text = ""
    with command("train", "--epochs", 300_000, cwd=tmp_path, stderr=end, **attend) as process:
        os.close(end)
        while "loss=" not in text:  # the progress bar has moved
            text += os.read(terminal, 65536).decode()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    try:
        while more := os.read(terminal, 65536):
            text += more.decode()
    except OSError:  # Linux tells the end of a terminal so
        pass
    os.close(terminal)
    assert process.returncode == 130
    assert "Traceback" not in text
    last = text.strip().splitlines()[-1]
    assert last.startswith("bpcore: stopped by Ctrl-C after ")
    assert last.endswith("bpcore train --resume bpcore-runs/iris-1")
    assert "saved:    bpcore-runs/iris-1: model.safetensors, history.csv, loss.png" in out
    assert bpcore.load(tmp_path / "bpcore-runs/iris-1/model.safetensors").n_in == 4
