"""Runs without standard streams; cases of tests/local/test_closed_streams.py."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
from collections.abc import Callable
from typing import Any

from pcall import Pcall, Plan, run
from tests.helpers.cases import main

LARGE = 3_000_000


class Keep(logging.Handler):
    """Keeps the messages that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def shout() -> None:
    """Write to every standard stream, which may be closed."""
    for fd in (0, 1, 2):
        with contextlib.suppress(OSError):
            os.write(fd, b"noise " * 100)


def close(fds: str) -> None:
    """Close these streams, where they are open."""
    for fd in map(int, fds):
        with contextlib.suppress(OSError):
            os.close(fd)


def low_descriptors() -> dict[int, str]:
    """The standard streams that are open, and the files behind them."""
    found = {}
    for fd in (0, 1, 2):
        with contextlib.suppress(OSError):
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
    return found


def make(n: int) -> bytes:
    shout()
    logging.info("call %d", n)
    shout()
    return bytes([n]) * LARGE


def fail(n: int) -> bytes:
    make(n)
    raise ValueError("x" * LARGE)


def check(target: Callable[..., Any], **options: Any) -> None:
    """Make calls of every kind of answer, and compare what comes home."""
    keep = Keep()
    logging.basicConfig(level=logging.INFO, handlers=[keep], force=True)
    options = {"max_workers": 2, "max_errors": None, "return_outcomes": True, **options}
    before = low_descriptors()
    outcomes = Pcall.options(**options).pcall(target, n=range(6))
    told = [message for message in keep.messages if message.startswith("call")]
    if target is fail:
        assert [len(str(outcome.error)) for outcome in outcomes] == [LARGE] * 6
        told = [message for message in told if "failed" not in message]
    else:
        assert [outcome.value for outcome in outcomes] == [bytes([n]) * LARGE for n in range(6)]
    assert told == [f"call {n}" for n in range(6)]
    assert low_descriptors() == before


def fresh(fds: str) -> None:
    close(fds)
    check(make)
    check(fail)


def reused(fds: str) -> None:
    close(fds)
    check(make, max_tasks_per_child=None)
    check(fail, max_tasks_per_child=None)


def closed_in_the_calls(fds: str) -> None:
    def target(n: int) -> bytes:
        close(fds)
        return make(n)

    check(target)
    check(target, max_tasks_per_child=None)


def closed_during_the_run(fds: str) -> None:
    keep = Keep()
    logging.basicConfig(level=logging.INFO, handlers=[keep])
    for tasks in (1, None):
        options: Any = {"max_workers": 1, "max_tasks_per_child": tasks}
        calls = Pcall.options(**options)(make, n=range(6))
        calls.start()
        close(fds)
        assert not low_descriptors().keys() & set(map(int, fds))
        while not calls.done:
            calls.wait(0.01)
            assert not low_descriptors().keys() & set(map(int, fds))
        calls.join()
        assert calls.results == tuple(bytes([n]) * LARGE for n in range(6))


def plan(fds: str) -> None:
    def begin(n: int) -> bytes:
        close(fds)
        return bytes([n]) * LARGE

    def go_on(content: bytes) -> bytes:
        shout()
        return content + b"!"

    def end(*contents: bytes) -> bytes:
        shout()
        return b"".join(contents)

    for _ in range(2):
        plan = Plan()
        first = [plan.call(begin, n) for n in range(2)]
        second = [plan.call(go_on, call) for call in first for _ in range(3)]
        last = plan.call(end, *first, *second)
        (found,) = run(plan, output=[last], max_workers=2)
        parts = [bytes([n]) * LARGE for n in range(2)]
        assert found == b"".join([*parts, *(part + b"!" for part in parts for _ in range(3))])
        close(fds)


if __name__ == "__main__":
    main(globals())
