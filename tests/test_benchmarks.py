"""The benchmarks run, and notice a peer that does other work; speed is not looked at."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import bpcore

ROOT = Path(__file__).parent.parent
SMALL = ["W1", "W2", "W3b", "W5b", "W5c", "W9", "W10", "P1", "P1-out", "S100-33"]


@pytest.fixture
def package(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


def benchmarks(*arguments):
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_numpy_beside_bpcore(tmp_path):
    output = tmp_path / "figures.json"
    text = benchmarks(
        "benchmarks",
        "--quick",
        "--rounds=1",
        "--threads=1",
        f"--only={','.join(SMALL)}",
        "--peers=bpcore_fit,numpy_tuned,no_such_peer",
        f"--output={output}",
    )
    assert "not measured: no_such_peer" in text
    figures = json.loads(output.read_text())
    assert {case["workload"] for case in figures["cases"]} == set(SMALL)
    for case in figures["cases"]:
        for name in ("bpcore_fit", "numpy_tuned"):
            peer = case["peers"][name]
            assert peer["agrees"], (case["title"], case["dtype"], name, peer)
            assert peer["median"] > 0
    assert "| W5b: 4-5-3 sigmoid" in output.with_suffix(".md").read_text()


def test_other_work_is_noticed(package):
    from benchmarks.runner import Case, Figures, agree
    from benchmarks.workloads import BY_NAME, Problem, loss

    workload = BY_NAME["W5b"]
    for dtype in workload.dtypes:
        problem = Problem(workload, np.dtype(dtype))
        before = loss(problem, problem.weights)
        changed = [(1.001 * weight, bias) for weight, bias in problem.weights]
        ours = Figures("bpcore_fit", before=before, after=before - 0.01)
        case = Case(workload, dtype, 1)
        assert agree(case, ours, ours)
        assert not agree(case, ours, Figures("lazy", before=before, after=before))
        assert not agree(case, ours, Figures("faster", before=before, after=before - 0.0101))
        assert not agree(case, ours, Figures("broken", before=before, after=float("nan")))
        assert loss(problem, changed) != before


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="says which threads run")
def test_nobody_is_timed_beside_threads_that_still_spin(package):
    from benchmarks.processes import is_running
    from benchmarks.runner import Pool

    program = """
import threading, time
def spin():
    end = time.monotonic() + 0.5
    while time.monotonic() < end: pass
threading.Thread(target=spin).start()
print("spinning", flush=True)
time.sleep(5)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        pool = Pool({})
        pool.workers["numpy_tuned", 2] = SimpleNamespace(process=process)
        assert is_running(process.pid)
        pool.settle()
        assert is_running(process.pid) is False
        process.kill()


def test_titles_are_unique(package):
    from benchmarks.workloads import BY_NAME, WORKLOADS

    assert len(BY_NAME) == len(WORKLOADS) == len({workload.title for workload in WORKLOADS})


def test_compare_a_build_with_itself():
    source = Path(bpcore.__file__).parents[1]
    build = str(source.parent) if source.name == "src" else sys.executable
    more = ["--rounds=1", "--only=W5a", "--dtypes=float64"]
    text = benchmarks("benchmarks", "compare", build, build, *more)
    assert "W5a float64 1 thread" in text and text.rstrip().endswith("same")


@pytest.mark.skipif(not shutil.which("cc"), reason="the peaks are measured in C")
def test_widths():
    text = benchmarks("benchmarks.widths", "--last=3", "--seconds=0.001")
    assert text.count("share of the peak") == 6


def test_health():
    text = benchmarks("benchmarks.health", "--seconds=0.001")
    assert text.count("784-128-10, 1 epoch") == 2


def test_the_table_is_renewed(package, tmp_path):
    from benchmarks import report

    page = tmp_path / "page.md"
    shutil.copy(ROOT / "docs" / "benchmarks.md", page)
    for table in ("| first |", "| second |"):
        report.renew(page, table)
        assert page.read_text().count(table) == 1
    assert "| first |" not in page.read_text()
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the marks"):
        report.renew(page, "| third |")
