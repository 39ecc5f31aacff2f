"""A small library of layers: used alone, composed by hand, checked, trained by one's own loop.

Five uses, a function for each. Mistakes that they avoid: a squared error whose gradient is scaled
by 2N instead of 2 (of a sum) or 2/N (of a mean); an absolute error that reports a mean and
follows the gradient of a sum, and is silent on 0, where it has no derivative (bpcore takes 0); a
cross-entropy scaled by N instead of 1/N; tanh as (e^x - e^-x) / (e^x + e^-x), which overflows;
gradients summed over a batch and divided by hand; and a gradient check with one-sided
differences, where two right digits look like agreement.
"""

import copy
import functools

import numpy as np

import bpcore


class Model(bpcore.Network):
    """A network with a training loop of one's own: two calls make a step, the rest is free."""

    def run(self, x, y, batch_size, epochs, rate, verbose=True, print_step=10, shuffle=False):
        """Train and return the loss of each epoch.

        The rows come in order, or with `shuffle` each batch is drawn at random with replacement.
        """
        optimizer = bpcore.SGD(learning_rate=rate)
        losses = []
        for epoch in range(epochs):
            of_batches = []
            for start in range(0, len(x), batch_size):
                rows = slice(start, start + batch_size)
                if shuffle:
                    rows = self.rng.integers(len(x), size=batch_size)
                loss, _ = self.loss_and_gradient(x[rows], y[rows])
                optimizer.step(self)
                of_batches.append(loss)
            losses.append(np.mean(of_batches))
            if verbose and epoch % print_step == 0:
                print(f"   epoch {epoch:3}  loss {losses[-1]:.4f}")
        return losses


def small_dense(n_in, n_out, rng):
    """Weights and biases standard normal times 0.01."""
    weight, bias = 0.01 * rng.standard_normal((n_in, n_out)), 0.01 * rng.standard_normal(n_out)
    return bpcore.Dense(n_in, n_out, weight_init=weight, bias_init=bias)


def use_1_rows_and_batch():
    """A row's result does not depend on the rows beside it, to the last bit."""
    linear, sigmoid = small_dense(4, 3, np.random.default_rng(1)), bpcore.Sigmoid()
    rows = np.array([[1.0, 2, 2, 3], [4, 5, 2, 1]])
    singly = [sigmoid.forward(linear.forward(row[np.newaxis])) for row in rows]
    together = sigmoid.forward(linear.forward(rows))
    same = np.array_equal(np.concatenate(singly), together)
    print("1. two rows, singly and as one batch, have the same bits:", same)
    return {"same_bits": same}


def use_2_squared_error():
    prediction = np.tile([0.23, 0.25, 0.33], (4, 1))
    target = np.repeat([[0.25], [0.33], [0.77], [0.80]], 3, axis=1)
    value = bpcore.MeanSquaredError(reduction="sum").forward(prediction, target)
    print(f"2. squared error, summed: {value:.4f}")
    return {"squared_error": value}


def use_3_by_hand():
    """Separate layer objects; the last `backward` returns the gradient at the input."""
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 6, (2, 4)), rng.uniform(-1, 1, (2, 3))
    linear, tanh = small_dense(4, 3, rng), bpcore.Tanh()
    loss = bpcore.MeanAbsoluteError(reduction="sum")

    value = loss.forward(tanh.forward(linear.forward(x)), y)
    dx = linear.backward(tanh.backward(loss.backward()))

    def of_input(x):
        return np.abs(np.tanh(x @ linear.weight + linear.bias) - y).sum()

    right = bpcore.check_gradients(of_input, dx, x).ok
    print(f"3. by hand: loss {value:.4f}; gradient at the input, checked ({right}):")
    print(dx.round(5))
    print("   tanh of -1000 and 1000:", tanh.forward(np.array([-1000.0, 1000.0])))
    return {"loss": value, "input_gradient": dx, "input_gradient_ok": right}


def use_4_gradient_tables():
    """Analytic and numeric gradient of every weight, side by side, from central differences."""
    x, y = np.array([[2.34, 3.8, 34.44, 5.33]]), np.array([[3.2, 4.2, 5.3]])
    rng = np.random.default_rng(4)
    single = bpcore.Network([small_dense(4, 3, rng), bpcore.Sigmoid()])
    double = bpcore.mlp([4, 5, 3], hidden="sigmoid", output="sigmoid", rng=rng)
    batch = rng.uniform(0, 6, (1000, 4)), rng.uniform(0, 1, (1000, 3))
    reports = {
        "4-3, one row": single.check_gradients(x, y),
        "4-5-3, one row": double.check_gradients(x, y),
        "4-5-3, 1,000 rows": double.check_gradients(*batch),  # a mean: nothing to divide by hand
    }
    print("4. finite differences; the table of 4-3:")
    print(reports["4-3, one row"].to_frame().to_string())
    for name, report in reports.items():
        print(f"   {name}: worst relative error {report.worst_error:.0e} of {report.n_checked}")
    return {"reports": reports}


WAYS = {  # name: (batch_size, sampling)
    "1 in order": (1, "sequential"),
    "10 in order": (10, "sequential"),
    "1 at random": (1, "replacement"),
    "10 at random": (10, "replacement"),
}
LOSSES = {"squared": bpcore.MeanSquaredError, "absolute": bpcore.MeanAbsoluteError}


def explained(net, x, y):
    """The share of each target's variance that is explained; predicting the mean explains 0."""
    return 1 - np.mean((net.predict(x) - y) ** 2, axis=0) / np.var(y, axis=0)


def small_mlp(widths, output, loss):
    """The original's networks: sigmoid hidden units, parameters standard normal times 0.01."""
    net = bpcore.mlp(widths, hidden="sigmoid", output=output, loss=loss)
    net.parameters[:] = 0.01 * np.random.default_rng(5).standard_normal(net.parameters.size)
    return net


def train_all_ways(name, make_network, x, y, rates):
    """400 epochs for each loss and way to batch; print and return what is explained."""
    print(f"   {name:24}" + "".join(f"{way:>19}" for way in WAYS))
    shares = {}
    for loss_name, loss in LOSSES.items():
        ends = []
        for way, (batch_size, sampling) in WAYS.items():
            net = make_network(loss=loss(reduction="sample_mean"))  # summed over the outputs
            sgd = bpcore.SGD(learning_rate=rates[batch_size])
            history = net.fit(
                x, y, epochs=400, batch_size=batch_size, optimizer=sgd, sampling=sampling
            )
            ends.append(f"{history['loss'][0]:.3f} -> {history['loss'][-1]:.3f}")
            shares[loss_name, way] = explained(net, x, y)
        parts = [" ".join(f"{share:.2f}" for share in shares[loss_name, way]) for way in WAYS]
        print(f"   {loss_name + ' error':24}" + "".join(f"{end:>19}" for end in ends))
        print(f"   {'  explained':24}" + "".join(f"{part:>19}" for part in parts))
    return shares


def own_loop_and_fit(x, y):
    """The loop above, and `fit`, which runs the same loop in C: the same weights in the end."""
    linear = small_dense(4, 3, np.random.default_rng(5))
    layers = [("linear", linear), ("sigmoid", bpcore.Sigmoid())]
    own = Model(layers, loss=bpcore.MeanSquaredError(reduction="sample_mean"))
    in_c = copy.deepcopy(own)
    losses = own.run(x, y, batch_size=10, epochs=400, rate=0.001, print_step=100)
    sgd = bpcore.SGD(learning_rate=0.001)
    in_c.fit(x, y, epochs=400, batch_size=10, optimizer=sgd, sampling="sequential")
    difference = np.abs(own.parameters - in_c.parameters).max()
    print(f"   epoch 399  loss {losses[-1]:.4f}; fit's weights differ by {difference:.0e}")
    return {"losses": losses, "difference": difference}


def staircase(n, x, y):
    """Train 4-n-1 from n steps side by side, one at each of the first n zeros of sin(6 x1)."""
    net = bpcore.mlp([4, n, 1], hidden="tanh")
    steps = net.layers[0]
    net.parameters[:] = 0
    steps.weight[1] = 6
    steps.bias[:] = -np.pi * np.arange(1, n + 1)
    sgd = bpcore.SGD(learning_rate=0.02)
    net.fit(x, y, epochs=400, batch_size=10, optimizer=sgd, sampling="sequential")
    share = explained(net, x, y)[0]
    print(f"   sin(6 x1) alone, 4-{n}-1, from {n} steps side by side: explained {share:.2f}")
    return share


def use_5_three_sines():
    rng = np.random.default_rng(5)
    x = rng.uniform(0, 6, (1000, 4))
    y = np.sin(np.stack([x.sum(axis=1), 6 * x[:, 1], x[:, 1] + x[:, 3]], axis=1))
    print("5. sin(x0+x1+x2+x3), sin(6 x1), sin(x1+x3): 4-3 sigmoid, a loop of one's own")
    figures = own_loop_and_fit(x, y)

    # As it was. An output of 4-3 only rises, or only falls, along one direction. That follows
    # sin(x1+x3) a little, where it rises in the middle of its range; the other two turn too often.
    # A sigmoid or ReLU output besides cannot be negative, and half of every sine is.
    shares = figures["shares"] = {}
    for widths, output, rate in [
        ([4, 3], "sigmoid", 0.001),
        ([4, 3], "relu", 0.001),
        ([4, 3], "tanh", 0.001),
        ([4, 5, 3], "sigmoid", 0.01),
    ]:
        name = f"{'-'.join(map(str, widths))} {output}"
        make = functools.partial(small_mlp, widths, output)
        shares[name] = train_all_ways(name, make, x, y, {1: rate, 10: rate})

    # What 4-5-3 can do: an output without bounds, standardised features, Glorot weights, and a
    # rate that grows with the batch. Five bends do for sin(x1+x3) and most of the first target.
    make = functools.partial(bpcore.mlp, [4, 5, 3], hidden="tanh", rng=5)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    shares["4-5-3 tanh"] = train_all_ways("4-5-3 tanh, identity", make, z, y, {1: 0.005, 10: 0.05})

    # sin(6 x1) has eleven zeros inside [0, 6), and a tanh unit passes through one. Five units that
    # start in the right place follow five of them, eleven follow all; from Glorot weights, which
    # are far flatter, no unit finds its place.
    figures["staircase"] = {n: staircase(n, x, y[:, [1]]) for n in (5, 11)}
    return figures


def main():
    return (
        use_1_rows_and_batch()
        | use_2_squared_error()
        | use_3_by_hand()
        | use_4_gradient_tables()
        | use_5_three_sines()
    )


if __name__ == "__main__":
    main()
