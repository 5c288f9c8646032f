"""What travels between the caller, its cluster's workers, and their nodes.

.. code-block:: text

    caller ── dask task: a chunk ──> worker ── socket: ChunkOrder ──> node ── fork ──> call
    caller <── its result, or an event ── worker <── socket: reports ── node <── answer file

Everything here is a named tuple of plain values, so that any of the three can load it. The answer
of a call stays the bytes that its child wrote: nobody between the child and the caller loads it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pcall._profiles.current_profiles import ProfileKind

__all__ = [
    "ChunkOrder",
    "ChunkReport",
    "FiledAnswer",
    "HandedOff",
    "Record",
    "RunSpec",
    "ValueAt",
]


class RunSpec(NamedTuple):
    """How a node runs the calls of one run.

    Attributes:
        run: the id of the run.
        functions: a pickle of the list of functions that its calls name by number.
        grace_period: seconds from SIGTERM to SIGKILL.
        timeout: seconds that each call may take; None: no limit.
        capture: True if the output of calls is captured.
        max_tasks: the number of calls that a child runs; None: no limit.
        seeds: numbers to seed ``random`` and ``numpy.random`` from; None for one not in use.
        entropy: for the seeds of calls.
        block: with reused children, the calls that are seeded together.
        levels: by logger name, its level; None: the records of calls are not collected.
        preload: the modules to import before the first call.
        path: folders to import from beside the worker's own.
        version: of this library at the caller.
        strict: True if after a failed call no other starts in its place before the caller knows.
        keeps: True if the values of calls stay at the node until they are dropped.
        initialize: a pickle of what each child calls first; None: nothing.
        profile: the kind of profile that is taken of each call; None: none.
    """

    run: str
    functions: bytes
    grace_period: float
    timeout: float | None
    capture: bool
    max_tasks: int | None
    seeds: tuple[int | None, int | None] | None
    entropy: int
    block: int
    levels: dict[str, int] | None
    preload: tuple[str, ...]
    path: tuple[str, ...]
    version: str
    strict: bool
    keeps: bool = False
    initialize: bytes | None = None
    profile: ProfileKind | None = None


class ValueAt(NamedTuple):
    """Where a node gets a value from.

    Attributes:
        address: of the worker that has it.
        size: in bytes.
    """

    address: str
    size: int


class HandedOff(NamedTuple):
    """The value of a call that has stayed in its child, for the next call, which alone needs it."""

    size: int = 0


class ChunkOrder(NamedTuple):
    """Consecutive calls that a node runs one after another.

    Attributes:
        run: the id of the run.
        chunk: the id of the chunk.
        start: the index of the first call.
        attempt: the number of the attempt, from 1.
        calls: for each call, the number of its function, a pickle of its arguments, and whether
            its value is wanted by the caller.
        failed: the failed calls at this node that the caller knows of.
        needs: the calls of a plan whose values these calls need, and that are no part of the chunk.
        values: of these, the answers that the node does not have yet; and where it gets others.
        gathers: by number, the pickled containers that the node does not have yet.
        uses: the numbers of the containers that these calls need.
        inside: the offsets of calls whose values other calls of the chunk need.
        links: the offsets of those whose value the next call alone needs.
        drops: calls whose values nothing needs any more.
    """

    run: str
    chunk: str
    start: int
    attempt: int
    calls: list[tuple[int, bytes, bool]]
    failed: int = 0
    needs: tuple[int, ...] = ()
    values: tuple[tuple[int, bytes | ValueAt], ...] = ()
    gathers: tuple[tuple[int, bytes], ...] = ()
    uses: tuple[int, ...] = ()
    inside: tuple[int, ...] = ()
    links: tuple[int, ...] = ()
    drops: tuple[int, ...] = ()


class FiledAnswer(NamedTuple):
    """Stands in for an answer that is attached to the message as a file.

    Attributes:
        number: which of the attached files.
        size: its length in bytes.
    """

    number: int
    size: int


class Record(NamedTuple):
    """How an attempt of a call ended, as its node saw it.

    Attributes:
        call: the index of the call.
        attempt: the number of the attempt.
        answer: the bytes that its child answered with; None: it died before.
        pid: of its child.
        exitcode: of its child; None: it lives on.
        began: when the call began, on the node's monotonic clock.
        ended: when the node knew of its end, on the same clock.
        wall: when the call began, in seconds since the epoch.
        cpu_time: seconds of processor time.
        max_rss: bytes of peak memory.
        rss: bytes of resident memory at the fork.
        signalled: True if the node has sent a signal to its child.
        overdue: True if it ran longer than the timeout.
        later: True if its child ran another call before it.
        output: what it has written to stdout and stderr; None: not captured.
        logs: the records that it has logged, packed.
        kept: bytes of a value that stays at the node; -1: the answer is complete.
        profile: its profile, packed; None: none was taken.
    """

    call: int
    attempt: int
    answer: Any
    pid: int
    exitcode: int | None
    began: float
    ended: float
    wall: float
    cpu_time: float | None
    max_rss: int | None
    rss: int
    signalled: bool
    overdue: bool
    later: bool
    output: tuple[str, str] | None
    logs: tuple[bytes, ...] = ()
    kept: int = -1
    profile: bytes | None = None


class ChunkReport(NamedTuple):
    """How far a node has come with a chunk.

    Attributes:
        run: the id of the run.
        chunk: the id of the chunk.
        records: of the calls that have ended since the last report.
        running: the call that runs now; -1 for none.
        since: seconds that it has been running.
        unstarted: the first call that the node gives back, and all behind it; -1 for none.
        over: True if the node has nothing more to do with the chunk.
        overdue: True if the running call has exceeded the timeout, and is being ended.
        problem: the text and ``errno`` of an error that kept the chunk from running.
        failed: the calls of the run that have failed at this node.
        pid: of the process that runs the call; 0 for none.
        missing: the calls whose values the node lacks, so that the chunk can't begin.
        worker: the address of the worker, which fills it in.
    """

    run: str
    chunk: str
    records: list[Record]
    running: int = -1
    since: float = 0.0
    unstarted: int = -1
    over: bool = False
    overdue: bool = False
    problem: tuple[int, str] | None = None
    failed: int = 0
    pid: int = 0
    missing: tuple[int, ...] = ()
    worker: str = ""
