"""A ReLU network 5-4-4-1 learns y = log(X beta + 20), whole batch and one row at a time.

A network that answers with a constant has a squared error equal to the variance of y at best.
So the score here is the error divided by that variance: at 1 nothing is learnt, below 0.1 is a
fit.

Mistakes that this avoids: a hidden layer computed from a pre-activation that is never refreshed,
so it cannot change; a gradient without the factor 2 of the squared error that is reported; the
last prediction broadcast against all targets; and units that are all dead, so that every gradient
is exactly 0. The last is no slip in a formula: y has mean 3 and variance 0.01, and from standard
normal weights the first steps at rate 0.1 are so long that they push ReLUs below zero on every
row, for good. The remedy is the start: weights by He's rule, zero biases, and a target
standardised like any feature. `fit` warns where half of a layer is dead and little is learnt.
"""

import warnings

import numpy as np

import bpcore


def make_rows(n, rng):
    """Draw n rows, each with a finite logarithm."""
    beta = rng.standard_normal((5, 1))
    x = rng.standard_normal((n, 5))
    while (bad := (x @ beta <= -20).ravel()).any():  # no logarithm: draw those rows again
        x[bad] = rng.standard_normal((bad.sum(), 5))
    return x, np.log(x @ beta + 20)


def standardise(a):
    """Shift and scale each column to mean 0 and deviation 1."""
    return (a - a.mean(axis=0)) / a.std(axis=0)


def train(x, y, learning_rate, batch_size=None, start="he", seed=0):
    """501 passes of plain gradient descent; return the network and its history."""
    rng = np.random.default_rng(seed)
    net = bpcore.mlp([5, 4, 4, 1], hidden="relu", rng=rng)  # before a ReLU weights are He's
    if start == "normal":  # the original's: all weights and biases standard normal
        net.parameters[:] = rng.standard_normal(net.parameters.size)
    history = net.fit(
        x,
        y,
        epochs=501,
        batch_size=batch_size,
        optimizer=bpcore.SGD(learning_rate=learning_rate),
        sampling="sequential",
        callbacks=[bpcore.GradientNorms(order=1)],  # sums of absolute values, by layer
    )
    return net, history


def score(net, x, y):
    """Return the squared error over the variance of y."""
    return net.loss_value(x, y) / np.var(y)


def count_dead_units(net, x):
    """Count the hidden units that answer 0 on every row, and so have no gradient any more."""
    dead, h = 0, x
    for layer in net.layers:
        h = layer.forward(h)
        if isinstance(layer, bpcore.ReLU):
            dead += int((h == 0).all(axis=0).sum())
    return dead


def print_every_100(history):
    """Print the loss and the gradient sums of every hundredth step."""
    names = [name for name in history if name.startswith("gradient_norm")]
    print("step      loss" + "".join(f"{name:>18}" for name in names))
    for step in range(0, 501, 100):
        norms = "".join(f"{history[name][step]:18.5f}" for name in names)
        print(f"{step:4} {history['loss'][step]:9.5f}{norms}")


def compare_starts(x, y):
    """Train twenty networks from each start, whole batch, at the original's rate."""
    print("error / variance of y from 20 starts   median    worst  below 0.1  dead of 160  warned")
    scores = {}
    for name, start, target in [
        ("normal weights and biases, y as it is", "normal", y),
        ("He's weights, y as it is", "he", y),
        ("He's weights, y standardised", "he", standardise(y)),
    ]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            nets = [train(x, target, 0.1, start=start, seed=seed)[0] for seed in range(20)]
        warned = sum(warning.category is bpcore.DeadUnitsWarning for warning in caught)
        dead = sum(count_dead_units(net, x) for net in nets)
        scores[name] = s = np.array([score(net, x, target) for net in nets])
        figures = f"{np.median(s):8.4f} {s.max():8.4f} {(s < 0.1).sum():10} {dead:12} {warned:7}"
        print(f"{name:37} {figures}")
    return scores


def main():
    """Run the program and return its figures."""
    rng = np.random.default_rng(0)
    x, y = make_rows(900, rng)
    net, whole = train(x, standardise(y), learning_rate=0.1)
    whole_score = score(net, x, standardise(y))
    print("whole batch, 900 rows")
    print_every_100(whole)
    print(f"error / variance of y: {whole_score:.4f}\n")

    starts = compare_starts(x, y)

    x, y = make_rows(90, rng)
    net, one_row = train(x, standardise(y), learning_rate=0.01, batch_size=1)
    one_row_score = score(net, x, standardise(y))
    print("\none row at a time, 90 rows")
    print_every_100(one_row)
    print(f"error / variance of y: {one_row_score:.4f}")
    return {
        "whole": whole,
        "whole_score": whole_score,
        "one_row": one_row,
        "one_row_score": one_row_score,
        "starts": starts,
    }


if __name__ == "__main__":
    main()


# It prints:
# whole batch, 900 rows
# step      loss   gradient_norm.0   gradient_norm.2   gradient_norm.4
#    0   4.49254          10.13329          21.47278          13.10720
#  100   0.04310           0.23840           0.04619           0.03073
#  200   0.01693           0.09324           0.01899           0.01307
#  300   0.00965           0.05368           0.01754           0.00899
#  400   0.00606           0.03564           0.01557           0.00585
#  500   0.00413           0.02407           0.01081           0.00307
# error / variance of y: 0.0041
#
# error / variance of y from 20 starts   median    worst  below 0.1  dead of 160  warned
# normal weights and biases, y as it is   1.0000   5.1069          0           55      14
# He's weights, y as it is                0.6939   1.6746          0           10       2
# He's weights, y standardised            0.0038   0.0793         20            8       0
#
# one row at a time, 90 rows
# step      loss   gradient_norm.0   gradient_norm.2   gradient_norm.4
#    0   1.30968           0.21832           0.19378           0.29593
#  100   0.00216           0.45523           0.51619           0.63095
#  200   0.00176           0.42108           0.46402           0.55107
#  300   0.00153           0.46037           0.49724           0.57345
#  400   0.00129           0.39488           0.44168           0.54684
#  500   0.00109           0.30117           0.33816           0.42019
# error / variance of y: 0.0010
