from typing import final

import numpy as np
from numpy.typing import NDArray

from .nouns import Problem

__test__: dict[str, str]
LEVELS: tuple[str, ...]
ISA: str

@final
class Team:
    def __init__(self, helpers: int) -> None: ...
    def open(self) -> None: ...
    def close(self) -> None: ...
    def help(self, member: int) -> None: ...

@final
class Rows:
    problem: Problem
    team: Team | None
    def __init__(
        self,
        problem: Problem,
        batch_size: int = 0,
        team: Team | None = None,
        columns: NDArray[np.float64] | None = None,
    ) -> None: ...

def parts(problem: Problem, batch_size: int = 0) -> int: ...
