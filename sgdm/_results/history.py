"""The history of a fit; how it and results are built and compared."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .checkpoint import equal


class ArrayFields:
    """The base of frozen dataclasses that hold arrays.

    They are built by keywords or by `from_fields`. Two are equal if they have the same class and their fields have
    equal values (NaN equals NaN). Arrays must also have the same dtype and shape.
    """

    def __init__(self, **values):
        if unknown := values.keys() - {field.name for field in fields(self)}:
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        vars(self).update(values)

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        return all(equal(getattr(self, field.name), getattr(other, field.name)) for field in fields(self))

    __hash__ = None  # type: ignore[assignment]


def from_fields(kind, values):
    """``kind(**values)`` in a sixth of the time of a frozen dataclass's own way. The object keeps the dict `values`."""
    self = object.__new__(kind)
    object.__setattr__(self, "__dict__", values)
    return self


@dataclass(frozen=True, eq=False, repr=False, init=False)
class History(ArrayFields):
    """One row per recorded epoch t, or per recorded update t; what was not recorded is None.

    With p parameters (the features in order, then the intercept if there is one); for k targets a last axis of k. With
    mini-batches and a row per epoch, `loss` is the mean over all rows, each taken with the parameters that its batch
    started from. `grad`, `step` and `coef` are those of the last update.

    Attributes
    ----------
    epoch : (rows,) int array
        The epoch of each row.
    loss : (rows,) array
        The mean squared error f(a_t), before the update.
    grad : (rows, p) array
        Its gradient g(a_t), without penalties.
    step : (rows, p) array
        The momentum buffer v_t.
    coef : (rows, p) array
        The parameters a_t at which loss and gradient were taken.
    val_loss : (epochs recorded,) array
        The mean squared error on the validation rows at the end of the epoch, after its updates.
    """

    epoch: np.ndarray
    loss: np.ndarray | Any  # Any instead of None: else every use of a history would need a check for None
    grad: np.ndarray | Any
    step: np.ndarray | Any
    coef: np.ndarray | Any
    val_loss: np.ndarray | Any = None

    def __len__(self) -> int:
        return len(self.epoch)

    def __repr__(self) -> str:
        recorded = [field.name for field in fields(self)[1:] if getattr(self, field.name) is not None]
        return f"History({len(self)} rows of {', '.join(recorded) or 'nothing'})"
