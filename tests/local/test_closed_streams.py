"""docs/design.rst: results, values and logs come home without stdin, stdout or stderr."""

from __future__ import annotations

import itertools

import pytest

from tests.helpers.scripts import run_case

COMBINATIONS = [
    "".join(combination)
    for count in (1, 2, 3)
    for combination in itertools.combinations("012", count)
]


@pytest.fixture(params=["linux", "portable"])
def system(request):
    return request.param


def check(folder, system, case, fds):
    # The streams are there until the case closes them, so that Python has its objects for them.
    run_case("closed_streams.py", case, fds, system=system, folder=folder, timeout=60)


@pytest.mark.parametrize("fds", COMBINATIONS)
@pytest.mark.parametrize("case", ["fresh", "reused"])
def test_closed_before(tmp_path, system, case, fds):
    """Large results and errors, and records, come home with any of the streams closed."""
    check(tmp_path, system, case, fds)


@pytest.mark.parametrize("fds", ["0", "12", "012"])
def test_closed_in_the_calls(tmp_path, system, fds):
    """Calls that close streams, and write to them, do not write into their own answers."""
    check(tmp_path, system, "closed_in_the_calls", fds)


@pytest.mark.parametrize("fds", ["0", "12", "012"])
def test_closed_during_the_run(tmp_path, system, fds):
    """A parent that closes streams during a run finds none of the run's descriptors there."""
    check(tmp_path, system, "closed_during_the_run", fds)


@pytest.mark.parametrize("fds", ["0", "12", "012"])
def test_closed_in_a_plan(tmp_path, system, fds):
    """The values of a plan are whole although its calls, and its caller, close streams."""
    check(tmp_path, system, "plan", fds)


@pytest.mark.fast
def test_records_without_stdin(tmp_path, system):
    """With descriptor 0 closed, records arrive at handlers of the parent."""
    check(tmp_path, system, "fresh", "0")
