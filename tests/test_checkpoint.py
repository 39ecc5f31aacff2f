"""Saving and loading: the same bits again, or an error and the old file."""

import errno
import os

import numpy as np
import pytest
import safetensors.numpy

import bpcore
from bpcore.layers import ACTIVATIONS
from bpcore.losses import Loss

OPTIMIZERS = {
    "sgd": lambda: bpcore.SGD(learning_rate=0.05),
    "momentum": lambda: bpcore.SGD(learning_rate=0.05, momentum=0.9),
    "nesterov": lambda: bpcore.SGD(learning_rate=0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda: bpcore.RMSProp(learning_rate=0.005),
    "adam": lambda: bpcore.Adam(learning_rate=0.005),
    "adamw": lambda: bpcore.AdamW(learning_rate=0.005, weight_decay=0.1),
    "rprop": lambda: bpcore.Rprop(),
    "step decay": lambda: bpcore.SGD(learning_rate=bpcore.StepDecay(0.1, 0.5, 2)),
    "exponential decay": lambda: bpcore.Adam(learning_rate=bpcore.ExponentialDecay(0.1, 0.9)),
    "cosine decay": lambda: bpcore.RMSProp(learning_rate=bpcore.CosineDecay(0.1, 10)),
}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((40, 4))
    return X, np.sin(X[:, :3])


@pytest.fixture
def net(rows):
    """A small network in the middle of its training."""
    net = bpcore.mlp([4, 5, 3], hidden="tanh", rng=0, l2=0.01)
    net.fit(*rows, epochs=2, optimizer="adam")
    net.metadata["columns"] = ["a", "b", "c", "d"]
    return net


@pytest.fixture
def path(net, tmp_path):
    path = tmp_path / "model.safetensors"
    net.save(path)
    return path


def assert_same(a, b, X):
    assert a._config() == b._config()
    assert a.parameters.tobytes() == b.parameters.tobytes()
    assert a.predict(X).tobytes() == b.predict(X).tobytes()
    assert a._optimizer_step == b._optimizer_step
    ours, theirs = a._optimizer_tensors(), b._optimizer_tensors()
    assert ours.keys() == theirs.keys()
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def reloaded(net, tmp_path):
    net.save(tmp_path / "reloaded")
    return bpcore.load(tmp_path / "reloaded")


# What comes back


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_continues_to_the_same_bits(name, dtype, rows, tmp_path):
    net = bpcore.mlp([4, 6, 3], hidden="tanh", dtype=dtype, rng=3)
    net.fit(*rows, epochs=3, batch_size=7, optimizer=OPTIMIZERS[name]())
    again = reloaded(net, tmp_path)
    assert_same(net, again, rows[0])
    before = net.parameters.copy()
    histories = [n.fit(*rows, epochs=3, batch_size=7) for n in (net, again)]
    assert not np.array_equal(before, net.parameters)
    assert_same(net, again, rows[0])
    assert histories[0]["loss"] == histories[1]["loss"]


@pytest.mark.parametrize("name", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_generator_continues(name, rows, tmp_path):
    rng = np.random.Generator(getattr(np.random, name)(5))
    layers = [bpcore.Dense(4, 5), bpcore.Tanh(), bpcore.Dropout(0.5), bpcore.Dense(5, 3)]
    net = bpcore.Network(layers, rng=rng)
    net.fit(*rows, epochs=1)
    net.rng.random(dtype=np.float32)  # leaves half a draw in the state
    again = reloaded(net, tmp_path)
    assert type(again.rng.bit_generator).__name__ == name
    for n in (net, again):
        n.fit(*rows, epochs=2, batch_size=3)
    assert_same(net, again, rows[0])
    assert (
        net.rng.integers(2**32, size=999, dtype=np.uint32).tolist()
        == again.rng.integers(2**32, size=999, dtype=np.uint32).tolist()
    )


@pytest.mark.parametrize("kind", ACTIVATIONS.values())
def test_layers(kind, rows, tmp_path):
    arguments = {"slope": 0.2, "alpha": 0.7, "approximate": "tanh"}
    activation = kind(**{key: arguments[key] for key in arguments.keys() & kind._arguments()})
    layers = [("first", bpcore.Dense(4, 5, bias=False)), activation, bpcore.Dropout(0.25)]
    net = bpcore.Network([*layers, ("last", bpcore.Dense(5, 3))], rng=2, l1=0.125)
    again = reloaded(net, tmp_path)
    assert_same(net, again, rows[0])
    assert repr(net) == repr(again)
    assert again.names == ("first", "1", "2", "last")
    assert again["first"].bias is None and again.optimizer is None


@pytest.mark.parametrize("reduction", ["mean", "sum", "sample_mean"])
@pytest.mark.parametrize("kind", [kind for kind in Loss.types.values() if not kind.calls_python])
def test_losses(kind, reduction, rows, tmp_path):
    arguments = {"delta": 0.3, "quantile": 0.3, "from_logits": True, "from_log": True}
    loss = kind(
        reduction=reduction, **{key: arguments[key] for key in arguments.keys() & kind._arguments()}
    )
    net = bpcore.mlp([4, 3], output="softmax", loss=loss, rng=2, l2=0.125)
    again = reloaded(net, tmp_path)
    assert_same(net, again, rows[0])
    target = np.eye(3)[np.arange(len(rows[0])) % 3]
    assert net.loss_value(rows[0], target) == again.loss_value(rows[0], target)


def test_saved_by_a_callback(rows, tmp_path):
    def save(net, epoch, logs):
        if epoch == 1:
            net.save(tmp_path / "second epoch")

    net = bpcore.mlp([4, 5, 3], rng=4)
    net.fit(*rows, epochs=5, batch_size=9, optimizer="adam", callbacks=[save])
    again = bpcore.load(tmp_path / "second epoch")
    again.fit(*rows, epochs=3, batch_size=9)
    assert_same(net, again, rows[0])


def test_metadata_comes_back_as_plain_json(net, tmp_path):
    net.metadata = {
        "mean": np.arange(3.0),
        "n": np.int64(7),
        "text": 'ü "\\ \ud800',
        "pair": (1, 2),
    }
    assert reloaded(net, tmp_path).metadata == {
        "mean": [0.0, 1.0, 2.0],
        "n": 7,
        "text": 'ü "\\ \ud800',
        "pair": [1, 2],
    }


def test_the_file_is_plain_safetensors(net, path, tmp_path):
    tensors = safetensors.numpy.load_file(path)
    wanted = {**net.parameter_arrays(), **net._optimizer_tensors()}
    assert tensors.keys() == wanted.keys()
    assert set(tensors) == {
        *("0.weight", "0.bias", "2.weight", "2.bias"),
        *("optimizer.first_moment", "optimizer.second_moment"),
    }
    for name, array in tensors.items():
        assert array.dtype == net.dtype and np.array_equal(array, wanted[name])
    with safetensors.safe_open(path, "np") as file:
        assert list(file.metadata()) == ["bpcore"]
    bpcore.load(path).save(tmp_path / "again")
    assert path.read_bytes() == (tmp_path / "again").read_bytes()


# Saving


def test_non_finite_weights_are_not_saved(net, path):
    before = path.read_bytes()
    net.parameters[7] = np.nan
    with pytest.raises(ValueError, match=r"'0\.weight' has nan at \(1, 2\)"):
        net.save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"f": print}, "JSON knows no builtin_function"),
        (["a"], "must be JSON objects"),
        ({"x": float("inf")}, "Out of range float"),
        ({"1": 0, 1: 0}, "duplicate key '1'"),
        ({"long": "x" * (1 << 25)}, "too long"),
    ],
    ids=["object", "list", "infinity", "duplicate", "long"],
)
def test_metadata_that_json_cannot_hold(net, path, metadata, words):
    before = path.read_bytes()
    net.metadata = metadata
    with pytest.raises(ValueError, match=words):
        net.save(path)
    assert path.read_bytes() == before


def test_a_learning_rate_of_ones_own_is_not_saved(net, path, rows):
    net.fit(*rows, epochs=1, optimizer=bpcore.SGD(learning_rate=lambda epoch: 0.1))
    with pytest.raises(ValueError, match="learning_rate"):
        net.save(path)


def test_a_save_that_fails_leaves_the_old_file(net, path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=path.name):
        net.save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        bpcore.load(tmp_path / "nothing-here")
