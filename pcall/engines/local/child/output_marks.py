"""Where the output of each call of a reused worker lies in the worker's output files."""

from __future__ import annotations

from os import SEEK_END, lseek

from pcall._wire.result_table import OutputColumns

__all__ = ["OutputMarks"]


class OutputMarks:
    """Marks in the shared table where the output of a call begins and ends.

    Args:
        columns: of the table.
        fds: the worker's output files, by descriptors that the target does not know: it may close
            or replace 1 and 2.
    """

    def __init__(self, columns: OutputColumns, fds: tuple[int, int]) -> None:
        self._columns = columns
        self._stdout, self._stderr = fds
        self._at = (0, 0)

    def begin(self) -> None:
        """What is written from now on is the next call's."""
        self._at = (lseek(self._stdout, 0, SEEK_END), lseek(self._stderr, 0, SEEK_END))

    def end(self, index: int) -> None:
        """What was written until now was this call's."""
        columns = self._columns
        columns.begin_out[index], columns.begin_err[index] = self._at
        self.begin()
        columns.end_out[index], columns.end_err[index] = self._at
