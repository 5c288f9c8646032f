"""docs/policy.rst: reused children in bad surroundings: nothing is lost and nothing left.

Each case is a function of tests/scripts/reuse.py in a process of its own, which tells by its exit
status that it came to its end.
"""

from __future__ import annotations

import functools
import subprocess

import pytest

from tests.helpers import ROOT
from tests.helpers.processes import assert_ended
from tests.helpers.scripts import (
    environment,
    in_namespace,
    missed_by_coverage,
    python,
    run_case,
)
from tests.helpers.waiting import until

pytestmark = pytest.mark.parametrize("system", ["linux", "portable"])

run = functools.partial(run_case, "reuse.py")


# ------------------------------------------------------------ interrupts, and the parent's end


def test_interrupted_at_any_moment(tmp_path, system):
    """Ctrl-C at any moment loses no descriptor, no child and no call, and is raised once."""
    run("interrupted_at_any_moment", system=system, folder=tmp_path)


def test_terminate_from_a_signal_handler(tmp_path, system):
    """A handler of the user's may end the run, whatever is being done just then."""
    run("terminate_from_a_handler", system=system, folder=tmp_path)


@pytest.mark.parametrize("what", ["busy", "idle", "ignores"])
def test_children_end_with_a_parent_that_is_killed(tmp_path, system, what):
    """Children of a parent that is killed with SIGKILL end, with a call or between two."""
    command = python(ROOT / "tests/scripts/reuse.py", system, "stay", what)
    parent = subprocess.Popen(command, cwd=tmp_path, env=environment())
    try:
        assert until(lambda: (tmp_path / "ready").exists() or parent.poll() is not None)
        assert parent.poll() is None
    finally:
        parent.kill()
        parent.wait()
    pids = [int(path.name.partition("-")[2]) for path in tmp_path.glob("child-*")]
    assert len(pids) == 3
    assert_ended(pids, within=20)


# ------------------------------------------------------------ limits


@pytest.mark.fast
def test_64_descriptors(tmp_path, system):
    """With few descriptors there are fewer children, and every answer comes home."""
    run("few_descriptors", system=system, folder=tmp_path)


def test_descriptors_that_run_out(tmp_path, system):
    """Where there is room for a single child now, that one makes all calls."""
    run("descriptors_run_out", system=system, folder=tmp_path)


@pytest.mark.parametrize("forks", [0, 1, 2])
def test_a_fork_that_fails(tmp_path, system, forks):
    """Where a child can't be forked, the others are ended, and OSError is raised."""
    run("a_fork_fails", forks, system=system, folder=tmp_path)


def test_a_full_place_for_files(tmp_path, system):
    """A full disk costs nothing on Linux; elsewhere a call that finds no room says so."""
    place = tmp_path / "place"
    place.mkdir()
    mounts = f"mount -t tmpfs -o size=64k none {place}; mount -t tmpfs -o size=64k none /dev/shm"
    run(
        "a_full_disk",
        system=system,
        folder=tmp_path,
        within=in_namespace(mounts),
        env={"TMPDIR": str(place)},
    )


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full"])
def test_closed_and_full_streams(tmp_path, system, streams):
    """Closed streams, and full ones, fail no call."""
    run("broken_streams", system=system, folder=tmp_path, streams=streams)


# ------------------------------------------------------------ threads, output, tools


def test_locks_that_other_threads_hold_at_the_fork(tmp_path, system):
    """Threads of the parent that print and log all the time block no child."""
    run("beside_threads_that_print", system=system, folder=tmp_path, streams=">/dev/null")


def test_what_calls_print(tmp_path, system):
    """Nothing that calls print is lost or doubled, also when a later call dies."""
    found = run("calls_print", system=system, folder=tmp_path)
    printed = [int(x) for x in found.stdout.replace("the parent's", "").split()[1::2]]
    # What a call has not flushed when it calls os._exit() is lost as anywhere.
    assert sorted(printed) == [x for x in range(200) if x % 20 != 19]
    assert found.stdout.count("the parent's") == 1
    assert sorted(int(x) for x in found.stderr.split()[1::2]) == list(range(200))


@pytest.mark.parametrize("flags", [["-W", "error"], ["-X", "dev"], ["-O"]])
def test_options_of_the_interpreter(tmp_path, system, flags):
    """Also where warnings are errors nothing is said on stderr."""
    found = run("large_and_small", system=system, folder=tmp_path, flags=flags)
    assert "Warning" not in found.stderr
    assert "Traceback" not in found.stderr


COVERED = """
import sys, time
from pcall import Pcall
from pcall._os.current import use_system
from pcall._os.portable import PortableSystem

if sys.argv[1] == "portable":
    use_system(PortableSystem())
Tolerant = Pcall.options(
    max_tasks_per_child=None, max_workers=3, grace_period=60, return_outcomes=True, max_errors=None
)

def call(x):
    if x == 3:
        raise ValueError(x)
    if x == 5:
        while True:
            time.sleep(0.01)
    if x == 7:
        return "covered"
    if x == 1000:
        return "never"
    return x

found = Tolerant.pcall(call, 3, x=range(30))
assert [outcome.index for outcome in found if not outcome.ok] == [3, 5]
"""


@pytest.mark.parametrize("setting", ["", "concurrency = multiprocessing", "patch = _exit"])
def test_under_coverage(tmp_path, system, setting):
    """Lines run in reused children count as covered, also those of cancelled ones."""
    lines, _ = missed_by_coverage(tmp_path, COVERED, system, setting=setting)
    missing = set(lines)
    assert 'return "never"' in missing
    assert not missing & {"raise ValueError(x)", "time.sleep(0.01)", 'return "covered"', "return x"}
