"""sgdm's competitors: the same descent as other people's tools do it, each with its own set-up and full history.

Every loop takes (X, y, lr, momentum, epochs), starts from zeros, takes the first step undamped and dampens later ones
by `momentum`, as `sgdm.fit` does by default. It returns something with the fields of `Trajectory`. With mini-batches it
also takes (batch, seed), shuffles the rows as `sgdm.fit` does if it can, and returns a `Descent`. A new competitor is
one such function, which imports its package itself, and its line in COMPETITORS, BATCH_COMPETITORS or ROW_COMPETITORS.
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


class Descent(NamedTuple):
    """Each epoch's running loss (epochs,), None where it isn't kept, and the coefficients at the end (d,)."""

    loss: np.ndarray | None
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


def numpy_batches(X, y, lr, momentum, epochs, batch, seed):
    """NumPy with care: rows gathered an epoch at a time, which beats batch by batch, and everything in place."""
    n, d = X.shape
    generator = np.random.default_rng(seed)
    loss = np.empty(epochs, X.dtype)
    shuffled, targets, residual = np.empty_like(X), np.empty_like(y), np.empty_like(y)
    a, v, g, scratch = np.zeros((4, d), X.dtype)
    slices = [slice(start, start + batch) for start in range(0, n, batch)]
    batches = [(shuffled[rows], targets[rows], residual[rows]) for rows in slices]
    scale = 2
    for t in range(epochs):
        order = generator.permutation(n)
        np.take(X, order, axis=0, out=shuffled, mode="clip")  # the other modes buffer
        np.take(y, order, out=targets, mode="clip")
        for lines, target, r in batches:
            np.dot(lines, a, out=r)
            r -= target
            np.dot(r, lines, out=g)
            g *= scale / len(r)
            v *= momentum
            v += g
            np.multiply(v, lr, out=scratch)
            a -= scratch
            scale = 2 * (1 - momentum)
        loss[t] = np.dot(residual, residual)
    loss /= n
    return Descent(loss, a)


def torch_batches(X, y, lr, momentum, epochs, batch, seed):
    """torch, eager, on the CPU: a permutation's rows, split; autograd and optim.SGD for each batch."""
    import torch

    torch.set_num_threads(1)
    generator = np.random.default_rng(seed)
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    a = torch.zeros(X.shape[1], dtype=X.dtype, requires_grad=True)
    optimizer = torch.optim.SGD([a], lr=lr, momentum=momentum, dampening=momentum)
    losses = []
    for _ in range(epochs):
        order = torch.from_numpy(generator.permutation(len(X)))
        total = 0.0
        for lines, target in zip(X[order].split(batch), y[order].split(batch), strict=True):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(lines @ a, target)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(target)
        losses.append(total / len(X))
    return Descent(np.array(losses), a.detach().numpy())


def sklearn_rows(X, y, lr, momentum, epochs, batch, seed):
    """scikit-learn, for a batch of 1 and no momentum; it shuffles in its own way, not at all if `seed` is None."""
    from sklearn.linear_model import SGDRegressor

    own = {"shuffle": seed is not None, "random_state": seed}
    rate = {"learning_rate": "constant", "eta0": 2 * lr}  # its loss is half the square
    fit = SGDRegressor(penalty=None, fit_intercept=False, max_iter=epochs, tol=None, **rate, **own).fit(X, y)
    return Descent(None, fit.coef_)


def numpy_lstsq(X, y):
    """NumPy's closed form, by the singular values."""
    return np.linalg.lstsq(X, y, rcond=None)[0]


def sklearn_linear(X, y):
    """scikit-learn's closed form without an intercept, which is scipy.linalg.lstsq."""
    from sklearn.linear_model import LinearRegression

    return LinearRegression(fit_intercept=False).fit(X, y).coef_


def sklearn_ridge(X, y):
    """scikit-learn's normal equations, without penalty and intercept: they square the condition number."""
    from sklearn.linear_model import Ridge

    return Ridge(alpha=0, fit_intercept=False).fit(X, y).coef_


# By the name to install each under.
COMPETITORS = {"NumPy": numpy_loop, "torch": torch_loop}
BATCH_COMPETITORS = {"NumPy": numpy_batches, "torch": torch_batches}
ROW_COMPETITORS = {**BATCH_COMPETITORS, "scikit-learn": sklearn_rows}  # for batches of 1
SOLVERS = {
    "NumPy": {"lstsq": numpy_lstsq},
    "scikit-learn": {"LinearRegression": sklearn_linear, "Ridge": sklearn_ridge},
}
LONGEST = 3125  # batches an epoch for those of BATCH_COMPETITORS: of more rows they get the first


def installed(name):
    """The version of a competitor's package, None if it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
