"""docs/logs.rst: the lines of a task log, and the counter that goes on in a child."""

from __future__ import annotations

import logging
import os
import re

import pytest

from pcall import pcall
from pcall.tasklog import TaskLogFormatter, TaskLogHandler

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"


@pytest.fixture
def tasklog(tmp_path):
    """A logger of this test's own, which writes a task log; the root logger's name is not free."""
    handler = TaskLogHandler(tmp_path / "task.log")
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    yield tmp_path / "task.log"
    root.removeHandler(handler)
    root.setLevel(level)
    handler.close()


def line_of(name: str, level: int, message: str = "text") -> str:
    return TaskLogFormatter().format(logging.LogRecord(name, level, "", 0, message, (), None))


def test_line(tasklog):
    """A line is counter, host, time, facility, severity and level, and the message."""
    logging.info("hello %s", "there")
    host = re.escape(os.uname().nodename)
    pattern = rf"0: {host}: {TIME}: %SCRIPT-6-INFO: hello there\n"
    assert re.fullmatch(pattern, tasklog.read_text())


@pytest.mark.parametrize(
    ("name", "facility"),
    [
        ("root", "SCRIPT"),
        ("__main__", "SCRIPT"),
        ("pcall", "LOG"),
        ("devices", "DEVICES"),
        ("devices.router.cli", "DEVICES"),
        ("my-app", "MY_APP"),
    ],
)
def test_facility(name, facility):
    """The facility comes from the logger's name."""
    assert f": %{facility}-6-INFO: text" in line_of(name, logging.INFO)


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (logging.CRITICAL, "2-CRITICAL"),
        (logging.ERROR, "3-ERROR"),
        (logging.WARNING, "4-WARNING"),
        (25, "5-Level 25"),
        (logging.INFO, "6-INFO"),
        (logging.DEBUG, "7-DEBUG"),
        (5, "7-Level 5"),
    ],
)
def test_severity(level, shown):
    """The severity is that of syslog."""
    assert f"%SCRIPT-{shown}: text" in line_of("root", level)


def test_counter(tasklog):
    """Each line of a process has the next number, from 0 on."""
    for _ in range(12):
        logging.info("text")
    assert [int(line.split(":")[0]) for line in tasklog.read_text().splitlines()] == [*range(12)]


def test_traceback_follows(tasklog):
    """A traceback stands below the line of its record."""
    try:
        raise ValueError("odd")
    except ValueError:
        logging.exception("failed")
    lines = tasklog.read_text().splitlines()
    assert lines[0].endswith("%SCRIPT-3-ERROR: failed")
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: odd"


def test_section_and_counter_of_children(tasklog):
    """A child's counter goes on from the parent's at the fork; the parent's own goes on, too."""

    def target(x):
        logging.info("first of %d", x)
        logging.info("second of %d", x)
        return os.getpid()

    logging.info("before")
    logging.info("before")
    one, two = pcall(target, x=(1, 2))
    logging.info("after")
    host = re.escape(os.uname().nodename)
    expected = [
        (0, "SCRIPT", "before"),
        (1, "SCRIPT", "before"),
        (2, "LOG", f">>>> Begin child log {tasklog}:pid-{one}"),
        (2, "SCRIPT", "first of 1"),
        (3, "SCRIPT", "second of 1"),
        (3, "LOG", f"<<<< End child log {tasklog}:pid-{one}"),
        (4, "LOG", f">>>> Begin child log {tasklog}:pid-{two}"),
        (2, "SCRIPT", "first of 2"),
        (3, "SCRIPT", "second of 2"),
        (5, "LOG", f"<<<< End child log {tasklog}:pid-{two}"),
        (6, "SCRIPT", "after"),
    ]
    lines = tasklog.read_text().splitlines()
    assert len(lines) == len(expected)
    for line, (number, facility, message) in zip(lines, expected, strict=True):
        pattern = rf"{number}: {host}: {TIME}: %{facility}-6-INFO: {re.escape(message)}"
        assert re.fullmatch(pattern, line)


def test_it_is_a_file_handler(tmp_path):
    """Mode, encoding, delay and errors are those of logging.FileHandler; UTF-8 by default."""
    path = tmp_path / "task.log"
    path.write_text("old\n")
    handler = TaskLogHandler(path, "w", delay=True)
    assert handler.stream is None
    assert handler.encoding == "utf-8"
    handler.emit(logging.LogRecord("root", logging.INFO, "", 0, "snow ☃", (), None))
    handler.close()
    assert "old" not in path.read_text("utf-8")
    assert "snow ☃" in path.read_text("utf-8")
