"""docs/logs.rst: a handler that a framework switches after a fork is asked to bring files home."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from multiprocessing import util

import pytest

from pcall import Pcall, PcallTimeout

pytestmark = [
    pytest.mark.usefixtures("each_system"),
    pytest.mark.engines(why="each test chooses the engines itself"),
]


class TaskLog(logging.StreamHandler):
    """A handler as frameworks have it: a child switches to its own file, and merges it at its end.

    The task log of the pyATS framework works like this.
    """

    begins = True  # in a child, with the first line of the section
    forked_log_pattern = "{parent}:pid-{pid}"

    def __init__(self, logfile):
        self.logfile = str(logfile)
        super().__init__(open(logfile, "a"))  # noqa: SIM115 - the handler's for good
        self.consolidating = False
        util.register_after_fork(self, TaskLog.forked)

    @contextlib.contextmanager
    def consolidate_next_forked_logfile(self):
        self.consolidating = True
        try:
            yield
        finally:
            self.consolidating = False

    def forked(self):
        if self.consolidating:
            main, self.logfile = self.logfile, f"{self.logfile}:pid-{os.getpid()}"
            self.stream = open(self.logfile, "a")  # noqa: SIM115
            if self.begins:
                self.stream.write(f">>>> Begin child log {main}:pid-{os.getpid()}\n")
                self.stream.flush()
            util.Finalize(self, self.merge_into, args=(main,), exitpriority=-9999)

    def merge_into(self, main):
        title = f"child log {main}:pid-{os.getpid()}"
        with open(self.logfile) as file, open(main, "a") as target:
            begin = "" if self.begins else f">>>> Begin {title}\n"
            target.write(f"{begin}{file.read()}<<<< End {title}\n")
        os.unlink(self.logfile)

    def concatenateLog(self, logfile, delete=True):
        with open(logfile) as file:
            self.stream.write(file.read())
        self.stream.flush()
        os.unlink(logfile)


@pytest.fixture
def task_log(tmp_path):
    """A framework's handler on the root logger; the path of its file."""
    root = logging.getLogger()
    level = root.level
    handler = TaskLog(tmp_path / "task.log")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield tmp_path / "task.log"
    root.removeHandler(handler)
    root.setLevel(level)
    handler.stream.close()
    util._afterfork_registry.clear()


def lines_of(path):
    """The lines of the main log; each section begins and ends, and nothing lies beside it."""
    assert os.listdir(path.parent) == [path.name]
    lines = path.read_text().splitlines()
    begun = [line.removeprefix(">>>> Begin ") for line in lines if line.startswith(">>>>")]
    assert begun == [line.removeprefix("<<<< End ") for line in lines if line.startswith("<<<<")]
    return lines


def tell(n):
    logging.info("call %d", n)
    if n == 7:
        (handler,) = [h for h in logging.getLogger().handlers if isinstance(h, TaskLog)]
        os.write(handler.stream.fileno(), b"cut o")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.fast
@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("tasks", [1, None])
def test_killed(task_log, monkeypatch, tasks, begins):
    """What successful calls and a killed one logged in a child that was killed is brought home."""
    monkeypatch.setattr(TaskLog, "begins", begins)
    Policy = Pcall.options(
        max_tasks_per_child=tasks, max_workers=1, max_errors=None, return_outcomes=True
    )
    outcomes = Policy.pcall(tell, n=range(10))
    lines = lines_of(task_log)
    assert sorted(line for line in lines if line.startswith("call ") and len(line) < 9) == [
        f"call {n}" for n in range(10)
    ]
    end = lines.index(f"<<<< End child log {task_log}:pid-{outcomes[7].pid}")
    assert lines[end - 3 : end - 1] == ["call 7", "cut o"]
    assert lines[end - 1] == f"call 7, tell(n=7), process {outcomes[7].pid}: killed by SIGKILL"


def test_timeout(task_log):
    """A child that had to be killed after its timeout has its section, which says so."""

    def target(n):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        logging.info("before")
        time.sleep(600)

    with pytest.raises(PcallTimeout) as raised:
        Pcall.options(grace_period=0.1).pcall(target, 1.0, n=[0])
    lines = lines_of(task_log)
    begin = lines.index(f">>>> Begin child log {task_log}:pid-{raised.value.outcomes[0].pid}")
    assert lines[begin + 1] == "before"
    assert "killed by SIGKILL" in lines[begin + 2]


def test_a_file_that_can_not_be_taken_in(task_log, caplog, monkeypatch):
    """A file that the handler does not take in stays, and is reported."""

    def fails(self, logfile, delete=True):
        raise OSError("no room")

    monkeypatch.setattr(TaskLog, "concatenateLog", fails)
    (outcome,) = Pcall.options(return_outcomes=True).pcall(tell, n=[7])
    kept = f"{task_log}:pid-{outcome.pid}"
    with open(kept) as file:
        assert file.read().endswith("\ncall 7\ncut o\n")
    assert f"stays in {kept}" in caplog.text
    assert "no room" in caplog.text


def test_a_handler_without_that_way(task_log, monkeypatch):
    """Where the handler offers no way, the file of a killed child stays."""
    monkeypatch.delattr(TaskLog, "concatenateLog")
    (outcome,) = Pcall.options(return_outcomes=True).pcall(tell, n=[7])
    assert os.path.exists(f"{task_log}:pid-{outcome.pid}")
