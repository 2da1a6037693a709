"""All that is compiled: the epoch loop (descent.pyx), and the arithmetic over rows in C (arithmetic/rows.h)."""

from .descent import OUTCOMES, advance, losses
from .digest import mix
from .many import ManyOptions, Problems, States, advance_many, losses_many
from .nouns import (
    COLUMN_TERMS,
    DECAY,
    INITIAL_OBJECTIVE,
    INVERSE_DEVIATION,
    LAST_LOSS,
    MEAN,
    METRICS,
    SHRINKAGE,
    Options,
    Problem,
    Record,
    State,
)
from .rows import ISA, LEVELS, Rows, Team, column_sums, parts

__all__ = [
    "COLUMN_TERMS", "DECAY", "INITIAL_OBJECTIVE", "INVERSE_DEVIATION", "ISA", "LAST_LOSS", "LEVELS", "MEAN", "METRICS",
    "OUTCOMES", "SHRINKAGE", "ManyOptions", "Options", "Problem", "Problems", "Record", "Rows", "State", "States",
    "Team", "advance", "advance_many", "column_sums", "losses", "losses_many", "mix", "parts",
]  # fmt: skip
