"""What bpcore.onnx writes: valid everywhere, and right to 4 units of its scale in onnxruntime.

The scale of a number is the sum of the absolute values of all that is added up on the way to it: of
a dense layer's terms, of what an activation makes of x (its value, and x times its slope, which is
what a rounding of x amounts to), with the scale of each layer passed on to the next through its
slopes. Two programs that each round every operation once differ by a few eps of that.
"""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import reference
from agreement import activation, network

import bpcore
import bpcore.onnx
from bpcore.onnxforms import COMPOSED

onnxruntime.set_default_logger_severity(4)
ACTIVATIONS = (*reference.ACTIVATIONS, "softmax")
UNITS = 4


def scale(net, x):
    """The scale of each output, by the oracle in float64."""
    layers = reference.layers_of(net)
    values = reference.forward(layers, x)
    eps, size = np.finfo(net.dtype).eps, np.zeros_like(values[0])
    for layer, before, after in zip(layers, values, values[1:], strict=False):
        match layer:
            case reference.Dense(weight, bias):
                terms = np.abs(before) @ np.abs(weight) + (0 if bias is None else np.abs(bias))
                size = terms + size @ np.abs(weight)
            case reference.Elementwise(name, a):
                slopes = [
                    np.abs(reference.ACTIVATIONS[name].derivative(before + shift, a))
                    for shift in (0, -UNITS * eps * size, UNITS * eps * size)  # near a kink too
                ]
                size = np.abs(after) + np.abs(before) * slopes[0] + np.max(slopes, axis=0) * size
            case reference.Softmax():
                distance = np.abs(before - before.max(axis=1, keepdims=True))
                own = 1 + distance + size
                size = after * (own + (after * own).sum(axis=1, keepdims=True))
        size = size + lost(net.dtype, before) / eps
    return size


def lost(dtype, x):
    """What a result, or a factor of x, may lose where it underflows."""
    return np.finfo(dtype).tiny * np.maximum(1, np.abs(x)).max(axis=-1, keepdims=True)


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"]
    )


def run(path, x):
    return session(path).run(["output"], {"input": x})[0]


def units(got, expected, size):
    """The error in eps of the scale; infinities and nan must be the same."""
    assert got.dtype == expected.dtype and got.shape == expected.shape
    wide, right = got.astype(float), expected.astype(float)
    same = (wide == right) | (np.isnan(wide) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0, np.abs(wide - right) / (np.finfo(got.dtype).eps * size))


@np.errstate(over="ignore", invalid="ignore")  # some activations have no bound
def assert_agrees(net, path, x):
    error = units(run(path, x), net.predict(x), scale(net, x))
    assert error.max() <= UNITS, (
        f"{net}: {error.max():.3g} units at {np.unravel_index(error.argmax(), error.shape)}"
    )


def check(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    return model


# ---------------------------------------------------------------- agreement with onnxruntime


def test_every_activation_has_a_form():
    assert set(reference.ACTIVATIONS) <= set(COMPOSED)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_networks(name, depth, dtype, tmp_path):
    rng = np.random.default_rng([depth, ACTIVATIONS.index(name)])
    widths = rng.integers(1, 201, depth + 1)
    layers = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [bpcore.Dense(n_in, n_out), activation(name)]
    net = network(layers, rng, dtype=dtype)
    path = tmp_path / "model.onnx"
    bpcore.onnx.export(net, path)
    check(path)
    for x in (
        rng.normal(0, 2, (1000, widths[0])),
        rng.normal(0, 2, (1, widths[0])),
        rng.uniform(-1e4, 1e4, (20, widths[0])),
    ):
        assert_agrees(net, path, x.astype(dtype))
    assert run(path, np.empty((0, widths[0]), dtype)).shape == (0, widths[-1])


def everywhere(dtype):
    near = np.geomspace(np.finfo(dtype).tiny ** 0.5, 1e4, 20001)
    flat = np.linspace(-40, 40, 80001)
    tanh = np.linspace(-14, -13.8, 20001)  # where that of onnxruntime is off by most, in float64
    return np.concatenate([near, -near, flat, tanh, [0.0, 1e4]]).astype(dtype).reshape(-1, 1)


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
@np.errstate(over="ignore")
def test_activations_alone(name, dtype, tmp_path):
    """The dense layer before it only copies, so that the scale is that of the activation."""
    net = bpcore.Network([bpcore.Dense(1, 1, weight_init=[[1.0]]), activation(name)], dtype=dtype)
    path = tmp_path / "model.onnx"
    bpcore.onnx.export(net, path)
    x = everywhere(dtype)
    row, wide, a = reference.ACTIVATIONS[name], x.astype(float), net.layers[1].parameter
    size = np.abs(row.value(wide, a)) + np.abs(wide * row.derivative(wide, a))
    size += lost(dtype, wide) / np.finfo(dtype).eps
    error = units(run(path, x), net.predict(x), size)
    assert error.max() <= UNITS, f"{error.max():.3g} units at {x[error.argmax()]}"

    special = np.array([[np.inf], [-np.inf], [np.nan]], dtype)
    np.testing.assert_array_equal(run(path, special), net.predict(special))


@pytest.mark.parametrize("name", ["leaky_relu", "elu"])
def test_parameters(name, dtype, tmp_path, rng):
    layer = bpcore.LeakyReLU(slope=0.3) if name == "leaky_relu" else bpcore.ELU(alpha=1.7)
    net = network([bpcore.Dense(7, 9), layer, bpcore.Dense(9, 2)], rng, dtype=dtype)
    path = tmp_path / "model.onnx"
    bpcore.onnx.export(net, path)
    assert_agrees(net, path, rng.normal(0, 3, (200, 7)).astype(dtype))
    assert repr(bpcore.onnx.load(path)) == repr(net)


# ---------------------------------------------------------------- what is in the file


def test_names_and_metadata(tmp_path):
    net = bpcore.Network(
        [("hidden", bpcore.Dense(4, 5)), ("bend", bpcore.SiLU()), bpcore.Dense(5, 3, bias=False)],
        loss="cross_entropy_logits",
        dtype="float32",
    )
    bpcore.onnx.export(net, tmp_path / "model.onnx")
    model = check(tmp_path / "model.onnx")
    names = [node.name for node in model.graph.node]
    assert names[0] == "hidden" and names[-2:] == ["bend", "2"]
    assert all(name.startswith("bend") for name in names[1:-1])
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for name, array in net.parameter_arrays().items():
        assert weights[name].dtype == np.float32 and weights[name].tobytes() == array.tobytes()
    assert (model.producer_name, model.producer_version) == ("bpcore", bpcore.__version__)
    assert {p.key: p.value for p in model.metadata_props} == {
        "loss": "cross_entropy_logits",
        "task": "classification",
    }
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 9)]
    assert model.ir_version == 4
    (x,), (y,) = session(tmp_path / "model.onnx").get_inputs(), model.graph.output
    assert (x.name, x.shape, x.type) == ("input", ["batch", 4], "tensor(float)")
    assert y.name == "output" and y.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_names_that_look_like_tensors(tmp_path, rng):
    names = ["input", "output", "constant_1.0", "a.weight", "a", "a.weight.Exp_2", "a/b", "ä"]
    layers = [(n, layer) for n in names for layer in [bpcore.Dense(3, 3)]]
    layers = [*layers, bpcore.Sigmoid(), ("1.0", bpcore.SiLU())]
    net = network(layers, rng)
    path = tmp_path / "model.onnx"
    bpcore.onnx.export(net, path)
    check(path)
    assert_agrees(net, path, rng.normal(size=(5, 3)))
    assert bpcore.onnx.load(path).names == net.names


@pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
def test_probabilities(loss, tmp_path, rng, dtype):
    logits = bpcore.mlp([4, 6, 3], loss=f"{loss}_logits", dtype=dtype, rng=0)
    output = "sigmoid" if loss == "bce" else "softmax"
    net = bpcore.mlp([4, 6, 3], output=output, loss=loss, dtype=dtype, rng=0)
    path, plain, x = tmp_path / "p.onnx", tmp_path / "l.onnx", rng.normal(size=(9, 4)).astype(dtype)
    bpcore.onnx.export(logits, path, probabilities=True)
    bpcore.onnx.export(logits, plain)
    check(path)
    assert_agrees(net, path, x)
    assert_agrees(logits, plain, x)
    assert bpcore.onnx.load(path).loss.kernel == loss
    assert bpcore.onnx.load(plain).loss.kernel == f"{loss}_logits"
    with pytest.raises(ValueError, match="bce_logits or cross_entropy_logits, got"):
        bpcore.onnx.export(net, path, probabilities=True)


def test_standardization(tmp_path, rng, dtype):
    mean, deviation = np.array([100.0, -3.0, 0.5, 0.0]), np.array([25.0, 0.125, 1e-3, 1.0])
    X = (mean + deviation * rng.normal(size=(300, 4))).astype(dtype)
    net = bpcore.mlp([4, 8, 2], hidden="tanh", dtype=dtype, rng=0)
    path = tmp_path / "model.onnx"
    of_target = ([10.0, -1.0], [3.0, 0.25])
    bpcore.onnx.export(
        net, path, standardization=(mean, deviation), target_standardization=of_target
    )
    check(path)
    mean, deviation = mean.astype(dtype), deviation.astype(dtype)
    inside = (X - mean) / deviation
    expected = net.predict(inside) * np.array(of_target[1], dtype) + np.array(of_target[0], dtype)
    # The same numbers go in, so the scales are those of the network, in the target's units.
    size = scale(net, inside) * of_target[1] + np.abs(expected)
    eps = np.finfo(dtype).eps
    assert (np.abs(run(path, X) - expected) <= UNITS * eps * size).all()

    # Folded, every weight is rounded once more, and the mean is taken off after the product.
    folded = bpcore.onnx.load(path)
    assert repr(folded) == repr(net)
    terms = np.abs(X).astype(float) / deviation + np.abs(mean / deviation)
    w1, w2 = (np.abs(net.layers[i].weight) for i in (0, 2))
    size = (size + (terms @ w1) @ w2 * of_target[1]) * 2
    assert (np.abs(folded.predict(X) - expected) <= UNITS * eps * size).all()


@pytest.mark.parametrize(
    "given, error, message",
    [
        ({"standardization": 3.0}, TypeError, "pair"),
        ({"standardization": (np.zeros(3), np.ones(4))}, bpcore.ShapeError, "(3,), expected (4,)"),
        ({"standardization": (np.zeros(4), [1, 0, 1, 1])}, ValueError, "scale[1] must be finite"),
        ({"standardization": ([0, np.nan, 0, 0], 1.0)}, ValueError, "mean[1] must be finite"),
        ({"standardization": ("a", 1.0)}, bpcore.DTypeError, "standardization: mean"),
        ({"standardization": (0.0, 1e-60)}, ValueError, "scale[0] must be finite and > 0"),
        ({"target_standardization": ([0.0], [1.0])}, ValueError, "loss is cross_entropy"),
        ({"probabilities": 1}, TypeError, "probabilities"),
    ],
)
def test_refusals_leave_the_old_file(given, error, message, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    net = bpcore.mlp([4, 3], output="softmax", loss="cross_entropy", dtype="float32")
    with pytest.raises(error) as caught:
        bpcore.onnx.export(net, path, **given)
    assert message in str(caught.value)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["model.onnx"]


class Doubled(bpcore.ReLU):
    """Is a ReLU to every isinstance, and has its kernel."""

    def forward(self, x):
        return 2 * super().forward(x)


class Bare(bpcore.Dense):
    """A subclass that changes nothing; nobody can tell."""


@pytest.mark.parametrize(
    ("layers", "place"),
    [([bpcore.Dense(2, 3), Doubled()], "'1'.*Doubled is a subclass of ReLU"),
     ([("in", Bare(2, 3))], "'in'.*Bare is a subclass of Dense")],
)  # fmt: skip
def test_layers_of_other_classes(layers, place, tmp_path):
    net = bpcore.Network(layers, rng=0)
    with pytest.raises(ValueError, match=f"layer {place}"):
        bpcore.onnx.export(net, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=f"layer {place}"):
        bpcore.export_c(net, tmp_path / "model.c")
    with pytest.raises(ValueError, match=f"layer {place}"):
        bpcore.export_c(net, tmp_path / "model.c", quantize="int8", X=np.eye(2))
    assert os.listdir(tmp_path) == []


def test_other_refusals(tmp_path):
    net = bpcore.mlp([4, 3])
    with pytest.raises(OSError, match="nowhere"):
        bpcore.onnx.export(net, tmp_path / "nowhere" / "model.onnx")
    with pytest.raises(IsADirectoryError):
        bpcore.onnx.export(net, tmp_path)
    with pytest.raises(TypeError, match="net must be a Network, got Dense"):
        bpcore.onnx.export(net.layers[0], tmp_path / "model.onnx")
    net.layers[0].weight[1, 2] = np.inf
    with pytest.raises(ValueError, match=r"non-finite weights: 0\.weight"):
        bpcore.onnx.export(net, tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == []


def test_more_than_a_file_can_hold(tmp_path, monkeypatch):
    """Protobuf ends at 2 GB; here the end is moved down to a network of 700 bytes."""
    net = bpcore.mlp([9, 9])
    monkeypatch.setattr(bpcore.onnxgraph, "SIZE_LIMIT", 2**20 + net.parameters.nbytes - 1)
    with pytest.raises(ValueError, match=f"{net.parameters.nbytes} bytes of weights"):
        bpcore.onnx.export(net, tmp_path / "model.onnx")
    monkeypatch.undo()
    bpcore.onnx.export(net, tmp_path / "model.onnx")
    monkeypatch.setattr(bpcore.onnx, "SIZE_LIMIT", 100)
    with pytest.raises(bpcore.ModelFileError, match="too many for an ONNX file"):
        bpcore.onnx.load(tmp_path / "model.onnx")


def test_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = bpcore.mlp([2, 1], rng=0)
    bpcore.onnx.export(net, "model.onnx")
    bpcore.onnx.export(net, tmp_path / "model.onnx")
    assert (bpcore.onnx.load("model.onnx").parameters == net.parameters).all()


def test_without_onnx():
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "import bpcore\n"
        "for call in (lambda: bpcore.onnx.load('x'), lambda: bpcore.onnx.export(net, 'x')):\n"
        "    net = bpcore.mlp([1, 1])\n"
        "    try: call()\n"
        "    except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("pip install 'bpcore[onnx]'") == 2


def test_example_of_the_docs(tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "docs" / "exchange.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "exchange.md", "exec"), {})
