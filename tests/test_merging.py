"""Reductions of parts merge into that of the whole, in any order; leaves and threads change no bit."""

import functools
import itertools
import operator
import re

import numpy as np
import pytest
from helpers import (
    assert_same_descent,
    assert_same_factor,
    ignore_far,
    intercepts,
    layouts,
    make_data,
)

import sgdm
from sgdm import Compressed, compress
from sgdm._reduction.leaves import Reduction

pytestmark = ignore_far
X60, Y60 = make_data()
REDUCED = compress(X60, Y60)


@pytest.mark.parametrize("targets", [None, 2])
@intercepts
def test_parts_merge_into_the_whole(fit_intercept, targets):
    """In any order and grouping, weights split anywhere: the same factor to rounding; in the same order: its bits."""
    X, y = make_data(n=300, targets=targets)
    weights = np.random.default_rng(1).uniform(0, 2, 300)

    def part(rows):
        return compress(X[rows], y[rows], sample_weight=weights[rows], fit_intercept=fit_intercept)

    whole = part(slice(None))
    rng = np.random.default_rng(2)
    for count in (1, 2, 3, 4, 5, 7, 16, 300):
        cuts = [0, *sorted(rng.choice(np.arange(1, 300), count - 1, replace=False)), 300]
        parts = [part(slice(a, b)) for a, b in itertools.pairwise(cuts)]
        for order in (parts, parts[::-1], [parts[i] for i in rng.permutation(count)]):
            sums = [sum(order), functools.reduce(operator.add, order), Compressed.merge(order)]
            sums.append(functools.reduce(lambda a, b: b + a, order))
            for merged in sums:
                assert_same_factor(merged, whole)
            assert sums[0] == sums[1]
            assert Compressed.merge(iter(order)) == sums[2]
    split = rng.uniform(0, 1, 300) * weights
    halves = (compress(X, y, sample_weight=w, fit_intercept=fit_intercept) for w in (split, weights - split))
    both = sum(halves)
    both.n_rows = 300
    assert_same_factor(both, whole)
    assert_same_descent(both.fit(), whole.fit(), 1e-12)


@layouts
@pytest.mark.parametrize("n", [79, 80, 81, 1000])
def test_threads_reduce_to_the_same_bits(small_leaves, n, order):
    X, y = make_data(n, order=order)
    weights = np.linspace(0, 1, n)
    one = compress(X, y, sample_weight=weights)
    for threads in (2, 3, 8):
        assert compress(X, y, sample_weight=weights, n_threads=threads) == one
        fits = (sgdm.fit(X, y, sample_weight=weights, method="compress", n_threads=t) for t in (1, threads))
        assert next(fits) == next(fits)
    leaves = list(Reduction(False, None).leaves([(X, y, None)]))
    assert len(leaves) > (1 if n < 100 else 10)


def test_leaves_change_rounding_only(small_leaves, monkeypatch):
    X, y = make_data(1000, targets=2)
    small = compress(X, y, fit_intercept=True)
    monkeypatch.undo()
    assert_same_factor(small, compress(X, y, fit_intercept=True))


def test_parts_of_other_problems_are_refused():
    X, y = X60, Y60
    others = [compress(X[:, :3], y), compress(X, y[:, None]), compress(X, y, fit_intercept=True)]
    others.append(compress(X.astype(np.float32), y.astype(np.float32)))
    others.append(compress(X, y))
    others[-1].feature_names = tuple("abcde")
    for other in others:
        with pytest.raises(
            ValueError, match="both parts must have the same features, targets, intercept and dtype, got"
        ):
            REDUCED + other
        with pytest.raises(ValueError, match=re.escape(repr(REDUCED))):
            Compressed.merge([other, REDUCED])
    for other in (1, None, X):
        with pytest.raises(TypeError):
            REDUCED + other
    with pytest.raises(TypeError):
        1 + REDUCED
    with pytest.raises(ValueError, match="parts must hold at least one Compressed, got none"):
        Compressed.merge([])
    for parts in (["x"], [REDUCED, None], [X], iter([REDUCED, 0])):
        with pytest.raises(TypeError, match=r"^parts must hold Compressed alone, got "):
            Compressed.merge(parts)
    for parts in (None, 5, REDUCED):
        with pytest.raises(TypeError, match=r"^parts must be an iterable of Compressed, got "):
            Compressed.merge(parts)
