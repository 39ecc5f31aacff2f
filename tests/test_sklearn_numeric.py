"""The estimators' results are scikit-learn's, number by number, where the formulas are the same.

Without shuffling both see the same batches, and the same `random_state` draws the same starting
weights and validation rows. So every loss of the curve must agree to rounding: a trajectory of T
steps of sums over up to a few thousand terms is allowed 1e-9, relative. Adam's epsilon stands in
another place (beside the root of the corrected average here, of the uncorrected one there), so it
is made too small to matter.
"""

import warnings

import numpy as np
import pytest
from scipy.special import xlogy
from sklearn import neural_network as theirs
from sklearn.datasets import load_digits, load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning

import bpcore
from bpcore import sklearn as ours

RTOL = 1e-9
TINY = 1e-30
rng = np.random.default_rng(7)
X = rng.normal(size=(120, 5))
Y1 = np.sin(X[:, 0]) + 0.5 * X[:, 1] * X[:, 2]
IRIS = load_iris(return_X_y=True)
MULTILABEL = make_multilabel_classification(n_samples=90, n_features=6, random_state=3)


def both(name, X, y, weight=None, method="fit", **parameters):
    """Fit both; return ours and theirs."""
    always = {"random_state": 3, "shuffle": False, "max_iter": 25, "epsilon": TINY}
    parameters = always | parameters
    fitted = []
    for module in (ours, theirs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = getattr(module, name)(**parameters)
            fitted.append(model.fit(X, y, sample_weight=weight))
    return fitted


def agree(mine, reference, rtol=RTOL):
    assert mine.n_iter_ == reference.n_iter_
    for name in ("loss_curve_", "validation_scores_", "coefs_", "intercepts_", "loss_"):
        expected = getattr(reference, name, None)
        if expected is None:
            assert getattr(mine, name, None) is None
            continue
        pairs = [(getattr(mine, name), expected)]
        if name in ("coefs_", "intercepts_"):
            pairs = zip(getattr(mine, name), expected, strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-10, err_msg=name)
    for name in ("t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        if hasattr(reference, name):
            assert getattr(mine, name) == getattr(reference, name), name


SGD = {"solver": "sgd", "learning_rate_init": 0.05, "batch_size": 30}
SETTINGS = {
    "adam": {"batch_size": 30},
    "adam, other betas": {"batch_size": 40, "beta_1": 0.8, "beta_2": 0.9},
    "full batch": {"batch_size": 120, "alpha": 0.5},
    "auto batch": {"alpha": 0.1},
    "sgd, nesterov": SGD,
    "sgd, momentum": {**SGD, "nesterovs_momentum": False},
    "sgd, plain": {**SGD, "momentum": 0.0},
    "sgd, invscaling": {**SGD, "learning_rate": "invscaling", "power_t": 0.3},
    "sgd, adaptive": {**SGD, "learning_rate": "adaptive", "tol": 0.02, "n_iter_no_change": 2},
    "penalty": {**SGD, "alpha": 3.0},
    "short last batch, no penalty": {**SGD, "batch_size": 50, "alpha": 0.0},
    "stops by tol": {"tol": 1e-2, "max_iter": 200, "n_iter_no_change": 3},
    "early stopping": {"early_stopping": True, "max_iter": 60, "n_iter_no_change": 4, "alpha": 0},
    "logistic": {**SGD, "activation": "logistic"},
    "tanh, two layers": {**SGD, "activation": "tanh", "hidden_layer_sizes": (8, 4)},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_regressor_of_one_output(name):
    parameters = {"hidden_layer_sizes": 9, "max_iter": 25, **SETTINGS[name]}
    agree(*both("MLPRegressor", X, Y1, **parameters))


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_classifier(name, n_classes):
    y = np.digitize(Y1, [0.0, 0.7][: n_classes - 1])
    parameters = {"hidden_layer_sizes": 9, **SETTINGS[name]}
    mine, reference = both("MLPClassifier", X, y, **parameters)
    agree(mine, reference)
    np.testing.assert_array_equal(mine.predict(X), reference.predict(X))
    np.testing.assert_allclose(mine.predict_proba(X), reference.predict_proba(X), rtol=1e-8)


def test_adam_by_its_default_epsilon_is_nearly_the_same():
    mine, reference = both("MLPRegressor", X, Y1, hidden_layer_sizes=9, epsilon=1e-8)
    agree(mine, reference, rtol=1e-4)
    assert mine.loss_ != reference.loss_


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_several_labels(solver):
    """Their losses add up, in both."""
    mine, reference = both(
        "MLPClassifier", *MULTILABEL, solver=solver, batch_size=30, hidden_layer_sizes=6
    )
    agree(mine, reference)
    np.testing.assert_array_equal(mine.predict(MULTILABEL[0]), reference.predict(MULTILABEL[0]))


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_poisson(solver):
    y = np.random.default_rng(0).poisson(np.exp(0.5 * X[:, 0]))
    parameters = {"loss": "poisson", "solver": solver, "hidden_layer_sizes": 4, "max_iter": 12}
    agree(*both("MLPRegressor", X, y, **parameters), rtol=1e-6 if solver == "lbfgs" else RTOL)


def test_poisson_of_several_outputs_is_the_half_deviance():
    y = np.random.default_rng(0).poisson(np.exp(0.5 * X[:, :2]))
    mine, reference = both("MLPRegressor", X, y, loss="poisson", hidden_layer_sizes=4)
    agree(mine, reference)
    p = mine.predict(X)
    deviance = (xlogy(y, y / p) - y + p).sum(axis=1).mean()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mine.set_params(warm_start=True, max_iter=1, alpha=0.0).fit(X, y)
    assert mine.loss_ == pytest.approx(deviance, rel=1e-12)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_lbfgs(name):
    """The iterates agree until the line search turns rounding into another step."""
    y = np.digitize(Y1, [0.0, 0.7]) if name == "MLPClassifier" else Y1
    weight = np.random.default_rng(1).uniform(0.5, 2, len(X))
    for w in (None, weight):
        parameters = {"solver": "lbfgs", "max_iter": 15, "hidden_layer_sizes": 7, "alpha": 0.1}
        agree(*both(name, X, y, w, **parameters), rtol=1e-6)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_sample_weight_of_a_full_batch(name):
    y = np.digitize(Y1, [0.0, 0.7]) if name == "MLPClassifier" else Y1
    weight = np.random.default_rng(1).uniform(0, 3, len(X))
    agree(*both(name, X, y, weight, batch_size=120, hidden_layer_sizes=7, alpha=2.0))


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("learning_rate", ["constant", "invscaling"])
def test_partial_fit_and_warm_start(solver, learning_rate):
    parameters = {"solver": solver, "learning_rate": learning_rate, "hidden_layer_sizes": 6}
    parameters |= {"random_state": 1, "shuffle": False, "learning_rate_init": 0.02, "max_iter": 5}
    parameters["epsilon"] = TINY
    models = [module.MLPRegressor(**parameters, warm_start=True) for module in (ours, theirs)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for rows in (slice(0, 60), slice(60, 100), slice(100, 120)):
            for model in models:
                model.partial_fit(X[rows], Y1[rows])
            agree(*models)
        for model in models:
            model.fit(X, Y1).fit(X[:80], Y1[:80])
        agree(*models)
    assert models[0].t_ == 120 + 5 * 120 + 5 * 80


def test_float32():
    mine, reference = both("MLPRegressor", X.astype("f"), Y1.astype("f"), hidden_layer_sizes=9)
    assert mine.coefs_[0].dtype == mine.predict(X.astype("f")).dtype == np.float32
    agree(mine, reference, rtol=1e-3)


def test_the_same_random_state_starts_with_the_same_weights():
    for activation, h in (("relu", (4, 3)), ("logistic", 5), ("tanh", ())):
        mine, reference = both(
            "MLPClassifier", *IRIS, activation=activation, hidden_layer_sizes=h,
            solver="sgd", learning_rate_init=1e-300, momentum=0, max_iter=1,
        )  # fmt: skip
        for a, b in zip(mine.coefs_ + mine.intercepts_,
                        reference.coefs_ + reference.intercepts_, strict=True):  # fmt: skip
            np.testing.assert_array_equal(a, b)


def test_several_outputs_follow_the_true_gradient():
    """scikit-learn's is so many times the derivative of the loss that it reports (issue 8349)."""
    y = np.column_stack([Y1, X[:, 0], -X[:, 3]])
    parameters = {"solver": "sgd", "momentum": 0.0, "max_iter": 10, "hidden_layer_sizes": 5}
    rate = {"learning_rate_init": 0.03}
    mine, reference = both("MLPRegressor", X, y, alpha=0.0, **parameters, **rate)
    assert mine.loss_curve_[0] == pytest.approx(reference.loss_curve_[0], rel=RTOL)
    assert mine.loss_curve_[1] != pytest.approx(reference.loss_curve_[1], rel=1e-3)
    mine, _ = both("MLPRegressor", X, y, alpha=0.0, **parameters, learning_rate_init=0.09)
    agree(mine, reference)
    assert mine.network_.check_gradients(X, y).ok
    np.testing.assert_allclose(mine.network_.predict(X), mine.predict(X))
    loss = 0.5 * ((mine.predict(X) - y) ** 2).mean()
    assert mine.network_.loss_value(X, y) == pytest.approx(loss, rel=1e-12)


def test_shuffled_training_is_as_good():
    """Another order of rows, the same distribution of results: losses of 8 seeds overlap."""
    data, labels = load_digits(return_X_y=True)
    data = data[:500] / 16
    found = {}
    for module in (ours, theirs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found[module] = [
                module.MLPClassifier(16, batch_size=50, max_iter=10, random_state=seed)
                .fit(data, labels[:500])
                .loss_
                for seed in range(8)
            ]
    mine, reference = found[ours], found[theirs]
    spread = np.std(mine) + np.std(reference)
    assert abs(np.mean(mine) - np.mean(reference)) < spread
    assert mine != reference


def test_the_network_is_the_estimator():
    mine, _ = both("MLPClassifier", *IRIS, hidden_layer_sizes=5)
    np.testing.assert_array_equal(mine.network_.predict(IRIS[0]), mine.predict_proba(IRIS[0]))
    assert isinstance(mine.network_, bpcore.Network)
    report = mine.network_.check_gradients(*IRIS)
    assert report.ok, report
