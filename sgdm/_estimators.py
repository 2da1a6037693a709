"""The base of the estimators of `sgdm.sklearn`, the folds of cross-validation, and all imports of scikit-learn."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ._descent.messages import warn
from ._descent.options import as_rates
from ._descent.problem import as_problem
from ._descent.scaling import Moments, column_terms
from ._fit_many import Descents
from ._kernel import ManyOptions, fits_together
from ._reduction.compress import compress
from ._reduction.compressed import Compressed
from ._reduction.many import FactoredProblems
from ._results.status import ConvergenceWarning, DivergenceError
from ._validation import as_flag, as_weights

try:
    from scipy.special import stdtrit  # type: ignore[import-untyped]
    from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin  # type: ignore[import-untyped]
    from sklearn.exceptions import ConvergenceWarning as SklearnConvergenceWarning  # type: ignore[import-untyped]  # noqa: F401
    from sklearn.model_selection import check_cv  # type: ignore[import-untyped]  # noqa: F401
    from sklearn.utils import check_random_state  # type: ignore[import-untyped]  # noqa: F401
    from sklearn.utils.validation import check_is_fitted, validate_data  # type: ignore[import-untyped]
except ImportError as error:
    raise ImportError("sgdm.sklearn needs scikit-learn 1.6 or later: pip install 'sgdm[sklearn]'") from error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._results.history import History

_DTYPES = [np.float64, np.float32]


class DescentRegressor(RegressorMixin, MultiOutputMixin, BaseEstimator):
    """The base of the estimators: checks of the data, fitted attributes, predictions."""

    def _check(self, X, y, sample_weight, reset=True):
        """The data as arrays of one dtype."""
        X, y = validate_data(self, X, y, reset=reset, dtype=_DTYPES, multi_output=True, y_numeric=True)
        if sample_weight is not None:
            sample_weight, _ = as_weights(sample_weight, len(X), X.dtype, positive=False)
            if not sample_weight.any():
                raise ValueError("sample_weight must not be zero for every row")
        return X, y.astype(X.dtype, copy=False), sample_weight

    def _shallow_copy(self):
        """A shallow copy. It is fitted, and then its attributes replace those of this estimator in one assignment:
        an exception at any time leaves all attributes of the last fit, or all of the new one."""
        copy = object.__new__(type(self))
        vars(copy).update(vars(self))
        return copy

    def _moments_of(self, X, y, weights):
        """The sum of weights, and the mean and deviation of each column."""
        return Moments.of(as_problem(X, y, weights, as_flag(self.fit_intercept, "fit_intercept")))

    def _warn_of_columns(self, X, moments):
        """Warns of columns that say nothing of their own, by name."""
        names = getattr(self, "feature_names_in_", range(X.shape[1]))
        constant, twins, seen = [], [], {}
        for j, key in enumerate(zip(moments.means.tolist(), moments.deviations.tolist(), strict=True)):
            if key[1] == 0:
                constant.append(f"{names[j]!r}")
            elif key in seen and np.array_equal(X[:, j], X[:, seen[key]]):
                twins.append(f"{names[j]!r} and {names[seen[key]]!r}")
            else:
                seen[key] = j
        if constant:
            warn(f"columns that are constant have coefficient 0: {_first(constant)}; leave them out", UserWarning)
        if twins:
            warn(f"columns that are equal share their coefficient: {_first(twins)}; leave one of each out", UserWarning)

    def _set_result(self, result):
        """Sets the fitted attributes."""
        if result.feature_names is None and hasattr(self, "feature_names_in_"):
            result = replace(result, feature_names=tuple(self.feature_names_in_.tolist()))
        averaged = result.average_coef is not None
        self.coef_ = (result.average_coef if averaged else result.coef).T
        self.intercept_ = result.average_intercept if averaged else result.intercept
        self.n_iter_ = result.epochs
        self.result_ = result

    @property
    def history_(self) -> History:
        """The `History` of the descent: its losses; gradients, steps and coefficients with ``record="all"``."""
        return self.result_.history

    @property
    def loss_curve_(self) -> np.ndarray | Any:
        """The loss of each recorded epoch, an array of shape (epochs,) or (epochs, k)."""
        return self.result_.history.loss

    @np.errstate(all="ignore")
    def predict(self, X: ArrayLike) -> np.ndarray:
        """Predict targets: ``X @ coef_.T + intercept_``.

        Parameters
        ----------
        X : array of shape (n, d)
            The rows to predict.

        Returns
        -------
        array of shape (n,) or (n, k)
            The predictions.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If X has other columns than the fit.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=_DTYPES)
        return X @ self.coef_.T + self.intercept_


def _first(names):
    """The first ten names, for a message."""
    return ", ".join(names[:10]) + ("" if len(names) <= 10 else f" and {len(names) - 10} more")


class Grid(ManyOptions):
    """The constants of all fits of a cross-validation: those of every setting, for each fold and target in turn.

    settings: options of `Compressed.fit`, which agree in nesterov and standardize. repeats: folds times targets.
    """

    record, record_every, n_threads = None, 1, 1

    def __init__(self, settings, epochs, repeats, features):
        rates = [as_rates(each["lr"], each["momentum"], each["dampening"], epochs, 0) for each in settings]
        rows = max(np.size(rate) // 3 for rate in rates)  # one for each epoch where they depend on it
        rates = np.stack([np.broadcast_to(rate, (rows, 3)) for rate in rates])
        penalties = np.array([(each["weight_decay"], each["l1"]) for each in settings])
        rates, penalties = np.tile(rates, (repeats, 1, 1)), np.tile(penalties, (repeats, 1))
        super().__init__(rates, penalties, epochs, settings[0]["nesterov"], -1.0)
        if scaling := settings[0]["standardize"]:
            self.columns = column_terms(scaling, penalties[:, :1], penalties[:, 1:], features)


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

    @np.errstate(all="ignore")
    def validate(self, settings, epochs):
        """The losses (settings, folds, epochs) on the test sets after every epoch of descents on the training sets, the
        mean over the targets; inf from an overflow on. All descents run side by side."""
        problems = FactoredProblems(self.trainings, FactoredProblems(self.tests))
        grid = Grid(settings, epochs, len(problems.targets), problems.one.features)
        fits, together = len(grid.rates), fits_together(problems.one, grid, False)
        # Wider fits are together only within a fold.
        problems.slice_multiple = together if together > 1 else fits // len(self.tests)
        try:
            descents = Descents(problems, grid, None)
        except MemoryError:
            raise MemoryError(
                f"the losses of {fits} descents of {epochs} epochs take {8 * fits * epochs / 2**30:.1f} GiB, more than "
                "there is; lower max_iter, or try fewer settings"
            ) from None
        descents.run()
        losses, last = descents.record.val_loss, descents.states.epochs[:, np.newaxis]
        overflowed = (np.arange(epochs) >= last) | ~(losses <= np.finfo(self.whole.dtype).max)
        losses[np.logical_or.accumulate(overflowed, axis=1)] = np.inf
        losses = losses.reshape(len(self.tests), -1, len(settings), epochs)  # of folds, targets, settings
        return losses.mean(axis=1).swapaxes(0, 1)

    def raise_divergence(self, options, epochs):
        """Raises the error of the first training set, or test set, that overflows with these options."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for training, test in zip(self.trainings, self.tests, strict=True):
                training.fit(epochs=epochs, record=None, validation=test, **options)  # which says where it was
        raise DivergenceError("the loss on a fold overflows at every epoch; scale the columns of X down")

    def mean(self, losses):
        """The mean over folds (first axis). With sample weights, a fold counts as much as the sum of its weights."""
        return np.average(losses, axis=0, weights=self.fold_weights)

    @np.errstate(all="ignore")
    def epochs(self, losses):
        """How many epochs to do, given the losses (folds, epochs).

        As many as the lowest mean loss has; or all, if the loss after these is not significantly above it, by a
        two-sided paired t-test over the folds at 5 %, and is at most twice as large or below that of the mean target.
        """
        mean, folds = self.mean(losses), len(losses)
        best, last = int(mean.argmin()), losses.shape[1]
        rise = losses[:, -1] - losses[:, best]
        limit = stdtrit(folds - 1, 0.975) * np.std(rise, ddof=1) / np.sqrt(folds) if folds > 1 else 0
        acceptable = mean[-1] <= max(2 * mean[best], self.loss_of_the_mean())
        return last if acceptable and np.mean(rise) <= limit < np.inf else best + 1

    @np.errstate(all="ignore")
    def loss_of_the_mean(self):
        """The mean loss on the test sets of the training sets' mean target; of zero without an intercept."""
        losses = []
        for training, test in zip(self.trainings, self.tests, strict=True):
            d, p = test.n_features, test.n_params
            mean = training.R[:, d:p].T @ training.R[:, p:] / training.total_weight
            losses.append(((test.R[:, d:p] @ mean - test.R[:, p:]) ** 2).sum() / test.total_weight / test.n_targets)
        return self.mean(losses)

    def curvature_range(self, weight_decay, scaling):
        """The largest eigenvalue of the Hessian of any training set or of all rows, and the smallest of all rows."""
        ranges = [part._curvature_range(weight_decay, scaling) for part in (self.whole, *self.trainings)]
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
