from typing import Any

import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]

def is_triangular(R: NDArray[np.float64]) -> bool: ...
def add_rows(
    R: NDArray[np.float64],
    X: NDArray[Any],
    intercept: bool,
    y: NDArray[Any],
    roots: NDArray[np.float64] | None = None,
    triangular: bool = False,
) -> None: ...
def factor_many(
    X: NDArray[Any],
    intercept: bool,
    y: NDArray[Any],
    roots: NDArray[np.float64] | None,
    lines: NDArray[np.float64],
    targets: NDArray[np.float64],
    first: int,
    last: int,
) -> NDArray[np.float64]: ...
def follow_modes(
    curvature: NDArray[np.float64],
    constants: NDArray[np.float64],
    epochs: NDArray[np.longlong],
    nesterov: bool,
    from_start: bool,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]: ...
def mix(digest: NDArray[np.uint64], content: NDArray[np.uint8]) -> None: ...
