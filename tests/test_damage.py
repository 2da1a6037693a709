"""Files that are damaged are refused in words of ours, or read as they were.

What was edited, its digest put right, may be read as something else: then it can be gone on from, or is refused then.
"""

import copy
import itertools
import json
import math
import tracemalloc

import numpy as np
import pytest
from helpers import ignore_far
from saved_files import array_of, members_of, npy, resealed, save_all, zipped

import sgdm
from sgdm import Compressed

pytestmark = ignore_far


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What is saved by name."""
    return save_all(tmp_path_factory.mktemp("whole"))


# Damage


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
        others, [*members, members[i]], [*others, (name, held)], [*members, ("more.npy", held)],
        [*others, (members[i][0], b"")], [*others, (members[i][0].removesuffix(".npy"), held)],
    ]  # fmt: skip
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
        header.replace(b"'", b"'''", 1), b"{" * 200, b"((" * 3000, bytes(length), header[: length // 2],
        header.replace(b"False", b"True"), flipped(header, rng),
        f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(length - 1).encode() + b"\n",
        header.replace(header[10:16], str(descr).encode()), b"{'descr': " * 300 + b"}" * 300,
    ]  # fmt: skip
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
        lambda: bare.astype("f4") if array.dtype == "f8" else bare, lambda: bare.astype("i8"),
        lambda: array.astype(bool), lambda: array.astype("U9"), lambda: array.astype(object),
        lambda: array.astype(array.dtype.newbyteorder(">")), lambda: np.zeros(array.shape, [("a", "f8")]),
        lambda: array[np.newaxis], lambda: array.reshape(-1)[:-1],
        lambda: np.concatenate([array.reshape(-1), array.reshape(-1)]), lambda: array.reshape(-1)[:0],
        lambda: np.asfortranarray(array), lambda: array.T, lambda: np.full_like(array, -1),
        lambda: np.full_like(bare, np.nan).astype(array.dtype if array.dtype.kind == "f" else "f8"),
        lambda: np.full_like(bare, 1e300), lambda: np.full(array.shape, np.iinfo("i8").max - 1),
        lambda: np.zeros_like(array), lambda: array + array.dtype.type(1) if array.dtype.kind in "fiu" else array,
    ]  # fmt: skip
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
    named |= "which is for" in str(refusal)  # a sound file of another kind, by an edit
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


def test_a_whole_file_is_read(saved, tmp_path):
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
                message = rf"r.npz is no {kind}: it holds a {saved[name].kind}, which is for sgdm"
                with pytest.raises(ValueError, match=message):
                    load(path)


def test_the_arrays_of_the_command_say_what_they_are(run_python, tmp_path):
    path = tmp_path / "r.npz"
    process = run_python(
        f"import sys, sgdm.__main__ as command; sys.argv[1:] = ['--output', {str(path)!r}]; command.main()"
    )
    assert path.exists(), process.stderr
    with pytest.raises(ValueError, match=r"r\.npz is no result: it holds what the command's --output writes, "):
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
