"""What calls on a cluster log."""

from __future__ import annotations

import logging
import os
import re
import signal

import pytest

from pcall import Pcall, Plan, run

pytest.importorskip("distributed", reason="distributed is not installed")


@pytest.fixture
def main_log(tmp_path):
    """A main log of the root logger, and its path."""
    path = tmp_path / "main.log"
    handler = logging.FileHandler(path, "w")
    handler.setFormatter(logging.Formatter("%(levelname)s %(process)d %(message)s"))
    level = logging.root.level
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.INFO)
    yield path
    logging.root.setLevel(level)
    logging.root.removeHandler(handler)
    handler.close()


def talk(x):
    logging.getLogger("device").info("hello %s", x)
    logging.getLogger("device").debug("not for the log")
    if x == 2:
        raise LookupError(x)
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


@pytest.mark.parametrize("most", [1, None])
def test_sections_and_records(cluster, main_log, caplog, most):
    """Sections in call order name worker and process; other handlers get the records."""
    options = Pcall.options(
        engine=cluster, max_errors=None, return_outcomes=True, max_tasks_per_child=most
    )
    outcomes = options.pcall(talk, x=range(5))
    text = main_log.read_text()
    found = re.findall(
        r">>>> Begin child log (\S+):(\S+):pid-(\d+)\n(.*?)\n\S+ \d+ <<<<", text, re.S
    )
    assert [(path, worker, int(pid)) for path, worker, pid, _ in found] == [
        (str(main_log), outcome.worker, outcome.pid) for outcome in outcomes
    ]
    for outcome, (_, _, pid, lines) in zip(outcomes, found, strict=True):
        assert lines.startswith(f"INFO {pid} hello {outcome.index}")
    assert "LookupError: 2" in found[2][3]
    assert found[3][3].endswith("killed by SIGKILL")
    assert "not for the log" not in text
    assert [path.name for path in main_log.parent.iterdir()] == ["main.log"]
    mine = [record for record in caplog.records if record.name == "device"]
    assert [record.getMessage() for record in mine] == [f"hello {number}" for number in range(5)]
    assert [record.pcall_index for record in mine] == [*range(5)]
    assert [record.process for record in mine] == [outcome.pid for outcome in outcomes]


def test_records_of_a_plan(cluster, caplog):
    """The records of planned calls come home in plan order."""
    caplog.set_level(logging.INFO)
    plan = Plan()
    last = plan.call(talk, plan.call(talk, plan.call(talk, 0)))
    assert run(plan, output=last, engine=cluster) == 0
    mine = [record.pcall_index for record in caplog.records if record.name == "device"]
    assert mine == [0, 1, 2]


def test_without_tasklog(cluster, caplog):
    """``tasklog=False`` leaves logging alone: nothing comes home."""
    caplog.set_level(logging.INFO)
    Pcall.options(engine=cluster, tasklog=False).pcall(talk, x=[0, 1])
    assert caplog.records == []


def write(x):
    print("out", x, flush=True)
    os.system("echo program >&2")
    return x


def test_captured_output(cluster):
    """What a call and its programs write is in its outcome, wherever it ran."""
    options = Pcall.options(engine=cluster, capture_output=True, return_outcomes=True)
    for outcome in options.pcall(write, x=range(3)):
        assert (outcome.stdout, outcome.stderr) == (f"out {outcome.index}\n", "program\n")
