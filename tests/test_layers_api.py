"""Layers used alone: shapes, dtypes, views, assignment, initial weights, copies, dropout."""

import copy
import json
import pickle

import numpy as np
import pytest
import reference

import bpcore
from bpcore import initializers, layers

ACTIVATIONS = tuple(layers.ACTIVATIONS)
ELEMENTWISE = tuple(name for name in ACTIVATIONS if name != "softmax")


# ----------------------------------------------------------------------------- shapes and dtypes


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5), (2, 3, 4), (2, 0, 3), (3, 0)])
def test_activations_keep_shape_and_dtype(name, shape, dtype, rng):
    layer = layers.activation(name)
    x = rng.normal(size=shape).astype(dtype)
    y = layer.forward(x)
    dx = layer.backward(rng.normal(size=shape))
    assert y.shape == dx.shape == shape
    assert y.dtype == dx.dtype == dtype
    assert np.isfinite(y).all() and np.isfinite(dx).all()


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_activations_take_a_single_number(name):
    layer = layers.activation(name)
    row = layer.forward([0.5])
    assert layer.forward(0.5).shape == ()
    assert layer.forward(0.5) == row[0]
    assert layer.backward(1.0).shape == ()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_take_infinities_and_nan(name, dtype):
    x = np.array([[np.inf, -np.inf, np.nan, 0.0, np.finfo(dtype).max, np.finfo(dtype).tiny]], dtype)
    layer = layers.activation(name)
    y = layer.forward(x)  # pytest makes an error of any warning
    layer.backward(np.ones_like(x))
    assert np.isnan(y[0, 2])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_give_the_same_bits_for_every_layout(name, rng):
    x, dy = rng.normal(size=(6, 5)), rng.normal(size=(6, 5))
    layer = layers.activation(name)
    y, dx = layer.forward(x), layer.backward(dy)
    for change in (np.asfortranarray, lambda a: a.astype(">f8"), lambda a: a[::-1].copy()[::-1]):
        np.testing.assert_array_equal(layer.forward(change(x)), y)
        np.testing.assert_array_equal(layer.backward(change(dy)), dx)


def test_dense_shapes_and_dtypes(dtype, rng):
    layer = bpcore.Dense(4, 3, dtype=dtype, rng=0)
    assert layer.dtype == layer.weight.dtype == layer.bias.dtype == dtype
    assert layer.grad_weight.shape == (4, 3) and layer.grad_bias.shape == (3,)
    for n in (1, 2, 100, 0):
        y = layer.forward(rng.normal(size=(n, 4)))
        dx = layer.backward(np.ones((n, 3)))
        assert y.shape == (n, 3) and dx.shape == (n, 4)
        assert y.dtype == dx.dtype == layer.grad_weight.dtype == layer.grad_bias.dtype == dtype
    assert not layer.grad_weight.any() and not layer.grad_bias.any()  # no rows, no gradient


def test_dense_is_what_it_says(dtype, rng):
    layer = bpcore.Dense(4, 3, dtype=dtype, bias_init="normal", rng=0)
    x, dy = rng.integers(-3, 4, (5, 4)), rng.integers(-3, 4, (5, 3))
    layer.weight = rng.integers(-3, 4, (4, 3))
    layer.bias = [1, 2, 3]
    np.testing.assert_array_equal(layer.forward(x), x @ layer.weight + [1, 2, 3])
    np.testing.assert_array_equal(layer.backward(dy), dy @ layer.weight.T)
    np.testing.assert_array_equal(layer.grad_weight, x.T @ dy)
    np.testing.assert_array_equal(layer.grad_bias, dy.sum(axis=0))


def test_dense_overwrites_its_gradients():
    layer = bpcore.Dense(2, 1, rng=0)
    for _ in range(2):
        layer.forward([[1.0, 2.0]])
        layer.backward([[1.0]])
        assert layer.grad_weight.tolist() == [[1.0], [2.0]]


def test_dense_without_bias(rng):
    layer = bpcore.Dense(4, 3, bias=False, rng=0)
    x = rng.normal(size=(5, 4))
    assert layer.bias is None and layer.grad_bias is None
    assert list(layer.parameters()) == list(layer.gradients()) == ["weight"]
    np.testing.assert_allclose(layer.forward(x), x @ layer.weight, rtol=1e-12, atol=1e-14)
    assert layer.backward(np.ones((5, 3))).shape == (5, 4)


@pytest.mark.parametrize("make", [lambda: bpcore.Dense(3, 3, rng=0), bpcore.Tanh, bpcore.Softmax])
def test_what_happens_to_arrays_between_the_passes_does_not_matter(make, rng):
    x, dy = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    layer = make()
    layer.forward(x.copy())
    expected = layer.backward(dy)
    changed = x.copy()
    y = layer.forward(changed)
    y -= 1.0
    changed[...] = np.nan
    np.testing.assert_array_equal(layer.backward(dy), expected)


@pytest.mark.parametrize("make", [lambda: bpcore.Dense(3, 3, rng=0), bpcore.Tanh, bpcore.Softmax])
def test_arguments_are_never_written_to(make, rng):
    x, dy = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    x.flags.writeable = dy.flags.writeable = False
    layer = make()
    layer.forward(x)
    layer.backward(dy)


# ---------------------------------------------------------------------- weights: views, assignment


def test_parameters_are_the_layers_own_arrays():
    layer = bpcore.Dense(2, 2, rng=0)
    assert layer.parameters()["weight"] is layer.weight
    assert layer.parameters()["bias"] is layer.bias
    assert layer.gradients()["weight"] is layer.grad_weight
    assert layer.gradients()["bias"] is layer.grad_bias


def test_assignment_and_change_in_place_both_work():
    layer = bpcore.Dense(2, 2, rng=0)
    weight, bias = layer.weight, layer.bias
    layer.weight = [[1, 2], [3, 4]]
    layer.bias = np.array([5, 6], "f4")
    assert layer.weight is weight and layer.bias is bias
    assert layer.forward([[1.0, 1.0]]).tolist() == [[9.0, 12.0]]
    layer.weight *= 2
    layer.bias -= [5, 6]
    layer.weight[0, 0] = 10
    assert layer.weight is weight and layer.bias is bias
    assert layer.forward([[1.0, 1.0]]).tolist() == [[16.0, 12.0]]
    layer.weight = layer.weight.T
    assert layer.weight.tolist() == [[10.0, 6.0], [4.0, 8.0]]


def test_assignment_copies():
    layer = bpcore.Dense(2, 1, rng=0)
    given = np.ones((2, 1))
    layer.weight = given
    given[...] = 7
    assert layer.weight.tolist() == [[1.0], [1.0]]


def test_gradients_are_zero_at_first_and_writable():
    layer = bpcore.Dense(2, 1)
    assert not layer.grad_weight.any() and not layer.grad_bias.any()
    layer.grad_weight = [[1], [2]]
    layer.grad_bias += 3
    assert layer.grad_weight.tolist() == [[1.0], [2.0]] and layer.grad_bias.tolist() == [3.0]


# --------------------------------------------------------------------------------- initial weights


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", 2 / (300 + 200)),
        ("glorot_normal", 2 / (300 + 200)),
        ("he_uniform", 2 / 300),
        ("he_normal", 2 / 300),
        ("lecun_normal", 1 / 300),
        ("auto", 2 / (300 + 200)),
        ("normal", 1.0),
        ("uniform", 1 / 12 + 1 / 4),  # around 0, not around its mean of 1/2
    ],
)
def test_initial_weights_have_the_published_variance(name, variance, dtype):
    weight = bpcore.Dense(300, 200, weight_init=name, dtype=dtype, rng=1).weight
    mean_square = np.square(weight, dtype="f8").mean()
    assert mean_square == pytest.approx(variance, rel=0.02)  # 60,000 draws: over 3 deviations
    if "uniform" in name and name != "uniform":
        limit = np.sqrt(3 * variance)
        assert 0.999 * limit < np.abs(weight).max() <= limit * (1 + np.finfo(dtype).eps)
    elif "normal" in name:
        beyond = np.mean(np.abs(weight) > 2 * np.sqrt(variance))
        assert beyond == pytest.approx(0.0455, abs=0.004)
    if name != "uniform":
        assert abs(weight.mean(dtype="f8")) < 4 * np.sqrt(variance / weight.size)


def test_initializers_know_every_name_of_the_contract():
    names = (
        "auto glorot_uniform glorot_normal he_uniform he_normal lecun_normal normal uniform zeros"
    )
    assert set(initializers.INITIALIZERS) == set(names.split())


def test_initial_values_by_object_number_and_array():
    weight = np.arange(6.0).reshape(2, 3)
    layer = bpcore.Dense(2, 3, weight_init=weight, bias_init=0.5)
    weight[...] = 0
    assert layer.weight.tolist() == [[0, 1, 2], [3, 4, 5]] and layer.bias.tolist() == [0.5] * 3
    layer.weight[...] = 1
    small = bpcore.Dense(50, 40, weight_init=initializers.Normal(mean=3, std=0.01), rng=0).weight
    assert small.mean() == pytest.approx(3, abs=0.01) and small.std() == pytest.approx(
        0.01, rel=0.1
    )
    between = bpcore.Dense(50, 40, weight_init=initializers.Uniform(low=2, high=4), rng=0).weight
    assert between.min() >= 2 and between.max() < 4
    assert not bpcore.Dense(2, 3, weight_init="zeros").weight.any()
    assert not bpcore.Dense(2, 3).bias.any()


def test_weights_follow_from_the_seed_alone():
    weight = bpcore.Dense(4, 3, rng=5).weight
    np.testing.assert_array_equal(weight, bpcore.Dense(4, 3, rng=5).weight)
    np.testing.assert_array_equal(weight, bpcore.Dense(4, 3, rng=np.random.default_rng(5)).weight)
    narrow = bpcore.Dense(4, 3, rng=5, dtype="float32").weight
    np.testing.assert_array_equal(narrow, weight.astype("f4"))
    assert (bpcore.Dense(4, 3).weight != bpcore.Dense(4, 3).weight).any()


def test_weights_are_drawn_when_first_needed():
    rng = np.random.default_rng(0)
    layer = bpcore.Dense(4, 3, rng=rng)
    assert rng.random() == np.random.default_rng(0).random()
    assert layer.weight is layer.weight


# ------------------------------------------------------------------------- part of a network: views


def bind(layer, dtype="f8", rng=0, activation=None):
    """Put a layer in a flat array, as a network does, and return the array and the gradients."""
    n = layer.n_parameters
    values, gradients = np.full(n, np.nan, dtype), np.full(n, np.nan, dtype)
    split = layer.n_in * layer.n_out
    views = [
        part
        for flat in (values, gradients)
        for part in (flat[:split].reshape(layer.n_in, layer.n_out), flat[split:])
    ]
    if not layer.has_bias:
        views[1] = views[3] = None
    layer._bind(*views, np.random.default_rng(rng), activation)
    return values, gradients


def test_a_bound_layer_is_a_view(rng):
    layer = bpcore.Dense(4, 3)
    values, gradients = bind(layer)
    assert np.isfinite(values).all()
    layer.weight[1, 2] = 7.0
    layer.bias = [1, 2, 3]
    assert values[5] == 7.0 and values[12:].tolist() == [1, 2, 3]
    values[...] = 0
    assert not layer.weight.any() and not layer.bias.any()
    layer.forward(rng.normal(size=(5, 4)))
    layer.backward(np.ones((5, 3)))
    assert gradients[12:].tolist() == [5.0, 5.0, 5.0]
    np.testing.assert_array_equal(gradients[:12].reshape(4, 3), layer.grad_weight)


def test_a_bound_layer_draws_from_the_network_or_its_own_generator():
    expected = bpcore.Dense(4, 3, rng=3).weight
    drawn = bpcore.Dense(4, 3)
    bind(drawn, rng=3)
    np.testing.assert_array_equal(drawn.weight, expected)
    own = bpcore.Dense(4, 3, rng=3)
    bind(own, rng=99)
    np.testing.assert_array_equal(own.weight, expected)


def test_a_bound_layer_keeps_the_values_that_it_has():
    layer = bpcore.Dense(4, 3, rng=3)
    weight = layer.weight.copy()
    layer.bias = [1, 2, 3]
    values, _ = bind(layer, "f4")
    assert layer.dtype == np.float32
    np.testing.assert_array_equal(values[:12].reshape(4, 3), weight.astype("f4"))
    assert values[12:].tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_auto_looks_at_the_activation_that_follows(name):
    layer = bpcore.Dense(4, 3)
    bind(layer, rng=3, activation=name)
    chosen = "he_uniform" if name in reference.RECTIFIERS else "glorot_uniform"
    expected = bpcore.Dense(4, 3, weight_init=chosen, rng=3)
    np.testing.assert_array_equal(layer.weight, expected.weight)


def test_a_layer_is_part_of_one_network_only():
    layer = bpcore.Dense(4, 3)
    bind(layer)
    with pytest.raises(ValueError, match=r"Dense\(4, 3\) is already part of a network"):
        bind(layer)
    bind(copy.deepcopy(layer))
    layer._release()
    bind(layer)


# ----------------------------------------------------------------------------- copies and configs


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))]
)
def test_a_copy_is_a_layer_of_its_own(clone):
    layer = bpcore.Dense(4, 3, rng=0)
    values, _ = bind(layer)
    layer.forward(np.ones((1, 4)))
    twin = clone(layer)
    np.testing.assert_array_equal(twin.weight, layer.weight)
    twin.weight[...] = 0
    assert values[:12].all()
    with pytest.raises(RuntimeError, match="call forward first"):
        twin.backward(np.ones((1, 3)))
    np.testing.assert_array_equal(clone(bpcore.Dense(4, 3, rng=7)).weight.shape, (4, 3))


@pytest.mark.parametrize(
    "layer",
    [
        *(make() for make in layers.ACTIVATIONS.values()),
        bpcore.LeakyReLU(slope=0.2),
        bpcore.ELU(alpha=2.0),
        bpcore.GELU(approximate="tanh"),
        bpcore.Dropout(0.25, rng=3),
        bpcore.Dense(4, 3, rng=0),
        bpcore.Dense(4, 3, bias=False, dtype="float32"),
    ],
    ids=repr,
)
def test_config_and_back(layer):
    config = json.loads(json.dumps(layer.config()))
    twin = layers.from_config(config)
    assert type(twin) is type(layer)
    assert twin.config() == layer.config() and repr(twin) == repr(layer)
    if isinstance(layer, bpcore.Dense):
        assert twin.dtype == layer.dtype
        assert not twin.weight.any()


def test_repr():
    assert repr(bpcore.Dense(4, 3)) == "Dense(4, 3)"
    assert repr(bpcore.Dense(4, 3, bias=False)) == "Dense(4, 3, bias=False)"
    assert repr(bpcore.ReLU()) == "ReLU()"
    assert repr(bpcore.LeakyReLU(slope=0.2)) == "LeakyReLU(slope=0.2)"
    assert repr(bpcore.GELU(approximate="tanh")) == "GELU(approximate='tanh')"
    assert repr(bpcore.Dropout(0.5, rng=0)) == "Dropout(0.5)"


def test_activation_by_name_class_and_object():
    layer = bpcore.ELU(alpha=2.0)
    assert layers.activation(layer) is layer
    assert type(layers.activation("elu")) is type(layers.activation(bpcore.ELU)) is bpcore.ELU


# ----------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_dropout_drops_the_share_and_keeps_the_mean(p, dtype):
    x = np.full((200, 300), 3.0, dtype)
    layer = bpcore.Dropout(p, rng=0)
    y = layer.forward(x, training=True)
    assert y.dtype == dtype
    kept = y != 0
    np.testing.assert_allclose(y[kept], 3.0 / (1 - p), rtol=4 * np.finfo(dtype).eps)
    assert kept.mean() == pytest.approx(1 - p, abs=4 * np.sqrt(p * (1 - p) / x.size) + 1e-12)
    np.testing.assert_array_equal(layer.backward(x), y)


def test_dropout_acts_in_training_only(rng):
    x, dy = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 3))
    layer = bpcore.Dropout(0.5, rng=0)
    layer.forward(x, training=True)
    y = layer.forward(x)
    np.testing.assert_array_equal(y, x)
    assert not np.shares_memory(y, x)
    np.testing.assert_array_equal(layer.backward(dy), dy)


def test_dropout_masks_are_independent_and_follow_from_the_seed():
    x = np.ones((20, 30))
    layer, twin = bpcore.Dropout(0.5, rng=4), bpcore.Dropout(0.5, rng=4)
    first, second = (layer.forward(x, training=True) for _ in range(2))
    np.testing.assert_array_equal(twin.forward(x, training=True), first)
    np.testing.assert_array_equal(twin.forward(x, training=True), second)
    assert np.mean(first == second) == pytest.approx(0.5, abs=0.1)
    assert (bpcore.Dropout(0.5).forward(x, training=True) != first).any()


def test_dropout_takes_infinities_and_nan():
    x = np.array([np.inf, -np.inf, np.nan, 1e308] * 5)
    layer = bpcore.Dropout(0.5, rng=0)
    layer.forward(x, training=True)
    layer.backward(x)
