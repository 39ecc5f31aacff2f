"""Network: construction, names, views, predictions and single passes."""

import inspect
import itertools

import numpy as np
import pytest
from test_copies import everything, small

import bpcore
from bpcore import Dense, _core

ROWS = 23


@pytest.fixture
def data(rng):
    return rng.normal(size=(ROWS, 4)), rng.normal(size=(ROWS, 3))


# ------------------------------------------------------------------------------------ construction


def test_layers_and_names():
    net = small()
    assert net.names == ("first", "1", "2", "3", "4", "last")
    assert [type(layer).__name__ for layer in net.layers] == [
        "Dense", "LeakyReLU", "Dropout", "Dense", "GELU", "Dense",
    ]  # fmt: skip
    for position, name in enumerate(net.names):
        assert net[name] is net[position] is net.layers[position]
    assert net[-1] is net["last"]
    assert (net.n_in, net.n_out) == (4, 3)
    assert net.dtype == np.float64
    assert (net.l2, net.l1) == (1e-3, 1e-4)
    assert net.optimizer is None and net.history is None and net.metadata == {}
    assert isinstance(net.rng, np.random.Generator)
    assert isinstance(net.loss, bpcore.Huber)
    with pytest.raises(KeyError, match=r"no layer is named 'lst'; there are first, 1, 2, 3, 4, la"):
        net["lst"]
    with pytest.raises(IndexError):
        net[6]


def test_layers_may_be_any_iterable():
    net = bpcore.Network(layer for layer in (Dense(2, 3), ("out", Dense(3, 1))))
    assert net.names == ("0", "out")
    assert bpcore.Network((Dense(2, 3),)).n_out == 3


def test_keywords_and_their_defaults():
    for function in (bpcore.Network, bpcore.mlp):
        parameters = list(inspect.signature(function).parameters.values())[1:]
        assert all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters)
    net = bpcore.Network([Dense(2, 3)])
    assert net.loss.kernel == "mse" and net.dtype == np.float64 and net.l2 == net.l1 == 0.0
    with pytest.raises(TypeError, match="los"):
        bpcore.mlp([2, 3], los="mse")


def test_repr_is_one_line():
    assert repr(bpcore.mlp([4, 5, 3], output="softmax", loss="cross_entropy", dtype="float32")) == (
        "Network(Dense(4, 5), ReLU(), Dense(5, 3), Softmax(), "
        "loss=cross_entropy, float32, 43 parameters)"
    )
    assert repr(small()) == (
        "Network(first=Dense(4, 6), LeakyReLU(slope=0.2), Dropout(0.25), "
        "Dense(6, 5, bias=False), GELU(), last=Dense(5, 3), loss=huber, float64, 78 parameters)"
    )


def test_summary():
    summary = small().summary()
    assert summary.splitlines() == [
        "name   layer                    output  parameters  arrays",
        "first  Dense(4, 6)              6               30  first.weight (4, 6), first.bias (6,)",
        "1      LeakyReLU(slope=0.2)     6                0",
        "2      Dropout(0.25)            6                0",
        "3      Dense(6, 5, bias=False)  5               30  3.weight (6, 5)",
        "4      GELU()                   5                0",
        "last   Dense(5, 3)              3               18  last.weight (5, 3), last.bias (3,)",
        "loss huber, float64, 4 inputs, 78 parameters",
    ]
    assert repr(summary) == str(summary), "a prompt shows it as it prints"


def test_mlp():
    net = bpcore.mlp([4, 5, 6, 3], hidden="tanh", output="sigmoid", loss="bce", dtype="float32")
    types = [type(layer).__name__ for layer in net.layers]
    assert types == ["Dense", "Tanh", "Dense", "Tanh", "Dense", "Sigmoid"]
    assert net.dtype == np.float32 and net.loss.kernel == "bce"
    slope = bpcore.LeakyReLU(slope=0.3)
    net = bpcore.mlp((4, 5, 6, 3), hidden=slope, output=slope, l2=0.5)
    assert [layer.slope for layer in net.layers[1::2]] == [0.3] * 3
    assert len({id(layer) for layer in net.layers}) == 6, "each place has a layer of its own"
    assert net.l2 == 0.5
    assert len(bpcore.mlp([2, 1]).layers) == 1
    assert len(bpcore.mlp([2, 3, 1], hidden="identity").layers) == 3
    assert bpcore.mlp(np.array([2, 3, 1])).n_in == 2


def test_weights_come_from_the_generator():
    assert (small(rng=1).parameters == small(rng=1).parameters).all()
    assert (small(rng=1).parameters != small(rng=2).parameters).any()
    assert (small(rng=None).parameters != small(rng=None).parameters).any()
    rng = np.random.default_rng(5)
    net = bpcore.Network([Dense(2, 3)], rng=rng)
    assert net.rng is rng
    assert (net.parameters[:6] == bpcore.Network([Dense(2, 3)], rng=5).parameters[:6]).all()
    assert (net.parameters != bpcore.Network([Dense(2, 3)], rng=rng).parameters).any()


def test_a_layer_keeps_the_weights_that_it_has():
    looked, given, own = Dense(2, 2), Dense(2, 2, weight_init=np.eye(2)), Dense(2, 2, rng=4)
    looked.weight = [[1, 2], [3, 4]]
    looked.bias[:] = 5
    net = bpcore.Network([looked, given, own], rng=0, dtype="float32")
    np.testing.assert_array_equal(net.parameters[:10], [1, 2, 3, 4, 5, 5, 1, 0, 0, 1])
    same = Dense(2, 2, rng=4).weight.astype("float32")
    np.testing.assert_array_equal(own.weight, same)
    assert all(layer.dtype == np.float32 for layer in net.layers)


def test_a_network_that_came_to_nothing_leaves_its_layers_free():
    first, second = Dense(2, 3), Dense(3, 1)
    bpcore.Network([second])
    with pytest.raises(ValueError, match="already part of a network"):
        bpcore.Network([first, second], rng=0)
    weight = first.weight.copy()
    net = bpcore.Network([first], rng=1)
    np.testing.assert_array_equal(net.parameters[:6], weight.ravel())


# --------------------------------------------------------------------------------- flat parameters


def test_parameters_are_one_array_in_the_order_of_the_layers(dtype):
    net = small(dtype=dtype)
    assert net.parameters.dtype == net.gradients.dtype == dtype
    assert net.parameters.shape == net.gradients.shape == (78,)
    net.parameters[:] = np.arange(78)
    net.gradients[:] = -np.arange(78)
    first, middle, last = net["first"], net[3], net["last"]
    np.testing.assert_array_equal(first.weight, np.arange(24).reshape(4, 6))
    np.testing.assert_array_equal(first.bias, np.arange(24, 30))
    np.testing.assert_array_equal(middle.weight, np.arange(30, 60).reshape(6, 5))
    assert middle.bias is None and middle.grad_bias is None
    np.testing.assert_array_equal(last.grad_weight, -np.arange(60, 75).reshape(5, 3))
    np.testing.assert_array_equal(last.grad_bias, -np.arange(75, 78))


def test_parameters_are_seen_from_everywhere():
    net = small()
    flat = net.parameters
    net["first"].weight[1, 2] = 7
    assert flat[8] == 7
    net["last"].bias = [1, 2, 3]
    np.testing.assert_array_equal(flat[-3:], [1, 2, 3])
    net["first"].weight += 1
    assert flat[8] == 8
    net.parameters = list(range(78))
    assert net.parameters is flat and flat[77] == 77 and net["last"].bias[2] == 77
    net.parameters += 1
    assert net.parameters is flat and net["last"].bias[2] == 78
    flat[8] = -1
    assert net[0].weight[1, 2] == -1
    x = np.ones((1, 4))
    before = net.predict(x)
    flat[-3:] += 10
    np.testing.assert_allclose(net.predict(x) - before, 10)
    net.gradients = np.arange(78)
    assert net["last"].grad_bias[2] == 77


def test_what_is_assigned_is_copied():
    net, values = small(), np.arange(78.0)
    net.parameters = values
    net.gradients = values
    values[:] = -1
    assert net.parameters[5] == net.gradients[5] == 5


def test_parameter_arrays(dtype):
    net = small(dtype=dtype)
    shapes = {
        "first.weight": (4, 6), "first.bias": (6,), "3.weight": (6, 5),
        "last.weight": (5, 3), "last.bias": (3,),
    }  # fmt: skip
    for arrays, flat in (
        (net.parameter_arrays(), net.parameters),
        (net.gradient_arrays(), net.gradients),
    ):
        assert {name: array.shape for name, array in arrays.items()} == shapes
        assert list(arrays) == list(shapes)
        assert all(array.dtype == dtype for array in arrays.values())
        for i, array in enumerate(arrays.values()):
            array[...] = i
        expected = np.repeat(np.arange(5), [np.prod(shape) for shape in shapes.values()])
        np.testing.assert_array_equal(flat, expected)


@pytest.mark.parametrize("name", ["layers", "names", "loss", "dtype", "l2", "l1", "n_in", "n_out"])
def test_what_is_built_in_cannot_be_set(name):
    """Setting it would change what the network says of itself, but not what it computes."""
    net = small()
    before = everything(net)
    with pytest.raises(AttributeError, match=name):
        setattr(net, name, getattr(bpcore.mlp([1, 1], l2=0.5, l1=0.5), name))
    assert everything(net) == before


# --------------------------------------------------------------------------------------- inference


def test_predict(dtype, data, level):
    net = small(dtype=dtype)
    x = data[0].astype(dtype)
    before = everything(net)
    y = net.predict(x)
    assert y.shape == (ROWS, 3) and y.dtype == dtype and type(y) is np.ndarray
    assert y.flags.owndata and y.flags.c_contiguous
    np.testing.assert_array_equal(net(x), y)
    np.testing.assert_array_equal(net.predict(x.tolist()), y)
    assert everything(net) == before


@pytest.mark.parametrize("n_in", [1, 4])
def test_zero_rows(n_in, dtype):
    net = bpcore.Network([Dense(n_in, 3), bpcore.Softmax()], loss="cross_entropy", dtype=dtype)
    for x in (np.empty((0, n_in)), np.empty((0, n_in), int), np.empty((0, n_in), "f4", "F")):
        y = net.predict(x)
        assert y.shape == (0, 3) and y.dtype == dtype
    out = np.empty((0, 3), dtype)
    assert net.predict(np.empty((0, n_in)), out=out) is out
    net.gradients[:] = 9
    assert net.forward(np.empty((0, n_in))).shape == (0, 3)
    assert net.backward(np.empty((0, 3))).shape == (0, n_in)
    assert (net.gradients == 0).all(), "a sum of no rows"


def test_out_may_be_any_plain_array(dtype, data, tmp_path, level):
    net = small(dtype=dtype)
    expected = net.predict(data[0])
    mapped = np.memmap(tmp_path / "y", dtype, "w+", shape=expected.shape)
    room = np.full((3 * ROWS, 3), 9, dtype)
    for out in (np.empty_like(expected), mapped, room[ROWS:-ROWS]):
        assert net.predict(data[0], out=out) is out
        np.testing.assert_array_equal(out, expected)
    assert (room[:ROWS] == 9).all() and (room[-ROWS:] == 9).all()


def overlaps(x, width):
    """Pairs of inputs with the values of `x` and outputs of that width, sharing memory."""
    n, n_in = x.shape

    def pair(start_x, start_out):
        memory = np.zeros(start_x + start_out + n * (n_in + width), x.dtype)
        given = memory[start_x : start_x + x.size].reshape(x.shape)
        given[...] = x
        return given, memory[start_out : start_out + n * width].reshape(n, width)

    yield pair(0, 0)
    yield pair(0, 1)
    yield pair(1, 0)
    yield pair(0, n_in * (n // 2))
    yield pair(width * (n // 2), 0)
    memory = np.zeros((n, n_in + width), x.dtype)  # X lies between the rows of something larger
    memory[:, :n_in] = x
    yield memory[:, :n_in], memory.reshape(-1)[: n * width].reshape(n, width)


@pytest.mark.parametrize("n_out", [2, 4, 9])
@pytest.mark.parametrize("n", [1, 50, 3000])
def test_out_may_overlap_the_inputs(n, n_out, dtype, rng, level):
    """More rows than go through at a time included."""
    net = bpcore.mlp([4, 7, n_out], rng=0, dtype=dtype)
    x = rng.normal(size=(n, 4)).astype(dtype)
    expected = net.predict(x)
    for given, out in overlaps(x, n_out):
        np.testing.assert_array_equal(given, x)
        assert np.shares_memory(given, out)
        net.predict(given, out=out)
        np.testing.assert_array_equal(out, expected)


def test_overlap_is_found_by_where_arrays_begin_and_end(rng):
    memory = np.zeros((9, 8, 7))

    def part():
        """A view of any layout, an empty one and a transposed one included."""
        ends = [sorted(rng.integers(0, n + 1, 2)) for n in memory.shape]
        step = tuple(slice(a, b, rng.integers(1, 4)) for a, b in ends)
        view = memory[step][tuple(slice(None, None, rng.choice([-1, 1])) for _ in ends)]
        return view.transpose(rng.permutation(3))

    found = set()
    for _ in range(3000):
        a, b = part(), part()
        found.add(_core.may_overlap(a, b))
        assert _core.may_overlap(a, b) == np.may_share_memory(a, b)
    assert found == {False, True}


@pytest.mark.parametrize("n", [1, 50])
def test_what_is_plain_is_predicted_at_once(n, dtype, rng):
    """The way for plain arrays leaves all else alone, and gives what the way for others gives."""
    net = bpcore.mlp([4, 7, 4], rng=0, dtype=dtype)
    x = rng.normal(size=(n, 4)).astype(dtype)
    expected = net.predict(np.repeat(x, 2, axis=1)[:, ::2])
    other = np.float32 if dtype == np.float64 else np.float64

    def plain(x, out=None):
        return net._plan.predict_plain(net.parameters, x, out)

    out = np.full((n, 4), 9, dtype)
    assert plain(x, out) is out
    fresh = plain(x)
    assert fresh is not plain(x) and fresh.flags.owndata and fresh.dtype is dtype
    for y in (out, fresh, net.predict(x), net(x)):
        np.testing.assert_array_equal(y, expected)
    out[...] = 9
    unaligned = np.zeros(x.nbytes + 1, "u1")[1:].view(dtype).reshape(x.shape)
    fixed = out.copy()
    fixed.flags.writeable = False
    swapped = x.astype(dtype.newbyteorder())
    for wrong in (
        *(x.tolist(), x[0], x[:0], x[:, :3], x[None], x.view(np.matrix), x.astype(other), swapped),
        *(np.repeat(x, 2, axis=1)[:, ::2], unaligned, np.ma.masked_array(x), None, x.astype(int)),
    ):
        assert plain(wrong) is None and plain(wrong, out) is None
    for wrong in (
        *(x, out[:, :3], out[None], out.view(np.matrix), out.astype(other)),
        *(fixed, unaligned, np.full((n + 1, 4), 9, dtype), out.tolist(), swapped, False),
    ):
        assert plain(x, wrong) is None
    assert (out == 9).all() and (fixed == 9).all() and (unaligned == 0).all()


def test_predict_looks_like_a_method():
    for name in ("predict", "__call__"):
        signature = inspect.signature(getattr(bpcore.Network, name))
        assert list(signature.parameters) == ["self", "X", "out"]
        assert signature.parameters["out"].kind is inspect.Parameter.KEYWORD_ONLY

    class Scaled(bpcore.Network):
        def predict(self, X, *, out=None):
            return 2 * super().predict(X, out=out)

    layer = Dense(1, 1, weight_init=[[3.0]])
    np.testing.assert_array_equal(Scaled([layer]).predict(np.array([[2.0]])), [[12.0]])


# ----------------------------------------------------------------------------------- single passes


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "bce", "cross_entropy_logits"])
def test_forward_and_backward_make_the_gradient(loss, dtype, rng, level):
    """Composed by hand with a loss object: that of loss_and_gradient, at the input too."""
    layers = [Dense(4, 6), bpcore.Tanh(), Dense(6, 3)]
    layers += [bpcore.Sigmoid()] if loss == "bce" else []
    net = bpcore.Network(layers, loss=loss, rng=0, dtype=dtype)
    x, w = rng.normal(size=(ROWS, 4)), rng.uniform(0.1, 2, ROWS)
    y = rng.integers(0, 3, ROWS) if "cross" in loss else rng.uniform(0, 1, (ROWS, 3))
    alone = bpcore.losses.get(loss)
    value, gradient, dx = net.loss_and_gradient(x, y, sample_weight=w, input_gradient=True)
    assert alone.forward(net.forward(x), y, sample_weight=w) == pytest.approx(value, rel=1e-5)
    net.gradients[:] = np.nan
    got = net.backward(alone.backward())
    tolerance = {"rtol": 0, "atol": 40 * np.finfo(dtype).eps}
    np.testing.assert_allclose(net.gradients, gradient, **tolerance)
    np.testing.assert_allclose(got, dx, **tolerance)
    assert got.dtype == dx.dtype == dtype and got.shape == dx.shape == x.shape
    assert np.abs(dx).max() > 1e-3


def test_gradient_at_the_input_is_the_derivative(data, level):
    net = small()
    x, y = data
    _, _, dx = net.loss_and_gradient(x, y, input_gradient=True)
    h = 1e-5
    for row, column in itertools.product(range(0, ROWS, 5), range(4)):
        step = np.zeros_like(x)
        step[row, column] = h
        slope = (net.loss_value(x + step, y) - net.loss_value(x - step, y)) / (2 * h)
        assert slope == pytest.approx(dx[row, column], rel=1e-5, abs=1e-9)


def test_loss_and_gradient(data, dtype):
    net = small(dtype=dtype)
    loss, gradient = net.loss_and_gradient(*data)
    assert type(loss) is float
    assert loss == pytest.approx(net.loss_value(*data), rel=1e-6)
    assert gradient.dtype == dtype and gradient.shape == net.parameters.shape
    np.testing.assert_array_equal(gradient, net.gradients)
    assert not np.shares_memory(gradient, net.gradients)
    kept = gradient.copy()
    again = net.loss_and_gradient(data[0] * 2, data[1])[1]
    np.testing.assert_array_equal(gradient, kept)
    assert (again != kept).any()


def test_dropout_acts_in_training_only(data):
    net = small()
    x, y = data
    state = net.rng.bit_generator.state
    plain = net.predict(x)
    np.testing.assert_array_equal(net.forward(x), plain)
    loss = net.loss_value(x, y)
    assert net.loss_and_gradient(x, y)[0] == loss
    assert net.rng.bit_generator.state == state, "nothing was drawn"
    assert (net.forward(x, training=True) != plain).any()
    assert net.loss_and_gradient(x, y, training=True)[0] != loss
    assert net.rng.bit_generator.state != state
    other = small()
    assert (other.forward(x, training=True) == small().forward(x, training=True)).all()
    assert (other.forward(x, training=True) != small().forward(x, training=True)).any()


def test_backward_follows_the_last_forward(data):
    net = small()
    x, y = data
    net.forward(x)
    net.forward(x[:5])
    dx = net.backward(y[:5])
    assert dx.shape == (5, 4)
    kept = net.gradients.copy()
    np.testing.assert_array_equal(net.backward(y[:5]), dx)
    np.testing.assert_array_equal(net.gradients, kept)
    net.backward(np.zeros((5, net.n_out)))
    penalty = net.gradients.copy()
    net.backward(2 * y[:5])
    np.testing.assert_allclose(
        net.gradients - penalty, 2 * (kept - penalty), rtol=1e-12, atol=1e-14
    )
    net.predict(x), net.loss_and_gradient(x, y)
    np.testing.assert_array_equal(net.backward(y[:5]), dx)
