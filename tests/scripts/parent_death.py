"""Parents that are hit by signals; cases of tests/local/test_parent_death.py.

A case and its children make files in a folder, the first argument: ``child-4711`` has begun,
``grandchild-4712`` is a program that it started, and so on.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType

from pcall import Pcall
from tests.helpers.cases import main
from tests.helpers.processes import children, descriptors

# A grace period far from what is waited for, which nobody reaches here.
LONG = 90

folder = Path(sys.argv[3])
Patient = Pcall.options(grace_period=LONG)
Impatient = Pcall.options(grace_period=0.5)


def failed(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
    """Show an exception that ends the script, and note that it was none that was expected."""
    sys.__excepthook__(kind, error, tb)
    if not issubclass(kind, KeyboardInterrupt):
        note("failed")


def note(kind: str, pid: int | None = None) -> None:
    """Tell the test that a process, this one if no other is given, is as far as this."""
    (folder / f"{kind}-{pid or os.getpid()}").touch()


def start_sleep() -> None:
    note("grandchild", subprocess.Popen(["sleep", "1000"]).pid)


def stay() -> None:
    """Wait until the test closes stdin."""
    note("stays")
    sys.stdin.read()


def sleepers(_: str) -> None:
    def work(i: int) -> None:
        start_sleep()
        note("child")
        time.sleep(1000)

    try:
        Patient.pcall(work, i=range(50))
    except KeyboardInterrupt:
        assert not children(), children()
        note("interrupted")
        stay()
        raise


def clean_up_slowly(_: str) -> None:
    def work(i: int) -> None:
        start_sleep()
        try:
            note("child")
            time.sleep(1000)
        finally:
            note("cleaning")
            time.sleep(1000)

    try:
        Patient.pcall(work, i=range(10))
    except KeyboardInterrupt:
        assert not children(), children()
        note("interrupted")
        stay()


def clean_up(_: str) -> None:
    def work(i: int) -> None:
        try:
            note("child")  # in here: the signal may come as soon as the last child has written it
            time.sleep(1000)
        finally:
            time.sleep(1)
            note("cleaned")

    Patient.pcall(work, i=range(10))


def ignore_sigterm(_: str) -> None:
    def work(i: int) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        start_sleep()  # it ignores SIGTERM, too: what is ignored stays so over exec
        note("child")
        time.sleep(1000)

    Impatient.pcall(work, i=range(10))


def forked_late(_: str) -> None:
    def work(i: int) -> None:
        if i < 30:
            time.sleep(0.05)
            return
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note("child")
        time.sleep(1000)

    Impatient.options(max_workers=4).pcall(work, i=range(34))


def deep_in_c_code(_: str) -> None:
    def work(i: int) -> None:
        note("child")
        sum(range(10**15))  # neither looks at signals nor lets go of the interpreter

    Impatient.pcall(work, i=range(2))


def nested(_: str) -> None:
    def work(depth: int) -> None:
        note("child")
        if depth == 3:
            start_sleep()
            time.sleep(1000)
        Patient.pcall(work, depth=[depth + 1] * 3)

    Patient.pcall(work, depth=[1] * 3)


def started_by_a_thread(_: str) -> None:
    def work(i: int) -> str:
        note("child")
        while not (folder / "go").exists():
            time.sleep(0.01)
        note("went")
        if i == 0:
            return "done"
        time.sleep(1000)
        raise AssertionError("nobody ended this")

    run = Patient(work, i=range(5))
    thread = threading.Thread(target=run.start)
    thread.start()
    thread.join()
    time.sleep(0.5)  # what the kernel sends at a thread's end has arrived
    (folder / "go").touch()
    assert next(run.as_completed()).value == "done"
    assert len(run.livings) == 4
    stay()


class Alarm(Exception):
    """The handler below raises it."""


def a_handler_raises(_: str) -> None:
    def handler(number: int, frame: FrameType | None) -> None:
        raise Alarm("from the handler")

    def work(i: int) -> None:
        start_sleep()
        note("child")
        time.sleep(1000)

    signal.signal(signal.SIGALRM, handler)
    run = Patient(work, i=range(20))
    run.start()
    while len(list(folder.glob("child-*"))) < 20:
        time.sleep(0.01)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        run.join()
    except Alarm as error:
        assert str(error) == "from the handler"
        assert not children(), children()
        assert run.done and not run.livings
        assert signal.getsignal(signal.SIGALRM) is handler
        stay()


def between_forks(_: str) -> None:
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    for delay in [0.001 * 2**k for k in range(8)]:
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            Patient.pcall(time.sleep, iargs=[(1000,)] * 300)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("it was not interrupted")
        assert not children(), children()
    stay()


def between_few_forks(_: str) -> None:
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    Pcall.pcall(int)  # what is opened once is open now
    before = descriptors()
    interrupted = 0
    while interrupted < 200:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.004))
            Patient.pcall(time.sleep, iargs=[(1000,)] * 3)
        except KeyboardInterrupt:
            interrupted += 1
        left = {k: v for k, v in descriptors().items() if k not in before}
        assert not left, f"left after interrupt {interrupted}: {left}"
        assert not children(), children()
    stay()


if __name__ == "__main__":
    sys.excepthook = failed
    main(globals())
