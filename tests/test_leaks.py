"""100 000 fits of every kind, errors among them, leave no memory behind."""

import sys

import pytest

SCRIPT = """
import gc, resource, sys, warnings
import numpy as np
import sgdm

warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
rng = np.random.default_rng(0)
X, y = rng.standard_normal((24, 3)), rng.standard_normal(24)
F, single = np.asfortranarray(rng.standard_normal((40, 20))), X.astype("f4")
Y, weights, other = rng.standard_normal((40, 4)), rng.uniform(0, 2, 24), rng.standard_normal((24, 20))
generator = np.random.default_rng(1)
brief = {"epochs": 2, "record": None}


def refused(error, *arguments, fit=sgdm.fit, **options):
    try:
        fit(*arguments, **options)
    except error as caught:
        return caught
    raise AssertionError("should have been refused")


def stop(progress):
    progress.result, progress.coef
    raise StopIteration


def fail(progress):
    raise ZeroDivisionError


def merged():
    reduced = sgdm.compress(X, y, sample_weight=weights)
    (reduced + reduced).fit(**brief)


# Each kind, and in how many of a thousand steps it is done: slow ones more seldom.
KINDS = [
    (lambda: sgdm.fit(X, y, epochs=2), 279),
    (lambda: sgdm.fit(X, y, fit_intercept=True, sample_weight=weights, **brief), 150),
    (lambda: sgdm.fit(single, y.astype("f4"), record="loss", epochs=2), 100),
    (lambda: sgdm.fit(F, Y, nesterov=True, lr=0.01, **brief), 50),
    (lambda: sgdm.fit(other, y, average=True, lr=0.001, **brief), 50),
    (lambda: sgdm.fit(X, y, batch_size=7, seed=generator, epochs=2, record="updates"), 50),
    (lambda: sgdm.fit(X, y, batch_size=7, seed=1, validation=0.25, patience=1, lr=[0.1, 0.2], epochs=2), 20),
    (lambda: sgdm.fit(X, y, validation=(X, y), **brief), 40),
    (lambda: sgdm.fit(X, y, init=sgdm.fit(X, y, epochs=1), epochs=1), 20),
    (lambda: sgdm.fit(X, y, callback=stop), 40),
    (lambda: refused(ZeroDivisionError, X, y, callback=fail), 20),
    (lambda: refused(ValueError, X, y[1:]), 40),
    (lambda: refused(ValueError, X, y * np.inf), 20),
    (lambda: refused(TypeError, X, y * 1j, lr=lambda epoch: 0.1), 20),
    (lambda: refused(sgdm.DivergenceError, X, y, lr=1e9, batch_size=5, seed=generator).result, 15),
    (lambda: refused(MemoryError, X, y, epochs=10**17), 15),
    (lambda: sgdm.fit_many(X, y, lr=[0.1, 0.01, 1e9], epochs=60, record="loss")[1], 20),
    (lambda: refused(ValueError, X, y * np.nan, fit=sgdm.fit_many), 15),
    (merged, 20),
    (lambda: sgdm.fit(X, y, lr="auto", momentum=0.5, epochs=2).predict(X), 12),
    (lambda: sgdm.fit(X, y, method="compress", n_threads=2, **brief), 4),
]
assert sum(often for _, often in KINDS) == 1000
order = np.repeat(np.arange(len(KINDS)), [often for _, often in KINDS])
np.random.default_rng(0).shuffle(order)
steps = [KINDS[kind][0] for kind in order]


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


blocks, memory = [], []
for round in range(100):
    for step in steps:
        step()
    gc.collect()
    blocks.append(sys.getallocatedblocks())
    memory.append(resident())
print(max(blocks[20:30]), max(blocks[-10:]), max(memory[20:30]), max(memory[-10:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_level(run_python):
    """From the twentieth part of a hundred on. Blocks are those of Python's own allocator; a kind that leaves one
    behind at each call leaves 1000 or more, and without a leak it is 250 of 90 000, of the interpreter's own lists."""
    process = run_python(SCRIPT, OPENBLAS_NUM_THREADS="1")
    assert process.returncode == 0, process.stderr
    blocks, blocks_end, memory, memory_end = map(int, process.stdout.split())
    assert blocks_end - blocks < 600
    assert memory_end - memory < 300, "kB"
