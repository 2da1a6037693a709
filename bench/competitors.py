"""sgdm's competitors: the same descent as other people's tools do it, each with its own set-up and full history.

Every loop takes (X, y, lr, momentum, epochs), starts from zeros, takes the first step undamped and dampens later ones
by `momentum`, as `sgdm.fit` does by default. It returns something with the fields of `Trajectory`. With mini-batches it
also takes (batch, seed), shuffles the rows as `sgdm.fit` does if it can, and returns a `Descent`. A new competitor is
one such function, which imports its package itself, and its place in COMPETITORS, BATCH_COMPETITORS or ROW_COMPETITORS.
What compiles does so in its first call with arrays of a kind, which nobody times.
"""

import os
from contextlib import contextmanager
from functools import cache, partial
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


def jax_loop(X, y, lr, momentum, epochs):
    """JAX: value_and_grad, jit, and lax.scan over the epochs, whose stacked outputs are the history."""
    descend, _ = jax_functions()
    by_columns = not X.flags.c_contiguous
    fresh = np.full(epochs, 1 - momentum, X.dtype)  # how much of the gradient enters the step
    fresh[:1] = 1
    history = descend(X.T if by_columns else X, y, lr, momentum, fresh, by_columns)
    return Trajectory(*map(np.asarray, history))


@contextmanager
def one_cpu():
    """Keeps this thread, and those it starts meanwhile for good, on one CPU, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


@cache
def jax_functions():
    """The whole descent, `by_columns` for X transposed, as JAX knows C order alone; and one epoch of mini-batches."""
    import jax

    jax.config.update("jax_enable_x64", True)
    with one_cpu():  # its threads stay there: no flag keeps it from having as many as there are CPUs
        jax.block_until_ready(jax.jit(jax.numpy.dot)(*np.ones((2, 500, 500))))

    def loss(a, X, y, by_columns=False):
        residual = (a @ X if by_columns else X @ a) - y
        return residual @ residual / len(y)

    @partial(jax.jit, static_argnames="by_columns")
    def descend(X, y, lr, momentum, fresh, by_columns):
        def epoch(state, share):
            a, v = state
            f, g = jax.value_and_grad(loss)(a, X, y, by_columns)
            v = momentum * v + share * g
            return (a - lr * v, v), (f, g, v, a)

        zeros = jax.numpy.zeros(X.shape[0 if by_columns else 1], X.dtype)
        return jax.lax.scan(epoch, (zeros, zeros), fresh)[1]

    @partial(jax.jit, static_argnames="batch")
    def shuffled_epoch(X, y, order, batch, lr, momentum, state):
        def update(state, rows):
            a, v, share = state
            f, g = jax.value_and_grad(loss)(a, X[rows], y[rows])
            v = momentum * v + share * g
            return (a - lr * v, v, 1 - momentum), f * len(rows)

        whole = len(order) // batch * batch
        state, losses = jax.lax.scan(update, state, order[:whole].reshape(-1, batch))
        total = losses.sum()
        if whole < len(order):
            state, rest = update(state, order[whole:])
            total += rest
        return state, total / len(order)

    return descend, shuffled_epoch


def numba_loop(X, y, lr, momentum, epochs, fastmath=False):
    """Numba: one compiled loop over the rows, which reads each once; over the columns, twice, where those are whole."""
    on_rows, on_columns, _ = numba_functions(fastmath)
    descend = on_rows if X.flags.c_contiguous else on_columns
    loss = np.empty(epochs, X.dtype)
    grad, step = np.empty((2, epochs, X.shape[1]), X.dtype)
    coef = np.zeros((epochs + 1, X.shape[1]), X.dtype)
    descend(X, y, lr, momentum, loss, grad, step, coef)
    return Trajectory(loss, grad, step, coef[:epochs])


@cache
def numba_functions(fastmath):
    """The epochs on rows and on columns, and one epoch of mini-batches; the arithmetic as it is written, or in any
    order (fastmath)."""
    import numba

    @numba.njit(fastmath=fastmath)
    def step_from(t, lr, momentum, grad, step, coef):
        for j in range(grad.shape[1]):
            step[t, j] = grad[t, j] if t == 0 else momentum * step[t - 1, j] + (1 - momentum) * grad[t, j]
            coef[t + 1, j] = coef[t, j] - lr * step[t, j]

    @numba.njit(fastmath=fastmath)
    def on_rows(X, y, lr, momentum, loss, grad, step, coef):
        n, d = X.shape
        for t in range(len(loss)):
            a, g, total = coef[t], grad[t], 0.0
            g[:] = 0
            for i in range(n):
                residual = -y[i]
                for j in range(d):
                    residual += X[i, j] * a[j]
                total += residual * residual
                for j in range(d):
                    g[j] += residual * X[i, j]
            g *= 2 / n
            loss[t] = total / n
            step_from(t, lr, momentum, grad, step, coef)

    @numba.njit(fastmath=fastmath)
    def on_columns(X, y, lr, momentum, loss, grad, step, coef):
        n, d = X.shape
        residual = np.empty_like(y)
        for t in range(len(loss)):
            residual[:] = -y
            for j in range(d):
                for i in range(n):
                    residual[i] += coef[t, j] * X[i, j]
            for j in range(d):
                grad[t, j] = np.dot(X[:, j], residual) * 2 / n  # by BLAS, through SciPy: a loop's sum has no vectors
            loss[t] = np.dot(residual, residual) / n
            step_from(t, lr, momentum, grad, step, coef)

    @numba.njit(fastmath=fastmath)
    def shuffled_epoch(X, y, order, batch, lr, momentum, share, a, v):
        n, d = len(order), len(a)
        g, total = np.empty_like(a), 0.0
        for start in range(0, n, batch):
            rows = order[start : start + batch]
            g[:] = 0
            for i in rows:
                residual = -y[i]
                for j in range(d):
                    residual += X[i, j] * a[j]
                total += residual * residual
                for j in range(d):
                    g[j] += residual * X[i, j]
            for j in range(d):
                v[j] = momentum * v[j] + share * 2 / len(rows) * g[j]
                a[j] -= lr * v[j]
            share = 1 - momentum
        return total / n

    return on_rows, on_columns, shuffled_epoch


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


def numpy_textbook(X, y, lr, momentum, epochs, batch, seed):
    """NumPy as one writes it down: each batch's rows gathered, an array for every result."""
    generator = np.random.default_rng(seed)
    a, v, losses = np.zeros(X.shape[1], X.dtype), None, []
    for _ in range(epochs):
        order, total = generator.permutation(len(X)), 0.0
        for start in range(0, len(X), batch):
            rows = order[start : start + batch]
            lines, target = X[rows], y[rows]
            residual = lines @ a - target
            total += residual @ residual
            g = 2 / len(rows) * (residual @ lines)
            v = g if v is None else momentum * v + (1 - momentum) * g
            a = a - lr * v
        losses.append(total / len(X))
    return Descent(np.array(losses), a)


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


def jax_batches(X, y, lr, momentum, epochs, batch, seed):
    """JAX: lax.scan over an epoch's batches, whose rows it gathers, and the permutation from outside."""
    _, epoch = jax_functions()
    generator = np.random.default_rng(seed)
    a, v = np.zeros((2, X.shape[1]), X.dtype)
    state, losses = (a, v, 1.0), []
    for _ in range(epochs):
        state, loss = epoch(X, y, generator.permutation(len(X)), batch, lr, momentum, state)
        losses.append(loss)
    return Descent(np.array(losses), np.asarray(state[0]))


def numba_batches(X, y, lr, momentum, epochs, batch, seed, fastmath=False):
    """Numba: one compiled loop over an epoch's batches, which reads each row once, and the permutation from outside."""
    _, _, epoch = numba_functions(fastmath)
    generator = np.random.default_rng(seed)
    a, v = np.zeros((2, X.shape[1]), X.dtype)
    losses = []
    for t in range(epochs):
        order = generator.permutation(len(X))
        losses.append(epoch(X, y, order, batch, lr, momentum, 1 - momentum if t else 1.0, a, v))
    return Descent(np.array(losses), a)


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


# By the name to install each under, then by that of its column.
COMPETITORS = {
    "NumPy": {"NumPy": numpy_loop},
    "torch": {"torch": torch_loop},
    "JAX": {"JAX": jax_loop},
    "Numba": {"Numba": numba_loop, "Numba, fastmath": partial(numba_loop, fastmath=True)},
}
BATCH_COMPETITORS = {
    "NumPy": {"NumPy": numpy_batches, "NumPy, batch by batch": numpy_textbook},
    "torch": {"torch": torch_batches},
    "JAX": {"JAX": jax_batches},
    "Numba": {"Numba": numba_batches, "Numba, fastmath": partial(numba_batches, fastmath=True)},
}
ROW_COMPETITORS = {**BATCH_COMPETITORS, "scikit-learn": {"scikit-learn": sklearn_rows}}  # for batches of 1
SOLVERS = {
    "NumPy": {"lstsq": numpy_lstsq},
    "scikit-learn": {"LinearRegression": sklearn_linear, "Ridge": sklearn_ridge},
}
ALL_ROWS = {"Numba", "Numba, fastmath", "scikit-learn"}  # fast enough for any number of batches an epoch;
LONGEST = 3125  # the others get the rows of at most so many, the first ones


def installed(name):
    """The version of a competitor's package, None if it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def available(competitors):
    """The functions of the installed ones, by the name of the column."""
    return {name: call for package, own in competitors.items() if installed(package) for name, call in own.items()}
