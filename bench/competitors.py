"""sgdm's competitors: the same descent as other people's tools do it, each with its own set-up and full history.

Every loop takes (X, y, lr, momentum, epochs), starts from zeros, takes the first step undamped and dampens later ones
by `momentum`, as `sgdm.fit` does by default. It returns something with the fields of `Trajectory`. A new competitor is
one such function, which imports its package itself, and its line in COMPETITORS.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import numpy as np


class Trajectory(NamedTuple):
    """One row per epoch: loss (epochs,), and grad, step and coef (epochs, d)."""

    loss: np.ndarray
    grad: np.ndarray
    step: np.ndarray
    coef: np.ndarray


def numpy_loop(X, y, lr, momentum, epochs):
    """NumPy with care: everything allocated beforehand, results written in place, straight into the history."""
    n, d = X.shape
    loss = np.empty(epochs, X.dtype)
    grad, step = np.empty((2, epochs, d), X.dtype)
    coef = np.zeros((epochs + 1, d), X.dtype)
    residual, scratch, transposed = np.empty(n, X.dtype), np.empty(d, X.dtype), X.T
    scale, undamped = 2 / n, 1 - momentum
    last = None
    for t, (a, g, v, following) in enumerate(zip(coef, grad, step, coef[1:], strict=False)):
        np.dot(X, a, out=residual)
        residual -= y
        loss[t] = np.dot(residual, residual)
        np.dot(transposed, residual, out=g)
        g *= scale
        if last is None:
            v[:] = g
        else:
            np.multiply(last, momentum, out=v)
            np.multiply(g, undamped, out=scratch)
            v += scratch
        np.multiply(v, lr, out=scratch)
        np.subtract(a, scratch, out=following)
        last = v
    loss /= n
    return Trajectory(loss, grad, step, coef[:epochs])


def torch_loop(X, y, lr, momentum, epochs):
    """torch, eager, on the CPU: autograd, optim.SGD and lists of tensors."""
    import torch

    torch.set_num_threads(1)
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    a = torch.zeros(X.shape[1], dtype=X.dtype, requires_grad=True)
    optimizer = torch.optim.SGD([a], lr=lr, momentum=momentum, dampening=momentum)
    losses, grads, steps, coefs = [], [], [], []
    for _ in range(epochs):
        optimizer.zero_grad()  # a.grad becomes a new tensor each epoch, so the history needs no copy of it
        loss = torch.nn.functional.mse_loss(X @ a, y)
        loss.backward()
        losses.append(loss.item())
        grads.append(a.grad)
        coefs.append(a.detach().clone())
        optimizer.step()
        steps.append(optimizer.state[a]["momentum_buffer"].clone())
    return Trajectory(np.array(losses), *(torch.stack(rows).numpy() for rows in (grads, steps, coefs)))


COMPETITORS = {"NumPy": numpy_loop, "torch": torch_loop}  # by the name to install each under


def installed(name):
    """The version of a competitor's package, None if it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
