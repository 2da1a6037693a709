"""Results and reductions on disk: .npz files without pickle, written completely or not at all."""

import math
import os
import re
from contextlib import suppress

import numpy as np

_FORMATS = {"result": 1, "reduction": 1, "checkpoint": 2}  # the format number of each kind of file
# The header that np.save writes for an array of numbers or text in C or Fortran order.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '([<>|][a-zA-Z]\d{1,9})', 'fortran_order': (True|False), "
    rb"'shape': \((|\d{1,18},|\d{1,18}(?:, \d{1,18})+)\), \} *\n",
    re.DOTALL,
)
# What Python, numpy, zipfile and json raise for damaged bytes. Subclasses don't count: a signal handler may raise one.
_DAMAGE = (
    AssertionError, AttributeError, EOFError, IndexError, KeyError, NotImplementedError, OSError, OverflowError,
    RecursionError, RuntimeError, SyntaxError, TypeError, UnicodeDecodeError, UnicodeEncodeError, ValueError,
)  # fmt: skip
_MAX_HEADER_BYTES = 1024


class _OtherKind(ValueError):
    """What a sound file holds, where something else was asked for."""


_READERS = {"result": "sgdm.load", "reduction": "sgdm.Compressed.load", "checkpoint": "sgdm.compress(checkpoint=...)"}


def write_atomically(path, write):
    """Call `write(file)` for a temporary file, and rename it to `path`: the file appears complete or not at all."""
    path = os.path.realpath(path)
    temporary = os.path.join(os.path.dirname(path), f".sgdm-{os.urandom(6).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def write_npz(path, kind, arrays, metadata):
    """Write a dict of arrays, and a dict that JSON can hold, to `path`. `kind` is a key of _FORMATS."""
    import json  # imported in functions here, because most programs that import sgdm don't need it

    header = np.array(json.dumps({"kind": kind, "format": _FORMATS[kind], **metadata}, default=_encode))
    digest = np.array(_digest({"sgdm": header, **arrays}))

    def write(file):
        try:
            np.savez(file, sgdm=header, digest=digest, **arrays)
        except ValueError as error:  # closing fails after an interrupt inside savez: raise the interrupt
            if error.__context__ is None or "open writing handle" not in str(error):
                raise
            raise error.__context__ from None

    write_atomically(path, write)


def read_npz(path, kind, build):
    """`build(arrays, metadata)` of a file by `write_npz`; ValueError if it is damaged or of another kind."""
    import json
    import struct
    import zipfile
    import zlib

    damage = (*_DAMAGE, zipfile.BadZipFile, zlib.error, json.JSONDecodeError, struct.error)
    with open(path, "rb") as stream:
        try:
            arrays = _read_arrays(stream)
            digest = arrays.pop("digest")
            metadata = json.loads(arrays["sgdm"][()], object_hook=_decode)
            found, form = metadata.pop("kind"), metadata.pop("format")
            if digest.shape or digest != _digest(arrays):
                raise ValueError("its parts are not those that were written together")
            if found != kind and found in _READERS:
                raise _OtherKind(f"it holds a {found}, which is for {_READERS[found]}")
            if found != kind:
                raise ValueError(f"it holds a {found!r:.20}")
            if form != _FORMATS[kind]:
                raise ValueError(f"its format is {form!r:.20}, and this version reads {_FORMATS[kind]}")
            del arrays["sgdm"]
            return build(arrays, metadata)
        except _OtherKind as error:
            raise ValueError(f"{os.fspath(path)} is no {kind}: {error}") from None
        except Exception as error:
            if type(error) not in damage:  # out of memory, or raised by a signal handler
                raise
            reason = str(error) or type(error).__name__
            if isinstance(error, KeyError):
                reason = f"it has no {reason}"
            raise ValueError(
                f"{os.fspath(path)} is damaged, or not a {kind} saved by this version of sgdm ({reason}); "
                "make it anew, or restore a copy"
            ) from None


def _read_arrays(stream):
    """The arrays of an .npz file by name. Together they take no more memory than the file has bytes."""
    import zipfile

    size = os.fstat(stream.fileno()).st_size
    arrays = {}
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > size:
            raise ValueError("its parts take more bytes than it has")
        names = [member.filename.removesuffix(".npy") for member in members]
        if "history_epoch" in names and "features" in names:
            raise _OtherKind(
                "it holds what the command's --output writes, which is for numpy.load and the command's --predict"
            )
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
    """Refuses a header that np.save would not write, or whose size is not the file's: numpy would allocate it."""
    with archive.open(member) as part:
        header = _HEADER.match(part.read(_MAX_HEADER_BYTES))
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
    """A checksum of the arrays' names, dtypes, shapes and contents."""
    import zlib

    digest = 0
    for name, array in sorted(arrays.items()):
        array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        digest = zlib.crc32(f"{name} {array.dtype.str} {array.shape} ".encode(), digest)
        digest = zlib.crc32(array.reshape(-1).view(np.uint8), digest)
    return digest


def _encode(value):
    """An array or an integer of a generator's state, as JSON can hold it."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    return value.item()


def _decode(value):
    """The inverse of `_encode`. The arrays of NumPy's bit generators are uint32 or uint64."""
    if value.keys() == {"array", "dtype"} and value["dtype"] in ("uint32", "uint64"):
        return np.array(value["array"], value["dtype"])
    return value
