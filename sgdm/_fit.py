"""fit(): check the options and the data, reduce the rows where that is faster, descend, return the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ._descent.descent import Descent
from ._descent.messages import convergence_message, warn
from ._descent.options import Options
from ._descent.problem import as_problems
from ._reduction.compressed import Compressed
from ._reduction.reduce import as_reduced_problems, reduce_rows
from ._results.status import attach_result

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import ArrayLike

    from ._descent.descent import Progress
    from ._results.result import FitResult


def fit(
    X: ArrayLike | Compressed,
    y: ArrayLike | None = None,
    *,
    lr: float | ArrayLike | Callable[[int], float] | Literal["auto"] = 0.1,
    momentum: float | ArrayLike | Callable[[int], float] | Literal["auto"] = 0.8,
    epochs: int = 50,
    dampening: float | None = None,
    nesterov: bool = False,
    weight_decay: float | ArrayLike = 0.0,
    l1: float | ArrayLike = 0.0,
    standardize: bool | tuple[ArrayLike, ArrayLike] = False,
    fit_intercept: bool = False,
    sample_weight: ArrayLike | None = None,
    coef0: ArrayLike | None = None,
    init: FitResult | None = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    seed: int | np.random.SeedSequence | np.random.Generator | None = None,
    average: bool | int = False,
    tol: float | None = None,
    validation: tuple[ArrayLike, ...] | float | Compressed | None = None,
    patience: int | None = None,
    record: Literal["all", "loss", "updates"] | None = "all",
    record_every: int = 1,
    callback: Callable[[Progress], object] | None = None,
    callback_every: int = 1,
    progress: bool = False,
    method: Literal["auto", "direct", "compress"] = "auto",
    n_threads: int = 1,
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
    X : array of shape (n, d), or Compressed
        The design matrix. float64 in C or F order is read in place, and so is float32 if y is float32 too; any other
        real type or layout is copied once. No column of ones is added unless `fit_intercept` asks for an intercept. The
        names of a table's columns (pandas, polars, Arrow) are the result's `feature_names`, and those of `init` say
        which columns are taken of a table.
    y : array of shape (n,) or (n, k), or None
        The targets. k targets are k independent fits that share X. None where X is a `Compressed`.
    lr : float, array of shape (epochs,), function of the epoch or "auto", default 0.1
        The learning rate. "auto" takes the best for the extreme eigenvalues of the Hessian and this number of epochs,
        from formulas (see Notes). An array has one value for each epoch of this call; a function is called with each
        epoch's number before the run. See `sgdm.schedules`.
    momentum : float in [0, 1), array or function as for lr, or "auto" if lr is, default 0.8
        How much of the last step is kept.
    epochs : int, default 50
        How many passes over the rows to do; with `init`, how many more.
    dampening : float in [0, 1], optional
        The new gradient is multiplied by 1 - dampening. None, the default, stands for `momentum`: the step is a moving
        average of past gradients. 0, torch's default, is the classical heavy ball.
    nesterov : bool, default False
        Whether to use Nesterov momentum (the second update formula).
    weight_decay : float or array of shape (d,), default 0.0
        Adds ``weight_decay / 2 * |a|**2`` to the objective that is descended; recorded loss and gradient are without.
        An array holds one for each column: adds ``sum_j weight_decay_j / 2 * a_j**2``.
    l1 : float or array of shape (d,), default 0.0
        Adds ``l1 * |a|_1``, or ``sum_j l1_j |a_j|``, by a proximal step after each update: coefficients shrink by
        ``lr * l1 * (1 - dampening) / (1 - momentum)`` towards exact zeros. Never on the intercept. scikit-learn's
        ElasticNet is ``l1 = 2 alpha l1_ratio``, ``weight_decay = 2 alpha (1 - l1_ratio)``.
    standardize : bool or (means, deviations), default False
        Whether to descend in the coordinates of standardized columns (see Notes), in which columns of unlike scales, or
        far from zero, don't slow the descent down. Objective, penalties and optimum stay what they are, and X is not
        copied. A pair of arrays (d,) are the means and deviations to use, in place of those of the rows: the deviations
        above 0, and the means 0 without an intercept.
    fit_intercept : bool, default False
        Whether to fit an intercept as the last parameter.
    sample_weight : array of shape (n,), optional
        Weights w, none negative; 1 by default.
    coef0 : array of shape (p,) or (p, k), optional
        Where to start: the features' coefficients, then the intercept's if there is one; so p is d, or d + 1 with
        `fit_intercept`. Zeros by default.
    init : FitResult, optional
        Resume from this result: parameters, velocity, epoch count, averages, row order. With the other arguments and
        the method unchanged, result and history are bit-identical to one longer fit. A result whose parts don't go
        together, as after `dataclasses.replace`, is refused. With another `standardize` than in `init`, its velocity is
        that of other coordinates: begin anew there, from ``coef0``.
    batch_size : int, optional
        Update after every so many rows; the last batch of an epoch may be shorter, and averages over its own rows.
        By default after all rows.
    shuffle : bool, default True
        Whether each epoch takes the rows in a new random order, ``generator.permutation(n)``, when there are batches.
        F-order X of up to 256 MiB is copied by rows for that: rows from columns take six times as long.
    seed : int, SeedSequence or Generator, optional
        What ``numpy.random.default_rng`` makes the generator of; a Generator is used, and advanced, as it is.
    average : bool or int, default False
        Whether to return the mean of the iterates beside the last one (Polyak-Ruppert), from that epoch on.
    tol : float, optional
        Without `patience`: stop after the epoch in which every target's gradient norm is at most tol times its norm
        at the first epoch, with status ``converged``; with penalties, the norm of the objective's least subgradient.
        With `patience`: the relative fall of the validation loss that counts as improvement, by default any.
    validation : (X, y), (X, y, sample_weight) or float in (0, 1), optional
        Rows to take the loss of after every epoch, or the fraction of the rows to hold out at random for that: the
        first of ``generator.permutation(n)``, before those of the epochs.
    patience : int, optional
        Stop after so many epochs without improvement of the validation loss, with status ``stopped``, and return the
        best epoch's coefficients.
    record : {"all", "loss", "updates", None}, default "all"
        What the history keeps: everything per epoch, the loss alone, everything per update, or nothing.
    record_every : int, default 1
        Keep epochs (or updates) 0, k, 2 k, ...
    callback : function, optional
        Called with a `Progress` every `callback_every` epochs; StopIteration ends the fit with status ``stopped``.
    callback_every : int, default 1
        How many epochs apart the callbacks are.
    progress : bool, default False
        Whether to show a bar (needs tqdm).
    method : {"auto", "direct", "compress"}, default "auto"
        Whether to descend on the rows themselves or on their reduction (see `compress`), which gives the same to
        rounding. "auto" reduces where that is clearly faster; with `init`, it takes init's method. A `Compressed` is
        always "compress".
    n_threads : int, default 1
        How many threads share the rows of each update, or reduce them; worth while from some 10 000 numbers in X per
        thread on. -1 stands for all CPUs that the process may use. The bits don't depend on it.

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
        On Ctrl-C, with the epochs done until then as its ``result``; so too what a callback raises.

    Warns
    -----
    ConvergenceWarning
        If the descent ends above where it began; or where more than a hundredth of the way from there to the least
        objective is left. The least is known only where the data were reduced.

    Notes
    -----
    With `standardize`, the descent runs in ``b_j = s_j a_j`` and ``b_0 = a_0 + sum_j m_j a_j``, where m and s are the
    weighted means and standard deviations of the columns. s is 1 for a constant column. Without an intercept m is 0,
    and s are the deviations from 0. The path is the one that standardized copies of the columns would have, with
    penalties ``weight_decay_j / s_j**2`` and ``l1_j / s_j``; lr, and the gradient's norm for `tol`, are of that
    descent. All results and histories are in the units of X: ``grad`` is g(a_t), and ``step`` the step of the
    coefficients; without `l1`, ``a_{t+1} = a_t - lr * step``.

    lr="auto" takes L and mu, the largest and the smallest eigenvalue above 0 of the objective's Hessian, mu raised to
    ``L / (epochs / 9)**2`` at least, and kappa = L / mu. With momentum="auto" it stands for the best constants of a
    heavy ball, ``lr = 4 / (sqrt(L) + sqrt(mu))**2``, ``momentum = ((sqrt(kappa) - 1) / (sqrt(kappa) + 1))**2``,
    dampening 0; with nesterov ``lr = 4 / (3 L + mu)``, ``momentum = (sqrt(3 kappa + 1) - 2) / (sqrt(3 kappa + 1) +
    2)``. Where momentum is given, lr is ``(1 + sqrt(momentum))**2 / L``. Each lr is divided by 1 - dampening, and
    lowered if the swing that the undamped first step starts would not be over at the end. Data that differ by rounding
    get constants that differ by rounding. The constants are those of the objective without `l1`.

    With `patience`, lr="auto" is the largest rate at which no direction swings, so that a swing doesn't end the fit:
    ``(1 - sqrt(momentum))**2 / L``, with nesterov ``((1 - momentum) / (1 + momentum))**2 / L``. Momentum is 0 unless it
    is given. With `batch_size` the same formulas hold, with twice the expected curvature of a batch of rows in place of
    L (R. Gower et al., "SGD: general analysis and improved rates", ICML 2019). `Compressed.tune` searches for constants
    that end lower.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and momentum in deep
    learning", ICML 2013. The convention of the constants is that of ``torch.optim.SGD``. B. Polyak and A. Juditsky,
    "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30 (1992). N. Parikh and S. Boyd,
    "Proximal algorithms" (2014), for l1. B. Polyak, "Introduction to Optimization" (1987), and L. Lessard, B. Recht and
    A. Packard, "Analysis and design of optimization algorithms", SIAM J. Optim. 26 (2016), for lr="auto".

    Examples
    --------
    >>> import numpy as np, sgdm
    >>> x = np.linspace(-1, 1, 100)
    >>> result = sgdm.fit(x.reshape(-1, 1), 3 * x + 2, fit_intercept=True, epochs=200)
    >>> result.coef.round(4), round(float(result.intercept), 4)
    (array([3.]), 2.0)
    >>> result.history.loss[[0, 10, 100]].round(4)
    array([7.0606, 0.7567, 0.    ])
    """
    fraction = None if validation is None or isinstance(validation, (tuple, list, Compressed)) else validation
    options = Options(  # every argument but the data, refused before a row is read
        lr, momentum, epochs, dampening, nesterov, weight_decay, l1, standardize, fit_intercept, coef0, init,
        batch_size, shuffle, seed, average, tol, validation is not None, fraction, patience, record, record_every,
        callback, callback_every, progress, method, n_threads,
    )  # fmt: skip
    if isinstance(X, Compressed):
        problem, held_out = as_reduced_problems(X, y, sample_weight, validation, options)
    else:
        problem, held_out = as_problems(X, y, sample_weight, validation, options)
        problem, held_out = reduce_rows(problem, held_out, options)
    options.scale(problem)
    if options.auto:
        options.choose_rates(problem)
    descent = Descent(problem, options, held_out)
    try:
        descent.run()
        result = descent.result()
        if message := convergence_message(descent, result):
            warn(message)
        return result
    except BaseException as stop:  # KeyboardInterrupt and what a callback raises too
        attach_result(stop, descent.result())
        raise


Compressed._fit = fit
