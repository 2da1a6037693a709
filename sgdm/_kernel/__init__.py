"""All that is compiled: the epoch loop (descent.pyx), and the arithmetic over rows in C (arithmetic/rows.h)."""

from .descent import OUTCOMES, advance, losses
from .digest import mix
from .many import ManyOptions, Problems, States, advance_many, losses_many
from .nouns import INITIAL_OBJECTIVE, LAST_LOSS, METRICS, Options, Problem, Record, State
from .rows import ISA, LEVELS, Rows, Team, parts

__all__ = [
    "INITIAL_OBJECTIVE", "ISA", "LAST_LOSS", "LEVELS", "METRICS", "OUTCOMES", "ManyOptions", "Options", "Problem",
    "Problems", "Record", "Rows", "State", "States", "Team", "advance", "advance_many", "losses", "losses_many", "mix",
    "parts",
]  # fmt: skip
