"""What the estimators do where training, its arguments or its data go wrong."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

import bpcore
from bpcore.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

BOTH = pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
IRIS, SPECIES = load_iris(return_X_y=True)
IRIS = (IRIS - IRIS.mean(0)) / IRIS.std(0)
LETTERS = np.array(list("abc"))[SPECIES]
rng = np.random.default_rng(0)
X = rng.normal(size=(100, 3))
Y = np.sin(X[:, 0]) + X[:, 1]
QUICK = {"hidden_layer_sizes": 4, "max_iter": 10, "random_state": 0}


# ---- class_weight --------------------------------------------------------------------------------


def test_class_weight_by_parts():
    """A batch without the class that has a weight is like any other."""
    weighted = MLPClassifier(**QUICK, shuffle=False, class_weight={"c": 3.0})
    by_rows = MLPClassifier(**QUICK, shuffle=False)
    for rows in (slice(0, 100), slice(50, 150)):
        data = IRIS[rows], LETTERS[rows]
        weighted.partial_fit(*data, classes=list("abc"))
        by_rows.partial_fit(*data, np.where(data[1] == "c", 3.0, 1.0), classes=list("abc"))
    np.testing.assert_array_equal(weighted.network_.parameters, by_rows.network_.parameters)


@pytest.mark.parametrize(
    "weight, error, text",
    [
        ({"c": -1.0}, ValueError, r"class_weight\['c'\] must be finite and >= 0, got -1.0"),
        ({"c": np.nan}, ValueError, r"class_weight\['c'\] must be finite and >= 0, got nan"),
        (dict.fromkeys("abc", 0), ValueError, "class_weight leaves no row a weight above 0"),
        ({"z": 1}, ValueError, "weight for label 'z'; the classes are 'a', 'b', 'c'"),
        ("bal", ValueError, "class_weight must be 'balanced' or a dict, got 'bal'"),
        (3, TypeError, "class_weight must be 'balanced', a dict"),
    ],
    ids=str,
)
def test_bad_class_weights(weight, error, text):
    with pytest.raises(error, match=text):
        MLPClassifier(**QUICK, class_weight=weight).fit(IRIS, LETTERS)
    with pytest.raises(error, match=text):
        MLPClassifier(**QUICK, class_weight=weight).partial_fit(IRIS, LETTERS, classes=list("abc"))


def test_class_weights_of_several_labels():
    several = np.column_stack([SPECIES > 0, SPECIES > 1]).astype(int)
    weights = [{1: 2.0}, {0: 3.0, 1: 1.0}]
    row = np.where(several[:, 0], 2.0, 1.0) * np.where(several[:, 1], 1.0, 3.0)
    weighted = MLPClassifier(**QUICK, class_weight=weights).fit(IRIS, several)
    by_rows = MLPClassifier(**QUICK).fit(IRIS, several, row)
    np.testing.assert_array_equal(weighted.network_.parameters, by_rows.network_.parameters)
    MLPClassifier(**QUICK, class_weight="balanced").fit(IRIS, several)
    with pytest.raises(ValueError, match="a list of a dict for each of the 2"):
        MLPClassifier(**QUICK, class_weight={1: 2.0}).fit(IRIS, several)


# ---- fits that learn nothing ---------------------------------------------------------------------


@BOTH
def test_divergence_in_the_first_epoch_is_no_fit(kind):
    settings = {"solver": "sgd", "learning_rate_init": 1e200, "batch_size": 16}
    model = kind(**QUICK, **settings, early_stopping=True)
    with pytest.raises(ValueError, match=r"non-finite .* epoch 0"):
        model.fit(IRIS, SPECIES)
    assert not hasattr(model, "network_")


def test_divergence_later_keeps_the_best():
    def explode(net, epoch, logs):
        if epoch == 4:
            net.optimizer.learning_rate = 1e200

    settings = {"solver": "sgd", "early_stopping": True, "callbacks": [explode]}
    model = MLPRegressor(**QUICK, **settings)
    with pytest.warns(ConvergenceWarning, match="best validation score are kept"):
        model.fit(X, Y)
    scores = model.validation_scores_
    assert len(scores) == 7 and np.isnan(scores[5:]).all() and np.isfinite(model.predict(X)).all()
    assert model.network_.history.best_epoch == np.nanargmax(scores)


@pytest.mark.parametrize("early_stopping", [True, False])
def test_interrupted_before_anything_was_learnt(early_stopping):
    class Interrupt:
        def on_fit_begin(self, net):
            raise KeyboardInterrupt

    model = MLPRegressor(**QUICK, early_stopping=early_stopping, callbacks=[Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    assert not hasattr(model, "network_")


@BOTH
def test_one_validation_row_is_too_few(kind):
    for early_stopping in (True, False):
        model = kind(**QUICK, early_stopping=early_stopping)
        with pytest.raises(ValueError, match="validation set is too small"):
            model.fit(IRIS, SPECIES, X_val=IRIS[:1], y_val=SPECIES[:1])


class NoScore(MLPRegressor):
    """Whose scores are nan from an epoch on."""

    def _score_of(self, Y, y, weight):
        first = len(self.validation_scores_) == 0 and self.alpha > 0
        return super()._score_of(Y, y, weight) if first else np.nan


def test_scores_that_are_nan_are_no_improvement():
    settings = {**QUICK, "max_iter": 50, "n_iter_no_change": 3, "early_stopping": True}
    model = NoScore(**settings).fit(X, Y)
    assert model.n_iter_ == 5 and np.isfinite(model.best_validation_score_)
    with pytest.raises(ValueError, match="non-finite"):
        NoScore(**settings, alpha=0.0).fit(X, Y)


@BOTH
def test_lbfgs_without_a_finite_loss_is_no_fit(kind):
    model = kind(**QUICK, solver="lbfgs")
    with pytest.raises(ValueError, match="non-finite"):
        model.fit(IRIS * 1e306, SPECIES)
    assert not hasattr(model, "network_")


# ---- the weights that are kept -------------------------------------------------------------------


def test_what_a_checkpoint_saves_at_the_end_is_what_the_estimator_keeps(tmp_path):
    path = tmp_path / "model.safetensors"
    settings = {"early_stopping": True, "learning_rate_init": 0.3, "n_iter_no_change": 4}
    model = MLPRegressor(**QUICK | {"max_iter": 60}, **settings, callbacks=bpcore.Checkpoint(path))
    model.fit(X, Y)
    best = model.network_.history.best_epoch
    assert best == np.argmax(model.validation_scores_) < model.n_iter_ - 1
    np.testing.assert_array_equal(bpcore.load(path).parameters, model.network_.parameters)


def test_ctrl_c_keeps_the_best_weights():
    seen = []

    def interrupt(net, epoch, logs):
        seen.append(net.parameters.copy())
        if epoch == 30:
            raise KeyboardInterrupt

    settings = {"early_stopping": True, "learning_rate_init": 0.3, "n_iter_no_change": 100}
    model = MLPRegressor(**QUICK | {"max_iter": 60}, **settings, callbacks=interrupt)
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(X, Y)
    best = int(np.argmax(model.validation_scores_))
    assert model.network_.history.best_epoch == best < 30
    np.testing.assert_array_equal(model.network_.parameters, seen[best])


def test_the_best_weights_may_be_those_of_an_earlier_fit():
    settings = {"early_stopping": True, "warm_start": True, "solver": "sgd"}
    model = MLPRegressor(**QUICK, **settings).fit(X, Y)
    kept = model.network_.parameters.copy()
    assert model.network_.history.best_epoch is not None
    model.set_params(learning_rate_init=3.0, max_iter=2).fit(X, Y)
    assert model.network_.history.best_epoch is None
    np.testing.assert_array_equal(model.network_.parameters, kept)


def test_a_callback_that_stops_in_the_last_epoch_has_stopped():
    def stop(net, epoch, logs):
        return epoch == 9

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MLPRegressor(**QUICK, callbacks=stop).fit(X, Y)
    assert model.n_iter_ == 10 and model.network_.history.stopped
    with pytest.warns(ConvergenceWarning):
        model = MLPRegressor(**QUICK).fit(X, Y)
    assert not model.network_.history.stopped


# ---- parameters ----------------------------------------------------------------------------------

BAD = [
    ({"momentum": 5}, ValueError, "momentum must be at least 0 and below 1, got 5"),
    ({"beta_1": 9, "solver": "sgd"}, ValueError, "beta_1 must be at least 0 and below 1, got 9"),
    ({"beta_2": 1.0, "solver": "lbfgs"}, ValueError, "beta_2 must be at least 0 and below 1"),
    ({"epsilon": 0, "solver": "sgd"}, ValueError, "epsilon must be finite and > 0, got 0"),
    ({"verbose": "yes"}, TypeError, "verbose must be an integer, got 'yes'"),
    ({"verbose": -1}, ValueError, "verbose must be >= 0, got -1"),
    (
        {"solver": bpcore.SGD(), "learning_rate": "adaptive"},
        ValueError,
        r"learning_rate='adaptive' is for solver='sgd'; the solver SGD\(",
    ),
    (
        {"solver": bpcore.SGD(), "learning_rate": "invscaling"},
        ValueError,
        "a learning rate of its own",
    ),
    ({"loss": "bce_logits"}, ValueError, "takes logits"),
    ({"loss": "poisson_log"}, ValueError, "takes logits, or logs"),
]


@pytest.mark.parametrize("parameters, error, text", BAD, ids=[str(row[0]) for row in BAD])
@BOTH
def test_bad_parameters(kind, parameters, error, text):
    with pytest.raises(error, match=text):
        kind(**QUICK | parameters).fit(IRIS, SPECIES)


@BOTH
def test_the_losses_to_choose_from_can_be_chosen(kind):
    with pytest.raises(ValueError, match="The choices are") as caught:
        kind(loss="none of them").fit(IRIS, SPECIES)
    names = str(caught.value).split("The choices are ")[1].split(", ")
    assert "mae" in names and not [name for name in names if name.endswith(("_logits", "_log"))]


@pytest.mark.parametrize(
    "loss", ["cross_entropy", bpcore.CategoricalCrossEntropy()], ids=["name", "object"]
)
def test_cross_entropy_of_two_classes(loss):
    with pytest.raises(ValueError, match="2 classes have one together: use 'log_loss' or 'bce'"):
        MLPClassifier(**QUICK, loss=loss).fit(IRIS[:100], SPECIES[:100])


def test_lbfgs_refuses_all_that_belongs_to_validation():
    for given in ({"y_val": Y}, {"sample_weight_val": np.ones(100)}):
        with pytest.raises(ValueError, match="X_val has no meaning with solver='lbfgs'"):
            MLPRegressor(**QUICK, solver="lbfgs").fit(X, Y, **given)


# ---- data ----------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_one_number_is_the_weight_of_all_rows(kind, solver):
    given = kind(**QUICK, solver=solver).fit(IRIS, SPECIES, 2.0)
    same = kind(**QUICK, solver=solver).fit(IRIS, SPECIES, np.full(150, 2.0))
    np.testing.assert_array_equal(given.network_.parameters, same.network_.parameters)
    with pytest.raises(ValueError, match="weights must be finite and >= 0"):
        kind(**QUICK).fit(IRIS, SPECIES, -1)


@BOTH
def test_text_and_masks_are_not_numbers(kind):
    model = kind(**QUICK).fit(IRIS, SPECIES)
    masked = np.ma.masked_array(IRIS, IRIS > 1)
    for bad in (IRIS.astype(str), IRIS.astype("S"), IRIS.astype(str).tolist()):
        for call in (model.predict, lambda X: model.fit(X, SPECIES)):
            with pytest.raises(TypeError, match="X must hold real numbers"):
                call(bad)
    with pytest.raises(TypeError, match=r"X is a masked array with \d+ masked values"):
        model.predict(masked)
    with pytest.raises(TypeError, match=r"X is a masked array with \d+ masked values"):
        model.fit(masked, SPECIES)
    with pytest.raises(TypeError, match="X_val"):
        model.fit(IRIS, SPECIES, X_val=masked, y_val=SPECIES)
    whole = np.ma.masked_array(IRIS)
    np.testing.assert_array_equal(model.predict(whole), model.predict(IRIS))
    with pytest.raises(TypeError, match="y is a masked array"):
        model.fit(IRIS, np.ma.masked_array(SPECIES, SPECIES > 1))


def test_text_is_no_target_of_a_regression():
    for numbers in (Y.astype(str), list(Y.astype(str))):
        with pytest.raises(TypeError, match="y must hold real numbers"):
            MLPRegressor(**QUICK).fit(X, numbers)


def test_levenberg_marquardt_says_how_to_go_on_after_an_estimator():
    network = MLPRegressor(**QUICK).fit(X, Y).network_
    with pytest.raises(ValueError, match=r"loss='mse', or solver=LevenbergMarquardt\(\)"):
        network.fit(X, Y, optimizer=bpcore.LevenbergMarquardt())
    network = MLPRegressor("mse", **QUICK).fit(X, Y).network_
    before = network.loss_value(X, Y)
    network.fit(X, Y, optimizer=bpcore.LevenbergMarquardt())
    assert network.loss_value(X, Y) < before


def test_the_history_holds_the_loss_of_the_network():
    """As the page of the docs says, for each loss that has another name there."""
    model = MLPRegressor(**QUICK).fit(X, Y)
    assert model.network_.history["loss"] == model.loss_curve_
    model = MLPRegressor(**QUICK, solver=bpcore.LevenbergMarquardt()).fit(X, Y)
    np.testing.assert_array_equal(model.network_.history["loss"], 2 * np.array(model.loss_curve_))
    counts = np.round(np.exp(Y))
    model = MLPRegressor("poisson", **QUICK).fit(X, counts)
    more = np.array(model.loss_curve_) - model.network_.history["loss"]
    logarithms = np.log(counts, out=np.zeros(100), where=counts > 0)
    np.testing.assert_allclose(more, np.mean(counts * logarithms - counts), rtol=1e-12)


# ---- the quick ways of partial_fit ---------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("n_classes", [2, 3])
def test_plain_arrays_and_lists_are_learnt_alike(kind, n_classes):
    """Lists go through scikit-learn's checks and its `LabelBinarizer`, plain arrays do not."""
    rows = np.isin(SPECIES, range(n_classes))
    labels = (LETTERS if kind is MLPClassifier else SPECIES)[rows]
    data = IRIS[rows], labels
    known = {"classes": np.unique(labels)} if kind is MLPClassifier else {}
    plain, other = kind(**QUICK), kind(**QUICK)
    for _ in range(3):
        plain.partial_fit(*data, **known)
        other.partial_fit(*(part.tolist() for part in data), **known)
    np.testing.assert_array_equal(plain.network_.parameters, other.network_.parameters)


@BOTH
def test_the_quick_way_refuses_what_the_other_does(kind):
    known = {"classes": [0, 1, 2]} if kind is MLPClassifier else {}
    model = kind(**QUICK).partial_fit(IRIS, SPECIES, **known)
    before = model.network_.parameters.copy()
    spoilt = IRIS.copy()
    spoilt[3, 1] = np.nan
    for bad, text in ((spoilt, "NaN"), (IRIS[:, :3], "3 features"), (IRIS[:0], "sample")):
        with pytest.raises(ValueError, match=text):
            model.partial_fit(bad, SPECIES[: len(bad)])
    target = SPECIES.astype(float)
    target[7] = np.inf
    for bad, text in ((target, "infinity"), (SPECIES[1:], "inconsistent numbers")):
        with pytest.raises(ValueError, match=text):
            model.partial_fit(IRIS, bad)
    if kind is MLPClassifier:
        for label in (-1, 3):
            with pytest.raises(ValueError, match=r"y. has classes not in"):
                model.partial_fit(IRIS, np.where(SPECIES == 1, label, SPECIES))
    np.testing.assert_array_equal(model.network_.parameters, before)
