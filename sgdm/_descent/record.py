"""The histories of a fit while they are written."""

import numpy as np

from .._kernel import Record as KernelRecord
from .._results.history import History, from_fields
from .._validation import cast, ceil_div, raise_if_foreign


class Record(KernelRecord):
    """Room for the rows that a fit of this problem with these options records."""

    __slots__ = "options", "problem", "updates_per_epoch"

    def __init__(self, problem, options):
        self.problem, self.options = problem, options
        self.updates_per_epoch = options.updates_per_epoch(problem)
        record, init, dtype = options.record, options.init, problem.lines.dtype
        every, start = options.record_every, options.start
        start_update = 0 if init is None else init.checkpoint.updates
        rows, rows_of_epochs = self._rows(options.epochs, start_update)
        size = problem.p * problem.k
        loss = paths = val_loss = None
        try:
            if record is not None:
                loss = np.empty((rows, problem.k), dtype)
                val_loss = np.empty((rows_of_epochs, problem.k), dtype) if options.validates else None
                paths = None if record == "loss" else np.empty((3, rows, problem.p, problem.k), dtype)
        except (MemoryError, ValueError) as error:
            raise_if_foreign(error)
            raise too_large(rows, problem.k if record == "loss" else problem.k + 3 * size, dtype, record) from None
        super().__init__(loss, val_loss, paths, every, record == "updates", start, start_update)

    def _rows(self, epochs, start_update):
        """Returns (rows of loss and paths, rows of val_loss), for the first `epochs` epochs."""
        options = self.options
        every, start = options.record_every, options.start
        if every == 1 and options.record != "updates":
            return epochs, epochs
        of_epochs = ceil_div(start + epochs, every) - ceil_div(start, every)
        if options.record != "updates":
            return of_epochs, of_epochs
        last_update = start_update + epochs * self.updates_per_epoch
        return ceil_div(last_update, every) - ceil_div(start_update, every), of_epochs

    def _epochs(self, rows):
        """The epoch of each row."""
        every, start = self.every, self.start
        if self.options.record is None:
            return np.arange(0)
        if self.per_update:
            first = ceil_div(self.start_update, every) * every
            return start + (first + every * np.arange(rows) - self.start_update) // self.updates_per_epoch
        if every == 1:
            return np.arange(start, start + rows)
        first = ceil_div(start, every) * every
        return np.arange(first, first + rows * every, every)

    def history(self, state, final):
        """The rows written so far, after those of `init`. A final history takes over the arrays if they are full."""
        problem, options = self.problem, self.options
        target_shape, dtype = problem.target_shape, problem.dtype
        rows, rows_of_epochs = self._rows(state.epoch - self.start, self.start_update)
        loss, val_loss, paths, grad, step, coef = self.loss, self.val_loss, self.paths, None, None, None
        if not target_shape:
            loss = None if loss is None else loss.ravel()
            val_loss = None if val_loss is None else val_loss.ravel()
            paths = None if paths is None else paths[..., 0]
        if paths is not None:
            grad, step, coef = paths[0], paths[1], paths[2]  # three times as fast as unpacking
        columns = {"epoch": self._epochs(rows), "loss": loss, "grad": grad, "step": step, "coef": coef,
                   "val_loss": val_loss}  # fmt: skip
        full = final and state.epoch == self.start + options.epochs and problem.lines.dtype is dtype
        if not full:
            for name in ("loss", "grad", "step", "coef", "val_loss"):
                if (column := columns[name]) is not None:
                    columns[name] = cast(column[: rows_of_epochs if name == "val_loss" else rows], dtype)
        if options.init is not None:
            earlier = options.init.history
            for name, column in columns.items():
                columns[name] = None if column is None else np.concatenate([getattr(earlier, name), column])
        return from_fields(History, columns)


def too_large(rows, columns, dtype, record):
    """What to raise when there is no memory for the histories."""
    size = rows * columns * dtype.itemsize
    instead = "a larger record_every" if record == "loss" else "record='loss', a larger record_every"
    return MemoryError(
        f"the history of {rows} rows takes {size} bytes ({size / 2**30:.1f} GiB), more than there is; "
        f"pass {instead} or record=None to keep less"
    )
