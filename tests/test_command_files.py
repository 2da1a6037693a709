"""The tables that the command reads: CSV, NumPy's arrays and Parquet; and those that it refuses."""

from __future__ import annotations

import csv
import gzip
import io
import re
import sys

import numpy as np
import pytest
from helpers import NAMES, TABLE_X, TABLE_Y, table
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from hypothesis.strategies import floats, sampled_from

import sgdm
from sgdm._tables import read_csv

# CSV

ACCEPTED = {
    "plain": "a,b,y\n1,2,3\n-4,5e0,.5\n",
    "no newline at the end": "a,b,y\n1,2,3\n-4,5,0.5",
    "byte order mark": b"\xef\xbb\xbfa,b,y\n1,2,3\n-4,5,0.5\n",
    "byte order mark, quoted": b'\xef\xbb\xbf"a","b","y"\n1,2,3\n-4,5,0.5\n',
    "CRLF": "a,b,y\r\n1,2,3\r\n-4,5,0.5\r\n",
    "CR": "a,b,y\r1,2,3\r-4,5,0.5\r",
    "quoted": '"a","b","y"\n"1","2","3"\n"-4","5","0.5"\n',
    "spaces": "a, b , y\n 1,\t2, 3 \n-4, 5 ,0.5\n",
    "spaces and quotes": '"a", "b", "y"\n"1", "2", "3"\n-4,5,0.5\n',
    "empty lines": "\n\na,b,y\n\n1,2,3\n  \n-4,5,0.5\n\n\n",
}


@pytest.mark.parametrize("content", ACCEPTED.values(), ids=ACCEPTED)
def test_a_csv_file_is_read(fitted, write, content):
    got = fitted(write(content), "--target", "y", "--lr", 0.01)
    want = sgdm.fit([[1, 2], [-4, 5]], [3, 0.5], lr=0.01, fit_intercept=True, standardize=True)
    assert got["coefficients"] == dict(zip("ab", want.coef.tolist(), strict=True))


def test_columns_may_have_names_of_all_kinds(fitted, write):
    path = write('"größe, m²","he said ""x""",2024\n1,2,3\n2,3,5\n')
    got = fitted(path, "--target", "2024")
    assert list(got["coefficients"]) == ["größe, m²", 'he said "x"']


@given(
    cells=arrays(float, array_shapes(min_dims=2, max_dims=2, min_side=2), elements=floats(-1e300, 1e300)),
    quoting=sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    lineterminator=sampled_from(["\n", "\r\n", "\r"]),
    mark=sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_what_the_csv_module_writes_is_read_to_the_bit(cells, quoting, lineterminator, mark):
    names = [f"column {j}, €" for j in range(cells.shape[1])]
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=quoting, lineterminator=lineterminator)
    writer.writerows([names, *cells.tolist()])
    got_names, got = read_csv(lambda: io.BytesIO(mark + file.getvalue().encode()), "memory", list)
    assert got_names == names
    assert got.tobytes() == cells.tobytes()  # the sign of a zero included


def test_100_000_rows_are_read(fitted, write):
    cells = np.random.default_rng(0).standard_normal((100_000, 3))
    file = io.StringIO()
    csv.writer(file).writerows([["a", "b", "y"], *cells.tolist()])
    got = fitted(write(file.getvalue()), "--target", "y")
    want = sgdm.fit(cells[:, :2], cells[:, 2], fit_intercept=True, standardize=True)
    assert list(got["coefficients"].values()) == pytest.approx(want.coef.tolist(), rel=1e-12)


BAD_FILES = {
    "empty": ("", r"'\S+data.csv' is empty; it needs a header and rows of numbers"),
    "empty lines": ("\n\n  \n", "is empty"),
    "only a byte order mark": (b"\xef\xbb\xbf", "is empty"),
    "no header": ("1,2\n3,4\n", r"line 1: expected a header of column names, got the numbers '1', '2'"),
    "no rows": ("x,y\n", "has a header but no rows"),
    "text": ("x,y\n1,2\n3,four\n", r"data.csv' line 3, column 'y': expected a number, got 'four'"),
    "text after a line break": ('x,y\n1,2\n\n"3\n",4\n5,?\n', r"line 6, column 'y': expected .*, got '\?'"),
    "long text": (f"x,y\n1,{'z' * 500}\n", r"got 'z{37}\.\.\.'$"),
    "text on two lines": ('x,y\n1,"2\n3"\n', r"line 3, column 'y': expected a number, got '2\\n3'"),
    "thousands": ('x,y\n1,"2,000"\n', r"line 2, column 'y': expected a number, got '2,000'"),
    "underscore": ("x,y\n1,2_000\n", r"line 2, column 'y': expected a number, got '2_000'"),
    "NUL": ("x,y\n1,2\0\n", r"line 2, column 'y': expected a number, got '2\\x00'"),
    "missing": ("x,y\n1,2\n,4\n", r"line 3, column 'x': the value is missing"),
    "missing, spaces": ("x,y\n1,2\n3,  \n", r"line 3, column 'y': the value is missing"),
    "NA": ("x,y\n1,NA\n", r"line 2, column 'y': expected a number, got 'NA'"),
    "nan": ("x,y\n1,nan\n", r"line 2, column 'y': expected a finite number, got 'nan'"),
    "inf": ("x,y\n-Infinity,1\n", r"line 2, column 'x': expected a finite number, got '-Infinity'"),
    "overflow": ("x,y\n1,1e999\n", r"line 2, column 'y': expected a finite number, got '1e999'"),
    "short row": ("x,z,y\n1,2,3\n1,2\n", r"line 3: expected 3 cells as in the header, got 2"),
    "long row": ("x,y\n1,2,3\n", r"line 2: expected 2 cells as in the header, got 3"),
    "duplicates": ("x,y,x\n1,2,3\n", r"line 1: columns 1 and 3 have the same name, 'x'"),
    "no name": ("x,,y\n0,1,2\n", r"column 2 has no name; or leave it out with --drop ''$"),
    "index": (
        ",x,y\n0,1,2\n",
        r"column 1 has no name; if it is the index of a pandas frame, .* index=False; or leave it out with --drop ''$",
    ),
    "one column": ("y\n1\n2\n", r"has only one column, 'y'; it needs the target and a feature"),
    "bars": ("x|y\n1|2\n", r"has only one column, 'x\|y'"),
    "Latin-1": (b"gr\xf6sse,y\n1,2\n", r"is not UTF-8 text, it holds byte 0xf6; save it as UTF-8"),
    "UTF-16": ("x,y\n1,2\n".encode("utf-16"), r"is not UTF-8 text, it holds byte 0xf[ef]"),
    "binary": (bytes(range(256)), r"is not UTF-8 text|column \d+ has no name|line \d"),
    "open quote": ('x,y\n1,"2\n3,4\n', r"line 3: unexpected end of data"),
    "quote": ('x,y\n1,"2"3\n', r"line 2: ',' expected after '\"'"),
    "below the header of numpy.savetxt": ("# x,y\n1,2\n3,z\n", r"line 3, column 'y': expected a number, got 'z'"),
    "huge cell": (f"x,y\n1,{'1' * 200_000}\n", r"line 2: field larger than field limit"),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_csv_file_is_refused_by_line_and_column(refused, write, content, message):
    assert re.search(message, refused(write(content), "--target", "y").rstrip("\n"))


def test_row_sums_that_overflow_are_no_fault_of_the_cells(refused, write):
    path = write("x,z,y\n1.5e308,1.5e308,1\n1,2,3\n")
    assert "the squares of the data overflow" in refused(path, "--target", "y", "--raw", code=1)
    assert "the squares of the data overflow" in refused(path, "--target", "y", code=1)


SEPARATED = {
    "tabs": "a\tb\ty\n1\t2\t3\n-4\t5\t0.5\n",
    "semicolons": "a;b;y\n1;2;3\n-4;5;0.5\n",
    "semicolons and decimal commas": 'a;"b";y\n1,0;2;3\n-4;5;0,5\n',
    "other separators in quotes": '"a; of; it";"b,,,";y\n1;2;3\n-4;5;0.5\n',
    "the header of numpy.savetxt": "# of today\n# a,b,y\n1,2,3\n-4,5,.5\n",
    "comments before the header": "# made today; by hand\n#\na,b,y\n1,2,3\n-4,5,.5\n",
}


@pytest.mark.parametrize("way", ["file", "gzip", "stdin"])
@pytest.mark.parametrize("content", SEPARATED.values(), ids=SEPARATED)
def test_separators_compression_and_stdin_are_seen(fitted, write, monkeypatch, tmp_path, content, way):
    path = write(content)
    if way == "gzip":
        path = tmp_path / "data.csv.gz"
        path.write_bytes(gzip.compress(content.encode()))
    if way == "stdin":
        path = "-"
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    want = sgdm.fit([[1, 2], [-4, 5]], [3, 0.5], lr=0.01, fit_intercept=True, standardize=True)
    got = fitted(path, "--target", "y", "--lr", 0.01)
    assert list(got["coefficients"].values()) == want.coef.tolist()


def test_a_decimal_comma_is_read_beside_semicolons_alone(refused, write):
    assert "expected a number, got '1,234'" in refused(write("x\ty\n1,234\t2\n"), "--target", "y")
    assert "expected a number, got '1.234,5'" in refused(write("x;y\n1.234,5;2\n"), "--target", "y")


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_columns_are_chosen_or_left_out(fitted, refused, write, tmp_path, kind):
    path = write("city,a,b,date,y\nOslo,1,2,2020-01-01,3\nRome,-4,5,,0.5\nBonn,2,2,2020-01-03,1\n")
    if kind == "parquet":
        csv_module, parquet = (pytest.importorskip(f"pyarrow.{name}") for name in ("csv", "parquet"))
        table, path = csv_module.read_csv(path), tmp_path / "data.parquet"
        parquet.write_table(table, path)
    if kind == "npz":
        path = tmp_path / "data.npz"
        text = np.array(["Oslo", "Rome", "Bonn"])
        np.savez(path, city=text, a=[1.0, -4, 2], b=[2.0, 5, 2], date=text, y=[3, 0.5, 1])
    chosen = fitted(path, "--target", "y", "--features", "b,a")["coefficients"]
    left = fitted(path, "--target", "y", "--drop", "city", "--drop", "date")["coefficients"]
    assert list(chosen) == ["b", "a"]
    assert chosen == pytest.approx(left, rel=1e-12)
    assert "'city'" in refused(path, "--target", "y", "--drop", "date")
    assert "--drop: 'y' is the target" in refused(path, "--target", "y", "--drop", "y")
    assert "--features: 'y' is the target" in refused(path, "--target", "y", "--features", "y,a")
    for bad in ("", "a\nb", '"a'):
        assert "--features must be names of columns" in refused(path, "--target", "y", "--features", bad)
    assert "--features: there is no column 'c'" in refused(path, "--target", "y", "--features", "c")
    assert "--drop: there is no column 'c'" in refused(path, "--target", "y", "--drop", "c")
    assert "there must be a feature" in refused(path, "--target", "y", "--features", "a", "--drop", "a")


def test_a_damaged_gzip_file_is_refused(refused, tmp_path):
    path = tmp_path / "data.csv.gz"
    path.write_bytes(gzip.compress(b"a,y\n" + b"1,2\n" * 1000)[:-20])
    assert "cannot read" in refused(path, "--target", "y")


def test_a_missing_file_is_refused(refused, tmp_path):
    assert "absent.csv': No such file or directory" in refused(tmp_path / "absent.csv", "--target", "y")


@pytest.mark.parametrize("options", [["--features", "x"], ["--drop", ""]])
def test_a_column_without_a_name_can_be_left_out(options, write, fitted):
    path = write(",x,y\n0,1,2\n1,2,3\n2,3,4\n")
    assert list(fitted(path, "--target", "y", *options)["coefficients"]) == ["x"]


def test_a_folder_without_parquet_files_is_refused(refused, tmp_path):
    pytest.importorskip("pyarrow")
    assert "holds no Parquet files" in refused(tmp_path, "--target", "y")


def test_a_folder_of_any_name_is_read_as_parquet(fitted, tmp_path):
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    folder = tmp_path / "rows"
    folder.mkdir()
    for part in range(2):
        table = arrow.table({"x": [1.0 + part, 2.0], "y": [1.0, 3.0]})
        parquet.write_table(table, folder / f"{part}.parquet")
    assert list(fitted(folder, "--target", "y")["coefficients"]) == ["x"]


def test_a_fit_that_python_saved_is_no_model_of_the_command(refused, write, tmp_path):
    sgdm.fit(TABLE_X, TABLE_Y).save(tmp_path / "fit.npz")
    message = refused(write("x,y\n1,2\n"), "--predict", tmp_path / "fit.npz")
    assert "was written by sgdm in Python, not by --output; in Python, sgdm.load(" in message


def test_names_to_drop_are_given_one_by_one(refused, write):
    message = refused(write("a,b,x,y\n1,2,3,4\n"), "--target", "y", "--drop", "a,b")
    assert "there is no column 'a,b'; the columns are 'a', 'b', 'x', 'y'; give --drop once for each column" in message


# NumPy's arrays and Parquet

EXPECTED = sgdm.fit(TABLE_X, TABLE_Y, fit_intercept=True, standardize=True).coef.tolist()


def test_an_npz_file_is_read(fitted, tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, X=TABLE_X[:, :2], größe=TABLE_X[:, 2:], y=TABLE_Y)
    assert fitted(path, "--target", "y")["coefficients"] == dict(zip(["X[0]", "X[1]", "größe"], EXPECTED, strict=True))


def test_an_npy_file_is_read(fitted, tmp_path):
    path = tmp_path / "array.npy"
    np.save(path, np.column_stack([TABLE_X, TABLE_Y]))
    assert fitted(path, "--target", "3")["coefficients"] == dict(zip("012", EXPECTED, strict=True))
    records = np.rec.fromarrays([*TABLE_X.T, TABLE_Y], names="a,b,c,y")
    np.save(path, records)
    assert fitted(path, "--target", "y")["coefficients"] == dict(zip("abc", EXPECTED, strict=True))


@pytest.mark.parametrize("name", ["table.parquet", "table.PQ", "folder.parquet/part.parquet"])
def test_parquet_files_are_read(name, fitted, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(table("pyarrow", (*NAMES, "y"), np.column_stack([TABLE_X, TABLE_Y])), path)
    given = path.parent if "/" in name else path
    assert fitted(given, "--target", "y")["coefficients"] == dict(zip(NAMES, EXPECTED, strict=True))


def test_a_result_is_refused_as_data_in_clear_words(refused, tmp_path):
    path = tmp_path / "run.npz"
    sgdm.fit(TABLE_X, TABLE_Y).save(path)
    assert "array 'checkpoint.parameters' must be 2-D, (rows, columns), got shape" in refused(path, "--target", "loss")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"X": TABLE_X, "y": TABLE_Y[1:]},
            "columns must have the same number of rows, got 60 in 'X[0]', 60 in 'X[1]', 60 in",
        ),
        ({"y": TABLE_Y}, "has only one column, 'y'; it needs the target and a feature"),
        ({}, "has no columns; it needs the target and a feature"),
        ({"X": TABLE_X, "y": np.array(1.0)}, "array 'y' must be 1-D, got shape ()"),
        (
            {"X": TABLE_X.reshape(5, 12, 3), "y": TABLE_Y},
            "array 'X' must be 2-D, (rows, columns), got shape (5, 12, 3)",
        ),
        ({"X": TABLE_X.astype(str), "y": TABLE_Y}, "array 'X' must hold real numbers, got dtype <U32"),
        ({"X": TABLE_X * 1j, "y": TABLE_Y}, "array 'X' must hold real numbers, got dtype complex128"),
        (
            {"X": np.where(TABLE_X[7, 1] == TABLE_X, np.nan, TABLE_X), "y": TABLE_Y},
            "row 7, column 'X[1]': expected a finite number, got nan",
        ),
        ({"X[0]": TABLE_Y, "X": TABLE_X, "y": TABLE_Y}, "columns 1 and 2 have the same name, 'X[0]'"),
        ({"X": TABLE_X[:0], "y": TABLE_Y[:0]}, "has columns but no rows"),
        ({"X": TABLE_X, "z": TABLE_Y}, "--target: there is no column 'y'; the columns are 'X[0]', 'X[1]', 'X[2]', 'z'"),
        ({"X": np.array([{}] * 60), "y": TABLE_Y}, "Object arrays cannot be loaded when allow_pickle=False"),
    ],
)
def test_arrays_that_are_no_table_are_refused(arrays, message, refused, tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, **arrays)
    assert message in refused(path, "--target", "y")


@pytest.mark.parametrize("ending", ["npz", "npy", "parquet"])
@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 no", b"\x93NUMPY\1\0 no", b"PAR1 no PAR1"])
def test_files_that_are_damaged_or_missing_are_refused(ending, content, refused, tmp_path):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"data.{ending}"
    if content is not None:
        path.write_bytes(content)
    assert refused(path, "--target", "y").startswith(f"sgdm: error: cannot read {str(path)!r}: ")


def test_parquet_of_strings_or_missing_values_is_refused(refused, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "table.parquet"
    for values, message in (
        (["1", "2"], "column 'a' holds text; encode it (OneHotEncoder), or leave it out; --drop leaves a column out"),
        ([1.0, None], "column 'a' has 1 missing value; fill them, or leave their rows out; --drop leaves a column out"),
        ([1.0, float("inf")], "column 'a' must be finite, got inf at row 1; --drop leaves a column out"),
    ):
        parquet.write_table(pyarrow.table({"a": values, "y": [1.0, 2.0]}), path)
        assert message in refused(path, "--target", "y")


def test_parquet_needs_pyarrow(refused, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert (
        refused(tmp_path / "t.parquet", "--target", "y")
        == "sgdm: error: reading Parquet needs pyarrow: pip install 'sgdm[tables]'\n"
    )
