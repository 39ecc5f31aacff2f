"""Compare a bpcore network with the oracle, within what rounding alone explains."""

import bounds
import numpy as np
import reference

import bpcore


def network(layers, rng, **keywords):
    """A network with random biases as well."""
    net = bpcore.Network(layers, rng=rng, **keywords)
    for layer in net.layers:
        if getattr(layer, "bias", None) is not None:
            layer.bias = rng.normal(0, 0.5, layer.bias.shape)
    return net


def activation(name):
    if name == "gelu_tanh":
        return bpcore.GELU(approximate="tanh")
    return bpcore.layers.activation(name)


PARAMETERS = {"huber": {"delta": 0.75}, "quantile": {"quantile": 0.8}}


def loss_object(name, **keywords):
    """The loss of that kernel, with parameters other than the defaults."""
    config = bpcore.losses.get(name).config() | PARAMETERS.get(name, {}) | keywords
    return bpcore.losses.from_config(config)


def assert_predicts(net, x, training=False):
    layers, u = reference.layers_of(net), bounds.unit(net.dtype)
    values = reference.forward(layers, x)
    errors = bounds.forward(layers, values, u)
    y = net.forward(x, training=training)
    assert y.dtype == net.dtype
    bounds.assert_within(y, values[-1], errors[-1], net.dtype, "forward")
    bounds.assert_within(net.predict(x), values[-1], errors[-1], net.dtype, "predict")


def assert_backward(net, x, dy):
    """forward, then backward of a gradient that no loss gave."""
    layers, u = reference.layers_of(net), bounds.unit(net.dtype)
    values = reference.forward(layers, x)
    errors = bounds.forward(layers, values, u)
    dy64 = dy.astype(float)
    dx, gradient = reference.backward(layers, values, dy64)
    e_dx, e_gradient = bounds.backward(layers, values, errors, dy64, np.zeros_like(dy64), u)
    _, more = reference.penalty(layers, net.l2, net.l1)  # it is part of every gradient
    gradient, e_gradient = gradient + more, e_gradient + 4 * u * (abs(gradient) + abs(more))
    net.forward(x)
    got = net.backward(dy)
    assert got.dtype == net.dtype
    bounds.assert_within(got, dx, e_dx, net.dtype, "backward: dX")
    bounds.assert_within(net.gradients, gradient, e_gradient, net.dtype, "backward: gradient")


def assert_trains(net, x, target, w=None, layers=None, training=False):
    """Loss, gradient and input gradient; `layers` where the oracle must know dropout's masks."""
    layers = reference.layers_of(net) if layers is None else layers
    u, eps = bounds.unit(net.dtype), np.finfo(net.dtype).eps
    setting = layers, reference.loss_of(net), x.astype(float), target, w
    expected = reference.loss_and_gradient(*setting, net.l2, net.l1, eps)
    errors = bounds.loss_and_gradient(*setting, u, net.l2, net.l1)
    keywords = {"sample_weight": w, "training": training}
    got = net.loss_and_gradient(x, target, input_gradient=True, **keywords)
    assert type(got[0]) is float and got[1].dtype == got[2].dtype == net.dtype
    for what, a, b, e in zip(("loss", "gradient", "dX"), got, expected, errors, strict=True):
        bounds.assert_within(a, b, e, net.dtype, what)
    np.testing.assert_array_equal(net.gradients, got[1])
    assert got[1] is not net.gradients and not np.shares_memory(got[1], net.gradients)
    if not training:
        value = net.loss_value(x, target, sample_weight=w)
        bounds.assert_within(value, expected[0], errors[0], net.dtype, "loss_value")
        again = net.loss_and_gradient(x, target, **keywords)
        assert len(again) == 2
        np.testing.assert_array_equal(again[1], got[1])
