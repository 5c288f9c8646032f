"""Every example runs as it stands, from anywhere."""

from __future__ import annotations

import ast
import os
import runpy
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.scripts import run_python

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NAMES = [
    "01_hello.py",
    "02_arguments.py",
    "03_errors.py",
    "04_timeouts.py",
    "05_objects.py",
    "06_asyncio.py",
    "07_logs.py",
    "08_policy.py",
    "09_progress.py",
    "10_plan.py",
    "12_cluster.py",
    "13_profile.py",
    "14_executor.py",
    "15_iter.py",
    "complex_functions.py",
]


def run_example(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run an example from another folder."""
    arguments = ("-W", "error", path)
    return run_python(*arguments, cwd=folder, stdin=subprocess.DEVNULL, status=None)


@pytest.mark.fast
def test_all_examples_are_there():
    """The examples are those that are promised."""
    assert [path.name for path in EXAMPLES] == NAMES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(path, tmp_path):
    """An example exits with 0 from another folder, tells something, and complains of nothing."""
    done = run_example(path, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert done.stderr == ""
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_says_what_it_shows(path):
    """An example begins with a docstring for the one who opens it."""
    assert ast.get_docstring(ast.parse(path.read_text()))


def complex_functions() -> Path:
    """The real job of the README."""
    return next(path for path in EXAMPLES if path.name == "complex_functions.py")


def test_an_answer_that_differs_is_an_error(tmp_path):
    """The real job exits with 1 when the parallel answer is not the serial one."""
    source = complex_functions().read_text()
    right = ".pcall(measure, "
    wrong = source.replace(right, ".pcall(lambda path: measure(path)[1:], ")
    wrong = wrong.replace("paths = python_files(library)", "paths = python_files(library)[:20]")
    assert wrong.count("[1:]") == wrong.count("[:20]") == 1
    (tmp_path / "wrong.py").write_text(wrong)
    done = run_example(tmp_path / "wrong.py", tmp_path)
    assert done.returncode == 1
    assert "differs" in done.stderr


def test_the_real_job_measures_complexity(tmp_path):
    """The real job counts branches as McCabe does, in functions within functions, too."""
    (tmp_path / "sample.py").write_text(
        "def plain():\n    pass\n"
        "async def outer(a, b):\n"
        "    for x in a:\n        if x and b or not a:\n            pass\n"
        "    try:\n        pass\n    except OSError:\n        pass\n"
        "    def inner():\n        return [x for x in a if x]\n"
    )
    names = runpy.run_path(str(complex_functions()))
    found = {name: count for count, _, _, name in names["measure"](tmp_path / "sample.py")}
    assert found == {"plain": 1, "outer": 7, "inner": 2}
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/left_out.py").write_text("")
    assert names["python_files"](tmp_path) == [str(tmp_path / "sample.py")]
