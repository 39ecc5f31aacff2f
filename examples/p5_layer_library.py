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
    """Make a layer as the original did: parameters standard normal times 0.01."""
    weight, bias = 0.01 * rng.standard_normal((n_in, n_out)), 0.01 * rng.standard_normal(n_out)
    return bpcore.Dense(n_in, n_out, weight_init=weight, bias_init=bias)


def small_mlp(widths, output="sigmoid", loss="mse"):
    """Make a network as the original did: sigmoid hidden units, parameters as above."""
    rng = np.random.default_rng(5)
    net = bpcore.mlp(widths, hidden="sigmoid", output=output, loss=loss, rng=rng)
    net.parameters[:] = 0.01 * rng.standard_normal(net.parameters.size)
    return net


def use_1_rows_and_batch():
    """Show that a row's result does not depend on the rows beside it, to the last bit."""
    linear, sigmoid = small_dense(4, 3, np.random.default_rng(1)), bpcore.Sigmoid()
    rows = np.array([[1.0, 2, 2, 3], [4, 5, 2, 1]])
    singly = [sigmoid.forward(linear.forward(row[np.newaxis])) for row in rows]
    together = sigmoid.forward(linear.forward(rows))
    same = np.array_equal(np.concatenate(singly), together)
    print("1. two rows, singly and as one batch, have the same bits:", same)
    return {"same_bits": same}


def use_2_squared_error():
    """Sum the squared error of four rows."""
    prediction = np.tile([0.23, 0.25, 0.33], (4, 1))
    target = np.repeat([[0.25], [0.33], [0.77], [0.80]], 3, axis=1)
    value = bpcore.MeanSquaredError(reduction="sum").forward(prediction, target)
    print(f"2. squared error, summed: {value:.4f}")
    return {"squared_error": value}


def use_3_by_hand():
    """Pass forward and backward through separate layers, down to the gradient at the input."""
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
    """Put the gradient of every weight beside its central difference."""
    x, y = np.array([[2.34, 3.8, 34.44, 5.33]]), np.array([[3.2, 4.2, 5.3]])
    rng = np.random.default_rng(4)
    single = bpcore.Network([small_dense(4, 3, rng), bpcore.Sigmoid()])
    double = small_mlp([4, 5, 3])
    batch = rng.uniform(0, 6, (1000, 4)), rng.uniform(0, 1, (1000, 3))
    reports = {
        "4-3, one row": single.check_gradients(x, y),
        "4-5-3, one row": double.check_gradients(x, y),
        "4-5-3, 1,000 rows": double.check_gradients(*batch),  # a mean: nothing to divide
    }
    print("4. finite differences; the table of 4-3:")
    print(reports["4-3, one row"].to_frame().to_string())
    for name, report in reports.items():
        worst, n = report.worst_error, report.n_checked
        print(f"   {name}: worst relative error {worst:.0e} of {n} entries")
    return {"reports": reports}


WAYS = {  # name: (batch_size, sampling)
    "1 in order": (1, "sequential"),
    "10 in order": (10, "sequential"),
    "1 at random": (1, "replacement"),
    "10 at random": (10, "replacement"),
}
LOSSES = {"squared": bpcore.MeanSquaredError, "absolute": bpcore.MeanAbsoluteError}


def explained(net, x, y):
    """Return the share of each target's variance explained; that of predicting the mean is 0."""
    return 1 - np.mean((net.predict(x) - y) ** 2, axis=0) / np.var(y, axis=0)


def train_all_ways(name, make_network, x, y, rates):
    """Train 400 epochs for each loss and way to batch; print and return what is explained."""
    print(f"   {name:21}" + "".join(f"{way:>18}" for way in WAYS))
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
        parts = [" ".join(f"{share:z.2f}" for share in shares[loss_name, way]) for way in WAYS]
        print(f"   {loss_name + ' error':21}" + "".join(f"{end:>18}" for end in ends))
        print(f"   {'  explained':21}" + "".join(f"{part:>18}" for part in parts))
    return shares


def own_loop_and_fit(x, y):
    """Compare the loop above with `fit`, which runs the same loop in C."""
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


def target_alone(x, y):
    """Return the share of one target that 4-5-1 explains, from each of ten starts."""
    shares = []
    for seed in range(10):
        net = bpcore.mlp([4, 5, 1], hidden="tanh", rng=seed)
        sgd = bpcore.SGD(learning_rate=0.03)
        net.fit(x, y, epochs=400, batch_size=10, optimizer=sgd, sampling="sequential")
        shares.append(explained(net, x, y)[0])
    return shares


def staircase(n, x, y):
    """Train 4-n-1 from n steps side by side, one at each of the first n zeros of sin(6 x1)."""
    net = bpcore.mlp([4, n, 1], hidden="tanh", rng=0)
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
    """Train small networks on three sines, from easy to out of their reach."""
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
    # rate that grows with the batch. The targets compete for five units: sin(x1+x3) always gets
    # its share, the sum does from this start, but from less than half of all starts.
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    make = functools.partial(bpcore.mlp, [4, 5, 3], hidden="tanh", rng=10)
    shares["4-5-3 tanh"] = train_all_ways("4-5-3 tanh, identity", make, z, y, {1: 0.003, 10: 0.03})

    # With all five units for one target, the sum is learnt from nearly every start, too.
    alone = figures["alone"] = np.array([target_alone(z, y[:, [k]]) for k in range(3)])
    print("   each target alone, 4-5-1 tanh, ten starts")
    print("     explained, median", np.median(alone, axis=1).round(2))
    print("     explained, best  ", alone.max(axis=1).round(2))

    # sin(6 x1) has eleven zeros inside [0, 6), and a tanh unit passes through one. Five units that
    # start in the right place follow five of them, eleven follow all; from Glorot weights, which
    # are far flatter, no unit finds its place.
    figures["staircase"] = {n: staircase(n, x, y[:, [1]]) for n in (5, 11)}
    return figures


def main():
    """Run the program and return its figures."""
    return (
        use_1_rows_and_batch()
        | use_2_squared_error()
        | use_3_by_hand()
        | use_4_gradient_tables()
        | use_5_three_sines()
    )


if __name__ == "__main__":
    main()


# It prints:
# 1. two rows, singly and as one batch, have the same bits: True
# 2. squared error, summed: 1.6271
# 3. by hand: loss 1.9737; gradient at the input, checked (True):
# [[ 0.01148  0.00991  0.02057  0.00863]
#  [ 0.00184  0.01392  0.00971 -0.00217]]
#    tanh of -1000 and 1000: [-1.  1.]
# 4. finite differences; the table of 4-3:
#        array   index   analytic    numeric  error_estimate  relative_error verdict
# 0   0.weight  (0, 0)  -1.061862  -1.061862    5.744096e-09    7.029095e-10   right
# 1   0.weight  (0, 1)  -1.442766  -1.442766    2.949436e-08    1.761367e-10   right
# 2   0.weight  (0, 2)  -1.822604  -1.822604    3.339127e-09    6.738598e-11   right
# 3   0.weight  (1, 0)  -1.724392  -1.724392    6.442890e-09    1.355098e-10   right
# 4   0.weight  (1, 1)  -2.342953  -2.342953    2.873940e-09    3.740848e-11   right
# 5   0.weight  (1, 2)  -2.959785  -2.959785    9.934855e-08    2.364127e-09   right
# 6   0.weight  (2, 0) -15.628437 -15.628437    2.251455e-08    2.652003e-11   right
# 7   0.weight  (2, 1) -21.234557 -21.234557    2.484678e-08    9.301394e-11   right
# 8   0.weight  (2, 2) -26.824998 -26.824998    1.088342e-07    1.441812e-11   right
# 9   0.weight  (3, 0)  -2.418687  -2.418687    3.042723e-08    5.402396e-11   right
# 10  0.weight  (3, 1)  -3.286300  -3.286300    2.856538e-08    6.222221e-10   right
# 11  0.weight  (3, 2)  -4.151488  -4.151488    3.224833e-09    7.050187e-11   right
# 12    0.bias    (0,)  -0.453787  -0.453787    1.288442e-08    1.223710e-09   right
# 13    0.bias    (1,)  -0.616567  -0.616567    1.195345e-08    3.195587e-09   right
# 14    0.bias    (2,)  -0.778891  -0.778891    3.104992e-09    6.198881e-10   right
# 15     input  (0, 0)  -0.008924  -0.008924    2.517260e-11    2.255573e-11   right
# 16     input  (0, 1)   0.007170   0.007170    1.258550e-11    6.228673e-11   right
# 17     input  (0, 2)   0.014439   0.014439    4.848175e-11    1.234602e-11   right
# 18     input  (0, 3)  -0.014821  -0.014821    1.305048e-11    1.299192e-11   right
#    4-3, one row: worst relative error 3e-09 of 19 entries
#    4-5-3, one row: worst relative error 1e-07 of 47 entries
#    4-5-3, 1,000 rows: worst relative error 1e-06 of 297 entries
# 5. sin(x0+x1+x2+x3), sin(6 x1), sin(x1+x3): 4-3 sigmoid, a loop of one's own
#    epoch   0  loss 1.9959
#    epoch 100  loss 1.4892
#    epoch 200  loss 1.4832
#    epoch 300  loss 1.4768
#    epoch 399  loss 1.4691; fit's weights differ by 0e+00
#    4-3 sigmoid                  1 in order       10 in order       1 at random      10 at random
#    squared error            1.636 -> 1.435    1.979 -> 1.469    1.612 -> 1.459    1.950 -> 1.491
#      explained              0.00 0.03 0.09    0.00 0.02 0.03    0.00 0.03 0.09    0.00 0.02 0.03
#    absolute error           1.986 -> 1.848    2.100 -> 1.884    1.966 -> 1.869    2.089 -> 1.906
#      explained             -0.01 0.03 0.09   -0.01 0.01 0.02    0.00 0.03 0.09   -0.01 0.01 0.02
#    4-3 relu                     1 in order       10 in order       1 at random      10 at random
#    squared error            1.494 -> 1.494    1.495 -> 1.468    1.463 -> 1.509    1.463 -> 1.491
#      explained              0.00 0.00 0.00    0.00 0.05 0.00    0.00 0.00 0.00    0.00 0.05 0.00
#    absolute error           1.907 -> 1.877    1.905 -> 1.891    1.874 -> 1.902    1.874 -> 1.904
#      explained              0.00 0.06 0.00    0.00 0.03 0.00    0.00 0.06 0.00    0.00 0.04 0.00
#    4-3 tanh                     1 in order       10 in order       1 at random      10 at random
#    squared error            1.571 -> 1.569    1.504 -> 1.493    1.527 -> 1.580    1.472 -> 1.511
#      explained           -0.04 -0.02 -0.02    0.00 0.01 0.00  -0.01 -0.01 0.00   -0.01 0.01 0.00
#    absolute error           1.946 -> 1.938    1.909 -> 1.896    1.896 -> 1.946    1.877 -> 1.918
#      explained           -0.01 -0.06 -0.13  -0.01 -0.01 0.00 -0.05 -0.05 -0.03   -0.03 0.00 0.00
#    4-5-3 sigmoid                1 in order       10 in order       1 at random      10 at random
#    squared error            1.628 -> 1.429    2.057 -> 1.493    1.594 -> 1.447    2.006 -> 1.503
#      explained              0.00 0.00 0.12    0.00 0.00 0.00    0.00 0.01 0.12    0.00 0.00 0.00
#    absolute error           2.002 -> 1.815    2.119 -> 1.900    1.972 -> 1.835    2.094 -> 1.913
#      explained              0.00 0.03 0.13    0.00 0.00 0.00    0.00 0.05 0.13    0.00 0.00 0.00
#    4-5-3 tanh, identity         1 in order       10 in order       1 at random      10 at random
#    squared error            1.675 -> 0.694    1.679 -> 0.713    1.628 -> 0.721    1.633 -> 0.737
#      explained              0.68 0.01 0.94    0.69 0.01 0.89    0.67 0.00 0.92    0.64 0.00 0.91
#    absolute error           2.064 -> 1.121    2.064 -> 1.156    2.015 -> 1.127    2.016 -> 1.154
#      explained             0.55 -0.01 0.91    0.55 0.00 0.87   0.55 -0.01 0.92   0.56 -0.01 0.90
#    each target alone, 4-5-1 tanh, ten starts
#      explained, median [0.72 0.04 0.99]
#      explained, best   [0.98 0.05 0.99]
#    sin(6 x1) alone, 4-5-1, from 5 steps side by side: explained 0.41
#    sin(6 x1) alone, 4-11-1, from 11 steps side by side: explained 0.99
