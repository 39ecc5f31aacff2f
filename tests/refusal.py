"""What the tests of bad input share: networks with state to lose, and that they lost nothing."""

import copy
import re

import numpy as np
import pytest

import bpcore

N = 6


def regression(dtype="float64", n_out=2, loss="mse"):
    return trained(bpcore.mlp([4, 5, n_out], hidden="tanh", loss=loss, dtype=dtype, rng=0))


def binary(loss="bce"):
    output = "sigmoid" if loss == "bce" else "identity"
    return trained(bpcore.mlp([4, 5, 2], output=output, loss=loss, rng=0))


def classes(loss="cross_entropy"):
    output = "softmax" if loss == "cross_entropy" else "identity"
    return trained(bpcore.mlp([4, 5, 3], output=output, loss=loss, rng=0))


def good(net):
    """Data that the network takes: X and y."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N, 4))
    if net.loss.takes_labels:
        return x, rng.integers(0, 3, N)
    return x, rng.uniform(0, 1, (N, net.n_out))


def trained(net):
    """The network with state to lose: weights, gradients, an optimiser's, a forward pass."""
    x, y = good(net)
    net.fit(x, y, epochs=2, batch_size=4, optimizer=bpcore.Adam())
    net.forward(x)
    net.metadata["kept"] = 1
    return net


def state(net):
    tape = copy.deepcopy(net.gradients)
    dx = net.backward(np.ones((N, net.n_out)))  # of the forward pass that `trained` made
    after = net.gradients.tobytes()
    net.gradients = tape
    optimizer = net.optimizer
    return (
        net.parameters.tobytes(), net.gradients.tobytes(), dx.tobytes(), after, id(optimizer),
        [slot.tobytes() for slot in optimizer.state(net).slots], optimizer.state(net).step,
        str(net.rng.bit_generator.state), id(net.history), dict(net.metadata), repr(net),
    )  # fmt: skip


def refuses(net, call, error, message, *given):
    """The call raises the error, with a message that has all of that, and changes nothing."""
    before = state(net)
    kept = [copy.deepcopy(a) if isinstance(a, np.ndarray) else None for a in given]
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value).__module__ in ("builtins", "bpcore.errors")
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    for a, same in zip(given, kept, strict=True):
        if same is not None:
            np.testing.assert_array_equal(a, same)
    assert state(net) == before


USES_OF_X = {
    "predict": lambda net, x: net.predict(x),
    "call": lambda net, x: net(x),
    "predict out": lambda net, x: net.predict(x, out=np.zeros((N, net.n_out), net.dtype)),
    "forward": lambda net, x: net.forward(x),
    "forward training": lambda net, x: net.forward(x, training=True),
    "loss_value": lambda net, x: net.loss_value(x, good(net)[1]),
    "loss_and_gradient": lambda net, x: net.loss_and_gradient(x, good(net)[1], training=True),
    "fit": lambda net, x: net.fit(x, good(net)[1], optimizer="rprop"),
    "validation": lambda net, x: net.fit(*good(net), validation_data=(x, good(net)[1])),
}
USES_OF_Y = {
    "loss_value": lambda net, y, w=None: net.loss_value(good(net)[0], y, sample_weight=w),
    "loss_and_gradient": lambda net, y, w=None: net.loss_and_gradient(
        good(net)[0], y, sample_weight=w, input_gradient=True
    ),
    "fit": lambda net, y, w=None: net.fit(
        good(net)[0], y, sample_weight=w, optimizer="rprop", validation_fraction=0.3
    ),
    "validation": lambda net, y, w=None: net.fit(
        *good(net), optimizer="rprop", validation_data=(good(net)[0], y, w)
    ),
}


def named(use, argument):
    """How messages call the argument."""
    return f"^validation_data {argument}" if use == "validation" else f"^{argument}"
