"""Reading the answers of calls from the table, wherever their bytes lie."""

from __future__ import annotations

import pickle
import signal

import pytest

from pcall import ResultError
from pcall._wire.decode import Answer
from pcall._wire.encode import encode_error, encode_value, no_file
from pcall._wire.result_table import (
    ENCODED,
    FALSE,
    FLOAT,
    IN_FILE,
    INT,
    NONE,
    PICKLED,
    TRUE,
    ResultTable,
    pack_place,
    unpack_place,
)
from pcall._wire.row_reader import Raised, decode_error, read_chunk, read_row


class Source:
    """Answers by call: bytes, an :class:`Answer`, or an exception to be raised."""

    def __init__(self) -> None:
        self.answers: dict[int, bytes | Answer | BaseException] = {}

    def short_answer(self, index: int) -> bytes:
        found = self.answers[index]
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, bytes)
        return found

    def file_answer(self, index: int) -> Answer:
        found = self.answers[index]
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, Answer)
        return found


@pytest.fixture
def source() -> Source:
    return Source()


def table_of(kinds: list[int]) -> ResultTable:
    table = ResultTable(len(kinds))
    for index, kind in enumerate(kinds):
        table.kinds[index] = kind
    return table


@pytest.mark.parametrize("kind", [INT, FLOAT, NONE])
def test_a_chunk_of_one_kind(kind, source):
    """Numbers and None are read from the rows alone."""
    table = table_of([kind] * 4)
    values: list[object] = [None] * 4
    if kind == INT:
        values = [1, -2, 1 << 62, 0]
        for index, value in enumerate(values):
            table.values[index] = value
    if kind == FLOAT:
        values = [0.5, -1.0, float("inf"), 0.0]
        for index, value in enumerate(values):
            table.floats[index] = value
    assert read_chunk(table, 0, 4, source) == (values, {})
    assert read_chunk(table, 1, 3, source) == (values[1:3], {})
    assert [read_row(table, index, source) for index in range(4)] == values


def test_a_chunk_of_all_kinds(source):
    """Each answer is read from where its kind says that it lies."""
    table = table_of([INT, FLOAT, NONE, TRUE, FALSE, PICKLED, ENCODED, ENCODED, IN_FILE, IN_FILE])
    table.values[0], table.floats[1] = 7, 0.5
    source.answers = {
        5: pickle.dumps("text"),
        6: encode_value({"a": 1}, 0.0, no_file),
        7: encode_error(KeyError("b"), 0.0, no_file),
        8: Answer(b"large", None, 0.0),
        9: Answer(None, ValueError("c"), 0.0),
    }
    values, errors = read_chunk(table, 0, 10, source)
    assert values == [7, 0.5, None, True, False, "text", {"a": 1}, None, b"large", None]
    assert {index: repr(error) for index, error in errors.items()} == {
        7: "KeyError('b')",
        9: "ValueError('c')",
    }
    assert type(read_row(table, 9, source)) is Raised


def test_an_exception_that_a_call_returned(source):
    """An exception that is a value is no error."""
    table = table_of([PICKLED])
    source.answers[0] = pickle.dumps(KeyError("returned"))
    values, errors = read_chunk(table, 0, 1, source)
    assert (repr(values), errors) == ("[KeyError('returned')]", {})


@pytest.mark.parametrize("kind", [PICKLED, ENCODED, IN_FILE])
@pytest.mark.parametrize("problem", [OSError(24, "Too many open files"), MemoryError("of it")])
def test_an_answer_that_cannot_be_read(kind, problem, source):
    """It is its call's error alone, which says why and has the cause."""
    table = table_of([INT, kind, INT])
    source.answers[1] = problem
    values, errors = read_chunk(table, 0, 3, source)
    assert values == [0, None, 0]
    ((index, error),) = errors.items()
    assert index == 1
    assert type(error) is ResultError
    name = type(problem).__name__
    assert str(error) == f"the answer could not be read: {name}: {problem}"
    assert error.__cause__ is problem
    with pytest.raises(type(problem)):
        read_row(table, 1, source)


def test_an_interrupt_while_an_answer_is_read(source):
    """Ctrl-C, and anything that a signal handler raises, is no error of the call."""
    table = table_of([PICKLED])
    source.answers[0] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        read_chunk(table, 0, 1, source)

    def alarm(*_: object) -> None:
        raise LookupError("an alarm")

    class Interrupted(Source):
        def short_answer(self, index: int) -> bytes:
            signal.raise_signal(signal.SIGALRM)
            return b""

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with pytest.raises(LookupError, match="an alarm"):
            read_chunk(table, 0, 1, Interrupted())
    finally:
        signal.signal(signal.SIGALRM, before)


def test_the_error_in_a_short_answer():
    """A value is not decoded where only errors are wanted."""
    answer = encode_error(KeyError("a"), 0.0, no_file)
    assert repr(decode_error(answer)) == "KeyError('a')"
    value = encode_value(range(3), 0.0, no_file)
    assert decode_error(value[: len(value) // 2]) is None


@pytest.mark.parametrize("place", [0, 1, 4096, 1 << 40])
@pytest.mark.parametrize("length", [0, 1, (1 << 20) - 1])
def test_a_place_and_a_length_in_one_number(place, length):
    """What is packed is unpacked the same, and fits into a row."""
    table = ResultTable(1)
    table.values[0] = pack_place(place, length)
    assert unpack_place(table.values[0]) == (place, length)


def test_the_memory_beside_the_rows():
    """It is shared as the rows are, as long as asked for, and begins as zeros."""
    table = ResultTable(3, 24)
    assert bytes(table.extra) == bytes(24)
    table.extra[:] = b"x" * 24
    assert bytes(table.kinds) == bytes(3)
    assert list(table.values) == [0, 0, 0]
    assert len(ResultTable(0).extra) == 0
