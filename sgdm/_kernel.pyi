from typing import Any, final

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32] | NDArray[np.float64]

__test__: dict[str, str]
LEVELS: tuple[str, ...]
ISA: str
OUTCOMES: tuple[str, ...]

@final
class Problem:
    lines: _Floats
    targets: _Floats
    weights: _Floats | None
    by_columns: bool
    fit_intercept: bool
    triangular: bool
    total_weight: float
    n: int
    d: int
    k: int
    p: int
    features: int
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
    ) -> None: ...

@final
class Settings:
    rates: NDArray[np.float64] | tuple[float, float, float]
    weight_decay: float
    l1: float
    tol: float
    improvement: float
    nesterov: bool
    start: int
    batch_size: int
    patience: int
    average_from: int
    single: bool
    def __init__(
        self,
        rates: NDArray[np.float64] | tuple[float, float, float],
        nesterov: bool = False,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        tol: float = -1.0,
        start: int = 0,
        batch_size: int = 0,
        average_from: int = -1,
        patience: int = 0,
        improvement: float = 0.0,
        single: bool = False,
    ) -> None: ...

@final
class State:
    parameters: Any
    average: Any
    best: Any
    marks: NDArray[np.float64]
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
        marks: NDArray[np.float64],
        epoch: int = 0,
        updates: int = 0,
        averaged: int = 0,
        best_epoch: int = -1,
        waited: int = 0,
        best_loss: float = ...,
    ) -> None: ...
    def copy(self) -> State: ...

@final
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

@final
class Team:
    def __init__(self, helpers: int) -> None: ...
    def open(self) -> None: ...
    def close(self) -> None: ...
    def help(self, member: int) -> None: ...

def advance(
    problem: Problem,
    settings: Settings,
    state: State,
    record: Record,
    epochs: int,
    generator: np.random.BitGenerator | None = None,
    validation: Problem | None = None,
    team: Team | None = None,
) -> str: ...
def losses(problem: Problem, parameters: _Floats) -> list[float]: ...
def losses_many(
    problem: Problem,
    lines: _Floats,
    targets: _Floats,
    weights: _Floats | None,
    total_weights: NDArray[np.float64],
    parameters: _Floats,
    loss: NDArray[np.float64],
) -> None: ...
def parts(problem: Problem, settings: Settings) -> int: ...
def advance_many(
    problem: Problem,
    settings: Settings,
    lines: _Floats,
    targets: _Floats,
    weights: _Floats | None,
    total_weights: NDArray[np.float64],
    rates: NDArray[np.float64],
    penalties: NDArray[np.float64],
    parameters: _Floats,
    marks: NDArray[np.float64],
    done: NDArray[np.intp],
    outcomes: NDArray[np.int8],
    loss: _Floats | None,
    paths: _Floats | None,
    every: int,
    total: int,
    first: int,
    last: int,
    epochs: int,
) -> None: ...
def mix(digest: NDArray[np.uint64], content: NDArray[np.uint8]) -> None: ...
