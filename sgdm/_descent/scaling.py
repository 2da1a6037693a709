"""The coordinates of a standardized descent, and what differs between columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._kernel import INVERSE_DEVIATION, MEAN, column_sums
from .._validation import as_flag, as_real, check_finite

_ROUNDING = 4  # times (p + 8) eps times a column's mean: a smaller deviation is rounding
_LEAST = 1e-300  # a deviation whose inverse is sure to be finite


class Scaling(NamedTuple):
    """The coordinates b of a standardized descent: ``b_j = s_j a_j`` and ``b_0 = a_0 + sum_j m_j a_j``.

    means, deviations: m and s, (d,). The means are 0 without an intercept, and the deviations are then those from 0.
    constant: where a column is constant; its deviation is 1, and its gradient 0 but for rounding. Or None.
    """

    means: np.ndarray
    deviations: np.ndarray
    constant: np.ndarray | None = None

    @classmethod
    def of(cls, means, deviations, p):
        """The scaling with these deviations. Columns whose deviation is rounding, or overflows, count as constant."""
        least = np.maximum(_ROUNDING * (p + 8) * np.finfo(float).eps * np.abs(means), _LEAST)
        constant = ~((deviations > least) & (deviations < np.inf))
        return cls(means, np.where(constant, 1.0, deviations), constant)

    def rows(self, A):
        """The rows (n, p) of the problem in b: ``A a = rows(A) b``. With an intercept, its column is the last."""
        d = len(self.means)
        Z = np.array(A, float)
        Z[:, :d] = (Z[:, :d] - Z[:, d:] * self.means if Z.shape[1] > d else Z) / self.deviations
        if self.constant is not None:
            Z[:, :d][:, self.constant] = 0
        return Z

    def decay(self, weight_decay):
        """The weight decay of each b_j, for that of a_j, a number or an array (d,)."""
        return weight_decay / self.deviations / self.deviations  # whose squares may vanish

    def to_coordinates(self, a):
        """b (p, ...), of the parameters a."""
        d = len(self.means)
        b = np.array(a, float)
        b[d:] += np.tensordot(self.means, b[:d], 1)
        b[:d] = (b[:d].T * self.deviations).T
        return b

    def to_parameters(self, b):
        """a (p, ...), of the coordinates b."""
        d = len(self.means)
        a = np.array(b, float)
        a[:d] = (a[:d].T / self.deviations).T
        a[d:] -= np.tensordot(self.means, a[:d], 1)
        return a


@np.errstate(all="ignore")
def scalings_of_rows(lines, by_columns, weights, totals, centred):
    """The scaling of the columns of B problems, its arrays (B, d).

    lines, weights and totals as of the kernel's `Problems`. The columns are shifted by the first row that has weight,
    so that their squares keep their digits.
    """
    rows = lines.swapaxes(1, 2) if by_columns else lines
    B, d = max(len(lines), 1 if weights is None else len(weights)), rows.shape[2]
    shift, unit = np.zeros((B, d)), np.ones((B, d))
    if centred:
        first = np.zeros(B, int) if weights is None else np.argmax(weights > 0, axis=1)
        shift[:] = rows[np.arange(B) if len(rows) > 1 else 0, first]
    sums = column_sums(lines, by_columns, weights, shift, unit)
    if not (np.isfinite(sums[:, 1]) & (sums[:, 1] > 1e-280)).all():  # squares overflowed or vanished, or are zeros
        unit = np.maximum(np.abs(rows.max(axis=1) - shift), np.abs(rows.min(axis=1) - shift)).astype(float)
        unit[~((unit > 0) & (unit < np.inf))] = 1
        sums = column_sums(lines, by_columns, weights, shift, unit)
    mean, square = np.moveaxis(sums, 1, 0) / totals[:, np.newaxis]
    if not centred:
        return Scaling.of(np.zeros((B, d)), unit * np.sqrt(square), d)
    return Scaling.of(shift + unit * mean, unit * np.sqrt(np.maximum(square - mean**2, 0)), d + 1)


def scaling_of_rows(problem):
    """The scaling of a problem's columns."""
    weights = None if problem.weights is None else problem.weights[np.newaxis]
    total = np.array([problem.total_weight])
    lines = problem.lines[np.newaxis]
    scalings = scalings_of_rows(lines, problem.by_columns, weights, total, problem.has_intercept)
    return Scaling(*(array[0] for array in scalings))


class Moments(NamedTuple):
    """The moments of the columns of some rows: the sum of weights, and means and deviations (d,)."""

    weight: float
    means: np.ndarray
    deviations: np.ndarray

    @classmethod
    def of(cls, problem):
        """Those of a problem's rows. A deviation is 0 where the column is constant."""
        means, deviations, constant = scaling_of_rows(problem)
        return cls(problem.total_weight, means, np.where(constant, 0.0, deviations))

    @np.errstate(all="ignore")
    def merged(self, other):
        """Those of both parts' rows."""
        weight = self.weight + other.weight
        share, apart = other.weight / weight, other.means - self.means
        variances = (1 - share) * self.deviations**2 + share * other.deviations**2 + share * (1 - share) * apart**2
        return Moments(weight, self.means + share * apart, np.sqrt(variances))

    def scaling(self):
        """The scaling that these moments give."""
        return Scaling.of(self.means, self.deviations, len(self.means) + 1)


def as_standardize(value):
    """`standardize` as a bool, or as a Scaling whose shapes are still to be checked."""
    if value is True or value is False or isinstance(value, Scaling):
        return value
    if not isinstance(value, (tuple, list, np.ndarray)):
        if value is None or isinstance(value, str):
            raise TypeError(f"standardize must be True, False or (means, deviations), got {value!r:.80}")
        return as_flag(value, "standardize")
    if len(value) != 2:
        raise ValueError(f"standardize must be True, False or (means, deviations), got {len(value)} parts")
    names = "standardize's means", "standardize's deviations"
    parts = [as_real(part, name).astype(float) for part, name in zip(value, names, strict=True)]
    for part, name in zip(parts, names, strict=True):
        if part.ndim != 1:
            raise ValueError(f"{name} must have shape (d,), one for each column, got {part.shape}")
        check_finite(part, name, ("column",))
    if not (parts[1] > _LEAST).all():
        raise ValueError(f"standardize's deviations must be above {_LEAST:g}, got {parts[1].min()}")
    return Scaling(*parts)


def scaling_for(problem, standardize):
    """The scaling of a problem for a checked `standardize`; None for False."""
    if standardize is False:
        return None
    if standardize is True:
        return scaling_of_rows(problem) if problem.method == "direct" else problem.reduction._scaling()
    means, deviations, _ = standardize
    if means.shape != (problem.features,) or deviations.shape != means.shape:
        raise ValueError(
            f"standardize must have {problem.features} means and deviations, got {len(means)} and {len(deviations)}"
        )
    if not problem.has_intercept and standardize.means.any():
        raise ValueError("standardize must have no means where there is no intercept")
    return standardize


def column_terms(scaling, weight_decay, l1, d):
    """What the kernel's `Rows` hold of each of d columns, (COLUMN_TERMS, d); None if the columns don't differ.

    For B problems the penalties have shape (B, 1) or (B, d), and the terms (B, COLUMN_TERMS, d).
    """
    if scaling is None and type(weight_decay) is float and type(l1) is float:
        return None
    terms = [0.0, 1.0, weight_decay, l1]
    if scaling is not None:
        terms[MEAN], terms[INVERSE_DEVIATION] = scaling.means, 1 / scaling.deviations
        if scaling.constant is not None:  # only a penalty can move their coefficients
            terms[INVERSE_DEVIATION] = np.where(scaling.constant & (weight_decay == 0), 0.0, terms[INVERSE_DEVIATION])
    shape = np.broadcast_shapes((d,), *map(np.shape, terms))
    return np.ascontiguousarray(np.stack([np.broadcast_to(term, shape) for term in terms], axis=-2))
