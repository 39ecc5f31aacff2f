"""A search for good settings by Optuna, which ends trials that fall behind after a few epochs.

An estimator takes bpcore's callbacks, so each epoch's score on the validation rows can be reported,
and a trial that is not worth its time stopped in the middle of its fit. Needs Optuna and bpcore's
extra: pip install "bpcore[sklearn]" optuna
"""

import warnings
from collections.abc import Callable

import optuna
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

import bpcore
from bpcore.sklearn import MLPClassifier

EPOCHS = 20


def main(n_trials: int = 15) -> dict[str, float]:
    """Search, show the best trial, and return what was found."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, test_size=400, random_state=0)
    X, X_val, y, y_val = train_test_split(X, y, test_size=400, random_state=0)

    def fitted(trial: optuna.trial.BaseTrial, callback: Callable | None = None) -> MLPClassifier:
        model = MLPClassifier(
            hidden_layer_sizes=trial.suggest_int("units", 2, 64, log=True),
            activation=trial.suggest_categorical("activation", ["relu", "tanh", "gelu"]),
            learning_rate_init=trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True),
            dropout=trial.suggest_float("dropout", 0.0, 0.5),
            batch_size=32,
            max_iter=EPOCHS,
            random_state=0,
            callbacks=callback,
        )
        return model.fit(X, y, X_val=X_val, y_val=y_val)

    def objective(trial: optuna.Trial) -> float:
        def prune(net: bpcore.Network, epoch: int, logs: dict) -> None:
            trial.report(logs["validation_score"], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        return fitted(trial, prune).validation_scores_[-1]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=3)
    sampler = optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # all trials get the same few epochs
        study.optimize(objective, n_trials=n_trials)
        best = fitted(study.best_trial)

    pruned = sum(trial.state is optuna.trial.TrialState.PRUNED for trial in study.trials)
    score = best.score(X_test, y_test)
    print(f"{n_trials} trials, {pruned} of them ended early")
    print(f"best: {study.best_params}")
    print(f"accuracy {study.best_value:.3f} on the validation rows, {score:.3f} on the test rows")
    return {"pruned": pruned, "best": study.best_value, "score": score}


if __name__ == "__main__":
    main()
