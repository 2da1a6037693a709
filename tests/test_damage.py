"""Files that are damaged or edited, results and reductions whose parts don't go together: refused in words of ours.

What is damaged by accident is refused, or read as it was. What somebody edited, its digest put right, is refused if its
parts don't go together; what is read then can be gone on from, or is refused then.
"""

import copy
import io
import itertools
import json
import math
import pickle
import sys
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest

import sgdm
from sgdm import Compressed, _files

pytestmark = pytest.mark.filterwarnings("ignore:.*far above the least:sgdm.ConvergenceWarning")  # of few epochs

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


# What is saved


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


class Saved:
    """A file of one kind: its bytes, what it holds, how it is read, and how that is gone on from."""

    def __init__(self, kind, value, content, read, go_on):
        self.kind, self.value, self.content, self.read, self.go_on = kind, value, content, read, go_on


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


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What is saved by name."""
    path = tmp_path_factory.mktemp("whole") / "saved.npz"
    fits = {name: saved_fit(name, path) for name in FITS}
    reductions = {name: saved_reduction(name, path) for name in REDUCTIONS}
    path.unlink()
    return fits | {"many fits": saved_many(path)} | reductions | checkpoints_of(path)


def checkpoints_of(path):
    made = {}
    for name in CHECKPOINTS:
        path.unlink()
        made[name] = saved_checkpoint(name, path)
    return made


# Damage


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


def flipped(content, rng):
    """One to three bytes are others."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
    return bytes(content)


def flipped_at_the_end(content, rng):
    """In the directory of the members."""
    start = content.index(b"PK\x01\x02")
    return content[:start] + flipped(content[start:], rng)


def cut(content, rng):
    return content[: rng.integers(len(content))]


def zeroed(content, rng):
    """A sector of a disk got lost."""
    start = int(rng.integers(len(content))) // 512 * 512
    sector = content[start : start + 512]
    return content[:start] + bytes(len(sector)) + content[start + 512 :]


def removed(content, rng):
    start, length = rng.integers(len(content)), rng.integers(1, 100)
    return content[:start] + content[start + length :]


def swapped(content, rng):
    """Two members have each other's content."""
    members = members_of(content)
    a, b = rng.choice(list(members), 2, replace=False)
    members[a], members[b] = members[b], members[a]
    return zipped(members.items())


def members_missing_or_double(content, rng):
    members = list(members_of(content).items())
    i = rng.integers(len(members))
    name, held = members[i]
    name = f"{name.removesuffix('.npy')}{rng.choice(['', ' ', '.x', '/', '.loss'])}.npy"
    others = members[:i] + members[i + 1 :]
    odd = [
        others,
        [*members, members[i]],
        [*others, (name, held)],
        [*members, ("more.npy", held)],
        [*others, (members[i][0], b"")],
        [*others, (members[i][0].removesuffix(".npy"), held)],
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *what, **more: None)  # zipfile's, of two members of one name
        return zipped(odd[rng.integers(len(odd))])


def garbled_headers(content, rng):
    """The header of an array is other text, or says another dtype, order or shape."""
    members = members_of(content)
    name = str(rng.choice(list(members)))
    held = members[name]
    length = int.from_bytes(held[8:10], "little")
    header, rest = held[10 : 10 + length], held[10 + length :]
    descr = rng.choice(["|O", ">f8", "<f4", "<i8", "|b1", "<U9", "<c16", "|V8", "[('a', '<f8')]", "<f8, <f8", ""])
    shape = rng.choice(
        ["()", "(0,)", "(1,)", "(-1,)", "(True,)", "(1, 1)", f"({2**40},)", f"({2**62}, 4)", "3", "(" * 99]
    )
    text = [
        header.replace(b"'", b"'''", 1),
        b"{" * 200,
        b"((" * 3000,
        bytes(length),
        header[: length // 2],
        header.replace(b"False", b"True"),
        flipped(header, rng),
        f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(length - 1).encode() + b"\n",
        header.replace(header[10:16], str(descr).encode()),
        b"{'descr': " * 300 + b"}" * 300,
    ]
    header = text[rng.integers(len(text))]
    front = held[:8]
    if not rng.integers(10):
        front = front[:6] + bytes(rng.integers(0, 4, 2, dtype=np.uint8))
    members[name] = front + min(len(header), 65535).to_bytes(2, "little") + header + rest
    return zipped(members.items())


def other_arrays(content, rng):
    """An array is of another dtype, shape or content."""
    members = members_of(content)
    name = str(rng.choice([name for name in members if name not in ("sgdm.npy", "digest.npy")]))
    members[name] = npy(changed_array(array_of(members[name]), rng))
    return zipped(members.items())


def changed_array(array, rng):
    bare = array.astype("f8") if array.dtype.kind in "fiu" else np.zeros(array.shape)
    choices = [
        lambda: bare.astype("f4") if array.dtype == "f8" else bare,
        lambda: bare.astype("i8"),
        lambda: array.astype(bool),
        lambda: array.astype("U9"),
        lambda: array.astype(object),
        lambda: array.astype(array.dtype.newbyteorder(">")),
        lambda: np.zeros(array.shape, [("a", "f8")]),
        lambda: array[np.newaxis],
        lambda: array.reshape(-1)[:-1],
        lambda: np.concatenate([array.reshape(-1), array.reshape(-1)]),
        lambda: array.reshape(-1)[:0],
        lambda: np.asfortranarray(array),
        lambda: array.T,
        lambda: np.full_like(array, -1),
        lambda: np.full_like(bare, np.nan).astype(array.dtype if array.dtype.kind == "f" else "f8"),
        lambda: np.full_like(bare, 1e300),
        lambda: np.full(array.shape, np.iinfo("i8").max - 1),
        lambda: np.zeros_like(array),
        lambda: array + array.dtype.type(1) if array.dtype.kind in "fiu" else array,
    ]
    return choices[rng.integers(len(choices))]()


ODD = [
    *(-1, 0, 1, 2, 7, 2**31, 2**63 - 1, 2**63, 2**70, -(2**63), 0.5, 1.5, -1e-3, 1e300, math.nan, math.inf, -math.inf),
    *("x", "", "é", "converged", "diverged", "all", "loss", "updates", "direct", "compress", "float32", "O", "f8,f8"),
    *(None, True, False, [], [1], [2], ["a"], ["a", "b", "c"], {}, {"a": {"b": {}}}),
    *({"array": [1], "dtype": "O"}, {"array": 1, "dtype": "U99999999"}, {"array": [1, 2], "dtype": "uint64"}),
]


def changed_text(text, rng):
    """JSON in which one thing is another, is not there, or is there twice."""
    tree = json.loads(text)
    places = []

    def visit(part):
        for key in part if isinstance(part, dict) else range(len(part)):
            places.append((part, key))
            if isinstance(part[key], (dict, list)) and len(part[key]) < 50:
                visit(part[key])

    visit(tree)
    part, key = places[rng.integers(len(places))]
    if not rng.integers(10):
        del part[key]
    elif isinstance(part[key], (int, float)) and rng.integers(2):
        part[key] += [-1, 1, 0.25, 1000][rng.integers(4)]
    else:
        part[key] = copy.deepcopy(ODD[rng.integers(len(ODD))])
    return json.dumps(tree)


def other_texts(content, rng):
    members = members_of(content)
    text = str(array_of(members["sgdm.npy"]))
    odd = ["", "x", "[]", "null", "1", "{}", text[:-1], text * 2, "[" * 10**5, '{"a":' * 10**5, "9" * 5000]
    text = odd[rng.integers(len(odd))] if not rng.integers(10) else changed_text(text, rng)
    members["sgdm.npy"] = npy(np.array(text))
    return zipped(members.items())


def edited(content, rng):
    """Somebody changed a number, a text or an array, and put the digest right."""
    members = {name.removesuffix(".npy"): array_of(held) for name, held in members_of(content).items()}
    del members["digest"]
    names = [name for name in members if name != "sgdm"]
    for _ in range(rng.integers(1, 3)):
        if rng.integers(3):
            members["sgdm"] = np.array(changed_text(str(members["sgdm"]), rng))
        else:
            name = str(rng.choice(names))
            members[name] = changed_array(members[name], rng)
    return resealed(members)


def resealed(members):
    """A file of arrays by name, with the digest of them."""
    try:
        digest = _files._digest(members)
    except (TypeError, ValueError):  # of objects
        digest = 0
    file = io.BytesIO()
    np.savez(file, digest=np.array(digest), **members)
    return file.getvalue()


ACCIDENTS = [
    flipped, flipped_at_the_end, cut, zeroed, removed, swapped, members_missing_or_double, garbled_headers,
    other_arrays, other_texts,
]  # fmt: skip
# What a whole checkpoint of other data gets.
OTHER_DATA = ("checkpoint holds", "is of a reduction with other columns or intercept", "X and y must have the columns")


def read(saved, content, path):
    """What is read of a damaged file, or None where it is refused."""
    path.write_bytes(content)
    try:
        return saved.read(path)
    except ValueError as error:
        refusal = error
    named = f"{path} is damaged, or not a {saved.kind} saved by this version of sgdm (" in str(refusal)
    assert named or (saved.kind == "checkpoint" and any(part in str(refusal) for part in OTHER_DATA)), refusal
    return None


def go_on(saved, found):
    """Looks at what was read, and goes on from it; it may be refused then."""
    assert repr(found)
    try:
        saved.go_on(found)
    except sgdm.DivergenceError:
        pass
    except (ValueError, TypeError, MemoryError) as error:
        refusal = str(error)
        assert any(word in refusal for word in (" must ", "init", "the history of")), refusal


def damage_many(saved, damage, seeds, path):
    """(refused, read as it was, read as something else) of so many damaged files each."""
    refused = equal = other = 0
    for (number, (name, whole)), seed in itertools.product(enumerate(saved.items()), seeds):
        rng = np.random.default_rng([seed, number])
        with np.errstate(all="ignore"):
            found = read(whole, damage(whole.content, rng), path)
        if found is None:
            refused += 1
        elif found == whole.value:
            equal += 1
        else:
            other += 1
            assert damage is edited, (name, seed)
        if found is not None:
            with np.errstate(all="ignore"):
                go_on(whole, found)
    return refused, equal, other


@pytest.mark.thread_unsafe(reason="patches warnings")
@pytest.mark.filterwarnings("ignore")  # of descents that rise, after an edit
@pytest.mark.parametrize("damage", [*ACCIDENTS, edited], ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_refused_or_read_as_it_was(saved, damage, tmp_path):
    refused, equal, other = damage_many(saved, damage, range(4), tmp_path / "r.npz")
    assert refused > equal + other


@pytest.mark.slow
@pytest.mark.thread_unsafe(reason="patches warnings")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", [*ACCIDENTS, edited], ids=lambda damage: damage.__name__)
def test_20_000_damaged_files_are_refused_or_read_as_they_were(saved, damage, tmp_path, capsys):
    seeds = range(1000, 1000 + -(-20_000 // (len(saved) * (len(ACCIDENTS) + 1))))
    counts = damage_many(saved, damage, seeds, tmp_path / "r.npz")
    with capsys.disabled():
        print(f"\n{damage.__name__}: {counts[0]} refused, {counts[1]} as they were, {counts[2]} others")


def test_whole_files_are_read(saved, tmp_path):
    for name, whole in saved.items():
        (tmp_path / "r.npz").write_bytes(whole.content)
        assert whole.read(tmp_path / "r.npz") == whole.value, name
        whole.go_on(whole.value)


# Files of other kinds


def test_a_file_of_another_kind_says_what_it_is(saved, tmp_path):
    path = tmp_path / "r.npz"
    readers = {"result": sgdm.load, "reduction": Compressed.load, "checkpoint": saved["checkpoint"].read}
    for name in ("full batch", "reduction", "checkpoint"):
        path.write_bytes(saved[name].content)
        for kind, load in readers.items():
            if kind != saved[name].kind:
                message = rf"not a {kind} .*\(it holds a {saved[name].kind}, which is for sgdm"
                with pytest.raises(ValueError, match=message):
                    load(path)


def test_the_arrays_of_the_command_say_what_they_are(run_python, tmp_path):
    path = tmp_path / "r.npz"
    process = run_python(
        f"import sys, sgdm.__main__ as command; sys.argv[1:] = ['--output', {str(path)!r}]; command.main()"
    )
    assert path.exists(), process.stderr
    with pytest.raises(ValueError, match=r"r\.npz .*\(it holds what the command's --output writes, which is for numpy"):
        sgdm.load(path)


def test_big_endian_arrays_are_read_as_they_were(saved, tmp_path):
    """As another machine may write them."""
    for name in ("mini-batches", "reduction", "many fits"):
        members = {member: array_of(held) for member, held in members_of(saved[name].content).items()}
        members = [(member, npy(array.astype(array.dtype.newbyteorder(">")))) for member, array in members.items()]
        (tmp_path / "r.npz").write_bytes(zipped(members))
        found = saved[name].read(tmp_path / "r.npz")
        assert found == saved[name].value
        saved[name].go_on(found)


@pytest.mark.thread_unsafe(reason="measures memory")
def test_a_header_of_a_huge_array_takes_no_memory(saved, tmp_path):
    members = members_of(saved["full batch"].content)
    for shape in (f"({2**40},)", f"({2**30}, 2)", f"({10**17},)"):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
        members["coef.npy"] = members["coef.npy"][:8] + len(header).to_bytes(2, "little") + header
        (tmp_path / "r.npz").write_bytes(zipped(members.items()))
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=r"coef\.npy has a header of something else"):
                sgdm.load(tmp_path / "r.npz")
            assert tracemalloc.get_traced_memory()[1] < 1e6
        finally:
            tracemalloc.stop()


def test_a_compressed_file_is_refused(saved, tmp_path):
    """Of a few bytes could come any number."""
    members = members_of(saved["full batch"].content)
    np.savez_compressed(tmp_path / "r.npz", **{name[:-4]: array_of(held) for name, held in members.items()})
    with pytest.raises(ValueError, match=r"r\.npz is damaged.*\(its part"):
        sgdm.load(tmp_path / "r.npz")


# Edited files


def changes(*keys, to):
    def change(members):
        text = json.loads(str(members["sgdm"]))
        part = text
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = to
        return {**members, "sgdm": np.array(json.dumps(text))}

    return change


def array_is(name, value):
    return lambda members: {**members, name: value}


def generator_is(*keys, to):
    return changes("checkpoint", "generator", *keys, to=to)


EDITS = {
    "coef too long": (array_is("coef", np.zeros(4)), "velocity must be an array of shape \\(4,\\)"),
    "coef of text": (array_is("coef", np.array(["a", "b", "c"])), "coef must be a \\(d,\\) or"),
    "velocity 0-D": (array_is("velocity", np.float64(1)), "velocity must be an array of shape \\(3,\\)"),
    "velocity of another fit": (array_is("velocity", np.ones(3)), "velocity must be that of the checkpoint"),
    "coef of another fit": (array_is("coef", np.ones(3)), "coef must be that of the checkpoint"),
    "average of another fit": (array_is("average_coef", np.ones(3)), "average_coef must be that of the checkpoint"),
    "history too long": (array_is("history.loss", np.zeros(9)), "history.loss must be an array of shape \\(3,\\)"),
    "history of bools": (array_is("history.loss", np.zeros(3, bool)), "garbled|a header of something else"),
    "history of ints": (array_is("history.loss", np.zeros(3, int)), "history.loss must be an array of shape"),
    "epochs of others": (array_is("history.epoch", np.arange(1, 4)), "history.epoch must be every record_every-th"),
    "parameters of NaN": (array_is("checkpoint.parameters", np.full((2, 3, 1), np.nan)), "parameters must be finite"),
    "metrics of fewer": (array_is("checkpoint.metrics", np.zeros((2, 1))), "checkpoint.metrics must be an array"),
    "negative metrics": (
        array_is("checkpoint.metrics", np.full((3, 1), -1.0)),
        "checkpoint.metrics must not be negative",
    ),
    "best of fewer": (array_is("checkpoint.best", np.zeros((2, 1))), "checkpoint.best must be an array of shape"),
    "negative loss": (array_is("loss", np.float64(-1)), "loss must be of shape \\(\\), floats and not negative"),
    "epochs text": (changes("epochs", to="x"), "epochs must be an int from 0 to [0-9]+, got 'x'"),
    "epochs negative": (changes("epochs", to=-5), "epochs must be an int from 0 to [0-9]+, got -5"),
    "epochs true": (changes("epochs", to=True), "epochs must be an int from 0 to [0-9]+, got True"),
    "epochs huge": (changes("epochs", to=2**63 - 1), "checkpoint.best_epoch|checkpoint.epoch"),
    "status": (changes("status", to="running"), "'running' is not a valid Status"),
    "method": (changes("method", to="magic"), "method must be 'direct' or 'compress', got 'magic'"),
    "lr text": (changes("lr", to="x"), "lr must be a finite float from 0 to inf, got 'x'"),
    "lr infinite": (changes("lr", to=math.inf), "lr must be a finite float"),
    "momentum": (changes("momentum", to=2.0), "momentum must be a finite float from 0 to 1, got 2.0"),
    "dampening": (changes("dampening", to=-0.5), "dampening must be a finite float from 0 to 1, got -0.5"),
    "names too few": (changes("feature_names", to=["a"]), "feature_names must be 3 texts, or None, got \\('a',\\)"),
    "names of letters": (changes("feature_names", to="abc"), "feature_names must be 3 texts, or None, got 'abc'"),
    "names of numbers": (changes("feature_names", to=[1, 2, 3]), "feature_names must be 3 texts"),
    "intercept": (changes("intercept", to=0), "intercept must be 0.0 without one, got 0"),
    "best epoch": (changes("best_epoch", to=0), "best_epoch must be 2, as the checkpoint has it, got 0"),
    "record": (changes("checkpoint", "record", to="loss"), "history.grad must be None"),
    "record unknown": (changes("checkpoint", "record", to=["all"]), "checkpoint.record must be 'all', 'loss'"),
    "record every 0": (changes("checkpoint", "record_every", to=0), "checkpoint.record_every must be an int from 1"),
    "record every 2": (changes("checkpoint", "record_every", to=2), "history.epoch must be 2 integers"),
    "fit_intercept": (changes("checkpoint", "fit_intercept", to=True), "velocity must be an array of shape \\(4,\\)"),
    "updates fewer": (changes("checkpoint", "updates", to=2), "checkpoint.updates must be an int from 3 to"),
    "averaged more": (changes("checkpoint", "averaged", to=999), "checkpoint.averaged must be an int from 0 to 6"),
    "waited huge": (changes("checkpoint", "waited", to=2**70), "checkpoint.waited must be an int from 0 to 0"),
    "best epoch to come": (changes("checkpoint", "best_epoch", to=3), "checkpoint.best_epoch must be an int from -1"),
    "best loss": (changes("checkpoint", "best_loss", to=math.nan), "checkpoint.best_loss must be a finite float"),
    "generator": (changes("checkpoint", "generator", to=5), "checkpoint.generator must be the state of a bit"),
    "generator unknown": (generator_is("bit_generator", to="test"), "of an unknown kind, 'test'"),
    "generator of another kind": (generator_is("bit_generator", to="MT19937"), "a state of numpy's MT19937"),
    "generator negative": (generator_is("state", "state", to=-1), "a state of numpy's PCG64"),
    "generator huge": (generator_is("state", "inc", to=2**200), "a state of numpy's PCG64"),
    "generator lacking": (generator_is("state", to={}), "a state of numpy's PCG64"),
    "split": (changes("checkpoint", "split", to={}), "checkpoint.split must have a state and a fraction"),
    "split of all": (changes("checkpoint", "split", "fraction", to=1.0), "checkpoint.split must have a state and a"),
    "no generator": (generator_is(to=None), "checkpoint.split must have .* beside a generator"),
    "checkpoint": (changes("checkpoint", to=None), ""),
    "history": (changes("history", to=[]), ""),
}  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_a_result_whose_parts_do_not_go_together_is_not_read(what, tmp_path):
    change, message = EDITS[what]
    sgdm.fit(X, y, batch_size=4, seed=0, epochs=3, average=True, validation=0.3).save(tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz") as file:
        members = {name: array for name, array in file.items() if name != "digest"}
    (tmp_path / "r.npz").write_bytes(resealed(change(members)))
    with pytest.raises(ValueError, match=rf"r\.npz is damaged, or not a result saved by .*({message})"):
        sgdm.load(tmp_path / "r.npz")


REDUCED = {
    "no weight": ("total_weight", 0.0, "total_weight must be a positive, finite float, got 0.0"),
    "an int as weight": ("total_weight", 0, "total_weight must be a non-negative, finite float, got 0"),
    "a negative weight": ("total_weight", -1.0, "total_weight must be a non-negative, finite float, got -1.0"),
    "a text as weight": ("total_weight", "x", "total_weight must be a non-negative, finite float, got 'x'"),
    "infinite weight": ("total_weight", math.inf, "total_weight must be a non-negative, finite float, got inf"),
    "no rows": ("n_rows", 0, "n_rows must be an int from 1"),
    "rows of a float": ("n_rows", 3.0, "n_rows must be an int from 1 to [0-9]+, got 3.0"),
    "rows true": ("n_rows", True, "n_rows must be an int from 1 to [0-9]+, got True"),
    "more rows than there are": ("n_rows", 2**70, "n_rows must be an int from 1"),
    "objects": ("dtype", "O", "dtype must be float32 or float64, got dtype\\('O'\\)"),
    "ints": ("dtype", "int64", "dtype must be float32 or float64"),
    "no dtype": ("dtype", "magic", "data type 'magic' not understood"),
    "a list of dtypes": ("dtype", ["f8"], ""),
    "names too few": ("feature_names", ["a"], "feature_names must be 3 texts, or None"),
    "names of letters": ("feature_names", "abc", "feature_names must be 3 texts, or None"),
    "other features": ("n_features", 2, "R must be an array of shape \\(3, 3\\) and dtype float64"),
    "no features": ("n_features", 0, "n_features must be an int from 1"),
    "features of a text": ("n_features", "3", "n_features must be an int from 1"),
    "an intercept of 1": ("fit_intercept", 1, "fit_intercept must be True or False, got 1"),
    "an intercept more": ("fit_intercept", True, "R must be an array of shape \\(5, 5\\)"),
    "two slots": ("target_shape", [1, 1], "target_shape must be \\(\\) or \\(k,\\), got \\(1, 1\\)"),
    "no targets": ("target_shape", [0], "target_shape must be an int from 1"),
    "a slot of a number": ("target_shape", 1, "target_shape must be \\(\\) or \\(k,\\), got 1"),
    "R of text": ("R", np.full((4, 4), "1"), "R must be an array of shape \\(4, 4\\)"),
    "R of float32": ("R", np.eye(4, dtype=np.float32), "R must be an array of shape \\(4, 4\\) and dtype float64"),
    "R of NaN": ("R", np.diag([1, np.nan, 1, 1]), "R must be finite"),
    "R below its diagonal": ("R", np.ones((4, 4)), "R must be upper triangular"),
    "R of another sign": ("R", -np.eye(4), "R must be upper triangular, with no negative number on its diagonal"),
    "R 1-D": ("R", np.ones(4), "R must be an array of shape \\(4, 4\\)"),
}


@pytest.mark.parametrize("what", REDUCED)
def test_a_reduction_whose_parts_do_not_go_together_is_refused(what, tmp_path):
    name, value, message = REDUCED[what]
    reduced, path = sgdm.compress(X, y), tmp_path / "r.npz"
    reduced.save(path)
    with np.load(path) as file:
        members = {name: array for name, array in file.items() if name != "digest"}
    change = array_is(name, value) if name == "R" else changes(name, to=value)
    path.write_bytes(resealed(change(members)))
    with pytest.raises(ValueError, match=rf"r\.npz is damaged, or not a reduction saved by .*({message})"):
        Compressed.load(path)

    bad = copy.copy(reduced)
    vars(bad)[name] = tuple(value) if isinstance(value, list) else value
    for use in (bad.fit, lambda: reduced.fit(validation=bad)):
        with pytest.raises(ValueError, match=" must "):
            use()
    if what != "no weight":  # which some of the rows of a reduction may have
        for use in (lambda: bad + reduced, lambda: Compressed.merge([bad]), lambda: pickle.loads(pickle.dumps(bad))):
            with pytest.raises(ValueError, match=" must "):
                use()
        with pytest.raises(ValueError, match=" must "):
            bad.save(path)


LEVELS = {
    "another number of leaves": (changes("n_leaves", to=6), "n_leaves must be 5, as the heights say, got 6"),
    "leaves of a text": (changes("n_leaves", to="5"), "n_leaves must be 5"),
    "heights that rise": (changes("heights", to=[0, 2]), "heights must be an int from 0 to -1, got 2"),
    "heights alike": (changes("heights", to=[2, 2]), "heights must be an int from 0 to 1, got 2"),
    "heights negative": (changes("heights", to=[2, -1]), "heights must be an int from 0 to 1, got -1"),
    "heights huge": (changes("heights", to=[10**9, 0]), "heights must be an int from 0 to 62, got 1000000000"),
    "heights true": (changes("heights", to=[2, False]), "heights must be an int from 0 to 1, got False"),
    "no heights": (changes("heights", to=[]), "n_leaves must be 0"),
    "fewer heights": (changes("heights", to=[2]), "n_leaves must be 4"),
    "fewer rows than leaves": (changes("n_rows", to=4), "n_rows must be an int from 5"),
    "a text as digest": (changes("digest", to=None), "other parts than a reduction under way"),
    "R of other columns": (array_is("R1", np.eye(5)), "R of height 0 must be an array of shape \\(4, 4\\)"),
    "R of fewer rows": (array_is("R0", np.eye(4)[:3]), "R of height 2 must be an array of shape \\(4, 4\\)"),
    "R of text": (array_is("R0", np.full((4, 4), "1")), "R of height 2 must be an array"),
    "R below its diagonal": (array_is("R1", np.ones((2, 4))), "R of height 0 must be upper triangular"),
    "R of NaN": (array_is("R1", np.full((2, 4), np.nan)), "R of height 0 must be finite"),
    "an R more": (array_is("R2", np.eye(4)), "other parts than a reduction under way"),
    "other features": (changes("n_features", to=5), "R must be an array of shape \\(6, 6\\)"),
    "a text as weight": (changes("total_weight", to="x"), "total_weight must be a non-negative, finite float"),
}


@pytest.mark.parametrize("what", LEVELS)
def test_a_checkpoint_whose_parts_do_not_go_together_is_refused(what, tmp_path):
    change, message = LEVELS[what]
    path = tmp_path / "half.npz"
    saved_checkpoint("checkpoint", path)
    with np.load(path) as file:
        members = {name: array for name, array in file.items() if name != "digest"}
    path.write_bytes(resealed(change(members)))
    with pytest.raises(ValueError, match=rf"half\.npz is damaged, or not a checkpoint saved by .*({message})"):
        sgdm.compress(blocks(), checkpoint=path)
    assert path.exists()


# Results that were changed in memory


def test_a_negative_epoch_is_refused_as_init():
    """The kernel would write before its arrays."""
    result = sgdm.fit(X, y, epochs=4, record_every=2)
    for epoch in (-100001, -1):
        bad = replace(result, epochs=epoch, checkpoint=result.checkpoint._replace(epoch=epoch))
        message = f"^init's checkpoint does not go with .* epochs must be .* got {epoch};"
        for _ in range(50):
            with pytest.raises(ValueError, match=message):
                sgdm.fit(X, y, init=bad, epochs=4, record_every=2)


def test_an_epoch_near_the_largest_integer_is_refused_as_init():
    result = sgdm.fit(X, y, epochs=4, record=None)
    for epoch in (sys.maxsize - 3, sys.maxsize, sys.maxsize + 1, 2**70):
        counts = {"epoch": epoch, "updates": epoch}
        bad = replace(result, epochs=epoch, checkpoint=result.checkpoint._replace(**counts))
        with pytest.raises(ValueError, match=r"epochs must be (at most|an int from 0)"):
            sgdm.fit(X, y, init=bad, epochs=4, record=None)
    bad = replace(result, checkpoint=result.checkpoint._replace(updates=sys.maxsize - 3))
    with pytest.raises(ValueError, match=r"epochs must be fewer: 4 updates after the [0-9]+ of init are too many"):
        sgdm.fit(X, y, init=bad, epochs=4, record=None)
    epoch = sys.maxsize - 4
    last = replace(result, epochs=epoch, checkpoint=result.checkpoint._replace(epoch=epoch, updates=epoch))
    assert sgdm.fit(X, y, init=last, epochs=4, record=None).epochs == sys.maxsize


INITS = {
    "coef": {"coef": np.ones(3)},
    "coef of another dtype": {"coef": np.ones(3, np.float32)},
    "coef None": {"coef": None},
    "intercept": {"intercept": 1.0},
    "velocity": {"velocity": np.zeros(3)},
    "loss": {"loss": "x"},
    "lr": {"lr": None},
    "status": {"status": 3},
    "history": {"history": None},
    "checkpoint": {"checkpoint": ()},
    "feature_names": {"feature_names": ("a",)},
    "optimal_loss": {"optimal_loss": np.zeros(3)},
    "best_epoch": {"best_epoch": 1.0},
}


@pytest.mark.parametrize("what", INITS)
def test_a_result_with_another_part_is_refused_as_init(what):
    result = sgdm.fit(X, y, epochs=4, validation=(X, y))
    bad = replace(result, **INITS[what])
    with pytest.raises(ValueError, match=r"^init's checkpoint does not go with its coefficients, or with something"):
        sgdm.fit(X, y, epochs=4, validation=(X, y), init=bad)


@pytest.mark.parametrize("name", ["epoch", "loss", "grad", "step", "coef", "val_loss"])
def test_a_result_with_another_history_is_refused_as_init(name):
    result = sgdm.fit(X, y, epochs=4, validation=(X, y))
    for value in (None, getattr(result.history, name)[:-1], getattr(result.history, name).astype(complex), "x", 5):
        bad = replace(result, history=replace(result.history, **{name: value}))
        with pytest.raises(ValueError, match=rf"^init's checkpoint does not go .*: history\.{name} must "):
            sgdm.fit(X, y, epochs=4, validation=(X, y), init=bad)


@pytest.mark.parametrize(("kind", "name"), [("MT19937", "pos"), ("Philox", "buffer_pos")])
def test_a_position_outside_a_generators_numbers_is_refused(kind, name, tmp_path):
    """numpy takes it, and reads there."""
    options = {"batch_size": 4, "epochs": 2}
    result = sgdm.fit(X, y, seed=np.random.Generator(getattr(np.random, kind)(0)), **options)
    assert sgdm.fit(X, y, init=result, **options).epochs == 4
    for position in (-1, 10**6):
        state = copy.deepcopy(result.checkpoint.generator)
        (state["state"] if name == "pos" else state)[name] = position
        bad = replace(result, checkpoint=result.checkpoint._replace(generator=state))
        with pytest.raises(ValueError, match=f"checkpoint.generator must be a state of numpy's {kind}"):
            sgdm.fit(X, y, init=bad, **options)


def test_a_result_that_could_not_be_read_is_not_saved(tmp_path):
    result = sgdm.fit(X, y, epochs=4)
    result.save(tmp_path / "r.npz")
    for bad in (replace(result, epochs=-4), replace(result, coef=result.coef + 1)):
        with pytest.raises(ValueError, match="must"):
            bad.save(tmp_path / "r.npz")
    assert sgdm.load(tmp_path / "r.npz") == result


def test_a_pickle_of_impossible_parts_is_refused():
    """One whose coefficients were put into other units passes, as a copy of it does; it is none to go on from."""
    result, many = sgdm.fit(X, y, epochs=4), sgdm.fit_many(X, y, lr=[0.1, 0.2], epochs=4)
    assert pickle.loads(pickle.dumps(result)) == result
    assert pickle.loads(pickle.dumps(many)) == many
    parts = {"epochs": -5}, {"history": result.checkpoint}, {"lr": "x"}
    for bad in (*(replace(result, **part) for part in parts), replace(many, epochs=many.epochs + 9)):
        with pytest.raises(ValueError, match=r"must|missing"):
            pickle.loads(pickle.dumps(bad))
    scaled = replace(result, coef=2 * result.coef)
    assert pickle.loads(pickle.dumps(scaled)) == copy.deepcopy(scaled) == scaled
    with pytest.raises(ValueError, match="coef must be that of the checkpoint"):
        sgdm.fit(X, y, init=scaled)


MANY = {
    "epochs": np.array([1, -1]),
    "status": np.array(["completed", "running"]),
    "coef": np.zeros((2, 2)),
    "velocity": np.zeros((2, 3)),
    "intercept": np.ones(2),
    "loss": np.zeros(3),
    "lr": np.array([0.1, np.nan]),
    "momentum": np.array([0.1, 1.5]),
    "dampening": np.zeros(2, np.float32),
    "best_epoch": 0,
    "method": "compress",
    "feature_names": ("a",),
}


@pytest.mark.parametrize("name", MANY)
def test_many_fits_whose_parts_do_not_go_together_are_refused(name, tmp_path):
    many = sgdm.fit_many(X, y, lr=[0.1, 0.2], epochs=4)
    with pytest.raises(ValueError, match=" must "):
        replace(many, **{name: MANY[name]}).save(tmp_path / "r.npz")
    for history in ({"loss": many.history.loss[:, :3]}, {"epoch": many.history.epoch + 1}, {"grad": None}):
        with pytest.raises(ValueError, match="history"):
            replace(many, history=replace(many.history, **history)).save(tmp_path / "r.npz")
