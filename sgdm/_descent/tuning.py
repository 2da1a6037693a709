"""The constants for lr="auto", and the search for better ones (`Compressed.tune`)."""

import math
from typing import NamedTuple

import numpy as np

from .curvature import stability_limit

_OVERFLOW = "lr can't be tuned, as the losses overflow whatever it is; scale the columns of X and y down"


def _positive(curvature):
    """The curvature, raised if need be, so that its inverse is finite; 1 if it is 0, where any lr will do."""
    return max(float(curvature), 1e-300) if curvature > 0 else 1.0


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
        raise ValueError(_OVERFLOW)
    largest = _positive(largest)
    kappa = largest / max(float(smallest), largest / max(epochs / 9, 1) ** 2)
    if momentum is None:
        root = math.sqrt(3 * kappa + 1) / 2 if nesterov else math.sqrt(kappa)
        momentum = ((root - 1) / (root + 1)) ** (1 if nesterov else 2)
        dampening = 0.0 if dampening is None else dampening
    gradient_weight = 1 - (momentum if dampening is None else dampening)
    if nesterov:
        best_root = 2 * (1 + momentum) / (1 - momentum)  # sqrt(3 kappa + 1) of the kappa that this momentum is best for
        lr = 4 / (3 + 3 / (best_root**2 - 1))
    else:
        lr = (1 + math.sqrt(momentum)) ** 2
    lr = lr / gradient_weight if gradient_weight > 0 else math.inf
    return min(lr, _settled_lr(lr, epochs, momentum, gradient_weight)) / largest, momentum, 1 - gradient_weight


def steady_rates(curvature, momentum, dampening, nesterov):
    """lr, momentum and dampening with which nothing swings along directions of at most this curvature.

    The roots of the update's characteristic polynomial are real for every smaller curvature. Momentum is 0 unless it is
    given: at such a rate it speeds nothing up.
    """
    if not curvature < math.inf:
        raise ValueError(_OVERFLOW)
    if momentum is None:
        momentum, dampening = 0.0, 0.0 if dampening is None else dampening
    gradient_weight = 1 - (momentum if dampening is None else dampening)
    root = (1 - momentum) / (1 + momentum) if nesterov else 1 - math.sqrt(momentum)
    lr = root**2 / max(gradient_weight, root**2)  # at most 1, for the first step, which is not dampened
    return lr / _positive(curvature), momentum, 1 - gradient_weight


def _settled_lr(lr, epochs, momentum, gradient_weight):
    """The largest lr, in units of 1 / L, with which the swing that the undamped first step starts is over at the end.

    gradient_weight is 1 - dampening. Along the steepest direction the swing begins with at most
    max(lr, sqrt(lr / gradient_weight)) times the distance from the optimum; near the largest lr, where the roots of the
    recurrence are equal, with lr * epochs times that distance. It shrinks by sqrt(momentum) an epoch, and a fifth of
    the distance may be left. An lr also does no harm if all steps together, of a constant gradient, don't pass the
    optimum.
    """
    left = momentum ** (epochs / 2)
    share = 0.2 / left if left > 1e-150 else math.inf
    kicks = (1 - momentum**epochs) / (1 - momentum)
    steps = kicks + gradient_weight * (epochs - kicks) / (1 - momentum)
    if gradient_weight < 1 - momentum:  # later gradients are too weak to turn the first step around
        return 1 / steps
    return max(min(share, gradient_weight * share**2, 0.9 * lr), share / epochs, 1 / steps)


class Tuned(NamedTuple):
    """The constants that `Compressed.tune` found; ``lr, momentum, dampening, objective = tuned`` unpacks them.

    Attributes
    ----------
    lr : float
        The learning rate.
    momentum : float
        The momentum.
    dampening : float
        The dampening.
    objective : float
        The forecast objective at the end, summed over the targets.
    """

    lr: float
    momentum: float
    dampening: float
    objective: float


# The search for the best constants: the distances of the first points in log(lr) and in -log(1 - momentum); how many
# minima are settled, in _LR_STEPS steps each; the best 16 of these, then the best 4 of those, are followed for
# _MOMENTUM_STEPS steps.
_LR_STEP, _MOMENTUM_STEP, _SETTLED, _FOLLOWED, _LR_STEPS, _MOMENTUM_STEPS = 0.125, 0.25, 128, (16, 4), 8, 8


def best_constants(modes, epochs, momentum, dampening, nesterov):
    """The constants with the lowest forecast objective after `epochs` epochs; momentum None chooses that too."""
    forms = [0.0, None] if dampening is None and momentum is None else [dampening]  # None: as momentum
    searches = [_Search(modes, epochs, momentum, form, nesterov).run() for form in forms]
    return min(searches, key=lambda tuned: tuned.objective)


class _Search:
    """`best_constants` for one dampening; None is that of a moving average, the momentum.

    The objective is minimised, not the loss: the lowest loss would be that of a descent on its way past the unpenalised
    optimum.

    x stands for lr and z for the momentum. Over these the objective has many narrow, curved valleys, in which the
    steepest directions come out right at the last epoch. So the search first settles the lr at the lowest minima of a
    coarse grid, for each of many momenta. Then it follows the best of these along z, and settles the lr at every step.
    """

    def __init__(self, modes, epochs, momentum, dampening, nesterov):
        self.modes, self.epochs, self.nesterov = modes, epochs, nesterov
        self.momentum, self.dampening = momentum, dampening
        self.largest = _positive(modes.curvature[0])

    def constants(self, x, z):
        """lr, momentum and 1 - dampening."""
        m = 1 - np.exp(-z) if self.momentum is None else np.full(x.shape, self.momentum)
        gradient_weight = 1 - (m if self.dampening is None else np.full(x.shape, self.dampening))
        limit = stability_limit(self.largest, m, 1.0, self.nesterov)
        return np.exp(x) * limit / np.where(gradient_weight > 0, gradient_weight, 1), m, gradient_weight

    def objective(self, x, z):
        """The forecast objectives, summed over the targets."""
        return self.modes.objectives(*self.constants(x, z), self.nesterov, self.epochs)

    @np.errstate(all="ignore")
    def settle(self, x, z):
        """The nearest minimum over x for each z, and its objective.

        A step compares x, a point to each side, and the vertex of the parabola through these three. If a side is lower
        than x, it compares a point three times as far to that side instead of the vertex, and the next step is longer.
        """
        lowest, step, all_x = self.objective(x, z), np.full(x.shape, _LR_STEP / 2), np.arange(len(x))
        for _ in range(_LR_STEPS):
            left, right = self.objective(np.concatenate([x - step, x + step]), np.tile(z, 2)).reshape(2, -1)
            between = np.minimum(left, right) >= lowest
            vertex = np.nan_to_num((left - right) / (left - 2 * lowest + right) / 2)  # NaN: inf, or all equal
            fourth = x + step * np.where(between, vertex, np.where(left < right, -3, 3))
            points, values = [x, x - step, x + step, fourth], [lowest, left, right, self.objective(fourth, z)]
            best = np.argmin(values, axis=0), all_x
            x, lowest, step = np.array(points)[best], np.array(values)[best], np.where(between, step / 8, 3 * step)
        return x, lowest

    def minima(self):
        """The lowest of the minima over x on a coarse grid."""
        # The first step is not dampened: its scale must be in reach, however small the others are.
        low = -9 + math.log(self.constants(np.zeros(1), np.zeros(1))[2][0] or 1)
        if self.momentum is None:
            x, z = np.meshgrid(np.arange(low, 9, _LR_STEP), np.arange(0, 10, _MOMENTUM_STEP))
        else:
            x, z = np.meshgrid(np.arange(low, 9, _LR_STEP / 16), np.zeros(1))
        coarse = self.objective(x.ravel(), z.ravel()).reshape(x.shape)
        beside = np.pad(coarse, ((0, 0), (1, 1)), constant_values=np.inf)
        minima = (coarse <= beside[:, :-2]) & (coarse <= beside[:, 2:]) & np.isfinite(coarse)
        if not minima.any():
            raise ValueError(_OVERFLOW)
        lowest = np.argsort(coarse[minima], kind="stable")[:_SETTLED]
        return x[minima][lowest], z[minima][lowest]

    def run(self):
        """The best constants."""
        x, z = self.minima()
        x, lowest = self.settle(x, z)
        step = np.full(len(x), _MOMENTUM_STEP / 2)
        for followed in _FOLLOWED if self.momentum is None else ():
            best = np.argsort(lowest, kind="stable")[:followed]
            x, z, lowest, step = x[best], z[best], lowest[best], step[best]
            for _ in range(_MOMENTUM_STEPS):
                sides = np.maximum([z - step, z + step], 0)
                settled = self.settle(np.tile(x, 2), sides.ravel())
                x_sides, values = (array.reshape(sides.shape) for array in settled)
                better, left = values.min(0) < lowest, values[0] <= values[1]
                x = np.where(better, np.where(left, *x_sides), x)
                z = np.where(better, np.where(left, *sides), z)
                lowest, step = np.minimum(lowest, values.min(0)), np.where(better, step, step / 2)
        i = int(lowest.argmin())
        lr, m, gradient_weight = (float(value[0]) for value in self.constants(x[i : i + 1], z[i : i + 1]))
        return Tuned(lr, m, 1 - gradient_weight, float(lowest[i]))
