"""A grid search whose fits run on a Dask cluster: here two processes of this machine.

scikit-learn hands its fits to joblib, and joblib to Dask; with the address of a scheduler in place
of the local cluster the same lines use many machines. Needs Dask and bpcore's extra:
pip install "bpcore[sklearn]" "dask[distributed]"
"""

import warnings

import joblib
from dask.distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bpcore.sklearn import MLPClassifier

GRID = {
    "mlpclassifier__hidden_layer_sizes": [(16,), (64,), (32, 16)],
    "mlpclassifier__alpha": [1e-4, 1.0],
}


def main() -> dict[str, float]:
    """Search, show the table of scores, and return the best."""
    X, y = load_digits(return_X_y=True)
    model = make_pipeline(StandardScaler(), MLPClassifier(max_iter=20, batch_size=32))
    model.set_params(mlpclassifier__random_state=0)
    search = GridSearchCV(model, GRID, cv=3, error_score="raise")
    workers = {"n_workers": 2, "threads_per_worker": 1}
    local = {"host": "127.0.0.1", "dashboard_address": None}
    with LocalCluster(**workers, **local) as cluster, Client(cluster) as client:
        client.run(warnings.simplefilter, "ignore", ConvergenceWarning)
        with joblib.parallel_config(backend="dask"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            search.fit(X, y)
    results = search.cv_results_
    for parameters, score in zip(results["params"], results["mean_test_score"], strict=True):
        layers, alpha = (
            parameters[f"mlpclassifier__{key}"] for key in ("hidden_layer_sizes", "alpha")
        )
        print(f"{layers!s:9} alpha {alpha:<7} accuracy {score:.3f}")
    print(f"best: {search.best_params_}")
    return {"best": search.best_score_}


if __name__ == "__main__":
    main()
