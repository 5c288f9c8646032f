"""Every example runs as it stands, from anywhere."""

from __future__ import annotations

import ast
import os
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
    "checksum_stdlib.py",
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


def test_checksums_that_differ_are_an_error(tmp_path):
    """The real job exits with 1 when the parallel answer is not the serial one."""
    source = next(path for path in EXAMPLES if path.name == "checksum_stdlib.py").read_text()
    right = "parts = pcall(checksum, "
    wrong = source.replace(right, "parts = pcall(lambda paths: checksum(paths[1:]), ")
    assert wrong != source
    (tmp_path / "wrong.py").write_text(wrong)
    done = run_example(tmp_path / "wrong.py", tmp_path)
    assert done.returncode == 1
    assert "differs" in done.stderr


def test_checksums_count_the_library(tmp_path):
    """The real job counts the files of the library that it names, and their bytes."""
    path = next(path for path in EXAMPLES if path.name == "checksum_stdlib.py")
    done = run_example(path, tmp_path)
    shown = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[:4])
    assert Path(shown["library"], "os.py").is_file()
    assert int(shown["files"]) > 500
    assert int(shown["bytes"]) > 5_000_000
    assert len(shown["sha-256"]) == 64
