"""All that is compiled: the epoch loop (descent.pyx), and the arithmetic over rows in C (arithmetic/rows.h)."""

from .descent import OUTCOMES, advance, losses
from .many import (
    FITS_IN_LANES,
    PARAMETERS_IN_LANES,
    ManyOptions,
    Problems,
    States,
    advance_many,
    column_sums,
    fits_together,
    losses_many,
)
from .nouns import (
    INITIAL_OBJECTIVE,
    INVERSE_DEVIATION,
    LAST_LOSS,
    MEAN,
    METRICS,
    Options,
    Problem,
    Record,
    State,
)
from .reduction import add_rows, factor_many, follow_modes, is_triangular, mix
from .rows import ISA, LEVELS, Rows, Team, parts

__all__ = [
    "FITS_IN_LANES", "INITIAL_OBJECTIVE", "INVERSE_DEVIATION", "ISA", "LAST_LOSS", "LEVELS", "MEAN", "METRICS",
    "OUTCOMES", "PARAMETERS_IN_LANES", "ManyOptions", "Options", "Problem", "Problems", "Record", "Rows", "State",
    "States", "Team", "add_rows", "advance", "advance_many", "column_sums", "factor_many", "fits_together",
    "follow_modes", "is_triangular", "losses", "losses_many", "mix", "parts",
]  # fmt: skip
