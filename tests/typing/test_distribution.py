"""setup.cfg, CITATION.cff: what the distribution tells about itself."""

from __future__ import annotations

import configparser
import re
import runpy
import subprocess

import pytest

import pcall
from tests.helpers import ROOT

README = """\
See `here <docs/a.rst>`_ and `there <https://example.org/b>`_, or `the part <docs/c.rst#d>`_.

.. image:: docs/e.svg
    :alt: a picture

.. image:: https://example.org/f.svg

Last.
"""


def test_the_long_description_has_no_link_that_leads_nowhere():
    """Relative links become their text and relative pictures go; all else stays."""
    script = runpy.run_path(str(ROOT / "docs/long_description.py"))
    assert script["long_description"](README) == (
        "See here and `there <https://example.org/b>`_, or the part.\n\n\n"
        ".. image:: https://example.org/f.svg\n\nLast.\n"
    )
    text = (ROOT / "docs/long_description.txt").read_text()
    assert text == script["long_description"]((ROOT / "README.rst").read_text())
    assert "pcall" in text
    assert re.findall(r"`[^`]*<(?!https?://)[^`]*>`_|^\.\. (?:image|figure):: (?!http)", text) == []


def test_the_versions_agree():
    """CITATION.cff and the first heading of CHANGES.rst name the version of the package."""
    assert f"\nversion: {pcall.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    heading = re.search(r"^(\d\S*)(?: \(.*\))?\n---", (ROOT / "CHANGES.rst").read_text(), re.M)
    assert heading is not None
    assert heading[1] == pcall.__version__


def test_the_classifiers_name_the_pythons():
    """The lowest Python of the classifiers is the one that pip requires."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = re.findall(r"Python :: 3\.(\d+)", config["metadata"]["classifiers"])
    assert list(map(int, named)) == list(range(11, 11 + len(named)))
    assert config["options"]["python_requires"] == ">=3.11"


def test_the_source_distribution_has_what_stands_beside_the_package():
    """MANIFEST.in names every file and folder of the top level that git keeps."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    top = {name.partition("/")[0] for name in listed.split("\0") if name}
    given = set((ROOT / "MANIFEST.in").read_text().split())
    usual = {"LICENSE", "README.rst", "pyproject.toml", "setup.cfg", "setup.py", "MANIFEST.in"}
    assert sorted(top - given - usual) == [".gitignore", "pcall"]
