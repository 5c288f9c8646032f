"""``current_call``: what a call can know about itself.

A child has the number of its call and its run's random numbers anyway. So the record is made when
it is asked for, and a call that does not ask pays nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from os import getpid

from pcall._core.records import Call, CurrentCall
from pcall.engines.local.child.child_state import state
from pcall.engines.local.seeding import call_seed

__all__ = ["current_call", "running_inline"]

# The process, and what the record of its call is made of, for a call that is executed without a
# fork. A child that was forked meanwhile has a copy of the variable.
_Inline = tuple[int, tuple[Call, int, int]]
_inline: ContextVar[_Inline | None] = ContextVar("pcall_inline_call", default=None)


def current_call() -> CurrentCall | None:
    """The call that runs in this process; None outside of calls.

    In a child it is the same in all threads, and in the processes that the target forks. With
    ``max_workers=0`` it is known where the call runs: in its thread, and in its tasks.

    Returns:
        A frozen record with ``index``, ``attempt``, ``name`` and ``seed``, or None.
    """
    inline, task = _inline.get(), state["task"]
    if inline is not None and inline[0] == getpid():
        return make_record(*inline[1])
    if task is None:
        return None
    worker, entropy = state["worker"], task.child_context.entropy
    if worker is None:
        return make_record(task.job, task.attempt, entropy) if type(task.job) is Call else None
    running = worker.running
    return None if running is None else make_record(*running, entropy)


class running_inline:
    """In this block, this call is the current one.

    ``contextlib`` would assign to the exception of the call, which a frozen dataclass refuses.

    Args:
        call: the call.
        attempt: the number of its attempt, from 1.
        entropy: of the run.
    """

    def __init__(self, call: Call, attempt: int, entropy: int) -> None:
        self._parts = call, attempt, entropy

    def __enter__(self) -> None:
        self._token = _inline.set((getpid(), self._parts))

    def __exit__(self, *error: object) -> None:
        _inline.reset(self._token)


def make_record(call: Call, attempt: int, entropy: int) -> CurrentCall:
    """The record of an attempt of a call.

    Args:
        call: the call.
        attempt: the number of the attempt, from 1.
        entropy: of the run.
    """
    seed = call_seed(entropy, call.index, attempt)
    return CurrentCall(call.index, attempt, call.name, seed)
