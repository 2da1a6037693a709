"""A descent: its problem, its options, its state and its record, and the run that advances the state."""
