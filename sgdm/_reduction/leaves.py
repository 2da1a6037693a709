"""A reduction under way: leaves of rows, the tree that joins their factors, and its checkpoint."""

import functools
import os
from typing import NamedTuple

import numpy as np

from .._files import read_npz, write_npz
from .._kernel import mix
from .._validation import as_matrix, as_targets, as_weights, check_finite, raise_if_foreign
from .._workers import map_in_order
from .checks import check_levels
from .compressed import Compressed
from .factor import factor_rows, join, leaf_rows

_DIGEST = np.arange(1, 9, dtype=np.uint64)  # before the first row; not 0: mixing zeros into zeros gives zeros


class Reduced(NamedTuple):
    """The reduction of some leaves. It is immutable: an interrupt leaves the state before a leaf or the one after it.

    levels are ((height, R), ...), from the highest down: an R for 2**height leaves, like the digits of a binary
    counter. digest: a hash of the values of all rows; '' without a checkpoint.
    """

    n_features: int
    target_shape: tuple[int, ...]
    dtype: np.dtype
    n_rows: int = 0
    n_leaves: int = 0
    total_weight: float = 0.0
    digest: str = ""
    levels: tuple[tuple[int, np.ndarray], ...] = ()

    def with_leaf(self, leaf, R, words):
        """The reduction of these leaves and one more. The joins form a balanced tree."""
        levels, height = self.levels, 0
        while levels and levels[-1][0] == height:
            R = join(levels[-1][1], R)
            levels, height = levels[:-1], height + 1
        return Reduced(
            *leaf.form,
            self.n_rows + leaf.n_rows,
            self.n_leaves + 1,
            self.total_weight + leaf.weight,
            extend_digest(self.digest, words),
            (*levels, (height, R)),
        )

    def total(self):
        """The factor of all leaves."""
        return join(functools.reduce(lambda right, left: join(left, right), [R for _, R in reversed(self.levels)]))


class Leaf(NamedTuple):
    """Some rows that are factored together. form: n_features, target_shape and dtype of all rows until here."""

    number: int
    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    form: tuple[int, tuple[int, ...], np.dtype]
    block: tuple[int, np.ndarray, np.ndarray]  # the block that holds the rows: (number, X, y)

    @property
    def n_rows(self):
        return len(self.y)

    @property
    @np.errstate(all="ignore")
    def weight(self):
        return float(len(self.y) if self.weights is None else self.weights.sum())

    def digest(self):
        """A digest of all numbers and their layout, 8 words."""
        words = _DIGEST.copy()
        for array in (self.X, self.y, self.weights):
            if array is None:
                continue
            if array.dtype.itemsize > 8:  # some bytes of a longdouble are padding
                array = array.astype(np.float64)
            mix(words, np.frombuffer(f"{array.dtype.str} {array.shape}".encode(), np.uint8))
            mix(words, np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        return words


def extend_digest(digest, words):
    """The hexadecimal digest of some leaves and one more, which has these words; None where there is no checkpoint."""
    if words is None:
        return digest
    total = np.frombuffer(bytes.fromhex(digest), np.uint64).copy() if digest else _DIGEST.copy()
    mix(total, words.view(np.uint8))
    return total.tobytes().hex()


class Reduction:
    """A reduction under way, which can be saved and continued. keeps_digest: whether it may be saved.

    done: the `Reduced` of the leaves so far, or None. Results and checkpoints are made of it alone; it is replaced as a
    whole. saved: the `Reduced` that the checkpoint holds, or None.
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
        """The leaves of blocks (X, y, weights or None) in order; every block is checked first."""
        count, form = 0, None if self.done is None else self.done[:3]
        for number, block in enumerate(blocks):
            *rows, form = check_block(*block, number, form)
            for leaf in self._split(*rows, form, count, number):
                yield leaf
                count += 1

    def leaves_of(self, problem):
        """The leaves of a problem, whose rows are checked already."""
        weights = None if problem.weights is None else problem.weights.astype(np.float64, copy=False)
        return self._split(problem.X, problem.y, weights, (problem.d, problem.target_shape, problem.lines.dtype))

    def _split(self, X, y, weights, form, first=0, block=0):
        """The leaves of one block, numbered from `first`."""
        n_rows = leaf_rows(X.shape[1] + self.fit_intercept + (y.shape[1] if y.ndim == 2 else 1))
        for number, start in enumerate(range(0, len(X), n_rows), first):
            rows = slice(start, start + n_rows)
            yield Leaf(number, X[rows], y[rows], None if weights is None else weights[rows], form, (block, X, y))

    def run(self, blocks, n_threads=1, look=None):
        """Reduces all blocks."""
        self.take(self.leaves(blocks), n_threads, look)

    def take(self, leaves, n_threads=1, look=None):
        """Adds the leaves and calls `look(leaf)` after each. It compares those that it holds already."""
        held, rows, digest, seen = self.done, 0, "", 0
        skip = self.n_leaves

        def factor_leaf(leaf):
            words = leaf.digest() if self.keeps_digest else None
            return None if leaf.number < skip else factor_rows(*leaf[1:4], self.fit_intercept), words

        def accept(leaf, factored):
            nonlocal rows, digest, seen
            R, words = factored
            seen += 1
            if leaf.number >= skip:
                self.add(leaf, R, words)
                if look is not None:
                    look(leaf)
                return
            rows, digest = rows + leaf.n_rows, extend_digest(digest, words)
            if seen == skip and (rows, digest) != (held.n_rows, held.digest):
                raise ValueError(
                    f"checkpoint holds {held.n_rows} rows of other data, or in other blocks, than these, whose first "
                    f"{seen} blocks have {rows}; give the same blocks again, or delete it"
                )

        map_in_order(factor_leaf, leaves, accept, n_threads)
        if seen < skip:
            raise ValueError(f"checkpoint holds {held.n_rows} rows, but these data have only {rows}")

    def add(self, leaf, R, words):
        """Adds one leaf by its R and its digest's words; ValueError if R is not finite."""
        if not np.isfinite(R).all():
            explain_nonfinite(*leaf.block)
        self.done = (self.done or Reduced(*leaf.form)).with_leaf(leaf, R, words)

    def result(self):
        """The Compressed of the leaves so far, or None."""
        return None if self.done is None else self._as_compressed(self.done.total())

    def _as_compressed(self, R):
        n_features, target_shape, dtype, n_rows, _, total_weight, *_ = self.done
        return Compressed(
            R, n_rows, total_weight, n_features, target_shape, self.fit_intercept, dtype, self.feature_names
        )

    def save(self, path):
        """Writes a checkpoint."""
        done = self.done
        metadata = self._as_compressed(None)._flatten()[1]
        arrays = {f"R{i}": R for i, (_, R) in enumerate(done.levels)}
        metadata |= {"n_leaves": done.n_leaves, "digest": done.digest, "heights": [height for height, _ in done.levels]}
        write_npz(path, "checkpoint", arrays, metadata)
        self.saved = done

    def restore(self, path):
        """Continues from the checkpoint of a reduction of the same form."""

        def build(arrays, metadata):
            n_leaves, digest, heights = (metadata.pop(name) for name in ("n_leaves", "digest", "heights"))
            levels = tuple((height, arrays.pop(f"R{i}")) for i, height in enumerate(heights))
            check_levels(levels, n_leaves, metadata["n_rows"])
            if arrays or type(digest) is not str or len(digest) != 128:
                raise ValueError("it has other parts than a reduction under way")
            part = Compressed._unflatten(join(*[R for _, R in levels]), metadata)
            form = part.n_features, part.target_shape, part.dtype
            return part, Reduced(*form, part.n_rows, n_leaves, part.total_weight, digest, levels)

        part, done = read_npz(path, "checkpoint", build)
        if (part.fit_intercept, part.feature_names) != (self.fit_intercept, self.feature_names):
            raise ValueError(f"{os.fspath(path)} is of a reduction with other columns or intercept; delete it")
        self.saved = self.done = done


def check_block(X, y, sample_weight, number, form):
    """The arrays of a block, which must go with the blocks before it, and the form of all rows so far (see Leaf)."""
    try:
        X = as_matrix(X, "X", convert=False)  # factor_rows converts, one leaf at a time
        y = as_targets(y, len(X))
        weights = None
        if sample_weight is not None:
            weights, _ = as_weights(sample_weight, len(X), np.float64, positive=False)
    except (TypeError, ValueError) as error:
        raise_if_foreign(error)
        if not number:
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


def explain_nonfinite(number, X, y):
    """Raises ValueError for a block whose factor is not finite, by row and column where these are not."""
    where = f"block {number}: " if number else ""
    check_finite(X, f"{where}X")
    check_finite(y, f"{where}y")
    raise ValueError(f"{where}the squares of X and y must be finite")
