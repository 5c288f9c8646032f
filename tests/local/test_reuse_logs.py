"""docs/policy.rst: what calls of reused children log comes home call by call."""

from __future__ import annotations

import logging
import os
import re
import signal

import pytest

from pcall import Pcall

pytestmark = pytest.mark.usefixtures("each_system")

Reused = Pcall.options(
    max_tasks_per_child=None, max_workers=2, max_errors=None, return_outcomes=True
)


@pytest.fixture
def main_log(tmp_path):
    """A log file of the root logger."""
    handler = logging.FileHandler(tmp_path / "main.log")
    handler.setFormatter(logging.Formatter("%(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield tmp_path / "main.log"
    root.removeHandler(handler)
    root.setLevel(level)
    handler.close()


def sections(path):
    """Process id and lines of each section, in the order of the file."""
    found = re.findall(
        r"^>>>> Begin child log [^\n]*:pid-(\d+)\n(.*?)^<<<< End child log [^\n]*:pid-\1$",
        path.read_text(),
        flags=re.S | re.M,
    )
    return [(int(pid), lines.splitlines()) for pid, lines in found]


def tell(x):
    if x % 3 == 0:
        logging.info("call %d says", x)
        logging.info("two lines")
    return x


@pytest.mark.fast
def test_each_call_that_logs_has_a_section_of_its_own(main_log):
    """Sections are those of calls, in call order, although children take many calls each."""
    outcomes = Reused.pcall(tell, x=range(60))
    assert [outcome.value for outcome in outcomes] == list(range(60))
    expected = [(outcomes[x].pid, [f"call {x} says", "two lines"]) for x in range(0, 60, 3)]
    assert sections(main_log) == expected
    assert len({pid for pid, _ in expected}) <= 2
    assert os.listdir(main_log.parent) == ["main.log"]
    assert {outcome.log for outcome in outcomes} == {None}


def fail_or_die(x):
    logging.info("call %d begins", x)
    if x == 4:
        raise ValueError("four")
    if x == 7:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_call_that_fails_or_dies_has_its_section_too(main_log):
    """A failure is told in the section of its call; a killed child's says how it ended."""
    outcomes = Reused.pcall(fail_or_die, x=range(12))
    assert [outcome.index for outcome in outcomes if not outcome.ok] == [4, 7]
    found = sections(main_log)
    assert [lines[0] for _, lines in found] == [f"call {x} begins" for x in range(12)]
    assert "ValueError: four" in found[4][1]
    assert "SIGKILL" in found[7][1][-1]
    assert all(len(found[x][1]) == 1 for x in range(12) if x not in (4, 7))
    assert os.listdir(main_log.parent) == ["main.log"]


def test_records_arrive_in_call_order(caplog):
    """Each record arrives in the parent's handlers with its call's index, in call order."""
    caplog.set_level(logging.INFO)
    outcomes = Reused.pcall(tell, x=range(30))
    told = [(r.pcall_index, r.getMessage()) for r in caplog.records if hasattr(r, "pcall_index")]
    expected = [(x, text) for x in range(0, 30, 3) for text in (f"call {x} says", "two lines")]
    assert told == expected
    by_pid = {r.pcall_index: r.process for r in caplog.records if hasattr(r, "pcall_index")}
    assert by_pid == {x: outcomes[x].pid for x in range(0, 30, 3)}


def again(path, x):
    with open(path / str(x), "a") as file:
        file.write("x")
    attempt = os.path.getsize(path / str(x))
    logging.info("call %d, attempt %d", x, attempt)
    if x == 2 and attempt < 3:
        raise OSError("again")


@pytest.mark.parametrize("tasks", [1, None])
def test_each_attempt_has_a_section(main_log, tmp_path_factory, tasks):
    """What an attempt logged is there, also when another one followed."""
    folder = tmp_path_factory.mktemp("attempts")
    Retrying = Reused.options(retry=3, max_tasks_per_child=tasks)
    Retrying.pcall(again, cargs=(folder,), x=range(4))
    firsts = [lines[0] for _, lines in sections(main_log)]
    assert firsts == [
        "call 0, attempt 1",
        "call 1, attempt 1",
        "call 2, attempt 1",
        "call 2, attempt 2",
        "call 2, attempt 3",
        "call 3, attempt 1",
    ]
