"""How Sphinx makes the site of these documents: ``python -m sphinx -W docs build/site``.

The documents link to each other by file name (``design.rst#turns``), so that they can be read in a
checkout as well. ``RelativeLinks`` turns these links into links of the site, and complains of those
that lead nowhere.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

import docutils.nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the reference is that of this checkout

import pcall  # noqa: E402

project = "pcall"
author = "the pcall contributors"
copyright = author
release = version = pcall.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
highlight_language = "python"
pygments_style = "tango"
pygments_dark_style = "monokai"
nitpicky = False
language = "en"

# The reference: members in the order of their source, types where they are described.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["distributed", "dask", "cloudpickle"]
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 70
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
add_module_names = False

html_theme = "furo"
html_title = f"pcall {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
# Nothing is loaded from elsewhere: the site works without a network.
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}

# Pages of the site that show files from outside this folder.
PAGES = {
    "README.rst": "index",
    "CHANGES.rst": "changes",
    "CONTRIBUTING.rst": "contributing",
    "CODE_OF_CONDUCT.rst": "conduct",
    "SECURITY.rst": "security",
    "benchmarks/README.rst": "benchmarks",
}

logger = logging.getLogger(__name__)


class RelativeLinks(SphinxPostTransform):
    """Resolves links to ``name.rst#section`` and to examples."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        """Change the links of one document."""
        for node in self.document.findall(docutils.nodes.reference):
            target = node.get("refuri", "")
            if target and not node.get("internal") and not re.match(r"[a-z]+:|#", target):
                self._resolve(node, target)

    def _resolve(self, node: docutils.nodes.reference, target: str) -> None:
        path, _, anchor = target.partition("#")
        checkout = Path(self.app.srcdir).parent
        place = posixpath.relpath(Path(source_of(node)).resolve().parent, checkout)
        file = posixpath.normpath(posixpath.join(place, path))
        if file.startswith("examples/") and file.endswith(".py"):
            page, anchor = "examples", docutils.nodes.make_id(posixpath.basename(file))
        elif file in PAGES:
            page = PAGES[file]
        else:
            page = file.removeprefix("docs/").removesuffix(".rst")
        if page not in self.env.found_docs:
            logger.warning("link to a page that is not there: %s", target, location=node)
            return
        if anchor and anchor not in self.env.get_doctree(page).ids:
            logger.warning("link to a section that is not there: %s", target, location=node)
        node["refuri"] = self.app.builder.get_relative_uri(self.env.docname, page) + (
            anchor and f"#{anchor}"
        )
        node["internal"] = True


def source_of(node: docutils.nodes.Node | None) -> str:
    """The file that a node was read from, which another one may have included."""
    while node is not None:
        if node.source:
            return str(node.source)
        node = node.parent
    raise LookupError("a node without a source")


def join_names(_: Sphinx, __: str, ___: str, ____: Any, _____: Any, lines: list[str]) -> None:
    """Keep the names of attributes that share a description from being taken for a type."""
    for number, line in enumerate(lines):
        if names := re.match(r" +(\w+(?:, \w+)+): ", line):
            joined = names[1].replace(", ", ",\N{ZERO WIDTH SPACE}")
            lines[number] = line.replace(names[1], joined, 1)


def setup(app: Sphinx) -> None:
    """Register what is added to Sphinx here."""
    app.connect("autodoc-process-docstring", join_names, priority=100)  # before napoleon
    app.add_post_transform(RelativeLinks)
