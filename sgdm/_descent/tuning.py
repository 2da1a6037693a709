"""The curvature of a problem, the learning rates it allows, and what the descent will come to with them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .._kernel import Options, Problem, Record, State, advance

_MARGIN = 0.95  # of the stability limit: the curvature is estimated from below, and the limit itself never settles


def stability_limit(curvature, momentum, undamped, nesterov):
    """The learning rate from which on the descent is unstable, given the largest eigenvalue of the Hessian.

    With c = lr (1 - dampening) curvature, the roots of the update's characteristic polynomial lie within the unit
    circle iff c < 2 (1 + momentum); with Nesterov's step, iff c < 2 (1 + momentum) / (1 + 2 momentum). undamped is
    1 - dampening.
    """
    scale = undamped * float(curvature)  # of numpy's floats, a quotient that overflows would warn
    if not scale > 0:  # NaN is 0 times infinity
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
        size = np.abs(product).max() or 1.0  # lest the squares of the norm overflow
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
    parameters = np.zeros((2, problem.p, 1), dtype)
    parameters[0, :, 0] = direction
    state = State(parameters, None, None, np.empty((3, 1)))
    options = Options((0.0, 0.0, 1.0), weight_decay=weight_decay)
    if advance(zeros, options, state, Record(None, None, None), 1) == "diverged":
        return None
    return parameters[1, :, 0].astype(np.float64)


def stable_lr(problem, settings, rates):
    """A learning rate just below the largest stable one for one epoch's rates; None if the curvature overflows.

    For mini-batches, whose curvature changes from one to the next, a safe one: the effective step lr (1 - dampening) /
    (1 - momentum) is kept below the inverse of the roughest row's curvature, as no batch is rougher than that.
    """
    curvature = largest_curvature(problem, settings.weight_decay)
    if curvature is None:
        return None
    _, momentum, undamped = rates
    if 0 < settings.batch_size < problem.n:
        X = problem.lines.T if problem.by_columns else problem.lines
        longest = float(np.einsum("ij,ij->i", X, X, dtype=np.float64).max()) + problem.fit_intercept
        scale = undamped * (2 * longest + settings.weight_decay)
        return _MARGIN * (1 - momentum) / scale if scale > 0 else math.inf
    return _MARGIN * float(stability_limit(curvature, momentum, undamped, settings.nesterov))


def auto_rates(largest, smallest, epochs, momentum, dampening, nesterov):
    """lr, momentum and dampening for lr="auto", from the extreme eigenvalues of the Hessian, L and mu.

    The momentum is the best for a quadratic with condition number kappa = L / mu, unless it is given, and the lr is
    the largest that damps the steepest direction as fast as that momentum can:

    - heavy ball: ((sqrt(kappa) - 1) / (sqrt(kappa) + 1))**2 and (1 + sqrt(momentum))**2 / L, which with this momentum
      is 4 / (sqrt(L) + sqrt(mu))**2 (B. Polyak, Introduction to Optimization, 1987, section 3.2.1);
    - Nesterov: (sqrt(3 kappa + 1) - 2) / (sqrt(3 kappa + 1) + 2) and 4 / (3 L + mu), mu being the one that makes the
      momentum the best (L. Lessard, B. Recht and A. Packard, SIAM J. Optim. 26, 2016, table 1).

    mu is raised to L / K**2 with K = epochs / 9 at least: smaller eigenvalues need more epochs than there are. All of
    this is continuous in the data, so data that differ by rounding get constants that differ by rounding; a search
    for the lowest forecast loss would jump from valley to valley.
    """
    if not largest < math.inf:
        raise ValueError("lr can't be tuned, as the losses overflow whatever it is; scale the columns of X and y down")
    largest = max(float(largest), 1e-300) if largest > 0 else 1.0  # lest its inverse overflow; any lr suits zeros
    kappa = largest / max(float(smallest), largest / max(epochs / 9, 1) ** 2)
    if momentum is None:
        root = math.sqrt(3 * kappa + 1) / 2 if nesterov else math.sqrt(kappa)
        momentum = ((root - 1) / (root + 1)) ** (1 if nesterov else 2)
        dampening = 0.0 if dampening is None else dampening
    kept = 1 - (momentum if dampening is None else dampening)
    if nesterov:
        root = 2 * (1 + momentum) / (1 - momentum)
        lr = 4 / (3 + 3 / (root**2 - 1))
    else:
        lr = (1 + math.sqrt(momentum)) ** 2
    lr = lr / kept if kept > 0 else math.inf
    return min(lr, _settled_lr(lr, epochs, momentum, kept)) / largest, momentum, 1 - kept


def _settled_lr(lr, epochs, momentum, kept):
    """The lr, in units of 1 / L, up to which the swing that the undamped first step starts is over at the end.

    Along the steepest direction a swing begins with at most max(lr, sqrt(lr / kept)) times the distance from the
    optimum, or with lr * epochs times it near the largest lr, where the roots of the recurrence are equal; it shrinks
    by sqrt(momentum) an epoch, and a fifth of the distance may be left. A smaller lr does no harm either if all steps
    together, of a gradient that stays what it was, don't pass the optimum.
    """
    left = momentum ** (epochs / 2)
    share = 0.2 / left if left > 1e-150 else math.inf
    kicks = (1 - momentum**epochs) / (1 - momentum)
    steps = kicks + kept * (epochs - kicks) / (1 - momentum)
    if kept < 1 - momentum:  # too little of the later gradients to turn the first step around
        return 1 / steps
    return max(min(share, kept * share**2, 0.9 * lr), share / epochs, 1 / steps)


class Tuned(NamedTuple):
    """The constants that `tune` chose, and the objective that the descent should reach with them, over all targets."""

    lr: float
    momentum: float
    dampening: float
    objective: float


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
    takes a power of M: see G. Goh, "Why momentum really works", Distill 2017. sigma * e is stored instead of e, since
    computing the optimum would divide by small singular values.
    """

    def __init__(self, A, B, total_weight, penalised, weight_decay, start):
        half = np.sqrt(weight_decay) * np.sqrt(total_weight / 2)
        stacked = np.vstack([A, half * np.eye(len(penalised))[penalised]]) if weight_decay else A
        # Singular values of the rows, not eigenvalues of their squares: small curvatures keep their digits.
        U, sigma, Vt = np.linalg.svd(stacked, full_matrices=False)
        scale = np.sqrt(total_weight)
        # With U the rows of A alone, A a - B = outside + U image, and f(a) = sum((A a - B)**2) / total_weight
        self.U = U[: len(A)]
        optimum = self.U.T @ B
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows has losses that do
            self.curvature = 2 * (sigma / scale) ** 2
            self.image = (sigma[:, None] * (Vt @ start) - optimum) / scale
        self.outside = (self.U @ optimum - B) / scale
        self.orthogonal = not weight_decay
        # Over the stacked rows, U is orthogonal whatever the penalty: the objective is its least value + sum(image**2)
        with np.errstate(over="ignore"):
            self.least = (self.outside**2).sum(0) + ((U[len(A) :] @ optimum / scale) ** 2).sum(0)

    @np.errstate(all="ignore")  # what overflows becomes inf
    def losses(self, lr, momentum, undamped, nesterov, epochs, penalised=False):
        """f after `epochs` epochs for arrays of constants of one shape: that shape + (k,), or with weight decay's
        penalty the objective. inf where it overflows."""
        lr, m, keep = (np.asarray(value, float)[..., None] for value in np.broadcast_arrays(lr, momentum, undamped))
        s, image = self.curvature, self.image
        if epochs == 0:
            return self._loss(np.broadcast_to(image, (*lr.shape[:-1], *image.shape)), penalised)
        rate = lr * keep * s
        M = (1 - rate * (1 + m), -(m**2), rate, m) if nesterov else (1 - rate, -m, rate, m)
        growth = 1 - lr * s * (keep + m if nesterov else 1), lr * s  # of e, and lr * v, by the first epoch
        growth, _ = apply_power(M, epochs - 1, growth)
        loss = self._loss(growth[..., None] * image, penalised)
        return np.where(np.isfinite(loss), loss, np.inf)

    def _loss(self, image, penalised):
        """f, or the objective, where the distances from the penalised optimum have this image."""
        if penalised or self.orthogonal:  # then what is outside is orthogonal to U, and U's columns to each other
            return self.least + (image**2).sum(-2)
        return ((self.outside.T + np.tensordot(image, self.U, (-2, 1))) ** 2).sum(-1)


def apply_power(M, n, vector):
    """The n-th powers of 2 x 2 matrices, each of four arrays (row by row), times vectors, by repeated squaring."""
    a, b, c, d = M
    x, y = vector
    while n:
        if n & 1:
            x, y = a * x + b * y, c * x + d * y
        a, b, c, d = a * a + b * c, b * (a + d), c * (a + d), d * d + b * c
        n >>= 1
    return x, y


# The search for the best constants: how far apart the first points are, in log(lr) and in -log(1 - momentum); how many
# valleys are followed; how often a step is taken or halved; and how many modes are computed at once, for the cache.
_LR_STEP, _MOMENTUM_STEP, _FOLLOWED, _SETTLE, _FOLLOW, _AT_ONCE = 0.125, 0.25, 16, 24, 16, 1 << 16


def tune(modes, epochs, momentum, dampening, nesterov):
    """The constants with the lowest forecast loss after `epochs` epochs; momentum None chooses that too."""
    forms = [0.0, None] if dampening is None and momentum is None else [dampening]  # None: as momentum
    return min(
        (tune_form(modes, epochs, momentum, form, nesterov) for form in forms), key=lambda tuned: tuned.objective
    )


def tune_form(modes, epochs, momentum, dampening, nesterov):
    """`tune` for one dampening, None being that of a moving average.

    It is the objective that counts: of the loss alone, the best would be to pass by the unpenalised optimum.

    Over x and z, which stand for lr and momentum, the loss has many narrow, curved valleys: in them the steepest
    directions come out right at the last epoch. So lr is settled for each of many momenta first, from every minimum of
    a coarse grid; then the best of these are followed along z, lr being settled anew at every step.
    """
    top = max(modes.curvature[0], 1e-300) if modes.curvature[0] > 0 else 1.0  # lest its inverse overflow

    def constants(x, z):
        m = 1 - np.exp(-z) if momentum is None else np.full(x.shape, momentum)
        keep = 1 - (m if dampening is None else np.full(x.shape, dampening))
        limit = 2 * (1 + m) / ((1 + 2 * m if nesterov else 1) * top)
        with np.errstate(over="ignore"):
            return np.exp(x) * limit / np.where(keep > 0, keep, 1), m, keep

    def loss(x, z):
        at_once = max(1, _AT_ONCE // modes.image.size)
        cuts = [slice(i, i + at_once) for i in range(0, len(x), at_once)]
        losses = [modes.losses(*constants(x[cut], z[cut]), nesterov, epochs, True) for cut in cuts]
        with np.errstate(over="ignore"):
            return np.concatenate(losses).sum(-1)

    def settle(x, z):
        """The nearest minimum over x for each z, by steps that are halved where neither side is lower; its loss."""
        lowest, step = loss(x, z), np.full(x.shape, _LR_STEP / 2)
        for _ in range(_SETTLE):
            sides = np.array([x - step, x + step])
            there = loss(sides.ravel(), np.tile(z, 2)).reshape(sides.shape)
            better = there.min(0) < lowest
            x = np.where(better, np.where(there[0] <= there[1], *sides), x)
            lowest, step = np.fmin(lowest, there.min(0)), np.where(better, step, step / 2)
        return x, lowest

    # The first step is not dampened: its scale must be in reach, however small the others are.
    low = -9 + math.log(constants(np.zeros(1), np.zeros(1))[2][0] or 1)
    if momentum is None:
        x, z = np.meshgrid(np.arange(low, 9, _LR_STEP), np.arange(0, 10, _MOMENTUM_STEP))
    else:
        x, z = np.meshgrid(np.arange(low, 9, _LR_STEP / 16), np.zeros(1))
    coarse = loss(x.ravel(), z.ravel()).reshape(x.shape)
    beside = np.pad(coarse, ((0, 0), (1, 1)), constant_values=np.inf)
    dips = (coarse <= beside[:, :-2]) & (coarse <= beside[:, 2:]) & np.isfinite(coarse)
    if not dips.any():
        raise ValueError("lr can't be tuned, as the losses overflow whatever it is; scale the columns of X and y down")
    x, lowest = settle(x[dips], z[dips])
    z = z[dips]
    if momentum is None:
        best = np.argsort(lowest)[:_FOLLOWED]
        x, z, lowest, step = x[best], z[best], lowest[best], np.full(len(best), _MOMENTUM_STEP / 2)
        for _ in range(_FOLLOW):
            sides = np.maximum([z - step, z + step], 0)
            x_there, there = (array.reshape(sides.shape) for array in settle(np.tile(x, 2), sides.ravel()))
            better = there.min(0) < lowest
            left = there[0] <= there[1]
            x, z = np.where(better, np.where(left, *x_there), x), np.where(better, np.where(left, *sides), z)
            lowest, step = np.fmin(lowest, there.min(0)), np.where(better, step, step / 2)
    i = int(lowest.argmin())
    lr, m, keep = (float(value[0]) for value in constants(x[i : i + 1], z[i : i + 1]))
    return Tuned(lr, m, 1 - keep, float(lowest[i]))
