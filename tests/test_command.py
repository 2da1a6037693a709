"""The command `sgdm`: what it prints for the notebook's points and for a table, and how it fails."""

from __future__ import annotations

import csv
import inspect
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import sgdm
from sgdm import __main__ as command
from sgdm.__main__ import main

PACKAGE = Path(sgdm.__file__).parent


# A process of its own


def heed_sigint():
    """In the child: a background job, as the tests may be, inherits a deaf ear to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start():
    """Starts the command as a process of its own."""
    running = []

    def run(*argv, **options):
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONWARNINGS": "error"}
        command, heed = (
            [sys.executable, "-P", "-m", "sgdm", *map(str, argv)],
            heed_sigint if os.name == "posix" else None,
        )
        process = subprocess.Popen(command, env=environment, text=True, preexec_fn=heed, **options)
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


# The notebook's points


def test_the_command_prints_the_notebooks_250_numbers(sgdm_says, trajectory):
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


def test_the_defaults_are_those_of_fit(fitted):
    defaults = inspect.signature(sgdm.fit).parameters
    used = fitted()["options"]
    for name in ("lr", "momentum", "epochs", "record_every"):
        assert used[name] == defaults[name].default


def test_options_apply_to_the_notebooks_points(fitted, points):
    got = fitted("--lr", 0.05, "--momentum", 0.5, "--epochs", 21, "--record-every", 4)
    want = sgdm.fit(*points, lr=0.05, momentum=0.5, epochs=21, record_every=4, fit_intercept=True, coef0=[-1, 1])
    assert got["history"] == {"epoch": [0, 4, 8, 12, 16, 20], "loss": want.history.loss.tolist()}
    assert (got["coefficients"], got["intercept"]) == ({"x": want.coef[0]}, want.intercept)


def test_the_notebooks_points_go_without_an_intercept(sgdm_says, points):
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
def test_the_rows_shown_are_few_and_hold_both_ends(rows):
    shown = command.shown(rows, 20)
    assert (shown[0], shown[-1]) == (0, rows - 1)
    assert min(rows, 8) <= len(shown) <= 20
    assert shown == sorted(set(shown))


# A person's own table


def test_a_table_gives_the_numbers_of_fit(fitted, houses):
    path, X, y = houses
    got = fitted(path, "--target", "price", "--lr", 0.05, "--epochs", 30)
    want = sgdm.fit(X, y, lr=0.05, epochs=30, fit_intercept=True, standardize=True)
    assert got == {
        "status": "completed",
        "epochs": 30,
        "loss": want.loss,
        "r2": pytest.approx(want.score(X, y), rel=1e-13),
        "lr": 0.05,
        "momentum": 0.8,
        "coefficients": dict(zip(["rooms", "distance", "age"], want.coef.tolist(), strict=True)),
        "intercept": want.intercept,
        "options": {
            "data": str(path), "target": "price", "features": None, "drop": [], "lr": 0.05, "momentum": 0.8,
            "epochs": 30, "intercept": True, "standardize": True, "record_every": 1, "output": None, "plot": None,
        },
        "history": {"epoch": list(range(30)), "loss": want.history.loss.tolist()},
    }  # fmt: skip


def test_a_table_goes_without_an_intercept(fitted, houses):
    path, X, y = houses
    got = fitted(path, "--target", "price", "--no-intercept", "--lr", 0.05, "--raw")
    assert list(got["coefficients"].values()) == sgdm.fit(X, y, lr=0.05).coef.tolist()
    assert got["intercept"] == 0


def test_a_table_prints_norms_and_coefficients(sgdm_says, houses):
    path, X, y = houses
    code, out, err = sgdm_says(path, "--target", "price", "--lr", 0.05, "--epochs", 100)
    history = sgdm.fit(X, y, lr=0.05, epochs=100, fit_intercept=True, standardize=True).history
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split() == ["epoch", "loss", "|gradient|", "|step|"]
    assert [int(line.split()[0]) for line in lines[1:12]] == [*range(0, 100, 10), 99]
    norms = [history.loss[99], np.linalg.norm(history.grad[99]), np.linalg.norm(history.step[99])]
    assert [float(cell) for cell in lines[11].split()[1:]] == pytest.approx(norms, rel=1e-5)
    assert len({len(line) for line in lines[:12]}) == 1
    assert lines[12:14] == ["", "11 of the 100 epochs recorded are shown."]
    assert lines[15] == "price ="
    assert [line.split()[0] for line in lines[16:20]] == ["rooms", "distance", "age", "(intercept)"]
    assert lines[20] == ""
    score = sgdm.fit(X, y, lr=0.05, epochs=100, fit_intercept=True, standardize=True).score(X, y)
    assert lines[21:] == [f"R2 = {score:.6f}"]


def test_a_constant_target_has_no_r_squared(sgdm_says, fitted, write):
    path = write("x,y\n1,5\n2,5\n")
    assert "R2" not in sgdm_says(path, "--target", "y")[1]
    assert fitted(path, "--target", "y")["r2"] is None


def test_the_command_chooses_lr_and_momentum(sgdm_says, fitted, houses):
    path, X, y = houses
    want = sgdm.fit(X, y, lr="auto", momentum="auto", epochs=50, fit_intercept=True, standardize=True)
    chosen = ["--lr", "auto", "--momentum", "auto"]
    got = fitted(path, "--target", "price", *chosen)
    assert (got["lr"], got["momentum"], got["options"]["lr"]) == (want.lr, want.momentum, "auto")
    assert list(got["coefficients"].values()) == want.coef.tolist()
    lines = sgdm_says(path, "--target", "price", *chosen)[1].splitlines()
    assert lines[-1] == f"lr = {want.lr:.6g}, momentum = {want.momentum:.6g}"
    assert fitted(path, "--target", "price", "--lr", "auto")["momentum"] == 0.8


def test_a_table_of_many_columns_stays_narrow(sgdm_says, write):
    cells = np.random.default_rng(0).standard_normal((30, 301))
    file = io.StringIO()
    csv.writer(file).writerows([[f"f{j}" for j in range(301)], *cells.tolist()])
    code, out, _ = sgdm_says(write(file.getvalue()), "--target", "f300", "--lr", 0.01, "--epochs", 20)
    assert code == 0
    assert max(map(len, out.splitlines())) < 80
    assert re.search(r"^  f299  +-?\d", out, re.MULTILINE)


def test_names_with_line_breaks_are_printed_on_one_line(sgdm_says, write):
    code, out, _ = sgdm_says(write('"a\nb","c\nd"\n1,2\n2,3\n'), "--target", "c\nd", "--epochs", 9)
    assert code == 0
    assert "'c\\nd' =\n  'a\\nb' " in out


def test_a_number_of_any_size_is_printed(sgdm_says, write):
    path = write("x,y\n1e-9,123456789\n-2e-9,1\n")
    _, out, _ = sgdm_says(path, "--target", "y", "--epochs", 1)
    assert out.splitlines()[1].split()[1] == "7.62079e+15"


# Arguments


def test_an_unknown_target_is_refused_with_the_columns(refused, houses):
    columns = "the columns are 'rooms', 'distance', 'price', 'age'"
    assert f"--target: there is no column 'Price'; {columns}" in refused(houses[0], "--target", "Price")
    assert f"DATA needs a --target; {columns}" in refused(houses[0])


def test_an_unknown_target_among_many_columns_names_some(refused, write):
    path = write(",".join(f"f{j}" for j in range(50)) + "\n" + ",".join(["1"] * 50))
    assert refused(path, "--target", "y").endswith("'f18', 'f19' and 30 more\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--target", "y"], "--target needs DATA"),
        (["--features", "x"], "--features needs DATA"),
        (["--drop", "x"], "--drop needs DATA"),
        (["--standardize", "--raw"], "argument --raw: not allowed with argument --standardize"),
        (["--momentum", "auto"], 'momentum="auto" needs lr="auto"'),
        (["--predict", "m.npz"], "--predict needs DATA, the file with the features"),
        (["a.csv", "--predict", "m.npz", "--json"], "--predict and --json don't go together: the fit is done already"),
        (["--lr", "fast"], "argument --lr: must be a number or auto, got 'fast'"),
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
def test_bad_arguments_are_refused(refused, argv, message):
    assert message in refused(*argv)


def test_numbers_too_large_for_the_kernel_are_refused(refused):
    refused("--record-every", 10**30)


def test_the_command_tells_its_version_and_helps(capsys, sgdm_says):
    assert sgdm_says("--version")[1] == f"sgdm {sgdm.__version__}\n"
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "sgdm houses.csv --target price" in capsys.readouterr().out


# Standardised features


def test_standardized_coefficients_are_in_original_units(fitted, houses):
    path, X, y = houses
    got = fitted(path, "--target", "price", "--standardize", "--epochs", 3000)
    want = np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), y, rcond=None)[0]
    assert [*got["coefficients"].values(), got["intercept"]] == pytest.approx(want.tolist(), rel=1e-10)


def test_a_constant_column_is_standardized_to_nothing(fitted, write):
    path = write("x,c,tiny,y\n" + "\n".join(f"{i},0.1,{i}e-200,{3 * i + 2}" for i in range(7)))
    got = fitted(path, "--target", "y", "--standardize", "--epochs", 500)
    x, c, tiny = got["coefficients"].values()
    assert (c, x + 1e-200 * tiny) == pytest.approx((0, 3), abs=1e-9)  # the two columns share what they explain
    assert got["intercept"] == pytest.approx(2)


def test_standardize_makes_the_default_lr_converge(fitted, refused, write):
    rows = [f"{1000 + i},{i * i},{3 * i + 2}" for i in range(50)]
    path = write("\n".join(["year,square,y", *rows]))
    message = refused(path, "--target", "y", "--raw", code=1)
    assert message.endswith("; or leave --raw out\n")
    assert fitted(path, "--target", "y", "--epochs", 1000)["loss"] < 1


# Divergence, warnings, signals, pipes


def test_divergence_suggests_an_lr_that_works(refused, fitted, houses):
    path = houses[0]
    message = refused(path, "--target", "price", "--raw", "--lr", 5, "--epochs", 5000, code=1)
    match = re.search(r"diverged at epoch \d+: lr=5 is too large; use an lr of at most (\S+) for", message)
    got = fitted(path, "--target", "price", "--raw", "--lr", match[1], "--epochs", 5000)
    assert got["history"]["loss"][-1] < got["history"]["loss"][0]


def test_divergence_of_what_is_scaled_does_not_suggest_to_scale(refused, houses):
    for argv in (["--lr", 100], [houses[0], "--target", "price", "--lr", 100]):
        assert "--raw" not in refused(*argv, "--epochs", 5000, code=1)


def test_a_warning_is_one_line(sgdm_says):
    code, out, err = sgdm_says("--lr", 20, "--epochs", 5)
    assert code == 0
    assert len(out.splitlines()) == 8
    assert re.fullmatch(r"sgdm: warning: the objective rose from .* use an lr of at most .*\n", err)


def test_a_warning_names_the_option_of_the_command(sgdm_says, write):
    path = write("x,y\n" + "\n".join(f"{1000 + i},{i}" for i in range(50)))
    code, _, err = sgdm_says(path, "--target", "y", "--raw", "--epochs", 5)
    assert code == 0
    assert re.fullmatch(r"sgdm: warning: the objective rose from .*; or leave --raw out\n", err)


def test_an_interrupt_tells_the_epochs_done(monkeypatch, sgdm_says, points):
    def interrupted(*args, **kwargs):
        stop = KeyboardInterrupt()
        stop.result = sgdm.fit(*points, epochs=7)
        raise stop

    monkeypatch.setattr(command, "fit", interrupted)
    assert sgdm_says() == (130, "", "sgdm: interrupted: the fit had done 7 epochs\n")


def test_an_interrupt_outside_the_fit_says_so(monkeypatch, sgdm_says):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "read_csv", interrupted)
    assert sgdm_says() == (130, "", "sgdm: interrupted: no fit was running\n")


def test_a_file_too_large_for_memory_is_one_line(monkeypatch, refused):
    def full(*args):
        raise MemoryError

    monkeypatch.setattr(command, "read_csv", full)
    assert refused() == "sgdm: error: out of memory\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_ctrl_c_ends_the_command(start, tmp_path):
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
def test_a_full_disk_is_one_line(start):
    with open("/dev/full", "w") as full:
        process = start(stdout=full, stderr=subprocess.PIPE)
        err = process.communicate(timeout=60)[1]
    assert (process.returncode, err) == (2, "sgdm: error: cannot write to stdout: No space left on device\n")


def test_the_command_runs_as_a_process(start, tmp_path, trajectory):
    process = start(stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert [line.split() for line in out.splitlines()[1:51]] == trajectory[1]


def test_a_terminal_that_lacks_characters_gets_escapes(monkeypatch, write):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    assert main([str(write("größe,y\n1,2\n2,3\n")), "--target", "y"]) == 0
    assert rb"  gr\xf6\xdfe" in raw.getvalue()
