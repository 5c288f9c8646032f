"""A frame of lines at the bottom of a terminal, below all that others print meanwhile.

The rows above the frame are made the terminal's scrolling region, and the cursor stays where it
was among them. So what children and the parent print runs on there, whole, scrolls as ever, and
never meets the frame.

Each drawing starts from nothing: whole screen as the region, all erased below the cursor, room
made, region set, frame drawn. So it does not matter what has become of the terminal since the last
one: made larger or smaller, with long lines broken anew; the process stopped, and continued in
the foreground of another prompt.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

__all__ = ["Terminal"]

_ERASE_BELOW = "\x1b[J"  # from the cursor on
_DOWN = "\x1bD"  # in the same column; scrolls in the last row
_SAVE, _RESTORE = "\x1b7", "\x1b8"  # the cursor's place, and its colours
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
_NO_COLOUR = "\x1b[m"
# Setting a region moves the cursor.
_NO_REGION = f"{_SAVE}\x1b[r{_RESTORE}"

# With fewer rows there is no place for a frame.
_LEAST_ROWS = 4


class Terminal:
    """A text stream that is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def size(self) -> tuple[int, int]:
        """Columns and rows, as they are now."""
        try:
            columns, rows = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            columns = rows = 0
        return columns or 80, rows or 24  # a terminal that nobody told its size says 0

    def draw(self, lines: Sequence[str], above: str = "") -> None:
        """Draw the frame anew.

        Args:
            lines: of the frame, none wider than the terminal, and some fewer than it has rows.
            above: lines that stay, to be written above the frame.
        """
        _, rows = self.size()
        count = len(lines) if rows >= _LEAST_ROWS else 0
        text = _NO_REGION + _ERASE_BELOW + (self._above(above) if above else "")
        if count:
            last = rows - count
            # Room first, so that the place of the cursor that is saved does not scroll away.
            text += f"{_DOWN * count}\x1b[{count}A{_SAVE}\x1b[1;{last}r{_NO_WRAP}{_NO_COLOUR}"
            for row, line in enumerate(lines, last + 1):
                text += f"\x1b[{row};1H{line}"
            text += _WRAP + _RESTORE
        self._write(text)  # at once: the system does not put others' output in between

    def close(self, last: str) -> None:
        """Take the frame away, and write these lines where the cursor is."""
        self._write(_NO_REGION + _WRAP + _ERASE_BELOW + self._above(last))

    def _above(self, text: str) -> str:
        # Spaces up to the last column but one leave a line that has something in it, and
        # don't leave one that is empty: where others ended with half a line, a new one begins.
        columns, _ = self.size()
        spaces = " " * (columns - 1)
        return f"{_NO_COLOUR}{spaces}\r{_ERASE_BELOW}" + text.replace("\n", "\r\n") + "\r\n"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
