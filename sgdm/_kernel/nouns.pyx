"""What the epoch loop works on: a problem, options, a state, a record.

Python's classes of these names extend them; here is what the loop itself reads and writes.
"""

from libc.math cimport INFINITY


cdef class Problem:
    """Checked data.

    lines: X (n, d) in C order, with any gap between rows; or with by_columns X.T (d, n), of an F-order X, without gaps.
    They are runs of contiguous memory. row_step: elements from one row to the next.
    targets: y.T, (k, n). weights: (n,) or None; total_weight: their sum.
    fit_intercept: whether the d columns get an intercept beside them; p counts the parameters with it.
    features: how many columns the penalties act on; a column after them is an intercept spelled out.
    triangular: whether X is zero below its diagonal.
    dtype: the dtype of the results, by default that of the lines. What it can't hold has overflowed.
    """

    def __init__(self, lines, bint by_columns, targets, weights, double total_weight, bint fit_intercept,
                 Py_ssize_t features=-1, bint triangular=False, dtype=None):
        self.lines, self.by_columns, self.targets = lines, by_columns, targets
        self.weights, self.total_weight, self.triangular = weights, total_weight, triangular
        self.dtype = lines.dtype if dtype is None else dtype
        self.float32_results = self.dtype.itemsize == 4
        self.n, self.d = lines.shape
        if by_columns:
            self.n, self.d = self.d, self.n
        self.k, self.p, self.fit_intercept = targets.shape[0], self.d + fit_intercept, fit_intercept
        self.features = self.d if features < 0 else features
        self.row_step = self.d if by_columns or lines.flags.c_contiguous else lines.strides[0] // lines.itemsize
        if self.n < 1 or self.d < 1 or self.k < 1 or self.features > self.d or self.row_step < self.d:
            raise ValueError(f"a problem must have rows, columns and targets, no more features than columns, and rows "
                             f"that don't overlap, got {self.n}, {self.d}, {self.k}, {self.features}, and rows "
                             f"{self.row_step} elements apart")


cdef class Options:
    """The constants of a descent.

    rates: lr, momentum and 1 - dampening of all epochs; or an array of them (epochs, 3), from epoch `start` on.
    weight_decay, l1: the penalties, numbers; or arrays with one number for each feature, which `Rows` then holds too.
    batch_size: rows per update, 0 for all rows. shuffle: whether each epoch takes the rows in a new random order.
    tol: the gradient's norm, as a part of its first one, at which the descent has converged; negative for never.
    average_from: the epoch from which on iterates are averaged, -1 for never.
    patience: how many epochs the validation loss may go without improvement, 0 for any number. To improve, it must
    fall below (1 - improvement) times the state's best_loss.
    """

    def __init__(self, rates, bint nesterov=False, weight_decay=0.0, l1=0.0, double tol=-1.0, Py_ssize_t start=0,
                 Py_ssize_t batch_size=0, Py_ssize_t average_from=-1, Py_ssize_t patience=0, double improvement=0.0,
                 bint shuffle=False):
        self.set_rates(rates)
        self.nesterov, self.weight_decay, self.l1 = nesterov, weight_decay, l1
        self.uniform_decay = weight_decay if isinstance(weight_decay, float) else 0
        self.uniform_l1 = l1 if isinstance(l1, float) else 0
        self.batch_size, self.shuffle, self.average_from = batch_size, shuffle, average_from
        self.start, self.tol, self.patience, self.improvement = start, tol, patience, improvement

    cpdef set_rates(self, rates):
        """Sets the rates, which may be None until they are known."""
        self.rates = rates
        self.rates_view = None if isinstance(rates, tuple) else rates
        if isinstance(rates, tuple):
            self.lr, self.momentum, self.gradient_weight = rates


cdef class State:
    """Where a descent stands. It is all that a descent needs to go on; `advance` changes it in place.

    parameters: (2, p, k), a_t and v_{t-1} before update t.
    average: (p, k) double, the mean of `averaged` iterates; or None.
    best: (p, k), the last iterate that improved the validation loss; or None. best_loss is that loss, best_epoch its
    epoch, or -1 before there is one.
    metrics: (METRICS, k) double, with a row each of the objective at the start, the norm of its gradient in epoch 0
    (of that of its last batch, with batches) and the last loss; NaN before there is one.
    epoch, updates: how many are done. waited: epochs since the validation loss last improved.
    diverged: the target that overflowed, or -1.
    generator: the numpy Generator that orders the rows, or None.
    split: the generator's state before it chose the validation rows, and their fraction; or None.
    """

    def __init__(self, parameters, average, best, metrics, Py_ssize_t epoch=0, Py_ssize_t updates=0,
                 Py_ssize_t averaged=0, Py_ssize_t best_epoch=-1, Py_ssize_t waited=0, double best_loss=INFINITY,
                 generator=None, split=None):
        self.parameters, self.average, self.best, self.metrics = parameters, average, best, metrics
        self.epoch, self.updates, self.averaged, self.diverged = epoch, updates, averaged, -1
        self.best_epoch, self.waited, self.best_loss = best_epoch, waited, best_loss
        self.generator, self.split = generator, split

    def copy(self):
        """A state with arrays of its own. The generator is shared."""
        average = None if self.average is None else self.average.copy()
        best = None if self.best is None else self.best.copy()
        return State(self.parameters.copy(), average, best, self.metrics.copy(), self.epoch, self.updates,
                     self.averaged, self.best_epoch, self.waited, self.best_loss, self.generator, self.split)


cdef class Record:
    """The histories that a descent writes: loss and val_loss (rows, k), and paths (3, rows, p, k), the histories of
    gradient, step and coefficients; each may be None.

    There is a row for each epoch that `every` divides; or with per_update for each such update, but in val_loss still
    for each such epoch. Row 0 is the first of them at or after epoch `start` (update `start_update`).
    """

    def __init__(self, loss, val_loss, paths, Py_ssize_t every=1, bint per_update=False,
                 Py_ssize_t start=0, Py_ssize_t start_update=0):
        self.loss, self.val_loss, self.paths = loss, val_loss, paths
        self.every, self.per_update, self.start, self.start_update = every, per_update, start, start_update
