"""A frame of lines at the bottom of a terminal, below all other output.

The rows above the frame become the terminal's scrolling region, and the cursor keeps its place in
them. So the output of the parent and its children continues there, whole, scrolls as usual, and
never collides with the frame.

Each drawing starts from scratch: it makes the whole screen the region, erases everything below the
cursor, makes room, sets the region, and draws the frame. So changes to the terminal since the last
drawing do not matter: it may have been resized, with long lines wrapped again, or the process may
have been stopped, and continued below another prompt.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

__all__ = ["Terminal"]

_ERASE_BELOW = "\x1b[J"  # from the cursor on
_DOWN = "\x1bD"  # in the same column; scrolls in the last row
_SAVE, _RESTORE = "\x1b7", "\x1b8"  # the cursor's position and colours
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
_NO_COLOUR = "\x1b[m"
# Setting a region moves the cursor.
_NO_REGION = f"{_SAVE}\x1b[r{_RESTORE}"

# With fewer rows there is no room for a frame.
_LEAST_ROWS = 4


class Terminal:
    """A text stream that is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def size(self) -> tuple[int, int]:
        """The current numbers of columns and rows."""
        try:
            columns, rows = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            columns = rows = 0
        return columns or 80, rows or 24  # 0 if the terminal's size was never set

    def draw(self, lines: Sequence[str], above: str = "") -> None:
        """Redraw the frame.

        Args:
            lines: of the frame: none wider than the terminal, and fewer than its rows.
            above: lines to write above the frame, which stay.
        """
        _, rows = self.size()
        count = len(lines) if rows >= _LEAST_ROWS else 0
        text = _NO_REGION + _ERASE_BELOW + (self._above(above) if above else "")
        if count:
            last = rows - count
            # Make room first, so that the saved position of the cursor does not scroll away.
            text += f"{_DOWN * count}\x1b[{count}A{_SAVE}\x1b[1;{last}r{_NO_WRAP}{_NO_COLOUR}"
            for row, line in enumerate(lines, last + 1):
                text += f"\x1b[{row};1H{line}"
            text += _WRAP + _RESTORE
        self._write(text)  # by one call, so that no other output comes in between

    def close(self, last: str) -> None:
        """Remove the frame, and write these lines at the cursor."""
        self._write(_NO_REGION + _WRAP + _ERASE_BELOW + self._above(last))

    def _above(self, text: str) -> str:
        # Spaces up to the last column but one wrap a line that has text in it, and don't wrap an
        # empty one: so a new line begins after output that ended without a newline.
        columns, _ = self.size()
        spaces = " " * (columns - 1)
        return f"{_NO_COLOUR}{spaces}\r{_ERASE_BELOW}" + text.replace("\n", "\r\n") + "\r\n"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
