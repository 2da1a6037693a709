"""Copies of arrays, and a division that rounds up."""

import numpy as np


def ceil_div(a, b):
    """a / b, rounded up to a whole number; it has no largest number, as floats have."""
    return -(-a // b)


def cast(array, dtype):
    """A new C-order array of the dtype. What the dtype can't hold becomes infinite; `check_finite` finds it."""
    with np.errstate(all="ignore"):
        return np.array(array, dtype, order="C")


def in_place(array, dtype):
    """The array itself if the kernel can read it, else a copy."""
    flags = array.flags
    same = array.dtype is dtype or array.dtype == dtype
    return array if same and flags.c_contiguous and flags.aligned else cast(array, dtype)


def as_dtype(array, dtype):
    """A copy of the dtype. What the dtype can't hold becomes infinite, or 0."""
    if array.dtype is dtype:
        return array.copy()
    with np.errstate(all="ignore"):
        return array.astype(dtype)
