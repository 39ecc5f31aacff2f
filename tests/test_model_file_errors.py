"""Damaged and foreign files: a ModelFileError that says what is wrong, and nothing else."""

import io
import json
import os
import pickle
import sys
import tracemalloc

import numpy as np
import pytest

import bpcore
from bpcore import ModelFileError

ROWS = np.random.default_rng(1).standard_normal((10, 4))


@pytest.fixture
def path(tmp_path):
    """The file of a network 4-5-3 that has trained with Adam."""
    net = bpcore.mlp([4, 5, 3], hidden="tanh", rng=0, l2=0.01)
    net.fit(ROWS, np.sin(ROWS[:, :3]), epochs=2, optimizer="adam")
    net.metadata["columns"] = ["a", "b", "c", "d"]
    path = tmp_path / "model.safetensors"
    net.save(path)
    return path


def parts(path):
    """The header, bpcore's description in it, and the data."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    return header, json.loads(header["__metadata__"]["bpcore"]), data[end:]


def write_parts(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def edit(path, change):
    """Rewrite a model file; `change` alters its header and its description in place."""
    header, description, data = parts(path)
    data = change(header, description, data) or data
    if "bpcore" in header.get("__metadata__", ()):
        header["__metadata__"]["bpcore"] = json.dumps(description)
    write_parts(path, header, data)


def put(*keys_and_value):
    """Make a change that sets one entry of the description."""
    *keys, last, value = keys_and_value

    def change(header, description, data):
        for key in keys:
            description = description[key]
        description[last] = value

    return change


def resize(header, description, data):
    """A network of a billion units, in the description as well as in the header."""
    description["network"]["layers"][0]["n_out"] = 10**9
    description["network"]["layers"][2]["n_in"] = 10**9
    start = 0
    for name, shape in {
        "0.bias": [10**9],
        "0.weight": [4, 10**9],
        "2.bias": [3],
        "2.weight": [10**9, 3],
        "optimizer.first_moment": [8 * 10**9 + 3],
        "optimizer.second_moment": [8 * 10**9 + 3],
    }.items():
        end = start + 8 * int(np.prod(shape))
        header[name] = {"dtype": "F64", "shape": shape, "data_offsets": [start, end]}
        start = end


def put_number(value, at):
    def change(header, description, data):
        start = header["0.weight"]["data_offsets"][0] + 8 * at
        return data[:start] + np.array(value, "<f8").tobytes() + data[start + 8 :]

    return change


def swap_offsets(header, description, data):
    a, b = header["optimizer.first_moment"], header["0.bias"]
    a["data_offsets"], b["data_offsets"] = b["data_offsets"], a["data_offsets"]


CHANGES = {
    "no metadata": (lambda h, d, b: h.pop("__metadata__") and None, "not a model of bpcore"),
    "other metadata": (lambda h, d, b: h.update(__metadata__={"a": "b"}), "not a model of bpcore"),
    "metadata is a list": (lambda h, d, b: h.update(__metadata__=[]), "not a safetensors file"),
    "unknown version": (put("format", 2), "unknown format version 2"),
    "version true": (put("format", True), "unknown format version True"),
    "no version": (lambda h, d, b: d.pop("format") and None, "unknown format version None"),
    "extra key": (put("surprise", 1), "surprise"),
    "missing tensor": (lambda h, d, b: h.pop("2.bias") and None, r"missing tensors: '2\.bias'"),
    "missing slot": (lambda h, d, b: h.pop("optimizer.first_moment") and None, "missing tensors"),
    "extra tensor": (lambda h, d, b: h.update(more=h["0.bias"]), "extra tensors: 'more'"),
    "transposed": (lambda h, d, b: h["0.weight"].update(shape=[5, 4]), r"\(4, 5\), found \[5, 4\]"),
    "other dtype": (lambda h, d, b: h["0.bias"].update(dtype="I64"), "expected dtype float64"),
    "no dtype": (lambda h, d, b: h["0.bias"].pop("dtype") and None, "expected dtype float64"),
    "swapped offsets": (swap_offsets, "not a valid safetensors file"),
    "nan": (put_number(np.nan, 7), r"non-finite weights: tensor '0\.weight' has nan at \(1, 2\)"),
    "infinity": (put_number(-np.inf, 0), r"non-finite weights.* -inf at \(0, 0\)"),
    "trailing bytes": (lambda h, d, b: b + b"x", "trailing bytes"),
    "cut off": (lambda h, d, b: b[:-1], "truncated"),
    "widths don't fit tensors": (put("network", "layers", 0, "n_in", 10**9), "expected shape"),
    "a billion units": (resize, "truncated"),
    "widths of 4,000 digits": (put("network", "layers", 0, "n_in", 10**4000), "expected shape"),
    "zero units": (put("network", "layers", 0, "n_out", 0), "n_out"),
    "fractional units": (put("network", "layers", 0, "n_out", 5.5), "n_out"),
    "text as units": (put("network", "layers", 0, "n_out", "5"), "n_out"),
    "true as units": (put("network", "layers", 0, "n_out", True), "n_out"),
    "layers missing": (put("network", "layers", None), "malformed"),
    "layers as dict": (put("network", "layers", {}), "."),
    "unknown layer": (put("network", "layers", 1, "type", "Dens"), "Dens"),
    "layer without type": (put("network", "layers", 1, {}), "malformed"),
    "layer argument": (put("network", "layers", 1, "speed", 3), "speed"),
    "name a number": (put("network", "layers", 1, "name", 3), "."),
    "unknown loss": (put("network", "loss", "type", "Mse"), "Mse"),
    "unknown dtype": (put("network", "dtype", "int8"), "int8"),
    "dtype a number": (put("network", "dtype", 3), "malformed"),
    "object dtype": (put("network", "dtype", "O"), "malformed"),
    "negative l2": (put("network", "l2", -1.0), "l2"),
    "no l2": (lambda h, d, b: d["network"].pop("l2") and None, "l2"),
    "unknown entry": (put("network", "l3", 0.0), "l3"),
    "metadata a list": (put("network", "metadata", []), "metadata"),
    "network a list": (put("network", []), "JSON objects"),
    "optimizer as text": (put("network", "optimizer", "adam"), "."),
    "unknown optimizer": (put("network", "optimizer", "type", "Adan"), "Adan"),
    "negative rate": (put("network", "optimizer", "learning_rate", -1.0), "learning_rate"),
    "optimizer missing": (put("network", "optimizer", None), "extra tensors"),
    "negative step": (put("optimizer_step", -1), "optimizer_step"),
    "huge step": (put("optimizer_step", 2**64), "optimizer_step"),
    "step true": (put("optimizer_step", True), "optimizer_step"),
    "generator missing": (put("network", "rng", None), "malformed"),
    "generator unknown": (put("network", "rng", "bit_generator", "getattr"), "unknown generator"),
    "generator a list": (put("network", "rng", "bit_generator", []), "malformed"),
    "state too large": (put("network", "rng", "state", "state", 2**128), "whole number"),
    "state negative": (put("network", "rng", "state", "inc", -1), "whole number"),
    "increment even": (put("network", "rng", "state", "inc", 4), "even"),
    "state missing": (put("network", "rng", "state", {}), "must have the entries"),
    "state a number": (put("network", "rng", "state", 3), "must have the entries"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_malformed_files(path, name):
    change, words = CHANGES[name]
    edit(path, change)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=words) as caught:
            bpcore.load(path)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("generator", "keys", "value"),
    [
        ("MT19937", ["state", "pos"], 10**6),  # NumPy reads beyond its buffer
        ("MT19937", ["state", "pos"], -1),
        ("MT19937", ["state", "key"], [0] * 624),  # every draw would be 0
        ("MT19937", ["state", "key"], [1] * 623),
        ("MT19937", ["state", "key", 3], 2**32),
        ("MT19937", ["state", "key", 3], 0.5),
        ("Philox", ["buffer_pos"], 5),
        ("Philox", ["buffer_pos"], -(10**6)),
        ("Philox", ["state", "counter"], []),
        ("SFC64", ["state", "state"], [1, 2, 3, 4, 5]),
        ("SFC64", ["has_uint32"], 2),
        ("SFC64", ["bit_generator"], "Philox"),
    ],
)
def test_generator_states_that_numpy_would_take_on_trust(tmp_path, generator, keys, value):
    rng = np.random.Generator(getattr(np.random, generator)(0))
    path = tmp_path / "model"
    bpcore.mlp([2, 1], rng=rng).save(path)
    edit(path, put("network", "rng", *keys, value))
    with pytest.raises(ModelFileError, match="malformed description"):
        bpcore.load(path)


def _archive():
    file = io.BytesIO()
    np.savez(file, a=np.arange(9))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        b"\0" * 100,
        b"\xff" * 100,
        b"\xff" * 8 + b"{}" + b" " * 100,
        (2).to_bytes(8, "little") + b"{]",
        (4).to_bytes(8, "little") + b"{\xff\xfe}",
        (6).to_bytes(8, "little") + b'{"a":1',
        (7).to_bytes(8, "little") + b'{"a":1}',
        (40007).to_bytes(8, "little") + b'{"a":1,' + b"[" * 40000,
        (20000).to_bytes(8, "little") + b'{"a":' + b'{"a":' * 3999,
        *(pickle.dumps({"a": np.arange(99)}, protocol) for protocol in range(6)),
        _archive(),
        b"name,value\n" * 20,
    ],
    ids=range(19),
)
def test_not_a_safetensors_file(tmp_path, content):
    path = tmp_path / "model"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="not a safetensors file") as caught:
        bpcore.load(path)
    assert str(path) in str(caught.value)


def test_oversized_header_is_not_read(tmp_path):
    path = tmp_path / "model"
    for length in (2**63, 2**24 + 1):
        path.write_bytes(length.to_bytes(8, "little") + b'{"a":{}}')
        with pytest.raises(ModelFileError, match=f"oversized header: {length} bytes"):
            bpcore.load(path)


@pytest.mark.parametrize(
    "old", [b'"2.bias":{', b'"shape":[', b'{\\"format\\": 1, ', b'\\"n_in\\": 4']
)
def test_duplicate_keys(path, old):
    data = path.read_bytes()
    header = data[8 : 8 + int.from_bytes(data[:8], "little")]
    assert old in header
    if old == b'"2.bias":{':
        new = b'"2.bias":{"shape":[3]},' + old
    elif old == b'"shape":[':
        new = b'"shape":[1],' + old
    else:
        key = old.strip(b"{, ")
        new = old.replace(key, key + b", " + key)
    write_parts(path, header.replace(old, new, 1), data[8 + len(header) :])
    with pytest.raises(ModelFileError, match="duplicate key"):
        bpcore.load(path)


# Damage


def assert_loads_or_refuses(path, X):
    try:
        net = bpcore.load(path)
    except ModelFileError as error:
        assert str(error).startswith(str(path))
        return 0
    assert np.isfinite(net.parameters).all() and net.predict(X).shape == (len(X), 3)
    return 1


def test_truncation_at_every_length(path):
    for length in reversed(range(path.stat().st_size)):
        os.truncate(path, length)
        with pytest.raises(ModelFileError):
            bpcore.load(path)


def test_random_damage(path):
    rng = np.random.default_rng(0)
    data = np.frombuffer(path.read_bytes(), np.uint8)
    length = 8 + int.from_bytes(data[:8].tobytes(), "little")
    loaded = 0
    with np.errstate(all="ignore"):
        for trial in range(1500):
            damaged = data.copy()
            # Bit flips, printable bytes and cuts, in the header more often than in the numbers.
            at = rng.integers(length if trial % 4 else len(data), size=1 + trial % 3)
            if trial % 2:
                damaged[at] ^= (1 << rng.integers(8, size=len(at))).astype(np.uint8)
            else:
                damaged[at] = rng.choice(np.frombuffer(b'0123456789-."[]{}\\,:eEntf', np.uint8))
            if trial % 10 == 0:
                damaged = np.delete(damaged, at)
            path.unlink()  # quicker than to write over it
            path.write_bytes(damaged.tobytes())
            loaded += assert_loads_or_refuses(path, ROWS)
    assert 0 < loaded < 1500


ODD_VALUES = [None, True, -1, 0.5, 10**30, "", [], {"type": "ReLU"}]


def places(value):
    """Every place in a JSON value, as the keys that lead there."""
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
        yield (key,)
        if isinstance(entry, dict | list):
            yield from ((key, *more) for more in places(entry))


@pytest.mark.parametrize("part", [0, 1], ids=["header", "description"])
def test_odd_values_in_every_place(path, part):
    header, description, data = parts(path)
    texts = json.dumps(header), json.dumps(description)
    for place in places((header, description)[part]):
        for value in ODD_VALUES:
            both = [json.loads(text) for text in texts]
            put(*place, value)(None, both[part], None)
            if part == 1:
                both[0]["__metadata__"]["bpcore"] = json.dumps(both[1])
            path.unlink()
            write_parts(path, both[0], data)
            assert_loads_or_refuses(path, ROWS)


def test_random_bytes(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "model"
    for n_bytes in range(200):
        content = rng.bytes(n_bytes)
        if n_bytes % 2 and n_bytes > 9:
            content = (n_bytes - 8).to_bytes(8, "little") + b"{" + content[9:]
        path.write_bytes(content)
        assert assert_loads_or_refuses(path, ROWS) == 0


@pytest.mark.skipif(os.name != "posix", reason="sparse files")
@pytest.mark.skipif(sys.platform == "darwin", reason="APFS may fill the hole")
def test_a_huge_sparse_file_costs_no_memory(path):
    os.truncate(path, 1 << 40)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="trailing bytes"):
            bpcore.load(path)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()
