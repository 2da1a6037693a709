"""A least-squares problem as its triangular factor, and what follows from it. Half of the file is docstrings."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._descent.curvature import stability_limit
from .._descent.forecast import Modes, as_epochs
from .._descent.problem import Problem
from .._descent.scaling import Scaling, as_standardize, scaling_for
from .._descent.state import as_start
from .._descent.tuning import Tuned, best_constants
from .._files import read_npz, write_npz
from .._results.history import History
from .._results.result import predictions
from .._validation import as_count, as_flag, as_number, as_penalty
from .checks import check_reduction
from .factor import at_cache_lines, column_norms, join

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import ArrayLike

    from .._results.result import FitResult

INDEPENDENT = 1e-8  # a column at least this fraction of its norm away from the earlier ones' span is independent
_RANK_EPS = 4  # a duplicate of a column leaves a singular value of up to 4 eps (measured, up to 1 000 000 rows)


class Compressed:
    """A least-squares problem reduced to a small matrix that gives the losses and gradients of all its rows.

    `compress` makes it, and so do `Compressed.merge`, ``+`` and `Compressed.load`. For columns [X, 1, y] it holds the
    triangular factor R of ``sqrt(W) [X, 1, y] = Q R``: the loss of parameters a is ``|R (a, -1)|**2 / sum(w)``.
    Reductions of the same columns add up, in any order, to that of all their rows, up to rounding.

    Attributes
    ----------
    R : array of shape (q, q)
        The upper triangular factor, float64, with no negative number on its diagonal. q is d + k, or d + 1 + k with an
        intercept. The columns are those of X, the intercept, and those of y.
    n_rows : int
        The number of rows that were read.
    total_weight : float
        The sum of their weights.
    n_features : int
        The number of columns of X, d.
    target_shape : tuple
        (k,) for y of shape (n, k), () for y of shape (n,).
    fit_intercept : bool
        Whether there is an intercept.
    dtype : numpy.dtype
        The type of the data, float64 or float32.
    feature_names : tuple of str, or None
        The names of the columns of X, if it was a table.

    See Also
    --------
    compress : Make one, with an example.
    """

    _fit: ClassVar[Callable[..., FitResult]]  # `sgdm.fit`: its module imports this one, and sets it

    def __init__(self, R, n_rows, total_weight, n_features, target_shape, fit_intercept, dtype, feature_names=None):
        self.R, self.n_rows, self.total_weight, self.n_features = R, n_rows, total_weight, n_features
        self.target_shape, self.fit_intercept = target_shape, fit_intercept
        self.dtype, self.feature_names = dtype, feature_names

    def __setstate__(self, state):
        """Sets what was pickled, if its parts go together."""
        state.pop("optimal_loss", None)  # which follows from the rest
        vars(self).update(state)
        check_reduction(self, some_rows=True)

    def _kind(self):
        """What must be equal for two reductions to be merged."""
        return self.n_features, self.target_shape, self.fit_intercept, self.dtype.name, self.feature_names

    def __eq__(self, other):
        if not isinstance(other, Compressed):
            return NotImplemented
        own, others = ((part.n_rows, part.total_weight, part._kind()) for part in (self, other))
        return own == others and np.array_equal(self.R, other.R)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        targets = f", {self.target_shape[0]} targets" if self.target_shape else ""
        intercept = ", intercept" if self.fit_intercept else ""
        return f"Compressed({self.n_rows} rows, {self.n_features} features{targets}{intercept}, {self.dtype.name})"

    # Merging

    @staticmethod
    def merge(parts: Iterable[Compressed]) -> Compressed:
        """Merge reductions of pieces of the data into that of all rows.

        Pairs of neighbours are merged, then pairs of these, and so on. So the bits depend on the order of the parts.

        Parameters
        ----------
        parts : iterable of Compressed
            Reductions of the same columns.

        Returns
        -------
        Compressed
            The reduction of all rows. ``a + b`` and ``sum(parts)`` are the same up to rounding.

        Raises
        ------
        ValueError, TypeError
            If there are no parts, or if they differ in features, targets, intercept or dtype.

        Examples
        --------
        >>> import numpy as np, sgdm
        >>> x = np.linspace(-1, 1, 100)
        >>> parts = [sgdm.compress(x[rows].reshape(-1, 1), 3 * x[rows]) for rows in (slice(50), slice(50, 100))]
        >>> sgdm.Compressed.merge(parts)
        Compressed(100 rows, 1 features, float64)
        """
        if not hasattr(parts, "__iter__"):
            raise TypeError(f"parts must be an iterable of Compressed, got {parts!r:.80}")
        parts = list(parts)
        if not parts:
            raise ValueError("parts must hold at least one Compressed, got none")
        for part in parts:
            if not isinstance(part, Compressed):
                raise TypeError(f"parts must hold Compressed alone, got {part!r:.80}")
            check_reduction(part, some_rows=True)
        while len(parts) > 1:
            pairs = [a._joined(b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
            parts = pairs + parts[len(pairs) * 2 :]
        return parts[0]

    def __add__(self, other: Compressed) -> Compressed:
        if not isinstance(other, Compressed):
            return NotImplemented
        for part in (self, other):
            check_reduction(part, some_rows=True)
        return self._joined(other)

    def _joined(self, other):
        """``self + other`` of checked parts."""
        if self._kind() != other._kind():
            raise ValueError(
                f"both parts must have the same features, targets, intercept and dtype, got {self!r} and {other!r}"
                f"{_differing_names(self, other)}"
            )
        return Compressed(
            join(self.R, other.R),
            self.n_rows + other.n_rows,
            self.total_weight + other.total_weight,
            *(self.n_features, self.target_shape, self.fit_intercept, self.dtype, self.feature_names),
        )

    def __radd__(self, other):  # for sum(parts), which starts from 0
        return self if isinstance(other, int) and other == 0 else NotImplemented

    # Files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the reduction to a file, which `Compressed.load` reads.

        The file appears whole or not at all: it is written beside ``path`` and then renamed.

        Parameters
        ----------
        path : path
            The file to write, an .npz file without pickle.

        Raises
        ------
        ValueError
            If the parts of the reduction don't belong together.
        """
        check_reduction(self, some_rows=True)
        write_npz(path, "reduction", *self._flatten())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Compressed:
        """Read a reduction that `save` wrote.

        Parameters
        ----------
        path : path
            The file to read.

        Returns
        -------
        Compressed
            The reduction, equal to the one saved.

        Raises
        ------
        ValueError
            If the file is damaged or something else, or if the parts in it don't belong together.
        OSError
            If the file can't be read.
        """

        def build(arrays, metadata):
            part = Compressed._unflatten(arrays.pop("R"), metadata)
            check_reduction(part)
            if arrays:
                raise ValueError(f"it has {', '.join(arrays)} too")
            return part

        return read_npz(path, "reduction", build)

    def _flatten(self):
        names = None if self.feature_names is None else list(self.feature_names)
        metadata = {
            "n_rows": self.n_rows,
            "total_weight": self.total_weight,
            "n_features": self.n_features,
            "target_shape": list(self.target_shape),
            "fit_intercept": self.fit_intercept,
            "dtype": self.dtype.name,
            "feature_names": names,
        }
        return {"R": self.R}, metadata

    @staticmethod
    def _unflatten(R, metadata):
        lists = {name: tuple(value) for name, value in metadata.items() if isinstance(value, list)}
        part = Compressed(R, **{**metadata, **lists, "dtype": np.dtype(metadata["dtype"])})
        check_reduction(part, some_rows=True)
        return part

    # The problem it stands for

    @property
    def n_params(self) -> int:
        """The number of parameters, p: the features, and the intercept if there is one."""
        return self.n_features + self.fit_intercept

    @property
    def n_targets(self) -> int:
        """The number of targets, k."""
        return self.target_shape[0] if self.target_shape else 1

    def _problem(self):
        """The problem of R's rows. The intercept is one of its columns, without penalties."""
        check_reduction(self)
        p = self.n_params
        rows, targets = at_cache_lines(self.R[:, :p]), np.ascontiguousarray(self.R[:, p:].T)
        problem = Problem(rows, False, targets, None, self.total_weight, False, self.n_features, True, self.dtype)
        problem.target_shape, problem.feature_names = self.target_shape, self.feature_names
        problem.method, problem.reduction, problem.scaling = "compress", self, None
        return problem

    def fit(self, **options: Any) -> FitResult:
        """Fit a model on the reduction: `sgdm.fit`, in a time that doesn't depend on the number of rows.

        An epoch costs ``p**2`` operations. Losses, gradients, steps and coefficients are those of a fit to the rows, up
        to rounding.

        Parameters
        ----------
        **options
            The options of `sgdm.fit`, without those that describe rows or need them: no `sample_weight`,
            `fit_intercept` or `batch_size`. `validation` is another `Compressed`.

        Returns
        -------
        FitResult
            Coefficients, status and history.

        Raises
        ------
        ValueError, TypeError, DivergenceError
            As `sgdm.fit` does.

        Examples
        --------
        >>> import numpy as np, sgdm
        >>> x = np.linspace(-1, 1, 100)
        >>> reduced = sgdm.compress(x.reshape(-1, 1), 3 * x + 2, fit_intercept=True)
        >>> reduced.fit(lr="auto", momentum="auto", epochs=30)  # doctest: +ELLIPSIS
        FitResult: completed after 30 epochs
          loss ...
          coef [3.]
          intercept 2.0
          history 30 rows
        """
        return self._fit(**options)

    @np.errstate(all="ignore")
    def solve(self) -> np.ndarray:
        """Compute the parameters that minimise the loss, for comparison with those of a descent.

        Returns
        -------
        array of shape (p,) or (p, k)
            The features' coefficients, then the intercept. If several parameters minimise the loss, it has the least
            norm of them.

        Raises
        ------
        ValueError
            If the parameters overflow.

        Examples
        --------
        >>> import numpy as np, sgdm
        >>> x = np.linspace(-1, 1, 100)
        >>> sgdm.compress(x.reshape(-1, 1), 3 * x + 2, fit_intercept=True).solve().round(6)
        array([3., 2.])
        """
        p = self.n_params
        A, B = self.R[:p, :p], self.R[:p, p:]
        scale, V, coordinates = self._row_space()
        if V.shape[1] == p:
            solution = np.linalg.solve(A, B)
        else:  # find the shortest a with V' (scale * a) = coordinates; QR by order of scale keeps small rows' digits
            order = np.argsort(scale)[::-1]
            Q, T = np.linalg.qr(V[order] * (scale[order] / scale.max())[:, None])
            solution = np.empty((p, B.shape[1]))
            solution[order] = Q @ np.linalg.solve(T.T, coordinates) / scale.max()
        if not np.isfinite(solution).all():
            raise ValueError("the parameters for these X and y overflow; scale the columns of X up, or y down")
        return solution.reshape(p, *self.target_shape)

    @np.errstate(all="ignore")
    def predict(self, X) -> np.ndarray:
        """Predict targets by the parameters that minimise the loss, those of `solve`.

        Parameters
        ----------
        X : array of shape (n, d)
            The rows to predict. If the reduction and X are both of tables, the columns are taken by name, and other
            columns of X are ignored. The prediction for a row with NaN is NaN.

        Returns
        -------
        array of shape (n,) or (n, k)
            The predictions.

        Raises
        ------
        ValueError
            If X is not 2-D, has another number of columns than the reduction, or is a table without one of its
            columns; or as for `solve`.

        Examples
        --------
        >>> import numpy as np, sgdm
        >>> x = np.linspace(-1, 1, 100)
        >>> sgdm.compress(x.reshape(-1, 1), 3 * x + 2, fit_intercept=True).predict([[0.0], [10.0]]).round(6)
        array([ 2., 32.])
        """
        coef, intercept = np.split(self.solve(), [self.n_features])
        return predictions(X, self.feature_names, coef, intercept.sum(axis=0))  # 0 without one

    def _row_space(self):
        """The row space of the columns scaled to norm 1. Only with that scale can the rank be decided.

        Returns their norms (p,), an orthonormal basis V (p, rank) of the row space, and the coordinates (rank, k) in
        that basis of the coefficients that minimise the loss.
        """
        p = self.n_params
        A, B = self.R[:p, :p], self.R[:p, p:]
        scale = column_norms(A)
        U, singular, Vt = np.linalg.svd(A / scale)
        # p + 8 is a margin that grows with the columns, as rounding errors do.
        rank = np.count_nonzero(singular > singular[0] * _RANK_EPS * (p + 8) * np.finfo(float).eps)
        return scale, Vt[:rank].T, (U[:, :rank].T @ B) / singular[:rank, None]

    @functools.cached_property
    @np.errstate(all="ignore")
    def optimal_loss(self) -> Any:
        """The least possible mean squared error, float or array of shape (k,)."""
        p = self.n_params
        A, residual = self.R[:p, :p], self.R[p:, p:]
        if not (np.diagonal(A) > INDEPENDENT * column_norms(A)).all():  # maybe not of full rank
            scale, V, coordinates = self._row_space()
            if V.shape[1] < p:
                residual = np.vstack([A / scale @ (V @ coordinates) - self.R[:p, p:], residual])
        loss = (residual**2).sum(0) / self.total_weight
        return loss if self.target_shape else float(loss[0])

    def _least_objective(self, weight_decay):
        """The least of the mean squared error plus weight decay's penalty, (k,)."""
        return self._modes(None, weight_decay).least if np.any(weight_decay) else np.atleast_1d(self.optimal_loss)

    @np.errstate(all="ignore")
    def _scaling(self):
        """The scaling of the columns of X. With R's columns r, the centred ones are ``r_j - m_j r_1``."""
        d, p, R, root = self.n_features, self.n_params, self.R, np.sqrt(self.total_weight)
        means, centred = np.zeros(d), R[:, :d]
        if self.fit_intercept:
            means = (R[:, d] / root) @ (R[:, :d] / root)
            centred = R[:, :d] - np.outer(R[:, d], means)
        return Scaling.of(means, column_norms(centred) * centred.any(axis=0) / root, p)

    def _in_coordinates(self, rows, weight_decay, scaling):
        """So many rows of R, without y, and the weight decay of each parameter (p,), in the coordinates of a descent.
        scaling: that of a standardized one, or None."""
        A, decay = self.R[:rows, : self.n_params], np.zeros(self.n_params)
        decay[: self.n_features] = weight_decay if scaling is None else scaling.decay(weight_decay)
        return A if scaling is None else scaling.rows(A), decay

    def spectrum(self, *, standardize: bool | tuple[ArrayLike, ArrayLike] = False) -> np.ndarray:
        """Compute the eigenvalues of the Hessian, which say how fast a descent can be.

        Parameters
        ----------
        standardize : bool or (means, deviations), default False
            True gives the eigenvalues in the coordinates of a standardized descent, as in `sgdm.fit`.

        Returns
        -------
        array of shape (p,)
            The eigenvalues of ``H = 2 X'WX / sum(w)``, where X has a column of ones for the intercept. The largest
            stands first. Those that overflow are inf.

        Examples
        --------
        >>> import numpy as np, sgdm
        >>> X = np.diag([1.0, 2.0, 3.0])
        >>> sgdm.compress(X, [1.0, 1.0, 1.0]).spectrum().round(3)
        array([6.   , 2.667, 0.667])
        """
        return self._spectrum(0.0, self._scaling_for(standardize))

    def _scaling_for(self, standardize):
        """The scaling for a `standardize` as given, or None."""
        standardize = as_standardize(standardize)
        return None if standardize is False else scaling_for(self._problem(), standardize)

    @np.errstate(all="ignore")
    def _spectrum(self, weight_decay, scaling):
        """The eigenvalues of the Hessian with weight decay on the features, the largest first."""
        A, decay = self._in_coordinates(self.n_params, weight_decay, scaling)
        if decay.any():
            penalty = np.sqrt(decay / 2) * np.sqrt(self.total_weight)
            A = np.vstack([A, np.diag(penalty)[: self.n_features]])
        # Singular values of the rows, not eigenvalues of their squares, keep the digits of small curvatures.
        return 2 * (np.linalg.svd(A, compute_uv=False) / np.sqrt(self.total_weight)) ** 2

    def _curvature_range(self, weight_decay, scaling=None):
        """The largest eigenvalue of the objective's Hessian, and the smallest that is not 0 but for rounding: along the
        others there is no gradient."""
        values = self._spectrum(weight_decay, scaling)
        far = 1.0  # how far the columns are from centred: what remains of equal ones is so many roundings
        if scaling is not None and scaling.constant is not None:
            far += float(np.max(np.where(scaling.constant, 0, np.abs(scaling.means) / scaling.deviations)))
        rounding = (_RANK_EPS * (self.n_params + 8) * np.finfo(float).eps * far) ** 2 * values[0]
        return values[0], min((value for value in values.tolist() if value > rounding), default=0.0)

    @property
    @np.errstate(all="ignore")
    def condition(self) -> float:
        """The condition number of the Hessian: its largest eigenvalue by its smallest; inf if it is singular."""
        p = self.n_params
        values = np.linalg.svd(self.R[:p, :p], compute_uv=False)  # whose squares may overflow, or become 0
        return float((values[0] / values[-1]) ** 2) if values[-1] > 0 else float("inf")

    def max_lr(
        self,
        momentum: float = 0.8,
        dampening: float | None = None,
        nesterov: bool = False,
        weight_decay: float | ArrayLike = 0.0,
        *,
        standardize: bool | tuple[ArrayLike, ArrayLike] = False,
    ) -> float:
        """Compute the largest stable learning rate of a descent on all rows.

        The descent converges for every smaller lr, and for no larger one.

        Parameters
        ----------
        momentum : float in [0, 1), default 0.8
            The momentum of the descent.
        dampening : float in [0, 1], optional
            Its dampening. By default it equals `momentum`.
        nesterov : bool, default False
            Whether it uses Nesterov momentum.
        weight_decay : float or array of shape (d,), default 0.0
            Its weight decay.
        standardize : bool or (means, deviations), default False
            Whether it is standardized, as in `sgdm.fit`.

        Returns
        -------
        float
            ``2 (1 + momentum) / ((1 - dampening) L)``, with L the largest eigenvalue of the objective's Hessian. With
            Nesterov momentum, this divided by ``1 + 2 momentum``. inf if nothing is unstable.

        Raises
        ------
        ValueError, TypeError
            If an argument has a wrong value, shape or type.

        Notes
        -----
        ``DivergenceError.max_lr`` is 0.95 times this limit, so that a fit with it converges.

        Examples
        --------
        >>> import numpy as np, sgdm
        >>> reduced = sgdm.compress(np.eye(2), [1.0, 2.0])
        >>> [round(reduced.max_lr(momentum), 6) for momentum in (0, 0.5, 0.9)]
        [2.0, 6.0, 38.0]
        """
        momentum = as_number(momentum, "momentum", 1, below=True)
        dampening = momentum if dampening is None else as_number(dampening, "dampening", 1)
        weight_decay = as_penalty(weight_decay, "weight_decay", self.n_features)
        top = self._spectrum(weight_decay, self._scaling_for(standardize))[0]
        return float(stability_limit(top, momentum, 1 - dampening, as_flag(nesterov, "nesterov")))

    def _modes(self, coef0, weight_decay, scaling=None):
        start = as_start(coef0, self._problem())[0]
        A, decay = self._in_coordinates(len(self.R), weight_decay, scaling)
        start = start if scaling is None else scaling.to_coordinates(start)
        return Modes(A, self.R[:, self.n_params :], self.total_weight, decay, start)

    @np.errstate(all="ignore")
    def forecast(
        self,
        lr: float,
        momentum: float = 0.8,
        *,
        epochs: int | ArrayLike,
        dampening: float | None = None,
        nesterov: bool = False,
        weight_decay: float | ArrayLike = 0.0,
        coef0: ArrayLike | None = None,
        standardize: bool | tuple[ArrayLike, ArrayLike] = False,
    ) -> Any:
        """Compute the loss after so many epochs, without running them.

        It is ``history.loss[epochs]`` of a longer full-batch fit with the same constants, up to rounding.

        Parameters
        ----------
        lr : float
            The learning rate.
        momentum : float in [0, 1), default 0.8
            The momentum.
        epochs : int or array of shape (n,)
            The number of epochs, or several numbers for a learning curve. 0 is the start.
        dampening : float in [0, 1], optional
            The dampening. By default it equals `momentum`.
        nesterov : bool, default False
            Whether to use Nesterov momentum.
        weight_decay : float or array of shape (d,), default 0.0
            The weight decay. The loss is without the penalty.
        coef0 : array of shape (p,) or (p, k), optional
            The parameters to start from. By default all are 0.
        standardize : bool or (means, deviations), default False
            Whether the descent is standardized, as in `sgdm.fit`.

        Returns
        -------
        float, or array of shape (k,), (n,) or (n, k)
            The mean squared error, for each of n numbers of epochs and k targets. inf if it overflows by then.

        Raises
        ------
        ValueError, TypeError
            If an argument has a wrong value, shape or type.

        Examples
        --------
        >>> import numpy as np, sgdm
        >>> x = np.linspace(-1, 1, 100)
        >>> reduced = sgdm.compress(x.reshape(-1, 1), 3 * x + 2, fit_intercept=True)
        >>> history = reduced.fit(epochs=50).history
        >>> bool(np.isclose(reduced.forecast(0.1, 0.8, epochs=49), history.loss[49], rtol=1e-9))
        True
        >>> reduced.forecast(0.1, 0.8, epochs=[0, 10, 10**9]).round(4)
        array([7.0606, 0.7567, 0.    ])
        """
        epochs = as_epochs(epochs)
        modes, constants = self._descent_by_modes(
            lr, momentum, dampening, nesterov, weight_decay, coef0, self._scaling_for(standardize)
        )
        if np.ndim(epochs):
            return modes.path(*constants, epochs)[0].reshape(-1, *self.target_shape)
        loss = modes.losses(*constants, epochs)
        return loss if self.target_shape else float(loss[0])

    @np.errstate(all="ignore")
    def path(
        self,
        lr: float,
        momentum: float = 0.8,
        *,
        epochs: int | ArrayLike,
        dampening: float | None = None,
        nesterov: bool = False,
        weight_decay: float | ArrayLike = 0.0,
        coef0: ArrayLike | None = None,
        standardize: bool | tuple[ArrayLike, ArrayLike] = False,
    ) -> History:
        """Compute losses, gradients and parameters after so many epochs, without running them.

        They are the rows of a longer fit's history, up to rounding, in float64.

        Parameters
        ----------
        lr, momentum, epochs, dampening, nesterov, weight_decay, coef0, standardize : as for `forecast`
            The descent. Losses and gradients are without the penalty of `weight_decay`.

        Returns
        -------
        History
            A row for each number of epochs. ``step`` is None. A loss that overflows is inf; parameters and gradient of
            that row mean nothing.

        Raises
        ------
        ValueError, TypeError
            If an argument has a wrong value, shape or type.

        Examples
        --------
        >>> import numpy as np, sgdm
        >>> x = np.linspace(-1, 1, 100)
        >>> reduced = sgdm.compress(x.reshape(-1, 1), 3 * x + 2, fit_intercept=True)
        >>> reduced.path(0.1, epochs=[0, 10, 1000]).coef.round(4)
        array([[0.    , 0.    ],
               [1.7417, 2.4672],
               [3.    , 2.    ]])
        """
        epochs, scaling = np.atleast_1d(as_epochs(epochs)), self._scaling_for(standardize)
        modes, constants = self._descent_by_modes(lr, momentum, dampening, nesterov, weight_decay, coef0, scaling)
        loss, coef = modes.path(*constants, epochs)
        if scaling is not None:
            coef = np.moveaxis(scaling.to_parameters(np.moveaxis(coef, 1, 0)), 0, 1)
        A, B = self.R[:, : self.n_params], self.R[:, self.n_params :]
        grad = A.T @ (A @ coef - B) * (2 / self.total_weight)
        shape = len(epochs), self.n_params, *self.target_shape
        loss = loss.reshape(-1, *self.target_shape)
        return History(epoch=epochs, loss=loss, grad=grad.reshape(shape), step=None, coef=coef.reshape(shape))

    def _descent_by_modes(self, lr, momentum, dampening, nesterov, weight_decay, coef0, scaling):
        """The modes of a descent, and its checked constants as `Modes` takes them."""
        lr, momentum = as_number(lr, "lr"), as_number(momentum, "momentum", 1, below=True)
        dampening = momentum if dampening is None else as_number(dampening, "dampening", 1)
        nesterov = as_flag(nesterov, "nesterov")
        weight_decay = as_penalty(weight_decay, "weight_decay", self.n_features)
        return self._modes(coef0, weight_decay, scaling), (lr, momentum, 1 - dampening, nesterov)

    @np.errstate(all="ignore")
    def tune(
        self,
        epochs: int,
        *,
        momentum: float | None = None,
        dampening: float | None = None,
        nesterov: bool = False,
        weight_decay: float | ArrayLike = 0.0,
        coef0: ArrayLike | None = None,
        standardize: bool | tuple[ArrayLike, ArrayLike] = False,
    ) -> Tuned:
        """Find the lr, momentum and dampening with which so many full-batch epochs end lowest.

        The search minimises the forecast objective, which is the loss plus the penalty of `weight_decay`, summed over
        the targets.

        Parameters
        ----------
        epochs : int
            The number of epochs.
        momentum : float in [0, 1), optional
            The momentum. By default it is searched for.
        dampening : float in [0, 1], optional
            The dampening. By default it equals `momentum` if that is given. If neither is given, the search tries a
            moving average (dampening equal to momentum) and a heavy ball (dampening 0).
        nesterov : bool, default False
            Whether to use Nesterov momentum.
        weight_decay : float or array of shape (d,), default 0.0
            The weight decay.
        coef0 : array of shape (p,) or (p, k), optional
            The parameters to start from. By default all are 0.
        standardize : bool or (means, deviations), default False
            Whether the descent is standardized, as in `sgdm.fit`.

        Returns
        -------
        Tuned
            The constants lr, momentum and dampening, and the objective that they end at.

        Raises
        ------
        ValueError, TypeError
            If an argument has a wrong value, shape or type, or if the loss overflows with any lr.

        Examples
        --------
        >>> import numpy as np, sgdm
        >>> X = np.random.default_rng(0).normal(size=(100, 3)) * [1, 3, 9]
        >>> reduced = sgdm.compress(X, X @ [1.0, 2.0, 3.0])
        >>> tuned = reduced.tune(epochs=30)
        >>> bool(tuned.objective < reduced.fit(lr="auto", momentum="auto", epochs=30).loss)
        True
        """
        epochs, nesterov = as_count(epochs, "epochs"), as_flag(nesterov, "nesterov")
        weight_decay = as_penalty(weight_decay, "weight_decay", self.n_features)
        if momentum is not None:
            momentum = as_number(momentum, "momentum", 1, below=True)
            dampening = momentum if dampening is None else dampening
        if dampening is not None:
            dampening = as_number(dampening, "dampening", 1)
        modes = self._modes(coef0, weight_decay, self._scaling_for(standardize))
        return best_constants(modes, epochs, momentum, dampening, nesterov)


def _differing_names(one, other):
    """What to say of the names of two reductions where these differ."""
    own, others = one.feature_names, other.feature_names
    if own == others:
        return ""
    names = ("no names" if part is None else ", ".join(map(repr, part[:10])) for part in (own, others))
    return "; the features are {} and {}".format(*names)
