"""The factors of many problems' rows, to descend on in their place."""

import math

import numpy as np

from .._kernel import FITS_IN_LANES, PARAMETERS_IN_LANES, Problems, factor_many, losses_many
from .._validation import ceil_div
from .checks import check_reduction
from .compressed import INDEPENDENT, Compressed
from .factor import factor_rows, join, leaf_rows, out_of_range
from .leaves import Reduction
from .reduce import EPOCH_NS, REDUCE_NS, reduction_ns

_CALL_NS = 60_000  # that Python takes for the factor of X and a group of targets
_TOGETHER = 128  # targets in a group, at most, but as many as X has columns


class ManyProblems(Problems):
    """What `Descents` asks of problems, beside the data."""

    slice_multiple = 1  # a thread takes a multiple of so many fits at a time
    reading_cost = 0  # of `reduce`, for each fit: how many elements of X are read in that time

    def reduce(self, first, last):
        """Prepares fits `first` to `last`; by default there is nothing to do."""

    def refuse_nonfinite(self):
        """Raises ValueError if X or y holds NaN or infinity; by default that was checked before."""


class FactoredProblems(ManyProblems):
    """The triangular factors of some reductions, with each of their targets, to descend on side by side.

    Equally many fits, one after another, share each. held_out: those of as many reductions of held-out rows, or None.
    """

    @np.errstate(all="ignore")
    def __init__(self, reductions, held_out=None):
        p, features = reductions[0].n_params, reductions[0].n_features
        lines = np.zeros((len(reductions), p + 1, p))
        for reduction, X in zip(reductions, lines, strict=True):
            check_reduction(reduction)
            X[:p] = reduction.R[:p, :p]
        targets = np.ascontiguousarray(np.concatenate([target_columns(each.R, p) for each in reductions]))
        weights = np.array([each.total_weight for each in reductions])
        super().__init__(lines, False, targets, None, weights, False, features, True, held_out=held_out)


def target_columns(R, p):
    """For each target of a factor, (k, p + 1): its column of a factor for it alone, whose diagonal has any sign."""
    rest = R[p:, p:]
    lengths = np.abs(rest[0]) if len(rest) == 1 else np.linalg.norm(rest, axis=0)
    return np.column_stack([R[:p, p:].T, lengths])


def group_ns(n, p, k):
    """How long it takes to factor n rows of p columns and k targets."""
    return _CALL_NS + reduction_ns(n, p + k)


def group_of_targets(n, p):
    """How many targets of n rows are factored together with X of p columns: so many that each takes the least time."""
    _, element, product = REDUCE_NS
    best = math.sqrt(p * p + (element * p + _CALL_NS / n) / product)  # k where group_ns(n, p, k) / k is least
    return int(min(best, max(p, _TOGETHER)))


def factored_in_lanes(n, p):
    """Whether eight fits of n rows can be factored at once."""
    return p <= PARAMETERS_IN_LANES and n <= leaf_rows(p + 1)


def shares_factor(rows):
    """Whether fits that share their rows share the factor of X: not if a factor for each, in lanes, takes less time."""
    n, p = rows.one.n, rows.one.p
    if not rows.share_rows or len(rows.targets) == 1 or not factored_in_lanes(n, p):
        return rows.share_rows
    group = group_of_targets(n, p)
    return group_ns(n, p, group) < group * reduction_ns(n, p + 1, in_lanes=True)


def many_reductions_ns(rows, n_fits):
    """How long `ReducedProblems` takes for the rows of so many fits."""
    n, p, targets = rows.one.n, rows.one.p, len(rows.targets)
    if shares_factor(rows):
        group = min(group_of_targets(n, p), targets)
        return ceil_div(targets, group) * group_ns(n, p, group)
    in_lanes = n_fits // FITS_IN_LANES * FITS_IN_LANES if factored_in_lanes(n, p) else 0
    return in_lanes * reduction_ns(n, p + 1, in_lanes=True) + (n_fits - in_lanes) * reduction_ns(n, p + 1)


class ReducedProblems(ManyProblems):
    """The triangular factors of many problems' rows: for p parameters p + 1 rows each, of whose columns the intercept
    is one.

    If fits share the factor of X, it is computed at once; else `reduce` computes one for each fit. rows: the problems.
    n_fits: how many fits there are to them. together: how many of them descend at once.
    """

    method = "compress"

    def __init__(self, rows, n_fits, together):
        one = rows.one
        self.rows, self.feature_names, self.slice_multiple = rows, rows.feature_names, together
        self.shared = shares_factor(rows)
        count, q = 1 if self.shared else n_fits, one.p + 1
        lines, targets = np.zeros((count, q, one.p)), np.zeros((len(rows.targets) if self.shared else n_fits, q))
        weights = np.broadcast_to(rows.total_weights, count).copy()
        super().__init__(lines, False, targets, None, weights, False, one.d, True, one.lines.dtype)
        self._X = rows.lines.swapaxes(1, 2) if rows.by_columns else rows.lines
        self._roots = None if rows.weights is None else np.sqrt(rows.weights, dtype=np.float64)
        self.reduced = np.full(n_fits, self.shared)
        if self.shared:
            self._reduce_shared()
        else:
            self.reading_cost = round(many_reductions_ns(rows, n_fits) / n_fits / EPOCH_NS)

    def refuse_nonfinite(self):
        """Raises ValueError if X or y holds NaN or infinity."""
        self.rows.refuse_nonfinite()

    def _of(self, array, i):
        """What fit i has of an array (B, ...), (1, ...) for all, or None."""
        return None if array is None else array[i if len(array) > 1 else 0]

    def _factor(self, i, targets):
        """The factor of the rows of fit i with these targets (k, n), as `compress` computes it. Sets their weight."""
        reduction = Reduction(self.rows.one.fit_intercept, None)
        try:
            reduction.run([(self._of(self._X, i), targets.T, self._of(self.rows.weights, i))])
        except ValueError:
            self.refuse_nonfinite()  # which names the fit
            raise
        reduced = reduction.result()
        self.total_weights[i] = reduced.total_weight
        return reduced.R

    @np.errstate(all="ignore")
    def _reduce_shared(self):
        """Factors X with each group of targets; the part of X is the same in each, up to rounding."""
        p, targets, together = self.one.p, self.rows.targets, group_of_targets(self.rows.one.n, self.one.p)
        for first in range(0, len(targets), together):
            group = slice(first, first + together)
            R = self._factor(0, targets[group])
            self.lines[0, :p] = R[:p, :p]
            self.targets[group] = target_columns(R, p)

    @np.errstate(all="ignore")
    def reduce(self, first, last):
        """Factors the rows of fits `first` to `last`."""
        rows, p, intercept = self.rows, self.one.p, self.rows.one.fit_intercept
        if self.shared:
            return
        if rows.one.n > leaf_rows(p + 1):  # so that the bits are those of `compress`
            for i in range(first, last):
                self._set(i, self._factor(i, self._of(rows.targets, i)[np.newaxis]))
        else:
            arrays = self._X, intercept, rows.targets, self._roots
            outside = out_of_range(factor_many(*arrays, self.lines, self.targets, first, last))
            for i in first + np.flatnonzero(outside.any(axis=1) if outside.any() else ()):
                X, y, weights = (self._of(array, i) for array in (self._X, rows.targets, rows.weights))
                self._set(i, factor_rows(X, y, weights, intercept))
        self.reduced[first:last] = True

    def _set(self, i, R):
        self.lines[i], self.targets[i] = R[:, :-1], R[:, -1]

    def losses(self, parameters):
        """The mean squared error of each fit at its parameters (B, 2, p); of rows that an interrupt left as they are,
        too."""
        losses = losses_many(self, parameters)
        if not self.reduced.all():
            of_rows = losses_many(self.rows, parameters.astype(self.one.dtype))
            losses = np.where(self.reduced, losses, of_rows)
        return losses

    def _dependent(self):
        """Which fits have columns that depend on others, up to rounding."""
        independent = np.abs(np.diagonal(self.lines[:, : self.one.p], axis1=1, axis2=2))
        if independent.min() > INDEPENDENT * np.linalg.norm(self.lines):  # of all columns: faster than of each
            return ()
        full = (independent > INDEPENDENT * np.linalg.norm(self.lines, axis=1)).all(axis=1)
        return np.flatnonzero(~np.broadcast_to(full, len(self.reduced)))

    @np.errstate(all="ignore")
    def optimal_losses(self):
        """The least mean squared error of each fit, (B,), in the dtype of the results; NaN of rows not reduced."""
        p, weight, n_fits = self.one.p, self.total_weights, len(self.reduced)
        losses = np.broadcast_to(self.targets[:, p] ** 2 / weight, n_fits).copy()
        for i in self._dependent():
            R = join(np.column_stack([self._of(self.lines, i), self._of(self.targets, i)]))
            fit = Compressed(R, 1, float(self._of(weight, i)), p, (), False, self.one.dtype)
            losses[i] = fit.optimal_loss
        return np.where(self.reduced, losses, np.nan).astype(self.one.dtype)
