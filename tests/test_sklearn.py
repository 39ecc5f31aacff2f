"""The estimators among scikit-learn's tools, what they have beyond its own, and how they fail."""

import inspect
import io
import pickle
import re
import subprocess
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
from scipy import sparse
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr, get_tags
from threadpoolctl import threadpool_limits

import bpcore
import bpcore.sklearn
from bpcore.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

BOTH = pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
IRIS, SPECIES = load_iris(return_X_y=True)
IRIS = (IRIS - IRIS.mean(0)) / IRIS.std(0)
rng = np.random.default_rng(0)
X = rng.normal(size=(100, 3))
Y = np.sin(X[:, 0]) + X[:, 1]
QUICK = {"hidden_layer_sizes": 4, "max_iter": 10, "random_state": 0}


@pytest.fixture(autouse=True, scope="module")
def one_thread_for_blas():
    """SciPy's L-BFGS works on short vectors, for which others' threads are waited for in vain."""
    with threadpool_limits(1, user_api="blas"):
        yield


# ---- scikit-learn's parameters and tools ---------------------------------------------------------


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_parameters_and_defaults_are_theirs(name):
    theirs_ = inspect.signature(getattr(theirs, name)).parameters
    ours = inspect.signature(getattr(bpcore.sklearn, name)).parameters
    assert theirs_.keys() <= ours.keys()
    for parameter in theirs_.values():
        assert ours[parameter.name].default == parameter.default
        assert ours[parameter.name].kind == parameter.kind
    positional = [p.name for p in ours.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == [p.name for p in theirs_.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    for parameter in ours.values():
        assert f"    {parameter.name}" in getattr(bpcore.sklearn, name).__doc__ or (
            f", {parameter.name}" in getattr(bpcore.sklearn, name).__doc__
        )


def test_grid_search_over_a_pipeline_on_two_processes():
    model = make_pipeline(StandardScaler(), MLPClassifier(**QUICK | {"max_iter": 80}))
    grid = {
        "mlpclassifier__hidden_layer_sizes": [3, (4, 2)],
        "mlpclassifier__solver": ["adam", bpcore.Rprop()],
    }
    search = GridSearchCV(model, grid, cv=2, n_jobs=2, error_score="raise").fit(IRIS, SPECIES)
    serial = GridSearchCV(model, grid, cv=2, error_score="raise").fit(IRIS, SPECIES)
    scores = search.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(scores, serial.cv_results_["mean_test_score"])
    assert scores.max() > 0.8
    assert search.best_estimator_[-1].network_.n_in == 4


@BOTH
def test_grid_search_passes_validation_data_on(kind):
    model = kind(**QUICK, early_stopping=True)
    search = GridSearchCV(model, {"alpha": [0, 1]}, cv=2, error_score="raise")
    search.fit(IRIS, SPECIES, X_val=IRIS[::5], y_val=SPECIES[::5])
    assert search.best_estimator_.best_validation_score_ is not None


def test_cross_validation_does_not_complain():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        cross_val_score(MLPRegressor(**QUICK), 1e4 * X + 1e6, Y, cv=3)


@BOTH
def test_clone_has_equal_parameters_and_no_state(kind):
    model = kind(**QUICK, solver=bpcore.Adam(learning_rate=bpcore.StepDecay(0.1, 0.5, 2)))
    model.fit(IRIS, SPECIES)
    twin = clone(model)
    assert repr(twin.get_params()) == repr(model.get_params())
    with pytest.raises(NotFittedError):
        twin.predict(IRIS)
    np.testing.assert_array_equal(twin.fit(IRIS, SPECIES).coefs_[0], model.coefs_[0])


@BOTH
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_pickle_goes_on_as_the_original(kind, solver, tmp_path):
    model = kind(**QUICK, solver=solver).fit(IRIS, SPECIES)
    joblib.dump(model, tmp_path / "model.joblib")
    for twin in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model.joblib")):
        np.testing.assert_array_equal(twin.predict(IRIS), model.predict(IRIS))
        assert twin.loss_curve_ == model.loss_curve_
        assert twin.coefs_[0].base is twin.network_.parameters
    for each in (model, twin):
        each.partial_fit(IRIS, SPECIES)
    np.testing.assert_array_equal(twin.network_.parameters, model.network_.parameters)


def test_random_state_decides_all():
    def weights(**parameters):
        return MLPRegressor(**QUICK | parameters).fit(X, Y).network_.parameters

    settings = {"batch_size": 9, "dropout": 0.5, "early_stopping": True}
    first = weights(**settings)
    np.testing.assert_array_equal(first, weights(**settings))
    assert (first != weights(**settings, random_state=1)).any()
    same = np.random.RandomState(0)
    np.testing.assert_array_equal(first, weights(**settings, random_state=same))
    assert (first != weights(**settings, random_state=same)).any()


def test_feature_names():
    import pandas

    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    model = MLPRegressor(**QUICK).fit(frame, Y)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(model.predict(frame), model.network_.predict(X).ravel())
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"a": "z"}))


def test_tags():
    for name in ("MLPClassifier", "MLPRegressor"):
        assert get_tags(getattr(bpcore.sklearn, name)()) == get_tags(getattr(theirs, name)())


@BOTH
def test_html(kind):
    model = kind(alpha=0.5, solver=bpcore.RMSProp(rho=0.5))
    for state in (model, model.fit(IRIS, SPECIES)):
        assert "rho=0.5" in estimator_html_repr(state) and kind.__name__ in repr(state)


def test_sparse_input_is_the_same():
    model = MLPClassifier(**QUICK).fit(IRIS, SPECIES)
    for container in (sparse.csr_array, sparse.csc_matrix):
        twin = MLPClassifier(**QUICK).fit(container(IRIS), SPECIES)
        np.testing.assert_array_equal(twin.network_.parameters, model.network_.parameters)
        np.testing.assert_array_equal(model.predict(container(IRIS)), model.predict(IRIS))


# ---- predictions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_quick_way_of_predict_gives_the_same(dtype):
    model = MLPClassifier(**QUICK, dtype=dtype).fit(IRIS, SPECIES)
    assert model.network_.dtype == dtype
    expected = SPECIES.dtype.type
    for rows in (IRIS[:1].astype(dtype), IRIS.astype(dtype)):
        plain = model.predict_proba(rows)
        for other in (np.asfortranarray(rows), rows[::-1][::-1], rows.tolist()):
            np.testing.assert_allclose(model.predict_proba(other), plain, rtol=1e-5)
        np.testing.assert_array_equal(model.predict(rows), plain.argmax(axis=1))
        assert model.predict(rows).dtype == expected


@pytest.mark.parametrize(
    "bad, text",
    [
        (np.full((1, 3), np.nan), "NaN"),
        (np.array([[0.0, np.inf, 0.0]]), "infinity"),
        (np.zeros((1, 4)), "4 features"),
        (np.zeros(3), "1D array"),
        (np.zeros((0, 3)), "0 sample"),
    ],
    ids=["nan", "inf", "width", "vector", "empty"],
)
def test_predict_refuses(bad, text):
    model = MLPRegressor(**QUICK).fit(X, Y)
    with pytest.raises(ValueError, match=text):
        model.predict(bad)
    with pytest.raises(NotFittedError):
        MLPRegressor().predict(X)


def test_several_labels():
    data, labels = make_multilabel_classification(n_samples=80, random_state=0)
    model = MLPClassifier(30, max_iter=300, learning_rate_init=0.01, random_state=0)
    model.fit(data, labels)
    assert model.score(data, labels) > 0.9 and model.out_activation_ == "logistic"
    probabilities = model.predict_proba(data)
    np.testing.assert_array_equal(model.predict(data), probabilities > 0.5)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(data)), probabilities)
    from_sparse = clone(model).fit(data, sparse.csr_array(labels))
    np.testing.assert_array_equal(from_sparse.predict(data).toarray(), model.predict(data))
    stopped = MLPClassifier(early_stopping=True, random_state=0, max_iter=20).fit(data, labels)
    assert 0 <= stopped.best_validation_score_ <= 1


def test_one_class_is_a_constant():
    model = MLPClassifier(**QUICK).fit(X, ["only"] * len(X))
    assert set(model.predict(X)) == {"only"} and model.classes_.tolist() == ["only"]
    np.testing.assert_array_equal(model.predict_proba(X), np.ones((len(X), 1)))
    assert model.score(X, ["only"] * len(X)) == 1


# ---- what scikit-learn has not -------------------------------------------------------------------


def test_activations_and_dropout_by_layer():
    model = MLPRegressor(
        hidden_layer_sizes=(5, 4),
        activation=["tanh", bpcore.LeakyReLU(slope=0.1)],
        output_activation="softplus",
        dropout=[0.0, 0.25],
        max_iter=3,
    ).fit(X, np.abs(Y))
    layers = (
        "Dense(3, 5), Tanh(), Dense(5, 4), LeakyReLU(slope=0.1), Dropout(0.25), Dense(4, 1), "
        "Softplus()"
    )
    assert repr(model.network_).startswith(f"Network({layers}, ")
    assert (model.predict(X) > 0).all() and model.out_activation_ == "softplus"
    linear = MLPRegressor(hidden_layer_sizes=(), activation=[], dropout=[]).fit(X, Y)
    assert repr(linear.network_).startswith("Network(Dense(3, 1), loss")
    assert MLPRegressor(output_activation="logistic", max_iter=1).fit(X, Y > 0).predict(X).max() < 1


@pytest.mark.parametrize(
    "loss, best",
    [
        ("mse", np.mean),
        ("mae", np.median),
        ("quantile", np.median),
        (bpcore.Quantile(quantile=0.9), lambda y: np.quantile(y, 0.9)),
        (bpcore.Huber(delta=1e-3), np.median),
        ("poisson", np.mean),
        (bpcore.Poisson(), np.mean),
    ],
    ids=["mse", "mae", "quantile", "quantile 0.9", "huber", "poisson", "Poisson()"],
)
def test_losses_have_their_best_constant(loss, best):
    y = np.random.default_rng(3).exponential(size=201)
    settings = {"solver": "adam", "learning_rate_init": 0.02, "batch_size": 201, "alpha": 0}
    model = MLPRegressor(loss, (), **settings, max_iter=1500, tol=0, n_iter_no_change=np.inf)
    found = model.fit(np.zeros((201, 1)), y).predict(np.zeros((1, 1)))[0]
    assert found == pytest.approx(best(y), abs=0.03)


def test_the_poisson_object_reports_its_own_number():
    y = np.random.default_rng(3).poisson(2.0, size=100).astype(float)
    settings = {**QUICK, "max_iter": 1, "batch_size": 100, "alpha": 0.0}
    named = MLPRegressor("poisson", **settings).fit(X, y)
    given = MLPRegressor(bpcore.Poisson(), **settings).fit(X, y)
    logs = np.log(y, out=np.zeros(100), where=y > 0)
    assert named.loss_ - given.loss_ == pytest.approx(np.mean(y * logs - y), rel=1e-12)
    np.testing.assert_array_equal(named.coefs_[0], given.coefs_[0])


@pytest.mark.parametrize(
    "solver",
    ["rmsprop", "adamw", "rprop", bpcore.SGD(learning_rate=bpcore.CosineDecay(0.1, 40))],
    ids=["rmsprop", "adamw", "rprop", "object"],
)
def test_solvers(solver):
    before = repr(solver)
    parameters = {**QUICK, "max_iter": 40, "learning_rate_init": 0.02}
    model = MLPClassifier(**parameters, solver=solver, batch_size=150).fit(IRIS, SPECIES)
    assert model.score(IRIS, SPECIES) > 0.8
    assert repr(model.solver) == before
    kind = bpcore.optimizers.get(solver)
    assert type(model.network_.optimizer) is type(kind) and model.network_.optimizer is not solver


def test_settings_reach_the_optimiser():
    model = MLPClassifier(solver="adamw", learning_rate_init=0.5, beta_1=0.7, epsilon=0.1)
    optimizer = model.set_params(**QUICK).fit(IRIS, SPECIES).network_.optimizer
    assert repr(optimizer) == "AdamW(learning_rate=0.5, beta_1=0.7, epsilon=0.1)"
    sgd = MLPClassifier(**QUICK, solver="sgd", momentum=0.5).fit(IRIS, SPECIES).network_.optimizer
    assert repr(sgd) == "SGD(learning_rate=0.001, momentum=0.5, nesterov=True)"


def test_an_optimiser_that_takes_all_rows():
    """As least squares do, which know no loss but "mse"."""

    class AllRows(bpcore.Rprop):
        takes_all_rows = True

    rows, target = np.tile(X, (3, 1)), np.tile(Y, 3)
    settings = {**QUICK, "alpha": 0.7}
    model = MLPRegressor(**settings, solver=AllRows()).fit(rows, target)
    same = MLPRegressor(**settings, solver="rprop", batch_size=300, learning_rate_init=0.01)
    assert repr(model.network_.loss) == "MeanSquaredError()"
    np.testing.assert_allclose(model.loss_curve_, same.fit(rows, target).loss_curve_, rtol=1e-9)


def test_class_weight():
    y = (np.quantile(Y, 0.9) < Y).astype(int)
    settings = {**QUICK, "solver": "lbfgs", "max_iter": 50, "alpha": 1.0}
    plain = MLPClassifier(**settings).fit(X, y)
    balanced = MLPClassifier(**settings, class_weight="balanced").fit(X, y)
    weight = np.where(y, 5.0, 5 / 9)
    by_dict = MLPClassifier(**settings, class_weight={0: 5 / 9, 1: 5.0}).fit(X, y)
    by_rows = MLPClassifier(**settings).fit(X, y, sample_weight=weight)
    twice = MLPClassifier(**settings, class_weight={1: 9.0}).fit(X, y, np.full(100, 5 / 9))
    for model in (by_dict, by_rows, twice):
        np.testing.assert_allclose(model.predict_proba(X), balanced.predict_proba(X), rtol=1e-3)
    assert balanced.predict_proba(X)[:, 1].mean() > plain.predict_proba(X)[:, 1].mean()
    with pytest.raises(ValueError, match="give a dict"):
        MLPClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1])


@BOTH
def test_own_validation_data(kind):
    held_out = slice(0, None, 3)
    settings = {**QUICK, "max_iter": 60, "n_iter_no_change": 5, "learning_rate_init": 0.05}
    model = kind(**settings, early_stopping=True)
    model.fit(IRIS, SPECIES, X_val=IRIS[held_out], y_val=SPECIES[held_out])
    assert model.t_ == model.n_iter_ * 150  # none of the rows is taken away
    assert max(model.validation_scores_) == model.best_validation_score_
    score = model.score(IRIS[held_out], SPECIES[held_out])
    assert score == pytest.approx(model.best_validation_score_, rel=1e-12)
    watched = kind(**settings).fit(IRIS, SPECIES, X_val=IRIS[held_out], y_val=SPECIES[held_out])
    assert watched.network_.history["validation_score"] == watched.validation_scores_
    assert len(watched.validation_scores_) == watched.n_iter_ and watched.best_loss_ is not None


def test_validation_data_pass_through_a_pipeline():
    """Scaled like X, where scikit-learn routes them."""
    with sklearn.config_context(enable_metadata_routing=True):
        last = MLPClassifier(**QUICK).set_fit_request(X_val=True, y_val=True)
        steps = [("scale", StandardScaler()), ("mlp", last)]
        model = Pipeline(steps, transform_input=["X_val"])
        model.fit(100 * IRIS, SPECIES, X_val=100 * IRIS, y_val=SPECIES)
    assert model["mlp"].validation_scores_[-1] == model.score(100 * IRIS, SPECIES)


def test_early_stopping_may_begin_late():
    model = MLPRegressor(**QUICK, warm_start=True).fit(X, Y)
    model.set_params(early_stopping=True).fit(X, Y)
    assert len(model.validation_scores_) == 10 and model.best_loss_ is None
    model.set_params(early_stopping=False).fit(X, Y)
    assert len(model.validation_scores_) == 10 and model.best_loss_ == min(model.loss_curve_[-10:])


def test_weights_of_the_validation_rows():
    half = np.repeat([1.0, 0.0], 75)
    model = MLPClassifier(**QUICK).fit(
        IRIS, SPECIES, X_val=IRIS, y_val=SPECIES, sample_weight_val=half
    )
    assert model.validation_scores_[-1] == model.score(IRIS[:75], SPECIES[:75])


def test_callbacks():
    norms, seen = bpcore.GradientNorms(), []
    model = MLPRegressor(**QUICK, callbacks=[norms, lambda net, epoch, logs: seen.append(epoch)])
    model.fit(X, Y)
    assert seen == list(range(10)) and "gradient_norm.0" in model.network_.history
    stop = MLPRegressor(**QUICK, callbacks=lambda net, epoch, logs: epoch == 3).fit(X, Y)
    assert stop.n_iter_ == 4
    patient = bpcore.EarlyStopping(patience=2, min_delta=10.0)
    stopped = MLPRegressor(**QUICK, callbacks=patient).fit(X, Y, X_val=X, y_val=Y)
    assert stopped.n_iter_ == 3 and len(stopped.network_.history["validation_loss"]) == 3
    best = bpcore.EarlyStopping(monitor="validation_score", patience=20)
    model = MLPRegressor(**QUICK, early_stopping=True, callbacks=best).fit(X, Y)
    scores = model.network_.history["validation_score"]
    assert best.best == max(scores) > min(scores)
    mistyped = bpcore.EarlyStopping(monitor="validation_scor", mode="max")
    with pytest.raises(ValueError, match=r"not recorded; there are .* seconds, validation_score$"):
        MLPRegressor(**QUICK, early_stopping=True, callbacks=mistyped).fit(X, Y)


def test_weights_can_be_set():
    model = MLPRegressor(**QUICK).fit(X, Y)
    model.coefs_[0] = np.ones((3, 4))
    model.intercepts_ = [np.zeros(4), np.ones(1)]
    hidden = np.maximum(X @ np.ones((3, 4)), 0)
    np.testing.assert_allclose(model.predict(X), (hidden @ model.coefs_[1] + 1).ravel())
    model.coefs_[1][...] = 0
    assert (model.predict(X) == 1).all()
    with pytest.raises(ValueError, match=r"shape \(4,\), expected \(3, 4\)"):
        model.coefs_[0] = np.ones(4)
    with pytest.raises(ValueError, match="must hold 2 arrays"):
        model.coefs_ = [1]
    with pytest.raises(TypeError):
        model.coefs_[:] = []
    assert type(pickle.loads(pickle.dumps(model.coefs_))) is list


def test_the_network_lives_on_its_own(tmp_path):
    model = MLPRegressor(**QUICK).fit(X, Y)
    model.network_.save(tmp_path / "model.safetensors")
    loaded = bpcore.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict(X).ravel(), model.predict(X))


# ---- verbose, warnings and errors ----------------------------------------------------------------


def test_verbose():
    wide = X * [1, 1, 1e4]
    out = io.StringIO()
    with redirect_stdout(out), pytest.warns(bpcore.UnscaledInputWarning):
        MLPRegressor(**QUICK, verbose=True, early_stopping=True).fit(wide, Y)
    assert out.getvalue().count("Iteration") == out.getvalue().count("Validation score") == 10
    out = io.StringIO()
    with redirect_stdout(out):
        model = MLPRegressor(**QUICK, verbose=True, solver="lbfgs").fit(X, Y)
    assert out.getvalue().count("Iteration") == model.n_iter_


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@BOTH
def test_warnings_point_at_the_caller(kind, solver):
    with pytest.warns(ConvergenceWarning) as caught:
        kind(**QUICK, solver=solver).fit(IRIS, SPECIES)
    assert caught[0].filename == __file__
    if solver == "adam":
        with pytest.warns(UserWarning, match="clipped") as caught:
            kind(**QUICK, batch_size=151).fit(IRIS, SPECIES)
        assert caught[0].filename == __file__


def test_divergence():
    model = MLPRegressor(**QUICK, solver="sgd", activation="identity").fit(X, Y)
    before = model.network_.parameters.copy(), set(vars(model))
    model.set_params(learning_rate_init=1e9, warm_start=True)
    with pytest.raises(ValueError, match=r"non-finite .* epoch"):
        model.fit(X, Y)
    np.testing.assert_array_equal(model.network_.parameters, before[0])
    assert set(vars(model)) == before[1] and len(model.loss_curve_) == model.n_iter_ == 10


BAD = [
    ({"alpha": -1.0}, ValueError, "alpha must be finite and >= 0, got -1.0"),
    ({"batch_size": 0}, ValueError, "batch_size must be >= 1"),
    ({"batch_size": 2.5}, TypeError, "batch_size must be an integer"),
    ({"hidden_layer_sizes": (3, 0)}, ValueError, r"hidden_layer_sizes\[1\] must be >= 1"),
    ({"hidden_layer_sizes": 2.5}, ValueError, "whole number"),
    ({"activation": "rleu"}, ValueError, "did you mean 'relu'"),
    ({"activation": ["relu", "relu"]}, ValueError, "activation has 2 entries, but there are 1"),
    ({"dropout": 1.0}, ValueError, "dropout must be at least 0 and below 1"),
    ({"solver": "adm"}, ValueError, "did you mean 'adam'"),
    ({"solver": 3}, TypeError, "optimizer must be a name or an object"),
    ({"learning_rate": "inverse"}, ValueError, "unknown learning_rate"),
    ({"learning_rate_init": 0}, ValueError, "learning_rate_init must be finite and > 0"),
    ({"momentum": 1.0, "solver": "sgd"}, ValueError, "momentum must be"),
    ({"max_iter": 0}, ValueError, "max_iter must be >= 1"),
    ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change must be >= 1"),
    ({"tol": -1}, ValueError, "tol must be"),
    ({"validation_fraction": 1.0}, ValueError, "validation_fraction must be"),
    ({"early_stopping": "yes"}, TypeError, "early_stopping must be True or False"),
    ({"shuffle": None}, TypeError, "shuffle must be True or False"),
    ({"loss": "squared"}, ValueError, "unknown loss 'squared'"),
    ({"loss": bpcore.BinaryCrossEntropy(from_logits=True)}, ValueError, "takes logits"),
    ({"loss": bpcore.Poisson(from_log=True)}, ValueError, "or logs"),
    ({"dtype": "int32"}, TypeError, "dtype must be float32 or float64"),
    ({"solver": "lbfgs", "dropout": 0.1}, ValueError, "dropout has no meaning"),
    ({"solver": "lbfgs", "callbacks": [print]}, ValueError, "callbacks has no meaning"),
]


@pytest.mark.parametrize("parameters, error, text", BAD, ids=[str(row[0]) for row in BAD])
@BOTH
def test_bad_parameters(kind, parameters, error, text):
    model = kind(**QUICK).fit(IRIS, SPECIES)
    before = vars(model).copy()
    after = kind(**QUICK | parameters)
    vars(after).update({k: v for k, v in before.items() if k not in after.get_params()})
    expected = vars(after).copy()
    with pytest.raises(error, match=text):
        after.fit(IRIS, SPECIES)
    assert vars(after) == expected


@BOTH
def test_bad_data(kind):
    model = kind(**QUICK)
    for weight in (-np.ones(150), np.zeros(150), np.ones(149)):
        with pytest.raises(ValueError, match="weight"):
            model.fit(IRIS, SPECIES, sample_weight=weight)
    for keywords in ({"X_val": IRIS}, {"y_val": SPECIES}, {"sample_weight_val": SPECIES}):
        with pytest.raises(ValueError, match="X_val"):
            model.fit(IRIS, SPECIES, **keywords)
    with pytest.raises(ValueError, match="150 rows, y_val has 149"):
        model.fit(IRIS, SPECIES, X_val=IRIS, y_val=SPECIES[1:])
    assert not hasattr(model, "network_") and not hasattr(model, "coefs_")
    with pytest.raises(AttributeError, match="before it is fitted"):
        model.intercepts_ = []
    model.set_params(hidden_layer_sizes=4, warm_start=True).fit(IRIS, SPECIES)
    with pytest.raises(ValueError, match=r"of widths \[4, 4, \d\]"):
        model.set_params(hidden_layer_sizes=5).fit(IRIS, SPECIES)


def test_classes_must_agree():
    with pytest.raises(ValueError, match="first call"):
        MLPClassifier().partial_fit(IRIS, SPECIES)
    model = MLPClassifier(**QUICK).partial_fit(IRIS, SPECIES, classes=[0, 1, 2, 3])
    with pytest.raises(ValueError, match=r"\[7\]"):
        model.partial_fit(IRIS[:2], [0, 7])
    with pytest.raises(ValueError, match="what the first call was given"):
        model.partial_fit(IRIS, SPECIES, classes=[0, 1, 2])
    assert model.predict_proba(IRIS).shape == (150, 4)


def test_a_loss_in_python():
    custom = bpcore.CustomLoss(lambda p, t: (p - t) ** 2, lambda p, t: 2 * (p - t), name="square")
    settings = {**QUICK, "batch_size": 20}
    model = MLPRegressor(custom, **settings).fit(X, Y)
    same = MLPRegressor("mse", **settings).fit(X, Y)
    np.testing.assert_allclose(model.loss_curve_, same.loss_curve_, rtol=1e-12)
    assert clone(model).fit(X, Y).loss_ == model.loss_


def test_losses_of_a_classifier():
    brier = MLPClassifier(**QUICK | {"max_iter": 100}, loss="mse", batch_size=150, alpha=0.0)
    brier.fit(IRIS, SPECIES)
    squares = (brier.predict_proba(IRIS) - np.eye(3)[SPECIES]) ** 2
    assert brier.network_.loss_value(IRIS, np.eye(3)[SPECIES]) == pytest.approx(squares.mean())
    assert brier.loss_ < brier.loss_curve_[0]
    several = np.eye(3)[SPECIES] + np.eye(3)[0] > 0
    MLPClassifier(**QUICK, loss="bce").fit(IRIS, several)
    with pytest.raises(ValueError, match="sums to 2"):
        MLPClassifier(**QUICK, loss="cross_entropy").fit(IRIS, several)


def test_negative_counts():
    with pytest.raises(ValueError, match="y"):
        MLPRegressor("poisson", **QUICK).fit(X, Y)


def test_interrupted_by_the_user():
    def interrupt(net, epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted by user"):
        model = MLPRegressor(**QUICK, callbacks=[interrupt]).fit(X, Y)
    assert model.n_iter_ == 3 and np.isfinite(model.predict(X)).all()


def test_without_scikit_learn():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import bpcore\n"
        "try: import bpcore.sklearn\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'bpcore[sklearn]'" in done.stdout
    assert sklearn is not bpcore.sklearn


def test_the_page_of_the_docs_runs():
    page = (Path(__file__).parents[1] / "docs" / "scikit-learn.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    exec(compile("\n".join(blocks), "scikit-learn.md", "exec"), {})
