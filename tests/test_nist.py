"""NIST's reference problems for linear regression, with the digits that solve() reaches.

Data and certified values: Statistical Reference Datasets, https://www.itl.nist.gov/div898/strd/lls/lls.shtml
"""

import math
from fractions import Fraction

import numpy as np
import pytest

from sgdm import Compressed, compress

LONGLEY = """
60323  83.0 234289 2356 1590 107608 1947    61122  88.5 259426 2325 1456 108632 1948
60171  88.2 258054 3682 1616 109773 1949    61187  89.5 284599 3351 1650 110929 1950
63221  96.2 328975 2099 3099 112075 1951    63639  98.1 346999 1932 3594 113270 1952
64989  99.0 365385 1870 3547 115094 1953    63761 100.0 363112 3578 3350 116219 1954
66019 101.2 397469 2904 3048 117388 1955    67857 104.6 419180 2822 2857 118734 1956
68169 108.4 442769 2936 2798 120445 1957    66513 110.8 444546 4681 2637 121950 1958
68655 112.6 482704 3813 2552 123366 1959    69564 114.2 502601 3931 2514 125368 1960
69331 115.7 518173 4806 2572 127852 1961    70551 116.9 554894 4007 2827 130081 1962
"""
NORRIS = """
  0.1   0.2    338.8 337.4    118.1 118.2    888.0 884.6      9.2  10.1    228.1 226.5
668.5 666.3    998.5 996.3    449.1 448.6    778.9 777.0    559.2 558.2      0.3   0.4
  0.1   0.6    778.1 775.5    668.8 666.9    339.3 338.0    448.9 447.5     10.8  11.6
557.7 556.0    228.3 228.1    998.0 995.8    888.8 887.6    119.6 120.2      0.3   0.3
  0.6   0.3    557.6 556.8    339.3 339.1    888.0 887.2    998.5 999.0    778.9 779.0
 10.2  11.1    117.6 118.3    228.9 229.2    668.4 669.1    449.2 448.9      0.2   0.5
"""
PONTIUS = """
 .11019  .21956  .32949  .43899  .54803  .65694  .76562  .87487  .98292 1.09146
1.20001 1.30822 1.41599 1.52399 1.63194 1.73947 1.84646 1.95392 2.06128 2.16844
 .11052  .22018  .32939  .43886  .54798  .65739  .76596  .87474  .98300 1.09150
1.20004 1.30818 1.41613 1.52408 1.63159 1.73965 1.84696 1.95445 2.06177 2.16829
"""
NOISE = [759, -2048, 2048, -2048, 2523, -2048, 2048, -2048, 1838, -2048]
NOISE = [*NOISE, 2048, *NOISE[::-1]]


def numbers(text):
    """The decimals as they are printed, without rounding."""
    return [Fraction(word) for word in text.split()]


def wampler(noise, scale=1):
    """The polynomial with coefficients scale**-i at 0, ..., 20, so many times the noise added."""
    return [sum(Fraction(x, scale) ** i for i in range(6)) + noise * NOISE[x] for x in range(21)]


def powers(x, degree):
    return [[value**i for i in range(1, degree + 1)] for value in x]


longley, norris = numbers(LONGLEY), numbers(NORRIS)
steps = [Fraction(150_000 * i) for i in range(1, 21)] * 2
grid = powers(map(Fraction, range(21)), 5)

# X without the ones, y, the certified coefficients (the intercept first) and residual standard deviation.
PROBLEMS = {
    "Norris": ([[x] for x in norris[1::2]], norris[::2], [-0.262323073774029, 1.00211681802045], 0.884796396144373),
    "Pontius": (
        powers(steps, 2), numbers(PONTIUS),
        [0.673565789473684e-03, 0.732059160401003e-06, -0.316081871345029e-14], 0.205177424076185e-03,
    ),
    "Longley": (
        [longley[i + 1 : i + 7] for i in range(0, 112, 7)], longley[::7],
        [-3482258.63459582, 15.0618722713733, -0.358191792925910e-01, -2.02022980381683, -1.03322686717359,
         -0.511041056535807e-01, 1829.15146461355], 304.854073561965,
    ),
    "Wampler1": (grid, wampler(0), [1] * 6, 0),
    "Wampler2": (grid, wampler(0, 10), [1, 0.1, 0.01, 0.001, 0.0001, 0.00001], 0),
    "Wampler3": (grid, wampler(1), [1] * 6, 2360.14502379268),
    "Wampler4": (grid, wampler(100), [1] * 6, 236014.502379268),
    "Wampler5": (grid, wampler(10_000), [1] * 6, 23601450.2379268),
}  # fmt: skip

# How many digits of the worst coefficient came out right, of all rows at once and of two halves merged. The noise of
# Wampler4 and 5 is so large beside the fit that QR in double precision gets no further: numpy's lstsq, by the singular
# values, has 13.1, 12.2, 12.1, 9.9, 11.4, 10.0, 8.2 and 6.2.
DIGITS = {
    "Norris": (12.5, 12.7), "Pontius": (12.2, 13.0), "Longley": (12.3, 10.8), "Wampler1": (9.8, 9.9),
    "Wampler2": (13.1, 13.1), "Wampler3": (10.0, 9.0), "Wampler4": (8.2, 7.0), "Wampler5": (6.2, 5.0),
}  # fmt: skip
OTHER_LAPACK = 2.0  # digits that another LAPACK's roundings, or other threads of it, may cost; 8 stay where 9.5 are


def digits(ours, certified):
    """The least log relative error, NIST's measure: about how many digits agree."""
    error = np.abs(np.subtract(ours, certified)) / np.abs(certified)
    return min(15.0, -math.log10(max(error.max(), 1e-15)))


def least_squares(X, y):
    """The coefficients, the intercept first, and the sum of squares left, in exact arithmetic."""
    Z = [[Fraction(1), *row] for row in X]
    p = len(Z[0])
    rows = [[sum(z[i] * z[j] for z in Z) for j in range(p)] for i in range(p)]
    rows = [[*row, sum(z[i] * t for z, t in zip(Z, y, strict=True))] for i, row in enumerate(rows)]
    for i in range(p):  # elimination without pivots: the matrix is positive definite
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in range(p):
            if j != i:
                rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i], strict=True)]
    coef = [row[p] for row in rows]
    return coef, sum((sum(map(Fraction.__mul__, z, coef)) - t) ** 2 for z, t in zip(Z, y, strict=True))


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_data_are_typed_right(name):
    """What is certified follows from them exactly, to its last digit but one."""
    X, y, certified, deviation = PROBLEMS[name]
    coef, squares = least_squares(X, y)
    assert digits(list(map(float, coef)), certified) > 13.9
    assert math.sqrt(squares / (len(y) - len(coef))) == pytest.approx(deviation, rel=1e-14, abs=0)


@pytest.mark.parametrize("name", PROBLEMS)
def test_solve_reaches_as_many_digits_as_ever(name):
    X, y, certified, deviation = PROBLEMS[name]
    X, y = np.array(X, float), np.array(y, float)
    whole = compress(X, y, fit_intercept=True)
    merged = Compressed.merge(compress(X[i::2], y[i::2], fit_intercept=True) for i in (0, 1))
    for reduced, reached in zip((whole, merged), DIGITS[name], strict=True):
        assert digits(np.roll(reduced.solve(), 1), certified) > max(reached - OTHER_LAPACK, 8 * (reached > 9.5))
        left = math.sqrt(reduced.optimal_loss * len(y) / (len(y) - len(certified)))
        if deviation:
            assert digits(left, deviation) > 12
        else:
            assert left < 1e-14 * np.abs(y).max()
