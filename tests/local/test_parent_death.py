"""docs/timeouts.rst: whatever hits the parent, nothing that the run started outlives it.

Each parent is a process of its own, a case of tests/scripts/parent_death.py. Its children
write their numbers into a folder, and /proc tells what became of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.cases import FINE
from tests.helpers.processes import assert_ended, has_ended
from tests.helpers.scripts import environment, python

SYSTEMS = ["linux", "portable"]
PROMPT = 20


@contextmanager
def running(folder: Path, system: str, case: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a case of the script, and see that not even a failing test leaves anything of it."""
    notes = folder / "notes"
    notes.mkdir()
    command = python(ROOT / "tests/scripts/parent_death.py", system, case, notes)
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment()) as process:
        try:
            yield process
        finally:
            process.kill()
            for path in notes.iterdir():
                kind, _, pid = path.name.rpartition("-")
                if kind in ("child", "grandchild"):
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError:
                        pass


def noted(folder: Path, kind: str, count: int = 1) -> list[int]:
    """Wait until so many have written their numbers; return these."""
    end = time.monotonic() + 60
    while True:
        found = [int(path.name.rpartition("-")[2]) for path in folder.glob(f"notes/{kind}-*")]
        if len(found) >= count:
            assert len(found) == count
            return found
        assert not list(folder.glob("notes/failed-*")), "the script failed"
        assert time.monotonic() < end, f"{len(found)} of {count} {kind} in 60 s"
        time.sleep(0.01)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_killed_parent_takes_children_and_grandchildren_along(tmp_path, system, number):
    """A parent killed in the middle of 50 children leaves neither them nor what they started."""
    with running(tmp_path, system, "sleepers") as parent:
        pids = noted(tmp_path, "child", 50) + noted(tmp_path, "grandchild", 50)
        assert not any(has_ended(pid, parent.pid) for pid in pids)
        parent.send_signal(number)
        assert parent.wait(timeout=PROMPT) == -number
        assert_ended(pids, parent.pid, within=PROMPT)


@pytest.mark.parametrize("system", SYSTEMS)
def test_ctrl_c_ends_all_and_goes_on_as_keyboard_interrupt(tmp_path, system):
    """Ctrl-C in the parent ends 50 children and what they started, reaps them, and goes on."""
    with running(tmp_path, system, "sleepers") as parent:
        pids = noted(tmp_path, "child", 50) + noted(tmp_path, "grandchild", 50)
        parent.send_signal(signal.SIGINT)
        noted(tmp_path, "stays")
        assert parent.poll() is None
        assert_ended(pids, parent.pid)
        parent.communicate(timeout=PROMPT)
        assert parent.returncode == -signal.SIGINT
        noted(tmp_path, "interrupted")


@pytest.mark.fast
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_second_ctrl_c_kills_at_once(tmp_path, system):
    """Children that take their time to clean up are killed by the second Ctrl-C."""
    with running(tmp_path, system, "clean_up_slowly") as parent:
        pids = noted(tmp_path, "child", 10) + noted(tmp_path, "grandchild", 10)
        parent.send_signal(signal.SIGINT)
        cleaning = noted(tmp_path, "cleaning", 10)
        assert not any(has_ended(pid, parent.pid) for pid in cleaning)
        assert not list(tmp_path.glob("notes/interrupted-*"))
        parent.send_signal(signal.SIGINT)
        noted(tmp_path, "interrupted")
        assert_ended(pids, parent.pid)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name
)
def test_children_clean_up_in_finally(tmp_path, system, number):
    """However the parent is hit, the `finally` of each child runs to its end."""
    with running(tmp_path, system, "clean_up") as parent:
        pids = noted(tmp_path, "child", 10)
        parent.send_signal(number)
        assert sorted(noted(tmp_path, "cleaned", 10)) == sorted(pids)
        assert parent.wait(timeout=PROMPT) == -number
        assert_ended(pids, parent.pid, within=PROMPT)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_what_ignores_sigterm_is_killed_after_the_grace_period(tmp_path, system, number):
    """Children that ignore SIGTERM are gone after the grace period, and what they started."""
    with running(tmp_path, system, "ignore_sigterm") as parent:
        pids = noted(tmp_path, "child", 10) + noted(tmp_path, "grandchild", 10)
        parent.send_signal(number)
        assert parent.wait(timeout=PROMPT) == -number
        assert_ended(pids, parent.pid, within=PROMPT)


@pytest.mark.parametrize("system", SYSTEMS)
def test_children_forked_after_others_have_ended_are_killed_too(tmp_path, system):
    """The guard knows the living children of a run in which most calls have ended before."""
    with running(tmp_path, system, "forked_late") as parent:
        pids = noted(tmp_path, "child", 4)
        parent.kill()
        parent.wait(timeout=PROMPT)
        assert_ended(pids, parent.pid, within=PROMPT)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_child_deep_in_c_code_does_not_outlive_a_killed_parent(tmp_path, system):
    """A child that never comes back to the interpreter is gone after the grace period."""
    with running(tmp_path, system, "deep_in_c_code") as parent:
        pids = noted(tmp_path, "child", 2)
        time.sleep(0.5)  # into the C code
        parent.kill()
        parent.wait(timeout=PROMPT)
        assert_ended(pids, parent.pid, within=PROMPT)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_nested_children_are_gone_too(tmp_path, system, number):
    """Of calls within calls within calls, no level outlives the parent."""
    with running(tmp_path, system, "nested") as parent:
        pids = noted(tmp_path, "child", 3 + 9 + 27) + noted(tmp_path, "grandchild", 27)
        parent.send_signal(number)
        assert parent.wait(timeout=PROMPT) == -number
        assert_ended(pids, parent.pid, within=PROMPT)


@pytest.mark.parametrize("system", SYSTEMS)
def test_children_outlive_the_thread_that_started_them(tmp_path, system):
    """The end of the thread that called start() harms no child; that of the parent ends them."""
    with running(tmp_path, system, "started_by_a_thread") as parent:
        pids = noted(tmp_path, "child", 5)
        noted(tmp_path, "stays")
        assert len(noted(tmp_path, "went", 5)) == 5
        parent.kill()
        parent.wait(timeout=PROMPT)
        assert_ended(pids, parent.pid, within=PROMPT)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_signal_handler_that_raises_in_join_ends_the_children(tmp_path, system):
    """An exception from the user's own SIGALRM handler ends the children and goes on."""
    with running(tmp_path, system, "a_handler_raises") as parent:
        pids = noted(tmp_path, "child", 20) + noted(tmp_path, "grandchild", 20)
        noted(tmp_path, "stays")
        assert_ended(pids, parent.pid)
        parent.communicate(timeout=PROMPT)
        assert parent.returncode == FINE


@pytest.mark.parametrize("system", SYSTEMS)
def test_ctrl_c_between_forks_loses_no_child(tmp_path, system):
    """Interrupted at any moment of starting 300 children, the parent ends all it had started."""
    with running(tmp_path, system, "between_forks") as parent:
        noted(tmp_path, "stays")
        parent.communicate(timeout=PROMPT)
        assert parent.returncode == FINE


@pytest.mark.parametrize("system", SYSTEMS)
def test_ctrl_c_between_forks_loses_no_descriptor(tmp_path, system):
    """Interrupted at 200 moments of starting children, the parent has no descriptor more."""
    with running(tmp_path, system, "between_few_forks") as parent:
        noted(tmp_path, "stays")
        parent.communicate(timeout=PROMPT)
        assert parent.returncode == FINE
