"""docs/logs.rst: sections are there in whatever way a run or a child ends."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pcall import ChildDied, ChildProcessException, Pcall, PcallTimeout, pcall
from tests.helpers import ROOT
from tests.helpers.scripts import environment, python, system_name

pytestmark = pytest.mark.needs("child logs")

BEGIN = ">>>> Begin child log "
END = "<<<< End child log "


@pytest.fixture
def log(tmp_path):
    """A file handler on the root logger; the path of its file."""
    root = logging.getLogger()
    level = root.level
    handler = logging.FileHandler(tmp_path / "main.log")
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield tmp_path / "main.log"
    root.removeHandler(handler)
    root.setLevel(level)
    handler.close()


def section_of(path, pid):
    """The lines of the section of a child."""
    lines = path.read_text().splitlines()
    title = f"{path}:pid-{pid}"
    return lines[lines.index(f"INFO {BEGIN}{title}") + 1 : lines.index(f"INFO {END}{title}")]


def nothing_beside(path):
    return os.listdir(path.parent) == [path.name]


@pytest.mark.fast
def test_error(log):
    """A call that fails has its section, with what it logged and its traceback."""

    def target(n):
        logging.info("before it fails")
        raise ValueError("odd")

    with pytest.raises(ChildProcessException) as raised:
        pcall(target, n=[0])
    lines = section_of(log, raised.value.outcomes[0].pid)
    assert lines[0] == "INFO before it fails"
    assert lines[1] == f"ERROR call 0 failed: {target.__qualname__}(n=0)"
    assert lines[2] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: odd"
    assert nothing_beside(log)


@pytest.mark.needs("a fresh child")
@pytest.mark.parametrize(
    ("end", "how"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by SIGKILL"),
        (lambda: ctypes.string_at(0), "killed by SIGSEGV"),
        (lambda: os._exit(3), "exited with status 3"),
        (lambda: os.execv("/bin/true", ["true"]), "exited with status 0"),
    ],
    ids=["kill", "segfault", "exit", "exec"],
)
def test_death(log, end, how):
    """The section of a child that died has its last record, and ends with how it died."""

    def target(n):
        logging.info("the last words of %d", n)
        if n == 1:
            end()

    with pytest.raises(ChildDied) as raised:
        pcall(target, n=range(3))
    pid = raised.value.outcomes[1].pid
    expected = f"ERROR call 1, {target.__qualname__}(n=1), process {pid}: {how}"
    assert section_of(log, pid) == ["INFO the last words of 1", expected]
    assert section_of(log, raised.value.outcomes[2].pid) == ["INFO the last words of 2"]
    assert nothing_beside(log)


def test_death_without_a_word(log):
    """A child that was killed has a section also when it has logged nothing."""
    with pytest.raises(ChildDied) as raised:
        pcall(lambda n: os.kill(os.getpid(), signal.SIGKILL), n=[0])
    (line,) = section_of(log, raised.value.outcomes[0].pid)
    assert line.endswith("killed by SIGKILL")


def test_death_is_not_told_to_logs_of_something_else(log, tmp_path):
    """A child that was killed has no section in the log of a logger that it has not used."""
    handler = logging.FileHandler(tmp_path / "db.log")
    logging.getLogger("db").addHandler(handler)
    try:
        with pytest.raises(ChildDied):
            pcall(lambda n: os.kill(os.getpid(), signal.SIGKILL), n=[0])
    finally:
        logging.getLogger("db").removeHandler(handler)
        handler.close()
    assert (tmp_path / "db.log").read_text() == ""


def test_a_line_that_was_cut_off(log):
    """What a child has written of a line when it is killed is there, and the line is ended."""

    def target(n):
        logging.info("whole")
        (handler,) = [h for h in logging.getLogger().handlers if type(h) is logging.FileHandler]
        os.write(handler.stream.fileno(), b"cut o")
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ChildDied) as raised:
        pcall(target, n=[0])
    lines = section_of(log, raised.value.outcomes[0].pid)
    assert lines[:2] == ["INFO whole", "cut o"]
    assert lines[2].endswith("killed by SIGKILL")


def test_timeout(log):
    """After a timeout each section is there, and says which call ran too long."""

    def target(n):
        logging.info("hello %d", n)
        time.sleep(n)

    with pytest.raises(PcallTimeout) as raised:
        pcall(target, 1, n=(0, 600))
    first, second = raised.value.outcomes
    assert section_of(log, first.pid) == ["INFO hello 0"]
    lines = section_of(log, second.pid)
    assert lines[0] == "INFO hello 600"
    assert "ran longer than the timeout of 1 s; killed by SIGTERM" in lines[-1]
    assert nothing_beside(log)


@pytest.mark.needs("a fresh child")
@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_ended_on_request(log, end):
    """Calls that are ended on request have their sections, which say so."""
    run = Pcall(lambda n: [logging.info("hello"), time.sleep(600)], n=range(2))
    run.start()
    paths = [f"{log}:pid-{pid}" for pid in run.pids]
    deadline = time.monotonic() + 10
    while not all(os.path.exists(path) and os.path.getsize(path) for path in paths):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    getattr(run, end)()
    run.join()
    for pid in run.pids:
        lines = section_of(log, pid)
        assert lines[0] == "INFO hello"
        assert lines[-1].endswith("killed by SIGTERM" if end == "terminate" else "SIGKILL")
    assert nothing_beside(log)


@pytest.mark.needs("a fresh child")
def test_leaving_a_block_by_an_exception(log):
    """An exception in a ``with`` block ends the calls, and their sections are there."""
    with pytest.raises(KeyError), Pcall(lambda n: time.sleep(600), n=range(2)) as run:
        raise KeyError
    for pid in run.pids:
        assert section_of(log, pid)[-1].endswith("killed by SIGTERM")


def test_awaited_and_cancelled(log):
    """A run that is awaited and cancelled has its sections by the time it is dropped."""

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Pcall(time.sleep, iargs=[(600,)]), 0.3)

    asyncio.run(main())
    assert "killed by SIGTERM" in log.read_text()
    assert nothing_beside(log)


def test_a_run_that_is_dropped(log):
    """A run that nobody joins has its sections when it is dropped."""
    run = Pcall(lambda n: logging.info("hello"), n=[0])
    run.start()
    assert run.wait(10)
    assert len(os.listdir(log.parent)) == 2
    del run
    assert "INFO hello" in log.read_text()
    assert nothing_beside(log)


def test_waiting_does_not_merge_and_joining_does_once(log):
    """wait() leaves the files alone; of several join() the first one merges them."""
    run = Pcall(lambda n: logging.info("hello"), n=[0])
    run.start()
    assert run.wait(10)
    assert BEGIN not in log.read_text()
    run.join()
    run.join()
    assert log.read_text().count(BEGIN) == 1


def script(folder: Path, case: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Start a case of the script in the folder."""
    command = python(ROOT / "tests/scripts/logs_endings.py", system_name(), case, *arguments)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=environment(), **streams)


@pytest.mark.engines(why="a script makes the run")
def test_ctrl_c(tmp_path):
    """After Ctrl-C in the parent each child's section is there."""
    process = script(tmp_path, "waits", 3)
    for _ in range(3):
        assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in err
    text = (tmp_path / "main.log").read_text()
    assert text.count(BEGIN) == text.count(END) == text.count("killed by SIGTERM") == 3
    assert all(f"hello {n}\n" in text for n in range(3))
    assert sorted(os.listdir(tmp_path)) == ["main.log"]


@pytest.mark.engines(why="a script makes the run")
def test_end_of_the_interpreter(tmp_path):
    """A run that is not over when the interpreter ends has its sections."""
    process = script(tmp_path, "ends_before_its_run")
    process.communicate(timeout=60)
    text = (tmp_path / "main.log").read_text()
    assert text.count(BEGIN) == text.count(END) == 2
    assert sorted(os.listdir(tmp_path)) == ["main.log"]


@pytest.mark.engines(why="a script makes the run")
def test_death_of_the_parent(tmp_path):
    """When the parent is killed what children have logged stays on disk, beside the main log."""
    process = script(tmp_path, "waits", 1)
    pid = int(process.stdout.readline())
    process.kill()
    process.communicate(timeout=60)
    assert (tmp_path / f"main.log:pid-{pid}").read_text().startswith("hello 0\n")
    assert (tmp_path / "main.log").read_text() == ""


def test_calls_that_never_started(log):
    """A call that never started has no section."""

    def target(n):
        logging.info("hello %d", n)
        raise ValueError

    with pytest.raises(ChildProcessException):
        Pcall.options(max_workers=1).pcall(target, n=range(3))
    text = log.read_text()
    assert text.count(BEGIN) == 1
    assert "hello 1" not in text
