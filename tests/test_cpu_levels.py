"""All CPU levels give the same bits; one that is not known is refused."""

import numpy as np
import pytest

import sgdm
from sgdm import _kernel

FULL_BATCHES = """
import hashlib, itertools, warnings
import numpy as np
import sgdm
from sgdm import _kernel

assert np.float64(5e-324) * 1 != 0 and np.float32(1e-45) * np.float32(1) != 0, "denormals are switched off"
warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
digest = hashlib.sha256()
shapes = [(1, 1), (7, 3), (33, 17), (64, 16), (600, 7), (300, 40), (130, 8), (20, 130), (259, 65), (139, 300)]
wide = [(600, 700)]  # whose columns are read in short pieces

def add(result):
    for array in (result.coef, result.velocity, *vars(result.history).values()):
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())

for (n, d), dtype, order, k in itertools.product(shapes + wide, ("f8", "f4"), "CF", (1, 3, 4, 9)):
    rng = np.random.default_rng(n)
    X, y = rng.standard_normal((n, d)).astype(dtype, order=order), rng.standard_normal((n, k)).astype(dtype)
    for weights in (None, rng.uniform(0.5, 2, n)):
        options = {"lr": 0.003, "momentum": 0.9, "dampening": 0.0, "epochs": 20, "sample_weight": weights,
                   "fit_intercept": weights is None, "weight_decay": 0.01, "method": "direct"}
        add(sgdm.fit(X, y, **options))
        add(sgdm.fit(X, y, **options | {"epochs": 2, "lr": 1e-4, "batch_size": 13, "seed": 1}))
    add(sgdm.fit_many(X, np.ascontiguousarray(y.T), lr=0.003, epochs=20))
for d in (2, 3, 5):  # too large to be copied by columns, or not
    X = np.random.default_rng(d).standard_normal((200_000, d))
    add(sgdm.fit(X, X.sum(axis=1), lr=0.01, epochs=2, n_threads=d % 2 + 1, method="direct"))
for n, d in ((50_001, 45), (19_999, 120), (4_003, 501)):  # larger than caches: rows are read one after another
    X = np.random.default_rng(d).standard_normal((n, d))
    add(sgdm.fit(X, X.sum(axis=1), lr=0.01, epochs=2, fit_intercept=d == 45, method="direct"))
assert np.float64(5e-324) * 1 != 0, "denormals were switched off"
print(_kernel.ISA, digest.hexdigest())
"""


MINI_BATCHES = """
import hashlib, itertools, warnings
import numpy as np, sgdm

warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
digest = hashlib.sha256()
for (n, d), dtype, order, k in itertools.product([(7, 3), (64, 16), (300, 41)], ("f8", "f4"), "CF", (1, 3)):
    rng = np.random.default_rng(n)
    X, y = rng.standard_normal((n, d)).astype(dtype, order=order), rng.standard_normal((n, k)).astype(dtype)
    for weights, b in itertools.product((None, rng.uniform(0.5, 2, n)), (1, 20)):
        result = sgdm.fit(X, y, lr=0.005, epochs=5, sample_weight=weights, fit_intercept=weights is None, l1=0.01,
                          weight_decay=0.01, batch_size=b, seed=1, average=True, validation=(X, y), record="updates")
        for array in (result.coef, result.average_coef, result.velocity, *vars(result.history).values()):
            digest.update(np.ascontiguousarray(array).tobytes())
print(sgdm._kernel.ISA, digest.hexdigest())
"""


REDUCTIONS = """
import hashlib, itertools, warnings
import numpy as np, sgdm
from sgdm._reduction import leaves, many

warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
leaves.leaf_rows = many.leaf_rows = lambda q: max(20_000 // q, 8 * q)
digest = hashlib.sha256()

def numbers(rng, *shape):  # without functions of libm, which differ between systems
    return rng.integers(-(2**40), 2**40, shape) / 2.0**38

for n, d in ((1, 1), (3, 9), (7, 3), (191, 4), (192, 7), (193, 8), (400, 20), (700, 11), (2000, 50), (999, 101)):
    for dtype, order, k, intercept in itertools.product(("f8", "f4"), "CF", (1, 5), (False, True)):
        rng = np.random.default_rng(n)
        X, y = numbers(rng, n, d).astype(dtype, order=order), numbers(rng, n, k).astype(dtype)
        weights = None if k == 1 else numbers(rng, n) ** 2
        digests = set()
        for threads in (1, 2, 3, 8) if n > 500 else (1,):
            R = sgdm.compress(X, y, sample_weight=weights, fit_intercept=intercept, n_threads=threads).R
            digests.add(R.tobytes())
        assert len(digests) == 1
        digest.update(digests.pop())
        if n > d and dtype == "f8":
            fit = sgdm.fit(X, y, lr=0.001, epochs=9, fit_intercept=intercept, method="compress", sample_weight=weights)
            digest.update(fit.coef.tobytes() + fit.history.loss.tobytes())
    if d <= 20:
        stack, targets = numbers(rng, 9, n, d), numbers(rng, 9, n)
        digest.update(sgdm.fit_many(stack, targets, lr=0.001, epochs=9, method="compress").history.coef.tobytes())
parts = [sgdm.compress(X[i : i + 30], y[i : i + 30]) for i in range(0, 990, 30)]
digest.update(sgdm.Compressed.merge(parts).R.tobytes())
digest.update(sgdm.compress(X.astype(float) * 2.0**700, y.astype(float) * 2.0**-700).R.tobytes())
leaves.leaf_rows = lambda q: 9000  # leaves by their Gram matrix
for dtype, k in (("f8", 1), ("f4", 3)):
    X, y = numbers(rng, 9000, 29).astype(dtype), numbers(rng, 9000, k).astype(dtype)
    for weights in (None, numbers(rng, 9000) ** 2):
        digest.update(sgdm.compress(X, y, sample_weight=weights, fit_intercept=k == 1).R.tobytes())
rng = np.random.default_rng(1)
curvature, constants, counts = abs(numbers(rng, 21)) / 8, abs(numbers(rng, 3, 9)) / 8, rng.integers(0, 10**6, 9)
for options in itertools.product((False, True), (False, True), (None, curvature)):
    digest.update(sgdm._kernel.follow_modes(curvature, constants, counts, *options).tobytes())
print(sgdm._kernel.ISA, digest.hexdigest())
"""


@pytest.mark.parametrize(
    "script",
    [FULL_BATCHES, MINI_BATCHES, REDUCTIONS],
    ids=["full batches, many fits", "mini-batches", "reductions"],
)
def test_all_levels_give_the_same_bits(run_python, script):
    best = run_python("import sgdm._kernel; print(sgdm._kernel.ISA)", SGDM_ISA=None).stdout.strip()
    assert best in _kernel.LEVELS
    digests = set()
    for level in _kernel.LEVELS[: _kernel.LEVELS.index(best) + 1]:
        process = run_python(script, SGDM_ISA=level, PYTHONWARNINGS="error")
        assert process.returncode == 0, process.stderr
        used, digest = process.stdout.split()
        assert used == level
        digests.add(digest)
    assert len(digests) == 1
    if script is REDUCTIONS:  # on other CPUs, systems and releases of NumPy too
        assert digests == {"c346bf1af8ecc75db3366e01fb2223a162ae1d3eb289ac36de51aa6904b78416"}


def test_an_unknown_level_is_refused(run_python):
    process = run_python("import sgdm", SGDM_ISA="sse9")
    assert process.returncode == 1
    assert "ImportError: SGDM_ISA must be one of baseline" in process.stderr
    assert "got 'sse9'" in process.stderr


@pytest.mark.parametrize("order", [None, "shuffled"])
@pytest.mark.parametrize("d", [4, 5, 6, 7, 15])
def test_nothing_beyond_the_end_of_x_is_read(d, order):
    """X of more than 4 MiB is read in place, in groups of 16 float32: what follows it in memory must not matter."""
    n = (4 << 20) // (4 * d) + 8
    memory = np.full(n * d + 64, np.nan, np.float32)
    X = memory[: n * d].reshape(n, d)
    X[...] = np.random.default_rng(d).standard_normal((n, d))
    y = X.sum(axis=1)
    options = {"lr": 0.01, "epochs": 1, "method": "direct"} | (
        {} if order is None else {"batch_size": n // 2, "seed": 1}
    )
    result = sgdm.fit(X, y, **options)
    np.testing.assert_array_equal(result.coef, sgdm.fit(X.astype(">f4").astype(np.float32), y, **options).coef)
    gradient = -2 / n * X.T.astype(float) @ y
    np.testing.assert_allclose(sgdm.fit(X, y, lr=0.01, epochs=1, method="direct").history.grad[0], gradient, rtol=1e-4)
