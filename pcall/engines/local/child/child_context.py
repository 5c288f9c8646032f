"""What the parent prepares for a child before the fork: the task, and the context of the run.

The parent makes these tuples, and :mod:`~pcall.engines.local.child.child_main` unpacks them in the
child. Each page that a child touches is copied first, and for a short call that is most of the
cost: to unpack a tuple touches less than to look up attributes.
"""

from __future__ import annotations

import contextvars
import io
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from pcall._logs.child_logs import ChildLogs
from pcall._os.system import Steps, System
from pcall.engines.local.child.bootstrap import Bootstrap
from pcall.engines.local.seeding import Seeds

__all__ = ["CallParts", "ChildContext", "Task"]


class ChildContext(NamedTuple):
    """The data that all children of a run share, limited to what they use.

    Attributes:
        parent: process id of the parent.
        bootstrap: how to become a multiprocessing child.
        system: the operating system's services.
        context: the caller's context variables.
        run: runs a callable in ``context``.
        seeds: to seed global random generators from, or None.
        stdin: a text stream of descriptor 0 that nobody has read from, or None.
        logs: the set-up of log handlers, or None if there are none.
        mask: the signals that were blocked before the fork.
        threads: True when the parent has other threads at the fork.
        exits: the number of exit handlers if the target has registered none.
        entropy: to make the seeds of calls from.
        initialize: what the child calls before its first call; None: nothing.
        profiled: makes the calls of a worker profiled ones: takes the calls, the descriptor of the
            file for profiles, and a function that tells the number of the attempt; or None.
    """

    parent: int
    bootstrap: Bootstrap
    system: System
    context: contextvars.Context
    run: Callable[..., Any]
    seeds: Seeds | None
    stdin: io.TextIOBase | None
    logs: ChildLogs | None = None
    mask: tuple[int, ...] = ()
    threads: bool = False
    exits: int = 0
    entropy: int = 0
    initialize: Callable[[], object] | None = None
    profiled: Callable[..., Any] | None = None


#: Index, target, positional and keyword arguments of a call.
CallParts = tuple[int, Any, tuple[Any, ...], Mapping[str, Any]]


class Task(NamedTuple):
    """The work of one child.

    Attributes:
        child: the process object that represents this process.
        job: the call to make, or the specification of a worker.
        parts: of the call, else None. To read them from ``job`` would touch more pages.
        answer: descriptor of the file for the answer.
        attempt: the number of the call's attempt, from 1.
        steps: to take first, see :func:`pcall.engines.local.parent.fork.make_steps`.
        work: does the job, and returns the exit status.
        child_context: shared by all children of the run.
        output: descriptors of the files for stdout and stderr; None: they are not captured.
        profile: descriptor of the file for profiles; None: the calls are not profiled.
    """

    child: BaseProcess
    job: Any
    parts: CallParts | None
    answer: int
    attempt: int
    steps: Steps
    work: Callable[[Task], int]
    child_context: ChildContext
    output: tuple[int, int] | None = None
    profile: int | None = None
