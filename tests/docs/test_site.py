"""docs/index.rst: the site that Sphinx makes of the documents, and its reference."""

from __future__ import annotations

import importlib
import inspect
import re
import zlib
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.scripts import run_python

REFERENCE = ROOT / "docs/reference"
MODULES = [
    "pcall",
    "pcall.exceptions",
    "pcall.executor",
    "pcall.plan",
    "pcall.profiling",
    "pcall.progress",
    "pcall.tasklog",
]
# Its import needs the extra ``cluster``, so its names are read.
CLUSTER = re.search(r"__all__ = \[(.*?)\]", (ROOT / "pcall/cluster.py").read_text(), re.DOTALL)


def public_names() -> set[str]:
    """The last part of each name that a user may import."""
    names = set(re.findall(r"\w+", CLUSTER[1]))
    for module in MODULES:
        names |= set(importlib.import_module(module).__all__)
    return names


def documented_names() -> list[str]:
    """The names that the pages of the reference document, one entry a directive."""
    directive = r"^\.\. auto(?:function|class|exception|data):: (pcall[\w.]*)(?:\(.*\))?$"
    texts = [path.read_text() for path in sorted(REFERENCE.glob("*.rst"))]
    return [name for text in texts for name in re.findall(directive, text, re.MULTILINE)]


@pytest.mark.fast
def test_each_public_name_is_in_the_reference():
    """Every public name has one place on the pages of the reference, and nothing else has."""
    documented = [name.rpartition(".")[2] for name in documented_names()]
    assert sorted(documented) == sorted(public_names())


def test_each_page_of_the_reference_is_in_its_index():
    """No page of the reference is left out of its table of contents."""
    index = (REFERENCE / "index.rst").read_text()
    entries = re.findall(r"^    (\w+)$", index, re.MULTILINE)
    assert sorted([*entries, "index"]) == sorted(path.stem for path in REFERENCE.glob("*.rst"))


def objects(site: Path) -> set[str]:
    """The names that the inventory of a site has."""
    content = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split(" ", 1)[0] for line in zlib.decompress(content).decode().splitlines()}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built strictly."""
    pytest.importorskip("furo", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    places = (ROOT / "docs", folder / "html", "-d", folder / "doctrees")
    done = run_python("-m", "sphinx", "-q", "-E", "-W", "--keep-going", *places, status=None)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder / "html"


def test_the_site_has_the_whole_api(site):
    """The site has every public name, and every public member of ``Pcall``, ``Plan``, executors."""
    found = objects(site)
    assert set(documented_names()) <= found
    import pcall

    for name in ("Pcall", "Plan", "Executor", "InlineExecutor", "Pool"):
        for member, _ in inspect.getmembers(getattr(pcall, name)):
            if not member.startswith("_") and (name, member) != ("Pcall", "pcall"):
                assert f"pcall.{name}.{member}" in found


def test_the_site_needs_no_network(site):
    """No page loads a script, a style, a font or a picture from elsewhere."""
    loads = r"""<(?:script|img|iframe)[^>]+src="(?:https?:)?//|<link[^>]+href="(?:https?:)?//"""
    for page in site.rglob("*.html"):
        assert not re.search(loads, page.read_text()), page


def test_the_site_can_be_searched(site):
    """The index of the search knows the words of pages and of the reference."""
    index = (site / "searchindex.js").read_text()
    assert "grace_period" in index
    assert '"timeout' in index


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        ("`x <nowhere.rst>`_", "a page that is not there"),
        ("`x <design.rst#nowhere>`_", "a section that is not there"),
    ],
)
def test_a_broken_link_fails_the_build(link, complaint, tmp_path):
    """A link that leads nowhere is a complaint of the build."""
    pytest.importorskip("furo", reason="the extra docs is not installed")
    (tmp_path / "docs").mkdir()
    for name, text in (("index", link), ("design", "text")):
        (tmp_path / f"docs/{name}.rst").write_text(f":orphan:\n\nTitle\n=====\n\n{text}\n")
    options = ("-q", "-W", "--keep-going", "-b", "dummy", "-c", ROOT / "docs")
    places = (tmp_path / "docs", tmp_path / "out")
    done = run_python("-m", "sphinx", *options, *places, status=None)
    assert done.returncode != 0
    assert complaint in done.stderr
