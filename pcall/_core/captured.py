"""The output of calls, as outcomes and notes have it."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

__all__ = ["SILENCE", "Captured", "add_last_lines", "decode_output"]

# Lines of each stream that the note of an error has at most, and characters of each of them.
_LINES = 10
_WIDTH = 500


class Captured(NamedTuple):
    """What a call has written.

    Attributes:
        stdout: to descriptor 1 and ``sys.stdout``.
        stderr: to descriptor 2 and ``sys.stderr``.
    """

    stdout: str
    stderr: str


SILENCE = Captured("", "")


def decode_output(content: bytes) -> str:
    """The text of output: programs may write anything."""
    return content.decode("utf-8", "backslashreplace")


def add_last_lines(error: BaseException, captured: Captured) -> None:
    """Add the last lines that a failed call has written to its error, as a note."""
    for name, text in zip(Captured._fields, captured, strict=True):
        lines = text.rstrip().splitlines()[-_LINES:]
        if lines:
            shown = "\n".join(f"  {line[:_WIDTH]}" for line in lines)
            with suppress(Exception):  # a user's exception class may refuse notes
                error.add_note(f"last lines of its {name}:\n{shown}")
