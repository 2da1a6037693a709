"""Loss and parameters after any number of epochs, without doing them."""

import sys

import numpy as np

from .._kernel import follow_modes
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
    if array.max() > sys.maxsize:
        raise ValueError(f"epochs must be at most sys.maxsize, got {array.max()}")
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
        self.size = np.abs(self.image).max(initial=1e-300)
        self.squares = ((self.image / self.size) ** 2).sum(1)  # of all targets
        self.least = (self.outside**2).sum(0) + ((U[len(A) :] @ optimum / scale) ** 2).sum(0)

    @np.errstate(all="ignore")
    def losses(self, lr, momentum, gradient_weight, nesterov, epochs):
        """f (k,) after `epochs` epochs; inf where it overflows. gradient_weight is 1 - dampening."""
        growth = self._follow([lr, momentum, gradient_weight], nesterov, epochs, False)
        return self._loss(growth.T * self.image)

    @np.errstate(all="ignore")
    def objectives(self, lr, momentum, gradient_weight, nesterov, epochs):
        """The objectives after `epochs` epochs with n constants each, (n,), summed over the targets.

        They are inf where they overflow.
        """
        distances = self._follow([lr, momentum, gradient_weight], nesterov, epochs, False, self.squares)
        return inf_for_nan(distances * self.size * self.size + self.least.sum())

    @np.errstate(all="ignore")
    def path(self, lr, momentum, gradient_weight, nesterov, epochs):
        """f (n, k) and the parameters (n, p, k) after each of the `epochs` (n,); f is inf where it overflows.

        The distance from the start is followed, not that from the optimum: along the eigenvectors of small curvature
        that would lose the digits of the way done.
        """
        way = self._follow([lr, momentum, gradient_weight], nesterov, epochs, True)
        steps = way[..., None] * (2 * self.unit * self.image)  # the gradient at the start along each eigenvector
        return self._loss(self.image + self.unit * steps), self.start + self.Vt.T @ steps

    def _follow(self, constants, nesterov, epochs, from_start, weights=None):
        """How far n descents are along each of p eigenvectors after so many epochs, (n, p), or sums over them, (n,)."""
        epochs, *constants = np.broadcast_arrays(np.atleast_1d(np.int64(epochs)), *constants)
        return follow_modes(self.curvature, np.array(constants), np.array(epochs), nesterov, from_start, weights)

    def _loss(self, image):
        """f where the distances from the penalised optimum have this image; inf where it overflows."""
        if self.orthogonal:  # `outside` and the columns of U are orthogonal
            return inf_for_nan(self.least + (image**2).sum(-2))
        return inf_for_nan(((self.outside.T + np.tensordot(image, self.U, (-2, 1))) ** 2).sum(-1))


def inf_for_nan(values):
    """The values, with inf in the place of NaN."""
    return np.where(np.isnan(values), np.inf, values)
