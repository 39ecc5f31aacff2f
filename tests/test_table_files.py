"""Tables of every format: the same however they are written; what is refused and how."""

import gzip
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas
import pytest

from bpcore.encoding import TableEncoder
from bpcore.tablefiles import FORMATS, format_of, frame_bytes, iris_path, read_table
from bpcore.tables import InputError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def frame():
    return pandas.DataFrame(
        {
            "x": [0.5, 1.5, -2.0, 4.0] * 2,
            "n": [1, 2, 3, 4] * 2,
            "color": ["red", "blue", "red", "green"] * 2,
            "code": [7, 10, 7, 10] * 2,
            "t": ["a", "b", "a", "b"] * 2,
        }
    )


def npy(array, **keywords):
    file = io.BytesIO()
    np.save(file, array, **keywords)
    return file.getvalue()


def npz(compressed=False, **arrays):
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


STRUCTURED = np.array(
    [tuple(row) for row in frame().itertuples(index=False)],
    dtype=[("x", "f8"), ("n", ">i4"), ("color", "U5"), ("code", "u1"), ("t", "S1")],
)
SAME = {
    "table.csv": lambda: frame().to_csv(index=False).encode(),
    "table.csv.gz": lambda: gzip.compress(frame().to_csv(index=False).encode()),
    "table.tsv": lambda: frame().to_csv(index=False, sep="\t").encode(),
    "TABLE.TSV.GZ": lambda: gzip.compress(frame().to_csv(index=False, sep="\t").encode()),
    "table.parquet": lambda: frame().to_parquet(index=False),
    "categories.pq": lambda: frame().astype({"color": "category"}).to_parquet(index=False),
    "index.parquet": lambda: frame().set_index("x").to_parquet(),
    "nullable.parquet": lambda: frame().astype({"n": "Int64", "x": "Float32"}).to_parquet(),
    "table.npy": lambda: npy(STRUCTURED),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_table_in_every_format(name):
    Path(name).write_bytes(SAME[name]())
    table = read_table(name, ("t", "code"))
    encoder = TableEncoder.plan(table, "t", categorical=("code",))
    encoder.fit_scales(table, np.arange(8))
    kinds = {f["column"]: f.get("categories") for f in encoder.features}
    assert kinds == {"x": None, "n": None, "color": ["blue", "green", "red"], "code": ["7", "10"]}
    assert encoder.classes == ["a", "b"]
    x = encoder.encode_features(table)
    np.testing.assert_allclose(x[:, 0] * encoder.features[0]["scale"], frame()["x"] - 1.0)
    np.testing.assert_array_equal(encoder.encode_target(table), [0, 1] * 4)


def test_arrays_name_their_columns():
    X = np.arange(8.0).reshape(4, 2)
    Path("a.npy").write_bytes(npy(np.asfortranarray(X.astype(">f4"))))
    assert read_table("a.npy").columns == ["x0", "x1"]
    np.testing.assert_array_equal(read_table("a.npy").numbers("x1"), X[:, 1])
    for y in (np.array([0.0, 1, 0, 1]), np.array([[0], [1], [0], [1]]), np.array(list("0101"))):
        Path("a.npz").write_bytes(npz(X=X, y=y, compressed=y.ndim == 2))
        table = read_table("a.npz", ("y",))
        assert table.columns == ["x0", "x1", "y"]
        assert list(table.text("y")) == ["0", "1", "0", "1"]
    Path("a.npz").write_bytes(npz(X=X, weights=X))
    assert read_table("a.npz").notes == ["left out of a.npz: weights"]


def test_a_missing_value_is_found_by_its_row():
    X = np.arange(8.0).reshape(4, 2)
    X[2, 1] = np.nan
    Path("a.npy").write_bytes(npy(X))
    with pytest.raises(InputError, match=r"a\.npy, row index 2, column 'x1': no value$"):
        read_table("a.npy").numbers("x1")
    table = frame().assign(n=[1, None] + [3] * 6, color=["red", None] + ["red"] * 6)
    table.to_parquet("a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet, row index 1, column 'n': no value$"):
        read_table("a.parquet").numbers("n")
    with pytest.raises(InputError, match=r"a\.parquet, row index 1, column 'color': no value$"):
        read_table("a.parquet").text("color")
    with pytest.raises(InputError, match=r"^a\.parquet: no column 'N'; the closest is 'n'"):
        read_table("a.parquet").require(["N"])


def announced(shape):
    """An npy file that says it is larger than it is."""
    return npy(np.zeros((2, 2))).replace(b"(2, 2), }" + b" " * (len(shape) - 6), shape + b", }")


X = np.zeros((4, 2))
REFUSED = {
    "a.npy": {
        "empty": (b"", "a.npy: is not an npy file"),
        "text": (b"x,t\n1,2\n", "a.npy: is not an npy file"),
        "cut": (npy(X)[:-1], "a.npy: announces 64 bytes of shape (4, 2), but 63 follow its header"),
        "cut header": (npy(X)[:60], "a.npy: is not an npy file"),
        "longer": (npy(X) + b"\0", "but 65 follow"),
        "huge": (announced(b"(9999999999999, 9999999)"), "announces 7999999"),
        "pickle": (npy(np.array([{}], object), allow_pickle=True), "Python objects (a pickle)"),
        "1-D": (npy(np.zeros(3)), "found (3,); array.reshape(-1, 1) is one column"),
        "3-D": (npy(np.zeros((3, 1, 1))), "shape (rows, columns), found (3, 1, 1)"),
        "no columns": (npy(np.zeros((3, 0))), "a.npy: has no columns"),
        "complex": (npy(X + 1j), "a.npy: holds complex128, expected numbers or text"),
        "dates": (npy(X.astype("M8[s]")), "a.npy: holds datetime64[s]"),
        "field": (npy(np.zeros(2, [("t", "c8")])), "a.npy, field 't': holds complex64"),
    },
    "a.npz": {
        "npy": (npy(X), "a.npz: is not an npz file (File is not a zip file)"),
        "cut": (npz(X=X)[:-30], "a.npz: is not an npz file"),
        "damaged": (npz(X=X, compressed=True).replace(b"\x03\x00", b"\x13\x01"), "a.npz"),
        "no X": (npz(data=X), "a.npz: has no array 'X' (and 'y'); its arrays: data"),
        "nothing": (npz(), "its arrays: none"),
        "pickle": (npz(X=np.array([{}], object)), "array 'X': holds Python objects (a pickle)"),
        "y longer": (npz(X=X, y=np.zeros(5)), "array 'y' has shape (5,), expected (4,) as 'X'"),
        "y wide": (npz(X=X, y=X), "array 'y' has shape (4, 2), expected (4,)"),
        "batch": (npz(X=X, y=X[:, 0], encoded=True), "`bpcore explain` takes it"),
    },
    "a.parquet": {
        "empty": (b"", "a.parquet: is not a Parquet file"),
        "text": (b"x,t\n1,2\n", "a.parquet: is not a Parquet file"),
        "cut": (b"PAR1" + b"\0" * 60, "a.parquet: is not a whole Parquet file ("),
        "two of a name": (None, "a.parquet: two columns are named '1'"),
    },
    "a.csv.gz": {
        "text": (b"x,t\n1,2\n", "a.csv.gz: is not a whole gzip file (Not a gzipped file"),
        "cut": (gzip.compress(b"x,t\n1,2\n" * 99)[:-9], "a.csv.gz: is not a whole gzip file"),
        "empty": (gzip.compress(b""), "a.csv.gz, line 1: the file is empty"),
    },
    "a.tsv": {
        "long row": (b"x\tt\n1\t2\n1\t2\t3\n", "a.tsv, line 3, column 3: found '3'"),
        "commas": (b"x,t\n1,2,3\n", "a.tsv, line 1: no column 't'"),
        "NUL": (b"x\tt\n1\t\0\n", "a.tsv, line 2, column 't': found a NUL byte"),
    },
    "a.csv": {
        "npy": (npy(X), "line 1: found an npy file (--format npy reads it), expected CSV"),
        "npz": (npz(X=X), "found an Excel or zip file (--format npz"),
        "parquet": (b"PAR1rest", "found a Parquet file (--format parquet reads it)"),
        "gzip": (gzip.compress(b"x,t\n"), "found a gzip file (its name must end in .gz)"),
    },
}
CASES = [(name, *row, case) for name, rows in REFUSED.items() for case, row in rows.items()]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("name", "content", "message", "case"), CASES, ids=lambda v: str(v)[:20])
def test_refused(name, content, message, case):
    if content is None:
        pandas.DataFrame({"1": [1], "x": [2]}).set_index(pandas.Index([3], name="1")).to_parquet(
            name
        )
    else:
        Path(name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_table(name).require(["t"])
    assert message in str(caught.value)
    assert str(caught.value).startswith(name) and "\n" not in str(caught.value)


def test_format_beats_the_name():
    Path("table.dat").write_bytes(npy(np.ones((3, 2))))
    assert read_table("table.dat", format="npy").columns == ["x0", "x1"]
    assert [format_of("a" + ending) for ending in (".CSV", ".tsv.gz", ".pq", "", ".dat")] == [
        "csv",
        "tsv",
        "parquet",
        "csv",
        "csv",
    ]
    assert set(FORMATS) == {"csv", "tsv", "parquet", "npy", "npz"}


def test_a_member_that_is_no_array():
    with zipfile.ZipFile("a.npz", "w") as archive:
        archive.writestr("X.npy", b"no array")
    with pytest.raises(InputError, match=r"a\.npz, array 'X': is not an npy file"):
        read_table("a.npz")


def test_pyarrow_missing(monkeypatch):
    Path("a.parquet").write_bytes(b"PAR1rest")
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    hint = r"need pyarrow: pip install 'bpcore\[parquet\]'"
    with pytest.raises(InputError, match=hint):
        read_table("a.parquet")
    with pytest.raises(InputError, match=hint):
        frame_bytes(frame(), "parquet")


def test_iris_in_parquet_is_iris():
    pandas.read_csv(iris_path()).to_parquet("iris.parquet")
    text, binary = read_table(iris_path(), ("species",)), read_table("iris.parquet", ("species",))
    assert text.columns == binary.columns
    for column in text.columns[:4]:
        np.testing.assert_array_equal(text.numbers(column), binary.numbers(column))
    np.testing.assert_array_equal(text.text("species"), binary.text("species"))
