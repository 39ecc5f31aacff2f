"""Exported C: the bits of predict, whatever the compiler, its flags and the processor."""

import os
import platform
import subprocess

import exported
import numpy as np
import pytest
import reference
from agreement import activation
from exported import C99, Program, installed, same_bits

import bpcore
from bpcore import Dense, Dropout, Identity, LeakyReLU, Network, Softmax, Softplus, Tanh

REALS = {"float64": "double", "float32": "float"}
ACTIVATIONS = sorted(reference.ACTIVATIONS)


def random_network(layers, dtype, seed):
    net = Network(layers, dtype=dtype, rng=seed)
    rng = np.random.default_rng(seed)
    net.parameters = rng.normal(size=net.parameters.size).astype(dtype) * 0.5
    return net


def numbers(dtype, n, seed=0):
    """Numbers of all sizes, subnormal ones, infinities and nan, around the thresholds too."""
    rng = np.random.default_rng(seed)
    any_bits = rng.integers(0, 256, n * np.dtype(dtype).itemsize, dtype=np.uint8).view(dtype)
    scales = np.exp2(rng.integers(-12, 8, n).astype(dtype))
    tiny = np.finfo(dtype).smallest_subnormal
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, np.finfo(dtype).max, tiny, -tiny]
    edges = np.array([9.1, 19.2, 20, 40, 80, 90, 106, 690, 712, 750, 745.2, 708.4, 87.3, 103.9])
    edges = np.concatenate([edges * (1 + d) for d in np.linspace(-0.01, 0.01, 21)])
    parts = [any_bits, rng.normal(size=n) * scales, edges, -edges, special]
    with np.errstate(all="ignore"):
        return np.concatenate([np.asarray(part, dtype) for part in parts]).reshape(-1, 1)


def rows_for(net, n, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, net.n_in)).astype(net.dtype)


def build_networks():
    """(name, network, rows, keywords of export_c)"""
    found = []

    def add(name, net, X, **keywords):
        found.append((f"{name}_{net.dtype.itemsize * 8}", net, X, keywords))

    for dtype in REALS:
        for kernel in ACTIVATIONS:
            alone = Network([Dense(1, 1), activation(kernel)], dtype=dtype)
            alone.parameters = [1.0, -0.0]  # z is x, the sign of 0 too
            add(f"sweep_{kernel}", alone, numbers(dtype, 4000))
            layers = [Dense(4, 7), activation(kernel), Dense(7, 3), activation(kernel)]
            deep = random_network(layers, dtype, seed=3)
            add(f"deep_{kernel}", deep, rows_for(deep, 40, seed=4))
        for width in (1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 100, 200):
            layers = [Dense(width, 3), Tanh(), Dense(3, width), Softmax()]
            net = random_network(layers, dtype, seed=width)
            add(f"width_{width}", net, 3 * rows_for(net, 20, seed=width))
        for n_in, n_out in [(255, 1), (256, 1), (257, 4), (300, 5), (700, 8), (263, 9), (1000, 2)]:
            bias = n_in != 300
            net = random_network([Dense(n_in, n_out, bias=bias)], dtype, seed=n_in)
            X = rows_for(net, 10, seed=n_in)
            X[:5] *= 10.0 ** np.random.default_rng(n_in).integers(-20, 20, size=X[:5].shape)
            X[0] *= np.finfo(dtype).tiny  # sums that underflow, with signs
            X[1] = 0.0
            add(f"long_{n_in}_{n_out}", net, X)
        net = random_network([Dense(3, 5), Softplus(), Dense(5, 2)], dtype, seed=9)
        X = rows_for(net, 20, seed=9) * np.finfo(dtype).smallest_normal
        net.parameters = net.parameters * 1e-3
        add("subnormal", net, X)
        layers = [Dropout(0.5), Dense(3, 6, bias=False), Identity(), LeakyReLU(slope=0.3)]
        layers += [Softplus(), Dropout(0.2), Dense(6, 4), LeakyReLU(slope=0.7), Softmax(), Tanh()]
        net = random_network(layers, dtype, seed=5)
        add("mixture", net, rows_for(net, 200, seed=5))
        add("workspace", net, rows_for(net, 20, seed=6), workspace="caller")
        net = random_network([Tanh(), Dense(2, 2), Softmax()], dtype, seed=8)
        add("first", net, 3 * rows_for(net, 50, seed=8))
        net = random_network([Dense(9, 9), Softmax()], dtype, seed=2)
        X = rows_for(net, 60, seed=2) * 300
        X[0, 0], X[1, 1], X[2, 2] = np.inf, -np.inf, np.nan
        add("softmax", net, X)
        net = random_network([Dense(3, 2), Tanh()], dtype, seed=7)
        scaling = (np.array([1e3, -2.0, 0.1]), np.array([7.0, 1e-3, 3.0]))
        X = (rows_for(net, 30, seed=7) * scaling[1] + scaling[0]).astype(dtype)
        add("standardized", net, X, standardization=scaling)
    return found


NETWORKS = build_networks()


def predicted(net, X, keywords):
    if "standardization" in keywords:
        mean, scale = (np.asarray(a, net.dtype) for a in keywords["standardization"])
        X = (X - mean) / scale
    return net.predict(X)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    program = Program(tmp_path_factory.mktemp("exported"))
    for name, net, _, keywords in NETWORKS:
        place = program.add(
            name, REALS[net.dtype.name], net.n_in, net.n_out, "workspace" in keywords
        )
        bpcore.export_c(net, place, name=name, **keywords)
    program.write_driver()
    return program


def check(program, built, emulator=()):
    outputs = program.run(built, [X for _, _, X, _ in NETWORKS], emulator)
    for (name, net, X, keywords), found in zip(NETWORKS, outputs, strict=True):
        expected = predicted(net, X, keywords)
        same = same_bits(found, expected)
        if not same.all():
            row = int(np.argmin(same.all(axis=1)))
            raise AssertionError(
                f"{name}: {np.sum(~same)} of {same.size} differ, first for {X[row][:5]}: "
                f"{found[row][:5]} instead of {expected[row][:5]}"
            )


HAS_FMA = platform.machine().lower() in ("x86_64", "amd64") and "avx2" in bpcore.simd_levels()
FMA = ["-mfma"] if HAS_FMA else []
# The dialects of GNU contract products and sums unless told otherwise; both compilers do when told to.
BUILDS = {
    "gcc, no optimisation, fma in software": ("gcc", [*C99, "-O0"]),
    "gcc, as people compile": ("gcc", ["-O2", *FMA]),
    "gcc, contracting": ("gcc", ["-O3", "-ffp-contract=fast", *FMA]),
    "clang, fma in software": ("clang", [*C99, "-O2"]),
    "clang, contracting": ("clang", ["-O3", "-ffp-contract=fast", *FMA]),
    "gcc, sanitizers": (
        "gcc",
        [*C99, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    ),
}


@pytest.mark.parametrize("build", BUILDS)
def test_same_bits_as_predict(program, build):
    compiler, flags = BUILDS[build]
    if not installed(compiler):
        pytest.skip(f"no {compiler} here")
    check(program, program.build(compiler, flags))
