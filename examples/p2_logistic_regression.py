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
    """Run the program and return its figures."""
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
    print("gradient: bpcore     ", gradient.ravel().round(4))
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


# It prints:
# gradient: bpcore      [ 4.2561  3.2303  7.0025  0.3822 -2.1347]
#           X^T (p - y) [ 4.2561  3.2303  7.0025  0.3822 -2.1347]
#           original    [ 0.8747  0.6928  1.4348  0.0514 -0.4238]
# before one step [0.999792 0.997709 0.999648 0.995982 0.451118 0.903594 0.952042 0.978657]
# after one step  [0.999792 0.997707 0.999648 0.995979 0.451053 0.903569 0.952028 0.978651]
# epoch 100/500  loss 9.73766
# epoch 200/500  loss 9.64563
# epoch 300/500  loss 9.55427
# epoch 400/500  loss 9.46359
# epoch 500/500  loss 9.37359
# 8 of 8 right after 30726 more steps, loss 1.655
