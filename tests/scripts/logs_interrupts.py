"""Ctrl-C while logs are merged; cases of tests/local/test_logs_interrupts.py."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from pcall import Pcall
from tests.helpers.cases import main


def tell(n: int) -> None:
    logging.info("call %d", n)
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)


def finished_run(path: str) -> Any:
    """A run of reused workers that is over and has not been joined; one of them was killed."""
    logging.basicConfig(filename=path, level=logging.INFO, format="%(message)s", force=True)
    Policy = Pcall.options(
        max_workers=2, max_tasks_per_child=None, max_errors=None, return_outcomes=True
    )
    run = Policy(tell, n=range(5))
    run.start()
    assert run.wait(60)
    return run


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def join(run: Any) -> bool:
    """Join; return whether that was interrupted."""
    try:
        run.join()
    except KeyboardInterrupt:
        sys.settrace(None)
        return True
    return False


def check(path: str) -> None:
    """Each call has one section, in call order, and nothing else is there."""
    with open(path) as file:
        text = file.read()
    assert sorted(os.listdir()) == [path], (os.listdir(), text)
    sections = re.findall(
        r"^>>>> Begin child log (.*)\n([^<>]*)^<<<< End child log \1\n", text, flags=re.M
    )
    assert [lines.splitlines()[0] for _, lines in sections] == [f"call {n}" for n in range(5)], text
    assert text.count("child log") == 10, text
    assert text.count("killed by SIGKILL") == 1, text


def while_sections_are_found() -> None:
    run = finished_run("main.log")
    due = [1]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.listdir" and due:
            due.clear()
            interrupt()

    sys.addaudithook(hook)
    assert join(run)
    check("main.log")


def anywhere_in_the_merge() -> None:
    """Interrupt at every seventh line of the package, one run a line."""
    line, interrupted = 0, True
    while interrupted:
        line += 7
        run = finished_run("main.log")
        left = [line]
        sys.settrace(tracer(left))
        interrupted = join(run) or not left
        sys.settrace(None)
        check("main.log")
        logging.getLogger().handlers[0].close()
        os.unlink("main.log")
    assert line > 100


def tracer(left: list[int]) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that interrupts at a line of the logs' code."""

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if os.sep + "_logs" + os.sep not in frame.f_code.co_filename:
            return None
        if event == "line" and left:
            left[0] -= 1
            if not left[0]:
                left.clear()
                interrupt()
        return trace

    return trace


if __name__ == "__main__":
    main(globals())
