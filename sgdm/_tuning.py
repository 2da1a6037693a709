"""The curvature of a problem, and the learning rates it allows."""

from __future__ import annotations

import math

import numpy as np

from ._kernel import Problem, Record, Settings, State, advance

_MARGIN = 0.95  # of the stability limit: the curvature is estimated from below, and the limit itself never settles


def stability_limit(curvature, momentum, undamped, nesterov):
    """The learning rate from which on the descent is unstable, given the largest eigenvalue of the Hessian.

    With c = lr (1 - dampening) curvature, the roots of the update's characteristic polynomial lie within the unit
    circle iff c < 2 (1 + momentum); with Nesterov's step, iff c < 2 (1 + momentum) / (1 + 2 momentum). undamped is
    1 - dampening.
    """
    scale = undamped * curvature
    if scale <= 0:
        return math.inf
    return 2 * (1 + momentum) / ((1 + 2 * momentum if nesterov else 1) * scale)


def largest_curvature(problem, weight_decay=0.0, steps=40):
    """The largest eigenvalue of H = 2 [X, 1]' W [X, 1] / sum(w) + weight_decay, from below; None if X overflows it.

    Lanczos' iteration with full reorthogonalisation (Golub and Van Loan, Matrix Computations, section 10.1), which
    converges much faster than power iteration from the same products: exact after p steps at most.
    """
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((1, problem.p))
    basis /= np.linalg.norm(basis)
    diagonal, off_diagonal = [], []
    largest = 0.0
    for _ in range(min(steps, problem.p)):
        product = hessian_product(problem, basis[-1], weight_decay)
        if product is None:
            return None
        diagonal.append(basis[-1] @ product)
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1))
        largest = max(values[-1], 0.0)
        for _ in range(2):  # twice is enough
            product = product - basis.T @ (basis @ product)
        residual = np.linalg.norm(product)
        if residual * abs(vectors[-1, -1]) <= 1e-3 * largest:
            break
        basis = np.vstack([basis, product / residual])
        off_diagonal.append(residual)
    return float(largest)


def hessian_product(problem, direction, weight_decay):
    """H @ direction: the first step of a fit to y = 0 that starts there. None if it is not finite."""
    dtype = problem.lines.dtype
    zeros = Problem(
        problem.lines,
        problem.by_columns,
        np.zeros((1, problem.n), dtype),
        problem.weights,
        problem.total_weight,
        problem.fit_intercept,
    )
    start = np.array(direction, dtype).reshape(-1, 1)
    state = State(start, np.zeros_like(start), None, None, np.empty((4, 1)))
    record = Record(None, None, None, np.empty((1, problem.p, 1), dtype), None)
    settings = Settings(np.array([[0.0, 0.0, 1.0]]), weight_decay=weight_decay)
    if advance(zeros, settings, state, record, 1) == "diverged":
        return None
    return record.step[0, :, 0].astype(np.float64)


def stable_lr(problem, settings, rates):
    """A learning rate just below the largest stable one for one epoch's rates; None if the curvature overflows.

    A mini-batch is rougher than all rows together: its curvature is taken as the expected smoothness of R. Gower et
    al., "SGD: general analysis and improved rates" (ICML 2019), section 3.3, which lies between that of the whole
    problem and that of its longest row.
    """
    curvature = largest_curvature(problem, settings.weight_decay)
    if curvature is None:
        return None
    n, b = problem.n, settings.batch_size
    if 0 < b < n:
        X = problem.lines.T if problem.by_columns else problem.lines
        longest = 2 * (float(np.einsum("ij,ij->i", X, X).max()) + problem.fit_intercept)
        curvature = (n * (b - 1) * curvature + (n - b) * longest) / (b * (n - 1))
    _, momentum, undamped = rates
    return _MARGIN * float(stability_limit(curvature, momentum, undamped, settings.nesterov))
