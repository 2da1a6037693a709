from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

_Floats = NDArray[np.float32] | NDArray[np.float64]

__test__: dict[str, str]
INITIAL_OBJECTIVE: int
INITIAL_NORM: int
LAST_LOSS: int
METRICS: int
MEAN: int
INVERSE_DEVIATION: int
DECAY: int
SHRINKAGE: int
COLUMN_TERMS: int

@disjoint_base
class Problem:
    lines: _Floats
    targets: _Floats
    weights: _Floats | None
    by_columns: bool
    fit_intercept: bool
    triangular: bool
    dtype: np.dtype[Any]
    total_weight: float
    n: int
    d: int
    k: int
    p: int
    features: int
    row_step: int
    def __init__(
        self,
        lines: _Floats,
        by_columns: bool,
        targets: _Floats,
        weights: _Floats | None,
        total_weight: float,
        fit_intercept: bool,
        features: int = -1,
        triangular: bool = False,
        dtype: np.dtype[Any] | None = None,
    ) -> None: ...

@disjoint_base
class Options:
    rates: NDArray[np.float64] | tuple[float, float, float] | None
    weight_decay: float | NDArray[np.float64]
    l1: float | NDArray[np.float64]
    tol: float
    improvement: float
    nesterov: bool
    start: int
    batch_size: int
    patience: int
    average_from: int
    shuffle: bool
    def __init__(
        self,
        rates: NDArray[np.float64] | tuple[float, float, float] | None,
        nesterov: bool = False,
        weight_decay: float | NDArray[np.float64] = 0.0,
        l1: float | NDArray[np.float64] = 0.0,
        tol: float = -1.0,
        start: int = 0,
        batch_size: int = 0,
        average_from: int = -1,
        patience: int = 0,
        improvement: float = 0.0,
        shuffle: bool = False,
    ) -> None: ...
    def set_rates(self, rates: NDArray[np.float64] | tuple[float, float, float] | None) -> None: ...

@disjoint_base
class State:
    parameters: Any
    average: Any
    best: Any
    metrics: NDArray[np.float64]
    generator: np.random.Generator | None
    split: dict[str, Any] | None
    epoch: int
    updates: int
    averaged: int
    best_epoch: int
    waited: int
    diverged: int
    best_loss: float
    def __init__(
        self,
        parameters: _Floats,
        average: NDArray[np.float64] | None,
        best: _Floats | None,
        metrics: NDArray[np.float64],
        epoch: int = 0,
        updates: int = 0,
        averaged: int = 0,
        best_epoch: int = -1,
        waited: int = 0,
        best_loss: float = ...,
        generator: np.random.Generator | None = None,
        split: dict[str, Any] | None = None,
    ) -> None: ...
    def copy(self) -> State: ...

@disjoint_base
class Record:
    loss: Any
    val_loss: Any
    paths: Any
    every: int
    start: int
    start_update: int
    per_update: bool
    def __init__(
        self,
        loss: _Floats | None,
        val_loss: _Floats | None,
        paths: _Floats | None,
        every: int = 1,
        per_update: bool = False,
        start: int = 0,
        start_update: int = 0,
    ) -> None: ...
