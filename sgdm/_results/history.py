"""The history of a fit."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from .fields import ArrayFields


@dataclass(frozen=True, eq=False, repr=False, init=False)
class History(ArrayFields):
    """One row per recorded epoch t, or per recorded update t; what was not recorded is None.

    With p parameters (the features in order, then the intercept if there is one); for k targets a last axis of k. In
    mini-batches a row per epoch holds the loss over the whole epoch as it was met, and the other values of the epoch's
    last update.

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
    loss: np.ndarray | None
    grad: np.ndarray | None
    step: np.ndarray | None
    coef: np.ndarray | None
    val_loss: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.epoch)

    def __repr__(self) -> str:
        recorded = [field.name for field in fields(self)[1:] if getattr(self, field.name) is not None]
        return f"History({len(self)} rows of {', '.join(recorded) or 'nothing'})"
