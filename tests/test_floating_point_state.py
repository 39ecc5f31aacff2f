"""Rounding mode, traps and the treatment of subnormal numbers are as found after every call."""

import ctypes
import ctypes.util
import platform
import signal

import numpy as np
import pytest

import bpcore
from bpcore import functions

MACHINE = platform.machine()
LIBM = ctypes.util.find_library("m")
pytestmark = pytest.mark.skipif(
    MACHINE not in ("x86_64", "aarch64") or platform.system() != "Linux" or LIBM is None,
    reason="knows where glibc keeps the state of x86-64 and AArch64 only",
)
libm = ctypes.CDLL(LIBM) if LIBM else None
UPWARD = 0x800 if MACHINE == "x86_64" else 0x400000


class State:
    """The floating-point environment of this thread: what controls arithmetic, not the flags."""

    def __init__(self):
        self.memory = ctypes.create_string_buffer(64)  # more than any fenv_t
        assert libm.fegetenv(self.memory) == 0

    @property
    def controls(self):
        word = int.from_bytes
        if MACHINE == "x86_64":  # control word of the x87; MXCSR without its flags
            raw = self.memory.raw
            return word(raw[:2], "little"), word(raw[28:32], "little") & ~0x3F
        return word(self.memory.raw[:4], "little")

    def use(self):
        assert libm.fesetenv(self.memory) == 0

    def flushing(self):
        """The same with subnormal numbers as zeros."""
        at, bit = (28, 0x8040) if MACHINE == "x86_64" else (0, 1 << 24)
        word = int.from_bytes(self.memory.raw[at : at + 4], "little") | bit
        self.memory[at : at + 4] = word.to_bytes(4, "little")
        return self


@pytest.fixture(params=["as it is", "rounding upward", "subnormals are zeros"])
def state(request):
    """A state that is in use for the test, and must be so afterwards."""
    before = State()
    if request.param == "rounding upward":
        assert libm.fesetround(UPWARD) == 0
    elif request.param == "subnormals are zeros":
        State().flushing().use()
    used = State()
    assert (used.controls == before.controls) == (request.param == "as it is")
    yield used
    before.use()


def check(state):
    assert State().controls == state.controls


@pytest.fixture(params=[1, 3])
def net(request, dtype):
    before = bpcore.get_num_threads()
    bpcore.set_num_threads(request.param)
    yield bpcore.mlp([40, 300, 300, 2], hidden="tanh", dtype=dtype, rng=0)
    bpcore.set_num_threads(before)


X = np.random.default_rng(0).normal(size=(300, 40))
Y = X[:, :2] * X[:, 2:4]


def test_passes(net, state):
    net.predict(X)
    check(state)
    net.loss_and_gradient(X, Y)
    check(state)
    net.backward(net.forward(X))
    check(state)
    bpcore.Adam().step(net)
    check(state)
    for function in (functions.exp, functions.log1p, functions.tanh, functions.softplus):
        function(np.abs(X))
        check(state)


def test_fits(net, state):
    for optimizer, batch_size in [("sgd", 64), ("adam", None), ("rprop", 7)]:
        net.fit(X, Y, epochs=1, batch_size=batch_size, optimizer=optimizer)
        check(state)
    small = bpcore.mlp([4, 5, 2], rng=0)
    for batch_size in (1, 8):
        small.fit(X[:, :4], Y, batch_size=batch_size)
        check(state)


def test_divergence(net, state):
    with pytest.raises(bpcore.DivergenceError):
        net.fit(X, Y, epochs=50, optimizer=bpcore.SGD(learning_rate=1e30))
    check(state)
    net.gradients[...] = np.inf
    with pytest.raises(bpcore.DivergenceError):
        bpcore.SGD().step(net)
    check(state)


class Stop(Exception):
    pass


def test_interruptions(net, state):
    """A callback's exception, in which the state is already as found; a signal handler's."""

    def stop(net, epoch, logs):
        check(state)
        raise Stop

    with pytest.raises(Stop):
        net.fit(X, Y, callbacks=[stop])
    check(state)

    def handle(number, frame):
        raise Stop

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(Stop):
            net.fit(X, Y, epochs=10**5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    check(state)


@pytest.mark.parametrize("wrong", ["nan", "labels", "shape"])
def test_refusals(wrong, state):
    net = bpcore.mlp([4, 3], output="softmax", loss="cross_entropy", rng=0)
    x, labels = X[:, :4].copy(), np.arange(len(X)) % 3
    if wrong == "nan":
        x[7] = np.nan
    labels = labels + 1 if wrong == "labels" else labels
    with pytest.raises(ValueError):
        net.fit(x[:-1] if wrong == "shape" else x, labels)
    check(state)
