"""Results and reductions on disk: .npz without pickle, written whole or not at all."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import numpy as np

_FORMATS = {"result": 1, "reduction": 1, "checkpoint": 2}  # of each kind of file
# What numpy, zipfile and json raise for bytes that are not what they should be.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    AttributeError,
    IndexError,
    NotImplementedError,
    RuntimeError,
)


def write_whole(path, write):
    """Calls `write(file)` for a file beside `path`, which then takes its place: it appears whole or not at all."""
    real = os.path.realpath(path)
    beside = os.path.join(os.path.dirname(real), f".sgdm-{os.urandom(6).hex()}.tmp")
    try:
        with open(beside, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, real)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def write_npz(path, kind, arrays, plain):
    """Writes named arrays and a JSON-able dict to `path`."""
    import json  # here and below, because most programs that import sgdm need neither

    header = np.array(json.dumps({"kind": kind, "format": _FORMATS[kind], **plain}, default=_encode))

    def write(file):
        try:
            np.savez(file, sgdm=header, **arrays)
        except ValueError as error:  # an archive that an interrupt left half written can't be closed, either
            if error.__context__ is None or "open writing handle" not in str(error):
                raise
            raise error.__context__ from None

    write_whole(path, write)


def read_npz(path, kind, build):
    """`build(arrays, plain)` of what `write_npz` wrote; ValueError if the file is damaged or something else."""
    import json
    import zipfile
    import zlib

    with open(path, "rb") as stream:
        try:
            with np.load(stream, allow_pickle=False) as file:
                plain = json.loads(str(file["sgdm"]), object_hook=_decode)
                arrays = {name: file[name] for name in file.files if name != "sgdm"}
            if (plain.pop("kind"), plain.pop("format")) != (kind, _FORMATS[kind]):
                raise ValueError("it holds something else")
            return build(arrays, plain)
        except (*_DAMAGE, zipfile.BadZipFile, zlib.error) as error:
            module = type(error).__module__.partition(".")[0]
            if isinstance(error, TimeoutError) or module not in {*sys.stdlib_module_names, "numpy"}:
                raise  # what a signal's handler raised says nothing of the file
            raise ValueError(
                f"{os.fspath(path)} is damaged, or not a {kind} saved by this version of sgdm ({error}); "
                "make it anew, or restore a copy"
            ) from None


def _encode(value):
    """Arrays and integers within a generator's state, for JSON."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    return value.item()


def _decode(tree):
    return np.array(tree["array"], tree["dtype"]) if tree.keys() == {"array", "dtype"} else tree
