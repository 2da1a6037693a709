import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]

def mix(digest: NDArray[np.uint64], content: NDArray[np.uint8]) -> None: ...
