"""One sigmoid layer under a mean squared error, with its history as a table and a plot.

Ten rows of 1,000 features go through sigmoid(x W) to two outputs; 5,000 full-batch steps at
rate 1e-4.

The classic mistake: the loss that is printed is a *mean*, the gradient that is followed is that
of the *sum*, here 20 times as long (10 rows x 2 outputs). The loss falls, so nothing looks
wrong; only the learning rate is not the one written down. In bpcore a gradient is the derivative
of the very number that the loss reports, and `check_gradients` names the factor where somebody's
is not. (The loss falls by little: x W has a standard deviation of 30, where a sigmoid is flat.)
"""

import sys

import numpy as np

import bpcore
from bpcore.functions import sigmoid


def main(plot_path=None):
    """Run the program and return its figures."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((10, 1000))
    y = rng.standard_normal((10, 2))
    weight = rng.standard_normal((1000, 2))

    # The gradient as the original worked it out by hand, beside the loss that it printed.
    p = sigmoid(x @ weight)
    by_hand = 2 * x.T @ ((p - y) * p * (1 - p))
    report = bpcore.check_gradients(lambda w: np.mean((sigmoid(x @ w) - y) ** 2), by_hand, weight)
    print("the gradient by hand:", report.hint)

    dense = bpcore.Dense(1000, 2, weight_init=weight, bias=False)
    net = bpcore.Network([dense, bpcore.Sigmoid()], loss="mse")
    sgd = bpcore.SGD(learning_rate=1e-4)
    history = net.fit(x, y, epochs=5000, batch_size=None, optimizer=sgd)

    table = history.to_frame().rename(columns={"epoch": "step"})[["step", "loss"]]
    print(table)
    if plot_path is not None:
        history.plot().figure.savefig(plot_path)
    return {"table": table, "hint": report.hint}


if __name__ == "__main__":
    main(*sys.argv[1:2])  # `python p1_sigmoid_layer.py loss.png` also saves the plot


# It prints:
# the gradient by hand: factor 20: what was given is 20 times the right gradient
#       step      loss
# 0        0  1.895867
# 1        1  1.895866
# 2        2  1.895865
# 3        3  1.895864
# 4        4  1.895862
# ...    ...       ...
# 4995  4995  1.892249
# 4996  4996  1.892249
# 4997  4997  1.892248
# 4998  4998  1.892247
# 4999  4999  1.892247
#
# [5000 rows x 2 columns]
