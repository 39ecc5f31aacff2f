"""LevenbergMarquardt beside Adam, and beside SciPy's `least_squares` with its own differences.

y = sin(3 x) + x / 2 at 200 points on [-2, 2], 1-10-1 tanh, float64, from biases uniform on [-1, 1].
Needs SciPy.
"""

import argparse
import statistics
import time

import numpy as np

import bpcore

X = np.linspace(-2, 2, 200).reshape(-1, 1)
Y = np.sin(3 * X) + X / 2
ADAM_RATES = (0.001, 0.003, 0.01, 0.03)


def start(seed):
    rng = np.random.default_rng(seed)
    bias = bpcore.initializers.Uniform(low=-1, high=1)
    layers = [
        bpcore.Dense(1, 10, bias_init=bias),
        bpcore.Tanh(),
        bpcore.Dense(10, 1, bias_init=bias),
    ]
    return bpcore.Network(layers, rng=rng)


def fitted(seed, **arguments):
    net = start(seed)
    began = time.perf_counter()
    net.fit(X, Y, batch_size=None, health=False, **arguments)
    return time.perf_counter() - began, net.loss_value(X, Y)


def scipy_fit(seed, n_evaluations):
    from scipy.optimize import least_squares

    net = start(seed)

    def errors(parameters):
        net.parameters[...] = parameters
        return (net.predict(X) - Y).ravel()

    began = time.perf_counter()
    options = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    result = least_squares(
        errors, net.parameters.copy(), method="lm", max_nfev=n_evaluations, **options
    )
    return time.perf_counter() - began, float(np.mean(result.fun**2))


def scipy_to(seed, loss):
    """Seconds that SciPy takes to a loss no larger, by the least number of evaluations."""
    low, high = 1, 2
    while scipy_fit(seed, high)[1] > loss:
        low, high = high, 2 * high
        if high > 5000:
            return float("nan")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if scipy_fit(seed, middle)[1] <= loss else (middle, high)
    return statistics.median(scipy_fit(seed, high)[0] for _ in range(5))


def adam(rate, starts):
    """The median loss after 5,000 full-batch epochs."""
    optimizers = [bpcore.Adam(learning_rate=rate) for _ in starts]
    pairs = zip(starts, optimizers, strict=True)
    return statistics.median(fitted(seed, epochs=5000, optimizer=each)[1] for seed, each in pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=8)
    starts = range(parser.parse_args().starts)
    runs = [
        [fitted(seed, epochs=100, optimizer=bpcore.LevenbergMarquardt()) for _ in range(5)]
        for seed in starts
    ]
    losses = [five[0][1] for five in runs]
    seconds = [statistics.median(run[0] for run in five) for five in runs]
    loss = statistics.median(losses)
    print(f"100 steps: median loss {loss:.2e}, {1e3 * statistics.median(seconds):.2f} ms")
    best, rate = min((adam(rate, starts), rate) for rate in ADAM_RATES)
    print(
        f"Adam, 5,000 epochs at {rate}: median loss {best:.2e}, {best / loss:,.0f} times as large"
    )
    theirs = [scipy_to(seed, loss) for seed, loss in zip(starts, losses, strict=True)]
    ratios = [ours / other for ours, other in zip(seconds, theirs, strict=True)]
    print(f"SciPy to the same losses: {1e3 * statistics.median(theirs):.2f} ms; ratio of times")
    print(f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
