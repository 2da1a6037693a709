from typing import Any, final

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32] | NDArray[np.float64]

LEVELS: tuple[str, ...]
ISA: str
__test__: dict[str, str]
OUTCOMES: tuple[str, ...]

@final
class Problem:
    lines: _Floats
    targets: _Floats
    weights: _Floats | None
    by_columns: bool
    fit_intercept: bool
    total_weight: float
    n: int
    d: int
    k: int
    p: int
    def __init__(
        self,
        lines: _Floats,
        by_columns: bool,
        targets: _Floats,
        weights: _Floats | None,
        total_weight: float,
        fit_intercept: bool,
    ) -> None: ...

@final
class Settings:
    rates: NDArray[np.float64]
    weight_decay: float
    tol: float
    nesterov: bool
    def __init__(self, rates: NDArray[np.float64], nesterov: bool, weight_decay: float, tol: float) -> None: ...

@final
class State:
    coef: _Floats
    velocity: _Floats
    marks: NDArray[np.float64]
    epoch: int
    diverged: int
    rose: bool
    def __init__(self, coef: _Floats, velocity: _Floats, marks: NDArray[np.float64], epoch: int = 0) -> None: ...

@final
class Record:
    loss: _Floats | None
    grad: _Floats | None
    step: _Floats | None
    coef: _Floats | None
    every: int
    start: int
    def __init__(
        self,
        loss: _Floats | None,
        grad: _Floats | None,
        step: _Floats | None,
        coef: _Floats | None,
        every: int,
        start: int = 0,
    ) -> None: ...

def advance(problem: Problem, settings: Settings, state: State, record: Record, epochs: int) -> str: ...
def first_nonfinite(lines: Any) -> tuple[int, int] | None: ...
