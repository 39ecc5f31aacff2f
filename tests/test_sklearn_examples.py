"""The searches of the examples run."""

import re

from test_examples import EXAMPLES, run_script


def test_optuna_search(tmp_path):
    found = run_script(EXAMPLES / "optuna_search.py", tmp_path).stdout
    pruned = re.search(r"15 trials, (\d+) of them ended early", found)
    assert 0 < int(pruned[1]) < 15
    scores = re.search(r"accuracy (\S+) on the validation rows, (\S+) on the test rows", found)
    assert min(map(float, scores.groups())) > 0.9


def test_dask_search(tmp_path):
    found = run_script(EXAMPLES / "dask_search.py", tmp_path).stdout
    scores = [float(score) for score in re.findall(r"accuracy (\S+)", found)]
    assert len(scores) == 6
    assert min(scores) > 0.85
    assert "best:" in found
