"""sgdm's competitors: the same descent with other packages, set-up and whole history included.

Each loop takes (X, y, lr, momentum, epochs). As `sgdm.fit` by default, it starts from zeros and dampens all steps but
the first by `momentum`. It returns a `Trajectory`. A loop over mini-batches also takes (batch, seed), shuffles the rows
as `sgdm.fit` does if it can, and returns a `Descent`.

To add a competitor, write such a function and list it in COMPETITORS, BATCH_COMPETITORS or ROW_COMPETITORS. It imports
its package itself. If it compiles, it does so in the first call with arrays of a type, which is not timed.
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
    """The loss of each epoch, as its batches met it, (epochs,) or None; and the coefficients at the end, (d,)."""

    loss: np.ndarray | None
    coef: np.ndarray


def numpy_loop(X, y, lr, momentum, epochs):
    """Careful NumPy: all arrays allocated before the loop, and results written into the history in place."""
    n, d = X.shape
    loss = np.empty(epochs, X.dtype)
    grad, step = np.empty((2, epochs, d), X.dtype)
    coef = np.zeros((epochs + 1, d), X.dtype)
    residual, scratch, transposed = np.empty(n, X.dtype), np.empty(d, X.dtype), X.T
    scale, one_minus_dampening = 2 / n, 1 - momentum
    last = None
    for t, (a, g, v, next_a) in enumerate(zip(coef, grad, step, coef[1:], strict=False)):
        np.dot(X, a, out=residual)
        residual -= y
        loss[t] = np.dot(residual, residual)
        np.dot(transposed, residual, out=g)
        g *= scale
        if last is None:
            v[:] = g
        else:
            np.multiply(last, momentum, out=v)
            np.multiply(g, one_minus_dampening, out=scratch)
            v += scratch
        np.multiply(v, lr, out=scratch)
        np.subtract(a, scratch, out=next_a)
        last = v
    loss /= n
    return Trajectory(loss, grad, step, coef[:epochs])


def torch_loop(X, y, lr, momentum, epochs):
    """torch on the CPU, without compilation: autograd, optim.SGD and lists of tensors."""
    import torch

    torch.set_num_threads(1)
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    a = torch.zeros(X.shape[1], dtype=X.dtype, requires_grad=True)
    optimizer = torch.optim.SGD([a], lr=lr, momentum=momentum, dampening=momentum)
    losses, grads, steps, coefs = [], [], [], []
    for _ in range(epochs):
        optimizer.zero_grad()  # a.grad is a new tensor each epoch: no copy for the history
        loss = torch.nn.functional.mse_loss(X @ a, y)
        loss.backward()
        losses.append(loss.item())
        grads.append(a.grad)
        coefs.append(a.detach().clone())
        optimizer.step()
        steps.append(optimizer.state[a]["momentum_buffer"].clone())
    return Trajectory(np.array(losses), *(torch.stack(rows).numpy() for rows in (grads, steps, coefs)))


def jax_loop(X, y, lr, momentum, epochs):
    """JAX: value_and_grad, jit and lax.scan over the epochs. The outputs of scan are the history."""
    descend, _ = jax_functions()
    by_columns = not X.flags.c_contiguous
    gradient_factors = np.full(epochs, 1 - momentum, X.dtype)
    gradient_factors[:1] = 1  # the first step is not dampened
    history = descend(X.T if by_columns else X, y, lr, momentum, gradient_factors, by_columns)
    return Trajectory(*map(np.asarray, history))


@contextmanager
def one_cpu():
    """Keep this thread on one CPU, where the system can. Threads started inside stay there for good."""
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
    """The whole descent; and one epoch of mini-batches. JAX has only C order: `by_columns` takes X transposed."""
    import jax

    jax.config.update("jax_enable_x64", True)
    with one_cpu():  # JAX starts one thread per CPU, whatever its flags: keep them on one CPU
        jax.block_until_ready(jax.jit(jax.numpy.dot)(*np.ones((2, 500, 500))))

    def loss(a, X, y, by_columns=False):
        residual = (a @ X if by_columns else X @ a) - y
        return residual @ residual / len(y)

    @partial(jax.jit, static_argnames="by_columns")
    def descend(X, y, lr, momentum, gradient_factors, by_columns):
        def epoch(state, gradient_factor):
            a, v = state
            f, g = jax.value_and_grad(loss)(a, X, y, by_columns)
            v = momentum * v + gradient_factor * g
            return (a - lr * v, v), (f, g, v, a)

        zeros = jax.numpy.zeros(X.shape[0 if by_columns else 1], X.dtype)
        return jax.lax.scan(epoch, (zeros, zeros), gradient_factors)[1]

    @partial(jax.jit, static_argnames="batch")
    def shuffled_epoch(X, y, order, batch, lr, momentum, state):
        def update(state, rows):
            a, v, gradient_factor = state
            f, g = jax.value_and_grad(loss)(a, X[rows], y[rows])
            v = momentum * v + gradient_factor * g
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
    """Numba: one compiled loop that reads each row once; for X in F order, one that reads each column twice."""
    on_rows, on_columns, _ = numba_functions(fastmath)
    descend = on_rows if X.flags.c_contiguous else on_columns
    loss = np.empty(epochs, X.dtype)
    grad, step = np.empty((2, epochs, X.shape[1]), X.dtype)
    coef = np.zeros((epochs + 1, X.shape[1]), X.dtype)
    descend(X, y, lr, momentum, loss, grad, step, coef)
    return Trajectory(loss, grad, step, coef[:epochs])


@cache
def numba_functions(fastmath):
    """The epochs by rows and by columns, and one epoch of mini-batches. With fastmath, sums may be in any order."""
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
                grad[t, j] = np.dot(X[:, j], residual) * 2 / n  # BLAS, through SciPy: a loop is not vectorised
            loss[t] = np.dot(residual, residual) / n
            step_from(t, lr, momentum, grad, step, coef)

    @numba.njit(fastmath=fastmath)
    def shuffled_epoch(X, y, order, batch, lr, momentum, gradient_factor, a, v):
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
                v[j] = momentum * v[j] + gradient_factor * 2 / len(rows) * g[j]
                a[j] -= lr * v[j]
            gradient_factor = 1 - momentum
        return total / n

    return on_rows, on_columns, shuffled_epoch


def numpy_batches(X, y, lr, momentum, epochs, batch, seed):
    """Careful NumPy: the rows of a whole epoch gathered at once, which is faster, and all results written in place."""
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
        np.take(X, order, axis=0, out=shuffled, mode="clip")  # the other modes copy once more
        np.take(y, order, out=targets, mode="clip")
        for batch_X, target, r in batches:
            np.dot(batch_X, a, out=r)
            r -= target
            np.dot(r, batch_X, out=g)
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
    """NumPy as in a textbook: the rows of each batch gathered, and a new array for each result."""
    generator = np.random.default_rng(seed)
    a, v, losses = np.zeros(X.shape[1], X.dtype), None, []
    for _ in range(epochs):
        order, total = generator.permutation(len(X)), 0.0
        for start in range(0, len(X), batch):
            rows = order[start : start + batch]
            batch_X, target = X[rows], y[rows]
            residual = batch_X @ a - target
            total += residual @ residual
            g = 2 / len(rows) * (residual @ batch_X)
            v = g if v is None else momentum * v + (1 - momentum) * g
            a = a - lr * v
        losses.append(total / len(X))
    return Descent(np.array(losses), a)


def torch_batches(X, y, lr, momentum, epochs, batch, seed):
    """torch on the CPU, without compilation: shuffled rows, split into batches; autograd and optim.SGD for each."""
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
        for batch_X, target in zip(X[order].split(batch), y[order].split(batch), strict=True):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(batch_X @ a, target)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(target)
        losses.append(total / len(X))
    return Descent(np.array(losses), a.detach().numpy())


def jax_batches(X, y, lr, momentum, epochs, batch, seed):
    """JAX: lax.scan over the batches of an epoch, gathering their rows. NumPy draws the permutation."""
    _, epoch = jax_functions()
    generator = np.random.default_rng(seed)
    a, v = np.zeros((2, X.shape[1]), X.dtype)
    state, losses = (a, v, 1.0), []
    for _ in range(epochs):
        state, loss = epoch(X, y, generator.permutation(len(X)), batch, lr, momentum, state)
        losses.append(loss)
    return Descent(np.array(losses), np.asarray(state[0]))


def numba_batches(X, y, lr, momentum, epochs, batch, seed, fastmath=False):
    """Numba: one compiled loop over the batches of an epoch, reading each row once. NumPy draws the permutation."""
    _, _, epoch = numba_functions(fastmath)
    generator = np.random.default_rng(seed)
    a, v = np.zeros((2, X.shape[1]), X.dtype)
    losses = []
    for t in range(epochs):
        order = generator.permutation(len(X))
        losses.append(epoch(X, y, order, batch, lr, momentum, 1 - momentum if t else 1.0, a, v))
    return Descent(np.array(losses), a)


def sklearn_rows(X, y, lr, momentum, epochs, batch, seed):
    """scikit-learn, only for batches of 1 without momentum. It shuffles in its own way, or not if `seed` is None."""
    from sklearn.linear_model import SGDRegressor

    own = {"shuffle": seed is not None, "random_state": seed}
    rate = {"learning_rate": "constant", "eta0": 2 * lr}  # its loss has a factor 1/2
    fit = SGDRegressor(penalty=None, fit_intercept=False, max_iter=epochs, tol=None, **rate, **own).fit(X, y)
    return Descent(None, fit.coef_)


def numpy_lstsq(X, y):
    """NumPy's solver, by singular values."""
    return np.linalg.lstsq(X, y, rcond=None)[0]


def sklearn_linear(X, y):
    """scikit-learn without an intercept, which calls scipy.linalg.lstsq."""
    from sklearn.linear_model import LinearRegression

    return LinearRegression(fit_intercept=False).fit(X, y).coef_


def sklearn_ridge(X, y):
    """scikit-learn's normal equations, which square the condition number; without penalty and intercept."""
    from sklearn.linear_model import Ridge

    return Ridge(alpha=0, fit_intercept=False).fit(X, y).coef_


# {name of the package: {title of the column: function}}
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
ALL_ROWS = {"Numba", "Numba, fastmath", "scikit-learn"}  # fast enough for all batches of an epoch
MAX_BATCHES = 3125  # the others get the rows of the first so many batches


def installed(name):
    """The version of a competitor's package, None if it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def available(competitors):
    """The functions of the installed packages, by the title of their column."""
    return {name: call for package, own in competitors.items() if installed(package) for name, call in own.items()}
