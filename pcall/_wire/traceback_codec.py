"""Tracebacks to plain values and back: file names, function names and positions of frames.

The frames of a traceback that was read are real ones, of a code object that has the file name, the
function name and the position of the original, and does nothing but fail. Its table of positions
has one position for all of its instructions, that of the instruction that failed in the child: so
the carets under the line stand where they stood there.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from itertools import islice
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple, cast

__all__ = ["Frame", "Position", "dump_traceback", "load_traceback", "users_part"]

_OWN_FOLDER = os.path.dirname(os.path.dirname(__file__)) + os.sep

# It fails with a NameError wherever it is executed.
_STUB = compile("__pcall_frame__", "<frame>", "exec")
# A code unit has two bytes. An entry of the table of positions is for up to eight units.
_UNITS = len(_STUB.co_code) // 2
_UNITS_PER_ENTRY = 8
# The forms of an entry (Objects/locations.md of CPython): a line without columns, and all four.
_NO_COLUMNS, _LONG = 13, 14


class Position(NamedTuple):
    """Where in its file an instruction stands, as ``code.co_positions()`` has it.

    Attributes:
        line: the line, from 1.
        end_line: the line where it ends.
        column: the offset of its first byte in the line; None if it is not known.
        end_column: the offset of the byte behind it in its last line, or None.
    """

    line: int
    end_line: int
    column: int | None = None
    end_column: int | None = None


# One frame: file name, function, line, position, and of its globals __name__, __file__ and the mark
# of pytest. The line is the traceback's, which whoever made the traceback may have chosen.
Frame = tuple[str, str, int, tuple[int, int, int | None, int | None], dict[str, Any]]


def users_part(tb: TracebackType | None) -> TracebackType | None:
    """The traceback from the target on: the library's frames above it say nothing to the user."""
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        tb = tb.tb_next
    return tb


def dump_traceback(tb: TracebackType | None) -> list[Frame]:
    """The frames of a traceback, from the target on, as values that can be pickled."""
    frames: list[Frame] = []
    tb = users_part(tb)
    while tb is not None:
        frame = tb.tb_frame
        code = frame.f_code
        names = {k: v for k, v in frame.f_globals.items() if k in ("__name__", "__file__")}
        if _is_hidden(frame):
            names["__tracebackhide__"] = True
        position = _position(code, tb.tb_lasti, tb.tb_lineno)[:]  # plain: less to pickle
        frames.append((code.co_filename, code.co_name, tb.tb_lineno, position, names))
        tb = tb.tb_next
    return frames


def _is_hidden(frame: FrameType) -> bool:
    """True for a frame that pytest does not show; a condition does not travel."""
    name = "__tracebackhide__"
    hidden = frame.f_globals.get(name)
    if not hidden and name in frame.f_code.co_varnames:
        hidden = frame.f_locals.get(name)
    return hidden is True


def _position(code: CodeType, offset: int, line: int) -> Position:
    """The position of the instruction at this offset, in bytes; only the line if it has none."""
    here = next(islice(code.co_positions(), offset // 2, None), None) if offset >= 0 else None
    if here is None or None in here:
        first = line if here is None or here[0] is None else here[0]
        return Position(first, first)
    return Position(*here)  # type: ignore[arg-type]


def load_traceback(frames: list[Frame]) -> TracebackType | None:
    """A traceback that shows these frames."""
    if not frames:
        return None
    # Each frame keeps the frames below it alive, with all their variables: the caller's too, and
    # with them the run itself, which would then never be dropped and its children not be ended.
    # Below the frame of a suspended generator there is none, so the traceback is made in one. The
    # object that makes the traceback holds the generator, so it stays suspended.
    maker = [_Maker(frames)]
    maker[0].apart = apart = _apart(maker)
    return next(apart)


def _apart(maker: list[_Maker]) -> Generator[TracebackType | None, None, None]:
    yield maker.pop().make()


class _Maker:
    """Makes a traceback.

    Args:
        frames: of the traceback.

    Attributes:
        apart: the generator that it is made in.
    """

    def __init__(self, frames: list[Frame]) -> None:
        self._frames = frames
        self.apart: Generator[TracebackType | None, None, None] | None = None

    def make(self) -> TracebackType | None:
        """The traceback."""
        tb = made = None
        try:
            for filename, function, line, position, names in reversed(self._frames):
                code = _code(filename, function, Position(*position))
                try:
                    exec(code, dict(names))
                except NameError as error:
                    made = cast(Any, error.__traceback__).tb_next
                    tb = TracebackType(tb, made.tb_frame, made.tb_lasti, line)
            return tb
        finally:
            del tb, made  # its frames refer to this one: no reference cycle


def _code(filename: str, function: str, position: Position) -> CodeType:
    """Code that fails at this position."""
    return _STUB.replace(
        co_filename=filename,
        co_name=function,
        co_firstlineno=position.line,
        co_linetable=_table(position),
    )


def _table(position: Position) -> bytes:
    """A table of positions, relative to the first line, with this one for all instructions."""
    line, end_line, column, end_column = position
    if column is None or end_column is None:
        kind, content = _NO_COLUMNS, _signed(0)
    else:
        kind = _LONG
        content = _signed(0) + _unsigned(end_line - line)
        content += _unsigned(column + 1) + _unsigned(end_column + 1)
    table = b""
    for start in range(0, _UNITS, _UNITS_PER_ENTRY):
        units = min(_UNITS - start, _UNITS_PER_ENTRY)
        table += bytes([0x80 | kind << 3 | units - 1]) + content
    return table


def _unsigned(number: int) -> bytes:
    """A number in groups of six bits, the lowest first; all but the last have a mark."""
    groups = b""
    while number >= 64:
        groups += bytes([64 | number & 63])
        number >>= 6
    return groups + bytes([number])


def _signed(number: int) -> bytes:
    return _unsigned((-number << 1) | 1 if number < 0 else number << 1)
