"""A perceptron, then a hidden layer, on four rows of raw measurements.

The features run from 2 to 550. On the raw numbers the sigmoid is saturated before the first
step: it answers exactly 1, its derivative is exactly 0, and no weight ever moves; `fit` warns of
both and names the remedy. Standardised, each feature has mean 0 and deviation 1, and ten steps are
enough for four of four.

Mistakes that this avoids: labels (4,) minus outputs (4, 1), which NumPy broadcasts to (4, 4)
where bpcore takes the labels as (4, 1); z (1 - z) where sigmoid(z) (1 - sigmoid(z)) is meant; a
gradient scaled by the loss instead of the error, and added instead of subtracted; and an output
weight's gradient made from the output instead of the hidden units.
"""

import textwrap
import warnings

import numpy as np

import bpcore

ROWS = np.array([[4, 500, 6], [4, 550, 5.5], [2, 200, 3.5], [2, 250, 4]])
LABELS = np.array([1, 1, 0, 0])


def perceptron():
    """Make three weights to one sigmoid, started where the original started."""
    weight = np.random.RandomState(1).random_sample((3, 1))  # 0.417, 0.720, 0.000114
    dense = bpcore.Dense(3, 1, weight_init=weight, bias=False)
    return bpcore.Network([dense, bpcore.Sigmoid()], loss="mse")


def train(net, x, steps):
    """Train, print what came of it, and return how many rows are right."""
    # The original's loss is twice the mean squared error, its rate 0.5: a rate of 1 on the mean.
    sgd = bpcore.SGD(learning_rate=1.0)
    _, gradient = net.loss_and_gradient(x, LABELS)
    with warnings.catch_warnings(record=True) as caught:  # to print them with the rest
        warnings.simplefilter("always")
        history = net.fit(x, LABELS, epochs=steps, batch_size=None, optimizer=sgd)
    for warning in caught:
        text = f"{warning.category.__name__}: {warning.message}"
        print(textwrap.fill(text, 90, initial_indent="  ", subsequent_indent="    "))
    p = net.predict(x).ravel()
    right = int(((p > 0.5) == LABELS).sum())
    print(f"  largest gradient at the start {np.abs(gradient).max():.4f}")
    print(f"  loss {2 * history['loss'][0]:.4f} -> {2 * net.loss_value(x, LABELS):.4f}")
    print(f"  {right} of 4 right, probabilities {p.round(3)}")
    return right


def main():
    """Run the program and return its figures."""
    standardised = (ROWS - ROWS.mean(axis=0)) / ROWS.std(axis=0)
    print("3-1, raw features, 10 steps")
    raw = train(perceptron(), ROWS, 10)
    print("3-1, standardised features, 10 steps")
    one_unit = train(perceptron(), standardised, 10)
    print("3-4-1, standardised features, 10 steps")
    net = bpcore.mlp([3, 4, 1], hidden="sigmoid", output="sigmoid", rng=1)
    hidden = train(net, standardised, 10)
    return {"raw": raw, "perceptron": one_unit, "hidden": hidden}


if __name__ == "__main__":
    main()


# It prints:
# 3-1, raw features, 10 steps
#   UnscaledInputWarning: 1 of 3 inputs is far from mean 0 and standard deviation 1: column
#     1 (mean 375, standard deviation 152). Standardise each column of X: subtract its mean
#     and divide by its standard deviation, those of the training rows
#   SaturationWarning: 100% of the outputs of layer 1 (Sigmoid) are saturated: where a unit
#     sits on the flat end of its activation hardly any gradient comes through. Standardise
#     the inputs, then start again with a new network, or use a smaller learning_rate
#   largest gradient at the start 0.0000
#   loss 1.0000 -> 1.0000
#   2 of 4 right, probabilities [1. 1. 1. 1.]
# 3-1, standardised features, 10 steps
#   largest gradient at the start 0.0910
#   loss 0.1213 -> 0.0190
#   4 of 4 right, probabilities [0.898 0.913 0.074 0.12 ]
# 3-4-1, standardised features, 10 steps
#   largest gradient at the start 0.0529
#   loss 0.5341 -> 0.3214
#   4 of 4 right, probabilities [0.603 0.618 0.414 0.41 ]
