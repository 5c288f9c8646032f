"""Signals at random moments of random runs, as many rounds as one likes, in one process.

Each round makes calls in one of several ways, with progress and logs, while another process sends
a signal whose handler raises. Afterwards the exception has come exactly once, and no process, no
descriptor, no handler and no file is left::

    nice python -m tests.scripts.interrupt_soak 5000 SIGINT alone
    nice python -m tests.scripts.interrupt_soak 5000 SIGTERM threads

tests/stress/test_interrupts.py runs a few rounds.
"""

from __future__ import annotations

import collections
import gc
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

from pcall import Pcall, Plan, run, run_iter
from pcall.progress import ConsoleProgress, HtmlProgress, LogProgress
from tests.helpers.processes import children, descriptors
from tests.helpers.waiting import until
from tests.scripts.interrupts import beside, signal_me

CALLS = 24
SECONDS = 0.004  # of each call
LONGEST = 0.12  # seconds after which the signal comes at the latest


class Interrupted(BaseException):
    """The handlers of this script raise it."""


def handler(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def work(x: int) -> int:
    logging.getLogger("soak").info("call %d", x)
    time.sleep(SECONDS)
    return x


def total(*given: int) -> int:
    return work(sum(given))


def fresh(policy: dict[str, Any]) -> None:
    workers = random.choice([2, 4, None])
    result = Pcall.options(max_workers=workers, **policy).pcall(work, x=range(CALLS))
    assert result == tuple(range(CALLS)), result


def reused(policy: dict[str, Any]) -> None:
    kept = Pcall.options(max_workers=3, max_tasks_per_child=None, **policy)
    result = kept.pcall(work, x=range(CALLS))
    assert result == tuple(range(CALLS)), result


def as_they_come(policy: dict[str, Any]) -> None:
    kept = Pcall.options(max_workers=3, max_tasks_per_child=random.choice([1, None]), **policy)
    with kept(work, x=range(CALLS)) as made:
        found = [outcome.value for outcome in made.as_completed()]
    assert sorted(found) == list(range(CALLS)), found


def a_plan() -> tuple[Plan, Any]:
    plan = Plan()
    first = [plan.call(work, x) for x in range(CALLS // 2)]
    second = [plan.call(total, *pair) for pair in zip(first[::2], first[1::2], strict=True)]
    return plan, plan.call(total, *second)


def plan(policy: dict[str, Any]) -> None:
    made, output = a_plan()
    assert run(made, output=output, max_workers=3, **policy) == sum(range(CALLS // 2))


def iterated_plan(policy: dict[str, Any]) -> None:
    made, _ = a_plan()
    ordered = random.choice([True, False])
    outcomes = list(run_iter(made, order_results=ordered, max_workers=3, **policy))
    assert len({outcome.index for outcome in outcomes}) == len(outcomes) == len(made)
    assert all(outcome.ok for outcome in outcomes)


WAYS: tuple[Callable[[dict[str, Any]], None], ...] = (
    fresh,
    reused,
    as_they_come,
    plan,
    iterated_plan,
)


def policy_of(folder: Path) -> dict[str, Any]:
    """Return options, a part of them at random."""
    observers = [
        None,
        ConsoleProgress(StringIO()),
        LogProgress(),
        [ConsoleProgress(StringIO()), HtmlProgress(folder / "page.html")],
    ]
    return {
        "progress": random.choice(observers),
        "capture_output": random.choice([False, False, True]),
        "grace_period": 20.0,
    }


def close_handlers() -> None:
    """Remove the handlers of the root logger."""
    root = logging.getLogger()
    for each in root.handlers[:]:
        root.removeHandler(each)
        each.close()


class Soak:
    """The rounds, and what a round must leave as it was.

    Args:
        number: the signal.
        folder: where logs and pages go.
    """

    def __init__(self, number: int, folder: Path) -> None:
        self._number = number
        self._folder = folder
        self._log = folder / "main.log"
        self.during = 0  # rounds in which the signal came while calls were made

    def _state(self) -> dict[str, object]:
        return {
            "descriptors": sorted(descriptors().items()),
            "children": children(),
            "handlers": {each: signal.getsignal(each) for each in signal.valid_signals()},
            "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        }

    def round(self) -> None:
        """Make calls, with a signal at a random moment. Raise if anything is wrong afterwards."""
        way, policy = random.choice(WAYS), policy_of(self._folder)
        signal.signal(self._number, handler)
        with_log = random.random() < 0.5
        if with_log:
            logging.basicConfig(filename=self._log, level=logging.INFO, force=True)
        before, came, sender = self._state(), 0, 0
        try:
            sender = signal_me(self._number, random.uniform(0, LONGEST))
            way(policy)
            came -= 1
            time.sleep(60)
        except Interrupted:
            came += 1
        self.during += came
        assert came in (0, 1), f"{way.__name__}: no interrupt came"
        if not sender:  # it came before the number of its sender was noted
            os.wait()
        else:
            os.waitpid(sender, 0)
        if not until(lambda: self._state() == before, 10):
            after = self._state()
            changed = [name for name in before if before[name] != after[name]]
            what = [f"{name}: {before[name]}, then {after[name]}" for name in changed]
            raise AssertionError(f"{way.__name__}: {what}")
        if with_log:
            self._check_log(way.__name__)
        left = {path.name for path in self._folder.iterdir()} - {"page.html"}
        assert not left, f"{way.__name__}: left {left}"

    def clean_up(self) -> None:
        """Leave nothing to the next round."""
        gc.collect()
        self._close_log()
        for path in self._folder.iterdir():
            path.unlink()

    def _close_log(self) -> None:
        close_handlers()
        # logging keeps handlers in a WeakSet. Where one is freed, a Python function is called, and
        # what a signal handler raises there is lost. So no handler is freed during a round.
        gc.collect()

    def _check_log(self, way: str) -> None:
        self._close_log()
        text = self._log.read_text()
        self._log.unlink()
        begun, ended = text.count(">>>> Begin child log"), text.count("<<<< End child log")
        assert begun == ended, f"{way}: {begun} sections begin and {ended} end\n{text}"
        lines = collections.Counter(line for line in text.splitlines() if "soak:call" in line)
        twice = [line for line, count in lines.items() if count > 1 and "plan" not in way]
        assert not twice, f"{way}: told twice {twice}\n{text}"


def main(rounds: int, name: str, threads: str, seed: int) -> int:
    """Take so many rounds; return how many were wrong."""
    wrong: list[str] = []
    lost: list[str] = []
    # An exception that Python could not raise where it came.
    sys.unraisablehook = lambda found: lost.append(f"{found.exc_value!r} in {found.object!r}")
    random.seed(seed)
    folder = Path(tempfile.mkdtemp(prefix="pcall-soak"))
    began = time.monotonic()
    with beside(threads):
        soak = Soak(signal.Signals[name], folder)
        for each in range(rounds):
            try:
                soak.round()
            except BaseException:
                soak.clean_up()
                wrong.append(traceback.format_exc())
                print(f"round {each}:\n{wrong[-1]}", flush=True)
            if lost:
                print(f"round {each}: lost {lost}", flush=True)
                wrong += lost
                lost.clear()
            if each % 250 == 249:
                seconds = time.monotonic() - began
                print(f"{each + 1} rounds, {soak.during} interrupted, {len(wrong)} wrong", end="")
                print(f", {seconds:.0f} s", flush=True)
    shutil.rmtree(folder)
    print(f"{name} {threads}: {rounds} rounds, {soak.during} of them interrupted", end=", ")
    print(f"{len(wrong)} wrong")
    return len(wrong)


if __name__ == "__main__":
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(1 << 32)
    print(f"seed {seed}")
    sys.exit(min(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], seed), 100))
