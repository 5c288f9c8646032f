"""How a reused worker and its parent talk: a control block in shared memory, and messages.

The control block is for what both sides look at often: how far the worker has come, and whether
the parent wants its chunk back. To read or write it takes no system call.

Messages go over a socket pair. A worker gets its calls as :data:`TOKEN` messages, each a chunk
of consecutive calls. It sends :data:`NOTICE` messages: that there are answers in the table, or,
with a descriptor attached, a file with an answer that is too large for the worker's common file.
"""

from __future__ import annotations

import struct

from pcall._os.system import ROOM

__all__ = [
    "ANSWERED",
    "EVERY_CALL",
    "FILE",
    "LEAVE",
    "NOTICE",
    "RESUME",
    "TOKEN",
    "WorkerControl",
]

# To a worker: the first call of a chunk, the call behind its last, the number of the attempt, and
# whether the worker waits for RESUME after a failure.
TOKEN = struct.Struct("qqq?")
# In place of the first call. RESUME: go on after a failure. LEAVE: exit. FILE: a descriptor comes
# with this message, of the file with the value of the call that stands in place of the chunk's
# end; the flag says that one call alone needs it.
RESUME, LEAVE, FILE = -1, -2, -3

# To the parent: the number of the attached file, counted from 1, or ANSWERED.
NOTICE = struct.Struct("q")
ANSWERED = -1

# In place of a call's number in CANCELLED: a SIGTERM cancels whatever call runs.
EVERY_CALL = -1


class WorkerControl:
    """The control block of one worker: counters that it shares with its parent.

    Args:
        memory: shared memory with the blocks of all workers, see
            :attr:`~pcall._wire.result_table.ResultTable.extra`.
        number: of the worker.

    Attributes:
        counts: integers; each of the numbers below says what stands there.
        began: when the newest chunks began, on the monotonic clock; a chunk at its number modulo
            four.
    """

    SIZE = 128
    # By the worker: TAKEN chunks begun; FINISHED chunks ended; WRITTEN bytes of its file that are
    # in use; RUNNING the call that was begun last, or will be at once, -1 for none; LEFT 1 once it
    # exits because no call came.
    # By the parent: CANCELLED the call that a SIGTERM is meant for, or EVERY_CALL; PREEMPT the
    # request to stop early, see below, 0 for none.
    TAKEN, FINISHED, WRITTEN, CANCELLED, PREEMPT, RUNNING, LEFT = range(7)
    # Values of PREEMPT: end the chunk at the next look; exit at the next look.
    CHUNK, WORKER = 1, 2

    def __init__(self, memory: memoryview, number: int) -> None:
        block = memory[number * self.SIZE : (number + 1) * self.SIZE]
        self.counts: memoryview[int] = block[:64].cast("q")
        self.began: memoryview[float] = block[64:96].cast("d")

    def reset(self) -> None:
        """Prepare the block for a new worker."""
        for number in range(7):
            self.counts[number] = 0
        self.counts[self.CANCELLED] = EVERY_CALL
        self.counts[self.RUNNING] = -1
        self.counts[self.WRITTEN] = ROOM  # the first bytes are reserved for a full disk
