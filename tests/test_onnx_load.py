"""What bpcore.onnx reads: its own files, those of PyTorch and skl2onnx, and nothing else."""

import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
import reference
from agreement import activation, network
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from test_onnx import ACTIVATIONS, UNITS, scale

import bpcore
import bpcore.onnx
from bpcore.onnxforms import FOREIGN

FOLDER = Path(__file__).parent / "onnx"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
TORCH = (
    "Network(Dense(4, 5), GELU(), Dense(5, 4), SiLU(), Dense(4, 4), LeakyReLU(slope=0.2), "
    "Dense(4, 3), ELU(alpha=0.7), Dense(3, 3), GELU(approximate='tanh'), Dense(3, 3, bias=False), "
    "Softplus(), Dense(3, 3), Tanh(), Dense(3, 3), Sigmoid(), Dense(3, 3), ReLU(), Dense(3, 3), "
    "Softmax(), loss=cross_entropy, float32, 153 parameters)"
)
ACTIVE = "Network(Dense(4, 5), {}(), Dense(5, {}), {}loss={}, {}, {} parameters)"
WRITTEN = {
    **dict.fromkeys(("torch_script_11", "torch_script_20", "torch_18", "torch_20"), TORCH),
    "torch_script_double": (
        "Network(Dense(4, 3), Tanh(), Dense(3, 2), GELU(), loss=mse, float64, 23 parameters)"
    ),
    "torch_external": (
        "Network(Dense(4, 20), ReLU(), Dense(20, 20), Tanh(), Dense(20, 1), loss=mse, float32, "
        "541 parameters)"
    ),
    "torch_flatten": (
        "Network(Dense(4, 3), ReLU(), Dense(3, 1), Sigmoid(), loss=bce, float32, 19 parameters)"
    ),
    "sklearn_two_classes": ACTIVE.format("ReLU", 1, "Sigmoid(), ", "bce", "float32", 31),
    "sklearn_multilabel": ACTIVE.format("ReLU", 2, "Sigmoid(), ", "bce", "float32", 37),
    "sklearn_double": ACTIVE.format("ReLU", 3, "Softmax(), ", "cross_entropy", "float64", 43),
    "sklearn_regressor": ACTIVE.format("Sigmoid", 1, "", "mse", "float32", 31),
    "sklearn_pipeline": (
        "Network(Dense(4, 5), Tanh(), Dense(5, 4), Tanh(), Dense(4, 3), Softmax(), "
        "loss=cross_entropy, float32, 64 parameters)"
    ),
}


# ---------------------------------------------------------------- bpcore's own


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_round_trip(name, dtype, tmp_path, rng):
    layers = [
        *(("first", bpcore.Dense(4, 6)), activation(name), bpcore.Dropout(0.3)),
        *(bpcore.Dense(6, 3, bias=False), ("last", activation(name))),
    ]
    net = network(layers, rng, dtype=dtype, loss="huber")
    bpcore.onnx.export(net, tmp_path / "model.onnx")
    same = bpcore.onnx.load(tmp_path / "model.onnx")
    assert repr(same) == repr(net) and same.names == net.names and same.dtype == net.dtype
    assert same.parameters.tobytes() == net.parameters.tobytes()
    x = rng.normal(size=(20, 4)).astype(dtype)
    assert same.predict(x).tobytes() == net.predict(x).tobytes()
    bpcore.onnx.export(same, tmp_path / "again.onnx")
    files = [(tmp_path / name).read_bytes() for name in ("model.onnx", "again.onnx")]
    assert files[0] == files[1]


def test_activation_first_and_layers_that_follow_each_other(tmp_path, rng):
    layers = [bpcore.Tanh(), bpcore.Dense(3, 2), bpcore.Dense(2, 2), bpcore.Sigmoid()]
    net = network([*layers, bpcore.Identity(), bpcore.SiLU(), bpcore.Softmax()], rng)
    bpcore.onnx.export(net, tmp_path / "model.onnx")
    same = bpcore.onnx.load(tmp_path / "model.onnx")
    assert repr(same) == repr(net) and (same.parameters == net.parameters).all()


# ---------------------------------------------------------------- PyTorch's and skl2onnx's


@pytest.mark.parametrize("name", WRITTEN)
def test_files_of_others(name):
    net = bpcore.onnx.load(FOLDER / f"{name}.onnx")
    assert repr(net) == WRITTEN[name]
    x = np.array(EXPECTED[name]["input"], net.dtype)
    error = np.abs(net.predict(x).astype(float) - EXPECTED[name]["output"])
    assert (error <= UNITS * np.finfo(net.dtype).eps * scale(net, x)).all()


def test_every_fixture_is_used():
    assert set(EXPECTED) == set(WRITTEN) | {"sklearn_two_outputs"}
    assert {path.stem for path in FOLDER.glob("*.onnx")} == set(EXPECTED)


def test_regressor_whose_outputs_lie_below_each_other():
    """skl2onnx 1.20 makes (2 n, 1) of two outputs, in onnxruntime too."""
    with pytest.raises(bpcore.ModelFileError, match=r"'Reshape' \(Reshape\).*one sample a row"):
        bpcore.onnx.load(FOLDER / "sklearn_two_outputs.onnx")


class Writer:
    """What a form writes, as ONNX nodes."""

    def __init__(self, dtype):
        self.largest, self.dtype = float(np.finfo(dtype).max), dtype
        self.nodes, self.constants = [], {}

    def __call__(self, op, *inputs):
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names[::-1] if op == "Mul" else names, [output]))
        return output

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.array(value, self.dtype)
        return name


@pytest.mark.parametrize("place", range(len(FOREIGN)))
def test_composed_by_others(place, dtype, tmp_path):
    """A form is the activation whose name it has, and is found whatever the order of factors."""
    kernel, form = FOREIGN[place]
    op = Writer(dtype)
    y = form(op, op("MatMul", "x", op.constant([[1.0]])), None)
    model = make(op.nodes, op.constants, y, dtype=dtype)
    net = save_and_load(model, tmp_path)
    x = np.linspace(-8, 8, 4001).astype(dtype).reshape(-1, 1)
    assert net.layers[1].kernel == kernel
    # Their form of GELU cancels on the left, by a rounding of 1.
    (got,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(net.predict(x), got, rtol=0, atol=40 * np.finfo(np.float32).eps)


# ---------------------------------------------------------------- models made here


def make(nodes, constants, output, dtype=np.float64, n_in=1, opset=20, **keywords):
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    inputs = [helper.make_tensor_value_info("x", code, ["n", n_in])]
    outputs = [helper.make_tensor_value_info(output, code, None)]
    initializers = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **keywords)


def save_and_load(model, folder, **keywords):
    path = folder / "made.onnx"
    onnx.save(model, path, **keywords)
    return bpcore.onnx.load(path)


N = helper.make_node
W = np.array([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]])  # exact in all that follows
B = np.array([0.5, -2.0])
GEMM = [N("Gemm", ["x", "w", "b"], ["y"])]
CHAINS = {
    "gemm": (GEMM, {"w": W, "b": B}),
    "transposed": ([N("Gemm", ["x", "w", "b"], ["y"], transB=1)], {"w": W.T.copy(), "b": B}),
    "factors": ([N("Gemm", ["x", "w", "b"], ["y"], alpha=0.5, beta=2.0)], {"w": W, "b": B}),
    "one bias for all": (GEMM, {"w": W, "b": np.array(0.5)}),
    "a row of biases": (GEMM, {"w": W, "b": B[None]}),
    "no bias": ([N("Gemm", ["x", "w"], ["y"])], {"w": W}),
    "add after": ([N("MatMul", ["x", "w"], ["t"]), N("Add", ["t", "b"], ["y"])], {"w": W, "b": B}),
    "add before": ([N("MatMul", ["x", "w"], ["t"]), N("Add", ["b", "t"], ["y"])], {"w": W, "b": B}),
    "constant nodes": (
        [
            N("Constant", [], ["w"], value=numpy_helper.from_array(W.T.copy())),
            N("Transpose", ["w"], ["v"], perm=[1, 0]),
            N("Identity", ["v"], ["u"]),
            N("MatMul", ["x", "u"], ["y"]),
        ],
        {},
    ),
    "standardised": (
        [
            N("Sub", ["x", "m"], ["t"]),
            N("Div", ["t", "s"], ["u"]),
            N("Gemm", ["u", "w", "b"], ["y"]),
        ],
        {"m": np.array([1.0, -2.0, 0.5]), "s": np.array([2.0, 0.5, 4.0]), "w": W, "b": B},
    ),
    "scaler": (
        [
            N("Scaler", ["x"], ["t"], domain="ai.onnx.ml", offset=[1.0, -2.0, 4.0], scale=[0.5]),
            N("Cast", ["t"], ["u"], to=TensorProto.DOUBLE),
            N("MatMul", ["u", "w"], ["y"]),
        ],
        {"w": W},
    ),
    "from a constant": (
        [N("Sub", ["m", "x"], ["t"]), N("Mul", ["s", "t"], ["u"]), N("MatMul", ["u", "w"], ["y"])],
        {"m": np.array([1.0, -2.0, 0.5]), "s": np.array([[2.0]]), "w": W},
    ),
    "scaled between": (
        [
            N("MatMul", ["x", "w"], ["t"]),
            N("Relu", ["t"], ["u"]),
            N("Mul", ["u", "s"], ["v"]),
            N("Gemm", ["v", "q", "b"], ["z"]),
            N("Mul", ["z", "s"], ["y"]),
        ],
        {"w": W, "s": B, "q": W[:2], "b": B},
    ),
    "no-ops": (
        [
            N("Flatten", ["x"], ["a"]),
            N("Reshape", ["a", "shape"], ["b"]),
            N("MatMul", ["b", "w"], ["c"]),
            N("Identity", ["c"], ["d"]),
            N("Reshape", ["d", "keep"], ["e"]),
            N("Relu", ["e"], ["y"]),
        ],
        {"w": W, "shape": np.array([-1, 3]), "keep": np.array([0, -1])},
    ),
    "elu, leaky": (
        [
            N("Gemm", ["x", "w", "b"], ["t"]),
            N("Elu", ["t"], ["u"], alpha=0.0),
            N("LeakyRelu", ["u"], ["y"]),
        ],
        {"w": W, "b": B},
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains(name, tmp_path):
    nodes, constants = CHAINS[name]
    model = make(nodes, constants, "y", n_in=3)
    net = save_and_load(model, tmp_path)
    x = np.random.default_rng(0).integers(-8, 9, (40, 3)) / 4.0
    if name == "scaler":  # onnx's reference would compute it in float32
        expected = ((x - [1.0, -2.0, 4.0]) * 0.5) @ W
    else:
        (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(net.predict(x), expected)  # every number is exact


def test_one_operator_each(tmp_path):
    chain = ["Sigmoid", "Tanh", "Softplus", "Gelu", "Elu", "LeakyRelu", "Relu", "Softmax"]
    nodes = [N("Gemm", ["x", "w", "b"], ["t0"])]
    for i, op in enumerate(chain):
        nodes.append(N(op, [f"t{i}"], [f"t{i + 1}"], **({"axis": 1} if op == "Softmax" else {})))
    nodes.insert(3, N("Dropout", ["t2"], ["t2d"]))
    nodes[4].input[0] = "t2d"
    net = save_and_load(make(nodes, {"w": W, "b": B}, f"t{len(chain)}", n_in=3), tmp_path)
    kinds = " ".join(type(layer).__name__ for layer in net.layers)
    assert kinds == "Dense Sigmoid Tanh Dropout Softplus GELU ELU LeakyReLU ReLU Softmax"
    assert net.loss.kernel == "cross_entropy" and net.layers[3].p == 0.5


def test_loss(tmp_path):
    path = tmp_path / "made.onnx"
    onnx.save(make(GEMM, {"w": W, "b": B}, "y", n_in=3), path)
    assert bpcore.onnx.load(path).loss.kernel == "mse"
    assert bpcore.onnx.load(path, loss="bce_logits").loss.kernel == "bce_logits"
    assert bpcore.onnx.load(path, loss=bpcore.Huber(delta=2.0)).loss.parameter == 2.0
    with pytest.raises(ValueError, match="cross_entropy_logits"):
        bpcore.onnx.load(path, loss="cross_entropie")


def test_external_data(tmp_path, rng):
    net = network([bpcore.Dense(5, 7), bpcore.Tanh(), bpcore.Dense(7, 2)], rng)
    path = tmp_path / "model.onnx"
    bpcore.onnx.export(net, path)
    apart = {"save_as_external_data": True, "location": "weights", "size_threshold": 0}
    onnx.save(onnx.load(path), path, **apart)
    assert (bpcore.onnx.load(path).parameters == net.parameters).all()
    data = (tmp_path / "weights").read_bytes()
    (tmp_path / "weights").write_bytes(data[:-1])
    with pytest.raises(bpcore.ModelFileError, match="'weights', which has"):
        bpcore.onnx.load(path)
    (tmp_path / "weights").unlink()
    with pytest.raises(FileNotFoundError, match="weights"):
        bpcore.onnx.load(path)
    (tmp_path / "elsewhere").write_bytes(data)
    (tmp_path / "weights").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(bpcore.ModelFileError, match="symbolic link"):
        bpcore.onnx.load(path)


@pytest.mark.parametrize("location", ["../weights", "/etc/passwd", "", "..", "a/b"])
def test_external_data_outside(location, tmp_path):
    model = make(GEMM, {"w": W, "b": B}, "y", n_in=3)
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (tmp_path / "made.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(bpcore.ModelFileError, match="does not lie beside the model"):
        bpcore.onnx.load(tmp_path / "made.onnx")


# ---------------------------------------------------------------- refusals

C = {"w": W, "b": B}
REFUSED = {
    "Conv": ([N("Conv", ["x", "w"], ["y"], name="c1")], C, "no dense layer"),
    "unknown": ([*GEMM, N("Sin", ["y"], ["z"], name="s")], C, "'s' (Sin) cannot be loaded"),
    "transA": ([N("Gemm", ["x", "w"], ["z"], transA=1)], C, "transA 0"),
    "weights first": ([N("MatMul", ["v", "x"], ["z"])], {"v": W.T.copy()}, "first operand"),
    "widths": ([*GEMM, N("MatMul", ["y", "w"], ["z"])], C, "takes 3 inputs, but gets 2"),
    "branches": (
        [*GEMM, N("Tanh", ["y"], ["a"]), N("Add", ["a", "y"], ["z"], name="skip")],
        C,
        "2 nodes use 'y'",
    ),
    "regrouped input": (
        [N("Reshape", ["x", "s"], ["a"]), N("MatMul", ["a", "v"], ["z"])],
        {"s": np.array([-1, 2]), "v": W[:2]},
        "one sample a row",
    ),
    "inputs": ([N("Relu", ["x"], ["a"]), N("MatMul", ["a", "v"], ["z"])], {"v": W[:2]}, "gets 3"),
    "itself": ([*GEMM, N("Add", ["y", "y"], ["z"])], C, "one of its two inputs"),
    "scaled output": (
        [*GEMM, N("Relu", ["y"], ["a"]), N("Mul", ["a", "b"], ["z"])],
        C,
        "no Gemm or MatMul follows",
    ),
    "scaled activation": (
        [N("Mul", ["x", "m"], ["a"]), N("Relu", ["a"], ["c"]), N("MatMul", ["c", "w"], ["z"])],
        C | {"m": np.array([2.0])},
        "no Gemm or MatMul follows",
    ),
    "softmax over rows": ([*GEMM, N("Softmax", ["y"], ["z"], axis=0)], C, "last axis, not 0"),
    "divided by 0": (
        [N("Div", ["x", "m"], ["a"]), N("MatMul", ["a", "w"], ["z"])],
        C | {"m": np.array([1.0, 0.0, 1.0])},
        "divides by 0",
    ),
    "training": (
        [*GEMM, N("Dropout", ["y", "", "t"], ["z"])],
        C | {"t": np.array(True)},
        "training mode",
    ),
    "negative slope": ([*GEMM, N("LeakyRelu", ["y"], ["z"], alpha=-0.1)], C, "slope"),
    "half precision": (
        [N("MatMul", ["x", "h"], ["z"])],
        {"h": W.astype(np.float16)},
        "weights of float16",
    ),
    "two precisions": (
        [*GEMM, N("MatMul", ["y", "v"], ["z"])],
        C | {"v": W[:2].astype(np.float32)},
        "expected a matrix of",
    ),
    "not finite": ([N("MatMul", ["x", "v"], ["z"])], {"v": W * np.inf}, "non-finite weights"),
    "columns to rows": (
        [*GEMM, N("Reshape", ["y", "s"], ["z"])],
        C | {"s": np.array([-1, 1])},
        "one sample a row",
    ),
    "weights computed": (
        [N("Sin", ["w"], ["v"]), N("Gemm", ["x", "v"], ["a"]), N("Gemm", ["a", "w"], ["z"])],
        C,
        "input 1 ('v') must be a constant",
    ),
    "a name of ours": ([*GEMM, N("Dense", ["y"], ["z"])], C, "the operator is unknown"),
    "other domain": ([*GEMM, N("Relu", ["y"], ["z"], domain="com.example")], C, "com.example.Relu"),
    "no input": ([N("Gemm", ["w", "w"], ["z"], transA=1)], C, "expected one input"),
    "a constant that adds a dimension": (
        [N("MatMul", ["x", "w"], ["a"]), N("Add", ["a", "v"], ["z"])],
        C | {"v": B[None, None]},
        "its constant has shape (1, 1, 2), expected one row",
    ),
    "a product that adds a dimension": (
        [N("Mul", ["x", "m"], ["a"]), N("MatMul", ["a", "w"], ["z"])],
        C | {"m": np.full((1, 1, 1), 2.0)},
        "its constant has shape (1, 1, 1), expected one row",
    ),
    "a bias that adds a dimension": (
        [N("Gemm", ["x", "w", "v"], ["z"])],
        C | {"v": B[None, None]},
        "its constant has shape (1, 1, 2), expected one row",
    ),
    "cast to int": ([*GEMM, N("Cast", ["y"], ["z"], to=TensorProto.INT64)], C, "only float32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, tmp_path):
    nodes, constants, message = REFUSED[name]
    path = tmp_path / "made.onnx"
    path.write_bytes(
        make(
            nodes, constants, "z" if len(nodes) > 1 else nodes[0].output[0], n_in=3
        ).SerializeToString()
    )
    with pytest.raises(bpcore.ModelFileError) as caught:
        bpcore.onnx.load(path)
    assert str(path) in str(caught.value) and message in str(caught.value)
    unknown = "unknown" in str(caught.value) or "no dense layer" in str(caught.value)
    assert ("supported are Gemm, MatMul" in str(caught.value)) == unknown


def test_truncated_and_garbage(tmp_path):
    path = tmp_path / "model.onnx"
    bpcore.onnx.export(bpcore.mlp([3, 4, 2], hidden="elu", rng=0), path)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for length in [*range(0, len(data), 37), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(bpcore.ModelFileError, match=r"model\.onnx: "):
            bpcore.onnx.load(path)
    for _ in range(300):  # never anything but that error, or a network of other numbers
        wrong = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            wrong[place] = rng.integers(256)
        path.write_bytes(bytes(wrong))
        with suppress(bpcore.ModelFileError):
            bpcore.onnx.load(path)
    path.write_bytes(rng.bytes(1000))
    with pytest.raises(bpcore.ModelFileError, match="not an ONNX file"):
        bpcore.onnx.load(path)


@pytest.mark.parametrize("where", ["raw_data", "double_data", "external"])
def test_sizes_that_are_only_claimed(where, tmp_path):
    model = make(GEMM, {"w": W, "b": B}, "y", n_in=3)
    tensor = model.graph.initializer[0]
    tensor.dims[:] = [10**9, 10**9]
    if where == "double_data":
        tensor.ClearField("raw_data")
        tensor.double_data.extend(W.ravel())
    if where == "external":
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="made.onnx")
    (tmp_path / "made.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(bpcore.ModelFileError, match=r"holds|announced"):
        bpcore.onnx.load(tmp_path / "made.onnx")


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        bpcore.onnx.load(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError):
        bpcore.onnx.load(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="regular file"):
        bpcore.onnx.load(tmp_path / "fifo")


def test_reference_knows_the_forms():
    assert {kernel for kernel, _ in FOREIGN} <= set(reference.ACTIVATIONS)
