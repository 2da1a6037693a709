"""The QR reduction: any number of rows, read once, become the few rows of a triangular factor.

Let Z = [X, 1, Y], the ones there only with an intercept, its rows scaled by the square roots of the weights, and
Z = Q R. Loss and gradient depend on Z'Z = R'R alone, so those of (X, Y) are those of R's columns with the original sum
of weights, without the cancellation that Z'Z itself would bring. Factors of row blocks, stacked, factor again.
"""

from __future__ import annotations

import functools
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._files import read_npz, write_npz
from ._kernel import Problem, mix
from ._run import progress_bar
from ._sources import blocks_of, is_dask, reduce_dask
from ._tuning import Modes, Tuned, auto_rates, stability_limit, tune
from ._validation import (
    as_count,
    as_flag,
    as_matrix,
    as_number,
    as_problem,
    as_start,
    as_targets,
    as_validation,
    as_weights,
    check_finite,
)
from ._whole import check_levels, check_reduction
from ._workers import map_in_order

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from ._result import FitResult

_BLOCK_BYTES = 1 << 19  # of rows in float64 that are factored at once: LAPACK finds them in the second-level cache
_LEAF_BLOCKS = 32  # blocks whose factors are joined at once; leaves are what threads share, and a tree joins
_LEAF_BYTES = 3 << 23  # of a leaf at most
# Freeing a block this large makes glibc keep later temporaries instead of returning them to the system, which nearly
# doubled the time. The threshold can't exceed 32 MiB.
_KEPT_BYTES = 31 << 20
_DIGEST = np.arange(1, 9, dtype=np.uint64)  # that of nothing; zeros would stay zeros
_SURELY = 1e-8  # columns whose distance from those before is more than this of their length are independent
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

    def __init__(self, R, n_rows, total_weight, n_features, slot, fit_intercept, dtype, feature_names=None):
        self.R, self.n_rows, self.total_weight, self.n_features = R, n_rows, total_weight, n_features
        self.slot, self.fit_intercept, self.dtype, self.feature_names = slot, fit_intercept, dtype, feature_names

    def __setstate__(self, state):
        """Takes up what was pickled, if its parts go together."""
        state.pop("optimal_loss", None)  # which follows from the rest
        vars(self).update(state)
        check_reduction(self, weighty=False)

    def _kind(self):
        """What two reductions must have in common to be one problem's."""
        return self.n_features, self.slot, self.fit_intercept, self.dtype.name, self.feature_names

    def _fields(self):
        return self.n_rows, self.total_weight, self._kind()

    def __eq__(self, other):
        if not isinstance(other, Compressed):
            return NotImplemented
        return self._fields() == other._fields() and np.array_equal(self.R, other.R)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        targets = f", {self.slot[0]} targets" if self.slot else ""
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
            check_reduction(part, weighty=False)
        while len(parts) > 1:
            pairs = [a + b for a, b in zip(parts[::2], parts[1::2], strict=False)]
            parts = pairs + parts[len(pairs) * 2 :]
        return parts[0]

    def __add__(self, other: Compressed) -> Compressed:
        if not isinstance(other, Compressed):
            return NotImplemented
        for part in (self, other):
            check_reduction(part, weighty=False)
        if self._kind() != other._kind():
            raise ValueError(
                f"both parts must have the same features, targets, intercept and dtype, got {self!r} and {other!r}"
            )
        return Compressed(
            join(self.R, other.R),
            self.n_rows + other.n_rows,
            self.total_weight + other.total_weight,
            *(self.n_features, self.slot, self.fit_intercept, self.dtype, self.feature_names),
        )

    def __radd__(self, other):  # for sum(parts), which starts from 0
        return self if isinstance(other, int) and other == 0 else NotImplemented

    # Files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to `path`, an .npz file without pickle, whole or not at all."""
        check_reduction(self, weighty=False)
        write_npz(path, "reduction", *self._flatten())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Compressed:
        """Read what `save` wrote; ValueError if the file is damaged or something else, or what it holds does not go
        together."""

        def build(arrays, plain):
            part = Compressed._unflatten(arrays.pop("R"), plain)
            check_reduction(part)
            if arrays:
                raise ValueError(f"it has {', '.join(arrays)} too")
            return part

        return read_npz(path, "reduction", build)

    def _flatten(self):
        names = None if self.feature_names is None else list(self.feature_names)
        plain = {
            "n_rows": self.n_rows,
            "total_weight": self.total_weight,
            "n_features": self.n_features,
            "slot": list(self.slot),
            "fit_intercept": self.fit_intercept,
            "dtype": self.dtype.name,
            "feature_names": names,
        }
        return {"R": self.R}, plain

    @staticmethod
    def _unflatten(R, plain):
        lists = {name: tuple(value) for name, value in plain.items() if isinstance(value, list)}
        part = Compressed(R, **{**plain, **lists, "dtype": np.dtype(plain["dtype"])})
        check_reduction(part, weighty=False)
        return part

    # The problem it stands for

    @property
    def n_params(self) -> int:
        """The features and the intercept, p."""
        return self.n_features + self.fit_intercept

    @property
    def n_targets(self) -> int:
        """The columns of y, k."""
        return self.slot[0] if self.slot else 1

    def _size(self):
        return self.n_params + self.n_targets

    def _problem(self):
        """The kernel's view: R's rows, the intercept a column like the others but for penalties."""
        check_reduction(self)
        p = self.n_params
        rows, targets = np.ascontiguousarray(self.R[:, :p]), np.ascontiguousarray(self.R[:, p:].T)
        return Problem(rows, False, targets, None, self.total_weight, False, self.n_features, True)

    def fit(self, **options: Any) -> FitResult:
        """`sgdm.fit` on the reduced problem: all its options but those that need rows or describe them.

        Every epoch costs ``p**2`` operations, however many rows went in; loss, gradient, step and coefficients are
        those of the fit to the rows, to rounding. ``validation`` takes another `Compressed`.
        """
        from ._fit import fit

        return fit(self, **options)

    @np.errstate(all="ignore")
    def solve(self) -> np.ndarray:
        """The parameters (p,) or (p, k) that minimise the loss, of least norm where several do."""
        p = self.n_params
        A, B = self.R[:p, :p], self.R[:p, p:]
        scale, V, coordinates = self._row_space()
        if V.shape[1] == p:
            solution = np.linalg.solve(A, B)
        else:  # the shortest a with V' (scale * a) = coordinates; rows in falling order keep the digits of each
            order = np.argsort(scale)[::-1]
            Q, T = np.linalg.qr(V[order] * (scale[order] / scale.max())[:, None])
            solution = np.empty((p, B.shape[1]))
            solution[order] = Q @ np.linalg.solve(T.T, coordinates) / scale.max()
        if not np.isfinite(solution).all():
            raise ValueError("the parameters for these X and y overflow; scale the columns of X up, or y down")
        return solution.reshape(p, *self.slot)

    def _row_space(self):
        """What the columns scaled to length 1 determine of their coefficients: on these alone the rank can be decided.

        Returns the lengths (p,), an orthonormal basis V (p, rank) of the row space, and the coordinates (rank, k) in
        it of the coefficients that minimise the loss.
        """
        p = self.n_params
        A, B = self.R[:p, :p], self.R[:p, p:]
        scale = lengths(A)
        U, singular, Vt = np.linalg.svd(A / scale)
        rank = np.count_nonzero(singular > singular[0] * _RANK_EPS * (p + 8) * np.finfo(float).eps)
        return scale, Vt[:rank].T, (U[:, :rank].T @ B) / singular[:rank, None]

    @functools.cached_property
    @np.errstate(all="ignore")
    def optimal_loss(self) -> Any:
        """The least mean squared error there is, per target."""
        p = self.n_params
        A, residual = self.R[:p, :p], self.R[p:, p:]
        if not (np.diagonal(A) > _SURELY * lengths(A)).all():  # maybe not of full rank
            scale, V, coordinates = self._row_space()
            if V.shape[1] < p:
                residual = np.vstack([A / scale @ (V @ coordinates) - self.R[:p, p:], residual])
        loss = (residual**2).sum(0) / self.total_weight
        return loss if self.slot else float(loss[0])

    def _least_objective(self, weight_decay):
        """The least of the mean squared error plus weight decay's penalty, (k,)."""
        return self._modes(None, weight_decay).least

    @np.errstate(all="ignore")
    def spectrum(self) -> np.ndarray:
        """The eigenvalues (p,) of the Hessian ``H = 2 X'WX / sum(w)``, the largest first; inf where they overflow."""
        return self._spectrum(0.0)

    def _spectrum(self, weight_decay):
        """The eigenvalues of the Hessian with weight decay on the features, the largest first."""
        p, A = self.n_params, self.R[: self.n_params, : self.n_params]
        if weight_decay:
            penalty = np.sqrt(weight_decay / 2) * np.sqrt(self.total_weight)
            A = np.vstack([A, penalty * np.eye(p)[: self.n_features]])
        # By singular values of the rows, not eigenvalues of their squares: small curvatures keep their digits.
        return 2 * (np.linalg.svd(A, compute_uv=False) / np.sqrt(self.total_weight)) ** 2

    @property
    @np.errstate(all="ignore")
    def condition(self) -> float:
        """The Hessian's condition number, its largest eigenvalue by its smallest; inf where it is singular."""
        p = self.n_params
        values = np.linalg.svd(self.R[:p, :p], compute_uv=False)  # the squares of which may overflow, or vanish
        return float((values[0] / values[-1]) ** 2) if values[-1] > 0 else float("inf")

    @np.errstate(all="ignore")
    def max_lr(
        self, momentum: float = 0.8, dampening: float | None = None, nesterov: bool = False, weight_decay: float = 0.0
    ) -> float:
        """The stability limit: the full-batch descent converges for every smaller lr, and for no larger one."""
        momentum = as_number(momentum, "momentum", 1, below=True)
        dampening = momentum if dampening is None else as_number(dampening, "dampening", 1)
        top = self._spectrum(as_number(weight_decay, "weight_decay"))[0]
        return float(stability_limit(top, momentum, 1 - dampening, as_flag(nesterov, "nesterov")))

    def _modes(self, coef0, weight_decay):
        p = self.n_params
        problem = self._problem()
        start = as_start(coef0, problem, self.slot)[0]
        penalised = np.arange(p) < self.n_features
        return Modes(self.R[:, :p], self.R[:, p:], self.total_weight, penalised, weight_decay, start)

    @np.errstate(all="ignore")
    def forecast(
        self,
        lr: float,
        momentum: float = 0.8,
        *,
        epochs: int,
        dampening: float | None = None,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        coef0: ArrayLike | None = None,
    ) -> Any:
        """The loss after `epochs` full-batch epochs, without running them; inf if it overflows by then.

        It is ``history.loss[epochs]`` of a longer fit with the same options, to rounding.

        Examples
        --------
        >>> import numpy as np, sgdm
        >>> x = np.linspace(-1, 1, 100)
        >>> reduced = sgdm.compress(x.reshape(-1, 1), 3 * x + 2, fit_intercept=True)
        >>> history = reduced.fit(epochs=50).history
        >>> bool(np.isclose(reduced.forecast(0.1, 0.8, epochs=49), history.loss[49], rtol=1e-9))
        True
        """
        lr, momentum = as_number(lr, "lr"), as_number(momentum, "momentum", 1, below=True)
        dampening = momentum if dampening is None else as_number(dampening, "dampening", 1)
        if not isinstance(epochs, (int, np.integer)) or isinstance(epochs, bool) or epochs != 0:
            epochs = as_count(epochs, "epochs")
        modes = self._modes(coef0, as_number(weight_decay, "weight_decay"))
        loss = modes.losses(lr, momentum, 1 - dampening, as_flag(nesterov, "nesterov"), epochs)
        return loss if self.slot else float(loss[0])

    @np.errstate(all="ignore")
    def tune(
        self,
        epochs: int,
        *,
        momentum: float | None = None,
        dampening: float | None = None,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        coef0: ArrayLike | None = None,
    ) -> Tuned:
        """The lr, momentum and dampening that bring the objective, the loss and weight decay's penalty, lowest in so
        many full-batch epochs, for these data.

        What is given of momentum and dampening is kept; with neither, both a moving average (dampening equal to
        momentum) and a heavy ball (dampening 0) are tried. By the forecast, over all targets together.

        Returns
        -------
        Tuned
            lr, momentum, dampening, and the forecast objective, summed over the targets.
        """
        modes = self._modes(coef0, as_number(weight_decay, "weight_decay"))
        if momentum is not None:
            momentum = as_number(momentum, "momentum", 1, below=True)
            dampening = momentum if dampening is None else dampening
        if dampening is not None:
            dampening = as_number(dampening, "dampening", 1)
        return tune(modes, as_count(epochs, "epochs"), momentum, dampening, as_flag(nesterov, "nesterov"))


def lengths(A):
    """The Euclidean norms of the columns, even if their squares overflow or vanish; 1 for a column of zeros."""
    largest = np.abs(A).max(axis=0)
    largest[largest == 0] = 1
    return largest * np.maximum(np.linalg.norm(A / largest, axis=0), 1)


@np.errstate(all="ignore")
def join(*factors):
    """The triangular factor of all their rows, (q, q)."""
    R = np.linalg.qr(np.vstack(factors), mode="r")
    q = R.shape[1]
    if len(R) < q:
        R = np.vstack([R, np.zeros((q - len(R), q))])
    R *= np.where(np.diagonal(R) < 0, -1.0, 1.0)[:, None]  # one R for one Z'Z, whatever the order of rows
    return R


class Reduced(NamedTuple):
    """What has been reduced so far. It never changes: an exception finds the one before a leaf, or the one after it.

    levels are ((height, R), ...), heights falling: the factors of 2**height leaves each, as a binary counter carries
    them. digest is that of the numbers of all rows, where there is a checkpoint.
    """

    n_features: int
    slot: tuple[int, ...]
    dtype: np.dtype
    n_rows: int = 0
    n_leaves: int = 0
    total_weight: float = 0.0
    digest: str = ""
    levels: tuple[tuple[int, np.ndarray], ...] = ()

    def and_leaf(self, leaf, R, digest):
        """This and one leaf more: a balanced tree of joins in little memory."""
        levels, height = self.levels, 0
        while levels and levels[-1][0] == height:
            R = join(levels[-1][1], R)
            levels, height = levels[:-1], height + 1
        return Reduced(
            *leaf.form,
            self.n_rows + leaf.n_rows,
            self.n_leaves + 1,
            self.total_weight + leaf.weight,
            chained(self.digest, digest),
            (*levels, (height, R)),
        )

    def total(self):
        """The factor of all leaves."""
        return join(functools.reduce(lambda right, left: join(left, right), [R for _, R in reversed(self.levels)]))


class Leaf(NamedTuple):
    """Some rows that are factored together. form: n_features, slot and dtype of all rows until here."""

    number: int
    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    form: tuple[int, tuple[int, ...], np.dtype]
    block: tuple[int, np.ndarray, np.ndarray]  # where they are from: its number and all its rows

    @property
    def n_rows(self):
        return len(self.y)

    @property
    def weight(self):
        return float(len(self.y) if self.weights is None else self.weights.sum())

    def digest(self):
        """A digest of all its numbers and their layout, 8 words."""
        words = _DIGEST.copy()
        for array in (self.X, self.y, self.weights):
            if array is None:
                continue
            if array.dtype.itemsize > 8:  # the bytes of a longdouble are not all of the number
                array = array.astype(np.float64)
            mix(words, np.frombuffer(f"{array.dtype.str} {array.shape}".encode(), np.uint8))
            mix(words, np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        return words


def chained(digest, leaf):
    """The digest of some leaves, in hexadecimal, and of one more; none is taken where there is no checkpoint."""
    if leaf is None:
        return digest
    words = np.frombuffer(bytes.fromhex(digest), np.uint64).copy() if digest else _DIGEST.copy()
    mix(words, leaf.view(np.uint8))
    return words.tobytes().hex()


def block_rows(q):
    """How many rows of q float64 columns make a block."""
    return max(_BLOCK_BYTES // (8 * q), 4 * q)


def leaf_rows(q):
    """How many rows make a leaf: whole blocks."""
    rows = block_rows(q)
    return rows * max(1, min(_LEAF_BLOCKS, _LEAF_BYTES // (8 * q * rows)))


@np.errstate(all="ignore")  # a factor that is not finite shows what overflowed
def factor_rows(X, y, weights, fit_intercept):
    """The factor of one leaf's rows: of each block by itself, and then of these factors together.

    All blocks go into one call of numpy's, which lets other threads run where there are sixteen of them or more.
    """
    n, d = X.shape
    y = y.reshape(n, -1)
    q = d + fit_intercept + y.shape[1]
    rows = block_rows(q)
    count = n // rows
    Z = np.empty((n, q))
    Z[:, :d] = X
    if fit_intercept:
        Z[:, d] = 1
    Z[:, d + fit_intercept :] = y
    if weights is not None:
        Z *= np.sqrt(weights[:, None], dtype=np.float64)
    parts = Z[count * rows :]  # too few for a block
    if count:
        blocks = np.linalg.qr(Z[: count * rows].reshape(count, rows, q), mode="r")
        parts = np.vstack([blocks.reshape(count * q, q), parts])
    return np.linalg.qr(parts, mode="r")


class Reduction:
    """A reduction under way, which can be saved and taken up again. keeps_digest: whether it will be.

    done: what has been reduced, a `Reduced` or None. It is all that is handed out, and is replaced as a whole.
    saved: what of it the checkpoint holds.
    """

    def __init__(self, fit_intercept, feature_names, keeps_digest=False):
        self.fit_intercept, self.feature_names, self.keeps_digest = fit_intercept, feature_names, keeps_digest
        self.done = self.saved = None

    @property
    def n_leaves(self):
        return 0 if self.done is None else self.done.n_leaves

    @property
    def n_rows(self):
        return 0 if self.done is None else self.done.n_rows

    def leaves(self, blocks):
        """All leaves of the blocks, in order."""
        leaf, form = 0, None if self.done is None else self.done[:3]
        for number, (X, y, sample_weight) in enumerate(blocks):
            X, y, weights, form = check_block(X, y, sample_weight, number, form)
            at_once = leaf_rows(X.shape[1] + self.fit_intercept + (y.shape[1] if y.ndim == 2 else 1))
            for start in range(0, len(X), at_once):
                part = slice(start, start + at_once)
                w = None if weights is None else weights[part]
                yield Leaf(leaf, X[part], y[part], w, form, (number, X, y))
                leaf += 1

    def run(self, blocks, n_threads=1, look=None):
        """Takes in all leaves but those it holds already, which it compares; calls `look(leaf)` after each."""
        held, rows, digest, seen = self.done, 0, "", 0
        skip = self.n_leaves

        def factor(leaf):
            own = leaf.digest() if self.keeps_digest else None
            return None if leaf.number < skip else factor_rows(*leaf[1:4], self.fit_intercept), own

        def take(leaf, factor):
            nonlocal rows, digest, seen
            seen += 1
            if leaf.number >= skip:
                self.add(leaf, factor)
                if look is not None:
                    look(leaf)
                return
            rows, digest = rows + leaf.n_rows, chained(digest, factor[1])
            if seen == skip and (rows, digest) != (held.n_rows, held.digest):
                raise ValueError(
                    f"checkpoint holds {held.n_rows} rows of other data, or in other blocks, than these, whose first "
                    f"{seen} blocks have {rows}; give the same blocks again, or delete it"
                )

        map_in_order(factor, self.leaves(blocks), take, n_threads)
        if seen < skip:
            raise ValueError(f"checkpoint holds {held.n_rows} rows, but these data have only {rows}")

    def add(self, leaf, factor):
        """Takes in one leaf's R and digest; ValueError if R is not finite."""
        R, digest = factor
        if not np.isfinite(R).all():
            explain_nonfinite(*leaf.block)
        self.done = (self.done or Reduced(*leaf.form)).and_leaf(leaf, R, digest)

    def result(self):
        """What has been reduced so far, or None."""
        return None if self.done is None else self._as_compressed(self.done.total())

    def _as_compressed(self, R):
        was = self.done
        return Compressed(
            R, was.n_rows, was.total_weight, was.n_features, was.slot, self.fit_intercept, was.dtype,
            self.feature_names,
        )  # fmt: skip

    def save(self, path):
        """Writes a checkpoint."""
        done = self.done
        plain = self._as_compressed(None)._flatten()[1]
        arrays = {f"R{i}": R for i, (_, R) in enumerate(done.levels)}
        plain |= {"n_leaves": done.n_leaves, "digest": done.digest, "heights": [height for height, _ in done.levels]}
        write_npz(path, "checkpoint", arrays, plain)
        self.saved = done

    def restore(self, path):
        """Takes up a checkpoint of a reduction of the same form."""

        def build(arrays, plain):
            n_leaves, digest, heights = (plain.pop(name) for name in ("n_leaves", "digest", "heights"))
            levels = tuple((height, arrays.pop(f"R{i}")) for i, height in enumerate(heights))
            check_levels(levels, n_leaves, plain["n_rows"])
            if arrays or type(digest) is not str or len(digest) != 128:
                raise ValueError("it has other parts than a reduction under way")
            was = Compressed._unflatten(join(*[R for _, R in levels]), plain)
            form = was.n_features, was.slot, was.dtype
            return was, Reduced(*form, was.n_rows, n_leaves, was.total_weight, digest, levels)

        was, done = read_npz(path, "checkpoint", build)
        if (was.fit_intercept, was.feature_names) != (self.fit_intercept, self.feature_names):
            raise ValueError(f"{os.fspath(path)} is of a reduction with other columns or intercept; delete it")
        self.saved = self.done = done


def check_block(X, y, sample_weight, number, form):
    """One block's arrays, which must go with the blocks before, and the form of all rows until here (see Leaf)."""
    try:
        X = as_matrix(X, "X", convert=False)  # which `factor_rows` does, block by block
        y = as_targets(y, len(X))
        weights = None
        if sample_weight is not None:
            weights, _ = as_weights(sample_weight, len(X), np.float64, positive=False)
    except (TypeError, ValueError) as error:
        if not number or type(error) not in (TypeError, ValueError):  # the first block's, or a signal handler's own
            raise
        raise type(error)(f"block {number}: {error}") from None
    dtype = np.dtype(np.float32 if X.dtype.newbyteorder("=") == y.dtype == np.float32 else np.float64)
    own = X.shape[1], y.shape[1:]
    if form is not None and own != form[:2]:
        raise ValueError(
            f"block {number}: X and y must have the columns and targets of those before, {form[0]} and {form[1]}, "
            f"got {own[0]} and {own[1]}"
        )
    return X, y, weights, (*own, dtype if form is None else np.promote_types(form[2], dtype))


def compress(
    X: Any,
    y: Any = None,
    *,
    sample_weight: ArrayLike | str | None = None,
    fit_intercept: bool = False,
    target: str | None = None,
    n_threads: int = 1,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 30.0,
) -> Compressed:
    """Reduce a least-squares problem to the triangular factor of its rows, which are read once.

    Parameters
    ----------
    X : array of shape (n, d), iterable of blocks, table, path, or Dask collection
        What holds the rows. Arrays, memory maps too, are read in place, in float64 whatever their dtype. An iterable
        yields ``(X, y)`` or ``(X, y, sample_weight)``. With `target`: a pyarrow Table, RecordBatch, RecordBatchReader
        or data set, the path of a Parquet file or folder, a pandas or polars DataFrame, a Dask DataFrame. Whatever it
        is, a few blocks are in memory at a time.
    y : array of shape (n,) or (n, k), optional
        The targets, where X is an array; a Dask array where X is one.
    sample_weight : array of shape (n,) or str, optional
        The weights, or their column's name.
    fit_intercept : bool, default False
        Whether the reduced problem has an intercept.
    target : str, optional
        The column to predict; all others but the weights are features.
    n_threads : int, default 1
        How many threads factor blocks. The result has the same bits for any number.
    progress : bool, default False
        Whether to show a bar of rows (needs tqdm).
    checkpoint : path, optional
        Where to save what is reduced so far, whole or not at all. If the file is there already, it is taken up: the
        rows in it are passed over, and the result has the bits of an uninterrupted reduction of the same blocks. These
        rows are read all the same: ValueError if any of their numbers differs from those it was made of. It is
        deleted at the end.
    checkpoint_every : float, default 30.0
        Seconds between two saves.

    Returns
    -------
    Compressed

    Raises
    ------
    ValueError, TypeError
        If an argument or a block is not what it should be; NaN and infinity are named by row and column.
    KeyboardInterrupt
        On Ctrl-C, with the reduction of the rows so far as its ``result`` (None before the first); so too for what an
        iterable raises.

    References
    ----------
    J. Demmel, L. Grigori, M. Hoemmen and J. Langou, "Communication-optimal parallel and sequential QR and LU
    factorizations", SIAM J. Sci. Comput. 34 (2012).

    Examples
    --------
    >>> import numpy as np, sgdm
    >>> X = np.arange(12.0).reshape(6, 2) ** 2
    >>> y = X @ [1.0, -1.0]
    >>> reduced = sgdm.compress(X, y)
    >>> reduced
    Compressed(6 rows, 2 features, float64)
    >>> reduced.solve().round(6)
    array([ 1., -1.])
    >>> blocks = ((X[i : i + 2], y[i : i + 2]) for i in (0, 2, 4))
    >>> np.allclose(sgdm.compress(blocks).R, reduced.R)
    True
    """
    reduction = bar = None

    def look(leaf):
        nonlocal saved
        if bar is not None:
            bar.update(leaf.n_rows)
        if checkpoint is not None and time.monotonic() - saved >= every:
            reduction.save(checkpoint)
            saved = time.monotonic()

    try:
        fit_intercept, n_threads = as_flag(fit_intercept, "fit_intercept"), as_count(n_threads, "n_threads")
        if is_dask(X):
            if checkpoint is not None or progress:
                raise ValueError("checkpoint and progress don't go together with Dask, whose scheduler does both")
            return check_total(reduce_dask(X, y, sample_weight, fit_intercept, target, reduce_part, merge_parts))
        blocks, rows, names = blocks_of(X, y, sample_weight, target)
        every = as_number(checkpoint_every, "checkpoint_every")
        reduction = Reduction(fit_intercept, names, keeps_digest=checkpoint is not None)
        np.empty(_KEPT_BYTES // 8)  # and freed
        progress, saved = as_flag(progress, "progress"), time.monotonic()
        if checkpoint is not None and os.path.exists(checkpoint):
            reduction.restore(checkpoint)
        try:
            if progress:
                bar = progress_bar(rows, "row")
                bar.update(reduction.n_rows)
            reduction.run(blocks, n_threads, look)
        finally:
            if bar is not None:
                bar.close()
        result = check_total(reduction.result())
        if checkpoint is not None and os.path.exists(checkpoint):
            reduction.saved = None
            os.unlink(checkpoint)
        return result
    except BaseException as stop:
        with suppress(AttributeError):  # of exceptions that take no attributes
            stop.result = None if reduction is None else reduction.result()  # type: ignore[attr-defined]
        if checkpoint is not None and reduction is not None and reduction.done is not reduction.saved:
            try:
                reduction.save(checkpoint)
            except Exception as failure:
                stop.add_note(f"the checkpoint could not be saved: {failure}")
        raise


def check_total(reduced):
    """The reduction of all rows, if there were any, and not all of no weight."""
    if reduced is None:
        raise ValueError("X must have at least one row, got no block with any")
    if not 0 < reduced.total_weight < np.inf:
        raise ValueError(f"sample_weight must have a positive, finite sum, got {reduced.total_weight}")
    return reduced


def explain_nonfinite(number, X, y):
    """Raises ValueError for a block whose factor is not finite, by row and column where these are not."""
    where = f"block {number}: " if number else ""
    check_finite(X, f"{where}X")
    check_finite(y, f"{where}y")
    raise ValueError(f"{where}the squares of X and y must be finite")


def reduce_part(number, X, y, sample_weight, fit_intercept, target):
    """The reduction of one block of a Dask collection, on a worker; None if it is empty."""
    if not len(X):
        return None
    try:
        blocks, _, names = blocks_of(X, y, sample_weight, target)
        reduction = Reduction(fit_intercept, names)
        reduction.run(blocks)
    except (TypeError, ValueError) as error:
        raise type(error)(f"block {number}: {error}") from None
    return reduction.result()


def merge_parts(parts):
    """The reductions of several blocks, joined."""
    parts = [part for part in parts if part is not None]
    return Compressed.merge(parts) if parts else None


# Nanoseconds, measured over n of 10 000 to 1 000 000 and d of 10 to 200 by bench/test_compress.py: an epoch over an
# element of X, reducing an element of a row, and a product of two. Reducing has to pay twice over, and to save
# something one would notice.
_EPOCH_NS, _REDUCE_NS, _PRODUCT_NS, _NOTICED_NS = 0.27, 3.3, 0.073, 5e7


def pays(problem, epochs):
    """Whether reducing the rows first is clearly faster than so many epochs over them."""
    q = problem.p + problem.k
    direct = epochs * problem.n * problem.p * problem.k * _EPOCH_NS
    if direct <= _NOTICED_NS:
        return False
    reduced = problem.n * q * (_REDUCE_NS + _PRODUCT_NS * q) + epochs * q * problem.p * problem.k * _EPOCH_NS
    return direct > 2 * reduced


def reduce_problem(problem, slot, n_threads):
    """`compress` of data that are validated already."""
    X = problem.lines.T if problem.by_columns else problem.lines
    y = problem.targets.T.reshape(problem.n, *slot)
    try:
        return compress(X, y, sample_weight=problem.weights, fit_intercept=problem.fit_intercept, n_threads=n_threads)
    except BaseException as stop:
        with suppress(AttributeError):
            stop.result = None  # type: ignore[attr-defined]  # of a fit, which has not begun
        raise


def choose_problem(
    X, y, sample_weight, fit_intercept, validation, method, batch_size, epochs, init, auto_lr, n_threads, names
):
    """The problem to descend on and the held-out one, the slot, the reduction if there is one, and the method."""
    if not isinstance(method, str) or method not in ("auto", "direct", "compress"):
        raise ValueError(f"method must be 'auto', 'direct' or 'compress', got {method!r}")
    if auto_lr and init is not None:
        raise ValueError("lr='auto' and init don't go together: they would change the constants; give init's lr")
    if batch_size is not None and (auto_lr or method == "compress" or isinstance(X, Compressed)):
        other = "lr='auto'" if auto_lr else "method='compress'" if method == "compress" else "a Compressed"
        raise ValueError(f"batch_size and {other} don't go together: batches need the rows")
    if isinstance(X, Compressed):
        if y is not None or sample_weight is not None or fit_intercept or method == "direct":
            raise ValueError(
                "a Compressed holds y, sample_weight and fit_intercept already, and no rows for method='direct'; "
                "leave them out"
            )
        problem = X._problem()
        held_out = validation._problem() if isinstance(validation, Compressed) else None
        if validation is not None and (held_out is None or validation._kind() != X._kind()):
            raise ValueError(f"validation of a Compressed must be another of the same kind, got {validation!r:.80}")
        return problem, held_out, X.slot, X, "compress"
    if isinstance(validation, Compressed):
        raise TypeError("validation can only be a Compressed where X is one")
    problem, slot = as_problem(X, y, sample_weight, fit_intercept)
    held_out = None if validation is None else as_validation(validation, problem, slot, names)
    if method == "auto":
        if batch_size is not None:
            method = "direct"
        elif init is not None:
            method = init.method
        else:
            method = "compress" if auto_lr or pays(problem, epochs) else "direct"
    reduced = None
    if method == "compress" or auto_lr:
        reduced = reduce_problem(problem, slot, n_threads)
    if method == "compress":
        problem = reduced._problem()
        held_out = None if held_out is None else reduce_problem(held_out, slot, n_threads)._problem()
    return problem, held_out, slot, reduced, method


def choose_rates(reduced, epochs, momentum, dampening, nesterov, weight_decay):
    """lr, momentum and dampening for lr="auto" on a reduced problem."""
    values = curvature_range(reduced, weight_decay)
    return auto_rates(*values, epochs, *as_momentum(momentum, dampening), as_flag(nesterov, "nesterov"))


def as_momentum(momentum, dampening):
    """momentum and dampening, each None where lr="auto" is to choose it."""
    auto = momentum is None or (isinstance(momentum, str) and momentum == "auto")
    momentum = None if auto else as_number(momentum, "momentum", 1, below=True)
    return momentum, None if dampening is None else as_number(dampening, "dampening", 1)


def curvature_range(reduced, weight_decay):
    """The largest and the smallest eigenvalue of the Hessian of the objective."""
    with np.errstate(all="ignore"):
        values = reduced._spectrum(as_number(weight_decay, "weight_decay"))
    return values[0], values[-1]
