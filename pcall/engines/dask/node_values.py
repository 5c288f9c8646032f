"""The values of a plan's calls at a node, and the arguments that they stand in.

A value is the answer that its child wrote: bytes, or a file in memory. It stays at the node that
made it, and other workers ask for it. A child of this node reads the file itself, as it does on one
machine; only what no other call needs goes from call to call without being written.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from pcall._core.records import show
from pcall._os.private_fds import duplicate, register_private_fd, unregister_private_fd
from pcall._wire.exception_codec import safe_str
from pcall._wire.mapping import map_private
from pcall._wire.value_parts import ValueParts, take_apart
from pcall.engines.dask.answers import value_of
from pcall.engines.dask.wire_records import ChunkOrder, FiledAnswer, HandedOff, Record, ValueAt

__all__ = [
    "SMALL_VALUE",
    "NodeValues",
    "Planned",
    "StoredFile",
    "Values",
    "WorkerValues",
    "load_planned",
]

__tracebackhide__ = True  # pytest shows the frames of its user

# Bytes up to which a value is sent to the caller with the outcome.
SMALL_VALUE = 8 << 10


class StoredFile(NamedTuple):
    """A value in a file of a node.

    Attributes:
        node: process id of the node.
        fd: its descriptor there.
        size: in bytes.
    """

    node: int
    fd: int
    size: int

    def content(self) -> memoryview:
        """Its bytes, mapped privately. Works in the node's children."""
        fd = os.open(f"/proc/{self.node}/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return map_private(fd, self.size)
        finally:
            os.close(fd)


class Values(Protocol):
    """Has the values of calls, where other calls are made."""

    def value_of(self, index: int) -> Any:
        """The value of a call: objects that nobody else has."""

    def gather(self, number: int) -> bytes:
        """The pickle of a container that many calls get."""


class NodeValues:
    """The values that a node has."""

    def __init__(self) -> None:
        self._stored: dict[int, bytes | StoredFile] = {}
        self._gathers: dict[int, bytes] = {}

    def take(self, order: ChunkOrder) -> tuple[int, ...]:
        """Take in what comes with a chunk.

        Returns:
            The calls whose values are needed and not here.
        """
        for index in order.drops:
            self.drop(index)
        for index, content in order.values:
            if not isinstance(content, ValueAt):
                self.put(index, content)
        self._gathers.update(order.gathers)
        lacking = [index for index in order.needs if index not in self._stored]
        return tuple(lacking)

    def put(self, index: int, content: bytes | StoredFile) -> None:
        """Store a value."""
        self.drop(index)
        self._stored[index] = content

    def put_file(self, index: int, fd: int, size: int) -> None:
        """Store a value that is in a file, which belongs to this object from now on."""
        register_private_fd(fd)
        self.put(index, StoredFile(os.getpid(), fd, size))

    def has(self, index: int) -> bool:
        """True if a value is here."""
        return index in self._stored

    def keep(self, record: Record, files: list[int], home: bool) -> Record:
        """Store the value of a call that has ended here.

        Args:
            record: of the call.
            files: the descriptors that go to the caller.
            home: True if the caller wants the value.

        Returns:
            The record as the caller gets it.
        """
        answer = record.answer
        if isinstance(answer, FiledAnswer):
            fd = files[answer.number]
            if home:
                self.put_file(record.call, duplicate(fd), answer.size)
                return record
            files.pop()
            self.put_file(record.call, fd, answer.size)
            return record._replace(answer=None, kept=answer.size)
        self.put(record.call, answer)
        if home or len(answer) <= SMALL_VALUE:
            return record
        return record._replace(answer=None, kept=len(answer))

    def drop(self, index: int) -> None:
        """Drop a value."""
        stored = self._stored.pop(index, None)
        if isinstance(stored, StoredFile):
            unregister_private_fd(stored.fd)
            os.close(stored.fd)

    def raw(self, index: int) -> bytes | StoredFile | None:
        """A value as it is stored; None if it is not here."""
        return self._stored.get(index)

    def close(self) -> None:
        """Drop all values."""
        for index in list(self._stored):
            self.drop(index)

    def for_worker(self, order: ChunkOrder) -> WorkerValues:
        """What a reused child needs for a chunk."""
        # If a chunk goes on in another child, that one needs the values of calls that have ended.
        # Others may have been dropped after them.
        needs = (*order.needs, *range(order.start, order.start + len(order.calls)))
        return WorkerValues(
            {index: self._stored[index] for index in needs if index in self._stored},
            {number: self._gathers[number] for number in order.uses},
        )

    # It is a Values of children that are forked for one call.

    def value_of(self, index: int) -> Any:
        """The value of a call."""
        return _load(self._stored[index])

    def gather(self, number: int) -> bytes:
        """The pickle of a container that many calls get."""
        return self._gathers[number]


class WorkerValues:
    """The values that a reused child has for its chunk.

    Args:
        stored: by call, its answer.
        gathers: by number, pickled containers.
    """

    def __init__(self, stored: dict[int, bytes | StoredFile], gathers: dict[int, bytes]) -> None:
        self._stored = stored
        self._gathers = gathers
        self._made: dict[int, bytes] = {}  # by calls of this chunk, as pickles
        self._linked: tuple[int, ValueParts] | None = None

    @property
    def is_linked(self) -> bool:
        """True if a value stays in this process for the next call."""
        return self._linked is not None

    def value_of(self, index: int) -> Any:
        """The value of a call."""
        if self._linked is not None and self._linked[0] == index:
            (_, parts), self._linked = self._linked, None
            return pickle.loads(parts.stream, buffers=parts.buffers)
        if index in self._made:
            return pickle.loads(self._made[index])
        return _load(self._stored[index])

    def gather(self, number: int) -> bytes:
        """The pickle of a container that many calls get."""
        return self._gathers[number]

    def made(self, order: ChunkOrder, row: int, value: Any, last: bool) -> Any:
        """A call of the chunk has returned a value.

        Args:
            order: the chunk.
            row: the offset of the call.
            value: the value.
            last: True if this process may run no further call of the chunk.

        Returns:
            The value to answer with.
        """
        index = order.start + row
        self._linked = None
        if row in order.links and not last:
            parts = take_apart(value)
            if parts is not None:
                self._linked = index, parts
                return HandedOff()
        if row in order.inside:
            with suppress(Exception):  # what can't be pickled fails where it is answered with
                self._made[index] = pickle.dumps(value, 5)
        return value


def _load(stored: bytes | StoredFile) -> Any:
    return value_of(stored.content() if isinstance(stored, StoredFile) else stored)


class Planned(NamedTuple):
    """The arguments of a planned call, with values in place of calls.

    Attributes:
        args: positional arguments.
        kwargs: keyword arguments.
        given: the nodes among them: what stands for each, and its position.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    given: list[tuple[str, int]]

    def __getitem__(self, item: Any) -> Any:
        return (self.args, self.kwargs)[item]

    def call(self, function: Callable[..., Any], index: int) -> Any:
        """Make the call; an error gets a note with the values that the call got."""
        try:
            return function(*self.args, **self.kwargs)
        except Exception as error:
            self.note(error, index)
            raise

    def note(self, error: Exception, index: int) -> None:
        """Add the note."""
        if not self.given:
            return
        values = [*self.args, *self.kwargs.values()]
        shown = ", ".join(f"{name} = {show(values[place])}" for name, place in self.given)
        start = f"given to call {index}: "
        try:
            notes = getattr(error, "__notes__", ())
            before = [note for note in notes if not note.startswith("given to call ")]
            error.__notes__ = [*before, f"{start}{shown}"]
        except Exception:  # a user's exception class may refuse notes
            return


class _Unpickler(pickle.Unpickler):
    """Puts the values of calls, and containers with such values, in their places."""

    def __init__(self, content: bytes, values: Values) -> None:
        super().__init__(io.BytesIO(content))
        self._values = values

    def persistent_load(self, pid: Any) -> Any:
        kind, *rest = pid
        if kind == "call":
            return self._values.value_of(*rest)
        if kind == "lit":
            return rest[0]
        if kind == "item":
            return _item(*rest)
        if kind == "shared":
            return _Unpickler(self._values.gather(*rest), self._values).load()
        return _build(*rest)


def _item(whole: Any, number: int, count: int, shown: str) -> Any:
    try:
        items = tuple(whole)
    except TypeError as error:
        raise TypeError(
            f"{shown} returned {show(whole)}, and was unpacked to {count} values: {safe_str(error)}"
        ) from error
    if len(items) != count:
        raise ValueError(f"{shown} returned {len(items)} values; it was unpacked to {count}")
    return items[number]


def _build(
    kind: str, build: Callable[[list[Any]], Any], parts: list[Any], keys: Sequence[tuple[int, str]]
) -> Any:
    try:
        return build(parts)
    except Exception as error:
        for place, shown in keys:
            try:
                hash(parts[place])
            except TypeError:
                raise TypeError(
                    f"the value of {shown} is a key of a {kind}, "
                    f"and can't be one: {safe_str(error)}"
                ) from error
        raise


def load_planned(content: bytes, values: Values) -> Planned:
    """Load the arguments of a planned call."""
    return Planned(*_Unpickler(content, values).load())
