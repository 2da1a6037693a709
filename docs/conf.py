"""The site of the documentation: `sphinx-build -q -n -W --keep-going docs docs/_build/html`."""

from importlib.metadata import version as version_of

project = "sgdm"
author = "the authors of sgdm"
copyright = "the authors of sgdm"
version = release = version_of("sgdm")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_nb"]
exclude_patterns = ["_build"]
nitpick_ignore = [
    ("py:obj", "dataclasses.replace"),  # of the standard library
]
default_role = "autolink"  # `name` in a docstring is a link if it is a public name, and italic if not

# Docstrings. They state types, shapes and defaults, so the signatures show names and defaults only.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# Pages with code are run at each build; the lesson is committed with its outputs.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_excludepatterns = ["lesson.ipynb"]
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "image/gif", 25)]

html_theme = "furo"
html_title = f"sgdm {version}"
html_copy_source = False
