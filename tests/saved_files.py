"""Files of every kind, what they hold, and how they are taken apart and put together again."""

import copy
import io
import math
import zipfile
from collections import namedtuple

import numpy as np
import pytest

import sgdm
from sgdm import Compressed, _files

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 3))
Y = X @ RNG.standard_normal((3, 2)) + 0.1
y = Y[:, 0]
W = RNG.uniform(1, 2, 12)


class Stop(Exception):
    pass


def blocks(count=math.inf, weights=True):
    """X and y in six blocks, as far as block `count`."""
    for i in range(6):
        if i >= count:
            raise Stop
        rows = slice(2 * i, 2 * i + 2)
        yield (X[rows], y[rows], W[rows]) if weights else (X[rows], y[rows])


def mini_batches(**options):
    return {"batch_size": 4, "epochs": 3, "average": True, "validation": 0.3, "patience": 9, **options}


# The data and the options of a fit; and those that only the first of two halves takes.
FITS = {
    "full batch": ((X, y), {"epochs": 4}, {}),
    "reduced": ((X, y), {"epochs": 4, "method": "compress", "fit_intercept": True}, {}),
    "mini-batches": ((X, y), mini_batches(), {"seed": 0}),
    "mini-batches by MT19937": (
        (X, y),
        mini_batches(record="updates", record_every=3),
        {"seed": np.random.Generator(np.random.MT19937(0))},
    ),
    "mini-batches by Philox": (
        (X, Y),
        mini_batches(record="loss", record_every=2, fit_intercept=True),
        {"seed": np.random.Generator(np.random.Philox(0))},
    ),
    "several targets": (
        (X, Y),
        {"epochs": 3, "fit_intercept": True, "validation": (X[:5], Y[:5]), "record_every": 2},
        {},
    ),
    "float32": ((X.astype(np.float32), y.astype(np.float32)), {"epochs": 2, "nesterov": True, "l1": 0.01}, {}),
    "float32 reduced": ((X.astype(np.float32), y.astype(np.float32)), {"epochs": 2, "method": "compress"}, {}),
    "nothing kept": ((X, y), {"epochs": 5, "record": None, "batch_size": 5, "shuffle": False}, {}),
}
REDUCTIONS = {
    "reduction": lambda: sgdm.compress(X, y),
    "reduction of several targets": lambda: sgdm.compress(X, Y, sample_weight=W, fit_intercept=True),
    "reduction of float32": lambda: sgdm.compress(X.astype(np.float32), y.astype(np.float32)),
}
CHECKPOINTS = {"checkpoint": (5, True), "checkpoint without weights": (4, False)}


# A file of one kind: its bytes, what it holds, how it is read, and how that is gone on from.
Saved = namedtuple("Saved", "kind value content read go_on")


def saved_fit(name, path):
    data, options, first = FITS[name]
    result = sgdm.fit(*data, **options, **copy.deepcopy(first))
    result.save(path)
    return Saved("result", result, path.read_bytes(), sgdm.load, lambda init: sgdm.fit(*data, init=init, **options))


def saved_many(path):
    many = sgdm.fit_many(X, y, lr=[0.01, 0.1, 1e6], epochs=5, record_every=2, fit_intercept=True)
    many.save(path)

    def go_on(init):
        return [sgdm.fit(X, y, epochs=3, init=init[i], record_every=2, fit_intercept=True) for i in range(2)]

    return Saved("result", many, path.read_bytes(), sgdm.load, go_on)


def saved_reduction(name, path):
    reduced = REDUCTIONS[name]()
    reduced.save(path)
    return Saved("reduction", reduced, path.read_bytes(), Compressed.load, lambda part: (part + part).fit(epochs=3))


def saved_checkpoint(name, path):
    count, weights = CHECKPOINTS[name]
    with pytest.raises(Stop):
        sgdm.compress(blocks(count, weights), checkpoint=path)
    whole = sgdm.compress(blocks(weights=weights))
    read = lambda path: sgdm.compress(blocks(weights=weights), checkpoint=path)  # noqa: E731
    return Saved("checkpoint", whole, path.read_bytes(), read, lambda part: part.fit(epochs=3))


def save_all(folder):
    """A file of each kind, by name."""
    fits = {name: saved_fit(name, folder / "fit") for name in FITS} | {"many fits": saved_many(folder / "many")}
    reductions = {name: saved_reduction(name, folder / "reduction") for name in REDUCTIONS}
    return fits | reductions | {name: saved_checkpoint(name, folder / name) for name in CHECKPOINTS}


def members_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members):
    """A file of these members, [(name, bytes)]."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def array_of(content):
    return np.load(io.BytesIO(content))


def resealed(members):
    """A file of arrays by name, with the digest of them."""
    try:
        digest = _files._digest(members)
    except (TypeError, ValueError):  # of objects
        digest = 0
    file = io.BytesIO()
    np.savez(file, digest=np.array(digest), **members)
    return file.getvalue()
