from typing import Any

import numpy as np
from numpy.typing import NDArray

from .nouns import Problem, Record

_Floats = NDArray[np.float32] | NDArray[np.float64]

__test__: dict[str, str]

class Problems:
    lines: _Floats
    by_columns: bool
    targets: _Floats
    weights: _Floats | None
    total_weights: NDArray[np.float64]
    held_out: Problems | None
    one: Problem
    def __init__(
        self,
        lines: _Floats,
        by_columns: bool,
        targets: _Floats,
        weights: _Floats | None,
        total_weights: NDArray[np.float64],
        fit_intercept: bool,
        features: int = -1,
        triangular: bool = False,
        dtype: np.dtype[Any] | None = None,
        held_out: Problems | None = None,
    ) -> None: ...

class ManyOptions:
    rates: NDArray[np.float64]
    penalties: NDArray[np.float64]
    epochs: int
    nesterov: bool
    tol: float
    columns: NDArray[np.float64] | None
    def __init__(
        self, rates: NDArray[np.float64], penalties: NDArray[np.float64], epochs: int, nesterov: bool, tol: float
    ) -> None: ...

class States:
    parameters: Any
    metrics: NDArray[np.float64]
    epochs: NDArray[np.intp]
    outcomes: NDArray[np.int8]
    def __init__(self, parameters: _Floats) -> None: ...

FITS_IN_LANES: int
PARAMETERS_IN_LANES: int

def column_sums(
    lines: _Floats,
    by_columns: bool,
    weights: _Floats | None,
    shift: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> NDArray[np.float64]: ...
def losses_many(problems: Problems, parameters: _Floats) -> NDArray[np.float64]: ...
def advance_many(
    problems: Problems, options: ManyOptions, states: States, record: Record, first: int, last: int, epochs: int
) -> None: ...
def fits_together(one: Problem, options: ManyOptions, share_rows: bool) -> int: ...
