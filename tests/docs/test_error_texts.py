"""docs/reference/error_texts.rst: each error text of the library, provoked."""

from __future__ import annotations

import re

import pytest

from tests.helpers import ROOT
from tests.helpers.scripts import run_python

PAGE = ROOT / "docs/reference/error_texts.rst"
SCRIPT = ROOT / "docs/error_texts.py"


def test_the_page_has_the_texts_that_are_raised_now():
    """The lines of the page, run again, raise the texts that the page shows."""
    done = run_python("-W", "ignore", SCRIPT, "--print")
    assert done.stdout == PAGE.read_text()


@pytest.mark.fast
def test_each_text_of_the_library_is_on_the_page():
    """An error that the library makes with a text is on the page, or is left out for a reason."""
    done = run_python(SCRIPT, "--missing")
    assert done.stdout.strip() == ""


def test_a_text_that_is_not_on_the_page_is_seen(tmp_path):
    """The check above names an error that the page lacks, with its place."""
    source = SCRIPT.read_text()
    (tmp_path / "docs/reference").mkdir(parents=True)
    (tmp_path / "docs/error_texts.py").write_text(source)
    page = re.sub("targets must be a callable", "targets are wrong", PAGE.read_text())
    (tmp_path / "docs/reference/error_texts.rst").write_text(page.replace("grace_period", "grace"))
    (tmp_path / "pcall").mkdir()
    (tmp_path / "pcall/options.py").write_text(
        "raise ValueError('grace_period must be finite: without an end nothing would be killed')\n"
        "raise ValueError(f'capture_output must be True, False or \\'group\\', not {5!r}')\n"
    )
    done = run_python(tmp_path / "docs/error_texts.py", "--missing")
    assert [line.split(" ")[0] for line in done.stdout.splitlines()] == ["pcall/options.py:1:"]
