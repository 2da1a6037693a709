"""The command `sgdm` and its pictures."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from hypothesis.strategies import floats, sampled_from

import sgdm
from sgdm import __main__ as command
from sgdm.__main__ import main
from sgdm._tables import read_csv

DATA = Path(__file__).parent / "data"
PACKAGE = Path(sgdm.__file__).parent
EPS = np.finfo(float).eps

plots = pytest.mark.usefixtures("matplotlib")


@pytest.fixture(scope="session")
def matplotlib():
    """Skips where matplotlib is missing. A first import may write to stderr: not while captured."""
    pytest.importorskip("matplotlib.font_manager")


@pytest.fixture(scope="module")
def trajectory():
    """The notebook's table: its header and its 50 rows of cells, as printed."""
    header, *rows = csv.reader((DATA / "lesson2_trajectory.csv").read_text().splitlines())
    return header, rows


@pytest.fixture(scope="module")
def points():
    """The notebook's x, of shape (100, 1), and y."""
    cells = np.loadtxt(PACKAGE / "data" / "lesson2_points.csv", delimiter=",", skiprows=1)
    return cells[:, :1], cells[:, 1]


@pytest.fixture
def sgdm_says(capsys):
    """Runs the command in this process; returns its exit code, stdout and stderr."""

    def run(*argv):
        code = main([str(arg) for arg in argv])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def fitted(sgdm_says):
    """Runs the command with --json; returns its object."""

    def run(*argv):
        code, out, err = sgdm_says(*argv, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


@pytest.fixture
def refused(sgdm_says):
    """Runs the command, which must end with one line on stderr; returns the line."""

    def run(*argv, code=2):
        got, out, err = sgdm_says(*argv)
        assert (got, out) == (code, "")
        assert err.startswith("sgdm: error: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        return err

    return run


@pytest.fixture
def write(tmp_path):
    """Writes a file of the given text or bytes; returns its path."""

    def run(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return run


@pytest.fixture
def houses(write):
    """A table of a person's own, its target in the middle: path, features, target."""
    rng = np.random.default_rng(1)
    X = rng.normal([3.0, -1.0, 0.5], [0.5, 1.0, 1.5], (60, 3))
    y = X @ [2.0, -1.0, 0.25] + 4 + 0.1 * rng.standard_normal(60)
    rows = [f"{a!r},{b!r},{t!r},{c!r}" for (a, b, c), t in zip(X.tolist(), y.tolist(), strict=True)]
    return write("\n".join(["rooms,distance,price,age", *rows])), X, y


def heed_sigint():
    """In the child: a background job, as the tests may be, inherits a deaf ear to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start():
    """Starts the command as a process of its own."""
    running = []

    def run(*argv, **options):
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONWARNINGS": "error"}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sgdm", *map(str, argv)],
            env=environment,
            text=True,
            preexec_fn=heed_sigint if os.name == "posix" else None,
            **options,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


# --- The notebook's points ---


def test_prints_the_notebooks_250_numbers(sgdm_says, trajectory):
    header, rows = trajectory
    code, out, err = sgdm_says()
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert [line.split() for line in lines[:51]] == [header, *rows]
    assert lines[51:] == ["", "y = 3.07x + 2.51"]
    assert len({len(line) for line in lines[:51]}) == 1  # aligned


def test_float32_is_within_6e_5_of_the_table(trajectory, points):
    x, y = (array.astype(np.float32) for array in points)
    history = sgdm.fit(x, y, fit_intercept=True, coef0=[-1, 1]).history
    assert history.loss.dtype == np.float32
    table = np.column_stack([history.epoch, history.loss, history.grad, history.step])
    assert abs(table - np.array(trajectory[1], float)).max() <= 6e-5


def test_defaults_are_those_of_fit(fitted):
    defaults = inspect.signature(sgdm.fit).parameters
    used = fitted()["options"]
    for name in ("lr", "momentum", "epochs", "record_every"):
        assert used[name] == defaults[name].default


def test_options_apply_to_the_notebooks_points(fitted, points):
    got = fitted("--lr", 0.05, "--momentum", 0.5, "--epochs", 21, "--record-every", 4)
    want = sgdm.fit(*points, lr=0.05, momentum=0.5, epochs=21, record_every=4, fit_intercept=True, coef0=[-1, 1])
    assert got["history"] == {"epoch": [0, 4, 8, 12, 16, 20], "loss": want.history.loss.tolist()}
    assert (got["coefficients"], got["intercept"]) == ({"x": want.coef[0]}, want.intercept)


def test_no_intercept_on_the_notebooks_points(sgdm_says, points):
    _, out, _ = sgdm_says("--no-intercept", "--epochs", 3)
    want = sgdm.fit(*points, epochs=3, coef0=[-1])
    lines = out.splitlines()
    assert lines[0].split() == ["epoch", "loss", "grad0", "step0"]
    assert lines[-1] == f"y = {want.coef[0]:.3g}x"


def test_standardize_starts_from_the_notebooks_line(fitted, points):
    got, plain = fitted("--standardize", "--epochs", 400), fitted("--epochs", 1)
    x, y = points
    assert got["history"]["loss"][0] == pytest.approx(plain["history"]["loss"][0], rel=1e-13)
    line = np.linalg.lstsq(np.column_stack([x, np.ones(100)]), y, rcond=None)[0]
    assert [got["coefficients"]["x"], got["intercept"]] == pytest.approx(line.tolist(), rel=1e-12)


def test_a_minus_in_front_of_a_rounded_zero_is_not_printed(sgdm_says):
    _, out, _ = sgdm_says("--epochs", 500)
    assert " 0.0000" in out
    assert "-0.0000" not in out


def test_a_long_descent_is_thinned_but_for_its_ends(sgdm_says):
    _, out, _ = sgdm_says("--epochs", 10_000)
    lines = out.splitlines()
    epochs = [int(line.split()[0]) for line in lines[1 : lines.index("")]]
    assert (epochs[:3], epochs[-2:]) == ([0, 500, 1000], [9500, 9999])
    assert "21 of the 10000 epochs recorded are shown." in lines


@pytest.mark.parametrize("rows", [1, 2, 19, 20, 21, 22, 39, 40, 50, 51, 1000, 10_001, 123_456_789])
def test_shown_rows(rows):
    shown = command.shown(rows, 20)
    assert (shown[0], shown[-1]) == (0, rows - 1)
    assert min(rows, 8) <= len(shown) <= 20
    assert shown == sorted(set(shown))


# --- A person's own table ---


def test_own_table_equals_fit(fitted, houses):
    path, X, y = houses
    got = fitted(path, "--target", "price", "--lr", 0.05, "--epochs", 30)
    want = sgdm.fit(X, y, lr=0.05, epochs=30, fit_intercept=True)
    assert got == {
        "status": "completed",
        "epochs": 30,
        "loss": want.loss,
        "coefficients": dict(zip(["rooms", "distance", "age"], want.coef.tolist(), strict=True)),
        "intercept": want.intercept,
        "options": {
            "data": str(path),
            "target": "price",
            "lr": 0.05,
            "momentum": 0.8,
            "epochs": 30,
            "intercept": True,
            "standardize": False,
            "record_every": 1,
            "output": None,
            "plot": None,
        },
        "history": {"epoch": list(range(30)), "loss": want.history.loss.tolist()},
    }


def test_own_table_without_intercept(fitted, houses):
    path, X, y = houses
    got = fitted(path, "--target", "price", "--no-intercept", "--lr", 0.05)
    assert list(got["coefficients"].values()) == sgdm.fit(X, y, lr=0.05).coef.tolist()
    assert got["intercept"] == 0


def test_own_table_printed(sgdm_says, houses):
    path, X, y = houses
    code, out, err = sgdm_says(path, "--target", "price", "--lr", 0.05, "--epochs", 100)
    history = sgdm.fit(X, y, lr=0.05, epochs=100, fit_intercept=True).history
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split() == ["epoch", "loss", "|gradient|", "|step|"]
    assert [int(line.split()[0]) for line in lines[1:12]] == [*range(0, 100, 10), 99]
    norms = [history.loss[99], np.linalg.norm(history.grad[99]), np.linalg.norm(history.step[99])]
    assert [float(cell) for cell in lines[11].split()[1:]] == pytest.approx(norms, rel=1e-5)
    assert len({len(line) for line in lines[:12]}) == 1
    assert lines[12:14] == ["", "11 of the 100 epochs recorded are shown."]
    assert lines[15] == "price ="
    assert [line.split()[0] for line in lines[16:]] == ["rooms", "distance", "age", "(intercept)"]


def test_a_table_of_many_columns_stays_narrow(sgdm_says, write):
    cells = np.random.default_rng(0).standard_normal((30, 301))
    file = io.StringIO()
    csv.writer(file).writerows([[f"f{j}" for j in range(301)], *cells.tolist()])
    code, out, _ = sgdm_says(write(file.getvalue()), "--target", "f300", "--lr", 0.01, "--epochs", 20)
    assert code == 0
    assert max(map(len, out.splitlines())) < 80
    assert re.search(r"^  f299  +-?\d", out, re.MULTILINE)


def test_names_with_line_breaks_are_printed_on_one_line(sgdm_says, write):
    code, out, _ = sgdm_says(write('"a\nb","c\nd"\n1,2\n2,3\n'), "--target", "c\nd", "--epochs", 2)
    assert code == 0
    assert "'c\\nd' =\n  'a\\nb' " in out


def test_any_number_of_digits(sgdm_says, write):
    path = write("x,y\n1e-9,123456789\n-2e-9,1\n")
    _, out, _ = sgdm_says(path, "--target", "y", "--epochs", 1)
    assert out.splitlines()[1].split()[1] == "7.62079e+15"


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
def test_reads(fitted, write, content):
    got = fitted(write(content), "--target", "y", "--lr", 0.01)
    want = sgdm.fit([[1, 2], [-4, 5]], [3, 0.5], lr=0.01, fit_intercept=True)
    assert got["coefficients"] == dict(zip("ab", want.coef.tolist(), strict=True))


def test_reads_names_of_all_kinds(fitted, write):
    path = write('"größe, m²","he said ""x""",2024\n1,2,3\n2,3,5\n')
    got = fitted(path, "--target", "2024")
    assert list(got["coefficients"]) == ["größe, m²", 'he said "x"']


@given(
    cells=arrays(float, array_shapes(min_dims=2, max_dims=2, min_side=2), elements=floats(-1e300, 1e300)),
    quoting=sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    lineterminator=sampled_from(["\n", "\r\n", "\r"]),
    mark=sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_reads_what_the_csv_module_writes(cells, quoting, lineterminator, mark):
    names = [f"column {j}, €" for j in range(cells.shape[1])]
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=quoting, lineterminator=lineterminator)
    writer.writerows([names, *cells.tolist()])
    source = SimpleNamespace(open=lambda mode: io.BytesIO(mark + file.getvalue().encode()))
    got_names, got = read_csv(source, "memory")
    assert got_names == names
    assert got.tobytes() == cells.tobytes()  # the sign of a zero included


def test_reads_100_000_rows(fitted, write):
    cells = np.random.default_rng(0).standard_normal((100_000, 3))
    file = io.StringIO()
    csv.writer(file).writerows([["a", "b", "y"], *cells.tolist()])
    got = fitted(write(file.getvalue()), "--target", "y")
    want = sgdm.fit(cells[:, :2], cells[:, 2], fit_intercept=True)
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
    "no name": (",x,y\n0,1,2\n", r"line 1: column 1 has no name"),
    "one column": ("y\n1\n2\n", r"has only one column, 'y'; it needs the target and a feature, with a comma"),
    "semicolons": ("x;y\n1;2\n", r"has only one column, 'x;y'"),
    "Latin-1": (b"gr\xf6sse,y\n1,2\n", r"is not UTF-8 text, it holds byte 0xf6; save it as UTF-8"),
    "UTF-16": ("x,y\n1,2\n".encode("utf-16"), r"is not UTF-8 text, it holds byte 0xf[ef]"),
    "binary": (bytes(range(256)), r"is not UTF-8 text|column \d+ has no name|line \d"),
    "open quote": ('x,y\n1,"2\n3,4\n', r"line 3: unexpected end of data"),
    "quote": ('x,y\n1,"2"3\n', r"line 2: ',' expected after '\"'"),
    "huge cell": (f"x,y\n1,{'1' * 200_000}\n", r"line 2: field larger than field limit"),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file(refused, write, content, message):
    assert re.search(message, refused(write(content), "--target", "y").rstrip("\n"))


def test_row_sums_that_overflow_are_no_fault_of_the_cells(refused, write):
    path = write("x,z,y\n1.5e308,1.5e308,1\n1,2,3\n")
    assert "the squares of the data overflow" in refused(path, "--target", "y", code=1)
    assert "the squares of column 'x' overflow" in refused(path, "--target", "y", "--standardize")


def test_missing_file(refused, tmp_path):
    assert "absent.csv': No such file or directory" in refused(tmp_path / "absent.csv", "--target", "y")


def test_directory(refused, tmp_path):
    message = refused(tmp_path, "--target", "y")
    assert re.search(r"cannot read '.+': (Is a directory|Permission denied)", message)


def test_unknown_target(refused, houses):
    columns = "the columns are 'rooms', 'distance', 'price', 'age'"
    assert f"--target: there is no column 'Price'; {columns}" in refused(houses[0], "--target", "Price")
    assert f"DATA needs a --target; {columns}" in refused(houses[0])


def test_unknown_target_among_many(refused, write):
    path = write(",".join(f"f{j}" for j in range(50)) + "\n" + ",".join(["1"] * 50))
    assert refused(path, "--target", "y").endswith("'f18', 'f19' and 30 more\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--target", "y"], "--target needs DATA"),
        (["--standardize", "--no-intercept"], "--standardize centres the features, so it needs"),
        (["--lr", "fast"], "argument --lr: invalid float value: 'fast'"),
        (["--lr"], "argument --lr: expected one argument"),
        (["--lr", "-1"], "lr must be finite and not negative, got -1.0"),
        (["--lr", "nan"], "lr must be finite and not negative, got nan"),
        (["--momentum", "1"], "momentum must be in [0, 1), got 1.0"),
        (["--epochs", "0"], "epochs must be at least 1, got 0"),
        (["--epochs", "1.5"], "argument --epochs: invalid int value: '1.5'"),
        (["--record-every", "0"], "record_every must be at least 1, got 0"),
        (["--epochs", "1000000000000000"], "does not fit in memory; try a larger --record-every"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["--rec", "5"], "unrecognized arguments: --rec"),
        (["a.csv", "b\nc.csv"], "unrecognized arguments: b c.csv"),
    ],
)
def test_bad_arguments(refused, argv, message):
    assert message in refused(*argv)


def test_numbers_too_large_for_the_kernel_are_refused(refused):
    refused("--record-every", 10**30)


def test_version_and_help(capsys, sgdm_says):
    assert re.fullmatch(r"sgdm (\d+\.\d+.*|\(not installed\))\n", sgdm_says("--version")[1])
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "sgdm houses.csv --target price" in capsys.readouterr().out


# --- Standardised features ---


def test_standardize_reports_original_units(fitted, houses):
    path, X, y = houses
    got = fitted(path, "--target", "price", "--standardize", "--epochs", 3000)
    want = np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), y, rcond=None)[0]
    assert [*got["coefficients"].values(), got["intercept"]] == pytest.approx(want.tolist(), rel=1e-10)


def test_standardize_takes_constant_columns(fitted, write):
    path = write("x,c,tiny,y\n" + "\n".join(f"{i},0.1,{i}e-200,{3 * i + 2}" for i in range(7)))
    got = fitted(path, "--target", "y", "--standardize", "--epochs", 500)
    assert got["coefficients"] == {"x": pytest.approx(3), "c": 0, "tiny": pytest.approx(0, abs=1e-9)}
    assert got["intercept"] == pytest.approx(2)


def test_standardize_makes_the_default_lr_converge(fitted, refused, write):
    rows = [f"{1000 + i},{i * i},{3 * i + 2}" for i in range(50)]
    path = write("\n".join(["year,square,y", *rows]))
    message = refused(path, "--target", "y", code=1)
    assert message.endswith("; or try --standardize\n")
    assert fitted(path, "--target", "y", "--standardize", "--epochs", 1000)["loss"] < 1


# --- Divergence, warnings, signals, pipes ---


def test_divergence_suggests_an_lr_that_works(refused, fitted, houses):
    path = houses[0]
    message = refused(path, "--target", "price", "--lr", 5, "--epochs", 5000, code=1)
    match = re.search(r"diverged at epoch \d+: lr=5 is too large; use an lr of at most (\S+) for", message)
    got = fitted(path, "--target", "price", "--lr", match[1], "--epochs", 5000)
    assert got["history"]["loss"][-1] < got["history"]["loss"][0]


def test_divergence_of_what_is_scaled_does_not_suggest_to_scale(refused, houses):
    for argv in (["--lr", 100], [houses[0], "--target", "price", "--standardize", "--lr", 100]):
        assert "--standardize" not in refused(*argv, "--epochs", 5000, code=1)


def test_convergence_warning_is_one_line(sgdm_says):
    code, out, err = sgdm_says("--lr", 20, "--epochs", 5)
    assert code == 0
    assert len(out.splitlines()) == 8
    assert re.fullmatch(r"sgdm: warning: the objective rose from .* use an lr of at most .*\n", err)


def test_interrupt_in_the_fit(monkeypatch, sgdm_says, points):
    def interrupted(*args, **kwargs):
        stop = KeyboardInterrupt()
        stop.result = sgdm.fit(*points, epochs=7)
        raise stop

    monkeypatch.setattr(command, "fit", interrupted)
    assert sgdm_says() == (130, "", "sgdm: interrupted: the fit had done 7 epochs\n")


def test_interrupt_elsewhere(monkeypatch, sgdm_says):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "read_csv", interrupted)
    assert sgdm_says() == (130, "", "sgdm: interrupted: no fit was running\n")


def test_no_memory_for_the_file(monkeypatch, refused):
    def full(*args):
        raise MemoryError

    monkeypatch.setattr(command, "read_csv", full)
    assert refused() == "sgdm: error: out of memory\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_ctrl_c(start, tmp_path):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    argv = [pipe, "--target", "y", "--epochs", 10**10, "--record-every", 10**9]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = start(*argv, "--output", tmp_path / "out.npz", **streams)
    while True:
        try:
            write_end = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)  # succeeds once the command reads
            break
        except OSError:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
    with open(write_end, "w") as file:
        file.write("x,y\n1,2\n3,4\n")
    time.sleep(0.5)  # most likely in the fit, by then
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert re.fullmatch(r"sgdm: interrupted: .*\n", err)
    assert os.listdir(tmp_path) == ["pipe.csv"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")
def test_a_reader_that_leaves_is_no_error(start, tmp_path):
    read, write = os.pipe()
    os.close(read)
    process = start("--output", tmp_path / "out.npz", stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 141
    assert (tmp_path / "out.npz").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_stdout(start):
    with open("/dev/full", "w") as full:
        process = start(stdout=full, stderr=subprocess.PIPE)
        err = process.communicate(timeout=60)[1]
    assert (process.returncode, err) == (2, "sgdm: error: cannot write to stdout: No space left on device\n")


def test_as_a_process(start, tmp_path, trajectory):
    process = start(stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert [line.split() for line in out.splitlines()[1:51]] == trajectory[1]


def test_stdout_that_lacks_characters(monkeypatch, write):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    assert main([str(write("größe,y\n1,2\n2,3\n")), "--target", "y"]) == 0
    assert rb"  gr\xf6\xdfe" in raw.getvalue()


# --- --output ---


def test_output_holds_fit_and_history(sgdm_says, tmp_path, houses):
    path, X, y = houses
    output = tmp_path / "result.npz"
    argv = [path, "--target", "price", "--lr", 0.05, "--epochs", 30, "--record-every", 3, "--output", output]
    assert sgdm_says(*argv)[0] == 0
    want = sgdm.fit(X, y, lr=0.05, epochs=30, record_every=3, fit_intercept=True)
    with np.load(output, allow_pickle=False) as saved:
        assert saved["features"].tolist() == ["rooms", "distance", "age"]
        assert saved["features"].dtype.kind == "U"
        assert saved["target"] == "price"
        assert np.array_equal(saved["coef"], want.coef)
        assert saved["intercept"] == want.intercept
        assert saved["mean"].tolist() == [0, 0, 0]
        assert saved["scale"].tolist() == [1, 1, 1]
        for name in ("epoch", "loss", "grad", "step", "coef"):
            assert np.array_equal(saved[f"history_{name}"], getattr(want.history, name))
    assert sorted(os.listdir(tmp_path)) == ["data.csv", "result.npz"]


def test_output_of_a_standardised_fit_is_the_descent_that_was_done(sgdm_says, tmp_path, houses):
    path, X, y = houses
    output = tmp_path / "result.npz"
    assert sgdm_says(path, "--target", "price", "--standardize", "--output", output)[0] == 0
    with np.load(output, allow_pickle=False) as saved:
        Z = (X - saved["mean"]) / saved["scale"]
        want = sgdm.fit(Z, y, fit_intercept=True)
        assert np.array_equal(saved["history_coef"], want.history.coef)
        assert np.array_equal(saved["history_grad"], want.history.grad)
        predicted = X @ saved["coef"] + saved["intercept"]
    assert abs(predicted - want.predict(Z)).max() <= 100 * EPS * abs(y).max()


def test_output_is_replaced_whole(sgdm_says, tmp_path):
    output = tmp_path / "any name"
    output.write_text("old")
    link = tmp_path / "link"
    link.symlink_to(output)
    assert sgdm_says("--output", link)[0] == 0
    assert link.is_symlink()
    assert np.load(output)["history_loss"].shape == (50,)


def test_a_failed_write_leaves_the_old_file_and_still_prints(monkeypatch, sgdm_says, tmp_path):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    output = tmp_path / "result.npz"
    output.write_text("old")
    monkeypatch.setattr(np, "savez", full)
    code, out, err = sgdm_says("--output", output)
    assert (code, err) == (2, f"sgdm: error: cannot write '{output}': No space left on device\n")
    assert out.endswith("y = 3.07x + 2.51\n")
    assert output.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.npz"]


def test_a_diverged_fit_leaves_the_old_file(refused, tmp_path):
    output = tmp_path / "result.npz"
    output.write_text("old")
    refused("--lr", 100, "--epochs", 5000, "--output", output, code=1)
    assert output.read_text() == "old"


@plots
@pytest.mark.parametrize("option", ["--output", "--plot"])
def test_files_that_cannot_be_written(monkeypatch, refused, tmp_path, option):
    (tmp_path / "folder.png").mkdir()
    assert "folder.png': it is a directory" in refused(option, tmp_path / "folder.png")
    absent = tmp_path / "absent"
    assert f"there is no directory '{absent}'" in refused(option, absent / "file.png")
    (tmp_path / "file").write_text("")
    assert "there is no directory" in refused(option, tmp_path / "file" / "file.png")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"the directory '{tmp_path}' is read-only" in refused(option, tmp_path / "file.png")


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="needs devices")
def test_a_device_is_not_replaced(refused):
    assert "'/dev/null': it is not a regular file" in refused("--output", "/dev/null")


def test_data_is_not_overwritten(refused, houses, tmp_path):
    path = houses[0]
    before = path.read_bytes()
    beside = tmp_path / "." / path.name
    assert "must be different files" in refused(path, "--target", "price", "--output", beside)
    assert path.read_bytes() == before


@plots
def test_output_and_plot_must_differ(refused, tmp_path):
    assert "must be different files" in refused("--output", tmp_path / "a.png", "--plot", tmp_path / "a.png")


# --- --plot ---


@plots
@pytest.mark.parametrize(
    ("ending", "magic"), [("png", b"\x89PNG"), ("PNG", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
def test_plot_writes_a_picture(sgdm_says, tmp_path, ending, magic):
    path = tmp_path / f"lesson2.{ending}"
    code, out, err = sgdm_says("--plot", path)
    assert (code, err) == (0, "")
    assert out.endswith("y = 3.07x + 2.51\n")
    assert path.read_bytes().startswith(magic)
    assert os.listdir(tmp_path) == [path.name]


@plots
def test_plot_of_own_table_is_in_original_units(monkeypatch, sgdm_says, tmp_path, houses):
    path, X, y = houses
    drawn = {}
    original = command.notebook

    def watched(X, y, result, **names):
        drawn.update(X=X, result=result, **names)
        return original(X, y, result, **names)

    monkeypatch.setattr(command, "notebook", watched)
    argv = [path, "--target", "price", "--standardize", "--epochs", 3000, "--plot", tmp_path / "fit.png"]
    assert sgdm_says(*argv)[0] == 0
    want = np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), y, rcond=None)[0]
    assert np.array_equal(drawn["X"], X)
    assert drawn["result"].coef == pytest.approx(want[:3], rel=1e-10)
    assert drawn["result"].history.coef[-1] == pytest.approx(want, rel=1e-8)
    assert (drawn["features"], drawn["target"]) == (["rooms", "distance", "age"], "price")


@plots
@pytest.mark.parametrize(
    "name",
    [
        "price in $ per $",
        "$\\frac{",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("_hidden", "x" * 300, "{}%s\\n")),
    ],
)
def test_plot_takes_any_name(sgdm_says, tmp_path, write, name):
    for header in (f"{name},y\n1,2\n2,3\n", f"a,b,{name}\n1,2,2\n2,3,4\n"):
        path = write(header)
        target = "y" if header.startswith(name) else name
        code, _, err = sgdm_says(path, "--target", target, "--plot", tmp_path / "fit.png", "--lr", 0.01)
        assert (code, err) == (0, "")


def test_plot_without_matplotlib(monkeypatch, refused, tmp_path, points):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    message = "needs matplotlib: pip install 'sgdm[plot]'"
    assert f"--plot {message}" in refused("--plot", tmp_path / "fit.png")
    with pytest.raises(ImportError, match=re.escape(f"sgdm.plot {message}")):
        command.notebook(*points, sgdm.fit(*points))


@plots
@pytest.mark.parametrize("name", ["fit.xls", "fit", "fit.", ".png"])
def test_plot_of_no_known_format(refused, tmp_path, name):
    message = refused("--plot", tmp_path / name)
    assert re.search(r"expected a file ending in one of .*pdf.*png.*svg.*, got ", message)
    assert message.endswith(f"{name}'\n")


@plots
def test_matplotlib_is_imported_for_plot_alone_and_pyplot_never(tmp_path):
    program = (
        "import sys; from sgdm.__main__ import main; main([]); assert 'matplotlib' not in sys.modules; "
        "main(['--plot', sys.argv[1]]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    argv = [sys.executable, "-P", "-c", program, str(tmp_path / "fit.png")]
    assert subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, timeout=60).returncode == 0
    assert (tmp_path / "fit.png").exists()


# --- sgdm.plot ---


@plots
def test_picture_of_one_feature(points):
    x, y = points
    result = sgdm.fit(x, y, fit_intercept=True, coef0=[-1, 1])
    left, middle, right = command.notebook(x, y, result).axes
    ends = np.array([x.min(), x.max()])
    for axes, (slope, intercept), equation in (
        (left, (-1, 1), "y = -1.00x + 1.00"),
        (middle, (result.coef[0], result.intercept), "y = 3.07x + 2.51"),
    ):
        assert np.array_equal(axes.collections[0].get_offsets(), np.column_stack([x, y]))
        (line,) = axes.lines
        assert np.array_equal(line.get_xdata(), ends)
        assert line.get_ydata() == pytest.approx(slope * ends + intercept, rel=1e-14)
        assert axes.get_legend().get_texts()[0].get_text() == equation
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    assert left.get_ylim() == middle.get_ylim()
    assert middle.get_title() == "after 50 epochs"
    assert np.array_equal(right.lines[0].get_ydata(), result.history.loss)
    assert right.get_yscale() == "log"


@plots
def test_picture_of_several_features(houses):
    _, X, y = houses
    result = sgdm.fit(X, y, lr=0.05, epochs=1)
    left, middle, _ = command.notebook(X, y, result, features=list("abc"), target="price").axes
    assert np.array_equal(left.collections[0].get_offsets(), np.column_stack([y, 0 * y]))
    assert np.array_equal(middle.collections[0].get_offsets(), np.column_stack([y, result.predict(X)]))
    assert (left.get_xlabel(), left.get_ylabel()) == ("actual price", "predicted price")
    assert middle.get_title() == "after 1 epoch"


@plots
def test_picture_of_a_perfect_start(tmp_path):
    figure = command.notebook([[1.0], [2.0]], [0.0, 0.0], sgdm.fit([[1.0], [2.0]], [0.0, 0.0]))
    assert figure.axes[2].get_yscale() == "linear"
    figure.savefig(tmp_path / "zero.png")


@plots
def test_picture_in_float32_of_many_points(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((5000, 2), np.float32), rng.standard_normal(5000, np.float32)
    figure = command.notebook(X, y, sgdm.fit(X, y, fit_intercept=True))
    assert figure.axes[0].collections[0].get_rasterized()
    figure.savefig(tmp_path / "many.svg")


@plots
def test_pictures_that_cannot_be_drawn(points):
    x, y = points
    with pytest.raises(ValueError, match=r"y must be one target, of shape \(100,\), got shape \(100, 2\)"):
        command.notebook(x, np.column_stack([y, y]), sgdm.fit(x, np.column_stack([y, y])))
    with pytest.raises(ValueError, match="fit with record='all'"):
        command.notebook(x, y, sgdm.fit(x, y, record="loss"))
    with pytest.raises(ValueError, match="X must have the 1 columns of the fit, got 2"):
        command.notebook(np.column_stack([x, x]), y, sgdm.fit(x, y))
