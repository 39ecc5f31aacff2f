"""Weights of other libraries, in and out. Arrays here have the shapes and names that those give."""

import itertools

import numpy as np
import pytest
from safetensors.numpy import save_file

import bpcore


def build(widths=(4, 6, 5, 3), dtype="float64", **keywords):
    return bpcore.mlp(widths, hidden="tanh", dtype=dtype, rng=0, **keywords)


def weights_of(widths, names, out_in):
    """Random arrays: a dict of the given names, "{}" being the number of the dense layer."""
    rng, arrays = np.random.default_rng(1), {}
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        weight, bias = rng.normal(size=(n_in, n_out)), rng.normal(size=n_out)
        for name, array in zip(names(i), (weight.T if out_in else weight, bias), strict=True):
            arrays[name] = array
    return arrays


def forward(arrays, x, out_in):
    """The formula, over [weight, bias, weight, bias, ...]."""
    arrays = list(arrays)
    for i in range(0, len(arrays), 2):
        x = x @ (arrays[i].T if out_in else arrays[i]) + arrays[i + 1]
        x = np.tanh(x) if i + 2 < len(arrays) else x
    return x


NAMES = {
    "Sequential": (lambda i: (f"{2 * i}.weight", f"{2 * i}.bias"), True),
    "Module": (lambda i: (f"fc{i}.weight", f"fc{i}.bias"), True),
    "Flatten first": (lambda i: (f"{2 * i + 2}.weight", f"{2 * i + 2}.bias"), True),
    "Keras": (lambda i: (f"sequential/dense_{i}/kernel", f"sequential/dense_{i}/bias"), False),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("widths", [(4, 6, 5, 3), (1, 1), (1, 3, 1), (4, 4, 3), (3, 5, 5, 5, 2)])
@pytest.mark.parametrize("kind", ["dict", "list", "file"])
def test_weights_in(name, widths, kind, dtype, tmp_path):
    """By name, in order, as a list and from a file: what the formula gives."""
    names, out_in = NAMES[name]
    arrays = weights_of(widths, names, out_in)
    x = np.random.default_rng(2).normal(size=(9, widths[0]))
    net = build(widths, dtype)
    given = {"dict": arrays, "list": list(arrays.values()), "file": tmp_path / "w.safetensors"}
    save_file({key: array.copy() for key, array in arrays.items()}, given["file"])
    if kind == "file" and name != "Sequential":
        with pytest.raises(bpcore.ModelFileError, match=r"the arrays are named .*; give a dict"):
            net.load_weights(given["file"])
        return
    net.load_weights(given[kind])
    expected = forward(arrays.values(), x, out_in)
    np.testing.assert_allclose(net.predict(x), expected, rtol=1e3 * np.finfo(dtype).eps, atol=1e-4)
    assert net.parameters.dtype == dtype


def test_names_go_before_order():
    arrays = weights_of((4, 5, 5), lambda i: (f"{2 * i}.weight", f"{2 * i}.bias"), False)
    net, other = build((4, 5, 5)), build((4, 5, 5))
    net.load_weights(arrays)
    other.load_weights(dict(reversed(arrays.items())))
    np.testing.assert_array_equal(net.parameters, other.parameters)
    layers = [("a", bpcore.Dense(2, 2)), ("b", bpcore.Dense(2, 2, bias=False))]
    named = bpcore.Network(layers)
    wanted = {"b.weight": np.eye(2), "a.bias": np.ones(2), "a.weight": np.full((2, 2), 3.0)}
    named.load_weights(wanted, layout="in_out")
    for key, array in wanted.items():
        np.testing.assert_array_equal(named.parameter_arrays()[key], array)


MIXED = {  # what the layers "0", "2", "out" are called -> whether that can only mean one thing
    ("2", "0", "output"): False,
    ("first", "0", "out"): False,
    ("0", "out", "2"): None,  # all are the network's, so they go by name
    ("out", "2", "4"): False,
    ("2", "1", "0"): False,
    ("0", "2", "output"): True,
    ("0", "3", "6"): True,
    ("2", "4", "6"): True,
    ("first", "2", "out"): True,
    ("first", "second", "third"): True,
}


@pytest.mark.parametrize("names", MIXED)
def test_names_of_which_some_are_the_networks(names):
    """Go in order, if no name can mean another array; all shapes here would fit."""
    layers = [bpcore.Dense(3, 3), bpcore.Tanh(), bpcore.Dense(3, 3), bpcore.Tanh()]
    net = bpcore.Network([*layers, ("out", bpcore.Dense(3, 3))], rng=0)
    assert list(net.parameter_arrays())[::2] == ["0.weight", "2.weight", "out.weight"]
    arrays = weights_of((3, 3, 3, 3), lambda i: (f"{names[i]}.weight", f"{names[i]}.bias"), False)
    before = net.parameters.copy()
    if MIXED[names] is False:
        unknown = next(name for name in names if name not in ("0", "2", "out"))
        with pytest.raises(ValueError, match=f"and others: .*'{unknown}.bias'.*give a list"):
            net.load_weights(arrays, layout="in_out")
        np.testing.assert_array_equal(net.parameters, before)
        return
    net.load_weights(arrays, layout="in_out")
    if MIXED[names] is None:
        arrays = {name: arrays[name] for name in net.parameter_arrays()}
    np.testing.assert_array_equal(
        net.parameters, np.concatenate([a.ravel() for a in arrays.values()])
    )


@pytest.mark.parametrize("layout", ["in_out", "out_in"])
@pytest.mark.parametrize("widths", [(4, 6, 3), (4, 4), (1, 1), (5, 5, 5)])
def test_out_and_in_again(layout, widths):
    net, other = build(widths), build(widths)
    other.parameters = np.arange(other.parameters.size)
    before = net.parameters.copy()
    out = net.get_weights(layout=layout)
    for name, view in net.parameter_arrays().items():
        array = out[name]
        np.testing.assert_array_equal(array, view.T if layout == "out_in" else view)
        assert array.flags.c_contiguous and array.flags.writeable
        assert not np.shares_memory(array, net.parameters)
    other.load_weights(out, layout=layout)
    np.testing.assert_array_equal(other.parameters, before)


def test_square_weights():
    """Are as the others say, and alone they need a layout."""
    square = np.arange(16.0).reshape(4, 4)
    for weight, turned in ((np.ones((3, 4)), True), (np.ones((4, 3)), False)):
        net = build((4, 4, 3))
        net.load_weights([square, np.zeros(4), weight, np.zeros(3)])
        np.testing.assert_array_equal(net["0"].weight, square.T if turned else square)
    net, arrays = build((4, 4)), {"0.weight": square, "0.bias": np.zeros(4)}
    with pytest.raises(
        ValueError, match=r"weights\['0.weight'\] is square, .* layout='out_in' for"
    ):
        net.load_weights(arrays)
    for layout in ("in_out", "out_in"):
        net.load_weights(arrays, layout=layout)
        np.testing.assert_array_equal(net["0"].weight, square.T if layout == "out_in" else square)


def test_a_file_of_a_whole_network(tmp_path):
    """Says its layout by itself, though all its weights are square."""
    net, other = build((4, 4, 4)), build((4, 4, 4), "float32")
    net.fit(np.ones((3, 4)), np.ones((3, 4)), optimizer="adam", health=False)
    net.save(tmp_path / "model")
    other.load_weights(str(tmp_path / "model"))
    np.testing.assert_array_equal(other.parameters, net.parameters.astype("float32"))
    assert other.optimizer is None


def test_weights_that_are_the_networks_own():
    net = build((3, 3, 3), "float32")
    first, second = (net[name].weight.copy() for name in ("0", "2"))
    arrays = net.parameter_arrays()
    swapped = [arrays[f"{name}.{kind}"] for name in ("2", "0") for kind in ("weight", "bias")]
    net.load_weights(swapped, layout="in_out")
    np.testing.assert_array_equal(net["0"].weight, second)
    np.testing.assert_array_equal(net["2"].weight, first)


class Tensor:
    """What a tensor of PyTorch is to NumPy."""

    def __init__(self, array, requires_grad=False, dtype=None):
        self.array, self.requires_grad, self.of = array, requires_grad, dtype

    def detach(self):
        return Tensor(self.array, dtype=self.of)

    def __array__(self, dtype=None, copy=None):
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if self.of == "bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array


def test_tensors():
    arrays = weights_of((4, 6, 5, 3), NAMES["Module"][0], True)
    net, other = build(), build()
    other.load_weights(arrays)
    net.load_weights({name: Tensor(array, True) for name, array in arrays.items()})
    np.testing.assert_array_equal(net.parameters, other.parameters)
    half = {name: array.astype(np.float16) for name, array in arrays.items()}
    net.load_weights(half)
    np.testing.assert_array_equal(net["0"].bias, half["fc0.bias"])


GOOD = weights_of((4, 6, 5, 3), NAMES["Module"][0], True)
WRONG = {
    "too few": (dict(list(GOOD.items())[1:]), ValueError, "holds 5 arrays .*fc2.bias.*has 6: 0.w"),
    "too many": ([*GOOD.values(), 1.0], ValueError, r"holds 7 arrays, but the network has 6: 0\."),
    "none": ({}, ValueError, "holds 0 arrays"),
    "a shape": (GOOD | {"fc1.weight": np.ones((5, 7))}, ValueError,
                r"\['fc1.weight'\] has shape \(5, 7\), but 2.weight .* is \(6, 5\) or \(5, 6\)"),
    "a bias": (GOOD | {"fc2.bias": np.ones((3, 1))}, ValueError, r"'fc2.bias'\] has shape \(3, 1"),
    "mixed": (GOOD | {"fc1.weight": np.ones((6, 5))}, ValueError,
              r"'fc1.weight'\] has the shape \(n_in, n_out\) and weights\['fc2.weight'\] \(n_out"),
    "nan": (GOOD | {"fc2.bias": [0, np.nan, 0]}, ValueError, r"'fc2.bias'\] holds nan at \(1,\)"),
    "text": (GOOD | {"fc2.bias": ["a"] * 3}, TypeError, r"weights\['fc2.bias'\] must hold real"),
    "bfloat16": (GOOD | {"fc2.bias": Tensor(np.ones(3), dtype="bfloat16")}, TypeError,
                 r"weights\['fc2.bias'\] .*BFloat16"),
    "an array": (np.ones(10), TypeError, "weights must be a dict of arrays, .* got ndarray"),
    "a network": (build(), TypeError, "got Network"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_all_or_nothing(name):
    weights, error, message = WRONG[name]
    net = build()
    before = net.parameters.copy()
    with pytest.raises(error, match=message):
        net.load_weights(weights)
    np.testing.assert_array_equal(net.parameters, before)


def test_layouts_that_cannot_be():
    net = build()
    with pytest.raises(ValueError, match="unknown layout 'in-out'; did you mean 'in_out'"):
        net.load_weights(GOOD, layout="in-out")
    with pytest.raises(ValueError, match="unknown layout 'auto'"):
        net.get_weights(layout="auto")
    with pytest.raises(ValueError, match=r"'fc0.weight'\] has shape \(6, 4\), .* is \(4, 6\)$"):
        net.load_weights(GOOD, layout="in_out")


def test_too_large_for_the_dtype():
    net = build((1, 1), "float32")
    with pytest.raises(ValueError, match=r"weights\[0\]\[0, 0\] is 1e\+300, beyond the range"):
        net.load_weights([[[1e300]], [0.0]])


def test_files_that_cannot_be(tmp_path):
    net = bpcore.Network([("a", bpcore.Dense(2, 1, bias=False))])
    path = tmp_path / "w.safetensors"
    with pytest.raises(FileNotFoundError):
        net.load_weights(path)
    path.write_bytes(b"not at all a file of tensors")
    with pytest.raises(bpcore.ModelFileError, match=r"w\.safetensors: not a safetensors file"):
        net.load_weights(path)
    save_file({"a.weight": np.ones((2, 1), np.complex64)}, path)
    with pytest.raises(
        bpcore.ModelFileError, match=r"tensor 'a\.weight': dtype 'C64' is none of F32"
    ):
        net.load_weights(path)
    save_file({"a.weight": np.ones((2, 1))}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(bpcore.ModelFileError, match="truncated: expected"):
        net.load_weights(path)
    for shape in (b"[2,-1]", b"[2,1.]", b'"2,1"'):
        path.write_bytes(whole.replace(b"[2,1]", shape.ljust(5)[:6]))
        with pytest.raises(bpcore.ModelFileError):
            net.load_weights(path)
    path.write_bytes(whole)
    net.load_weights(path)
    assert net.parameters.tolist() == [1, 1]
