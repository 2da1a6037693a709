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
    """The history of a descent, with a row for each recorded epoch t, or each recorded update t.

    What was not recorded is None. p is the number of parameters: the features in order, then the intercept if there is
    one. For k targets the arrays have a last axis of length k; for the fits of `fit_many`, all but `epoch` have a first
    axis of length B. An epoch of mini-batches has `grad`, `step` and `coef` of its last update. Its `loss` is the mean
    over all rows, each taken with the parameters that its batch started from.

    Attributes
    ----------
    epoch : int array of shape (rows,)
        The epoch of each row.
    loss : array of shape (rows,), or None
        The mean squared error f(a_t), before the update.
    grad : array of shape (rows, p), or None
        Its gradient g(a_t), without penalties.
    step : array of shape (rows, p), or None
        The momentum buffer v_t.
    coef : array of shape (rows, p), or None
        The parameters a_t, at which loss and gradient were taken.
    val_loss : array of shape (recorded epochs,), or None
        The mean squared error of the validation rows after the epoch.

    Examples
    --------
    >>> import numpy as np, sgdm
    >>> history = sgdm.fit(np.eye(2), np.ones(2), epochs=3).history
    >>> history
    History(3 rows of loss, grad, step, coef)
    >>> history.coef.round(3)
    array([[0.   , 0.   ],
           [0.1  , 0.1  ],
           [0.198, 0.198]])
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
