"""Help pages: they fit a terminal, and every example on them does what it says."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas
import pytest
from command_line import command

import bpcore
from bpcore.cli import COMMANDS, EPILOG, main
from bpcore.tablefiles import iris_path

PAGES = {"": EPILOG} | {name: import_module(f"bpcore.commands.{name}").EPILOG for name in COMMANDS}
DOCUMENT = Path(__file__).parents[1] / "docs/command.md"
MINE = """\
import sys
import numpy
{begin}
W2, b2, W3, b3 = (batch[name] for name in ["W2", "b2", "W3", "b3"])
a1 = numpy.tanh(X @ W1 + b1)
a2 = numpy.tanh(a1 @ W2 + b2)
z = a2 @ W3 + b3
p = numpy.exp(z) / numpy.exp(z).sum(axis=1, keepdims=True)
delta3 = (p - numpy.eye(p.shape[1])[y]) / len(X)
delta2 = delta3 @ W3.T * (1 - a2**2)
delta1 = delta2 @ W2.T * (1 - a1**2)
dW1, db1 = X.T @ delta1 + batch["l2"] * W1, delta1.sum(axis=0)
dW2, db2 = a1.T @ delta2 + batch["l2"] * W2, delta2.sum(axis=0)
dW3, db3 = a2.T @ delta3 + batch["l2"] * W3, delta3.sum(axis=0)
{end}
if "--print" in sys.argv:
    for array in (dW1, db1, dW2, db2, dW3, db3):
        print(*map(repr, map(float, array.ravel())))
"""


def help_of(capsys, *names):
    with pytest.raises(SystemExit) as stop:
        main([*names, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def examples(page):
    """The lines below "examples", with what they say of themselves."""
    block = re.search(r"^examples.*:\n((?:  .*\n)+)", page, re.M)[1]
    return [line.strip() for line in block.splitlines()]


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_terminal(capsys, name):
    page = help_of(capsys, *[name] if name else [])
    assert max(map(len, page.splitlines())) <= 80
    assert "exit codes: 0" in page and "130 Ctrl-C" in page
    assert len(examples(page)) >= 2
    if name:
        assert page.startswith(f"usage: bpcore {name} ")
        assert name in help_of(capsys)
        assert "--json" in page


def test_help_of_the_process():
    process = command("--help")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert all(f"    {name}  " in out for name in COMMANDS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which `bpcore train` was run, and with what examples speak of."""
    folder = tmp_path_factory.mktemp("examples")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["train", "--quiet"]) == 0
        table = pandas.read_csv(iris_path())
        table.to_csv("flowers.csv", index=False)
        table.to_csv("flowers.tsv", sep="\t", index=False)
        begin = re.search(r"may begin with\n((?:  .*\n)+)", PAGES["explain"])[1]
        end = re.search(r"end with\n((?:  .*\n)+)", PAGES["explain"])[1]
        plain = {"begin": begin.replace("\n  ", "\n").strip(), "end": end.strip()}
        Path("mine.py").write_text(MINE.format(**plain))
        assert main(["check", "bpcore-runs/iris-1", "iris", "--save-batch", "batch.npz"]) == 0
        subprocess.run([sys.executable, "mine.py"], check=True)
        stop_a_training("flowers")
    finally:
        os.chdir(before)
    return folder


def stop_a_training(folder):
    """As Ctrl-C does, in the third epoch."""

    def interrupt(net, epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    fit = bpcore.Network.fit
    bpcore.Network.fit = lambda net, *a, **k: fit(net, *a, **k, callbacks=[interrupt])
    try:
        assert main(["train", "flowers.csv", "--target", "species", "--out", folder]) == 130
    finally:
        bpcore.Network.fit = fit


ALL = [(name, line) for name, page in PAGES.items() for line in examples(page)]


@pytest.mark.parametrize(("name", "line"), ALL, ids=[line for _, line in ALL])
def test_example(trained, tmp_path, monkeypatch, capsys, name, line):
    shutil.copytree(trained, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    words = shlex.split(line, comments=True)
    if words[0] == "bpcore" and not {"|", "<"} & set(words):
        if words[1] == "bench":
            words += [] if "--seconds" in words else ["--seconds", "0.2"]
            words = ["0.2" if word == "2" else word for word in words]
        if "--resume" not in words:
            shutil.rmtree("flowers")
        assert main(words[1:]) == 0
        return
    # a shell, in which `bpcore` is this one
    script = f'#!/bin/sh\nexec "{sys.executable}" -m bpcore "$@"\n'
    Path("bin").mkdir()
    Path("bin/bpcore").write_text(script)
    Path("bin/bpcore").chmod(0o755)
    Path("bin/python").symlink_to(sys.executable)
    where = {"PATH": f"{Path('bin').absolute()}:{os.environ['PATH']}"}
    where["PYTHONPATH"] = str(Path(bpcore.__file__).parents[1])
    shutil.rmtree("flowers")
    done = subprocess.run(
        line, shell=True, env=os.environ | where, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def test_document_has_every_command_and_page():
    text = DOCUMENT.read_text("utf-8")
    for name, what in COMMANDS.items():
        assert f"| `bpcore {name}` | {what} |" in text
    shown = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    lines = [line for block in shown for line in block.splitlines() if line.startswith("bpcore")]
    known = {line.partition("#")[0].strip() for _, line in ALL}
    assert lines and {line.partition("#")[0].strip() for line in lines} <= known


def test_info_names_every_extra(capsys):
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    main(["info"])
    out = capsys.readouterr().out
    for extra, requirements in project["project"]["optional-dependencies"].items():
        for requirement in requirements if extra != "test" else []:
            package = re.match(r"[\w.-]+", requirement)[0]
            assert package == "bpcore" or f"\n{package} " in out
    assert np.__version__ in out
