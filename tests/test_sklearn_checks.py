"""scikit-learn's own checks of estimators pass, all of them and as many as its own classes get."""

from collections import Counter

import pytest
import sklearn
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from sklearn.utils.fixes import parse_version

from bpcore.sklearn import MLPClassifier, MLPRegressor

OURS = [MLPClassifier(), MLPRegressor()]


def names(estimator):
    found = estimator_checks_generator(estimator)
    return Counter(getattr(check, "func", check).__name__ for _, check in found)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(OURS)
def test_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "ours, theirs, count",
    [(MLPClassifier(), TheirClassifier(), 67), (MLPRegressor(), TheirRegressor(), 60)],
    ids=["classifier", "regressor"],
)
def test_none_is_left_out(ours, theirs, count):
    checked, expected = names(ours), names(theirs)
    assert not expected - checked
    if parse_version(sklearn.__version__).release[:2] == (1, 9):
        assert sum(expected.values()) == count
