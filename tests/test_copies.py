"""Copies of networks, pickles, other dtypes: the same in all, and nothing shared."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import bpcore
from bpcore import Dense

ROWS = 23


def small(**keywords):
    """A network with names, every kind of layer and state of an optimiser."""
    layers = [
        ("first", Dense(4, 6)),
        bpcore.LeakyReLU(slope=0.2),
        bpcore.Dropout(0.25),
        Dense(6, 5, bias=False),
        bpcore.GELU(),
        ("last", Dense(5, 3)),
    ]
    keywords = {"loss": bpcore.Huber(delta=0.5), "rng": 3, "l2": 1e-3, "l1": 1e-4} | keywords
    return bpcore.Network(layers, **keywords)


@pytest.fixture
def data(rng):
    return rng.normal(size=(ROWS, 4)), rng.normal(size=(ROWS, 3))


@pytest.fixture
def trained(data):
    net = small()
    net.fit(*data, epochs=3, batch_size=5, optimizer=bpcore.Adam(learning_rate=0.01))
    net.metadata = {"units": ["m", "s"], "mean": 0.5}
    return net


def everything(net):
    """All that makes a network what it is, as something to compare."""
    optimizer = net.optimizer
    state = None if optimizer is None else optimizer.state(net)
    return {
        "parameters": net.parameters.tobytes(),
        "gradients": net.gradients.tobytes(),
        "dtype": net.dtype,
        "text": repr(net),
        "names": net.names,
        "penalties": (net.l2, net.l1),
        "loss": net.loss.config(),
        "layers": [layer.config() for layer in net.layers],
        "generator": net.rng.bit_generator.state,
        "metadata": net.metadata,
        "optimizer": None if optimizer is None else optimizer.config(),
        "slots": None if state is None else [slot.tobytes() for slot in state.slots],
        "step": None if state is None else state.step,
    }


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda net, p=protocol: pickle.loads(pickle.dumps(net, p))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
    "astype": lambda net: net.astype(net.dtype),
}


@pytest.mark.parametrize("how", COPIES)
def test_copies(how, trained, data):
    """A copy is the same in all, shares nothing, and trains on to the same bits."""
    before = everything(trained)
    twin = COPIES[how](trained)
    assert everything(twin) == before
    twin.fit(*data, epochs=2, batch_size=5)
    twin.metadata["units"].append("kg")
    assert everything(trained) == before
    trained.fit(*data, epochs=2, batch_size=5)
    trained.metadata["units"].append("kg")
    assert everything(twin) == everything(trained)
    assert trained.optimizer.state(trained).step == 5 * 5
    assert twin.optimizer is not trained.optimizer


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_what_was_never_trained(how):
    net = small()
    twin = COPIES[how](net)
    assert everything(twin) == everything(net)
    assert twin.optimizer is None
    twin["last"].bias[0] = 9
    assert net["last"].bias[0] == 0
    assert twin.parameter_arrays()["last.bias"][0] == 9, "the copy's layers are views of its own"
    assert np.shares_memory(twin["last"].bias, twin.parameters)


class Named(bpcore.Network):
    """A class of a user's own, with something of its own to remember."""

    def __init__(self, n, title):
        super().__init__([Dense(n, 2), bpcore.Tanh(), Dense(2, 1)], rng=0)
        self.title = title


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_a_subclass(how):
    net = Named(3, "mine")
    twin = COPIES[how](net)
    assert type(twin) is Named
    assert twin.title == "mine"
    assert everything(twin) == everything(net)


def test_pickle_in_a_new_process(trained, data, tmp_path):
    """With the state of the optimiser and of the generator: training goes on to the same bits."""
    (tmp_path / "net.pickle").write_bytes(pickle.dumps((trained, data)))
    code = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    net, data = pickle.load(file)
before = net.parameters.copy()
net.fit(*data, epochs=2, batch_size=5)
with open(sys.argv[1], "wb") as file:
    pickle.dump((before, net), file)
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "net.pickle")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    before, net = pickle.loads((tmp_path / "net.pickle").read_bytes())
    np.testing.assert_array_equal(before, trained.parameters)
    trained.fit(*data, epochs=2, batch_size=5)
    assert everything(net) == everything(trained)


def test_astype(trained, data):
    before = everything(trained)
    narrow = trained.astype("float32")
    assert everything(trained) == before
    assert narrow.dtype == narrow.parameters.dtype == narrow["last"].weight.dtype == np.float32
    np.testing.assert_array_equal(narrow.parameters, trained.parameters.astype("float32"))
    assert narrow.names == trained.names and narrow.l2 == trained.l2
    slots = trained.optimizer.state(trained).slots
    for slot, same in zip(narrow.optimizer.state(narrow).slots, slots, strict=True):
        np.testing.assert_array_equal(slot, same.astype("float32"))
    narrow.fit(*data)
    wide = narrow.astype(float)
    np.testing.assert_array_equal(wide.parameters, narrow.parameters.astype(float))
    np.testing.assert_allclose(wide.predict(data[0]), narrow.predict(data[0]), rtol=1e-4, atol=1e-5)


def test_astype_out_of_range():
    net = bpcore.Network([Dense(1, 1, weight_init=[[1e300]])])
    with pytest.raises(ValueError, match=r"1e\+300, beyond the range of float32"):
        net.astype("float32")
    assert net.dtype == np.float64 and net.parameters[0] == 1e300
