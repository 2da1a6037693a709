"""Cross-validation on reductions: every fold's rows are reduced once, and training sets are merged from them."""

import itertools
import warnings

import numpy as np

from ._reduction.compress import compress
from ._reduction.compressed import Compressed
from ._results.status import ConvergenceWarning, DivergenceError


class Folds:
    """The reductions of every split's training set and test set, and of all rows.

    splits: pairs of row-index arrays, (training set, test set).
    """

    def __init__(self, X, y, weights, splits, fit_intercept):
        def reduce(rows):
            if len(rows) and np.all(np.diff(rows) == 1):  # a slice is read in place, which saves a seventh of the time
                rows = slice(rows[0], rows[-1] + 1)
            w = None if weights is None else weights[rows]
            return compress(X[rows], y[rows], sample_weight=w, fit_intercept=fit_intercept)

        self.tests = [reduce(test) for _, test in splits]
        self.fold_weights = None if weights is None else [test.total_weight for test in self.tests]
        if not _is_partition(splits, len(X)):
            self.trainings, self.whole = [reduce(train) for train, _ in splits], reduce(np.arange(len(X)))
            return
        before = list(itertools.accumulate(self.tests, initial=0))
        after = list(itertools.accumulate(reversed(self.tests), initial=0))[-2::-1]
        around = [[part for part in parts if part != 0] for parts in zip(before[:-1], after, strict=True)]
        self.trainings, self.whole = [Compressed.merge(parts) for parts in around], before[-1]

    def validate(self, options, epochs):
        """The losses (folds, epochs) on the test sets, and the error of the last fold that diverged, or None."""
        curves, failure = np.full((len(self.tests), epochs), np.inf), None
        for training, test, curve in zip(self.trainings, self.tests, curves, strict=True):
            failure = validate(training, test, options, curve) or failure
        return curves, failure

    def mean(self, losses):
        """The mean over folds (first axis). With sample weights, a fold counts as much as the sum of its weights."""
        return np.average(losses, axis=0, weights=self.fold_weights)

    def curvature_range(self, weight_decay):
        """The largest eigenvalue of the Hessian of any training set or of all rows, and the smallest of all rows."""
        ranges = [part._curvature_range(weight_decay) for part in (self.whole, *self.trainings)]
        return max(largest for largest, _ in ranges), ranges[0][1]

    @np.errstate(all="ignore")
    def zero_and_least_squares_losses(self):
        """Two mean losses on the test sets: of all-zero coefficients, and of the training sets' least-squares ones."""
        both = [], []
        for training, test in zip(self.trainings, self.tests, strict=True):
            p = test.n_params
            solution = training.solve().reshape(p, -1)
            for losses, residual in zip(both, (test.R[:, p:], test.R[:, :p] @ solution - test.R[:, p:]), strict=True):
                losses.append((residual**2).sum() / test.total_weight / test.n_targets)
        return self.mean(both[0]), self.mean(both[1])


def _is_partition(splits, n):
    """Whether every row is in one test set, and once in the training set of every other split."""
    if len(splits) < 2 or np.any(np.bincount(np.concatenate([test for _, test in splits]), minlength=n) != 1):
        return False
    for train, test in splits:
        seen = np.zeros(n, bool)
        seen[train] = True
        if len(train) != n - len(test) or seen[test].any() or seen.sum() != len(train):
            return False
    return True


def validate(training, test, options, curve):
    """Writes the finite losses on `test` after every epoch into the curve. Returns the error if the fit diverged."""
    failure = None
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            result = training.fit(epochs=len(curve), record="loss", validation=test, **options)
        except DivergenceError as error:
            failure, result = error, error.result
    losses = result.history.val_loss
    losses = losses.mean(axis=tuple(range(1, losses.ndim)), dtype=float)  # over the targets, also of no epochs
    curve[: len(losses)] = np.where(np.isfinite(losses), losses, np.inf)
    return failure
