"""Weights of classes are weights of rows."""

import copy
import json

import numpy as np
import pytest
import test_model_file_errors as model_file
from sklearn.utils.class_weight import compute_sample_weight
from test_resume import Once, again, records, results

import bpcore

N = 90
X = np.random.default_rng(1).normal(size=(N, 3))
LABELS = np.repeat([0, 1, 2], [60, 20, 10])
SIDES = (LABELS == 2).astype(float)
WEIGHT = np.random.default_rng(2).uniform(0.1, 2.0, N)
TARGETS = {  # n_out, output, loss, target, labels
    "labels": (3, "softmax", "cross_entropy", LABELS, LABELS),
    "a column": (3, "softmax", "cross_entropy", LABELS.reshape(-1, 1), LABELS),
    "one-hot": (3, "identity", "cross_entropy_logits", np.eye(3)[LABELS], LABELS),
    "sides": (1, "sigmoid", "bce", SIDES, SIDES),
    "sides, bool": (1, "identity", "bce_logits", SIDES.reshape(-1, 1).astype(bool), SIDES),
    "sides, mse": (1, "tanh", "mse", SIDES, SIDES),
}
WEIGHTS = {"balanced": "balanced", "given": {0: 0.5, 1: 3}, "a zero": {np.int64(0): 0.0, 1: 2.0}}


def build(name, **keywords):
    n_out, output, loss, y, labels = TARGETS[name]
    return bpcore.mlp([3, 5, n_out], output=output, loss=loss, rng=0, **keywords), y, labels


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("own", [None, WEIGHT])
def test_as_weights_of_rows(name, weights, own, dtype):
    """To the last bit as a fit with scikit-learn's weights for these rows."""
    net, y, labels = build(name, dtype=dtype)
    twin = copy.deepcopy(net)
    rows = compute_sample_weight(WEIGHTS[weights], labels)
    assert len(set(rows)) > 1
    rows = rows if own is None else rows * own.astype(dtype)
    keywords = {"epochs": 3, "optimizer": "adam", "health": False}
    history = net.fit(X, y, class_weight=WEIGHTS[weights], sample_weight=own, **keywords)
    expected = twin.fit(X, y, sample_weight=rows, **keywords)
    assert results(net) == results(twin)
    assert history["loss"] == expected["loss"]


def test_labels_without_a_weight_weigh_1():
    net, y, _ = build("labels")
    twin = copy.deepcopy(net)
    net.fit(X, y, class_weight={2: 5.0})
    twin.fit(X, y, sample_weight=np.where(LABELS == 2, 5.0, 1.0))
    assert results(net) == results(twin)


@pytest.mark.parametrize("where", ["held out", "given"])
def test_validation_does_not_count_them(where):
    """Wherever it comes from; but the weights of rows count among those held out."""
    net, y, _ = build("labels")
    given = (
        {"validation_data": (X, y, WEIGHT)} if where == "given" else {"validation_fraction": 0.4}
    )
    seen = []

    def look(net, epoch, logs):
        rows = net._exclusive.run.validation[3]
        rows = slice(None) if rows is None else rows
        seen.append(net.loss_value(X[rows], y[rows], sample_weight=WEIGHT[rows]))

    history = net.fit(
        X, y, sample_weight=WEIGHT, class_weight="balanced", callbacks=look, health=False, **given
    )
    assert history["validation_loss"] == pytest.approx(seen, rel=1e-14)


REFUSED = {
    "word": ("labels", "balance", ValueError, "must be 'balanced' or a dict, got 'balance'"),
    "list": ("labels", [1, 2, 3], TypeError, r"must be 'balanced', a dict .* got \[1, 2, 3\]"),
    "unknown": ("labels", {3: 1.0}, ValueError, "a weight for label 3; labels go from 0 to 2"),
    "negative label": ("labels", {-1: 1.0}, ValueError, "label -1; labels go from 0 to 2"),
    "a name": ("sides", {"yes": 1.0}, ValueError, "label 'yes'; labels go from 0 to 1"),
    "half": ("sides", {0.5: 1.0}, ValueError, r"label 0\.5; labels"),
    "negative": ("labels", {1: -1}, ValueError, r"class_weight\[1\] must be .* >= 0, got -1"),
    "nan": ("sides", {1: np.nan}, ValueError, r"class_weight\[1\] must be .* >= 0, got nan"),
    "infinite": ("sides", {0: np.inf}, ValueError, r"class_weight\[0\] must be finite"),
    "text": ("sides", {0: "1"}, TypeError, r"class_weight\[0\] must be a number, got '1'"),
    "all zero": ("sides", {0: 0, 1: 0}, ValueError, "class_weight leaves no row a weight above 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_weights_that_cannot_be(case):
    name, weights, error, message = REFUSED[case]
    net, y, _ = build(name)
    before = results_of_nothing(net)
    with pytest.raises(error, match=message):
        net.fit(X, y, class_weight=weights, optimizer="adam", validation_fraction=0.5)
    assert results_of_nothing(net) == before


def results_of_nothing(net):
    return net.parameters.tobytes(), str(net.rng.bit_generator.state), net.optimizer


@pytest.mark.parametrize(
    ("n_out", "loss", "y", "message"),
    [
        (3, "cross_entropy_logits", np.minimum(LABELS, 1), "label 2 there are none; give a dict"),
        (1, "bce_logits", np.zeros(N), "of label 1 there are none"),
        (1, "bce_logits", np.full(N, 0.5), r"needs targets of 0 and 1, and row 0 is \[0\.5\]"),
        (3, "cross_entropy_logits", np.full((N, 3), 1 / 3), "needs targets of 0 and 1, and row 0"),
        (3, "bce_logits", np.eye(3)[LABELS], "bce_logits with 3 outputs has no classes"),
        (2, "mse", X[:, :2], "mse with 2 outputs has no classes"),
        (1, "mse", X[:, :1], "needs targets of 0 and 1, and row 0 is"),
    ],
)  # fmt: skip
def test_targets_that_are_no_classes(n_out, loss, y, message):
    net = bpcore.mlp([3, n_out], loss=loss, rng=0)
    with pytest.raises(ValueError, match=message):
        net.fit(X, y, class_weight="balanced")


def test_weights_too_large_for_the_dtype():
    net, y, _ = build("sides", dtype="float32")
    with pytest.raises(ValueError, match=r"sample_weight.* beyond the range of float32"):
        net.fit(X, y, class_weight={1: 1e300})


def test_zero_weights_in_the_rows_held_out():
    """Only for training do weights of classes count."""
    net, y, _ = build("labels")
    for seed in range(20):
        net.rng = np.random.default_rng(seed)
        net.fit(X, y, class_weight={0: 0.0, 1: 0.0}, validation_fraction=0.02, health=False)
    with pytest.raises(ValueError, match="weights are all zero in the rows"):
        for _ in range(20):
            net.fit(X, y, class_weight={0: 0.0, 1: 0.0}, validation_fraction=0.98, health=False)


@pytest.mark.parametrize("how", ["same", "file"])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_fit_goes_on_with_the_same_weights_only(how, weights, tmp_path):
    net, y, _ = build("labels")
    keywords = {"epochs": 5, "optimizer": "adam", "validation_fraction": 0.2, "health": False}
    whole = copy.deepcopy(net)
    history = whole.fit(X, y, class_weight=WEIGHTS[weights], **keywords)
    net.fit(X, y, class_weight=WEIGHTS[weights], callbacks=Once(1), **keywords)
    net = again(net, how, tmp_path / "model")
    before = results(net)
    others = [value for name, value in WEIGHTS.items() if name != weights]
    for other in (None, *others):
        with pytest.raises(ValueError, match=r"goes on with class_weight (balanced|{0: 0)"):
            net.fit(X, y, class_weight=other, resume=True)
        assert results(net) == before
    with pytest.raises(ValueError, match="goes on with sample_weight False, got True"):
        net.fit(X, y, class_weight=WEIGHTS[weights], sample_weight=WEIGHT, resume=True)
    again_given = WEIGHTS[weights]
    if isinstance(again_given, dict):  # in another order, and of other types
        again_given = dict(reversed([(int(k), np.float32(v)) for k, v in again_given.items()]))
    net.fit(X, y, class_weight=again_given, resume=True, health=False)
    assert results(net) == results(whole)
    assert records(net.history) == records(history)


def test_a_file_from_before(tmp_path):
    """There were no weights of classes, and its fit goes on without."""
    net, y, _ = build("labels")
    whole = copy.deepcopy(net)
    whole.fit(X, y, epochs=3)
    net.fit(X, y, epochs=3, callbacks=Once(1))
    net.save(tmp_path / "model")
    header, description, tensors = model_file.parts(tmp_path / "model")
    assert description["fit"]["settings"].pop("class_weight", 1) is None
    header["__metadata__"]["bpcore"] = json.dumps(description)
    model_file.write_parts(tmp_path / "old", header, tensors)
    old = bpcore.load(tmp_path / "old")
    old.fit(X, y, resume=True)
    assert results(old) == results(whole)
