"""The descent as scikit-learn estimators: `SGDMRegressor`, and `SGDMRegressorCV`, which chooses the number of epochs by
cross-validation. They need scikit-learn: ``pip install 'sgdm[sklearn]'``.
"""

# More than 400 lines: half of them are docstrings, and each parameter is an attribute.

from __future__ import annotations

import itertools
import math
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ._descent.curvature import STABLE_MARGIN, batch_curvature, largest_curvature, stability_limit
from ._descent.messages import FAR_ABOVE, warn
from ._descent.options import as_auto_constants, as_rates, as_record, is_auto
from ._descent.problem import as_problem
from ._descent.tuning import auto_rates
from ._estimators import DescentRegressor, Folds, SklearnConvergenceWarning, check_cv, check_random_state
from ._fit import fit
from ._results.status import ConvergenceWarning, DivergenceError, Status, attach_result
from ._validation import as_count, as_flag, as_number, as_penalty, ndim_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from numpy.typing import ArrayLike

    _Rate: TypeAlias = float | ArrayLike | Callable[[int], float] | Literal["auto"]

__all__ = ["SGDMRegressor", "SGDMRegressorCV"]

_MOMENTUM = 0.8  # of momentum="auto" where lr is not chosen too
# Of tol="auto": with condition numbers of up to 10 000 it gives the optimum to 1e-8, in float32 to all digits.
_TOL = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}
_GRID = ("lr", "momentum", "weight_decay", "l1")


class SGDMRegressor(DescentRegressor):
    """Linear least squares by gradient descent with momentum: `sgdm.fit` as a scikit-learn estimator.

    Its objective is the mean squared error ``f(a) = sum_i w_i (x_i . a - y_i)**2 / sum_i w_i`` with gradient g(a), plus
    penalties. Epoch t does ::

        v_t = momentum * v_{t-1} + (1 - dampening) * (g(a_t) + weight_decay * a_t)
        a_{t+1} = a_t - lr * v_t

    The defaults suit columns as they come. They standardize, choose lr and momentum from the eigenvalues of the
    Hessian, and stop at the optimum.

    Parameters
    ----------
    lr : float, array of shape (max_iter,), function of the epoch, or "auto", default "auto"
        The learning rate. "auto" computes the best one for the curvature of the data and `max_iter`, by the formulas of
        `sgdm.fit`. With `early_stopping` or `batch_size` it is one with which the loss does not oscillate. With
        `warm_start`, later fits keep the constants of the fit before; lr is lowered if it is unstable there.
        `partial_fit` takes ``(1 - momentum) / max(1 - dampening, 1 - momentum) / L``, with L the largest curvature of
        its rows or batches, or the lr of the call before if that is smaller.
    momentum : float in [0, 1), array, function, or "auto", default "auto"
        The part of the last step that is kept. "auto" is the best together with ``lr="auto"``, and 0.8 with another lr.
    dampening : float in [0, 1], optional
        The new gradient is multiplied by ``1 - dampening``. By default dampening equals `momentum`; it is 0 if lr and
        momentum are both "auto".
    nesterov : bool, default False
        Whether to use Nesterov momentum, as in `sgdm.fit`.
    weight_decay : float or array of shape (d,), default 0.0
        Adds ``weight_decay / 2 * |a|**2`` to the objective, without the intercept. An array has one value for each
        column.
    l1 : float or array of shape (d,), default 0.0
        Adds ``l1 * |a|_1`` to the objective, without the intercept. An array has one value for each column. The
        objective is that of scikit-learn's ElasticNet, times 2, for ``l1 = 2 * alpha * l1_ratio`` and
        ``weight_decay = 2 * alpha * (1 - l1_ratio)``.
    max_iter : int, default 1000
        The largest number of epochs, which are passes over the rows.
    tol : float, None or "auto", default "auto"
        `fit` stops when the gradient norm of every target is at most `tol` times its first value. It warns if
        `max_iter` epochs are not enough for that. None does all epochs. "auto" is 1e-12, or 1e-5 for float32, which
        gives the optimum to 8 digits; with `batch_size` it is None. With `early_stopping`, `tol` is the relative fall
        of the validation loss that counts as an improvement. "auto" and None then count any fall.
    standardize : bool, default True
        Whether to descend in the coordinates of standardized columns. Objective, penalties and optimum are those of the
        columns as they are. lr and tol belong to the standardized descent. `partial_fit` takes the means and deviations
        of all rows since the last `fit`, and of the rows of that.
    fit_intercept : bool, default True
        Whether to fit an intercept.
    batch_size : int, optional
        The number of rows per update. By default an epoch has one update, from all rows.
    shuffle : bool, default True
        Whether each epoch takes the rows of its batches in a new random order.
    average : bool or int, default False
        Whether `coef_` and `intercept_` are means of the iterates. An int is the epoch at which the means begin.
    early_stopping : bool, default False
        Whether to hold out rows, stop when the loss on them no longer falls, and keep the coefficients of the best
        epoch.
    validation_fraction : float in (0, 1), default 0.1
        The fraction of the rows that `early_stopping` holds out, at random.
    n_iter_no_change : int, default 5
        The number of epochs without improvement after which `early_stopping` stops.
    random_state : int, RandomState or None, default None
        The source of the row orders and of the held-out rows. An int is the seed of `sgdm.fit`.
    warm_start : bool, default False
        Whether `fit` goes on where the fit before stopped, for up to `max_iter` more epochs, with its parameters,
        velocity, epoch and row order.
    record : {"loss", "all", "updates", None}, default "loss"
        What the history keeps, as in `sgdm.fit`.
    verbose : bool or int, default False
        Whether to show a bar of epochs, which needs tqdm.

    Attributes
    ----------
    coef_ : array of shape (d,) or (k, d)
        The coefficients.
    intercept_ : float or array of shape (k,)
        The intercept.
    n_iter_ : int
        The number of epochs done, those of earlier calls that this one went on from included.
    result_ : sgdm.FitResult
        All of the fit. Its lr, momentum and dampening are the constants that "auto" chose.
    n_features_in_ : int
        The number of columns of X, d.
    feature_names_in_ : array of shape (d,) of str
        The names of the columns of X, if it had any.

    See Also
    --------
    SGDMRegressorCV : Choose the number of epochs and the constants by cross-validation.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdm.sklearn import SGDMRegressor
    >>> X = np.random.default_rng(0).standard_normal((50, 2))
    >>> model = SGDMRegressor().fit(X, X @ [1, -1] + 3)
    >>> model.coef_.round(3), round(float(model.intercept_), 3)
    (array([ 1., -1.]), 3.0)
    >>> len(model.loss_curve_) == model.n_iter_ < 1000
    True
    """

    def __init__(
        self,
        *,
        lr: _Rate = "auto",
        momentum: _Rate = "auto",
        dampening: float | None = None,
        nesterov: bool = False,
        weight_decay: float | ArrayLike = 0.0,
        l1: float | ArrayLike = 0.0,
        max_iter: int = 1000,
        tol: float | Literal["auto"] | None = "auto",
        standardize: bool = True,
        fit_intercept: bool = True,
        batch_size: int | None = None,
        shuffle: bool = True,
        average: bool | int = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        record: Literal["loss", "all", "updates"] | None = "loss",
        verbose: bool | int = False,
    ):
        self.lr = lr
        self.momentum = momentum
        self.dampening = dampening
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.l1 = l1
        self.max_iter = max_iter
        self.tol = tol
        self.standardize = standardize
        self.fit_intercept = fit_intercept
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.average = average
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state
        self.warm_start = warm_start
        self.record = record
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> SGDMRegressor:
        """Fit the model to rows, for up to `max_iter` epochs.

        Parameters
        ----------
        X : array of shape (n, d)
            The rows.
        y : array of shape (n,) or (n, k)
            The targets.
        sample_weight : array of shape (n,), optional
            The weights of the rows, none of them negative. By default all are 1.

        Returns
        -------
        SGDMRegressor
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            If an argument or a parameter of the estimator has a wrong value, shape or type.
        DivergenceError
            If a loss or a parameter overflows.
        KeyboardInterrupt
            On Ctrl-C, with the epochs done until then as its ``result``. Whatever is raised, the estimator stays as it
            was before.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            If `tol` was not reached.
        sgdm.ConvergenceWarning
            If the objective is larger at the end than at the start, or far above its minimum where that is known.
        """
        stops_early = as_flag(self.early_stopping, "early_stopping")
        options: dict[str, Any] = {"epochs": as_count(self.max_iter, "max_iter"), "tol": self.tol}
        if stops_early:
            options["validation"] = as_number(self.validation_fraction, "validation_fraction", 1, below=True)
            options["patience"] = as_count(self.n_iter_no_change, "n_iter_no_change")
        init = getattr(self, "result_", None) if as_flag(self.warm_start, "warm_start") else None
        self._descend(X, y, sample_weight, init, options)
        tol = options["tol"]
        compared = is_auto(self.tol) and self.result_.optimal_loss is not None  # sgdm.fit compares, and warns itself
        if tol is not None and not stops_early and not compared and self.result_.status is Status.COMPLETED:
            warn(
                f"the gradient did not fall to tol={tol:g} times its first norm in max_iter={self.max_iter} "
                f"epochs; raise max_iter or tol{'' if self.standardize else ', or use standardize=True'}",
                SklearnConvergenceWarning,
            )
        return self

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> SGDMRegressor:
        """Do one more epoch, on these rows, from where the last call of `fit` or `partial_fit` stopped.

        `max_iter` and `tol` play no part.

        Parameters
        ----------
        X : array of shape (n, d)
            The rows.
        y : array of shape (n,) or (n, k)
            The targets.
        sample_weight : array of shape (n,), optional
            The weights of the rows, none of them negative. By default all are 1.

        Returns
        -------
        SGDMRegressor
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            If an argument or a parameter of the estimator has a wrong value, shape or type; so if `early_stopping` is
            set.
        DivergenceError
            If a loss or a parameter overflows.
        """
        if as_flag(self.early_stopping, "early_stopping"):
            raise ValueError("partial_fit and early_stopping don't go together: there is but one epoch to do")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # other rows, another loss: it may well have risen
            return self._descend(X, y, sample_weight, getattr(self, "result_", None), {"epochs": 1}, partial=True)

    def _descend(self, X, y, sample_weight, init, options, partial=False):
        """`sgdm.fit` with the estimator's parameters and these options."""
        twin = self._shallow_copy()
        X, y, weights = twin._check(X, y, sample_weight, reset=init is None)
        if is_auto(options.get("tol")):
            options["tol"] = None if "validation" in options or self.batch_size is not None else _TOL[X.dtype]
        random = "validation" in options or (self.batch_size is not None and self.shuffle)
        if random and (init is None or init.checkpoint.generator is None):
            whole = isinstance(self.random_state, (int, np.integer))
            options["seed"] = self.random_state if whole else check_random_state(self.random_state).randint(2**31 - 1)
        options |= self._scale(twin, X, y, weights, partial)
        same = ("nesterov", "weight_decay", "l1", "fit_intercept", "batch_size", "shuffle", "average", "record")
        options |= {name: getattr(self, name) for name in same}
        options |= self._rates(X, y, weights, init, partial, options["standardize"])
        twin._set_result(fit(X, y, sample_weight=weights, init=init, progress=bool(self.verbose), **options))
        self.__dict__ = vars(twin)
        return self

    def _scale(self, twin, X, y, weights, partial):
        """`standardize` for `sgdm.fit`. The twin keeps the moments of the rows, those of earlier ones among them."""
        twin._moments = None
        if not as_flag(self.standardize, "standardize"):
            return {"standardize": False}
        twin._moments, earlier = twin._moments_of(X, y, weights), getattr(self, "_moments", None)
        if not partial:
            twin._warn_of_columns(X, twin._moments)
        elif earlier is not None and earlier.means.any() <= self.fit_intercept:
            twin._moments = earlier.merged(twin._moments)
        return {"standardize": twin._moments.scaling()}

    def _rates(self, X, y, weights, init, partial, standardize):
        """lr, momentum and dampening. `sgdm.fit` accepts "auto" only in a new fit; else they are computed here."""
        lr, momentum, dampening = self.lr, self.momentum, self.dampening
        if not is_auto(lr):
            momentum = _MOMENTUM if is_auto(momentum) else momentum
        elif partial or init is not None:
            fit_intercept = as_flag(self.fit_intercept, "fit_intercept")
            problem = as_problem(X, y, weights, fit_intercept)
            problem.scaling = standardize or None
            curvature = self._curvature(problem)
            if partial:
                momentum = _MOMENTUM if is_auto(momentum) else as_number(momentum, "momentum", 1, below=True)
                gradient_weight = 1 - (momentum if dampening is None else as_number(dampening, "dampening", 1))
                lr = (1 - momentum) / max(gradient_weight, 1 - momentum) / (curvature or 1.0)
                lr = lr if init is None else min(lr, init.lr)  # the velocity may come from rows of larger curvature
            else:
                momentum, dampening = init.momentum, init.dampening
                limit = stability_limit(curvature, momentum, 1 - dampening, self.nesterov) if curvature else math.inf
                lr = init.lr if init.lr < limit else STABLE_MARGIN * limit
        return {"lr": lr, "momentum": momentum, "dampening": dampening}

    def _curvature(self, problem):
        """The largest curvature of the rows, or of batches of them; None or inf where it overflows."""
        decay = as_penalty(self.weight_decay, "weight_decay", problem.d)
        if self.batch_size is None:
            return largest_curvature(problem, decay)
        return batch_curvature(problem, decay, as_count(self.batch_size, "batch_size"))


class SGDMRegressorCV(DescentRegressor):
    """Least squares by gradient descent with momentum, whose constants and epochs are chosen by cross-validation.

    The rows of every fold are reduced once (see `sgdm.compress`). The training set of a fold is the sum of the other
    folds' reductions. A descent on it records the loss on the fold after every epoch. So cross-validation costs little
    more than one pass over the rows. Losses are those of descents on the rows, up to rounding.

    At the end all rows are fitted with the constants whose mean loss over the folds falls lowest, for
    ``best_n_iter_`` epochs.

    Parameters
    ----------
    lr : float, function of the epoch, "auto", or sequence of these, default "auto"
        The learning rates to try. "auto" computes one lr for every fold and for the final fit, as the best for
        `max_iter` and the largest curvature of all training sets and of all rows.
    momentum : float in [0, 1), function of the epoch, "auto", or sequence of these, default "auto"
        The momenta to try. "auto" is the best together with ``lr="auto"``, and 0.8 with another lr.
    dampening, nesterov : as for `SGDMRegressor`
        The form of the momentum.
    weight_decay, l1 : float, or sequence of float, default 0.0
        The penalties to try.
    max_iter : int, default 1000
        The largest number of epochs to try.
    standardize : bool, default True
        Whether to descend in the coordinates of columns standardized by the means and deviations of all rows.
    fit_intercept : bool, default True
        Whether to fit an intercept.
    cv : int, splitter, iterable of (train, test), or None, default None
        The folds, as elsewhere in scikit-learn. None is 5 folds of consecutive rows. With ShuffleSplit,
        TimeSeriesSplit and other splits whose test sets don't divide the rows among them, every set is reduced by
        itself. That costs a pass over the rows for each split.
    record : as for `SGDMRegressor`
        What the history of the final fit keeps.

    Attributes
    ----------
    best_n_iter_ : int
        The number of epochs with the lowest mean loss. It is `max_iter` if the loss there is not significantly above
        the lowest (by a paired t-test over the folds, at 5 %), and at most twice as large or below that of the mean
        target.
    best_params_ : dict
        The lr, momentum, weight_decay and l1 with the lowest mean loss, as given.
    val_loss_curves_ : array of shape (folds, max_iter)
        The mean squared error on each fold after every epoch, with the best constants. For several targets it is their
        mean. inf from an overflow on.
    mean_val_loss_curve_ : array of shape (max_iter,)
        The mean of these over the folds. With sample_weight, a fold counts as much as the sum of its weights.
    cv_results_ : dict
        One entry for each combination of constants: ``params``, ``n_iter`` (the number of epochs with the lowest mean
        loss), ``mean_val_loss`` and ``std_val_loss`` over the folds at that epoch, and ``val_loss_curves``.
    n_splits_ : int
        The number of folds.
    coef_, intercept_, n_iter_, result_, n_features_in_, feature_names_in_ : as for `SGDMRegressor`
        Those of the fit to all rows.

    See Also
    --------
    SGDMRegressor : Fit with given constants.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdm.sklearn import SGDMRegressorCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 40))
    >>> y = X[:, 0] + rng.standard_normal(60)
    >>> model = SGDMRegressorCV(lr=[0.001, 0.01], momentum=0.9, max_iter=500).fit(X, y)
    >>> model.val_loss_curves_.shape, model.best_n_iter_ == model.n_iter_ <= 500
    ((5, 500), True)
    """

    def __init__(
        self,
        *,
        lr: _Rate | Sequence[_Rate] = "auto",
        momentum: _Rate | Sequence[_Rate] = "auto",
        dampening: float | None = None,
        nesterov: bool = False,
        weight_decay: float | Sequence[float] = 0.0,
        l1: float | Sequence[float] = 0.0,
        max_iter: int = 1000,
        standardize: bool = True,
        fit_intercept: bool = True,
        cv: Any = None,
        record: Literal["loss", "all", "updates"] | None = "loss",
    ):
        self.lr = lr
        self.momentum = momentum
        self.dampening = dampening
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.l1 = l1
        self.max_iter = max_iter
        self.standardize = standardize
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.record = record

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> SGDMRegressorCV:
        """Choose constants and epochs by cross-validation, then fit all rows.

        Parameters
        ----------
        X : array of shape (n, d)
            The rows.
        y : array of shape (n,) or (n, k)
            The targets.
        sample_weight : array of shape (n,), optional
            The weights of the rows, none of them negative. By default all are 1.
        groups : array of shape (n,), optional
            The groups of the rows, for splitters that need them.

        Returns
        -------
        SGDMRegressorCV
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            If an argument or a parameter of the estimator has a wrong value, shape or type.
        DivergenceError
            If in every setting the loss on a fold overflows at every epoch.
        MemoryError
            If there is no memory for the losses of all settings, folds and epochs.
        KeyboardInterrupt
            On Ctrl-C, with None as its ``result``. Whatever is raised, the estimator stays as it was before.

        Warns
        -----
        sgdm.ConvergenceWarning
            If the final objective is larger at the end than at the start; or if the lowest mean loss on the folds is
            far above that of the least-squares solutions: more than a hundredth of their distance from the start.
        """
        twin = self._shallow_copy()
        try:
            twin._choose(X, y, sample_weight, groups)
        except DivergenceError:
            raise
        except BaseException as stop:
            attach_result(stop, None)  # not that of a fold
            raise
        self.__dict__ = vars(twin)
        return self

    def _choose(self, X, y, sample_weight, groups):
        """Sets the attributes of a fitted estimator."""
        X, y, weights = self._check(X, y, sample_weight)
        max_iter, record, rows = as_count(self.max_iter, "max_iter"), as_record(self.record), np.arange(len(X))
        grid = [dict(zip(_GRID, values, strict=True)) for values in itertools.product(*map(self._values, _GRID))]
        settings = [self._options(params, max_iter) for params in grid]  # checked before the folds are reduced
        splits = [(rows[train], rows[test]) for train, test in check_cv(self.cv, y).split(X, y, groups)]
        folds = Folds(X, y, weights, splits, self.fit_intercept)
        scaling = None
        if as_flag(self.standardize, "standardize"):
            moments = self._moments_of(X, y, weights)
            self._warn_of_columns(X, moments)
            scaling = moments.scaling()
        options = [self._with_rates(setting, folds, scaling, max_iter) for setting in settings]
        curves = folds.validate(options, max_iter)
        means = [folds.mean(curve) for curve in curves]
        ends = [int(mean.argmin()) for mean in means]
        lowest = np.array([mean[end] for mean, end in zip(means, ends, strict=True)])
        best = int(lowest.argmin())
        if lowest[best] == np.inf:
            folds.raise_divergence(options[-1], max_iter)
        at_best = [curve[:, end] for curve, end in zip(curves, ends, strict=True)]
        self.n_splits_ = len(splits)
        self.cv_results_ = {
            "params": grid,
            "n_iter": np.array(ends) + 1,
            "mean_val_loss": lowest,
            "std_val_loss": np.array([np.std(losses) if np.isfinite(losses).all() else np.nan for losses in at_best]),
            "val_loss_curves": list(curves),
        }
        self.best_params_, self.best_n_iter_ = grid[best], folds.epochs(curves[best])
        self.val_loss_curves_, self.mean_val_loss_curve_ = curves[best], means[best]
        with warnings.catch_warnings():  # a descent that is stopped early may well end far above the least loss
            warnings.filterwarnings("ignore", ".*far above the least there is", ConvergenceWarning)
            result = folds.whole.fit(epochs=self.best_n_iter_, record=record, **options[best])
        self._set_result(result)
        if options[best]["weight_decay"] or options[best]["l1"]:
            return
        start, solved = folds.zero_and_least_squares_losses()
        if lowest[best] - solved > FAR_ABOVE * max(start - solved, 0):
            warn(
                f"the mean loss on the folds went from {start:g} to {lowest[best]:g} at best, but the least-squares "
                f"solutions have {solved:g}; raise max_iter{'' if self.standardize else ', or use standardize=True'}"
            )

    def _values(self, name):
        """The values of a parameter to try."""
        given = getattr(self, name)
        several = isinstance(given, (list, tuple)) or (isinstance(given, np.ndarray) and given.ndim > 0)
        values = list(given) if several else [given]
        if not values or any(ndim_of(value, name) for value in values):
            raise ValueError(f"{name} must be a value or a sequence of at least one value, got {given!r:.80}")
        return values

    def _options(self, params, max_iter):
        """The options of `Compressed.fit` for a setting, checked; without lr if it is "auto", see `_with_rates`."""
        lr, momentum, nesterov = params["lr"], params["momentum"], as_flag(self.nesterov, "nesterov")
        penalties = {name: as_number(params[name], name) for name in ("weight_decay", "l1")}
        options = {**penalties, "nesterov": nesterov}
        if is_auto(lr):
            momentum, dampening = as_auto_constants(momentum, self.dampening)
            return options | {"momentum": momentum, "dampening": dampening}
        momentum = _MOMENTUM if is_auto(momentum) else momentum
        as_rates(lr, momentum, self.dampening, max_iter, 0)  # to check them; lr may be a function of the epoch
        return options | {"lr": lr, "momentum": momentum, "dampening": self.dampening}

    def _with_rates(self, options, folds, scaling, max_iter):
        """The options with the scaling, or None, and with the constants for lr="auto"."""
        options = options | {"standardize": scaling or False}
        if "lr" in options:
            return options
        curvatures = folds.curvature_range(options["weight_decay"], scaling)
        constants = auto_rates(*curvatures, max_iter, options["momentum"], options["dampening"], options["nesterov"])
        return options | dict(zip(("lr", "momentum", "dampening"), constants, strict=True))
