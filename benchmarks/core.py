"""Figures of the core beside plain NumPy in one run: medians of interleaved rounds, one thread.

Run as ``python benchmarks/core.py``; digits need scikit-learn.
"""

import statistics
import time

import numpy as np

import bpcore

ROUNDS = 9


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def compare(title, ours, peer, n_ours, n_peer):
    """Print the median time of one update or call of each, and their ratio."""
    rounds = [(seconds(ours) / n_ours, seconds(peer) / n_peer) for _ in range(ROUNDS)]
    mine, theirs = (1e6 * statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"{title:<44} {mine:9.3f} us   numpy {theirs:9.3f} us   ratio {mine / theirs:.4f}")


def one_row_updates(dtype):
    """4-5-3 sigmoid, squared error, one row an update."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(1000, 4)).astype(dtype), rng.uniform(size=(1000, 3)).astype(dtype)
    net = bpcore.mlp([4, 5, 3], hidden="sigmoid", output="sigmoid", rng=0, dtype=dtype)
    W1, b1, W2, b2 = (array.copy() for array in net.parameter_arrays().values())

    def numpy_epoch():
        for i in range(200):
            x, t = X[i : i + 1], y[i : i + 1]
            a = sigmoid(x @ W1 + b1)
            p = sigmoid(a @ W2 + b2)
            d2 = (2 / 3) * (p - t) * p * (1 - p)
            d1 = (d2 @ W2.T) * a * (1 - a)
            W2[...] -= 0.01 * (a.T @ d2)
            b2[...] -= 0.01 * d2[0]
            W1[...] -= 0.01 * (x.T @ d1)
            b1[...] -= 0.01 * d1[0]

    compare(
        f"update 4-5-3 sigmoid, one row, {dtype}",
        lambda: net.fit(X, y, epochs=100, batch_size=1),
        numpy_epoch,
        100_000,
        200,
    )


def one_row_predictions(widths, hidden):
    net = bpcore.mlp(widths, hidden=hidden, dtype="float32", rng=0)
    x = np.ones((1, widths[0]), np.float32)
    arrays = list(net.parameter_arrays().values())
    activate = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0)}[hidden]

    def numpy_predict():
        a = x
        for i in range(0, len(arrays) - 2, 2):
            a = activate(a @ arrays[i] + arrays[i + 1])
        return a @ arrays[-2] + arrays[-1]

    def ours():
        for _ in range(1000):
            net.predict(x)

    def peer():
        for _ in range(1000):
            numpy_predict()

    compare(
        f"predict {'-'.join(map(str, widths))} {hidden}, one row, float32", ours, peer, 1000, 1000
    )


def digits():
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
    order = np.random.default_rng(0).permutation(len(X))
    train, test = order[:1437], order[1437:]
    net = bpcore.mlp([64, 64, 10], output="softmax", loss="cross_entropy", rng=0)
    took = seconds(lambda: net.fit(X[train], y[train], epochs=40, optimizer="adam"))
    accuracy = (net.predict(X[test]).argmax(axis=1) == y[test]).mean()
    rows = f"{len(test)} held-out rows"
    print(f"digits 64-64-10, 40 epochs of Adam: {accuracy:.1%} of {rows} after {took:.2f} s")


if __name__ == "__main__":
    print(f"bpcore {bpcore.__version__}, {bpcore.simd_level()}, numpy {np.__version__}")
    one_row_updates("float64")
    one_row_updates("float32")
    one_row_predictions([64, 64, 64, 10], "tanh")
    one_row_predictions([784, 128, 10], "relu")
    digits()
