"""The place where a call was planned: the source line, and the lines that led to it."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any, NamedTuple

__all__ = ["FRAMES", "CallSites", "Frame", "Lines", "Place"]

# How many frames a place has, at most.
FRAMES = 4

# Code and instruction of a call's frames, the innermost first. The texts of a place are made when
# somebody asks for them: a plan has many calls, and few of them fail.
Lines = tuple[tuple[CodeType, int], ...]


class Frame(NamedTuple):
    """A source line that was being executed.

    Attributes:
        filename: the source file.
        line: the line number, from 1.
        function: the name of the function that contains the line.
    """

    filename: str
    line: int
    function: str

    def __str__(self) -> str:
        return f'File "{self.filename}", line {self.line}, in {self.function}'


class Place(Frame):
    """The source line that planned a call.

    Its text has all its frames, a line each.

    Attributes:
        filename: the source file.
        line: the line number, from 1.
        function: the name of the function that contains the line.
        frames: this line, the one that called its function, and so on: up to four, the innermost
            first.
    """

    frames: tuple[Frame, ...]

    def __new__(cls, filename: str, line: int, function: str, *callers: Frame) -> Place:
        """Make a place with the frames of its callers, the innermost first."""
        place = super().__new__(cls, filename, line, function)
        place.frames = (Frame(filename, line, function), *callers)
        return place

    @classmethod
    def of(cls, lines: Lines) -> Place:
        """The place with these lines."""
        first, *callers = (
            Frame(code.co_filename, _line_of(code, instruction), code.co_name)
            for code, instruction in lines
        )
        return cls(*first, *callers)

    def __str__(self) -> str:
        return "\n  ".join(map(str, self.frames))

    def __reduce__(self) -> tuple[Any, ...]:
        return Place, (*self, *self.frames[1:])


class CallSites:
    """The lines that have planned calls, each kept once: most calls are planned in loops.

    Fewer objects take less memory, and less of the time of the garbage collector.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], Lines] = {}

    def lines_above(self, depth: int) -> Lines:
        """The lines of the callers.

        Args:
            depth: how many frames above the caller of this function the innermost one is, from 1.
                Where there are not so many it is the outermost one.
        """
        frame: FrameType | None
        try:
            frame = sys._getframe(depth + 1)
        except ValueError:
            frame = sys._getframe(1)
            while frame.f_back is not None:
                frame = frame.f_back
        innermost: FrameType | None = frame
        key: list[int] = []
        while frame is not None and len(key) < 2 * FRAMES:
            # The instruction, and not its line: to find that takes longer than to plan the call.
            key += id(frame.f_code), frame.f_lasti
            frame = frame.f_back
        known = self._known.get(tuple(key))
        return self._add(innermost, tuple(key)) if known is None else known

    def _add(self, frame: FrameType | None, key: tuple[int, ...]) -> Lines:
        found: list[tuple[CodeType, int]] = []
        while frame is not None and len(found) < FRAMES:
            found.append((frame.f_code, frame.f_lasti))  # keeps the code, and so its id()
            frame = frame.f_back
        lines = self._known[key] = tuple(found)
        return lines


def _line_of(code: CodeType, instruction: int) -> int:
    for start, stop, line in code.co_lines():
        if start <= instruction < stop and line is not None:
            return line
    return code.co_firstlineno
