"""Files that the command reads: CSV, Parquet, .npy and .npz, as named columns; and the fits that it saved."""

import csv
import gzip
import io
import itertools
import math
import os
import re
import sys
import zipfile
import zlib
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ._reduction.sources import arrow_dataset, column_of, import_narwhals
from ._validation import as_real

DROP = "; --drop leaves a column out"  # the advice of messages on a feature
Choose = Callable[[list[str]], list[str]]  # of a table's column names, those to read


class CommandError(Exception):
    """An error that ends the command: its message is printed as one line, `code` is the exit code."""

    def __init__(self, message: str, code: int = 2):
        super().__init__(message)
        self.code = code


def read_table(path: str, choose: Choose) -> tuple[list[str], np.ndarray]:
    """The names of the chosen columns of a file and their cells, (rows, columns). A file with an unknown ending is read
    as CSV, and so is stdin, for "-"."""
    kind = ".parquet" if os.path.isdir(path) else os.path.splitext(path)[1].lower()
    if path == "-":
        return read_csv(lambda: sys.stdin.buffer, "stdin", choose)
    if kind not in (".parquet", ".pq", ".npy", ".npz"):
        return read_csv(lambda: Path(path).open("rb"), path, choose)
    try:
        columns = (read_parquet if kind in (".parquet", ".pq") else read_numpy)(path, choose)
    except OSError as error:
        raise CommandError(f"cannot read {path!r}: {error.strerror or error}") from None
    except ImportError as error:
        raise CommandError(str(error)) from None
    except (ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise CommandError(f"cannot read {path!r}: {error}") from None
    names = [name for name, _ in columns]
    lengths = {len(values) for _, values in columns}
    if len(lengths) > 1:
        counts = ", ".join(f"{len(values)} in {quoted(name)}" for name, values in columns[:20])
        raise CommandError(f"{path!r}: columns must have the same number of rows, got {counts}")
    if lengths == {0}:
        raise CommandError(f"{path!r} has columns but no rows")
    for name, values in columns:
        for i in np.flatnonzero(~np.isfinite(values))[:1]:
            raise CommandError(f"{path!r} row {i}, column {name!r}: expected a finite number, got {values[i]}")
    return names, np.column_stack([values for _, values in columns]).astype(np.float64)


def read_parquet(path: str, choose: Choose) -> list[tuple[str, np.ndarray]]:
    """The names and the chosen columns of a Parquet file, or of a folder of Parquet files."""
    table = arrow_dataset(path).to_table()
    if not table.column_names and os.path.isdir(path):
        raise CommandError(f"{path!r} holds no Parquet files")
    check_columns(table.column_names, repr(path))
    names = choose(table.column_names)
    frame, columns = import_narwhals().from_native(table.select(names)), []
    for name in names:
        try:
            columns.append((name, column_of(frame, name, f"column {name!r}")))
        except (TypeError, ValueError) as error:
            advice = "" if name == names[-1] else DROP
            raise type(error)(f"{error}{advice}") from None
    return columns


def read_numpy(path: str, choose: Choose) -> list[tuple[str, np.ndarray]]:
    """The names and the chosen columns of an .npy or .npz file.

    In an .npy file, the fields of a structured array keep their names, and the columns of a 2-D array are named 0, 1,
    ... In an .npz file, a 1-D array is one column with the array's name; the columns of a 2-D array ``X`` are named
    ``X[0]``, ``X[1]``, ..., or ``X`` if there is only one.
    """
    with open(path, "rb") as file:
        content = np.load(file, allow_pickle=False)
        columns: dict[str, tuple[np.ndarray, str]] = {}  # not yet converted, and what messages call them
        names = []
        if isinstance(content, np.ndarray) and content.dtype.names:
            names = list(content.dtype.names)
            columns = {name: (content[name], f"field {name!r}") for name in names}
        elif isinstance(content, np.ndarray):
            parts = as_columns(content, "the array")
            names = [str(j) for j in range(len(parts))]
            columns = {name: (part, "the array") for name, part in zip(names, parts, strict=True)}
        else:
            for key in content.files:
                values, called = content[key], f"array {key!r}"
                if values.ndim < 2:
                    names.append(key)
                    columns[key] = values, called
                    continue
                parts = as_columns(values, called)
                own = [key] if len(parts) == 1 else [f"{key}[{j}]" for j in range(len(parts))]
                names += own
                columns |= {name: (part, called) for name, part in zip(own, parts, strict=True)}
    check_columns(names, repr(path))
    return [(name, as_column(*columns[name])) for name in choose(names)]


def as_column(values: np.ndarray, name: str) -> np.ndarray:
    """`values` as a 1-D float array."""
    values = as_real(values, name)
    if values.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got shape {values.shape}")
    return values


def as_columns(values: np.ndarray, name: str) -> list[np.ndarray]:
    """The columns of `values`, a 2-D array."""
    if values.ndim != 2:
        raise ValueError(f"{name} must be 2-D, (rows, columns), got shape {values.shape}")
    return [*values.T]


def read_csv(opened: Callable[[], BinaryIO], name: str, choose: Choose) -> tuple[list[str], np.ndarray]:
    """The names of the chosen columns of a CSV file, and their cells, (rows, columns).

    UTF-8, with or without a byte order mark, or that compressed by gzip. Lines before the header that begin with # are
    left out; but the last is the header if numbers follow it, as many as it has names. The header says what separates
    cells: tabs, semicolons or commas. With semicolons numbers may have decimal commas.
    """
    cells = array("d")
    reader = csv.reader(())
    before = 0  # lines before the header
    try:
        with opened() as file, io.TextIOWrapper(decompressed(file), encoding="utf-8-sig", newline="") as stream:
            header, comment = next(stream, ""), ""
            while header and (not header.strip() or header.lstrip().startswith("#")):
                comment, header, before = header, next(stream, ""), before + 1
            unquoted = re.sub(r'"[^"]*"?', "", header)
            separator = max(",;\t", key=unquoted.count)  # the first where none is there
            lines = [header] if header else []
            if comment.count(separator) == header.count(separator) and all(map(is_number, header.split(separator))):
                lines, before = [comment.lstrip("# "), header], before - 1  # as numpy.savetxt writes its header
            reader = csv.reader(
                itertools.chain(lines, stream), delimiter=separator, skipinitialspace=separator != "\t", strict=True
            )
            all_names = as_names(next(reader, None), name, f"{name!r} line {before + 1}")
            names = choose(all_names)
            places = [all_names.index(chosen) for chosen in names]
            for row in reader:
                if len(row) == len(all_names):
                    chosen = [row[place] for place in places]
                    cells.extend(as_numbers(chosen, names, name, before + reader.line_num, separator == ";"))
                elif not is_blank(row):
                    expected = f"expected {len(all_names)} cells as in the header, got {len(row)}"
                    raise CommandError(f"{name!r} line {before + reader.line_num}: {expected}")
    except (OSError, EOFError, zlib.error) as error:
        raise CommandError(f"cannot read {name!r}: {getattr(error, 'strerror', None) or error}") from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise CommandError(f"{name!r} is not UTF-8 text, it holds byte 0x{byte:02x}; save it as UTF-8") from None
    except csv.Error as error:
        raise CommandError(f"{name!r} line {before + reader.line_num}: {error}") from None
    if not cells:
        raise CommandError(f"{name!r} has a header but no rows")
    return names, np.frombuffer(cells).reshape(-1, len(names))


def read_model(path: str) -> tuple[list[str], str, np.ndarray, float]:
    """The features' names, the target's, the coefficients and the intercept of a fit that ``--output`` saved."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            if "sgdm" in saved.files:
                advice = f"in Python, sgdm.load({path!r}).predict(X) uses it"
                raise CommandError(f"--predict: {path!r} was written by sgdm in Python, not by --output; {advice}")
            features, target = [str(name) for name in saved["features"]], str(saved["target"])
            coef, intercept = as_column(saved["coef"], "coef"), float(saved["intercept"])
        if len(features) != len(coef):
            raise ValueError(f"it has {len(features)} features and {len(coef)} coefficients")
        return features, target, coef, intercept
    except OSError as error:
        raise CommandError(f"cannot read {path!r}: {error.strerror or error}") from None
    except (AttributeError, TypeError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CommandError(f"--predict: {path!r} is no file that --output wrote ({error})") from None


def decompressed(file: BinaryIO) -> BinaryIO:
    """The content of a file, or what gzip compressed to it."""
    buffered = io.BufferedReader(file)  # type: ignore[type-var]
    return gzip.GzipFile(fileobj=buffered) if buffered.peek(2)[:2] == b"\x1f\x8b" else buffered  # type: ignore[return-value]


def is_blank(row: list[str]) -> bool:
    """Whether a row comes from a line that is empty or white space."""
    return not row or (len(row) == 1 and not row[0].strip())


def as_names(row: list[str] | None, name: str, where: str) -> list[str]:
    """The column names in the header. `where` is the header's place in the file, for messages."""
    if row is None:
        raise CommandError(f"{name!r} is empty; it needs a header and rows of numbers")
    names = [cell.strip() for cell in row]
    if all(is_number(cell) for cell in names):
        raise CommandError(f"{where}: expected a header of column names, got the numbers {join_names(names)}")
    check_columns(names, where)
    return names


def check_columns(names: list[str], where: str) -> None:
    """Raise a CommandError if a name stands twice. Columns without a name can only be left out."""
    first: dict[str, int] = {}
    for column, cell in enumerate(names, 1):
        if cell and first.setdefault(cell, column) < column:
            raise CommandError(f"{where}: columns {first[cell]} and {column} have the same name, {cell!r}")


def is_number(cell: str) -> bool:
    """Whether a cell is a number, finite or not. "1_000" is none here, although float() reads it as 1000."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def as_numbers(row: list[str], names: list[str], name: str, line: int, commas: bool) -> list[float]:
    """The cells of a row as finite numbers, which may have decimal commas. The last cell is the target's."""
    cells = [cell.replace(",", ".") for cell in row] if commas else row
    try:
        numbers = [*map(float, cells)]
        if math.isfinite(sum(numbers)) and "_" not in "".join(row):  # one test for the whole row, for speed
            return numbers
    except ValueError:
        pass
    for column, cell, number in zip(names, row, cells, strict=True):
        where = f"{name!r} line {line}, column {column!r}"
        advice = "" if column == names[-1] else DROP
        if not cell.strip():
            raise CommandError(f"{where}: the value is missing{advice}")
        if not is_number(number):
            raise CommandError(f"{where}: expected a number, got {quoted(cell)}{advice}")
        if not math.isfinite(float(number)):
            raise CommandError(f"{where}: expected a finite number, got {quoted(cell)}")
    return numbers  # all are finite, only their sum is not


def join_names(names: list[str]) -> str:
    """The first twenty names, as text for a message."""
    rest = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(map(quoted, names[:20])) + rest


def quoted(cell: str) -> str:
    """A cell in quotes, for a message. Long ones are cut off with "..."."""
    return repr(cell if len(cell) <= 40 else cell[:37] + "...")
