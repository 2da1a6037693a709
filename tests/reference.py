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
    Z = np.column_stack([X, np.ones(n)]) if fit_intercept else X
    a = np.zeros(Z.shape[1:] + y.shape[1:]) if coef0 is None else np.array(coef0, float)
    penalised = (np.arange(Z.shape[1]) < d).reshape(-1, *tail)
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
            u = g + weight_decay * penalised * a
            v = u if v is None else m * v + keep * u
            last = dict(loss=(w[i] * r**2).sum(0) / w[i].sum(), grad=g, step=v, coef=a)
            a = a - rate * (keep * u + m * v if nesterov else v)
            threshold = rate * l1 * keep / (1 - m) * penalised
            a = np.sign(a) * np.maximum(np.abs(a) - threshold, 0)
            total = total + (w[i] * r**2).sum(0)
            if average is not False and t >= int(average) * (average is not True):
                iterates.append(a)
            if record == "updates" or start + (batch_size or n) >= n:
                row_epochs.append(t)
                for name, value in (last | ({} if record == "updates" else {"loss": total / w.sum()})).items():
                    rows[name].append(value)
        norm = np.linalg.norm(u + l1 * np.sign(last["coef"]) * penalised, axis=0)
        norm0 = norm if norm0 is None else norm0
        if tol is not None and np.all(norm <= tol * norm0):
            break
    history = SimpleNamespace(**{name: np.array(values) for name, values in rows.items()})
    mean = np.mean(iterates, axis=0) if iterates else None
    return SimpleNamespace(params=a, velocity=v, epochs=t + 1, average=mean, history=history, row_epochs=row_epochs)
