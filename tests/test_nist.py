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
FILIP = """
0.8116 -6.860120914   0.9072 -4.324130045   0.9052 -4.358625055   0.9039 -4.358426747   0.8053 -6.955852379
0.8377 -6.661145254   0.8667 -6.355462942   0.8809 -6.118102026   0.7975 -7.115148017   0.8162 -6.815308569
0.8515 -6.519993057   0.8766 -6.204119983   0.8885 -5.853871964   0.8859 -6.109523091   0.8959 -5.79832982
0.8913 -5.482672118   0.8959 -5.171791386   0.8971 -4.851705903   0.9021 -4.517126416   0.909 -4.143573228
0.9139 -3.709075441   0.9199 -3.499489089   0.8692 -6.300769497   0.8872 -5.953504836   0.89 -5.642065153
0.891 -5.031376979   0.8977 -4.680685696   0.9035 -4.329846955   0.9078 -3.928486195   0.7675 -8.56735134
0.7705 -8.363211311   0.7713 -8.107682739   0.7736 -7.823908741   0.7775 -7.522878745   0.7841 -7.218819279
0.7971 -6.920818754   0.8329 -6.628932138   0.8641 -6.323946875   0.8804 -5.991399828   0.7668 -8.781464495
0.7633 -8.663140179   0.7678 -8.473531488   0.7697 -8.247337057   0.77 -7.971428747   0.7749 -7.676129393
0.7796 -7.352812702   0.7897 -7.072065318   0.8131 -6.774174009   0.8498 -6.478861916   0.8741 -6.159517513
0.8061 -6.835647144   0.846 -6.53165267   0.8751 -6.224098421   0.8856 -5.910094889   0.8919 -5.598599459
0.8934 -5.290645224   0.894 -4.974284616   0.8957 -4.64454848   0.9047 -4.290560426   0.9129 -3.885055584
0.9209 -3.408378962   0.9219 -3.13200249   0.7739 -8.726767166   0.7681 -8.66695597   0.7665 -8.511026475
0.7703 -8.165388579   0.7702 -7.886056648   0.7761 -7.588043762   0.7809 -7.283412422   0.7961 -6.995678626
0.8253 -6.691862621   0.8602 -6.392544977   0.8809 -6.067374056   0.8301 -6.684029655   0.8664 -6.378719832
0.8834 -6.065855188   0.8898 -5.752272167   0.8964 -5.132414673   0.8963 -4.811352704   0.9074 -4.098269308
0.9119 -3.66174277   0.9228 -3.2644011
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


longley, norris, filip = numbers(LONGLEY), numbers(NORRIS), numbers(FILIP)
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
    "Filip": (
        powers(filip[1::2], 10), filip[::2],
        [-1467.48961422980, -2772.17959193342, -2316.37108160893, -1127.97394098372, -354.478233703349,
         -75.1242017393757, -10.8753180355343, -1.06221498588947, -0.670191154593408e-01, -0.246781078275479e-02,
         -0.402962525080404e-04], 0.334801051324544e-02,
    ),
    "Wampler1": (grid, wampler(0), [1] * 6, 0),
    "Wampler2": (grid, wampler(0, 10), [1, 0.1, 0.01, 0.001, 0.0001, 0.00001], 0),
    "Wampler3": (grid, wampler(1), [1] * 6, 2360.14502379268),
    "Wampler4": (grid, wampler(100), [1] * 6, 236014.502379268),
    "Wampler5": (grid, wampler(10_000), [1] * 6, 23601450.2379268),
}  # fmt: skip

# How many digits come out right: of the worst coefficient, of all rows at once and of two halves merged, and of the
# residual standard deviation. With numpy.linalg.qr the coefficients have 12.6, 12.1, 10.9, 7.4, 9.2, 12.5, 9.8, 7.8 and
# 5.8, and with its lstsq 12.3, 6.3, 10.9, 0, 9.6, 10.4, 9.5, 7.8 and 5.8.
DIGITS = {
    "Norris": (13.6, 13.6, 13.6), "Pontius": (13.9, 12.8, 13.4), "Longley": (11.1, 10.7, 12.1),
    "Filip": (7.6, 7.8, 8.0), "Wampler1": (9.7, 9.9, None), "Wampler2": (13.1, 13.3, None),
    "Wampler3": (9.9, 9.3, 14.1), "Wampler4": (8.9, 7.6, 14.9), "Wampler5": (6.8, 5.6, 14.8),
}  # fmt: skip
LAPACK = 0.5  # digits that the roundings of LAPACK may cost, which solves for the coefficients; the factor has the same
# bits everywhere


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
    *of_coefficients, of_deviation = DIGITS[name]
    for reduced, reached in zip((whole, merged), of_coefficients, strict=True):
        assert digits(np.roll(reduced.solve(), 1), certified) > reached - LAPACK
        left = math.sqrt(reduced.optimal_loss * len(y) / (len(y) - len(certified)))
        if deviation:
            assert digits(left, deviation) > of_deviation - 1
        else:
            assert left < 1e-14 * np.abs(y).max()
