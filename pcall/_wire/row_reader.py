"""Reading the answers of calls from their rows, wherever the bytes of an answer lie.

A row of the :class:`~pcall._wire.result_table.ResultTable` has a plain number itself. For any
other answer it says where the bytes are; an :class:`AnswerSource` knows how to get there. The
parent of workers, the parent of a plan, and a plan's workers each have their own.
"""

from __future__ import annotations

from pickle import loads
from typing import Any, NamedTuple, Protocol

from pcall._errors import ResultError
from pcall._os.signals import is_interrupt
from pcall._wire.decode import Answer, decode, is_error
from pcall._wire.exception_codec import safe_str
from pcall._wire.result_table import CONSTANTS, FLOAT, IN_FILE, INT, NONE, PICKLED, ResultTable

__all__ = [
    "AnswerSource",
    "Raised",
    "decode_error",
    "read_chunk",
    "read_row",
    "unreadable",
]


class AnswerSource(Protocol):
    """Provides the bytes of answers that are not in the table itself."""

    def short_answer(self, index: int) -> bytes | memoryview:
        """The bytes of a short answer, from the file that the row points to."""

    def file_answer(self, index: int) -> Answer:
        """Read an answer that has a file of its own; raise if it is incomplete."""


class Raised(NamedTuple):
    """Stands in for the value of a call that raised.

    Attributes:
        error: the exception.
    """

    error: BaseException


def read_row(table: ResultTable, index: int, source: AnswerSource) -> Any:
    """Read the answer of one call, which has answered and whose value was not handed off.

    Returns:
        The value; or :class:`Raised` when the call raised, or decoding the answer did.

    Raises:
        Exception: the answer can't be read; whatever the source or unpickling raises.
    """
    kind = table.kinds[index]
    if kind == PICKLED:
        return loads(source.short_answer(index))
    if kind == INT:
        return table.values[index]
    if kind == FLOAT:
        return table.floats[index]
    if kind in CONSTANTS:
        return CONSTANTS[kind]
    if kind == IN_FILE:
        answer = source.file_answer(index)
    else:
        answer = decode(memoryview(source.short_answer(index)))
    return answer.value if answer.error is None else Raised(answer.error)


def read_chunk(
    table: ResultTable, start: int, stop: int, source: AnswerSource
) -> tuple[list[Any], dict[int, BaseException]]:
    """Read the answers of consecutive calls, none of which was handed off.

    Returns:
        The values, None for a call that raised or whose answer can't be read; and the errors of
        these, by call.

    Raises:
        BaseException: only what interrupts this process, see
            :func:`~pcall._os.signals.is_interrupt`.
    """
    # Most chunks have answers of one kind: those are copied without a step for each.
    kinds = bytes(table.kinds[start:stop])
    count = stop - start
    if kinds.count(INT) == count:
        return table.values[start:stop].tolist(), {}
    if kinds.count(FLOAT) == count:
        return table.floats[start:stop].tolist(), {}
    if kinds.count(NONE) == count:
        return [None] * count, {}
    values: list[Any] = []
    errors: dict[int, BaseException] = {}
    for index in range(start, stop):
        try:
            value = read_row(table, index, source)
        except BaseException as problem:
            # A pickle loads in the child before it is sent, so this is about this process: no
            # memory or no descriptor to be had, perhaps.
            if is_interrupt(problem):
                raise
            value = Raised(unreadable(problem))
        if type(value) is Raised:
            errors[index] = value.error
            value = None
        values.append(value)
    return values, errors


def decode_error(answer: bytes | memoryview) -> BaseException | None:
    """The exception in a short answer; None for a value, which is not decoded."""
    return decode(memoryview(answer)).error if is_error(answer) else None


def unreadable(problem: BaseException, why: str | None = None) -> ResultError:
    """The error of a call whose answer can't be read.

    Args:
        problem: what reading it raised.
        why: the text to give; None: the problem's type and text.
    """
    if why is None:
        why = f"{type(problem).__name__}: {safe_str(problem)}"
    failure = ResultError(f"the answer could not be read: {why}")
    failure.__cause__ = problem
    return failure
