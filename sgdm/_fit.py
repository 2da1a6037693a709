"""fit(): validate, allocate, run the kernel in slices, wrap."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np

from ._kernel import Record, advance
from ._result import ConvergenceWarning, DivergenceError, FitResult, History, Status
from ._tuning import stable_lr
from ._validation import as_count, as_flag, as_problem, as_settings, as_state, refuse_nonfinite

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Elements of X that a slice of epochs reads, each epoch counting _EPOCH_COST more for its fixed work: 10 to 30 ms.
_SLICE_ELEMENTS = 50_000_000
_EPOCH_COST = 500


def fit(
    X: ArrayLike,
    y: ArrayLike,
    *,
    lr: float = 0.1,
    momentum: float = 0.8,
    epochs: int = 50,
    dampening: float | None = None,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    fit_intercept: bool = False,
    sample_weight: ArrayLike | None = None,
    coef0: ArrayLike | None = None,
    tol: float | None = None,
    record: Literal["all", "loss"] | None = "all",
    record_every: int = 1,
) -> FitResult:
    """Fit ``y ~ X @ coef`` by gradient descent with momentum on the mean squared error.

    The objective is ``f(a) = sum_i w_i (x_i . a - y_i)**2 / sum_i w_i``, without a factor 1/2; its gradient is
    ``g(a) = 2 X' W (X a - y) / sum_i w_i``. Epoch t = 0, 1, ... does ::

        u_t = g(a_t) + weight_decay * a_t                       (never on the intercept)
        v_t = momentum * v_{t-1} + (1 - dampening) * u_t        (v_0 = u_0)
        a_{t+1} = a_t - lr * v_t

    and with ``nesterov`` ``a_{t+1} = a_t - lr * ((1 - dampening) * u_t + momentum * v_t)``. That is torch.optim.SGD,
    but for the default of dampening.

    Parameters
    ----------
    X : array of shape (n, d)
        The design matrix. float32 and float64 in C or F order are read in place, any other real type or layout is
        copied once. No column of ones is added unless `fit_intercept` asks for an intercept.
    y : array of shape (n,) or (n, k)
        The targets. k targets are k independent fits that share X.
    lr : float, default 0.1
        The learning rate.
    momentum : float in [0, 1), default 0.8
        How much of the last step is kept.
    epochs : int, default 50
        How many updates to do, each over all rows.
    dampening : float in [0, 1], optional
        By how much the new gradient is scaled down. None, the default, stands for `momentum`: the step is a moving
        average of the gradients. 0, torch's default, is the classical heavy ball.
    nesterov : bool, default False
        Whether to step from where the momentum leads.
    weight_decay : float, default 0.0
        Adds ``weight_decay / 2 * |a|**2`` to the objective that is descended; recorded loss and gradient are without.
    fit_intercept : bool, default False
        Whether to fit an intercept as the last parameter.
    sample_weight : array of shape (n,), optional
        Weights w, none negative; 1 by default.
    coef0 : array of shape (p,) or (p, k), optional
        Where to start: the features' coefficients, then the intercept's if there is one. Zeros by default.
    tol : float, optional
        Stop after the epoch in which every target's gradient norm is at most tol times its norm at the first epoch,
        with status ``converged``. By default all epochs are done.
    record : {"all", "loss", None}, default "all"
        What the history keeps: everything, the loss alone, or nothing.
    record_every : int, default 1
        Keep epochs 0, k, 2 k, ...

    Returns
    -------
    FitResult
        Of dtype float32 where X and y are both float32, else float64.

    Raises
    ------
    DivergenceError
        If a loss or a parameter overflows. Its ``result`` holds everything up to the last finite epoch, its
        ``max_lr`` a stable learning rate.
    ValueError, TypeError
        If an argument is not what it should be.
    MemoryError
        If the history can't be allocated.
    KeyboardInterrupt
        On Ctrl-C, with the epochs done until then as its ``result``.

    Warns
    -----
    ConvergenceWarning
        If the descent ends above where it began.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and momentum in deep
    learning", ICML 2013. The convention of the constants is that of ``torch.optim.SGD``.

    Examples
    --------
    >>> import numpy as np, sgdm
    >>> x = np.linspace(-1, 1, 100)
    >>> result = sgdm.fit(x.reshape(-1, 1), 3 * x + 2, fit_intercept=True, epochs=200)
    >>> result.coef.round(4), round(float(result.intercept), 4)
    (array([3.]), 2.0)
    >>> result.history.loss[[0, 10, 100]].round(4)
    array([7.0606, 0.8748, 0.    ])
    """
    problem, slot = as_problem(X, y, sample_weight, as_flag(fit_intercept, "fit_intercept"))
    settings = as_settings(lr, momentum, dampening, nesterov, weight_decay, tol)
    state = as_state(problem, slot, coef0)
    epochs = as_count(epochs, "epochs")
    histories = allocate(problem, epochs, record, as_count(record_every, "record_every"))
    status = Status.STOPPED
    try:
        status = run(problem, settings, state, histories, epochs)
        if status is Status.DIVERGED:
            raise divergence(problem, settings, state)
        if state.rose and status is Status.COMPLETED:
            warnings.warn(rise(problem, settings, state), ConvergenceWarning, stacklevel=2)
    except (DivergenceError, KeyboardInterrupt) as stop:
        stop.result = wrap(problem, slot, state, histories, status)  # type: ignore[union-attr]
        raise
    return wrap(problem, slot, state, histories, status)


def allocate(problem, epochs, record, every):
    """The histories of a fit, unwritten."""
    if record not in ("all", "loss", None):
        raise ValueError(f"record must be 'all', 'loss' or None, got {record!r}")
    rows, p, k = -(-epochs // every), problem.p, problem.k
    dtype = problem.lines.dtype
    columns = {"all": k + 3 * p * k, "loss": k, None: 0}[record]
    try:
        loss = np.empty((rows, k), dtype) if record else None
        grad, step, coef = (np.empty((rows, p, k), dtype) if record == "all" else None for _ in range(3))
    except (MemoryError, ValueError):
        size = rows * columns * dtype.itemsize
        instead = "record='loss', a larger record_every" if record == "all" else "a larger record_every"
        raise MemoryError(
            f"the history of {rows} epochs takes {size} bytes ({size / 2**30:.1f} GiB), more than there is; "
            f"pass {instead} or record=None to keep less"
        ) from None
    return Record(loss, grad, step, coef, every)


def run(problem, settings, state, histories, epochs):
    """Advances the state to `epochs`, a slice at a time, so that Python sees signals in between. Returns a Status."""
    slice_epochs = max(1, _SLICE_ELEMENTS // (problem.n * problem.d * problem.k + _EPOCH_COST))
    outcome = "completed"
    while state.epoch < epochs and outcome == "completed":
        outcome = advance(problem, settings, state, histories, min(slice_epochs, epochs - state.epoch))
    return Status(outcome)


def wrap(problem, slot, state, histories, status):
    """The result as the caller knows it: slot is () for y of shape (n,), (k,) for (n, k)."""
    epochs, d = state.epoch, problem.d
    coef = state.coef.reshape(problem.p, *slot)
    loss = state.marks[3].reshape(slot).astype(coef.dtype)
    rows = -(-epochs // histories.every) if histories.loss is not None else 0

    def cut(history):
        if history is None:
            return None
        history = history.reshape(len(history), *(coef.shape if history.ndim == 3 else slot))
        return history if rows == len(history) else history[:rows].copy()

    return FitResult(
        coef=coef[:d],
        intercept=coef[d] if problem.fit_intercept else 0.0,
        velocity=state.velocity.reshape(coef.shape),
        loss=loss if slot else loss[()],
        epochs=epochs,
        status=status,
        history=History(
            epoch=np.arange(0, rows * histories.every, histories.every),
            loss=cut(histories.loss),
            grad=cut(histories.grad),
            step=cut(histories.step),
            coef=cut(histories.coef),
        ),
    )


def divergence(problem, settings, state):
    """What to raise when an epoch overflowed: ValueError if the data were not finite to begin with."""
    if state.epoch == 0:
        refuse_nonfinite(problem)
    lr = float(settings.rates[0, 0])
    target = f" of target {state.diverged}" if problem.k > 1 else ""
    max_lr = stable_lr(problem, settings)
    if max_lr is None:
        message = (
            f"the squares of the data{target} overflow {problem.lines.dtype} at epoch {state.epoch}, whatever the lr; "
            "scale the columns of X and y down"
        )
    elif lr < max_lr:
        message = (
            f"the loss or a parameter{target} overflowed {problem.lines.dtype} at epoch {state.epoch}, though lr={lr:g}"
            f" is stable (up to {describe(max_lr, settings)}); scale the columns of X and y, or coef0, down"
        )
    else:
        message = (
            f"the fit{target} diverged at epoch {state.epoch}: lr={lr:g} is too large; use an lr of at most "
            f"{describe(max_lr, settings)}"
        )
    error = DivergenceError(message)
    error.max_lr = max_lr
    return error


def rise(problem, settings, state):
    """The warning's message when the objective ended above its start."""
    start, end = state.marks[0], state.marks[1]
    t = int(np.argmax(end > start))
    target = f" of target {t}" if problem.k > 1 else ""
    lr, max_lr = float(settings.rates[0, 0]), stable_lr(problem, settings)
    message = f"the objective{target} rose from {start[t]:g} to {end[t]:g} in {state.epoch} epochs with lr={lr:g}; "
    if max_lr is not None and lr < max_lr:
        return message + f"lr is stable (up to {describe(max_lr, settings)}), so more epochs will bring it down"
    return message + f"use an lr of at most {describe(max_lr, settings)}"


def describe(max_lr, settings):
    """A learning rate rounded down to three digits, and the momentum form that it goes with."""
    if max_lr in (None, math.inf):
        digits = str(max_lr)
    else:
        unit = 10.0 ** (math.floor(math.log10(max_lr)) - 2)
        digits = f"{math.floor(max_lr / unit) * unit:.3g}"
    _, momentum, undamped = settings.rates[0]
    form = ", nesterov" if settings.nesterov else ""
    return f"{digits} for momentum={momentum:g}, dampening={1 - undamped:g}{form}"
