"""What reused children and their parent share: memory for answers and figures, and messages.

A call of a microsecond can't afford a system call to send its answer, and its answer must
not be lost with a child that dies a moment later. So there is a table in shared memory with a
row for each call. A plain number goes into the row itself; anything else is pickled to a file
of the child's, and the row says where. The row's *kind* is written last: until then the call
has not answered.

A child gets its calls as :data:`TOKEN` messages, each a chunk of consecutive calls, over a
socket. It sends :data:`NOTICE` messages: that there is something to look at, or, with a
descriptor attached, a file with an answer that is too large for the common one.
"""

from __future__ import annotations

import mmap
import struct

from pcall._os.system import ROOM

__all__ = [
    "ANSWERED",
    "CONSTANTS",
    "ENCODED",
    "EVERY_CALL",
    "FALSE",
    "FILE",
    "FLOAT",
    "HANDED_OFF",
    "INT",
    "IN_FILE",
    "LEAVE",
    "LOOK_EVERY",
    "NONE",
    "NOTICE",
    "PICKLED",
    "RESUME",
    "TOKEN",
    "TRUE",
    "ResultTable",
    "WorkerControl",
    "pack_place",
    "unpack_place",
]

# Kinds of answers; 0 is none yet.
NONE, FALSE, TRUE, INT, FLOAT, PICKLED, ENCODED, IN_FILE, HANDED_OFF = range(1, 10)
# The last is no answer that can be read: the value has stayed in the child, for the next call of
# the same chunk, which counts as begun.
CONSTANTS = {NONE: None, FALSE: False, TRUE: True}

# First call of a chunk, the one behind its last, the number of the attempt, and whether a
# failure ends it.
TOKEN = struct.Struct("qqq?")
# In place of a first call: go on after a failure; leave; a file comes with this message, with
# the value of the call that stands where the end of a chunk does.
RESUME, LEAVE, FILE = -1, -2, -3
# The number of the attached file, each with one answer, or:
NOTICE = struct.Struct("q")
ANSWERED = -1

# Whom a SIGTERM is meant for, in place of the number of a call.
EVERY_CALL = -1

# Seconds between two looks of a child at what its parent wants, unless a call takes longer.
LOOK_EVERY = 0.001


def pack_place(place: int, length: int) -> int:
    """Where in a file, and how many bytes below 1 MiB, as one number."""
    return place << 20 | length


def unpack_place(number: int) -> tuple[int, int]:
    """The reverse."""
    return number >> 20, number & (1 << 20) - 1


class ResultTable:
    """A row for each call, in memory that is shared with children forked later.

    Args:
        calls: how many.
        workers: how many children at once; each has a :class:`WorkerControl`.

    Attributes:
        values: integers, or places in the child's file (:func:`pack_place`), or numbers of files
            that were sent.
        floats: the same memory as floating-point numbers.
        ended: when each call ended, on the monotonic clock.
        cpu: seconds of processor time that each took.
        rss: bytes of its child's peak memory until then.
        kinds: what kind of answer each has.
    """

    def __init__(self, calls: int, workers: int) -> None:
        column = 8 * calls
        self._memory = mmap.mmap(
            -1, 4 * column + (calls + 7) // 8 * 8 + workers * WorkerControl.SIZE
        )
        view = memoryview(self._memory)

        first, second, third, fourth = (
            view[number * column : (number + 1) * column] for number in range(4)
        )
        self.values, self.floats = first.cast("q"), first.cast("d")
        self.ended, self.cpu, self.rss = second.cast("d"), third.cast("d"), fourth.cast("q")
        self._first_kind = 4 * column
        self.kinds = view[4 * column : 4 * column + calls]
        self._slots = view[len(view) - workers * WorkerControl.SIZE :]

    def slot(self, number: int) -> WorkerControl:
        """That of one child at a time."""
        return WorkerControl(
            self._slots[number * WorkerControl.SIZE : (number + 1) * WorkerControl.SIZE]
        )

    def forget(self, index: int) -> None:
        """A call is executed again: it has not answered."""
        self.kinds[index] = self.rss[index] = 0

    def unanswered(self, start: int, stop: int) -> int:
        """The first of these calls that has not answered; ``stop`` when all have."""
        offset = self._first_kind
        found = self._memory.find(b"\0", offset + start, offset + stop)
        return stop if found < 0 else found - offset


class WorkerControl:
    """What one child tells of itself, and is told, without a message.

    Attributes:
        counts: see the numbers below.
        began: when the newest chunks were begun, on the monotonic clock: each at its
            number modulo four.
    """

    SIZE = 128
    # Chunking begun; chunks done with; bytes written to its file; the call that a
    # SIGTERM is meant for; what it is to end early, see below; the call that was begun last,
    # or will be at once.
    TAKEN, FINISHED, WRITTEN, CANCELLED, ENDS, RUNNING = range(6)
    # Values of ENDS: its chunk, at the next look; itself.
    CHUNK, CHILD = 1, 2

    def __init__(self, memory: memoryview) -> None:
        self.counts = memory[:64].cast("q")
        self.began = memory[64:96].cast("d")

    def reset(self) -> None:
        """For another child."""
        for number in range(6):
            self.counts[number] = 0
        self.counts[self.CANCELLED] = EVERY_CALL
        self.counts[self.RUNNING] = -1
        self.counts[self.WRITTEN] = ROOM  # the first bytes are for when the disk is full
