"""How Sphinx builds the documentation: `make docs`. Nothing is fetched from the network."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from inspect import cleandoc
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS / "_ext")]

import gallery  # noqa: E402  # beside this file
import pictures  # noqa: E402

project = "stangmm"
author = "The stangmm developers"
project_copyright = author
release = version = version_of("stangmm")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser", "mathml"]
exclude_patterns = ["_ext", "_static"]
default_role = "py:obj"  # in docstrings, `Fit.diagnose` is a link

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_enable_extensions += ["substitution"]
myst_heading_anchors = 3

napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Warns", "params_style")]
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say types, with shapes
autodoc_class_signature = "mixed"

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"stangmm {release}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_extra_path = [str(gallery.REPORTS), "llms.txt"]
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#00588a",
        "color-brand-content": "#00588a",
    },
    "dark_css_variables": {
        "color-brand-primary": "#56b4e9",
        "color-brand-content": "#56b4e9",
    },
}

# Pictures and printed numbers first: pages take them in.
pictures.build()
gallery.build()
myst_substitutions = pictures.facts()


def setup(app: Sphinx) -> None:
    """Two small corrections of how docstrings are read, and a language for what snippets print."""
    app.add_lexer("output", TextLexer)  # the block above prints it; the tests compare
    app.connect("autodoc-process-docstring", _whole_sentences, priority=900)  # after napoleon
    for field in PyObject.doc_field_types:
        if field.label == "Variables":
            field.label = "Attributes"


def _whole_sentences(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Undo that napoleon takes what stands before a colon for a property's type."""
    if what == "property":
        lines[:] = [*cleandoc(thing.__doc__ or "").splitlines(), ""]
