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
    """Fit ``y ~ X @ coef`` by gradient descent with momentum, and return the history of the descent.

    The loss is the mean squared error ``f(a) = sum_i w_i (x_i . a - y_i)**2 / sum_i w_i``, without a factor 1/2. Its
    gradient is ``g(a) = 2 X' W (X a - y) / sum_i w_i``. Epoch t = 0, 1, ... does ::

        u_t = g(a_t) + weight_decay * a_t                       (never on the intercept)
        v_t = momentum * v_{t-1} + (1 - dampening) * u_t        (v_0 = u_0)
        a_{t+1} = a_t - lr * v_t

    With `nesterov` the last line is ``a_{t+1} = a_t - lr * ((1 - dampening) * u_t + momentum * v_t)``. The formulas and
    the names are those of ``torch.optim.SGD``. Only the default of `dampening` differs: torch's is 0.

    The parameters stand in groups:

    ===========  =====================================================================
    data         X, y; fit_intercept, sample_weight
    descent      lr, momentum, epochs, dampening, nesterov, weight_decay, l1, standardize
    start        coef0, init
    batches      batch_size, shuffle, seed, average
    stopping     tol, validation, patience
    recording    record, record_every
    running      callback, callback_every, progress, method, n_threads
    ===========  =====================================================================

    Parameters
    ----------
    X : array of shape (n, d), or Compressed
        The design matrix, or a reduction from `compress`. Arrays of float64 in C or F order are read in place, and so
        are those of float32 if y is float32 too. Any other real type or layout is copied once. The columns of a table
        (pandas, polars, Arrow) give the result its `feature_names`. With `init`, a table's columns are taken by the
        names in `init`.
    y : array of shape (n,) or (n, k), optional
        The targets. k targets are k independent fits that share X. A `Compressed` holds them: then y is None.
    lr : float, array of shape (epochs,), function of the epoch, or "auto", default 0.1
        The learning rate. An array has one value for each epoch of this call. A function gets the number of an epoch;
        it is called for all epochs before the first one runs. `sgdm.schedules` makes arrays. "auto" computes lr from
        the extreme eigenvalues of the Hessian and the number of epochs (see Notes).
    momentum : float in [0, 1), array, function, or "auto", default 0.8
        The part of the last step that is kept. An array or a function is as for `lr`. "auto" needs ``lr="auto"``.
    epochs : int, default 50
        The number of epochs, which are passes over the rows; with `init`, the number of further ones.
    dampening : float in [0, 1], optional
        The new gradient is multiplied by ``1 - dampening``. By default dampening equals `momentum`: the step is then a
        moving average of the gradients. 0 is the classical heavy ball, and torch's default.
    nesterov : bool, default False
        Whether to use Nesterov momentum: the second formula for ``a_{t+1}`` above.
    weight_decay : float or array of shape (d,), default 0.0
        Adds ``weight_decay / 2 * |a|**2`` to the objective. With an array, whose values belong to the columns, it adds
        ``sum_j weight_decay_j / 2 * a_j**2``. The intercept has no penalty. Losses and gradients in the history are
        without penalties.
    l1 : float or array of shape (d,), default 0.0
        Adds ``l1 * |a|_1`` to the objective, or ``sum_j l1_j |a_j|``, without the intercept. A proximal step after each
        update moves the coefficients by ``lr * l1 * (1 - dampening) / (1 - momentum)`` towards zero, and no further.
        The objective is that of scikit-learn's ElasticNet, times 2, for ``l1 = 2 * alpha * l1_ratio`` and
        ``weight_decay = 2 * alpha * (1 - l1_ratio)``.
    standardize : bool or (means, deviations), default False
        Whether to descend in the coordinates of standardized columns (see Notes). Columns of different scales, or far
        from zero, then don't slow the descent down. Objective, penalties and optimum stay the same. X is not copied. A
        pair of arrays of shape (d,) replaces the means and standard deviations of the rows. The deviations must be
        above 0. Without an intercept the means must be 0.
    fit_intercept : bool, default False
        Whether to fit an intercept. It is the last parameter.
    sample_weight : array of shape (n,), optional
        The weights w of the rows, none of them negative. By default all are 1.
    coef0 : array of shape (p,) or (p, k), optional
        The parameters to start from: the features' coefficients, then the intercept. p is d, or d + 1 with
        `fit_intercept`. By default all are 0.
    init : FitResult, optional
        The result of a fit to go on with, from its parameters, velocity, epoch, average and row order. If the other
        arguments and the method are the same as there, result and history have the bits of one longer fit. A result
        whose parts don't belong together is refused, such as one made by `dataclasses.replace`. To change
        `standardize`, start from `coef0` instead, because the velocity belongs to the old coordinates.
    batch_size : int, optional
        The number of rows per update. The last batch of an epoch may be shorter: its gradient is the mean over its own
        rows. By default an epoch has one update, from all rows.
    shuffle : bool, default True
        Whether each epoch takes the rows in a new random order, ``generator.permutation(n)``. It has no effect without
        `batch_size`. F-order X of up to 256 MiB is copied to C order for it: rows take six times as long to read from
        columns.
    seed : int, SeedSequence or Generator, optional
        The seed of the row orders and of the held-out rows, for ``numpy.random.default_rng``. A Generator is used, and
        advanced, as it is.
    average : bool or int, default False
        Whether to return the mean of the iterates too, as ``average_coef`` (Polyak-Ruppert averaging). An int is the
        epoch at which the mean begins.
    tol : float, optional
        Without `patience`: the fit stops after the epoch in which the gradient norm of every target is at most `tol`
        times its norm at the first epoch. Its status is then ``converged``. With penalties the norm is that of the
        smallest subgradient of the objective. With `patience`: the relative fall of the validation loss that counts as
        an improvement. By default any fall counts.
    validation : (X, y), (X, y, sample_weight), float in (0, 1), or Compressed, optional
        The rows whose loss is computed after every epoch. A float is the fraction of the rows to hold out for this.
        They are the first of ``generator.permutation(n)``, which is drawn before the row orders of the epochs. If X is
        a `Compressed`, validation is another one.
    patience : int, optional
        The number of epochs without improvement of the validation loss after which the fit stops. Its status is then
        ``stopped``. The result has the coefficients of the best epoch.
    record : {"all", "loss", "updates", None}, default "all"
        What the history keeps: everything of each epoch, only the losses, everything of each update, or nothing.
    record_every : int, default 1
        The history keeps epochs (or updates) 0, k, 2 k, ... for ``record_every=k``.
    callback : function, optional
        Is called with a `Progress` every `callback_every` epochs. If it raises StopIteration, the fit ends with status
        ``stopped``.
    callback_every : int, default 1
        The number of epochs from one callback to the next.
    progress : bool, default False
        Whether to show a progress bar, which needs tqdm.
    method : {"auto", "direct", "compress"}, default "auto"
        Whether to descend on the rows themselves, or on their reduction (see `compress`). Both give the same result up
        to rounding. "auto" reduces the rows where that is clearly faster; with `init`, it takes the method of `init`. A
        `Compressed` is always "compress".
    n_threads : int, default 1
        The number of threads that share the rows; -1 stands for all CPUs that the process may use. Each thread should
        have at least some 10 000 numbers of X. The bits of the result are the same for any number.

    Returns
    -------
    FitResult
        Coefficients, status and history. Its arrays are float32 if X and y are, else float64.

    Raises
    ------
    DivergenceError
        If a loss or a parameter overflows. Its ``result`` holds the epochs before that, its ``max_lr`` is a stable
        learning rate.
    ValueError, TypeError
        If an argument has a wrong value, shape or type, or if two arguments exclude each other.
    MemoryError
        If there is no memory for the history.
    ImportError
        If `progress` is set and tqdm is missing.
    KeyboardInterrupt
        On Ctrl-C. Its ``result`` holds the epochs done so far. An exception from the callback has such a result too.

    Warns
    -----
    ConvergenceWarning
        If the objective is larger at the end than at the start; or if more than a hundredth of the gap between its
        start and its minimum is left. The minimum is only known if the rows were reduced.

    See Also
    --------
    fit_many : Fit many models in one call.
    compress : Read the rows once, for fits that don't depend on their number.
    sgdm.sklearn.SGDMRegressor : The same descent as a scikit-learn estimator.

    Notes
    -----
    `standardize` descends in the coordinates ``b_j = s_j a_j`` and ``b_0 = a_0 + sum_j m_j a_j``. Here m and s are the
    weighted means and standard deviations of the columns; s is 1 for a constant column. Without an intercept, m is 0
    and s is the root mean square. The path is that of a fit to standardized copies of the columns with the penalties
    ``weight_decay_j / s_j**2`` and ``l1_j / s_j``. lr, and the gradient norm for `tol`, belong to these coordinates.
    Results and histories are in the units of X: ``grad`` is g(a_t), and ``step`` is v_t in the coordinates of a, so
    that ``a_{t+1} = a_t - lr * step`` without `l1` and `nesterov`.

    ``lr="auto"`` needs L and mu, the largest and the smallest positive eigenvalue of the Hessian of the objective
    without `l1`. mu is raised to ``L / (epochs / 9)**2`` if it is smaller. With kappa = L / mu the constants are:

    - ``momentum="auto"``, heavy ball: ``lr = 4 / (sqrt(L) + sqrt(mu))**2``,
      ``momentum = ((sqrt(kappa) - 1) / (sqrt(kappa) + 1))**2``, dampening 0 [4]_;
    - ``momentum="auto"``, `nesterov`: ``lr = 4 / (3 L + mu)``,
      ``momentum = (sqrt(3 kappa + 1) - 2) / (sqrt(3 kappa + 1) + 2)``, dampening 0 [5]_;
    - another momentum: ``lr = (1 + sqrt(momentum))**2 / L``, with `nesterov` the lr of the kappa for which this
      momentum is the best.

    Each lr is divided by 1 - dampening. It is lowered if the oscillation from the first step, which is not dampened,
    would not be over at the last epoch. Data that differ by rounding get constants that differ by rounding.
    `Compressed.tune` searches for constants that end lower.

    With `patience`, an oscillation would stop the fit too early. So ``lr="auto"`` is then the largest rate without one:
    ``(1 - sqrt(momentum))**2 / L``, with `nesterov` ``((1 - momentum) / (1 + momentum))**2 / L``. Momentum is 0 unless
    it is given. With `batch_size` the same formulas hold, with twice the expected curvature of a batch [6]_ in place of
    L.

    References
    ----------
    .. [1] I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and momentum in deep
       learning", ICML 2013: momentum, and Nesterov's form of it.
    .. [2] B. Polyak and A. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim.
       30 (1992): `average`.
    .. [3] N. Parikh and S. Boyd, "Proximal algorithms", Found. Trends Optim. 1 (2014): `l1`.
    .. [4] B. Polyak, "Introduction to Optimization" (1987), section 3.2.1: ``lr="auto"``.
    .. [5] L. Lessard, B. Recht and A. Packard, "Analysis and design of optimization algorithms via integral quadratic
       constraints", SIAM J. Optim. 26 (2016), table 1.
    .. [6] R. Gower et al., "SGD: general analysis and improved rates", ICML 2019.

    Examples
    --------
    >>> import numpy as np, sgdm
    >>> x = np.linspace(-1, 1, 100)
    >>> result = sgdm.fit(x.reshape(-1, 1), 3 * x + 2, fit_intercept=True, epochs=200)
    >>> result.coef.round(4), round(float(result.intercept), 4)
    (array([3.]), 2.0)
    >>> result.history.loss[[0, 10, 100]].round(4)
    array([7.0606, 0.7567, 0.    ])

    Mini-batches, and the loss on rows held out:

    >>> X = np.random.default_rng(0).normal(size=(1000, 3))
    >>> y = X @ [1.0, -2.0, 0.5]
    >>> result = sgdm.fit(X, y, batch_size=32, seed=0, lr=0.05, epochs=5, validation=0.2)
    >>> result.coef.round(3)
    array([ 1. , -2. ,  0.5])
    >>> result.history.val_loss.shape
    (5,)

    A learning rate that is too large:

    >>> try:
    ...     sgdm.fit(X, y, lr=50, epochs=1000)
    ... except sgdm.DivergenceError as error:
    ...     print(error)
    the fit diverged at epoch 119: lr=50 is too large; use an lr of at most 8.16 for momentum=0.8, dampening=0.8
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
