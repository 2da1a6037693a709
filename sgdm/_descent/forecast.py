"""Loss and parameters after any number of epochs, without doing them."""

import numpy as np

from .._validation import as_count, ndim_of


def as_epochs(value):
    """A number of epochs, 0 too, or an array (n,) of them."""
    if ndim_of(value, "epochs") == 0:
        zero = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value == 0
        return 0 if zero else as_count(value, "epochs")
    array = np.asarray(value)
    if array.size == 0:
        raise ValueError("epochs must hold at least one number, got none")
    if array.dtype.kind not in "iu":
        raise TypeError(f"epochs must be whole numbers, got dtype {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"epochs must be a whole number or 1-D, got shape {array.shape}")
    if array.min() < 0:
        raise ValueError(f"epochs must not be negative, got {array.min()}")
    return array.astype(np.int64)


class Modes:
    """A least-squares problem in the eigenvectors of its Hessian, where the descent is p independent recurrences.

    Parameters
    ----------
    A : (q, p) array
        Rows with the curvature ``H = 2 A'A / total_weight``.
    B : (q, k) array
        Their targets.
    total_weight : float
    decay : (p,) array
        The weight decay of each parameter.
    start : (p, k) array
        Where the descent starts.

    Notes
    -----
    With e the distance from the penalised optimum along an eigenvector of curvature s, epochs t >= 1 do
    ``(e, v) <- M (e, v)`` with the 2 x 2 matrix M of the update's constants and s, so e after any number of epochs
    takes a power of M: see G. Goh, "Why momentum really works", Distill 2017. We store sigma * e instead of e, since
    computing the optimum would divide by small singular values.
    """

    @np.errstate(all="ignore")  # where the curvature overflows, so do the losses
    def __init__(self, A, B, total_weight, decay, start):
        half = np.sqrt(decay) * np.sqrt(total_weight / 2)
        stacked = np.vstack([A, np.diag(half)[decay > 0]]) if decay.any() else A
        # Singular values of the rows, not eigenvalues of their squares, keep the digits of small curvatures.
        U, sigma, Vt = np.linalg.svd(stacked, full_matrices=False)
        scale = np.sqrt(total_weight)
        # With U the rows of A alone, A a - B = outside + U image, and f(a) = sum((A a - B)**2) / total_weight
        self.U, self.Vt, self.start = U[: len(A)], Vt, start
        optimum = self.U.T @ B
        self.curvature = 2 * (sigma / scale) ** 2
        self.unit = sigma[:, None] / scale  # the image of a step of 1 along each eigenvector
        self.image = (sigma[:, None] * (Vt @ start) - optimum) / scale
        self.outside = (self.U @ optimum - B) / scale
        self.orthogonal = not decay.any()
        # Over the stacked rows, U is orthogonal whatever the penalty: the objective is its least value + sum(image**2)
        self.least = (self.outside**2).sum(0) + ((U[len(A) :] @ optimum / scale) ** 2).sum(0)

    @np.errstate(all="ignore")
    def losses(self, lr, momentum, gradient_weight, nesterov, epochs, penalised=False):
        """f after `epochs` epochs, or with `penalised` the objective; inf where it overflows.

        The constants are arrays of one shape; the losses have that shape + (k,). gradient_weight is 1 - dampening.
        """
        constants = np.broadcast_arrays(lr, momentum, gradient_weight)
        lr, m, gradient_weight = (np.asarray(constant, float)[..., None] for constant in constants)
        s, image = self.curvature, self.image
        if epochs == 0:
            return self._loss(np.broadcast_to(image, (*lr.shape[:-1], *image.shape)), penalised)
        M = _epoch(lr * gradient_weight * s, m, nesterov)
        growth = 1 - lr * s * (gradient_weight + m if nesterov else 1), lr * s  # of e, and lr * v, by the first epoch
        growth, _ = apply_power(M, epochs - 1, growth)
        loss = self._loss(growth[..., None] * image, penalised)
        return np.where(np.isfinite(loss), loss, np.inf)

    @np.errstate(all="ignore")
    def path(self, lr, momentum, gradient_weight, nesterov, epochs):
        """f (n, k) and the parameters (n, p, k) after each of the `epochs` (n,); f is inf where it overflows.

        The distance from the start is followed, not that from the optimum: along the eigenvectors of small curvature
        that would lose the digits of the way done. It starts from 0, and the gradient at the start drives it.
        """
        M = _epoch(lr * gradient_weight * self.curvature, momentum, nesterov)
        pull = lr * gradient_weight * (1 + momentum if nesterov else 1)
        first = np.where(epochs > 0, -lr * (gradient_weight + momentum if nesterov else 1), 0.0)
        zeros = np.zeros((len(epochs), len(self.curvature)))
        x, y = zeros + first[:, None], zeros + lr
        way = apply_powers(M, np.maximum(epochs - 1, 0), x, y, -pull, lr * gradient_weight)
        steps = way[..., None] * (2 * self.unit * self.image)  # the gradient at the start along each eigenvector
        loss = self._loss(self.image + self.unit * steps, False)
        return np.where(np.isfinite(loss), loss, np.inf), self.start + self.Vt.T @ steps

    def _loss(self, image, penalised):
        """f, or the objective, where the distances from the penalised optimum have this image."""
        if penalised or self.orthogonal:  # then `outside` and the columns of U are orthogonal
            return self.least + (image**2).sum(-2)
        return ((self.outside.T + np.tensordot(image, self.U, (-2, 1))) ** 2).sum(-1)


def _epoch(rate, momentum, nesterov):
    """The matrix M of an epoch but the first; rate is lr (1 - dampening) times the curvature."""
    if nesterov:
        return 1 - rate * (1 + momentum), -(momentum**2), rate, momentum
    return 1 - rate, -momentum, rate, momentum


def doublings(M, n):
    """M to the powers 1, 2, 4, ... of the binary digits of n; 2 x 2 matrices as four arrays, row by row."""
    a, b, c, d = M
    while n:
        yield a, b, c, d
        n >>= 1
        if n:
            a, b, c, d = a * a + b * c, b * (a + d), c * (a + d), d * d + b * c


def apply_power(M, n, vector):
    """The n-th powers of 2 x 2 matrices times vectors."""
    x, y = vector
    for digit, (a, b, c, d) in enumerate(doublings(M, n)):
        if n >> digit & 1:
            x, y = a * x + b * y, c * x + d * y
    return x, y


def apply_powers(M, n, x, y, f, g):
    """x after ``(x, y) <- M (x, y) + (f, g)``, n times; x, y and n have a row for each number n. x and y change."""
    for digit, (a, b, c, d) in enumerate(doublings(M, int(n.max()))):
        rows = (n >> digit & 1).astype(bool)
        x[rows], y[rows] = a * x[rows] + b * y[rows] + f, c * x[rows] + d * y[rows] + g
        f, g = a * f + b * g + f, c * f + d * g + g
    return x
