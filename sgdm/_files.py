"""Results and reductions on disk: .npz without pickle, written whole or not at all."""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress

import numpy as np

_FORMATS = {"result": 1, "reduction": 1, "checkpoint": 2}  # of each kind of file
# How np.save begins an array that is read here: without pickle, structure or another order than C or Fortran.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '([<>|][a-zA-Z]\d{1,9})', 'fortran_order': (True|False), "
    rb"'shape': \((|\d{1,18},|\d{1,18}(?:, \d{1,18})+)\), \} *\n",
    re.DOTALL,
)
# What Python, numpy, zipfile and json raise for bytes that are not what they should be; these types, no subclass.
_DAMAGE = (
    AssertionError, AttributeError, EOFError, IndexError, KeyError, NotImplementedError, OSError, OverflowError,
    RecursionError, RuntimeError, SyntaxError, TypeError, UnicodeDecodeError, UnicodeEncodeError, ValueError,
)  # fmt: skip
_HEADER_BYTES = 1024  # at most
_READERS = {"result": "sgdm.load", "reduction": "sgdm.Compressed.load", "checkpoint": "sgdm.compress(checkpoint=...)"}


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
    digest = np.array(_digest({"sgdm": header, **arrays}))

    def write(file):
        try:
            np.savez(file, sgdm=header, digest=digest, **arrays)
        except ValueError as error:  # an archive that an interrupt left half written can't be closed, either
            if error.__context__ is None or "open writing handle" not in str(error):
                raise
            raise error.__context__ from None

    write_whole(path, write)


def read_npz(path, kind, build):
    """`build(arrays, plain)` of what `write_npz` wrote; ValueError if the file is damaged or something else."""
    import json
    import struct
    import zipfile
    import zlib

    damage = (*_DAMAGE, zipfile.BadZipFile, zlib.error, json.JSONDecodeError, struct.error)
    with open(path, "rb") as stream:
        try:
            arrays = _read_arrays(stream)
            digest = arrays.pop("digest")
            plain = json.loads(arrays["sgdm"][()], object_hook=_decode)
            found, form = plain.pop("kind"), plain.pop("format")
            if digest.shape or digest != _digest(arrays):
                raise ValueError("its parts are not those that were written together")
            if found != kind:
                raise ValueError(f"it holds a {found}, which is for {_READERS.get(found)}")
            if form != _FORMATS[kind]:
                raise ValueError(f"its format is {form!r:.20}, and this version reads {_FORMATS[kind]}")
            del arrays["sgdm"]
            return build(arrays, plain)
        except Exception as error:
            if type(error) not in damage:  # no memory, or what a signal handler raised
                raise
            reason = str(error) or type(error).__name__
            if isinstance(error, KeyError):
                reason = f"it has no {reason}"
            raise ValueError(
                f"{os.fspath(path)} is damaged, or not a {kind} saved by this version of sgdm ({reason}); "
                "make it anew, or restore a copy"
            ) from None


def _read_arrays(stream):
    """The arrays of an .npz file by name. All of them together take no more memory than the file has bytes."""
    import zipfile

    size = os.fstat(stream.fileno()).st_size
    arrays = {}
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > size:
            raise ValueError("its parts take more bytes than it has")
        names = [member.filename.removesuffix(".npy") for member in members]
        if "history_epoch" in names and "features" in names:
            raise ValueError("it holds what the command's --output writes, which is for numpy.load")
        if len(set(names)) < len(members):
            raise ValueError("it holds two parts of one name")
        for name, member in zip(names, members, strict=True):
            if member.compress_type != zipfile.ZIP_STORED or not member.filename.endswith(".npy"):
                raise ValueError(f"its part {name!r:.80} is not an array as it was saved")
            _check_header(archive, member)
            with archive.open(member) as part:
                array = np.lib.format.read_array(part, allow_pickle=False)
            arrays[name] = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    return arrays


def _check_header(archive, member):
    """Refuses an array whose header is not as np.save writes it, or says another size than there is: numpy would ask
    for that much memory."""
    with archive.open(member) as part:
        header = _HEADER.match(part.read(_HEADER_BYTES))
    if header is None:
        raise ValueError(f"{member.filename} has a garbled header")
    length, dtype, _, shape = header.groups()
    if int.from_bytes(length, "little") + 10 != header.end():
        raise ValueError(f"{member.filename} has a header of another length")
    dtype = np.dtype(dtype.decode())
    size = math.prod(map(int, re.findall(rb"\d+", shape))) * dtype.itemsize
    if dtype.kind not in "fiuU" or header.end() + size != member.file_size:
        raise ValueError(f"{member.filename} has a header of something else")


def _digest(arrays):
    """A number that tells whether arrays are those that were saved, by name, dtype, shape and content."""
    import zlib

    digest = 0
    for name, array in sorted(arrays.items()):
        array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        digest = zlib.crc32(f"{name} {array.dtype.str} {array.shape} ".encode(), digest)
        digest = zlib.crc32(array.reshape(-1).view(np.uint8), digest)
    return digest


def _encode(value):
    """Arrays and integers within a generator's state, for JSON."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    return value.item()


def _decode(tree):
    """What `_encode` wrote; the arrays of bit generators have no other dtypes."""
    if tree.keys() == {"array", "dtype"} and tree["dtype"] in ("uint32", "uint64"):
        return np.array(tree["array"], tree["dtype"])
    return tree
