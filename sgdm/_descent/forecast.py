"""The loss after any number of epochs, without doing them."""

import numpy as np


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
        self.U = U[: len(A)]
        optimum = self.U.T @ B
        self.curvature = 2 * (sigma / scale) ** 2
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
        rate = lr * gradient_weight * s
        M = (1 - rate * (1 + m), -(m**2), rate, m) if nesterov else (1 - rate, -m, rate, m)
        growth = 1 - lr * s * (gradient_weight + m if nesterov else 1), lr * s  # of e, and lr * v, by the first epoch
        growth, _ = apply_power(M, epochs - 1, growth)
        loss = self._loss(growth[..., None] * image, penalised)
        return np.where(np.isfinite(loss), loss, np.inf)

    def _loss(self, image, penalised):
        """f, or the objective, where the distances from the penalised optimum have this image."""
        if penalised or self.orthogonal:  # then `outside` and the columns of U are orthogonal
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
