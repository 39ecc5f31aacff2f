"""Threads of bpcore's own beside those of Python, forks, and the end of the process."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import bpcore

# wide enough for the work to be shared
WIDTHS, ROWS, BATCH = [96, 256, 256, 8], 1024, 256
PRELUDE = f"""
import multiprocessing, os, sys, threading, time
import numpy as np
import bpcore

def trained(seed, epochs=2):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=({ROWS}, {WIDTHS[0]})), rng.normal(size=({ROWS}, {WIDTHS[-1]}))
    net = bpcore.mlp({WIDTHS}, hidden="tanh", dtype="float32", rng=seed)
    net.fit(X, y, epochs=epochs, batch_size={BATCH})
    return net.parameters.tobytes() + net.predict(X).tobytes()

bpcore.set_num_threads(1)
alone = trained(0)
bpcore.set_num_threads(3)
assert trained(0) == alone
"""


def run(code):
    """Run code after PRELUDE in a process of its own; a hang is an error."""
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + code],
        capture_output=True,
        text=True,
        timeout=100,
    )


def expect(code, output="fine\n"):
    done = run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, output, "")


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@needs_fork
def test_a_child_computes_after_a_fork():
    expect("""
child = os.fork()
if child == 0:
    os._exit(17 if trained(0) == alone else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
assert trained(0) == alone
print("fine")
""")


@needs_fork
def test_a_child_computes_after_a_fork_in_the_middle_of_a_fit():
    expect("""
busy = threading.Thread(target=trained, args=(1, 30))
busy.start()
time.sleep(0.05)
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(17 if trained(0) == alone else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
busy.join()
print("fine")
""")


@needs_fork
def test_processes_of_multiprocessing():
    expect("""
with multiprocessing.get_context("fork").Pool(3) as workers:
    assert workers.map(trained, [0] * 6) == [alone] * 6
print("fine")
""")


def test_the_process_ends_while_threads_compute():
    expect("""
threading.Thread(target=trained, args=(1, 100000), daemon=True).start()
time.sleep(0.2)
trained(0)
print("fine")
""")


def test_many_threads_of_python_train():
    """Each its own network; who gets the workers makes no difference."""

    def train(seed):
        rng = np.random.default_rng(seed)
        X, y = rng.normal(size=(ROWS, WIDTHS[0])), rng.normal(size=(ROWS, WIDTHS[-1]))
        net = bpcore.mlp(WIDTHS, hidden="tanh", rng=seed)
        net.fit(X, y, epochs=2, batch_size=BATCH, optimizer="adam")
        return net.parameters.tobytes() + net.predict(X).tobytes()

    def train_into(results, seed):
        results[seed] = train(seed)

    before = bpcore.get_num_threads()
    try:
        bpcore.set_num_threads(1)
        expected = {seed: train(seed) for seed in range(6)}
        results = {}
        threads = [threading.Thread(target=train_into, args=(results, s)) for s in expected]
        bpcore.set_num_threads(3)
        for thread in threads:
            thread.start()
        for n in (1, 4, 2, 8):  # the number may change while they train
            bpcore.set_num_threads(n)
        for thread in threads:
            thread.join()
        assert results == expected
    finally:
        bpcore.set_num_threads(before)


def test_large_products_fit_small_stacks():
    """Packed blocks lie on the stack of the caller, which may have 512 KB."""
    code = """
import threading
import numpy as np, bpcore
bpcore.set_num_threads(1)
threading.stack_size(512 * 1024)
net = bpcore.mlp([1024, 1024], rng=0)
x = np.ones((512, 1024))
def work():
    net.predict(x), net.loss_and_gradient(x, x), done.append(1)
done = []
thread = threading.Thread(target=work)
thread.start(), thread.join()
assert done
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
