"""docs/timeouts.rst: what a child started ends with its run, however the child ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pcall import ChildProcessException, Pcall, PcallTimeout
from tests.helpers.processes import assert_ended
from tests.helpers.scripts import run_case, system_name

Quick = Pcall.options(grace_period=0.5)
PROMPT = 10.0  # seconds that nothing here takes, unless something is waited for that sleeps


@pytest.fixture(autouse=True)
def prompt() -> Iterator[None]:
    """What sleeps here sleeps for a minute: none of it may be waited for."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < PROMPT


def by_fork(folder: Path) -> list[int]:
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(60)
        finally:
            os._exit(0)
    return [pid]


def by_fork_resisting(folder: Path) -> list[int]:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(write, b"x")
            time.sleep(60)
        finally:
            os._exit(0)
    os.read(read, 1)
    return [pid]


def by_subprocess(folder: Path) -> list[int]:
    return [subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]).pid]


def by_shell(folder: Path) -> list[int]:
    script = "sleep 60 & echo $! > one; sleep 61 | cat & echo $! > two; echo > done; wait"
    pid = subprocess.Popen(["/bin/sh", "-c", script], cwd=folder).pid
    while not (folder / "done").exists():
        time.sleep(0.01)
    return [pid, *(int((folder / name).read_text()) for name in ("one", "two"))]


STARTING = [by_fork, by_fork_resisting, by_subprocess, by_shell]


def test_what_a_child_started_ends_with_it(each_system: str, tmp_path: Path) -> None:
    """SIGTERM and SIGKILL go to the process group of each child that is ended."""

    def starts_and_hangs(start: Callable[[Path], list[int]]) -> None:
        pids = start(tmp_path)
        (tmp_path / start.__name__).write_text(" ".join(map(str, pids)))
        time.sleep(60)

    with pytest.raises(PcallTimeout):
        Quick.pcall(starts_and_hangs, timeout=3, start=STARTING)
    for start in STARTING:
        assert_ended([int(pid) for pid in (tmp_path / start.__name__).read_text().split()])


@pytest.mark.fast
@pytest.mark.parametrize("start", STARTING)
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_what_outlives_its_parent(
    each_system: str, start: Callable[[Path], list[int]], tmp_path: Path
) -> None:
    """A result comes at once though what the child started holds all of its descriptors."""
    run = Quick(start, cargs=(tmp_path,))
    run.start()
    (outcome,) = run.as_completed()
    pids = outcome.result()
    run.join()
    assert run.results == (pids,)
    assert len(pids) == (3 if start is by_shell else 1)
    assert_ended(pids)


def test_what_outlives_one_that_was_killed(each_system: str, tmp_path: Path) -> None:
    """What a child started does not outlive the run when the child is killed."""
    path = tmp_path / "pids"

    def starts_and_dies() -> None:
        path.write_text(str(*by_subprocess(tmp_path)))
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ChildProcessException, match="killed by SIGKILL"):
        Quick.pcall(starts_and_dies)
    assert_ended([int(path.read_text())])


def test_where_nobody_takes_in_orphans(tmp_path: Path) -> None:
    """Where the first process reaps no orphans, nothing waits for their zombies, nor leaves any."""
    system = {"system": system_name(), "folder": tmp_path, "timeout": PROMPT - 2}
    ran = run_case("objects.py", "orphans_are_reaped", **system)
    pid, rest = ran.stdout.splitlines()
    assert rest == "no child"
    assert_ended([int(pid)])
