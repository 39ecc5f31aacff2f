"""scikit-learn's own tests of its multi-layer perceptrons, run on bpcore's.

Its test module is imported with the classes swapped, and its tests become those of this one.
"""

import importlib
import sys

import pytest
import sklearn.neural_network
from threadpoolctl import threadpool_limits

from bpcore.sklearn import MLPClassifier, MLPRegressor

NAME = "sklearn.neural_network.tests.test_mlp"

PRIVATE = {
    "test_fit": "writes _coef_grads, _coef_velocity and others before the first fit",
    "test_gradient": "calls _loss_grad_lbfgs; here network_.check_gradients does what it does",
}

# They do not mind warnings; these are the ones that they cause. A verbose one has two hidden units,
# which are dead from the start for some of its random weights.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::bpcore.DeadUnitsWarning"),
]


def swapped():
    """scikit-learn's test module, with bpcore's classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.neural_network, "MLPClassifier", MLPClassifier)
        patch.setattr(sklearn.neural_network, "MLPRegressor", MLPRegressor)
        patch.delitem(sys.modules, NAME, raising=False)
        return importlib.import_module(NAME)


theirs = swapped()
tests = {name: value for name, value in vars(theirs).items() if name.startswith("test_")}
globals().update({name: value for name, value in tests.items() if name not in PRIVATE})


@pytest.fixture(autouse=True, scope="module")
def one_thread_for_blas():
    """SciPy's L-BFGS works on short vectors, for which others' threads are waited for in vain."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture
def global_random_seed():
    return 42


def test_the_classes_are_swapped():
    assert (theirs.MLPClassifier, theirs.MLPRegressor) == (MLPClassifier, MLPRegressor)
    assert sklearn.neural_network.MLPClassifier is not MLPClassifier
    assert tests.keys() > PRIVATE.keys()
    assert len(tests) >= 40
