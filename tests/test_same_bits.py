"""The same bits: on every level with fma, whatever the batch, the layout and the threads."""

import copy
import itertools

import cases
import numpy as np
import pytest
from agreement import activation, loss_object

import bpcore
from bpcore import Dense, _core

FMA_LEVELS = [name for name in bpcore.simd_levels() if name != "generic"]
NETWORKS = {  # widths, hidden activation, head
    "4-5-3": ((4, 5, 3), "sigmoid", cases.Head(("sigmoid",), "mse")),
    "1-1-1": ((1, 1, 1), "tanh", cases.Head((), "mae")),
    "17-33-9": ((17, 33, 9), "gelu", cases.Head(("softmax",), "cross_entropy")),
    "65-64-10": ((65, 64, 10), "silu", cases.Head((), "cross_entropy_logits")),
    "8-16-16-1": ((8, 16, 16, 1), "relu", cases.Head(("sigmoid",), "bce")),
    "5-130-2": ((5, 130, 2), "softplus", cases.Head((), "huber")),
    "1000-2": ((1000, 2), "tanh", cases.Head(("sigmoid",), "mse")),
    "300-100-10": ((300, 100, 10), "elu", cases.Head(("softmax",), "cross_entropy")),
    "3-7-7-3": ((3, 7, 7, 3), "softmax", cases.Head(("softmax", "identity"), "cross_entropy")),
    "6-6-6 unfused": ((6, 6, 6), "gelu_tanh", cases.Head(("sigmoid", "identity"), "bce")),
}
# Every activation, each hidden and last.
NETWORKS |= {name: ((5, 35, 3), name, cases.Head((name,), "mse")) for name in cases.ACTIVATIONS}
SMALL = ["4-5-3", "17-33-9", "8-16-16-1"]
OPTIMIZERS = {
    "sgd": lambda: bpcore.SGD(learning_rate=0.05),
    "momentum": lambda: bpcore.SGD(learning_rate=0.01, momentum=0.9),
    "nesterov": lambda: bpcore.SGD(learning_rate=0.01, momentum=0.9, nesterov=True),
    "rmsprop": lambda: bpcore.RMSProp(),
    "adam": lambda: bpcore.Adam(),
    "adamw": lambda: bpcore.AdamW(),
    "rprop": lambda: bpcore.Rprop(),
}


def build(name, dtype, dropout=False, **keywords):
    widths, hidden, head = NETWORKS[name]
    layers = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [Dense(n_in, n_out, bias_init="normal"), activation(hidden)]
        layers += [bpcore.Dropout(0.3)] if dropout else []
    layers = layers[: -2 if dropout else -1] + [activation(a) for a in head.activations]
    net = bpcore.Network(layers, loss=loss_object(head.loss), dtype=dtype, rng=7, **keywords)
    net.parameters *= 0.25 if hidden == "exp" else 1  # an exponential of another soon diverges
    return net


def data(name, n, dtype, seed=5):
    widths, _, head = NETWORKS[name]
    rng = np.random.default_rng(seed)
    return (
        cases.inputs(rng, n, widths[0], dtype),
        cases.targets(rng, head.loss, n, widths[-1], dtype),
        rng.uniform(0.1, 2, n).astype(dtype),
    )


def bits(*values):
    """Bytes of arrays and floats, to compare."""
    return [np.asarray(v).tobytes() for v in values]


def assert_same(results, what=""):
    """All of the dict's values are the same lists of bytes."""
    (first, expected), *others = results.items()
    for name, got in others:
        differing = [i for i, (a, b) in enumerate(zip(got, expected, strict=True)) if a != b]
        assert not differing, f"{what}: {first} and {name} differ in results {differing}"


def at_each(names, use, f):
    """f() with use(name) before, for each name."""
    results = {}
    for name in names:
        use(name)
        results[name] = f()
    return results


@pytest.fixture
def use_level():
    before = bpcore.simd_level()
    yield _core.set_simd_level
    _core.set_simd_level(before)


@pytest.fixture
def use_threads():
    before = bpcore.get_num_threads()
    yield bpcore.set_num_threads
    bpcore.set_num_threads(before)


def all_results(name, dtype):
    """Everything a network computes, for batches of all sizes."""
    out, net = [], build(name, dtype, l2=0.1, l1=0.01)
    for n in cases.ROWS:
        x, y, w = data(name, n, dtype)
        out += bits(net.predict(x), net.loss_value(x, y, sample_weight=w))
        out += bits(*net.loss_and_gradient(x, y, sample_weight=w, input_gradient=True))
        dy = net.forward(x)
        out += bits(net.backward(dy), net.gradients)
    return out


def trained(name, dtype, optimizer, batch_size, **keywords):
    """With weights of rows, and without, which may be done in other loops."""
    x, y, w = data(name, 61, dtype)
    settings = {"epochs": 4, "batch_size": batch_size}
    out = []
    for weight in (w, None):
        net = build(name, dtype, **keywords)
        history = net.fit(x, y, optimizer=OPTIMIZERS[optimizer](), sample_weight=weight, **settings)
        out += bits(net.parameters, net.gradients, *history["loss"], net.rng.random(3))
    return out


def test_machine_levels():
    """The best level is in use unless BPCORE_SIMD says otherwise; generic is always there."""
    assert bpcore.simd_levels()[0] == "generic" and bpcore.simd_level() in bpcore.simd_levels()


@pytest.mark.skipif(len(FMA_LEVELS) < 2, reason="one level with fma on this machine")
@pytest.mark.parametrize("name", NETWORKS)
def test_levels_compute_the_same(name, dtype, use_level):
    assert_same(at_each(FMA_LEVELS, use_level, lambda: all_results(name, dtype)), name)


@pytest.mark.skipif(len(FMA_LEVELS) < 2, reason="one level with fma on this machine")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_levels_train_the_same(name, optimizer, dtype, use_level):
    for batch_size in (1, 7, None):
        results = at_each(
            FMA_LEVELS, use_level, lambda b=batch_size: trained(name, dtype, optimizer, b)
        )
        assert_same(results, f"batches of {batch_size}")


@pytest.mark.skipif(len(FMA_LEVELS) < 2, reason="one level with fma on this machine")
@pytest.mark.parametrize("keywords", [{"dropout": True}, {"l2": 0.1, "l1": 0.01}], ids=str)
def test_levels_train_the_same_with(keywords, dtype, use_level):
    for name in SMALL:
        results = at_each(
            FMA_LEVELS, use_level, lambda n=name: trained(n, dtype, "adam", 7, **keywords)
        )
        assert_same(results, name)


@pytest.mark.parametrize("name", NETWORKS)
def test_threads_change_nothing(name, dtype, level, use_threads):
    results = at_each([1, 2, 3], use_threads, lambda: all_results(name, dtype))
    assert_same(results, f"{name}: threads")
    results = at_each([1, 2, 3], use_threads, lambda: trained(name, dtype, "adam", 7))
    assert_same(results, f"{name}: threads")


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_do_not_depend_on_their_batch(name, dtype, level):
    net = build(name, dtype)
    x, _, _ = data(name, 300, dtype)
    whole = net.predict(x)
    rng = np.random.default_rng(1)
    for n in (1, 2, 3, 5, 7, 8, 13, 16, 31, 64, 129, 299):
        start = rng.integers(0, 300 - n + 1)
        got = net.predict(x[start : start + n])
        assert bits(got) == bits(whole[start : start + n]), f"{n} rows from {start}"
    order = rng.permutation(300)
    assert bits(net.predict(x[order])) == bits(whole[order])
    single = np.concatenate([net.predict(row[None]) for row in x])
    assert bits(single) == bits(whole)
    assert bits(net.forward(x)) == bits(net(x)) == bits(whole)


def memmapped(a, folder):
    path = folder / f"{a.ndim}-{a.size}.bin"
    a.tofile(path)
    return np.memmap(path, a.dtype, "r", shape=a.shape)


def unaligned(a, folder):
    memory = np.zeros(a.nbytes + 1, np.uint8)
    view = memory[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned
    return view


def strided(a, folder):
    other = np.nan if a.dtype.kind == "f" else 99
    wide = np.full([2 * n + 1 for n in a.shape], other, a.dtype)
    view = wide[tuple(slice(1, None, 2) for _ in a.shape)]
    view[...] = a
    return view


def negative(a, folder):
    flip = tuple(slice(None, None, -1) for _ in a.shape)
    return a[flip].copy()[flip]


def read_only(a, folder):
    a = a.copy()
    a.flags.writeable = False
    return a


class Derived(np.ndarray):
    """A subclass, as pandas and friends may hand over."""


LAYOUTS = {
    "Fortran": lambda a, folder: np.asfortranarray(a),
    "strided": strided,
    "negative strides": negative,
    "byte-swapped": lambda a, folder: a.astype(a.dtype.newbyteorder()),
    "byte-swapped and strided": lambda a, folder: strided(a.astype(a.dtype.newbyteorder()), None),
    "read-only": read_only,
    "unaligned": unaligned,
    "memmap": memmapped,
    "a list": lambda a, folder: a.tolist(),
    "a subclass": lambda a, folder: a.view(Derived),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SMALL)
def test_layouts_change_nothing(name, layout, dtype, level, tmp_path):
    for n in (1, 5, 67):
        given = data(name, n, dtype)
        x, y, w = (LAYOUTS[layout](a, tmp_path) for a in given)
        before = copy.deepcopy([x, y, w])
        results = {}
        for which, (a, b, c) in {"C order": given, layout: (x, y, w)}.items():
            net = build(name, dtype)
            out = bits(net.predict(a), net.loss_value(a, b, sample_weight=c))
            out += bits(*net.loss_and_gradient(a, b, sample_weight=c, input_gradient=True))
            out += bits(net.forward(a), net.backward(np.array(net(a))))
            keywords = {"epochs": 3, "batch_size": 4, "optimizer": bpcore.Adam()}
            keywords["validation_data"] = (a, b)
            history = net.fit(a, b, sample_weight=c, **keywords)
            out += bits(net.parameters, *history["loss"], *history["validation_loss"])
            results[which] = out
        assert_same(results, f"{n} rows")
        for a, b in zip((x, y, w), before, strict=True):
            np.testing.assert_array_equal(a, b)  # never written to


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "a list"])
def test_layouts_of_labels_change_nothing(layout, tmp_path):
    x = data("17-33-9", 40, np.float64)[0]
    labels = np.random.default_rng(2).integers(0, 9, 40)
    net, results = build("17-33-9", np.float64), {}
    for which, y in {"C order": labels, layout: LAYOUTS[layout](labels, tmp_path)}.items():
        twin = copy.deepcopy(net)
        out = bits(*twin.loss_and_gradient(x, y))
        twin.fit(x, y, epochs=2, batch_size=7, optimizer=bpcore.SGD())
        results[which] = out + bits(twin.parameters)
    assert_same(results)


@pytest.mark.parametrize("given", [np.float32, np.float64, np.int8, np.uint64, bool, np.float16])
def test_dtypes_are_converted_first(given, dtype, level):
    """Data of another dtype gives what the converted data gives, in fit batch by batch."""
    rng = np.random.default_rng(3)
    for n in (1, 67):
        x, y = rng.uniform(0, 5, (n, 4)).astype(given), rng.uniform(0, 5, (n, 3)).astype(given)
        results = {}
        for which, (a, b) in {"given": (x, y), "same": (x.astype(dtype), y.astype(dtype))}.items():
            net = build("4-5-3", dtype)
            out = bits(net.predict(a), *net.loss_and_gradient(a, b, input_gradient=True))
            out += bits(net.forward(a), net.backward(net(a)))
            net.fit(a, b, epochs=3, batch_size=4, optimizer=bpcore.Adam())
            results[which] = out + bits(net.parameters)
        assert_same(results, f"{n} rows")
        assert net.predict(x).dtype == dtype


def test_what_watches_a_fit_changes_nothing(dtype, level, capsys):
    """Callbacks, printing, validation: the same weights and the same random numbers."""
    x, y, w = data("17-33-9", 61, dtype)
    watched = [
        {},
        {"verbose": 1},
        {"callbacks": [lambda net, epoch, logs: None, bpcore.GradientNorms()]},
        {"validation_data": (x, y)},
        {"validation_data": (x, y, w), "early_stopping": 100},
    ]
    results = {}
    for i, more in enumerate(watched):
        net = build("17-33-9", dtype, dropout=True)
        if "early_stopping" in more:
            more["early_stopping"] = bpcore.EarlyStopping(patience=100, restore_best=False)
        keywords = {"epochs": 5, "batch_size": 7, "optimizer": bpcore.Adam()} | more
        history = net.fit(x, y, sample_weight=w, **keywords)
        results[i] = bits(net.parameters, *history["loss"], net.rng.random(3))
    assert_same(results)
    assert "epoch 5/5" in capsys.readouterr().out


def test_forward_keeps_a_copy(dtype, level):
    """What happens to X and to the results after forward does not matter to backward."""
    net = build("17-33-9", dtype)
    x, _, _ = data("17-33-9", 40, dtype)
    dy = data("17-33-9", 40, dtype, seed=6)[1]
    net.forward(x)
    expected = bits(net.backward(dy), net.gradients)
    given = x.copy()
    y = net.forward(given)
    given[...], y[...] = 9, 9
    net.predict(given)
    net.loss_value(given, dy)
    assert bits(net.backward(dy), net.gradients) == expected
    for layout in LAYOUTS:
        if layout != "memmap":
            net.forward(x)
            assert bits(net.backward(LAYOUTS[layout](dy, None)), net.gradients) == expected, layout


def test_one_row_repeated_without_memory(dtype, level):
    """Stride 0."""
    net = build("17-33-9", dtype)
    row = data("17-33-9", 1, dtype)[0]
    many = np.broadcast_to(row, (100, row.shape[1]))
    assert many.strides[0] == 0
    assert bits(net.predict(many)) == bits(np.repeat(net.predict(row), 100, axis=0))
    y = np.broadcast_to(np.int64(4), 100)
    assert bits(*net.loss_and_gradient(many, y)) == bits(
        *net.loss_and_gradient(many.copy(), y.copy())
    )


def test_where_parameters_lie_changes_nothing(dtype, level):
    """Copies lie at other addresses."""
    net = build("17-33-9", dtype)
    x, y, _ = data("17-33-9", 67, dtype)
    expected = bits(net.predict(x), *net.loss_and_gradient(x, y))
    hold = []
    for i in range(6):
        hold += [copy.deepcopy(net), np.empty(7 + 13 * i)]
        assert bits(hold[-2].predict(x), *hold[-2].loss_and_gradient(x, y)) == expected


def test_predict_out(dtype, level):
    net = build("17-33-9", dtype)
    x, _, _ = data("17-33-9", 67, dtype)
    expected = net.predict(x)
    out = np.full_like(expected, 9)
    assert net.predict(x, out=out) is out
    assert bits(out) == bits(expected)
    for shape in ((66, 9), (67, 8), (9, 67), (67 * 9,)):
        out = np.full(shape, 9, dtype)
        with pytest.raises(ValueError, match="out"):
            net.predict(x, out=out)
        assert (out == 9).all()


@pytest.mark.parametrize("sampling", ["shuffle", "sequential", "replacement"])
@pytest.mark.parametrize("name", SMALL)
def test_weights_of_one_change_nothing(name, sampling, dtype, level):
    """Only the general loop takes weights; without them rows and small batches have their own."""
    x, y, w = data(name, 61, dtype)
    settings = {"epochs": 3, "sampling": sampling, "validation_data": (x, y)}
    for optimizer, batch_size, dropout in itertools.product(OPTIMIZERS, (1, 2, 10, 61), (0, 1)):
        settings |= {"optimizer": OPTIMIZERS[optimizer](), "batch_size": batch_size}
        results = {}
        for weight in (None, np.ones_like(w)):
            net = build(name, dtype, dropout=dropout)
            history = net.fit(x, y, sample_weight=weight, **copy.deepcopy(settings))
            out = bits(net.parameters, net.gradients, net.rng.random(3))
            results[weight is None] = out + bits(*history["loss"], *history["validation_loss"])
        assert_same(results, f"{optimizer}, batches of {batch_size}")


@pytest.mark.parametrize("name", SMALL)
def test_training_twice_gives_the_same(name, dtype, level):
    for optimizer in OPTIMIZERS:
        for batch_size in (1, 7, None):
            a, b = (trained(name, dtype, optimizer, batch_size, dropout=True) for _ in range(2))
            assert a == b
