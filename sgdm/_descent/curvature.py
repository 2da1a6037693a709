"""The curvature of a problem, and the learning rates that it allows."""

import math

import numpy as np

from .._kernel import METRICS, Options, Record, Rows, State, advance
from .scaling import column_terms

# `stable_lr` is this share of the limit: the curvature is estimated from below, and at the limit nothing converges.
STABLE_MARGIN = 0.95
_ROWS_AT_ONCE = 1_000_000  # elements of X that row_curvature takes together


def stability_limit(curvature, momentum, gradient_weight, nesterov):
    """The learning rate from which on the descent is unstable, given the largest eigenvalue of the Hessian.

    gradient_weight is 1 - dampening. With c = lr gradient_weight curvature, the roots of the update's characteristic
    polynomial lie within the unit circle iff c < 2 (1 + momentum); with Nesterov's step, iff
    c < 2 (1 + momentum) / (1 + 2 momentum).
    """
    scale = gradient_weight * float(curvature)  # a numpy float would warn where the quotient overflows
    if not scale > 0:  # NaN is 0 times infinity
        return math.inf
    return 2 * (1 + momentum) / ((1 + 2 * momentum if nesterov else 1) * scale)


def largest_curvature(problem, weight_decay=0.0, steps=40):
    """The largest eigenvalue of H = 2 [X, 1]' W [X, 1] / sum(w) + weight_decay, from below; None if it overflows.

    A problem with a scaling has the H of its coordinates. By Lanczos' iteration with full reorthogonalisation (Golub
    and Van Loan, Matrix Computations, section 10.1). It converges much faster than power iteration, and is exact after
    p steps at most.
    """
    columns = column_terms(problem.scaling, weight_decay, 0.0, problem.features)
    rows = Rows(problem.with_targets(np.zeros((1, problem.n), problem.lines.dtype)), columns=columns)
    options = Options((0.0, 0.0, 1.0), weight_decay=weight_decay)
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((1, problem.p))
    basis /= np.linalg.norm(basis)
    diagonal, off_diagonal = [], []
    largest = 0.0
    for _ in range(min(steps, problem.p)):
        product = hessian_product(rows, basis[-1], options, problem.scaling)
        if product is None:
            return None
        diagonal.append(basis[-1] @ product)
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1))
        largest = max(values[-1], 0.0)
        size = np.abs(product).max() or 1.0  # so that the norm's squares don't overflow
        product /= size
        for _ in range(2):  # twice is enough
            product = product - basis.T @ (basis @ product)
        norm = np.linalg.norm(product)
        residual = size * norm
        if residual * abs(vectors[-1, -1]) <= 1e-3 * largest:
            break
        basis = np.vstack([basis, product / norm])
        off_diagonal.append(residual)
    return float(largest)


def hessian_product(rows, direction, options, scaling):
    """H @ direction for rows whose targets are 0: the first step of a fit from there. None if it overflows."""
    parameters = np.zeros((2, rows.problem.p, 1), rows.problem.lines.dtype)
    parameters[0, :, 0] = direction if scaling is None else scaling.to_parameters(direction)
    state = State(parameters, None, None, np.empty((METRICS, 1)))
    if advance(rows, options, state, Record(None, None, None), 1) == "diverged":
        return None
    product = parameters[1, :, 0].astype(np.float64)
    return product if scaling is None else scaling.to_coordinates(product)


def row_curvature(problem, weight_decay):
    """The largest curvature of a single row that has weight, in the coordinates of the problem's scaling: twice its
    squared norm, the intercept's 1 included, plus the largest weight decay."""
    X, weights, scaling, longest = problem.X, problem.weights, problem.scaling, 0.0
    at_once = max(1, _ROWS_AT_ONCE // problem.d)
    for start in range(0, problem.n, at_once):
        rows = X[start : start + at_once]
        if weights is not None:
            rows = rows[weights[start : start + at_once] > 0]
        if scaling is not None:
            rows = (rows[:, : problem.features] - scaling.means) / scaling.deviations
        longest = float(np.einsum("ij,ij->i", rows, rows, dtype=np.float64).max(initial=longest))
    decay = weight_decay if scaling is None else scaling.decay(weight_decay)
    return 2 * (longest + problem.has_intercept) + float(np.max(decay))


def batch_curvature(problem, weight_decay, batch_size):
    """Twice the expected curvature of a mini-batch. Its inverse is a stable step of plain SGD.

    With b of n rows, L the curvature of all rows and M that of the longest row, it is
    2 (n (b - 1) L + (n - b) M) / (b (n - 1)): R. Gower et al., SGD: general analysis and improved rates, ICML 2019. The
    formula is for rows of equal weight.
    """
    n, b = problem.n, min(batch_size, problem.n)
    whole = largest_curvature(problem, weight_decay)
    row = row_curvature(problem, weight_decay)
    if whole is None or n == 1:
        return math.inf if whole is None else 2 * row
    return 2 * (n * (b - 1) * whole + (n - b) * row) / (b * (n - 1))


def stable_lr(problem, options, rates):
    """A learning rate just below the largest stable one for these rates of an epoch; None if the curvature overflows.

    The curvature changes from one mini-batch to the next, but no batch has a larger one than the longest row. For
    mini-batches the effective step lr (1 - dampening) / (1 - momentum) is below the inverse of that row's curvature.
    """
    curvature = largest_curvature(problem, options.weight_decay)
    if curvature is None:
        return None
    _, momentum, gradient_weight = rates
    if 0 < options.batch_size < problem.n:
        scale = gradient_weight * row_curvature(problem, options.weight_decay)
        return STABLE_MARGIN * (1 - momentum) / scale if scale > 0 else math.inf
    return STABLE_MARGIN * float(stability_limit(curvature, momentum, gradient_weight, options.nesterov))
