"""The command: what it prints, which files it leaves, how it fails."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pytest
from command_line import assert_one_line, command

import bpcore
from bpcore.tablefiles import iris_path


def write_quantity(n_rows=300):
    """Write y = 100 + 50 sin(x) + 10 for color b: a network gets it, its mean does not."""
    rng = np.random.default_rng(0)
    x, color = rng.uniform(-3, 3, n_rows), rng.choice(["a", "b"], n_rows)
    frame = pandas.DataFrame(
        {"x": x, "color": color, "y": 100 + 50 * np.sin(x) + 10 * (color == "b")}
    )
    frame.to_csv("waves.csv", index=False)
    return frame


def test_train_without_arguments_learns_iris(run):
    code, out, err = run("train")
    assert code == 0
    assert "150 rows" in out
    assert "3 classes: setosa, versicolor, virginica" in out
    assert "gradients proven" in out
    assert "of 30 held-out rows" in out
    assert "(always 'setosa': 33.3%)" in out
    assert float(out.partition("accuracy: ")[2].partition("%")[0]) >= 90
    assert max(map(len, out.splitlines())) <= 80
    folder = Path("bpcore-runs/iris-1")
    assert {"model.safetensors", "history.csv"} <= {path.name for path in folder.iterdir()}
    history = pandas.read_csv(folder / "history.csv")
    assert {"epoch", "loss", "validation_loss"} <= set(history.columns)
    assert history["loss"].iloc[-1] < 0.3 * history["loss"].iloc[0]
    if "loss.png" in out:
        assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    net = bpcore.load(folder / "model.safetensors")
    assert [f["column"] for f in net.metadata["table"]["features"]] == [
        "sepal_length",
        "sepal_width",
        "petal_length",
        "petal_width",
    ]
    lengths = pandas.read_csv(iris_path())["sepal_length"]
    mean = net.metadata["table"]["features"][0]["mean"]
    assert abs(mean - lengths.mean()) < 0.1
    assert mean != lengths.mean()  # that of the 120 rows learned from
    assert abs(mean * 120 - round(mean * 120, 1)) < 1e-9

    command = out.partition("next:")[2].split()  # what it says to run next does run
    assert command[0] == "bpcore"
    code, out, err = run(*command[1:])
    assert code == 0
    assert out.splitlines()[0] == "predicted_species,probability"
    assert len(out.splitlines()) == 151
    assert "accuracy: 9" in err


def test_a_second_run_gets_a_new_folder_and_the_same_model(run):
    for _ in range(2):
        assert run("train", "--epochs", 3, "--quiet")[0] == 0
    first, second = (Path(f"bpcore-runs/iris-{i}/model.safetensors") for i in (1, 2))
    assert first.read_bytes() == second.read_bytes()
    assert run("train", "--epochs", 3, "--quiet", "--seed", 1, "--out", "other")[0] == 0
    assert Path("other/model.safetensors").read_bytes() != first.read_bytes()


def test_quantity_is_predicted_in_its_own_units(run):
    frame = write_quantity()
    code, out, _ = run(
        "train", "waves.csv", "--target", "y", "--out", "waves", "--learning-rate", 0.01
    )
    assert code == 0
    assert "target:   y, a quantity" in out
    assert float(out.partition("R^2:")[2].split()[0]) > 0.98
    assert float(out.partition("the mean: ")[2].partition(")")[0]) <= 0
    code, out, err = run("predict", "waves", "waves.csv", "--out", "p.csv")
    assert (code, out) == (0, "saved 300 predictions in p.csv\n")
    assert "R^2: 0.9" in err
    predicted = pandas.read_csv("p.csv")
    assert list(predicted.columns) == ["predicted_y"]
    assert np.abs(predicted["predicted_y"] - frame["y"]).mean() < 5
    # columns in another order, one more of them, no target
    frame[["color", "x"]].assign(z=1).head(7).to_csv("new.csv", index=False)
    code, out, err = run("predict", "waves/model.safetensors", "new.csv")
    assert (code, err) == (0, "")
    np.testing.assert_allclose([float(v) for v in out.split()[1:]], predicted["predicted_y"][:7])


def test_one_held_out_row_has_no_r2(run):
    Path("five.csv").write_text("x,t\n1,2.5\n2,3\n3,4\n4,5.5\n5,9\n")
    code, out, _ = run("train", "five.csv", "--target", "t", "--epochs", 2, "--quiet", "--out", "m")
    assert code == 0
    assert "R^2:      undefined on 1 held-out row (" in out
    assert "data:     five.csv: 5 rows, 1 feature\n" in out
    code, out, err = run("predict", "m", "five.csv")
    assert (code, len(out.split())) == (0, 6)
    assert "of 5 rows" in err


def test_predict_of_no_rows_and_of_rows_without_target(run):
    run("train", "--epochs", 2, "--quiet", "--out", "m")
    lines = Path(iris_path()).read_text().splitlines()
    Path("none.csv").write_text(lines[0] + "\n")
    assert run("predict", "m", "none.csv") == (0, "predicted_species,probability\n", "")
    Path("some.csv").write_text("\n".join([lines[0], lines[1].replace("setosa", ""), lines[2]]))
    code, out, err = run("predict", "m", "some.csv")
    assert (code, len(out.splitlines())) == (0, 3)
    assert "of 1 row that has 'species'" in err


@pytest.mark.parametrize(
    "options",
    [
        ["--hidden", "none", "--batch-size", "all", "--optimizer", "sgd", "--learning-rate", "0.1"],
        ["--hidden", "8", "--activation", "tanh", "--dtype", "float32", "--dropout", "0.1"],
        ["--hidden", "8,8", "--test-fraction", "0", "--l2", "0"],
        ["--hidden", "8", "--patience", "2"],
        ["--target", "petal_width", "--loss", "huber", "--drop", "species"],
        ["--target", "petal_width", "--task", "classification", "--drop", "species,sepal_width"],
    ],
    ids=lambda options: " ".join(options),
)
def test_options(run, options):
    code, out, _ = run("train", "--epochs", 20, "--quiet", "--out", "m", *options)
    assert code == 0
    assert "gradients proven" in out
    code, out, _ = run("check", "m", "iris", "--parameters", 20)
    assert code == 0
    assert "gradients proven" in out
    assert run("predict", "m", "iris")[0] == 0


def test_a_wrong_gradient_fails(run, monkeypatch):
    right = bpcore.Network.loss_and_gradient

    def wrong(self, *arguments, **keywords):
        loss, gradient, *rest = right(self, *arguments, **keywords)
        gradient[0] += 1
        return (loss, gradient, *rest)

    monkeypatch.setattr(bpcore.Network, "loss_and_gradient", wrong)
    code, out, _ = run("train", "--quiet")
    assert code == 1
    assert "gradients NOT proven" in out
    assert not os.path.exists("bpcore-runs")


def test_errors_are_one_line(run):
    Path("bad.csv").write_text("x,y,t\n" + "1,2,a\n2,1,b\n" * 6 + "1,oops,a\n")
    Path("few.csv").write_text("x,t\n1,a\n2,b\n")
    Path("folder.csv").mkdir()
    assert_one_line(
        run("train", "bad.csv", "--target", "t"), "bad.csv, line 14, column 'y': found 'oops'"
    )
    assert_one_line(
        run("train", "bad.csv", "--target", "z"), "bad.csv, line 1: no column 'z'; columns: x, y, t"
    )
    assert_one_line(run("train", "bad.csv"), "--target; columns: x, y, t")
    assert_one_line(run("train", "few.csv", "--target", "t"), "few.csv: found 2 rows, too few")
    assert_one_line(run("train", "gone.csv", "--target", "t"), "gone.csv: No such file")
    assert_one_line(run("train", "folder.csv", "--target", "t"), "folder.csv: ")
    assert_one_line(
        run("train", "--epochs", "0"), "--epochs: expected a whole number >= 1, found '0'"
    )
    assert_one_line(
        run("train", "--learning-rate", "nan"), "--learning-rate/--lr: expected a number > 0"
    )
    assert_one_line(run("train", "--hidden", "3,x"), "--hidden")
    assert_one_line(run("train", "--activation", "rel"), "--activation", "relu")
    assert_one_line(
        run("train", "--loss", "mae"), "--loss is for a quantity; 'species' has classes"
    )
    assert_one_line(run(), "COMMAND")
    assert_one_line(run("train", "--epoch", "5"), "--epoch (see bpcore train --help)")
    assert_one_line(run("train", "--out", "few.csv"), "--out: expected a folder, found 'few.csv'")
    assert not os.path.exists("bpcore-runs")


def test_errors_of_models(run):
    Path("text.safetensors").write_text("no model")
    assert_one_line(run("predict", "text.safetensors", "iris"), "text.safetensors")
    assert_one_line(run("predict", "gone", "iris"), "gone: No such file")
    net = bpcore.mlp([4, 3], rng=0)
    net.save("own.safetensors")
    assert_one_line(run("check", "own.safetensors", "iris"), "was not written by `bpcore train`")
    net.metadata["table"] = {"features": 3}
    net.save("own.safetensors")
    assert_one_line(
        run("check", "own.safetensors", "iris"), "the description of the table is damaged"
    )
    assert run("train", "--epochs", 2, "--quiet", "--out", "m")[0] == 0
    net.metadata["table"] = bpcore.load("m/model.safetensors").metadata["table"]
    net.metadata["table"]["features"].pop()
    net.save("own.safetensors")
    assert_one_line(run("check", "own.safetensors", "iris"), "does not fit the network")


def test_errors_of_prediction(run):
    assert run("train", "--epochs", 2, "--quiet", "--out", "m")[0] == 0
    text = Path(iris_path()).read_text()
    Path("new.csv").write_text(text.replace("petal_width", "petal width"))
    assert_one_line(run("predict", "m", "new.csv"), "'petal_width'; the closest is 'petal width'")
    Path("new.csv").write_text(text.replace("4.9,3.0", "4.9,?"))
    assert_one_line(
        run("predict", "m", "new.csv"), "new.csv, line 3, column 'sepal_width': no value ('?')"
    )
    Path("new.csv").write_text(text)
    assert_one_line(run("predict", "m", "new.csv", "--out", "./new.csv"), "must name another file")
    assert Path("new.csv").read_text() == text
    Path("new.csv").write_text(text.replace("setosa", "sativa"))
    assert_one_line(
        run("check", "m", "new.csv"), "line 2, column 'species': found 'sativa', a class"
    )
    assert run("predict", "m", "new.csv")[0] == 0  # a class is not needed to predict


def test_numbers_beyond_float32_are_named(run):
    quick = ["--epochs", 2, "--quiet", "--dtype", "float32", "--out", "m"]
    assert run("train", "iris", "--target", "petal_width", *quick)[0] == 0
    text = Path(iris_path()).read_text()
    Path("new.csv").write_text(text.replace("4.9,3.0", "1e300,3.0"))
    place = "new.csv, line 3, column 'sepal_length': found 1e+300", "beyond the range of float32"
    assert_one_line(run("predict", "m", "new.csv"), *place)
    assert_one_line(run("check", "m", "new.csv"), *place)
    Path("new.csv").write_text(text.replace("1.4,0.2", "1.4,1e300"))
    assert run("predict", "m", "new.csv")[0] == 0
    assert_one_line(run("check", "m", "new.csv"), "line 2, column 'petal_width'")
    # in the rows held out, which the scale does not know; where it does, all others become 0
    Path("wide.csv").write_text("x,t\n" + "1,a\n2,b\n" * 20 + "1e300,a\n")
    for seed in range(3):
        code, _, err = run("train", "wide.csv", "--target", "t", *quick, "--seed", seed)
        assert code == 0 or "wide.csv, line 42, column 'x': found 1e+300" in err


@pytest.mark.filterwarnings("default")
def test_divergence_and_warnings_are_one_line(run, monkeypatch):
    def diverge(self, *arguments, **keywords):
        import warnings

        warnings.warn("units\nare dead", bpcore.DeadUnitsWarning, stacklevel=2)
        error = bpcore.DivergenceError("try gradient_clip")
        error.epoch, error.batch, error.learning_rate = 2, 0, 0.0025
        raise error

    monkeypatch.setattr(bpcore.Network, "fit", diverge)
    code, _, err = run("train", "--quiet")
    assert code == 1
    assert err.splitlines() == [
        "bpcore: warning: units are dead",
        "bpcore: training diverged in epoch 3 of 200, at a learning rate of 0.0025; nothing is "
        "saved; give a smaller --learning-rate (it was 0.003)",
    ]
    assert not os.listdir("bpcore-runs")


def test_interrupt_leaves_no_folder(run, monkeypatch):
    def stop(self, *arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(bpcore.Network, "fit", stop)
    code, _, err = run("train", "--quiet")
    assert (code, err) == (130, "bpcore: stopped by Ctrl-C\n")
    assert not os.listdir("bpcore-runs")


@pytest.mark.parametrize("package", ["pandas", "matplotlib", "tqdm"])
def test_missing_packages(run, monkeypatch, package):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    result = run("train", "--epochs", 20)
    if package == "pandas":
        assert_one_line(result, "pip install 'bpcore[cli]'")
        return
    assert result[0] == 0
    if package == "matplotlib":
        assert "no loss.png: matplotlib is missing (pip install 'bpcore[cli]')" in result[1]
        assert not os.path.exists("bpcore-runs/iris-1/loss.png")
    else:
        assert not result[2]  # a log is no place for progress
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        err = run("train", "--epochs", 20)[2]
        assert len([line for line in err.splitlines() if "loss" in line]) == 10
        assert not run("train", "--epochs", 20, "--quiet")[2]


def test_info_needs_no_pandas():
    code = (
        "import sys; from bpcore.cli import main; main(['info'])\n"
        "assert not {'pandas', 'matplotlib', 'tqdm'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    for part in (bpcore.__version__, np.__version__, bpcore.simd_level(), "threads"):
        assert part in result.stdout


def test_version():
    out, _ = command("--version").communicate()
    assert out == f"bpcore {bpcore.__version__}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes of this kind")
def test_reader_that_has_seen_enough(tmp_path):
    with command("train", "--epochs", "1", "--out", "m", cwd=tmp_path) as process:
        assert process.wait(timeout=20) == 0
    rows = Path(iris_path()).read_text().split("\n", 1)
    (tmp_path / "long.csv").write_text(rows[0] + "\n" + rows[1] * 100)
    with command("predict", "m", "long.csv", cwd=tmp_path) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=20) == 141
        assert "Traceback" not in process.stderr.read()


@pytest.mark.filterwarnings("default")
def test_train_warns_of_ill_networks_in_a_line(run):
    """A rate that saturates everything; with the usual one nothing is said."""
    code, _, err = run("train", "--learning-rate", 10, "--epochs", 30, "--quiet")
    assert code == 0
    lines = [line for line in err.splitlines() if "warning" in line]
    assert len(lines) == 1 and lines[0].startswith("bpcore: warning: ")
    assert "layer 1 (Tanh)" in lines[0] and "smaller learning_rate" in lines[0]
    assert ".py" not in err
    assert "warning" not in run("train", "--epochs", 30, "--quiet")[2]


def test_a_large_network_is_proven_along_random_directions(run):
    started = time.perf_counter()
    code, out, _ = run("train", "--hidden", "700,700", "--epochs", 1, "--quiet", "--out", "m")
    assert code == 0
    assert "derivatives along random directions, worst" in " ".join(out.split())
    assert time.perf_counter() - started < 20  # entry by entry it takes minutes
    assert "along" not in run("train", "--epochs", 1, "--quiet", "--out", "n")[1]


def test_an_earlier_model_and_its_exports_are_replaced(run):
    train = ["train", "--quiet", "--out", "m", "--epochs"]
    Path("m").mkdir()
    Path("m/notes.txt").write_text("mine")
    assert run(*train, 2)[::2] == (0, "")
    assert run("export", "c", "m")[0] == 0
    Path("m/model.onnx").write_text("not from here")
    first = Path("m/model.safetensors").read_bytes()
    code, _, err = run(*train, 3)
    assert (code, err) == (
        0,
        "bpcore: replaced the earlier model in m; removed what was exported of it: "
        "model.c, model.h, model.json\n",
    )
    assert Path("m/model.safetensors").read_bytes() != first
    left = {path.name for path in Path("m").iterdir()} - {"loss.png"}
    assert left == {"model.safetensors", "history.csv", "notes.txt", "model.onnx"}


def test_only_the_command_asked_for_is_imported():
    code = (
        "import sys; from bpcore.cli import main; main(['info', '--json'])\n"
        "found = {n for n in sys.modules if n.startswith('bpcore.commands.')}\n"
        "assert 'bpcore.commands.info' in found and not {'bpcore.commands.train',"
        " 'bpcore.commands.bench', 'bpcore.commands.export'} & found, found"
    )
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)


def test_ctrl_c_while_a_command_is_imported(run, monkeypatch):
    def stop(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("bpcore.cli.import_module", stop)
    assert run("info") == (130, "", "bpcore: stopped by Ctrl-C\n")


@pytest.mark.parametrize("here, there", [("{}", "{}.0"), ("{}.0", "{}")])
def test_whole_numbers_are_the_same_classes_however_they_are_written(run, here, there):
    """As pandas writes a column of whole numbers in which one value is missing."""

    def write(path, spelling, missing=False):
        rows = [f"{i % 2 + i / 1000},{spelling.format(i % 3)},{spelling.format(i % 2)}"
                for i in range(60)]  # fmt: skip
        rows[7] = rows[7].rpartition(",")[0] + "," if missing else rows[7]
        Path(path).write_text("\n".join(["x,code,t", *rows]) + "\n")

    write("here.csv", here)
    write("there.csv", there, missing=True)
    train = ["train", "here.csv", "--target", "t", "--categorical", "code", "--epochs", 60]
    code, out, _ = run(*train, "--learning-rate", 0.03, "--quiet", "--out", "m")
    assert code == 0 and "2 classes: 0, 1\n" in out and "accuracy: 100.0%" in out
    for table, n_rows in (("here.csv", 60), ("there.csv", 59)):
        code, out, err = run("predict", "m", table)
        assert (code, err) == (0, f"bpcore: accuracy: 100.0% of {n_rows} rows that have 't'\n")
        assert {line.partition(",")[0] for line in out.splitlines()[1:]} == {"0", "1"}
    write("there.csv", there)
    assert run("check", "m", "there.csv")[0] == 0


def test_a_missing_class_is_no_class(run):
    text = Path(iris_path()).read_text()
    for word in ("NA", "NaN", "null", "n/a"):
        Path("new.csv").write_text(text.replace("setosa", word, 1))
        train = ["train", "new.csv", "--target", "species", "--epochs", 2, "--quiet"]
        place = "new.csv, line 2, column 'species'"
        assert_one_line(run(*train), f"{place}: no value ({word!r}) (--categorical species")
    Path("new.csv").write_text(text.replace("setosa", "NA"))
    assert_one_line(run(*train), f"{place}: no value ('NA'); 50 rows have none in this column")
    code, out, _ = run(*train, "--categorical", "species")  # Namibia
    assert code == 0 and "3 classes: NA, versicolor, virginica" in out
    Path("new.csv").write_text(text.replace("setosa", "none"))
    code, out, _ = run(*train, "--out", "m")
    assert code == 0 and "column species: 'none' is taken for a class" in out
    Path("new.csv").write_text(text.replace("setosa", "NA", 1).replace("setosa", "none"))
    assert "of 149 rows that have 'species'" in run("predict", "m", "new.csv")[2]


def test_out_of_predict_says_what_it_is(run):
    assert run("train", "--epochs", 2, "--quiet", "--out", "m")[0] == 0
    expected = run("predict", "m", "iris")[1]
    assert_one_line(run("predict", "m", "iris", "--out", "p.xlsx"), "--out must end in .csv, .tsv")
    assert not Path("p.xlsx").exists()
    for out in (["p.txt"], ["p"], ["p.dat", "--out-format", "csv"]):
        assert run("predict", "m", "iris", "--out", *out)[0] == 0
        assert Path(out[0]).read_text() == expected


def test_no_negative_zero():
    from bpcore.commands.scores import show_r2

    assert [show_r2(value) for value in (-0.0001, -0.001, 0.5)] == ["0.000", "-0.001", "0.500"]
