"""Tables: what is read, what is refused and how the message says where, what becomes of columns."""

import sys

import numpy as np
import pytest

from bpcore.encoding import TableEncoder, split_rows
from bpcore.tablefiles import iris_path, read_table
from bpcore.tables import InputError

HEADER = "x,y,t\n"
ROWS = "".join(f"{i % 7},{i * i % 5},{'ab'[i % 2]}\n" for i in range(20))  # lines 2 to 21
GOOD = HEADER + ROWS


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write text or bytes to data.csv in an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def write(content):
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "data.csv").write_bytes(data)
        return "data.csv"

    return write


def encode(path, target="t", rows=None, **keywords):
    table = read_table(path, (target, *keywords.get("categorical", ())))
    encoder = TableEncoder.plan(table, target, **keywords)
    encoder.fit_scales(table, np.arange(len(table)) if rows is None else rows)
    return encoder, table


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace(",", " , "),
        "\n" + GOOD.replace("\n", "\n  \n"),
        GOOD.replace("a\n", '"a"\n'),
        '"x", "y","t"\n' + ROWS,
        GOOD.removesuffix("\n"),
    ],
    ids=[
        "plain",
        "bom",
        "crlf",
        "cr",
        "semicolon",
        "tab",
        "spaces",
        "blank lines",
        "quotes",
        "quoted header",
        "no end",
    ],
)
def test_the_same_table_however_it_is_written(write, content):
    encoder, table = encode(write(content))
    assert table.columns == ["x", "y", "t"]
    assert encoder.classes == ["a", "b"]
    np.testing.assert_array_equal(table.numbers("y"), [i * i % 5 for i in range(20)])
    np.testing.assert_array_equal(encoder.encode_target(table), [0, 1] * 10)


REFUSED = {
    "empty": (b"", "data.csv, line 1: the file is empty"),
    "blank": (b" \n\n", "data.csv, line 1: the file is empty"),
    "UTF-16": (GOOD.encode("utf-16"), "line 1: found UTF-16 text, expected CSV as UTF-8 text"),
    "UTF-16 without mark": (GOOD.encode("utf-16-le"), "line 1, column 1: found a NUL byte"),
    "Latin-1": (
        (GOOD + "3,4,é\n").encode("latin-1"),
        "line 22, column 't': found byte 0xe9, which is not UTF-8",
    ),
    "Latin-1 header": ("x,y,é\n".encode("latin-1"), "line 1, column 3: found byte 0xe9"),
    "NUL": (GOOD + "3,\0,a\n", "line 22, column 'y': found a NUL byte"),
    "NUL in quotes": (GOOD + '"3\n,7","4\0",a\n', "line 23, column 'y': found a NUL byte"),
    "Excel": (b"PK\x03\x04rest", "line 1: found an Excel or zip file"),
    "binary": (bytes(range(1, 256)) * 600, "data.csv, line 3"),
    "short row": (GOOD + "3,4\n" + ROWS, "line 22, column 't': the row ends after 2 of 3 columns"),
    "long row": (GOOD + "3,4,a,5\n", "line 22, column 4: found '5', but the header has 3 columns"),
    "long row of nothing": (
        GOOD + "3,4,a,\n",
        "line 22, column 4: found '', but the header has 3 columns",
    ),
    "all rows long": (
        GOOD.replace("\n", ",9\n").replace("t,9", "t"),
        "line 2, column 4: found '9'",
    ),
    "short row below quotes": (
        GOOD + '3,4,"a\n\nb"\n3\n',
        "line 25, column 'y': the row ends after 1",
    ),
    "open quote": (
        GOOD + '3,4,"a\n' + ROWS,
        "line 22: a quote that opens in this row is never closed",
    ),
    "huge field": (GOOD + '3,4,"' + "a" * 200_000 + '"\n', "line 22: found a field of more than"),
    "text after quote": (GOOD + '3,4,"a"b\n', "line 22: found text after a closing quote"),
    "two of a name": ("x, x ,t\n" + ROWS, "line 1, column 2: 'x' is the name of column 1 too"),
    "no names": (",,\n" + ROWS, "line 1: no column has a name"),
    "no rows": (HEADER, "data.csv: there are no rows after the header"),
    "no target": (
        "x,y,T1\n" + ROWS,
        "line 1: no column 't'; the closest is 'T1'; columns: x, y, T1",
    ),
    "no header": (
        "5,3,a\n" + ROWS,
        "line 1: no column 't'; the first line must name the columns; columns: 5, 3, a",
    ),
    "only a target": ("t\n" + "a\nb\n" * 9, "line 1: there is no column to predict 't' from"),
    "text": (GOOD + "3,abc,a\n", "line 22, column 'y': found 'abc', expected a number"),
    "text below quotes": (
        HEADER + '3,4,"a\nb"\n' + ROWS + "3,x,a\n",
        "line 24, column 'y': found 'x'",
    ),
    "decimal comma": (
        "x;t\n" + "".join(f"{i},5;{'ab'[i % 2]}\n" for i in range(20)),
        "line 2, column 'x': found '0,5', expected a number (write decimals with a point)",
    ),
    "no value": (GOOD + "3,,a\n", "line 22, column 'y': no value"),
    "no values": (
        GOOD + "3,NA,a\n4,?,a\n",
        "line 22, column 'y': no value ('NA'); 2 rows have none in this column",
    ),
    "no class": (GOOD + "3,1,\n", "line 22, column 't': no value"),
    "infinity": (GOOD + "3,-inf,a\n", "line 22, column 'y': found '-inf', expected a number"),
    "too large": (GOOD + "3,1e999,a\n", "line 22, column 'y': found '"),
    "one class": (
        GOOD.replace("b", "a"),
        "column 't': every row has the class 'a'; there is nothing to learn",
    ),
    "one value": ("x,t\n" + "1,3.5\n2,3.5\n" * 9, "column 't': every row has the value 3.5"),
    "names": (
        "n n,t\n" + "".join(f"name{i},{'ab'[i % 2]}\n" for i in range(20)),
        "line 2, column 'n n': found 20 different texts, too many for categories; "
        "leave it out with --drop 'n n'",
    ),
    "all classes differ": (
        "x,t\n" + "".join(f"{i},name{i}\n" for i in range(20)),
        "line 2, column 't': found 20 different values in 20 rows, too many for classes",
    ),
    "text in a quantity": (
        "x,t\n" + "".join(f"{i},{i}.5\n" for i in range(30)) + "1,abc\n",
        "line 32, column 't': found 'abc', expected a number",
    ),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(write, content, message):
    with pytest.raises(InputError) as caught:
        encode(write(content))
    text = str(caught.value)
    assert message in text
    assert text.startswith("data.csv")
    assert "\n" not in text


def test_empty_first_field_after_a_lone_carriage_return(write):
    table = read_table(write("x,y,t\r1,2,a\r,3,b\r"))
    assert list(table.frame["y"]) == [2, 3]
    with pytest.raises(InputError, match="line 3, column 'x': no value"):
        table.numbers("x")


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv: No such file or directory"):
        read_table(tmp_path / "gone.csv")
    if sys.platform != "win32":
        with pytest.raises(InputError, match="directory"):
            read_table(tmp_path)
        with pytest.raises(InputError, match="/dev/null: not a file"):
            read_table("/dev/null")


def test_column_without_name_is_left_out_and_said(write):
    table = read_table(write("," + GOOD.replace("\n", "\n0,").removesuffix("0,")))
    assert table.columns == ["x", "y", "t"]
    assert table.notes == ["column 1 of data.csv has no name and is left out"]


def test_categories_become_columns_of_0_and_1(write):
    path = write("color,size,t\n" + "red,1,a\nblue,2,b\ngreen,3,a\nred,4,b\n" * 3)
    encoder, table = encode(path)
    assert encoder.features[0] == {"column": "color", "categories": ["blue", "green", "red"]}
    assert encoder.n_features == 4
    x = encoder.encode_features(table)
    np.testing.assert_array_equal(x[:4, :3], [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    new = read_table(write("size,color\n1,red\n2,pink\n"), encoder.text_columns)
    with pytest.raises(
        InputError,
        match=r"line 3, column 'color': found 'pink', a category .* knows blue, green, red",
    ):
        encoder.encode_features(new)


def test_numbers_as_categories_keep_their_text(write):
    encoder, _ = encode(
        write("code,y,t\n" + "01,1,a\n02,2,b\n10,3,b\n9,4,a\n" * 3), categorical=("code",)
    )
    assert encoder.features[0]["categories"] == ["01", "02", "9", "10"]
    new = read_table(write("code,y\n01,3\n"), encoder.text_columns)
    np.testing.assert_array_equal(encoder.encode_features(new)[0, :4], [1, 0, 0, 0])


def test_scales_are_those_of_the_rows_given(write):
    path = write("x,c,b,t\n" + "".join(f"{i},7,{i % 2 == 0},{i * 1.5}\n" for i in range(30)))
    encoder, table = encode(path, rows=np.arange(10))
    x = encoder.encode_features(table)
    np.testing.assert_allclose(x[:10, 0].mean(), 0, atol=1e-15)
    np.testing.assert_allclose(x[:10, 0].std(), 1)
    assert encoder.features[1] == {"column": "c", "mean": 7.0, "scale": 1.0}
    assert set(x[:, 2]) == {-1.0, 1.0}
    y = encoder.encode_target(table)
    np.testing.assert_allclose(y[:10].std(), 1)
    np.testing.assert_allclose(
        encoder.decode(y[:, None]), table.numbers("t"), rtol=1e-15, atol=1e-14
    )
    assert TableEncoder.from_dict(encoder.to_dict()) == encoder


@pytest.mark.parametrize("value", ["1e300", "1e-300", "-1e308", "0.1"])
def test_scales_of_extreme_columns_are_finite(write, value):
    encoder, table = encode(write("x,t\n" + f"0,a\n{value},b\n" * 10), rows=np.arange(3))
    assert np.isfinite(encoder.encode_features(table)).all()
    encoder, table = encode(write("x,t\n" + f"{value},a\n{value},b\n" * 10))
    assert not encoder.encode_features(table).any()


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["yes", "no"], "auto", ["no", "yes"]),
        ([True, False], "auto", ["False", "True"]),
        (range(3), "auto", ["0", "1", "2"]),
        ([10, 9, -1], "auto", ["-1", "9", "10"]),
        (range(15), "auto", None),  # in 60 rows: four of each
        ([0.5, 1.5], "auto", None),
        (range(3), "regression", None),
        ([0.5, 1.5], "classification", ["0.5", "1.5"]),
        (["1", "2", "3+"], "auto", ["1", "2", "3+"]),
        (["1.0", "2", "1"], "auto", ["1", "2"]),
        (["1.0", "1.1", "2.0", "2"], "classification", ["1.0", "1.1", "2"]),
        (["007.0", "8"], "classification", ["007", "8"]),
    ],
)
def test_task(write, values, task, classes):
    rows = "".join(f"{i},{list(values)[i % len(values)]}\n" for i in range(60))
    encoder, _ = encode(write("x,t\n" + rows), task=task)
    assert encoder.classes == classes


def test_dropped_columns_are_not_looked_at(write):
    encoder, table = encode(
        write("n,x,t\n" + "".join(f"name{i},{i},{'ab'[i % 2]}\n" for i in range(20))), drop=("n",)
    )
    assert [feature["column"] for feature in encoder.features] == ["x"]
    assert table.notes == ["column x counts the rows; --drop it if it means nothing"]
    with pytest.raises(InputError, match="no column 'm'; columns: n, x, t"):
        encode("data.csv", drop=("m",))


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"features": [], "target": {}},
        {
            "features": [{"column": "x", "mean": 0, "scale": 0}],
            "target": {"column": "t", "classes": ["a"]},
        },
        {
            "features": [{"column": 3, "mean": 0, "scale": 1}],
            "target": {"column": "t", "classes": ["a"]},
        },
        {
            "features": [{"column": "x", "categories": [1]}],
            "target": {"column": "t", "classes": ["a"]},
        },
        {
            "features": [{"column": "x", "mean": float("nan"), "scale": 1}],
            "target": {"column": "t", "classes": []},
        },
        {"features": 3, "target": 4},
    ],
)
def test_damaged_description(data):
    with pytest.raises(ValueError, match="the description of the table is damaged"):
        TableEncoder.from_dict(data)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.2, 0.5, 0.99])
def test_split_keeps_the_classes_shares(fraction):
    labels = np.repeat([0, 1, 2, 3], [50, 30, 19, 1])[np.random.default_rng(1).permutation(100)]
    train, held = split_rows(100, fraction, np.random.default_rng(0), labels)
    np.testing.assert_array_equal(np.sort(np.r_[train, held]), np.arange(100))
    assert np.bincount(labels[train], minlength=4).min() >= 1
    assert len(held) == min(round(100 * fraction), 96)
    if fraction in (0.2, 0.5):
        expected = np.array([50, 30, 19, 0]) * fraction
        assert np.abs(np.bincount(labels[held], minlength=4) - expected).max() <= 1
    again, _ = split_rows(100, fraction, np.random.default_rng(0), labels)
    np.testing.assert_array_equal(train, again)


def test_split_of_a_quantity():
    train, held = split_rows(7, 0.01, np.random.default_rng(0))
    assert (len(train), len(held)) == (6, 1)


def test_iris_is_fishers():
    table = read_table(iris_path())
    assert table.columns == [
        "sepal_length",
        "sepal_width",
        "petal_length",
        "petal_width",
        "species",
    ]
    assert len(table) == 150
    assert list(table.frame.iloc[34]) == [
        4.9,
        3.1,
        1.5,
        0.2,
        "setosa",
    ]  # these two differ in the UCI copy
    assert list(table.frame.iloc[37]) == [4.9, 3.6, 1.4, 0.1, "setosa"]
    sums = table.frame.groupby("species").sum().round(1)
    assert list(sums.loc["virginica"]) == [329.4, 148.7, 277.6, 101.3]


def test_pipe(write, tmp_path):
    import os

    if not hasattr(os, "mkfifo"):
        pytest.skip("no FIFOs here")
    import threading

    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text(GOOD))
    writer.start()
    assert len(read_table(tmp_path / "pipe")) == 20
    writer.join()
