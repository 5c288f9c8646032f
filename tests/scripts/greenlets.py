"""Calls of a process that uses gevent; cases of tests/local/test_gevent.py."""

from __future__ import annotations

import os
import sys
import threading
import time

import gevent
from gevent import monkey

if "late" not in sys.argv:
    monkey.patch_all()

from pcall import ChildProcessException, Pcall, PcallTimeout, Plan, pcall, run
from tests.helpers.cases import main

if "late" in sys.argv:
    monkey.patch_all()


def work(x: int) -> int:
    time.sleep(0.02)
    return 2 * x


def runs(when: str) -> None:
    """Calls of each kind come to what they come to elsewhere."""
    assert pcall(work, x=range(5)) == (0, 2, 4, 6, 8)
    assert Pcall.options(max_tasks_per_child=None).pcall(work, x=range(5)) == (0, 2, 4, 6, 8)
    assert Pcall.options(max_workers=0).pcall(work, x=range(2)) == (0, 2)
    plan = Plan()
    parts = [plan.call(work, x) for x in range(4)]
    assert run(plan, output=plan.call(sum, parts)) == 12
    try:
        pcall(int, iargs=[("x",)])
        raise AssertionError("it did not fail")
    except ChildProcessException as error:
        assert isinstance(error.__cause__, ValueError)
    try:
        pcall(time.sleep, timeout=0.2, iargs=[(60,)])
        raise AssertionError("it was not ended")
    except PcallTimeout:
        pass


def beside_greenlets(when: str) -> None:
    """What another greenlet of the parent does is not done in children, too."""
    notes, others = os.pipe()

    def other() -> None:
        for _ in range(40):
            time.sleep(0.01)
            os.write(others, b"%d\n" % os.getpid())

    def calls() -> None:
        found.append(pcall(work, x=range(3)))
        kept = Pcall.options(max_tasks_per_child=None, max_workers=2)
        found.append(kept.pcall(work, x=range(3)))

    found: list[tuple[int, ...]] = []
    beside = gevent.spawn(other)
    time.sleep(0.03)
    threads = [threading.Thread(target=calls) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    beside.join()
    assert found == [(0, 2, 4)] * 4, found
    assert os.read(notes, 1 << 16) == b"%d\n" % os.getpid() * 40


if __name__ == "__main__":
    main(globals())
