"""A least-squares problem as its triangular factor, and what follows from it."""

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
from .._validation import as_count, as_flag, as_number, as_penalty
from .checks import check_reduction
from .factor import column_norms, join

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import ArrayLike

    from .._results.result import FitResult

INDEPENDENT = 1e-8  # a column at least this fraction of its norm away from the earlier ones' span is independent
_RANK_EPS = 4  # a duplicate of a column leaves a singular value of up to 4 eps (measured, up to 1 000 000 rows)


class Compressed:
    """A least-squares problem reduced to a triangular factor; made by `compress`, `merge` or `load`.

    Attributes
    ----------
    R : (q, q) array
        Upper triangular, its diagonal not negative; q = d + k, + 1 with an intercept. The columns are those of X, the
        intercept's, those of y.
    n_rows : int
        How many rows went in.
    total_weight : float
        The sum of their weights.
    n_features : int
        The columns of X, d.
    fit_intercept : bool
    dtype : numpy.dtype
        That of the data; R is float64.
    feature_names : tuple of str, or None
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
        """The reduction of all the parts' rows together, by a balanced tree in the order given."""
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
        """Write everything to `path`, an .npz file without pickle, whole or not at all."""
        check_reduction(self, some_rows=True)
        write_npz(path, "reduction", *self._flatten())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Compressed:
        """Read what `save` wrote; ValueError if the file is damaged or something else, or what it holds does not go
        together."""

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
        """The features and the intercept, p."""
        return self.n_features + self.fit_intercept

    @property
    def n_targets(self) -> int:
        """The columns of y, k."""
        return self.target_shape[0] if self.target_shape else 1

    def _problem(self):
        """The problem of R's rows. The intercept is one of its columns, without penalties."""
        check_reduction(self)
        p = self.n_params
        rows, targets = np.ascontiguousarray(self.R[:, :p]), np.ascontiguousarray(self.R[:, p:].T)
        problem = Problem(rows, False, targets, None, self.total_weight, False, self.n_features, True, self.dtype)
        problem.target_shape, problem.feature_names = self.target_shape, self.feature_names
        problem.method, problem.reduction, problem.scaling = "compress", self, None
        return problem

    def fit(self, **options: Any) -> FitResult:
        """`sgdm.fit` on the reduced problem: all its options but those that need rows or describe them.

        Every epoch costs ``p**2`` operations, however many rows went in; loss, gradient, step and coefficients are
        those of the fit to the rows, to rounding. ``validation`` takes another `Compressed`.
        """
        return self._fit(**options)

    @np.errstate(all="ignore")
    def solve(self) -> np.ndarray:
        """The parameters (p,) or (p, k) that minimise the loss, of least norm where several do."""
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
        """The least mean squared error there is, per target."""
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
        """The eigenvalues (p,) of the Hessian ``H = 2 X'WX / sum(w)``, the largest first; inf where they overflow.

        With `standardize`, those in the coordinates of that descent (see `sgdm.fit`).
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
        """The Hessian's condition number, its largest eigenvalue by its smallest; inf where it is singular."""
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
        """The stability limit: the full-batch descent, `standardize` as in `sgdm.fit`, converges for every smaller lr,
        and for no larger one."""
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
        """The loss after `epochs` full-batch epochs, without running them; inf if it overflows by then.

        It is ``history.loss[epochs]`` of a longer fit with the same options, to rounding. An array of n numbers of
        epochs gives a learning curve, (n,) or (n, k).

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
        """Loss, gradient and parameters after each of `epochs`, (n,) or one, without running them.

        They are the rows of a longer fit's history, to rounding, in float64; ``step`` is None. A loss that overflows is
        inf, and its parameters and gradient are of no use.

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
        """Choose lr, momentum and dampening so that `epochs` full-batch epochs end at the lowest objective (loss plus
        weight-decay penalty).

        `standardize` is as in `sgdm.fit`. A momentum or dampening that is given stays. With neither, both a moving
        average (dampening equal to momentum) and a heavy ball (dampening 0) are tried. The search minimises the
        forecast, summed over the targets.

        Returns
        -------
        Tuned
            lr, momentum, dampening, and the forecast objective, summed over the targets.
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
