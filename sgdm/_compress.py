"""The QR reduction: any number of rows, read once, become the few rows of a triangular factor.

Let Z = [X, 1, Y], the ones there only with an intercept, its rows scaled by the square roots of the weights, and
Z = Q R. Loss and gradient depend on Z'Z = R'R alone, so those of (X, Y) are those of R's columns with the original sum
of weights, without the cancellation that Z'Z itself would bring. Factors of row blocks, stacked, factor again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from ._files import read_npz, write_npz
from ._forecast import Modes
from ._kernel import Problem
from ._sources import as_blocks
from ._validation import as_count, as_flag, as_targets, as_weights, as_matrix, check_finite

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_BLOCK_BYTES = 1 << 20  # of a block of rows in float64, which LAPACK should find in the second-level cache
_LEAF_BLOCKS = 32  # blocks that are factored one after the other; leaves are what threads share
