"""A reduction under way: leaves of rows, the tree that joins their factors, and its checkpoint."""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

import numpy as np

from .._files import read_npz, write_npz
from .._kernel import mix
from .._results.checks import check_levels
from .._validation import as_matrix, as_targets, as_weights, check_finite, pass_on
from .._workers import map_in_order
from .compressed import Compressed
from .factor import factor_rows, join, leaf_rows

_DIGEST = np.arange(1, 9, dtype=np.uint64)  # that of nothing; zeros would stay zeros


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
        pass_on(error)
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
