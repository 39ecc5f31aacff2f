"""Exported C in integers: the stated bound holds, and nothing overflows."""

import itertools
import subprocess

import numpy as np
import pytest
from agreement import activation
from exported import C99, Program, installed, same_bits

import bpcore
from bpcore import Dense, LeakyReLU, Network, Softmax, Tanh, fixedpoint
from bpcore.csource import computing
from bpcore.fixedtable import KINDS

TYPES = {"int16": "int16_t", "int8": "int8_t"}
BITS = {"int16": 16, "int8": 8}
HIDDEN = ["identity", "relu", "leaky_relu", *KINDS]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def random_network(layers, seed, scale, dtype="float64"):
    net = Network(layers, rng=seed, dtype=dtype)
    rng = np.random.default_rng(seed)
    net.parameters = rng.normal(size=net.parameters.size).astype(dtype) * scale
    return net


def box(net, seed):
    """Calibration rows: ranges of very different places and sizes, and one that is a point."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 2, size=(300, net.n_in))
    X[:, 0] = 300 + 20 * X[:, 0]
    X[:, 1] *= 1e-3
    if net.n_in > 3:
        X[:, 3] = 0.7
    return X


def standardization(X):
    scale = X.std(axis=0)
    return X.mean(axis=0), np.where(scale > 1e-9, scale, 1.0)


def points_in(X, n, seed):
    """Points of the box: its corners, where errors are largest, and random ones."""
    low, high = X.min(axis=0), X.max(axis=0)
    points = np.random.default_rng(seed).uniform(low, high, size=(n, len(low)))
    corners = list(itertools.product(*zip(low, high, strict=True)))[: n // 2]
    points[: len(corners)] = corners
    return points


def build_networks():
    """(name, network, X, kind, keywords)"""
    found = []
    for number, (hidden, kind) in enumerate(itertools.product(HIDDEN, TYPES)):
        for scale in (0.2, 1.5):
            layers = [Dense(5, 6), activation(hidden), Dense(6, 4), activation(hidden), Dense(4, 3)]
            if hidden == "exp":  # for rates, at the end; of another e^z it would be too steep
                layers = [Dense(5, 6), Tanh(), Dense(6, 3), activation("exp")]
            net = random_network(layers, number, scale)
            X = box(net, number)
            name = f"{hidden}_{kind}_{'wide' if scale > 1 else 'narrow'}"
            found.append((name, net, X, kind, {"standardization": standardization(X)}))
    for kind in TYPES:
        net = random_network([Dense(3, 40, bias=False), Tanh(), Dense(40, 2), Tanh()], 1, 0.3)
        found.append((f"head_{kind}", net, box(net, 1), kind, {"workspace": "caller"}))
        net = random_network([Dense(3, 4), LeakyReLU(slope=2.5)], 2, 1.0, "float32")
        found.append((f"steep_{kind}", net, box(net, 2), kind, {}))
        net = random_network([Dense(3, 4), LeakyReLU(slope=0.0), Dense(4, 2)], 3, 1e-7)
        net.layers[0].weight[:, 2] = 0
        net.layers[0].bias = [100.0, -100.0, 0.0, 1e-9]
        found.append((f"extreme_{kind}", net, box(net, 3), kind, {}))
    return found


NETWORKS = build_networks()
pytestmark = pytest.mark.filterwarnings("ignore:the bound of the error")


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """The program's folder, and what export_c returned for each network."""
    program = Program(tmp_path_factory.mktemp("fixed"))
    done = {}
    for name, net, X, kind, keywords in NETWORKS:
        path = program.add(name, TYPES[kind], net.n_in, net.n_out, "workspace" in keywords)
        done[name] = bpcore.export_c(net, path, name=name, quantize=kind, X=X, **keywords)
    return program, done


def twin(net, X, kind, keywords):
    """The same integers in NumPy, which are quick to have for many rows."""
    scaling = keywords.get("standardization")
    return fixedpoint.quantize(computing(net.layers), X, BITS[kind], scaling)


def exact(net, points, keywords):
    if "standardization" in keywords:
        mean, scale = keywords["standardization"]
        points = (points - mean) / scale
    wide = Network([layer_of(layer) for layer in net.layers])
    wide.parameters = net.parameters.astype(np.float64)
    return wide.predict(points)


def layer_of(layer):
    if isinstance(layer, Dense):
        return Dense(layer.n_in, layer.n_out, bias=layer.has_bias)
    if isinstance(layer, LeakyReLU):
        return LeakyReLU(slope=layer.slope)
    return activation(layer.kernel)


@pytest.mark.parametrize("case", NETWORKS, ids=[name for name, *_ in NETWORKS])
def test_bound_holds(exports, case):
    """For 10**5 points over all networks and more for one, corners of the box among them."""
    name, net, X, kind, keywords = case
    done, fixed = exports[1][name], twin(net, X, kind, keywords)
    points = points_in(X, 100_000 if "narrow" in name else 5_000, seed=1)
    results = fixed.run(fixed.encode(points))
    assert np.abs(results).max() <= np.iinfo(kind).max
    error = np.abs(results * done.output_scale - exact(net, points, keywords)).max(axis=0)
    assert (error <= done.error_bound).all(), (error, done.error_bound)
    assert (done.measured_error <= done.error_bound).all()
    on_rows = fixed.run(fixed.encode(X)) * done.output_scale - exact(net, X, keywords)
    np.testing.assert_allclose(
        done.measured_error, np.abs(on_rows).max(axis=0), rtol=1e-9, atol=1e-13
    )


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("hidden", ["identity", "relu", "leaky_relu", "tanh", "softplus", "exp"])
def test_bound_is_not_much_more_than_the_worst(hidden, kind):
    """With one input all errors can meet: then a bound that forgot one would be broken."""
    largest = 0.0
    for seed in range(60):
        net = random_network([Dense(1, 1), activation(hidden)], seed, 1.0)
        if hidden == "leaky_relu":
            net = Network([Dense(1, 1), LeakyReLU(slope=0.9)], rng=seed)
            net.parameters = np.random.default_rng(seed).normal(size=2)
        fixed = twin(net, np.array([[-1.0], [2.0]]), kind, {})
        points = np.linspace(-1, 2, 20_001).reshape(-1, 1)
        results = fixed.run(fixed.encode(points)) * fixed.output_scale
        ratio = np.abs(results - net.predict(points)).max() / fixed.error_bound[0]
        assert ratio <= 1
        largest = max(largest, ratio)
    assert largest > 0.85


def test_bounds_are_of_use(exports):
    """Integers of 16 bits are within a hundredth of what outputs vary by, if weights are small."""
    for name, net, X, kind, keywords in NETWORKS:
        if kind == "int16" and "narrow" in name:
            span = np.ptp(exact(net, X, keywords), axis=0)
            assert (exports[1][name].error_bound < 0.02 * span).all(), name


@pytest.mark.parametrize(
    "compiler, flags",
    [
        ("gcc", [*C99, "-O1", *SANITIZERS]),
        ("clang", [*C99, "-O2"]),
        ("arm-linux-gnueabihf-gcc", [*C99, "-O2", "-static"]),
    ],
)
def test_c_computes_these_integers(exports, compiler, flags):
    """Whatever comes in: within the ranges, beyond them, the smallest integers too."""
    program, _ = exports
    emulator = ["qemu-arm-static"] if compiler.startswith("arm") else []
    if not installed(compiler, *emulator):
        pytest.skip(f"no {compiler} here; .ci/run installs what it can")
    inputs, expected = [], []
    for _, net, X, kind, keywords in NETWORKS:
        fixed, limits = twin(net, X, kind, keywords), np.iinfo(kind)
        q = np.random.default_rng(5).integers(limits.min, limits.max + 1, size=(300, net.n_in))
        q[:40] = np.random.default_rng(6).choice([limits.min, limits.max, 0, 1], (40, net.n_in))
        q[40:200] = fixed.encode(points_in(X, 160, seed=2))
        inputs.append(q.astype(kind))
        expected.append(fixed.run(q).astype(kind))
    names = program.build(compiler, flags)
    for name, a, b in zip(names, program.run(names, inputs, emulator), expected, strict=True):
        assert np.array_equal(a, b), name


def test_needs_no_library(exports):
    program, _ = exports
    assert program.symbols("gcc", ["-c", "-O1"], list(program.networks)[:20]) <= {"memset"}


def test_float_wrapper(tmp_path):
    net = random_network([Dense(3, 4), Tanh(), Dense(4, 2)], 4, 0.7)
    X = box(net, 4)
    program = Program(tmp_path)
    path = program.add("fixed_float", "double", 3, 2)
    inner = path.with_name("fixed.c")
    done = bpcore.export_c(net, inner, name="fixed", quantize="int16", X=X, float_wrapper=True)
    path.write_text('#include "fixed.c"\n')
    points = np.vstack([points_in(X, 200, seed=3), X * 3, [[np.nan, np.inf, -np.inf]]])
    names = program.build("gcc", [*C99, "-O1", *SANITIZERS])
    (found,) = program.run(names, [points])
    fixed = fixedpoint.quantize(computing(net.layers), X, 16, None)
    known = np.where(np.isnan(points), fixed.offset, points)
    assert same_bits(found, fixed.run(fixed.encode(known)) * done.output_scale).all()
    inside = np.clip(points[:-1], X.min(axis=0), X.max(axis=0))
    error = np.abs(found[:-1] - net.predict(inside))
    assert (error <= done.error_bound + done.error_bound).all()  # beyond the box: its edge


def test_header_says_what_integers_stand_for(tmp_path):
    net = random_network([Dense(3, 4), Tanh(), Dense(4, 2)], 4, 0.7)
    done = bpcore.export_c(net, tmp_path / "net.c", quantize="int16", X=box(net, 4))
    with open(done.header) as file:
        text = file.read()
    assert "int16_t input[CONTROLLER_N_IN]" in text and "#include <stdint.h>" in text
    for key in ("INPUT_OFFSET", "INPUT_SCALE", "OUTPUT_SCALE", "OUTPUT_ERROR_BOUND"):
        line = next(row for row in text.splitlines() if f"#define CONTROLLER_{key} " in row)
        values = [float(v) for v in line.split("{")[1].rstrip("}").split(",")]
        attribute = key.lower().replace("output_error_bound", "error_bound")
        assert np.array_equal(values, getattr(done, attribute))
    assert f"output[1]: bound {done.error_bound[1]:.3g}, measured" in text


def test_softmax_is_left_off(tmp_path):
    net = random_network([Dense(3, 4), Tanh(), Dense(4, 3), Softmax()], 5, 0.7)
    X = box(net, 5)
    done = bpcore.export_c(net, tmp_path / "net.c", quantize="int16", X=X)
    fixed = fixedpoint.quantize(computing(net.layers), X, 16, None)
    logits = fixed.run(fixed.encode(X)) * done.output_scale
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = 2 * done.error_bound.max()
    np.testing.assert_allclose(e / e.sum(axis=1, keepdims=True), net.predict(X), rtol=0, atol=error)
    with open(done.source) as file:
        assert "Softmax() is left off" in file.read()


def test_exp_of_much_has_no_fixed_point_form(tmp_path):
    net = Network([Dense(1, 1), activation("exp")], rng=0)
    net.parameters = [8.0, 0.5]
    path = tmp_path / "net.c"
    message = r"Exp\(\) has a fixed-point form for inputs up to 16.0, .* may reach 24.5"
    with pytest.raises(ValueError, match=message):
        bpcore.export_c(net, path, quantize="int16", X=[[-3.0], [3.0]])
    assert not list(tmp_path.iterdir())
    net.parameters = [5.0, 0.0]
    done = bpcore.export_c(net, path, quantize="int16", X=[[-3.0], [3.0]])
    assert done.error_bound[0] < 0.01 * np.exp(15)


@pytest.mark.parametrize("low", [-1e2, -1e4, -1e7, -1e12])
@pytest.mark.parametrize("kind", TYPES)
def test_exp_of_what_is_far_below_0(low, kind):
    net = Network([Dense(1, 2), activation("exp")], rng=0)
    net.parameters = [low, 1.0, low, low / 2]
    X = np.linspace(0, 1, 101).reshape(-1, 1)
    if low < -(2.0**28):
        with pytest.raises(ValueError, match=r"Dense\(1, 2\) are too far apart"):
            twin(net, X, kind, {})
        return
    fixed = twin(net, X, kind, {})
    results = fixed.run(fixed.encode(X)) * fixed.output_scale
    assert (np.abs(results - net.predict(X)).max(axis=0) <= fixed.error_bound).all()
    assert np.isfinite(fixed.error_bound).all()


def test_a_useless_bound_is_said(tmp_path):
    layers = itertools.chain.from_iterable((Dense(4, 4), Tanh()) for _ in range(6))
    net = random_network(list(layers), 6, 3.0)
    with pytest.warns(UserWarning, match="larger than what the outputs for X vary by"):
        done = bpcore.export_c(net, tmp_path / "net.c", quantize="int8", X=box(net, 6))
    with open(done.header) as file:
        assert "THE BOUND IS OF NO USE for 4 of 4 outputs" in file.read()


@pytest.mark.parametrize(
    "layers, message",
    [
        ([Dense(3, 3), Softmax(), Dense(3, 2)], "softmax has a fixed-point form only as the last"),
        ([Tanh(), Dense(3, 2)], r"at most one activation after each; Tanh\(\) follows none"),
        ([Dense(3, 2), Tanh(), Tanh()], "at most one activation after each"),
    ],
)
def test_layers_without_a_fixed_point_form(tmp_path, layers, message):
    net = Network(layers, rng=0)
    with pytest.raises(ValueError, match=message):
        bpcore.export_c(net, tmp_path / "net.c", quantize="int16", X=np.ones((2, 3)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("radius", [5e-324, 1.2e-31, 1e-30, 1e-20])
def test_bound_holds_for_the_smallest_ranges(radius, kind):
    """Also where a range is less than the unit of any integer, and a weight makes it large."""
    net = Network([Dense(2, 1)], rng=0)
    net.parameters = [1e34, 1.0, 0.0]
    X = np.random.default_rng(0).uniform(-1, 1, size=(100, 2))
    X[:, 0] = radius * np.sign(X[:, 0])
    fixed = twin(net, X, kind, {})
    results = fixed.run(fixed.encode(X)) * fixed.output_scale
    error = np.abs(results - net.predict(X)).max(axis=0)
    assert (error <= fixed.error_bound).all(), (error, fixed.error_bound)


def test_bound_holds_where_float64_rounds():
    """Inputs that are points leave no error of integers, but the bias is a sum that cancels."""
    net = Network([Dense(2, 1)], rng=0)
    net.parameters = [0.1, -0.3, 0.0]
    twin(net, np.array([[3e17, 1e17 + 16]] * 3), "int16", {})


def test_an_error_beyond_the_bound_is_no_result(monkeypatch):
    net = bpcore.mlp([2, 3, 1], rng=0)
    exact = fixedpoint._outputs
    monkeypatch.setattr(fixedpoint, "_outputs", lambda *given: exact(*given) + 1.0)
    with pytest.raises(RuntimeError, match="a mistake in bpcore: the error of fixed point"):
        twin(net, np.random.default_rng(0).uniform(size=(20, 2)), "int16", {})


def test_calibration_by_chunks(monkeypatch):
    net = bpcore.mlp([3, 4, 2], hidden="tanh", rng=0)
    X = box(net, 0)
    whole = twin(net, X, "int16", {})
    monkeypatch.setattr(fixedpoint, "CHUNK", 28)  # 7 rows
    parts = twin(net, X, "int16", {})
    assert np.allclose(whole.measured_error, parts.measured_error, rtol=1e-9)
    assert np.allclose(whole.output_span, parts.output_span, rtol=1e-9)
    outputs = net.predict(X)
    np.testing.assert_allclose(parts.output_span, np.ptp(outputs, axis=0), rtol=1e-9)


@pytest.mark.parametrize("workspace", ["stack", "caller"])
def test_float_wrapper_compiles_under_any_name(tmp_path, workspace):
    """The names of its own variables, and those of the function that it calls."""
    net = bpcore.mlp([3, 4, 2], hidden="tanh", rng=0)
    keywords = {"quantize": "int16", "X": box(net, 0), "float_wrapper": True}
    text = ""
    for name in (*"abikqxyzn", "low", "limit", "offset", "scale", "input", "output", "workspace"):
        bpcore.export_c(net, tmp_path / f"{name}.c", name=name, workspace=workspace, **keywords)
        text += f'#include "{name}.c"\n'
    (tmp_path / "every.c").write_text(text)
    command = ["gcc", *C99, "-fsyntax-only", "every.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]


def test_headers_are_cplusplus(exports, tmp_path):
    if not installed("g++"):
        pytest.skip("no g++ here")
    _, done = exports
    net = bpcore.mlp([3, 4, 2], hidden="tanh", rng=0)
    wrapped = bpcore.export_c(
        net, tmp_path / "w.c", name="w", quantize="int16", X=box(net, 0), float_wrapper=True
    )
    headers = [*(one.header for one in done.values()), wrapped.header]
    text = "".join(f'#include "{header}"\n' for header in headers)
    text += "int main() { double x[3] = W_INPUT_OFFSET, y[2]; w_float(x, y); return 0; }\n"
    (tmp_path / "headers.cpp").write_text(text)
    command = ["g++", "-std=c++11", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"]
    done = subprocess.run([*command, "headers.cpp"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]


def test_sizes(tmp_path):
    """Also the arrays that the wrapper has on its stack, and its scales."""
    net = bpcore.mlp([100, 7, 2], hidden="relu", rng=0)
    keywords = {"quantize": "int16", "X": box(net, 0)}
    plain = bpcore.export_c(net, tmp_path / "net.c", **keywords)
    assert plain.stack_bytes == 2 * (100 + 7)
    done = bpcore.export_c(net, tmp_path / "net.c", **keywords, float_wrapper=True)
    assert done.stack_bytes == 2 * (100 + 7) + 2 * (100 + 2)
    assert done.constant_bytes == plain.constant_bytes + 8 * (100 + 100 + 2)
    keywords |= {"workspace": "caller", "float_wrapper": True}
    done = bpcore.export_c(net, tmp_path / "net.c", **keywords)
    assert done.stack_bytes == 2 * (100 + 2)
    with open(done.header) as file:
        assert "204 bytes of arrays on the stack" in file.read()
