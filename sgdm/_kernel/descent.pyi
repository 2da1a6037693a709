import numpy as np
from numpy.typing import NDArray

from .nouns import Options, Record, State
from .rows import Rows

_Floats = NDArray[np.float32] | NDArray[np.float64]

__test__: dict[str, str]
OUTCOMES: tuple[str, ...]

def advance(
    rows: Rows, options: Options, state: State, record: Record, epochs: int, held_out: Rows | None = None
) -> str: ...
def losses(rows: Rows, parameters: _Floats) -> list[float]: ...
