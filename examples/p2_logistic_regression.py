"""Logistic regression on eight rows: log loss, summed, with a very small learning rate.

Shows the probabilities before and after one step, 500 steps with a line every 100, and how many
more steps it takes until all eight rows are on the right side.

The classic mistake: p - y already *is* the gradient of the log loss at the pre-activation,
because the sigmoid's own derivative cancels. The original multiplied it by sigmoid'(p - y). That
still leads downhill, only slower and askew, so the loss falls and nothing tells you.
"""

import numpy as np

import bpcore
from bpcore.functions import sigmoid


def main():
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.uniform(2, 7, (4, 5)), rng.uniform(-2, 3, (4, 5))])
    y = np.repeat([[1.0], [0.0]], 4, axis=0)
    w, b = rng.standard_normal((5, 1)), rng.standard_normal(1)

    dense = bpcore.Dense(5, 1, weight_init=w, bias_init=b)
    loss = bpcore.BinaryCrossEntropy(reduction="sum")
    net = bpcore.Network([dense, bpcore.Sigmoid()], loss=loss)
    sgd = bpcore.SGD(learning_rate=1e-5)

    p = net.predict(x)
    net.loss_and_gradient(x, y)
    gradient = dense.grad_weight.copy()
    slope = sigmoid(p - y) * (1 - sigmoid(p - y))  # the factor too many
    print("gradient, bpcore    ", gradient.ravel().round(4))
    print("          X^T (p - y)", (x.T @ (p - y)).ravel().round(4))
    print("          original   ", (x.T @ ((p - y) * slope)).ravel().round(4))

    sgd.step(net)
    after = net.predict(x)
    print("before one step", p.ravel().round(6))
    print("after one step ", after.ravel().round(6))

    first = net.fit(x, y, epochs=500, batch_size=None, optimizer=sgd, verbose=1, print_every=100)

    def all_right(net, epoch, logs):
        return bool(((net.predict(x) > 0.5) == y).all())

    # Without an optimizer fit goes on with the last one; a callback that returns True ends it.
    more = net.fit(x, y, epochs=200_000, batch_size=None, callbacks=[all_right])
    right = int(((net.predict(x) > 0.5) == y).sum())
    print(f"{right} of 8 right after {len(more)} more steps, loss {net.loss_value(x, y):.3f}")

    return {
        "rows": x,
        "labels": y,
        "before": p,
        "after": after,
        "gradient": gradient,
        "losses": first["loss"],
        "right": right,
    }


if __name__ == "__main__":
    main()
