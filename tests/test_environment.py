"""What the environment says at import: the level and the number of threads; `bpcore info`."""

import os
import subprocess
import sys

import numpy as np
import pytest

import bpcore


def run(code, **environment):
    """Run Python code in a new process; return what it did."""
    environment = {k: v for k, v in os.environ.items() if k[:7] != "BPCORE_"} | environment
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


LEVEL = "import bpcore; print(bpcore.simd_level())"
ALL_LEVELS = ("generic", "avx2", "avx512", "neon")


@pytest.mark.parametrize("name", bpcore.simd_levels())
def test_level_from_the_environment(name):
    done = run(LEVEL, BPCORE_SIMD=name)
    assert (done.stdout.strip(), done.stderr) == (name, "")


def test_level_without_the_environment():
    assert run(LEVEL).stdout.strip() == bpcore.simd_levels()[-1]


def test_level_that_is_unknown():
    done = run(LEVEL, BPCORE_SIMD="avx51")
    assert done.returncode == 1 and done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last == (
        "ValueError: BPCORE_SIMD must be one of generic, avx2, avx512, neon, got 'avx51'; "
        "did you mean 'avx512'?"
    )


def test_levels_that_this_machine_lacks():
    lacking = [name for name in ALL_LEVELS if name not in bpcore.simd_levels()]
    assert lacking, "no machine has them all"
    for name in lacking:
        done = run(LEVEL, BPCORE_SIMD=name)
        assert done.returncode == 1 and done.stdout == ""
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"ValueError: BPCORE_SIMD={name}: this machine or this build lacks")
        assert last.endswith(f"it has {', '.join(bpcore.simd_levels())}")


THREADS = "import bpcore; print(bpcore.get_num_threads())"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_number_of_threads_is_that_of_the_processors_at_hand():
    everywhere, one = os.sched_getaffinity(0), min(os.sched_getaffinity(0))
    assert 1 <= int(run(THREADS).stdout) <= len(everywhere)
    pinned = f"import os; os.sched_setaffinity(0, [{one}]); {THREADS}"
    assert run(pinned).stdout == "1\n"
    assert run(pinned, BPCORE_NUM_THREADS="5").stdout == "5\n"


def test_number_of_threads():
    assert run(THREADS, BPCORE_NUM_THREADS="3").stdout == "3\n"
    before = bpcore.get_num_threads()
    try:
        bpcore.set_num_threads(np.int64(2))
        assert bpcore.get_num_threads() == 2
        for value, error in (
            (0, ValueError),
            (-1, ValueError),
            (2**31, ValueError),
            (2**80, ValueError),
            (1.5, TypeError),
            (True, TypeError),
        ):
            with pytest.raises(error, match=r"^n must be"):
                bpcore.set_num_threads(value)
        assert bpcore.get_num_threads() == 2
        bpcore.set_num_threads(2**31 - 1)
        assert bpcore.get_num_threads() == 2**31 - 1
    finally:
        bpcore.set_num_threads(before)


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²", "2147483648", "9" * 5000, "1\n"])
def test_number_of_threads_that_cannot_be(value):
    done = run(THREADS, BPCORE_NUM_THREADS=value)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("ValueError: BPCORE_NUM_THREADS must be ")


def test_info():
    """Versions, levels, threads."""
    command = [sys.executable, "-m", "bpcore", "info"]
    environment = os.environ | {"BPCORE_SIMD": "generic", "BPCORE_NUM_THREADS": "7"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    versions = (bpcore.__version__, np.__version__, sys.version.split()[0])
    for word in (*versions, *bpcore.simd_levels(), "7"):
        assert word in done.stdout
    assert "Traceback" not in done.stdout
