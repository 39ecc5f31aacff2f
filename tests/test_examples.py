"""The example programs run, do what they say, and print what the comment at their end says."""

import functools
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bpcore

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("p*.py"))
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")


def load(name):
    """Import an example by the start of its name."""
    (path,) = EXAMPLES.glob(f"{name}_*.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run():
    """Run an example's main() once; return its figures."""
    return functools.cache(lambda name: load(name).main())


def test_there_are_five():
    assert [path.name[:2] for path in SCRIPTS] == ["p1", "p2", "p3", "p4", "p5"]


def test_p1_loss_falls_and_the_table_is_whole(run):
    figures = run("p1")
    table = figures["table"]
    assert list(table.columns) == ["step", "loss"]
    assert len(table) == 5000
    assert (table["step"] == np.arange(5000)).all()
    loss = table["loss"].to_numpy()
    assert np.isfinite(loss).all()
    assert (np.diff(loss[:1000]) < 0).all()
    assert loss[-1] < loss[0]
    assert figures["hint"].startswith("factor 20:")


def test_p1_saves_a_plot(tmp_path):
    path = tmp_path / "loss.png"
    run_script(EXAMPLES / "p1_sigmoid_layer.py", tmp_path, str(path))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_p2_gradient_and_all_eight_rows(run):
    figures = run("p2")
    x, y, p = figures["rows"], figures["labels"], figures["before"]
    np.testing.assert_allclose(figures["gradient"], x.T @ (p - y), rtol=1e-12)
    assert (figures["after"] != p).all()
    assert figures["losses"][-1] < figures["losses"][0]
    assert len(figures["losses"]) == 500
    assert figures["right"] == 8


@pytest.mark.parametrize("version", ["whole", "one_row"])
def test_p3_under_a_tenth_of_the_variance(run, version):
    figures = run("p3")
    assert figures[f"{version}_score"] < 0.1
    history = figures[version]
    assert len(history) == 501
    sums = [name for name in history if name.startswith("gradient_norm")]
    assert len(sums) == 3
    for name in sums:
        assert len(history[name]) == 501
        assert np.isfinite(history[name]).all()
        assert min(history[name]) > 0  # every layer learns to the end


def test_p3_says_what_each_start_does(run):
    original, he, standardised = run("p3")["starts"].values()
    assert (original < 0.1).mean() <= 0.2
    assert np.median(he) < np.median(original)
    assert (standardised < 0.1).mean() >= 0.8


def test_p4_four_of_four_once_standardised(run):
    assert run("p4") == {"raw": 2, "perceptron": 4, "hidden": 4}


def test_p5_layers_alone_and_by_hand(run):
    figures = run("p5")
    assert figures["same_bits"]
    assert figures["squared_error"] == pytest.approx(1.6271, abs=5e-5)
    assert figures["input_gradient"].shape == (2, 4)
    assert figures["input_gradient_ok"]


def test_p5_gradient_tables(run):
    reports = run("p5")["reports"]
    assert [report.ok for report in reports.values()] == [True] * 3
    for report, n_parameters in zip(reports.values(), [15, 43, 43], strict=True):
        table = report.to_frame()
        assert (table["array"] != "input").sum() == n_parameters
        assert {"analytic", "numeric"} <= set(table.columns)


def test_p5_own_loop_trains_as_fit_does(run):
    figures = run("p5")
    assert len(figures["losses"]) == 400
    assert figures["difference"] < 1e-12
    assert figures["losses"][-1] < figures["losses"][0]


@pytest.mark.parametrize("batch_size", [1, 10])
def test_p5_own_loop_draws_rows_at_random(batch_size, capsys):
    p5 = load("p5")
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 6, (50, 4)), rng.uniform(0, 1, (50, 3))

    def losses():
        net = p5.Model([("linear", bpcore.Dense(4, 3)), ("sigmoid", bpcore.Sigmoid())], rng=1)
        return net.run(x, y, batch_size, epochs=30, rate=0.1, print_step=10, shuffle=True)

    first = losses()
    assert capsys.readouterr().out.count("loss") == 3
    assert first == losses()
    assert len(first) == 30
    assert first[-1] < first[0]


def test_p5_targets_beat_their_mean_where_the_network_can(run):
    figures = run("p5")
    shares = figures["shares"]
    assert len(shares) == 5
    for ways in shares.values():
        assert len(ways) == 8
        assert np.isfinite(list(ways.values())).all()
    for total, _, pair in shares["4-5-3 tanh"].values():
        assert total > 0.3
        assert pair > 0.7
    total, single, pair = np.median(figures["alone"], axis=1)
    assert total > 0.5
    assert single < 0.2
    assert pair > 0.9
    assert figures["staircase"][5] > 0.3
    assert figures["staircase"][11] > 0.9
    # 4-3 only rises or only falls along one direction.
    one_layer = np.array(list(shares["4-3 sigmoid"].values()))
    assert one_layer[:, :2].max() < 0.1
    assert one_layer[:, 2].max() > 0.05


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_prints_what_its_comment_says(path, tmp_path):
    """Run as a script from elsewhere. Words must agree; numbers may differ with the machine."""
    claimed = re.search(r"^# It prints:\n((?:#.*\n)+)\Z", path.read_text("utf-8"), re.MULTILINE)
    assert claimed, f"{path.name} must end with a comment: # It prints:"
    claim = "".join(line[1:] for line in claimed[1].splitlines(keepends=True))
    done = run_script(path, tmp_path)
    assert done.stderr == ""
    assert words(done.stdout) == words(claim)


def words(text):
    return NUMBER.sub("0", text).replace("[", " ").replace("]", " ").split()


def run_script(path, folder, *arguments):
    done = subprocess.run(
        [sys.executable, path, *arguments],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done
