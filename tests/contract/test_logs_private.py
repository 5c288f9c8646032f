"""docs/logs.rst: a child's file is as private as the main log, and follows no link."""

from __future__ import annotations

import logging
import os
import stat

import pytest

from pcall import Pcall, pcall
from tests.helpers.waiting import wait_for

pytestmark = pytest.mark.engines(why="each test chooses the engines itself")

log = logging.getLogger("test.private")


@pytest.fixture
def umask():
    """Set the umask for the test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.fixture
def add():
    """Add handlers to the logger of these tests."""

    def add(handler):
        log.addHandler(handler)
        return handler

    log.setLevel(logging.INFO)
    yield add
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()
    log.setLevel(logging.NOTSET)


@pytest.mark.fast
@pytest.mark.parametrize("tasks", [1, None])
@pytest.mark.parametrize(
    ("main", "mask", "expected"),
    [
        (0o600, 0o022, 0o600),
        (0o640, 0o022, 0o640),
        (0o644, 0o077, 0o600),
        (0o644, 0o022, 0o644),
        (0o755, 0o022, 0o644),
    ],
)
def test_mode_of_a_childs_file(tmp_path, add, umask, main, mask, expected, tasks):
    """The file of a child is open to nobody to whom the main log is not, and keeps the umask."""
    path = tmp_path / "main.log"
    path.touch()
    path.chmod(main)
    add(logging.FileHandler(path))
    add(logging.FileHandler(tmp_path / "delayed.log", delay=True))
    (tmp_path / "delayed.log").touch()
    (tmp_path / "delayed.log").chmod(main)
    umask(mask)

    def target(n):
        log.info("call %d", n)
        return [
            stat.S_IMODE(file.stat().st_mode)
            for file in tmp_path.iterdir()
            if f":pid-{os.getpid()}" in file.name
        ]

    found = Pcall.options(max_tasks_per_child=tasks, max_workers=1).pcall(target, n=range(2))
    assert found == ([expected] * 2, [expected] * (2 if tasks else 4))
    assert stat.S_IMODE(path.stat().st_mode) == main


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_in_the_place_of_a_childs_file(tmp_path, add, exists):
    """A link that lies where a child makes its file is not followed, and nothing is lost."""
    folder, victim = tmp_path / "logs", tmp_path / "victim"
    folder.mkdir()
    if exists:
        victim.write_text("old\n")
    add(logging.FileHandler(folder / "main.log"))

    def target(n):
        os.symlink(victim, f"{folder}/main.log:pid-{os.getpid()}")
        log.info("call %d", n)

    pcall(target, n=range(2))
    assert victim.exists() == exists
    assert not exists or victim.read_text() == "old\n"
    lines = (folder / "main.log").read_text().splitlines()
    assert [line for line in lines if "child log" not in line] == ["call 0", "call 1"]


def test_a_link_in_the_place_of_a_file_that_was_not_made(tmp_path, add):
    """A link with the name of a silent child's file does not bring its target into the main log."""
    folder, secret = tmp_path / "logs", tmp_path / "secret"
    folder.mkdir()
    secret.write_text("secret\n")
    add(logging.FileHandler(folder / "main.log"))
    run = Pcall(lambda n: wait_for(tmp_path / "go on"), n=[0])
    run.start()
    os.symlink(secret, f"{folder}/main.log:pid-{run.pids[0]}")
    (tmp_path / "go on").touch()
    run.join()
    assert "secret" not in (folder / "main.log").read_text()
    assert secret.read_text() == "secret\n"
