"""Reading a result from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._files import read_npz
from .checkpoint import Checkpoint
from .checks import check_result
from .history import History
from .many import FitResults
from .result import FitResult, names_of_parts
from .status import Status

if TYPE_CHECKING:
    import os


def load(path: str | os.PathLike[str]) -> FitResult:
    """Read a result that `FitResult.save` wrote.

    Raises
    ------
    ValueError
        If the file is damaged, or not one of ours, or what it holds does not go together.
    OSError
        If it can't be read.
    """
    return read_npz(path, "result", unflatten)


def unflatten(arrays, plain):
    """The inverse of `flatten`. Where the epochs are an array, the result is that of many fits."""
    parts = {"": plain, "history": plain["history"], "checkpoint": plain["checkpoint"]}
    for name, value in arrays.items():
        parent, _, leaf = name.rpartition(".")
        parts[parent][leaf] = value if value.ndim else value[()]
    for part, kind in (("", FitResult), ("history", History), ("checkpoint", Checkpoint)):
        if not isinstance(parts[part], dict) or parts[part].keys() != set(names_of_parts(kind)):
            raise ValueError(f"it lacks something of a {kind.__name__}, or has too much")
    plain["checkpoint"] = Checkpoint(**plain["checkpoint"])
    if isinstance(plain["status"], str):
        plain["status"] = Status(plain["status"])
    if isinstance(plain["feature_names"], list):
        plain["feature_names"] = tuple(plain["feature_names"])
    plain["history"] = History(**plain["history"])
    result = (FitResults if "epochs" in arrays else FitResult)(**plain)
    check_result(result)
    return result
