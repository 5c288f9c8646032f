"""A frame of lines below the cursor of a terminal, drawn over and over.

The cursor stays above the frame, where others write: what children and the parent print meanwhile
takes the place of the old frame, and the next one is drawn below it. So nothing that was printed
is lost, nothing has to be counted back to, and a terminal that was made smaller, or larger, has
nothing of the old frame left above the cursor.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

__all__ = ["Terminal"]

_ERASE_BELOW = "\x1b[J"  # from the cursor on
_ERASE_LINE = "\x1b[K"
_DOWN = "\x1bD"  # in the same column; scrolls in the last row
_SAVE, _RESTORE = "\x1b7", "\x1b8"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"


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
            lines: of the frame, none wider than the terminal, and fewer than it has rows.
            above: lines that stay, to be written above the frame.
        """
        room = len(lines)
        text = self._above(above) if above else ""
        # First make room, so that the place of the cursor that is saved does not scroll away.
        text += _DOWN * room + (f"\x1b[{room}A" if room else "")
        text += _SAVE + _NO_WRAP + _ERASE_LINE
        text += "".join(f"\r\n{line}{_ERASE_LINE}" for line in lines)
        text += _ERASE_BELOW + _WRAP + _RESTORE
        self._write(text)

    def close(self, last: str) -> None:
        """Put these lines in the place of the frame, for good."""
        self._write(_WRAP + self._above(last))

    def _above(self, text: str) -> str:
        # Spaces up to the last column but one leave a line that has something in it, and
        # don't leave one that is empty: where others ended with half a line, a new one begins.
        columns, _ = self.size()
        start = _ERASE_BELOW + " " * (columns - 1) + "\r" + _ERASE_LINE
        return start + text.replace("\n", "\r\n") + "\r\n"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
