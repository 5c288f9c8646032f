"""docs/design.rst: a lock that a thread of the parent held at the fork never blocks a child.

Each case is a script in which threads take a lock over and over, or hold it for good, while the
main thread makes 200 runs in all. A child that waits for ever is ended by the run's timeout, which
fails the script.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.scripts import run_case

RUNS = 100  # on each of two systems


def run(
    folder: Path, system: str, case: str, *flags: str, runs: int = RUNS
) -> subprocess.CompletedProcess[str]:
    """Run a case of the script to its end; return what it and its children wrote."""
    return run_case("locks.py", case, runs, system=system, folder=folder, flags=flags)


@pytest.fixture(params=["linux", "portable"])
def system(request) -> str:
    return request.param


def test_the_lock_of_logging(tmp_path, system):
    """Children log while a thread of the parent holds the logging module's own lock."""
    run(tmp_path, system, "of_logging")


def test_the_lock_of_a_handler(tmp_path, system):
    """Children log through handlers whose locks threads of the parent hold for good."""
    run(tmp_path, system, "of_a_handler")


def test_threads_that_log_all_the_time(tmp_path, system):
    """Children log to a file and to stderr while threads of the parent do nothing else."""
    run(tmp_path, system, "while_logging")


def test_the_lock_of_an_import(tmp_path, system):
    """Children import modules that a thread of the parent is importing at the fork."""
    for name in ("slow_one", "slow_two", "package/__init__", "package/inner"):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("import time\ntime.sleep(0.002)\nwhole = True\n")
    run(tmp_path, system, "of_an_import")


def test_the_lock_of_numpys_generator(tmp_path, system):
    """Children draw from numpy's global generator while threads of the parent do, too."""
    run(tmp_path, system, "of_numpy", runs=40)


def test_the_lock_of_stdout(tmp_path, system):
    """Children print while threads of the parent print, and no line of a child is lost."""
    text = run(tmp_path, system, "of_stdout").stdout
    for n in range(RUNS):
        assert f"child {n}\n" in text


def test_a_lock_of_the_users_that_the_target_does_not_need(tmp_path, system):
    """A lock, condition and queue that threads hold are nothing to a target without them."""
    run(tmp_path, system, "of_the_user_not_needed")


@pytest.mark.fast
def test_a_lock_of_the_users_that_the_target_needs(tmp_path, system):
    """A target that waits for a lock which nobody will release is ended by its timeout."""
    run(tmp_path, system, "of_the_user_needed")


def test_threads_that_come_and_go(tmp_path, system):
    """Children start threads of their own while threads start and end in the parent."""
    run(tmp_path, system, "threads_come_and_go")


# ------------------------------------------------------------ warnings


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 began to warn of such forks")
def test_a_fork_with_threads_does_not_warn(tmp_path, system):
    """Where warnings are errors runs beside threads work, and nothing is written to stderr."""
    assert run(tmp_path, system, "without_a_warning", "-Werror", runs=20).stderr == ""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 began to warn of such forks")
def test_no_filter_is_left_for_good(tmp_path, system):
    """Forks beside a thread that uses ``catch_warnings`` leave no filter for others' warnings."""
    assert run(tmp_path, system, "filters_beside_catch_warnings", runs=10).stderr == ""


def test_the_filters_of_warnings_are_the_users(tmp_path, system):
    """In a child that was forked beside threads a warning is what the user made of it."""
    run(tmp_path, system, "filters_of_warnings", "-Werror", runs=10)
