"""Results in files: written whole or not at all, read as they were, or refused."""

import io
import re
import zipfile

import numpy as np
import pytest
from helpers import SHUFFLED, fit_epochs, make_data, make_problem

import sgdm
from sgdm import Compressed, compress

DAMAGED = r"result\.npz is damaged, or not a result saved by this version of sgdm \(.*\); make it anew, or restore"


@pytest.fixture
def saved(tmp_path):
    """A path with a small result at it, and the result."""
    result = fit_epochs(make_problem(), 2, average=True, validation=0.3, record="loss", **SHUFFLED)
    path = tmp_path / "result.npz"
    result.save(path)
    return path, result


def assert_damaged(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=DAMAGED):
        sgdm.load(path)


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_a_truncated_file_is_refused(saved):
    path, _ = saved
    content = path.read_bytes()
    for length in [*range(0, len(content), 97), len(content) - 1]:
        assert_damaged(path, content[:length])


@pytest.mark.thread_unsafe(reason="writes to the fixture's file")
def test_a_flipped_byte_is_refused_or_harmless(saved):
    """Every byte of the directory at the end, and some of those before, once."""
    path, result = saved
    content = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        directory = file.start_dir
    refused = 0
    for i in [*range(0, directory, 41), *range(directory, len(content), 2)]:
        damaged = bytearray(content)
        damaged[i] ^= (1, 32, 255)[i % 3]
        path.write_bytes(damaged)
        try:
            assert sgdm.load(path) == result  # a date, or an attribute
        except ValueError as error:
            assert re.search(DAMAGED, str(error)), i  # noqa: PT017
            refused += 1
    assert refused > 300


@pytest.mark.thread_unsafe(reason="writes to the fixture's file")
def test_damage_that_zipfile_reports_in_its_own_way_is_refused_in_ours(saved):
    """An unknown compression, an encrypted member, a directory that starts before the file: one byte each."""
    path, _ = saved
    content = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        directory = file.start_dir
    for i, value in ((directory + 10, 99), (directory + 8, 1), (len(content) - 3, 255)):
        assert_damaged(path, content[:i] + bytes([value]) + content[i + 1 :])


FOREIGN = {
    "empty": b"",
    "text": b"a,b\n1,2\n",
    "foreign": npz(a=np.arange(3)),
    "no JSON": npz(sgdm=np.array("not JSON")),
    "list": npz(sgdm=np.array("[1, 2]")),
    "no format": npz(sgdm=np.array("{}")),
    "no result": npz(sgdm=np.array('{"kind": "result", "format": 1}')),
    "another format": npz(sgdm=np.array('{"kind": "result", "format": 99}')),
    "another kind": npz(sgdm=np.array('{"kind": "reduction", "format": 1}')),
    "pickle": npz(sgdm=np.array([{"kind": "result", "format": 1}], object)),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_refused(content, tmp_path):
    assert_damaged(tmp_path / "result.npz", content)


@pytest.mark.thread_unsafe(reason="writes to the fixture's file")
def test_another_file_of_numpy_is_refused(saved, tmp_path):
    file = io.BytesIO()
    np.save(file, np.arange(3))
    assert_damaged(tmp_path / "result.npz", file.getvalue())
    path, result = saved
    result.save(path)
    with np.load(path) as arrays:
        pickled = {**arrays, "coef": np.array([print], object)}
    assert_damaged(path, npz(**pickled))


@pytest.mark.thread_unsafe(reason="writes to the fixture's file")
def test_a_file_that_lacks_a_part_is_refused(saved):
    """A damaged directory can hide any of its members."""
    path, _ = saved
    with np.load(path) as file:
        arrays = dict(file)
    for name in arrays:
        assert_damaged(path, npz(**{other: array for other, array in arrays.items() if other != name}))


def test_a_file_that_is_not_there_raises_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
        sgdm.load(tmp_path / "nothing.npz")
    with pytest.raises(IsADirectoryError):
        sgdm.load(tmp_path)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_result_is_saved_whole_or_not_at_all(saved, monkeypatch, error):
    path, result = saved

    def savez(file, **arrays):
        file.write(b"half of it")
        raise error

    monkeypatch.setattr(np, "savez", savez)
    other = fit_epochs(make_problem(), 3)
    for target in (path, path.with_name("new.npz")):
        with pytest.raises(type(error)):
            other.save(target)
    monkeypatch.undo()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert sgdm.load(path) == result
    other.save(path)
    assert sgdm.load(path) == other
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_result_is_saved_under_the_name_given_and_without_pickle(tmp_path):
    result = fit_epochs(make_problem(True), 3, **SHUFFLED)
    for name in ("result", "result.npz", "with.dots.fit"):
        result.save(tmp_path / name)
        assert sgdm.load(tmp_path / name) == result
        with np.load(tmp_path / name, allow_pickle=False) as file:
            assert all(file[key].dtype != object for key in file.files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result", "result.npz", "with.dots.fit"]
    with pytest.raises(FileNotFoundError):
        result.save(tmp_path / "nowhere" / "result.npz")


def test_a_damaged_or_foreign_reduction_is_refused(tmp_path):
    X, y = make_data()
    compress(X, y).save(tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    sgdm.fit(X, y).save(tmp_path / "result.npz")
    for name, content in {"cut.npz": whole[:-100], "empty.npz": b"", "text.npz": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
    for name in ("cut.npz", "empty.npz", "text.npz"):
        with pytest.raises(ValueError, match=rf"{name} is damaged, or not a reduction saved by this version of sgdm"):
            Compressed.load(tmp_path / name)
    with pytest.raises(ValueError, match=r"whole.npz is no result: it holds a reduction, .* sgdm.Compressed.load$"):
        sgdm.load(tmp_path / "whole.npz")
    with pytest.raises(ValueError, match=r"result.npz is no reduction: it holds a result, which is for sgdm.load$"):
        Compressed.load(tmp_path / "result.npz")
    with pytest.raises(FileNotFoundError):
        Compressed.load(tmp_path / "none.npz")


def test_the_best_iterate_may_have_the_coefficients_of_the_last(tmp_path):
    """l1 keeps all coefficients at 0, and the intercept alone tells the best iterate from the last one."""
    X, y = make_data()
    result = sgdm.fit(
        X, y + 5, fit_intercept=True, l1=1e3, lr=0.3, dampening=0.0, epochs=40, validation=(X[:9], y[:9]), patience=5
    )
    assert not result.coef.any()
    assert result.intercept != result.checkpoint.parameters[0, -1, 0]
    result.save(tmp_path / "r.npz")
    assert sgdm.load(tmp_path / "r.npz") == result
