"""The docstrings of all that is public: numpydoc's validation, by the checks that pyproject.toml lists."""

import importlib
import inspect
import re
import tomllib
from functools import cached_property
from pathlib import Path

import pytest

import sgdm

numpydoc = pytest.importorskip("numpydoc.validate")
pytest.importorskip("sklearn")  # for sgdm.sklearn

CONFIG = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
CONFIG = CONFIG["tool"]["numpydoc_validation"]
# Users get objects of these classes, but don't build them: the docstrings hold attributes and no parameters.
NOT_BUILT = {"Checkpoint", "Compressed", "DivergenceError", "FitResult", "History", "Progress", "Status", "Tuned"}


MODULES = ("sgdm", "sgdm.plot", "sgdm.schedules", "sgdm.sklearn")


def members(cls):
    """The public methods and properties of a class that are ours."""
    kinds = (staticmethod, classmethod, property, cached_property)
    for base in cls.__mro__:
        if base.__module__.startswith("sgdm."):
            for name, value in vars(base).items():
                if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, kinds)):
                    yield name


def load(name):
    """The object of a dotted name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def public():
    """The dotted names of all that is public."""
    for module in MODULES:
        for name in importlib.import_module(module).__all__:
            value = load(f"{module}.{name}")
            yield f"{module}.{name}"
            if inspect.isclass(value):
                yield from (f"{module}.{name}.{member}" for member in dict.fromkeys(members(value)))
    yield "sgdm._results.many.FitResults.predict"  # what fit_many returns


NAMES = [name for name in public() if not any(re.search(pattern, name) for pattern in CONFIG["exclude"])]
FUNCTIONS = [name for name in NAMES if name.rpartition(".")[0] in MODULES and inspect.isfunction(load(name))]


def complaints(name):
    """The checks that a docstring fails, with their messages."""
    checks = numpydoc.get_validation_checks(set(CONFIG["checks"]))
    if name.rpartition(".")[2] in NOT_BUILT:
        checks -= {"PR01"}
    return [error for error in numpydoc.validate(name)["errors"] if error[0] in checks]


@pytest.mark.parametrize("name", NAMES)
def test_a_docstring_passes_numpydocs_checks(name):
    assert complaints(name) == []


def test_all_that_is_public_is_checked():
    assert {"sgdm.fit", "sgdm.schedules", "sgdm.Compressed.optimal_loss", "sgdm.FitResult.predict"} <= {*NAMES}
    assert {"sgdm.sklearn.SGDMRegressorCV.predict", "sgdm.plot.animate", "sgdm.Progress.epoch"} <= {*NAMES}
    assert len(NAMES) > 50


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_an_example(name):
    assert re.search(r"^ *Examples\n *-+\n(.|\n)*>>> ", load(name).__doc__, re.M)


def test_fit_lists_its_parameters_by_group():
    """Each of them once, in the order of the signature within the group."""
    _, table, _ = re.split(r"^ *=+  =+\n", sgdm.fit.__doc__.rpartition("    Parameters\n")[0], flags=re.M)
    groups = [re.findall(r"\w+", row)[1:] for row in table.splitlines() if row.strip()]
    order = list(inspect.signature(sgdm.fit).parameters)
    assert sorted(name for group in groups for name in group) == sorted(order)
    assert all(group == sorted(group, key=order.index) for group in groups)
