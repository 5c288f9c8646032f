"""docs/progress.rst: progress as records of a logger."""

from __future__ import annotations

import logging
import time

import pytest

from pcall.progress import LogProgress
from tests.helpers.progress_runs import live_run, show, small_run


@pytest.fixture
def log(caplog):
    with caplog.at_level(logging.INFO, "pcall.progress"):
        yield caplog


@pytest.mark.fast
def test_lines_go_through_the_logger(log):
    """Everything is a record of the logger ``pcall.progress`` at level INFO."""
    show(LogProgress(), small_run([0, 2, 2]))
    assert {(record.name, record.levelname) for record in log.records} == {
        ("pcall.progress", "INFO")
    }
    assert any(message.startswith("probe: 7 of 10 done, 3 failed") for message in log.messages)
    assert "2 x ConnectionError: refused" in log.messages


def test_each_group_is_logged_once(log):
    """Of equal exceptions one is logged, with its traceback."""
    show(LogProgress(), small_run([2] * 5 + [0]))
    assert sum("Traceback (most recent call last):" in message for message in log.messages) == 2


def test_a_line_now_and_then(log):
    """There is a line an interval, with the figures of that time."""
    live_run(LogProgress(interval=0.2), 1.0, fail_every=0)
    lines = [message for message in log.messages if "running" in message]
    assert 2 <= len(lines) <= 6
    assert len(set(lines)) == len(lines)


def test_a_failure_is_logged_within_a_second(log):
    """A failure does not wait for the interval."""
    begun = time.time()
    live_run(LogProgress(interval=3600), 1.5, total=100, fail_every=10, workers=1)
    times = [record.created for record in log.records if "Traceback" in record.getMessage()]
    assert times[0] - begun < 1.0


def test_logging_is_left_as_it_is(caplog):
    """Where INFO is not let through nothing is logged, and no level is changed."""
    before = logging.getLogger("pcall.progress").level
    with caplog.at_level(logging.WARNING, "pcall.progress"):
        show(LogProgress(), small_run([0]))
    assert caplog.messages == []
    assert logging.getLogger("pcall.progress").level == before


def test_records_have_no_control_characters(log):
    """What an exception brings along is logged as text that no terminal obeys."""
    show(LogProgress(), small_run([ValueError("\x1b[2J\r\x00")]))
    assert not any(set(message) & {"\x1b", "\r", "\x00"} for message in log.messages)


@pytest.mark.parametrize("interval", [0, -1])
def test_an_interval_that_makes_no_sense(interval):
    """An interval that is not above zero is refused at once."""
    with pytest.raises(ValueError, match="interval must be above zero seconds, not"):
        LogProgress(interval=interval)
