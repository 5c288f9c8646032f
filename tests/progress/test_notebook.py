"""docs/progress.rst: progress in a real notebook."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from pcall.progress import NotebookProgress
from tests.helpers.progress_runs import show, small_run
from tests.helpers.scripts import run_python

# In a process of its own: nbclient leaves an event loop open.
RUNNER = """
import json, sys
import nbclient, nbformat
cells = [nbformat.v4.new_code_cell(cell) for cell in json.load(sys.stdin)]
notebook = nbformat.v4.new_notebook(cells=cells)
nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
print(json.dumps([cell.outputs for cell in notebook.cells]))
"""


def run_notebook(*cells: str, path: Path) -> list[list[dict]]:
    """The outputs of each cell of a notebook that a real kernel executes."""
    for name in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(name)
    folders = dict.fromkeys(("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"), str(path))
    settings = {
        "input": json.dumps(cells),
        "env": {"PYDEVD_DISABLE_FILE_VALIDATION": "1", **folders},
    }
    return json.loads(run_python("-c", RUNNER, **settings).stdout)


def test_a_real_notebook(tmp_path):
    """A cell shows figures and failures, updated in their place, and the next cell its own."""
    first, second = run_notebook(
        "from tests.helpers.progress_runs import *\n"
        "from pcall._faces.run_observers import observers_of\n"
        "(observer,) = observers_of(True)._observers\n"
        "live_run(observer, 1.5, total=300)",
        "show(observer, small_run([0, 0], total=7)); print(type(observer).__name__)",
        path=tmp_path,
    )
    figures, failures = first
    assert [each["output_type"] for each in first] == ["display_data"] * 2
    # What was shown first has been replaced by the figures of the end.
    assert figures["data"]["text/plain"].startswith("probe: 250 of 300 done, 50 failed")
    assert '<div class="bar" title="300 of 300">' in figures["data"]["text/html"]
    assert "ended after" in figures["data"]["text/html"]
    assert failures["data"]["text/plain"] == "50 failed attempts"
    markup = failures["data"]["text/html"]
    assert markup.count('<details class="group"') == 3
    assert markup.count('<details class="one"') == 50
    assert "<script" not in markup
    figures, failures, printed = second
    assert figures["data"]["text/plain"].startswith("probe: 5 of 7 done, 2 failed")
    assert failures["data"]["text/plain"] == "2 failed attempts"
    assert printed["text"] == "NotebookProgress\n"


def test_updates_while_the_cell_runs(tmp_path):
    """The figures are updated while the run goes on; the failures when there are new ones."""
    cell = """
from tests.helpers.progress_runs import *
from pcall.progress import NotebookProgress, notebook
seen = []
show_it = notebook._show
def spy(update, html, text):
    seen.append((update is not None, text))
    return show_it(update, html, text)
notebook._show = spy
live_run(NotebookProgress(), 2.0, total=100, fail_every=50)
print(seen)
"""
    ((*_, printed),) = run_notebook(cell, path=tmp_path)
    seen = eval(printed["text"])
    figures = [(update, text) for update, text in seen if "failed attempt" not in text]
    failures = [text for _, text in seen if "failed attempt" in text]
    assert [update for update, _ in figures] == [False] + [True] * (len(figures) - 1)
    assert len({text for _, text in figures}) >= 4
    assert failures == ["1 failed attempt", "2 failed attempts"]


@pytest.mark.fast
def test_where_there_is_no_notebook():
    """In a process that is not a notebook's the run's begin fails, and says why."""
    pytest.importorskip("IPython")
    with pytest.raises(RuntimeError, match="needs a notebook, and this process is not in one"):
        show(NotebookProgress(), small_run([2]))


def test_ipython_that_is_not_installed(monkeypatch):
    """Without IPython making the display is an ImportError that says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'pcall\[notebook\]'"):
        NotebookProgress()
