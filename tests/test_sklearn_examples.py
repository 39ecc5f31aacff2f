"""The searches of the examples run, each where its package is installed."""

import re

import pytest
from test_examples import EXAMPLES, run_script


def output(name, package, tmp_path):
    pytest.importorskip(package)
    return run_script(EXAMPLES / f"{name}.py", tmp_path).stdout


def test_optuna_search(tmp_path):
    found = output("optuna_search", "optuna", tmp_path)
    pruned = re.search(r"15 trials, (\d+) of them ended early", found)
    assert 0 < int(pruned[1]) < 15
    scores = re.search(r"accuracy (\S+) on the validation rows, (\S+) on the test rows", found)
    assert min(map(float, scores.groups())) > 0.9


def test_dask_search(tmp_path):
    found = output("dask_search", "distributed", tmp_path)
    scores = [float(score) for score in re.findall(r"accuracy (\S+)", found)]
    assert len(scores) == 6
    assert min(scores) > 0.85
    assert "best:" in found
