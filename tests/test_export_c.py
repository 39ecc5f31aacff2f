"""Exported C: the bits of predict, whatever the compiler, its flags and the processor."""

import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest
import reference
from agreement import activation
from exported import C99, Program, installed, same_bits

import bpcore
from bpcore import (
    Dense,
    Dropout,
    Identity,
    LeakyReLU,
    Network,
    Softmax,
    Softplus,
    Tanh,
    cparts,
)
from bpcore.csource import literal

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
        for width in (1, 2, 3, 5, 8, 9, 17, 33, 100, 200):
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
        net = random_network([Dense(259, 2, bias=False)], dtype, seed=1)
        net.parameters = -np.abs(net.parameters) / 10  # lanes that underflow to -0
        add("zeros", net, np.full((1, 259), np.finfo(dtype).smallest_subnormal))
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
FEW = [name for name, *_ in NETWORKS if not name.startswith(("sweep", "width_1"))]


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
    return program


def check(program, names, emulator=()):
    cases = {name: (net, X, keywords) for name, net, X, keywords in NETWORKS if name in names}
    outputs = program.run(names, [cases[name][1] for name in names], emulator)
    for name, found in zip(names, outputs, strict=True):
        net, X, keywords = cases[name]
        expected = predicted(net, X, keywords)
        same = same_bits(found, expected)
        if not same.all():
            row = int(np.argmin(same.all(axis=1)))
            raise AssertionError(
                f"{name}: {np.sum(~same)} of {same.size} differ, first for {X[row][:5]}: "
                f"{found[row][:5]} instead of {expected[row][:5]}"
            )


IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
FMA = ["-mfma"] if IS_X86 and "avx2" in bpcore.simd_levels() else []
SANITIZERS = ["-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# GNU's dialects contract products and sums unless told otherwise; clang does when told to.
BUILDS = {
    "gcc, no optimisation, fma in software": ("gcc", [*C99, "-O0"], None),
    "gcc, contracting": ("gcc", ["-O3", "-ffp-contract=fast", *FMA], None),
    "gcc, sanitizers": ("gcc", [*C99, *SANITIZERS], FEW),
    "clang": ("clang", [*C99, "-O1"], FEW),
    "clang, told to reassociate": (
        "clang",
        ["-O2", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", *FMA],
        [name for name in FEW if not name.startswith("zeros")],  # their signs it may drop
    ),
    "clang, contracting": ("clang", ["-O2", "-ffp-contract=fast", *FMA], None),
    "AArch64": ("aarch64-linux-gnu-gcc", [*C99, "-O1", "-static"], None),
    "32-bit ARM": ("arm-linux-gnueabihf-gcc", [*C99, "-O1", "-static"], FEW),
    "32-bit ARM with fma": (
        "arm-linux-gnueabihf-gcc",
        [*C99, "-O1", "-static", "-mcpu=cortex-a7", "-mfpu=neon-vfpv4"],
        FEW,
    ),
}
EMULATORS = {
    "aarch64-linux-gnu-gcc": "qemu-aarch64-static",
    "arm-linux-gnueabihf-gcc": "qemu-arm-static",
}


@pytest.mark.skipif(bpcore.simd_level() == "generic", reason="the bits are those of fma")
@pytest.mark.parametrize("build", BUILDS)
def test_same_bits_as_predict(program, build):
    compiler, flags, names = BUILDS[build]
    emulator = [EMULATORS[compiler]] if compiler in EMULATORS else []
    if not installed(compiler, *emulator):
        pytest.skip(f"no {' or '.join([compiler, *emulator])} here; .ci/run installs what it can")
    check(program, program.build(compiler, flags, names), emulator)


FMA_DRIVER = """
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

{functions}

static uint64_t state = 88172645463325252u;
static uint64_t random_bits(void)
{{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 2685821657736338717u;
}}

/* Of any size if `kind` is 0; else of sizes that meet, with many zeros at the end now and then. */
static {real} number(int kind)
{{
    const int middle = kind == 1 ? {bias} : kind == 2 ? 30 : {bias} / 2;
    const unsigned spread = kind == 3 ? 100 : 60;
    uint{bits}_t bits = (uint{bits}_t)random_bits();
    {real} x;
    if (random_bits() % 4 == 0) bits &= ~(((uint{bits}_t)1 << random_bits() % {mantissa}) - 1);
    if (kind) {{
        bits &= ~((uint{bits}_t)(2 * {bias} + 1) << {mantissa});
        bits |= (uint{bits}_t)(middle - 30 + (int)(random_bits() % spread) / 2) << {mantissa};
    }}
    memcpy(&x, &bits, sizeof x);
    return x;
}}

int main(void)
{{
    long i, wrong = 0;
    for (i = 0; i < 1000000; i++) {{
        const int kind = (int)(i % 4);
        const {real} a = number(kind), b = number(kind);
        const {real} c = random_bits() % 4 ? number(kind == 3 ? 2 : kind) : -a * b;
        const {real} found = t_fma_once(a, b, c), expected = fma{suffix}(a, b, c);
        const int both_nan = found != found && expected != expected;
        wrong += memcmp(&found, &expected, sizeof found) && !both_nan;
    }}
    printf("%ld\\n", wrong);
    return 0;
}}
"""


@pytest.mark.parametrize("dtype", REALS)
def test_fma_in_software_is_the_c_library_s(dtype, tmp_path):
    """Bit for bit, at cancellation, underflow and overflow too."""
    info, bits = np.finfo(dtype), np.dtype(dtype).itemsize * 8
    functions = cparts.FMA_ONCE[bits].replace("#endif\n", "").replace("@name@", "t")
    text = FMA_DRIVER.format(
        functions=functions,
        real=REALS[dtype],
        bits=bits,
        bias=info.maxexp - 1,
        mantissa=info.nmant,
        suffix="f" if bits == 32 else "",
    )
    (tmp_path / "fma.c").write_text(text)
    subprocess.run(["gcc", *C99, "-O2", "fma.c", "-o", "fma", "-lm"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "fma"], capture_output=True).stdout == b"0\n"


def test_needs_no_library(program):
    """Not even libm, and nothing of the C library but memcpy; hence no allocation, no state."""
    names = [name for name in FEW if not name.startswith("width")]
    for flags in ([], FMA):
        wanted = program.symbols("gcc", ["-c", "-O1", *flags], names)
        assert wanted <= {"memcpy", "memset", "__stack_chk_fail"}, wanted


@pytest.mark.parametrize("hidden", ["relu", "tanh"])
def test_without_fma_at_all(hidden, tmp_path):
    """The switch for slow processors: near to predict, not equal."""
    net = random_network([Dense(4, 9), activation(hidden), Dense(9, 3)], "float64", seed=1)
    alone = Program(tmp_path)
    bpcore.export_c(net, alone.add("plain", "double", 4, 3), name="plain")
    X = rows_for(net, 50, seed=2)
    flags = [*C99, "-O2", "-ffp-contract=off", "-DPLAIN_NO_FMA"]
    (found,) = alone.run(alone.build("gcc", flags), [X])
    np.testing.assert_allclose(found, net.predict(X), rtol=0, atol=40 * 2.0**-53)
    assert not same_bits(found, net.predict(X)).all()


REFUSED = {
    "-ffast-math": "-ffast-math and the like change the results",
    "-funsafe-math-optimizations": "-ffast-math and the like",
    "-fassociative-math -fno-signed-zeros -fno-trapping-math": "-ffast-math and the like",
    "-freciprocal-math": "-ffast-math and the like",
    "-ffinite-math-only": "-ffast-math and the like",
    "-fno-signed-zeros": "-ffast-math and the like",
    "-mfpmath=387": "wider arithmetic changes the results",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_other_arithmetic_is_refused(program, flags):
    if "387" in flags and not IS_X86:
        pytest.skip("x87 is of x86")
    with pytest.raises(AssertionError, match=REFUSED[flags]):
        program.build("gcc", ["-O2", *flags.split()], FEW[:1])


def test_header_is_cplusplus(program):
    if not installed("g++"):
        pytest.skip("no g++ here")
    text = (
        "".join(f'#include "{name}.h"\n' for name in program.networks)
        + "int main() { return 0; }\n"
    )
    (program.folder / "headers.cpp").write_text(text)
    command = ["g++", "-std=c++98", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"]
    done = subprocess.run([*command, "headers.cpp"], cwd=program.folder, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


# ---------------------------------------------------------------- the text


def test_output_is_reproducible(tmp_path):
    net = bpcore.mlp([3, 4, 2], hidden="gelu", rng=0)
    texts = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        done = bpcore.export_c(net, tmp_path / folder / "net.c", name="net")
        texts.append([Path(p).read_text() for p in (done.source, done.header)])
    assert texts[0] == texts[1]
    assert bpcore.__version__ in texts[0][0] and "Dense(3, 4)" in texts[0][1]


def test_sizes(tmp_path):
    net = bpcore.mlp([3, 7, 4, 2], rng=0, dtype="float32")
    done = bpcore.export_c(net, tmp_path / "net.c")
    assert (done.constant_bytes, done.stack_bytes) == (4 * net.parameters.size, 4 * (7 + 4))
    text = Path(done.header).read_text()
    assert f"{done.constant_bytes} bytes of constants" in text
    done = bpcore.export_c(net, tmp_path / "net.c", workspace="caller")
    assert done.stack_bytes == 0
    assert "#define CONTROLLER_N_WORKSPACE 11" in Path(done.header).read_text()


@pytest.mark.parametrize("dtype", REALS)
def test_literals_are_read_back(dtype):
    values = numbers(dtype, 200)[:, 0]
    for value in values[np.isfinite(values)]:
        text = literal(value)
        assert text.endswith("f") == (dtype == "float32")
        back = np.dtype(dtype).type(float.fromhex(text.rstrip("f")))
        assert same_bits(np.array(back), np.array(value))
