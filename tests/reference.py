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
    fit_intercept=False,
    sample_weight=None,
    coef0=None,
    tol=None,
):
    X, y = np.asarray(X, float), np.asarray(y, float)
    n, d = X.shape
    w = np.ones(n) if sample_weight is None else np.asarray(sample_weight, float)
    w = w.reshape((n,) + (1,) * (y.ndim - 1))
    Z = np.column_stack([X, np.ones(n)]) if fit_intercept else X
    a = np.zeros(Z.shape[1:] + y.shape[1:]) if coef0 is None else np.array(coef0, float)
    decay = weight_decay * (np.arange(Z.shape[1]) < d).reshape((-1,) + (1,) * (y.ndim - 1))
    damp = momentum if dampening is None else dampening
    loss, grad, step, coef = [], [], [], []
    v = None
    for _ in range(epochs):
        r = Z @ a - y
        g = 2 * Z.T @ (w * r) / w.sum()
        u = g + decay * a
        v = u if v is None else momentum * v + (1 - damp) * u
        loss.append((w * r**2).sum(0) / w.sum())
        grad.append(g)
        step.append(v)
        coef.append(a)
        a = a - lr * ((1 - damp) * u + momentum * v if nesterov else v)
        norm, norm0 = np.linalg.norm(g, axis=0), np.linalg.norm(grad[0], axis=0)
        if tol is not None and np.all(norm <= tol * norm0):
            break
    history = SimpleNamespace(loss=np.array(loss), grad=np.array(grad), step=np.array(step), coef=np.array(coef))
    return SimpleNamespace(params=a, velocity=v, epochs=len(loss), history=history)
