"""Losses used alone: shapes, dtypes, forms of the target, copies, names."""

import copy
import json
import pickle

import numpy as np
import pytest

import bpcore
from bpcore import losses

NAMES = tuple(losses.LOSSES)
ONE_OUTPUT = tuple(name for name in NAMES if not losses.get(name).takes_labels)


@pytest.fixture
def prediction(rng):
    return rng.uniform(0.1, 0.9, (6, 3))


@pytest.fixture
def target():
    return np.eye(3)[[0, 2, 1, 1, 0, 2]]


@pytest.mark.parametrize("name", NAMES)
def test_value_is_a_float_and_the_gradient_is_like_the_prediction(name, prediction, target, dtype):
    loss = losses.get(name)
    value = loss.forward(prediction.astype(dtype), target)
    assert type(value) is float
    assert loss.backward().shape == (6, 3) and loss.backward().dtype == dtype


@pytest.mark.parametrize("name", ONE_OUTPUT)
def test_a_row_of_predictions_is_one_output_each(name, rng):
    p, t = rng.uniform(0.1, 0.9, 5), rng.integers(0, 2, 5)
    loss = losses.get(name)
    value = loss.forward(p, t)
    gradient = loss.backward()
    assert gradient.shape == (5,)
    for q, u in ((p[:, None], t), (p[:, None], t[:, None]), (p, t[:, None])):
        assert loss.forward(q, u) == value
        assert loss.backward().shape == q.shape
        np.testing.assert_array_equal(loss.backward().ravel(), gradient)


@pytest.mark.parametrize("name", NAMES)
def test_layouts_give_the_same_bits(name, prediction, target):
    loss, weight = losses.get(name), np.arange(1.0, 7.0)
    value = loss.forward(prediction, target, sample_weight=weight)
    gradient = loss.backward()
    for change in (np.asfortranarray, lambda a: a.astype(">f8"), lambda a: a[::-1].copy()[::-1]):
        again = loss.forward(change(prediction), change(target), sample_weight=change(weight))
        assert again == value
        np.testing.assert_array_equal(loss.backward(), gradient)


@pytest.mark.parametrize("name", NAMES)
def test_what_happens_to_arrays_between_the_passes_does_not_matter(name, prediction, target):
    loss = losses.get(name)
    loss.forward(prediction, target)
    expected = loss.backward()
    loss.forward(prediction, target)
    prediction[...] = np.nan
    first = loss.backward()
    np.testing.assert_array_equal(first, expected)
    first[...] = 0
    np.testing.assert_array_equal(loss.backward(), expected)


@pytest.mark.parametrize("name", NAMES)
def test_nan_in_a_prediction_comes_out(name, prediction, target):
    prediction[1, 1] = np.nan
    assert np.isnan(losses.get(name).forward(prediction, target))


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))]
)
def test_a_copy_has_seen_no_data(clone):
    loss = bpcore.Huber(delta=2.0, reduction="sum")
    value = loss.forward([1.0], [5.0])
    twin = clone(loss)
    with pytest.raises(RuntimeError, match="call forward first"):
        twin.backward()
    assert twin.forward([1.0], [5.0]) == value
    assert loss.backward().tolist() == [-2.0]


@pytest.mark.parametrize("reduction", losses.REDUCTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_config_and_back(name, reduction):
    config = losses.get(name).config() | {"reduction": reduction}
    loss = losses.from_config(json.loads(json.dumps(config)))
    assert loss.config() == config
    assert loss.kernel == name and loss.reduction == reduction


def test_names_and_repr():
    assert repr(losses.get("bce_logits")) == "BinaryCrossEntropy(from_logits=True)"
    assert repr(bpcore.Huber(delta=2.0, reduction="sum")) == "Huber(delta=2.0, reduction='sum')"
    loss = bpcore.MeanSquaredError()
    assert losses.get(loss) is loss
    assert type(losses.get(bpcore.MeanSquaredError)) is bpcore.MeanSquaredError
    names = "mse mae huber quantile bce bce_logits cross_entropy cross_entropy_logits"
    names += " poisson poisson_log"
    assert set(NAMES) == set(names.split())
