"""The algorithm in plain NumPy, float64, one line per formula: the oracle the kernel must match."""

from types import SimpleNamespace

import numpy as np


def fit(
    X,
    y,
    *,
    lr=0.1,
    momentum=0.8,
    epochs=50,
    dampening=None,
    nesterov=False,
    weight_decay=0.0,
    l1=0.0,
    standardize=False,
    fit_intercept=False,
    sample_weight=None,
    coef0=None,
    tol=None,
    batch_size=None,
    shuffle=True,
    seed=None,
    average=False,
    record="all",
):
    X, y = np.asarray(X, float), np.asarray(y, float)
    n, d = X.shape
    tail = (1,) * (y.ndim - 1)
    w = (np.ones(n) if sample_weight is None else np.asarray(sample_weight, float)).reshape(n, *tail)
    p = d + fit_intercept
    decay, l1 = (np.append(np.broadcast_to(c, d), [0.0] * (p - d)).reshape(-1, *tail) for c in (weight_decay, l1))
    mean, deviation = np.zeros(d), np.ones(d)
    if standardize:
        mean = np.average(X, axis=0, weights=w.ravel()) * fit_intercept
        deviation = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=w.ravel()))
        deviation[(deviation == 0) | ((np.ptp(X, axis=0) == 0) & fit_intercept)] = 1
    T = np.diag(np.append(1 / deviation, [1.0] * (p - d)))  # a = T b, of the parameters b of standardized columns
    T[d:, :d] = -mean / deviation
    Z = np.column_stack([(X - mean) / deviation, np.ones((n, p - d))])
    a = np.linalg.solve(T, np.zeros((p, *y.shape[1:])) if coef0 is None else np.array(coef0, float))
    decay[:d], l1[:d] = (decay[:d].T / deviation**2).T, (l1[:d].T / deviation).T
    generator = np.random.default_rng(seed)
    rows, row_epochs = {name: [] for name in ("loss", "grad", "step", "coef")}, []
    v, norm0, iterates = None, None, []
    for t in range(epochs):
        rate, m = np.broadcast_to(lr, epochs)[t], np.broadcast_to(momentum, epochs)[t]
        keep = 1 - (m if dampening is None else dampening)
        order = generator.permutation(n) if batch_size and shuffle else np.arange(n)
        total = 0
        for start in range(0, n, batch_size or n):
            i = order[start : start + (batch_size or n)]
            r = Z[i] @ a - y[i]
            g = 2 * Z[i].T @ (w[i] * r) / w[i].sum()
            u = g + decay * a
            v = u if v is None else m * v + keep * u
            last = dict(loss=(w[i] * r**2).sum(0) / w[i].sum(), grad=np.linalg.solve(T.T, g), step=T @ v, coef=T @ a)
            before = a
            a = a - rate * (keep * u + m * v if nesterov else v)
            threshold = rate * l1 * keep / (1 - m)
            a = np.sign(a) * np.maximum(np.abs(a) - threshold, 0)
            total = total + (w[i] * r**2).sum(0)
            if average is not False and t >= int(average) * (average is not True):
                iterates.append(T @ a)
            if record == "updates" or start + (batch_size or n) >= n:
                row_epochs.append(t)
                for name, value in (last | ({} if record == "updates" else {"loss": total / w.sum()})).items():
                    rows[name].append(value)
        norm = np.linalg.norm(u + l1 * np.sign(before), axis=0)
        norm0 = norm if norm0 is None else norm0
        if tol is not None and np.all(norm <= tol * norm0):
            break
    history = SimpleNamespace(**{name: np.array(values) for name, values in rows.items()})
    mean = np.mean(iterates, axis=0) if iterates else None
    return SimpleNamespace(
        params=T @ a, velocity=T @ v, epochs=t + 1, average=mean, history=history, row_epochs=row_epochs
    )
