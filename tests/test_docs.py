"""The API reference has an entry for every public name; Sphinx, in .ci/run, checks all else of the site."""

import re
from pathlib import Path
from types import ModuleType

import pytest

import sgdm

PAGES = Path(__file__).parent.parent / "docs" / "reference"


def entries():
    """What the pages take from docstrings; a whole module as its name."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in sorted(PAGES.glob("*.rst")))
    return set(re.findall(r"^\.\. (?:auto)?(?:data|function|class|exception|module):: ([\w.]+)", text, re.M))


@pytest.mark.parametrize("name", [*sgdm.__all__, "__version__"])
def test_a_public_name_is_in_the_reference(name):
    module = isinstance(getattr(sgdm, name), ModuleType)
    assert (f"sgdm.{name}" if module else name) in entries()


def test_the_estimators_and_pictures_are_in_the_reference():
    assert entries() >= {"sgdm.plot", "sgdm.sklearn"}
    estimators = pytest.importorskip("sgdm.sklearn")
    assert entries() >= set(estimators.__all__)
