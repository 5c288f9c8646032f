"""docs/side_by_side.rst: programs for other libraries print the same as their translations."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_documents import code_blocks
from tests.helpers import ROOT
from tests.helpers.scripts import run_python

PAGE = (ROOT / "docs/side_by_side.rst").read_text()
# The package that the program of a section needs; those of the standard library need none.
NEEDS = {
    "multiprocessing.Pool": None,
    "ProcessPoolExecutor": None,
    "joblib": "joblib",
    "uberjob": "uberjob",
    "pyATS": "pyats",
    "dask": "dask",
    "ray": "ray",
    "Process": None,
}
# A Python in whose environment the package is, for packages that ask for versions of their own.
ELSEWHERE = {"pyATS": "PCALL_PYATS_PYTHON", "ray": "PCALL_RAY_PYTHON"}


def sections() -> dict[str, str]:
    """By title, the text of each section of the page."""
    parts = re.split(r"^(\S.*)\n-+$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def programs(title: str) -> tuple[str, str]:
    """The two programs of a section, before and after."""
    ((_, before),) = code_blocks(sections()[title], "python3")
    ((_, after),) = code_blocks(sections()[title])
    return before, after


def run_before(title: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run a program for another library, or skip the test, with the reason."""
    package, python = NEEDS[title], os.environ.get(ELSEWHERE.get(title, ""), sys.executable)
    if package and python == sys.executable and importlib.util.find_spec(package) is None:
        where = (
            f", and {ELSEWHERE[title]} names no Python that has it" if title in ELSEWHERE else ""
        )
        pytest.skip(f"the package {package} is not installed{where}")
    return subprocess.run(
        [python, path],
        cwd=path.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
    )


def test_there_are_eight_pairs():
    """The page has one program and one translation for each library."""
    assert list(sections()) == list(NEEDS)
    for title in NEEDS:
        before, after = programs(title)
        assert "pcall" in after
        assert title == "pyATS" or "pcall" not in before


@pytest.mark.parametrize("title", NEEDS)
def test_a_translation_prints_the_same(title, tmp_path):
    """A program for another library, and its translation, print the same."""
    before, after = programs(title)
    (tmp_path / "before.py").write_text(before)
    (tmp_path / "after.py").write_text(after)
    translated = run_python("-W", "error", tmp_path / "after.py", cwd=tmp_path)
    assert translated.stdout.strip()
    original = run_before(title, tmp_path / "before.py")
    assert original.returncode == 0, original.stderr
    assert translated.stdout == original.stdout.split("\n\n")[-1]
