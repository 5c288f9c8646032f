"""The place where a call was planned: the source line, and the lines that led to it."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any, NamedTuple

__all__ = ["FRAMES", "Frame", "Lines", "Place", "lines_above"]

# How many frames a place has, at most.
FRAMES = 4

# Code and line number of a call's frames, the innermost first. The texts of a place are made when
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
        first, *callers = (Frame(code.co_filename, line, code.co_name) for code, line in lines)
        return cls(*first, *callers)

    def __str__(self) -> str:
        return "\n  ".join(map(str, self.frames))

    def __reduce__(self) -> tuple[Any, ...]:
        return Place, (*self, *self.frames[1:])


def lines_above(depth: int) -> Lines:
    """The lines of the callers.

    Args:
        depth: how many frames above the caller of this function the innermost one is, from 1.
            Where there are not so many it is the outermost one.
    """
    frame: FrameType | None = sys._getframe(1)
    while depth and frame is not None and frame.f_back is not None:
        frame, depth = frame.f_back, depth - 1
    found: list[tuple[CodeType, int]] = []
    while frame is not None and len(found) < FRAMES:
        found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return tuple(found)
