"""The table of answers that reused workers share with their parent: a row for each call.

A call of a microsecond can't afford a system call to send its answer, and its answer must not be
lost when its worker dies a moment later. So the table lies in shared memory. A plain number goes
into the row itself. Any other value is pickled to the worker's file, or to a file of its own, and
the row says where. The row's *kind* is written last: until then the call has not answered.
"""

from __future__ import annotations

import mmap

__all__ = [
    "CONSTANTS",
    "ENCODED",
    "FALSE",
    "FLOAT",
    "HANDED_OFF",
    "INT",
    "IN_FILE",
    "LENGTH_BITS",
    "LENGTH_MASK",
    "LONG_ANSWER",
    "NONE",
    "PICKLED",
    "TRUE",
    "OutputColumns",
    "ResultTable",
    "pack_place",
    "unpack_place",
]

# Kinds of answers; 0 means that there is none yet. The value of a HANDED_OFF call can't be read:
# it has stayed in its worker for the next call of the same chunk, which counts as begun.
NONE, FALSE, TRUE, INT, FLOAT, PICKLED, ENCODED, IN_FILE, HANDED_OFF = range(1, 10)
CONSTANTS = {NONE: None, FALSE: False, TRUE: True}

# The place of an answer in a file, as one number: its length stands in the low bits.
LENGTH_BITS = 20
LENGTH_MASK = (1 << LENGTH_BITS) - 1

# Bytes of pickle from which an answer goes to a file of its own: a shorter one with its header and
# type name (at most 1040 bytes) stays below the 1 MiB that pack_place() can express.
LONG_ANSWER = LENGTH_MASK - 2047


def pack_place(place: int, length: int) -> int:
    """A position in a file, and a length below 1 MiB, as one number."""
    return place << LENGTH_BITS | length


def unpack_place(number: int) -> tuple[int, int]:
    """The position and the length that :func:`pack_place` was given."""
    return number >> LENGTH_BITS, number & LENGTH_MASK


class OutputColumns:
    """Columns of a table that say where the output of calls lies in the files of their workers.

    Args:
        calls: how many rows.

    Attributes:
        begin_out: the position in the file for stdout.
        end_out: the position behind it.
        begin_err: the position in the file for stderr.
        end_err: the position behind it.
    """

    def __init__(self, calls: int) -> None:
        column = 8 * calls
        view = memoryview(mmap.mmap(-1, max(1, 4 * column)))
        columns = [view[number * column : (number + 1) * column].cast("q") for number in range(4)]
        self.begin_out: memoryview[int] = columns[0]
        self.end_out: memoryview[int] = columns[1]
        self.begin_err: memoryview[int] = columns[2]
        self.end_err: memoryview[int] = columns[3]


class ResultTable:
    """A row for each call, in memory that children forked later share.

    Args:
        calls: how many rows.
        extra: bytes of shared memory beside the rows, in the same mapping.
        captures: True if the output of calls is captured.

    Attributes:
        values: integers; or positions in a worker's file (:func:`pack_place`); or numbers of
            files that were sent.
        floats: the same memory as floating-point numbers.
        ended: when each call ended, on the monotonic clock.
        cpu: seconds of processor time that each call took.
        rss: the peak memory of each call's worker until then, in bytes.
        kinds: the kind of each answer.
        extra: the memory beside the rows.
        output: where the output of each call lies; None if it is not captured.
    """

    def __init__(self, calls: int, extra: int = 0, captures: bool = False) -> None:
        column = 8 * calls
        self.output: OutputColumns | None = OutputColumns(calls) if captures else None
        self._memory = mmap.mmap(-1, max(1, 4 * column + (calls + 7) // 8 * 8 + extra))
        view = memoryview(self._memory)

        first, second, third, fourth = (
            view[number * column : (number + 1) * column] for number in range(4)
        )
        self.values: memoryview[int] = first.cast("q")
        self.floats: memoryview[float] = first.cast("d")
        self.ended: memoryview[float] = second.cast("d")
        self.cpu: memoryview[float] = third.cast("d")
        self.rss: memoryview[int] = fourth.cast("q")
        self._first_kind = 4 * column
        self.kinds: memoryview[int] = view[4 * column : 4 * column + calls]
        self.extra: memoryview[int] = view[len(view) - extra :]

    def forget(self, index: int) -> None:
        """Make a call unanswered: it is executed again."""
        self.kinds[index] = self.rss[index] = 0

    def unanswered(self, start: int, stop: int) -> int:
        """The first of these calls that has not answered; ``stop`` when all have."""
        offset = self._first_kind
        found = self._memory.find(b"\0", offset + start, offset + stop)
        return stop if found < 0 else found - offset
