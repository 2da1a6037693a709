"""Learning rates and momenta that change from epoch to epoch, as arrays with one value for each epoch.

Use them as in ``fit(X, y, lr=cosine(epochs, 0.1), epochs=epochs)``. ``plt.plot(cosine(epochs, 0.1))`` shows one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ._validation import as_count, as_number, as_real, check_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["cosine", "exponential", "inverse_scaling", "one_cycle", "warm_up"]


@np.errstate(all="ignore")
def one_cycle(
    epochs: int,
    max_lr: float,
    *,
    pct_start: float = 0.25,
    div: float = 25.0,
    final_div: float = 1e5,
    momentum: tuple[float, float] = (0.95, 0.85),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Raise the learning rate and lower it again in one cycle, while the momentum falls and rises.

    Both change along half cosines. At the end the learning rate is almost zero.

    Parameters
    ----------
    epochs : int
        The length of the cycle.
    max_lr : float
        The learning rate at the peak.
    pct_start : float in [0, 1], default 0.25
        The fraction of the cycle before the peak.
    div : float, default 25.0
        The first learning rate is ``max_lr / div``.
    final_div : float, default 1e5
        The last learning rate is ``max_lr / final_div``.
    momentum : (float, float), default (0.95, 0.85)
        The momentum at both ends, and at the peak.

    Returns
    -------
    lr : array of shape (epochs,)
        The learning rates, for `lr` of `sgdm.fit`.
    momentum : array of shape (epochs,)
        The momenta, for its `momentum`.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of its range, or if a learning rate would overflow.

    References
    ----------
    .. [1] L. Smith, "A disciplined approach to neural network hyper-parameters: part 1", 2018. The defaults are those
       of fastai's course.

    Examples
    --------
    >>> lr, momentum = one_cycle(9, 1.0, momentum=(0.9, 0.8))
    >>> lr.round(3)
    array([0.04 , 0.52 , 1.   , 0.933, 0.75 , 0.5  , 0.25 , 0.067, 0.   ])
    >>> momentum.round(3)
    array([0.9  , 0.85 , 0.8  , 0.807, 0.825, 0.85 , 0.875, 0.893, 0.9  ])
    """
    epochs, max_lr = as_count(epochs, "epochs"), as_number(max_lr, "max_lr")
    pct_start = as_number(pct_start, "pct_start", 1)
    for name, value in (("div", div), ("final_div", final_div)):
        if as_number(value, name) == 0:
            raise ValueError(f"{name} must be above 0, got {value!r}")
        if max_lr / float(value) == math.inf:
            raise ValueError(f"max_lr / {name} must be finite, got {max_lr:g} / {float(value):g}")
    if not isinstance(momentum, (tuple, list)):
        raise TypeError(f"momentum must be a pair, at the ends and at the peak, got {momentum!r}")
    if len(momentum) != 2:
        raise ValueError(f"momentum must be a pair, at the ends and at the peak, got {len(momentum)} values")
    ends, peak = (as_number(value, "momentum", 1, below=True) for value in momentum)
    rise = round(pct_start * (epochs - 1))
    lr = np.empty(epochs)
    momenta = np.empty(epochs)
    lr[: rise + 1] = _half_cosine(max_lr / div, max_lr, rise)
    momenta[: rise + 1] = _half_cosine(ends, peak, rise)
    lr[rise:] = _half_cosine(max_lr, max_lr / final_div, epochs - 1 - rise)
    momenta[rise:] = _half_cosine(peak, ends, epochs - 1 - rise)
    return lr, momenta


@np.errstate(all="ignore")
def cosine(epochs: int, lr: float, final: float = 0.0) -> NDArray[np.float64]:
    """Lower the learning rate from `lr` to `final` along a half cosine: slowly, then fast, then slowly.

    Epoch t has ``final + (lr - final) * (1 + cos(pi * t / (epochs - 1))) / 2`` [1]_.

    Parameters
    ----------
    epochs : int
        The length of the schedule.
    lr : float
        The first learning rate.
    final : float, default 0.0
        The last learning rate.

    Returns
    -------
    array of shape (epochs,)
        The learning rate of each epoch.

    Raises
    ------
    ValueError, TypeError
        If `epochs` is not a positive integer, or `lr` or `final` is negative or not finite.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, equation 5.

    Examples
    --------
    >>> cosine(5, 1.0).round(3)
    array([1.   , 0.854, 0.5  , 0.146, 0.   ])
    """
    return _half_cosine(as_number(lr, "lr"), as_number(final, "final"), as_count(epochs, "epochs") - 1)


@np.errstate(all="ignore")
def exponential(epochs: int, lr: float, gamma: float) -> NDArray[np.float64]:
    """Multiply the learning rate by `gamma` after every epoch.

    Epoch t has ``lr * gamma**t``, as with ``torch.optim.lr_scheduler.ExponentialLR``.

    Parameters
    ----------
    epochs : int
        The length of the schedule.
    lr : float
        The first learning rate.
    gamma : float
        The factor from epoch to epoch, below 1 to lower the learning rate.

    Returns
    -------
    array of shape (epochs,)
        The learning rate of each epoch.

    Raises
    ------
    ValueError, TypeError
        If `epochs` is not a positive integer, `lr` or `gamma` is negative or not finite, or a value would overflow.

    Examples
    --------
    >>> exponential(4, 1.0, 0.5)
    array([1.   , 0.5  , 0.25 , 0.125])
    """
    epochs, lr, gamma = as_count(epochs, "epochs"), as_number(lr, "lr"), as_number(gamma, "gamma")
    rates = lr * gamma ** np.arange(float(epochs))
    if not np.isfinite(rates).all():
        raise ValueError(f"lr * gamma ** t must be finite, got gamma={gamma:g} for {epochs} epochs")
    return rates


@np.errstate(all="ignore")
def inverse_scaling(epochs: int, lr: float, power: float = 0.25) -> NDArray[np.float64]:
    """Lower the learning rate like a power of the epoch.

    Epoch t has ``lr / (t + 1)**power``. scikit-learn's ``learning_rate="invscaling"`` counts samples, not epochs.

    Parameters
    ----------
    epochs : int
        The length of the schedule.
    lr : float
        The first learning rate.
    power : float, default 0.25
        The exponent.

    Returns
    -------
    array of shape (epochs,)
        The learning rate of each epoch.

    Raises
    ------
    ValueError, TypeError
        If `epochs` is not a positive integer, or `lr` or `power` is negative or not finite.

    Examples
    --------
    >>> inverse_scaling(4, 1.0, 0.5).round(3)
    array([1.   , 0.707, 0.577, 0.5  ])
    """
    epochs, lr, power = as_count(epochs, "epochs"), as_number(lr, "lr"), as_number(power, "power")
    return lr / np.arange(1.0, epochs + 1) ** power  # 0 where the power overflows


@np.errstate(all="ignore")
def warm_up(schedule, epochs: int) -> NDArray[np.float64]:
    """Begin a schedule with small learning rates that rise to its own.

    The first values are multiplied by ``1 / (epochs + 1)``, ``2 / (epochs + 1)``, ... in a copy of the schedule.

    Parameters
    ----------
    schedule : array of shape (n,)
        Another schedule, with one value for each epoch; or ``numpy.full(n, lr)``.
    epochs : int
        The length of the warm-up, less than n.

    Returns
    -------
    array of shape (n,)
        The schedule with its warm-up.

    Raises
    ------
    ValueError, TypeError
        If the schedule is not 1-D, holds other than finite real numbers, or is not longer than `epochs`.

    Examples
    --------
    >>> warm_up(np.full(6, 1.0), 3)
    array([0.25, 0.5 , 0.75, 1.  , 1.  , 1.  ])
    """
    rates, epochs = as_real(schedule, "schedule").astype(np.float64), as_count(epochs, "epochs")
    if rates.ndim != 1 or epochs >= len(rates):
        raise ValueError(f"schedule must be 1-D and longer than the {epochs} epochs of warm-up, got {rates.shape}")
    check_finite(rates, "schedule", ("epoch",))
    rates[:epochs] *= np.arange(1, epochs + 1) / (epochs + 1)
    return rates


def _half_cosine(start, end, steps):
    """steps + 1 values from start to end."""
    if steps == 0:
        return np.array([start])
    return end + (start - end) * (1 + np.cos(math.pi * np.arange(steps + 1) / steps)) / 2
