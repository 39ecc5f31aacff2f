"""Gradients as they are handed in: in which order, and by which names."""

import numpy as np
import pytest

import bpcore


def case(layers):
    rng = np.random.default_rng(0)
    net = bpcore.Network(layers, rng=1)
    X, y = rng.normal(size=(7, net.n_in)), rng.normal(size=(7, net.n_out))
    net.loss_and_gradient(X, y)
    arrays, start = [], 0
    for array in net.parameter_arrays().values():
        arrays.append(net.gradients[start : start + array.size].reshape(array.shape).copy())
        start += array.size
    return net, X, y, arrays


def plain():
    return case([bpcore.Dense(4, 5), bpcore.Tanh(), bpcore.Dense(5, 3)])


def test_all_transposed_without_biases_are_not_taken_for_reversed():
    dense = [bpcore.Dense(4, 5, bias=False), bpcore.Tanh(), bpcore.Dense(5, 4, bias=False)]
    net, X, y, arrays = case(dense)
    found = bpcore.explain_gradients(net, X, y, [array.T for array in arrays])
    assert {mistake.code for mistake in found.mistakes} == {"gradient_transposed"}


@pytest.mark.parametrize("as_rows", [False, True])
def test_from_the_output_back_is_refused(as_rows):
    net, X, y, (W1, b1, W2, b2) = plain()
    b1, b2 = (b.reshape(1, -1) if as_rows else b for b in (b1, b2))
    with pytest.raises(bpcore.ShapeError, match="from the output back"):
        bpcore.explain_gradients(net, X, y, [W2, b2, W1, b1])


@pytest.mark.parametrize("weights_first", [False, True])
def test_weights_beside_their_gradients(weights_first):
    """dW1 is the gradient where W1, the weight, is there too."""
    net, X, y, arrays = plain()
    names = ["W1", "b1", "W2", "b2"]
    weights = dict(zip(names, net.parameter_arrays().values(), strict=True))
    gradients = {f"d{name}": array for name, array in zip(names, arrays, strict=True)}
    both = weights | gradients if weights_first else gradients | weights
    assert bpcore.explain_gradients(net, X, y, both).ok


def test_two_names_of_one_array_are_refused():
    net, X, y, (W1, b1, W2, b2) = plain()
    given = {"W1": W1, "w1": W1, "b1": b1, "W2": W2, "b2": b2}
    with pytest.raises(ValueError, match=r"'W1' and 'w1', both for 0\.weight"):
        bpcore.explain_gradients(net, X, y, given)


def test_two_derivatives_of_one_array_are_both_named():
    """Of the weight there may be one, and it is not what is in the way."""
    net, X, y, (W1, b1, W2, b2) = plain()
    given = {"W1": W1, "dW1": W1, "dw1": W1, "b1": b1, "W2": W2, "b2": b2}
    with pytest.raises(ValueError, match="'dW1' and 'dw1'"):
        bpcore.explain_gradients(net, X, y, given)


def test_a_layer_whose_name_begins_with_d_is_no_derivative():
    net, X, y, arrays = case([("dense", bpcore.Dense(4, 3))])
    weights = net.parameter_arrays()
    gradients = dict(zip(("dW1", "db1"), arrays, strict=True))
    assert bpcore.explain_gradients(net, X, y, weights | gradients).ok


def test_nan_is_no_sign_of_an_earlier_step():
    net, X, y, (W1, b1, W2, b2) = plain()
    found = bpcore.explain_gradients(net, X, y, [W1, b1, W2, np.full_like(b2, np.nan)])
    assert "not finite" in str(found) and "previous_X" not in str(found)


def test_the_mean_error_and_a_broadcast_are_told_apart_by_their_shapes():
    """The mean of p_i - y_j over all i and j is the mean of p_i - y_i, whatever the rows."""
    net, X, y, _ = case([bpcore.Dense(4, 5), bpcore.Tanh(), bpcore.Dense(5, 1)])
    error = np.full((7, 1), 2 / 7 * (net.predict(X) - y).mean())
    net.forward(X)
    net.backward(error)
    found = bpcore.explain_gradients(net, X, y, net.gradients.copy())
    assert "error_averaged" in {mistake.code for mistake in found.mistakes}
    assert "(p - y).shape" in str(found) and "random rows" not in str(found)


def without_the_derivative(n_out, change):
    """Gradients in which a layer's derivative is left out, of an error that `change` returns."""
    net, X, y, _ = case([bpcore.Dense(4, 5), bpcore.Tanh(), bpcore.Dense(5, n_out)])
    W1, b1, W2, b2 = net.parameter_arrays().values()
    a = np.tanh(X @ W1 + b1)
    delta2 = change(2 * (a @ W2 + b2 - y) / y.size)
    delta1 = delta2 @ W2.T
    given = [X.T @ delta1, delta1.sum(axis=0), a.T @ delta2, delta2.sum(axis=0)]
    return bpcore.explain_gradients(net, X, y, given)


def test_a_mistake_beside_both_does_not_make_other_rows_tell_them_apart():
    found = without_the_derivative(1, lambda delta: np.full_like(delta, delta.mean()))
    assert len(found.mistakes) == 2 and found.alternatives
    assert "(p - y).shape" in found.suggestion and "random rows" not in found.suggestion
    found = without_the_derivative(3, np.negative)
    assert {m.code for m in found.alternatives[0]} == {"swapped", "derivative_missing"}
    assert not found.suggestion


def test_other_rows_tell_a_factor_that_is_in_doubt_beside_both():
    found = without_the_derivative(1, lambda delta: 7 * np.full_like(delta, delta.mean()))
    assert "(p - y).shape" in found.suggestion and "To tell the rest apart" in found.suggestion


@pytest.mark.parametrize("n", [1, 7])
def test_no_other_batch_mends_nan(n):
    net, X, y, _ = plain()
    net.loss_and_gradient(X[:n], y[:n])
    arrays = {name: a.copy() for name, a in net.gradient_arrays().items()}
    arrays["0.weight"][0, 0] = np.nan
    assert not bpcore.explain_gradients(net, X[:n], y[:n], arrays).suggestion


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_shape_that_is_all_that_is_wrong(dtype):
    net, X, y, (W1, *rest) = plain()
    found = bpcore.explain_gradients(net, X, y, [W1.astype(dtype).T, *rest])
    assert "WRONG in its shape only" in str(found.arrays["0.weight"])
