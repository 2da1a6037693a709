"""The curvature of a problem, the learning rates it allows, and what the descent will come to with them."""

from __future__ import annotations

import math
from typing import NamedTuple

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
        problem.features,
        problem.triangular,
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


class Tuned(NamedTuple):
    """The constants that `tune` chose, and the objective that the descent should reach with them, over all targets."""

    lr: float
    momentum: float
    dampening: float
    loss: float


class Modes:
    """A least-squares problem in the eigenvectors of its Hessian, where the descent is p independent recurrences.

    Parameters
    ----------
    A : (q, p) array
        Rows with the curvature ``H = 2 A'A / total_weight``.
    B : (q, k) array
        Their targets.
    total_weight : float
    penalised : (p,) array of bool
        The parameters that weight decay acts on.
    weight_decay : float
    start : (p, k) array
        Where the descent starts.

    Notes
    -----
    With e the distance from the penalised optimum along an eigenvector of curvature s, epochs t >= 1 do
    ``(e, v) <- M (e, v)`` with the 2 x 2 matrix M of the update's constants and s, so e after any number of epochs
    takes a power of M: see G. Goh, "Why momentum really works", Distill 2017.
    """

    def __init__(self, A, B, total_weight, penalised, weight_decay, start):
        half = np.sqrt(weight_decay * total_weight / 2)
        stacked = np.vstack([A, half * np.eye(len(penalised))[penalised]]) if weight_decay else A
        targets = np.vstack([B, np.zeros((len(stacked) - len(B), B.shape[1]))])
        # Singular values of the rows, not eigenvalues of their squares: small curvatures keep their digits.
        U, sigma, Vt = np.linalg.svd(stacked, full_matrices=False)
        known = sigma > sigma[0] * len(penalised) * np.finfo(float).eps if sigma[0] > 0 else np.zeros(len(sigma), bool)
        inverse = np.where(known, 1 / np.where(known, sigma, 1), 0)
        fixed = Vt.T @ (inverse[:, None] * (U.T @ targets))
        self.curvature = 2 * sigma**2 / total_weight
        self.distance = Vt @ (start - fixed)
        # f(a) = sum((A a - B)**2) / total_weight at a = fixed + V e, as constant + linear(e) + |A V e|^2
        residual = A @ fixed - B
        self.constant = (residual**2).sum(0) / total_weight
        self.images = A @ Vt.T / np.sqrt(total_weight)
        self.residual = residual / np.sqrt(total_weight)
        self.orthogonal = not weight_decay

    def losses(self, lr, momentum, undamped, nesterov, epochs):
        """f after `epochs` epochs for arrays of constants of one shape: that shape + (k,). inf where it overflows."""
        lr, m, keep = (np.asarray(value, float)[..., None] for value in np.broadcast_arrays(lr, momentum, undamped))
        s, e = self.curvature, self.distance
        with np.errstate(over="ignore", invalid="ignore"):
            if epochs == 0:
                return self._loss(np.broadcast_to(e, (*lr.shape[:-1], *e.shape)))
            first = lr * s * (keep + m if nesterov else 1)
            bite = lr * keep * s
            M = np.empty((*np.broadcast_shapes(lr.shape, s.shape), 2, 2))
            M[..., 0, 0] = 1 - bite * (1 + m) if nesterov else 1 - bite
            M[..., 0, 1] = -(m**2 if nesterov else m)
            M[..., 1, 0] = bite
            M[..., 1, 1] = m
            power = matrix_power(M, epochs - 1)
            growth = power[..., 0, 0] * (1 - first) + power[..., 0, 1] * lr * s  # with lr * v in place of v
            loss = self._loss(growth[..., None] * e)
        return np.where(np.isfinite(loss), loss, np.inf)

    def _loss(self, e):
        """f at fixed + V e."""
        if self.orthogonal:  # then the residual is orthogonal to the images, and these to each other
            return self.constant + (self.curvature[:, None] / 2 * e**2).sum(-2)
        image = self.images @ e
        return ((self.residual + image) ** 2).sum(-2)


def matrix_power(M, n):
    """The n-th power of each matrix, by repeated squaring."""
    power = np.broadcast_to(np.eye(2), M.shape)
    while n:
        if n & 1:
            power = power @ M
        M = M @ M
        n >>= 1
    return power


def tune(modes, epochs, momentum, dampening, nesterov):
    """The constants with the lowest forecast loss after `epochs` epochs; momentum None chooses that too.

    A coarse grid over lr, by the stability limit, and momentum, then finer ones around its best points.
    """
    top = max(modes.curvature[0], np.finfo(float).tiny)
    forms = [0.0, None] if dampening is None and momentum is None else [dampening]  # None: as momentum
    best = Tuned(0.0, 0.0, 0.0, math.inf)
    for form in forms:

        def constants(x, z, form=form):
            m = np.broadcast_to(momentum, x.shape) if momentum is not None else 1 - np.exp(-z)
            keep = 1 - (m if form is None else np.broadcast_to(form, x.shape))
            limit = 2 * (1 + m) / ((1 + 2 * m if nesterov else 1) * top)
            return np.exp(x) * limit / keep, m, keep

        def objective(x, z):
            return modes.losses(*constants(x, z), nesterov, epochs).sum(-1)

        x, z = np.meshgrid(np.linspace(-9, 9, 73), np.linspace(0, 10, 41) if momentum is None else [0.0])
        loss = objective(x, z)
        for start in np.argsort(loss, axis=None)[:6]:
            at, width = np.array([x.flat[start], z.flat[start]]), np.array([0.25, 0.25])
            lowest = loss.flat[start]
            for _ in range(40):
                near_x, near_z = np.meshgrid(
                    at[0] + width[0] * np.linspace(-1, 1, 7),
                    np.maximum(at[1] + width[1] * np.linspace(-1, 1, 7), 0) if momentum is None else [0.0],
                )
                near = objective(near_x, near_z)
                i = int(near.argmin())
                if near.flat[i] < lowest:
                    lowest, at = near.flat[i], np.array([near_x.flat[i], near_z.flat[i]])
                else:
                    width = width / 2
            if lowest < best.loss:
                lr, m, keep = (float(value) for value in constants(*map(np.asarray, at)))
                best = Tuned(lr, m, 1 - keep, float(lowest))
    return best
