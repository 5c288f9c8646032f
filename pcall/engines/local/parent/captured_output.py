"""Captures what children write to stdout and stderr: in files in memory, two for each child.

The descriptors 1 and 2 of a child are its output files, so that the programs that it starts write
there, too. Its ``sys.stdout`` and ``sys.stderr`` write to these descriptors without a buffer: what
was printed survives any death of the child. A silent call takes two empty files.
"""

from __future__ import annotations

import fcntl
import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pcall._core.captured import SILENCE, Captured, decode_output
from pcall._core.outcome_store import OutcomeStore
from pcall._core.records import Outcome
from pcall._os.signals import DeferSignals
from pcall._os.system import Steps, System
from pcall._wire.exception_codec import safe_str
from pcall._wire.result_table import OutputColumns
from pcall.engines.local.std_streams import flush_std_streams

__all__ = [
    "GroupWriter",
    "capture_inline",
    "make_output_files",
    "make_output_steps",
    "output_streams",
    "read_all",
    "read_call",
    "read_rest",
    "redirect_steps",
]

_log = logging.getLogger("pcall")
# Bytes of an output file that are read at a time.
_PIECE = 1 << 20


# ------------------------------------------------------------------ for the child


def make_output_files(system: System) -> tuple[int, int]:
    """Files for stdout and stderr of one child."""
    stdout = system.make_answer_file()
    try:
        stderr = system.make_answer_file()
    except OSError:
        os.close(stdout)
        raise
    for fd in (stdout, stderr):
        os.ftruncate(fd, 0)  # some systems reserve room in it
        # Several processes write, perhaps by descriptors with positions of their own.
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return stdout, stderr


def output_streams() -> dict[str, io.TextIOBase]:
    """Streams of the descriptors 1 and 2, by their names in ``sys``."""
    streams: dict[str, io.TextIOBase] = {}
    for fd, name in ((1, "stdout"), (2, "stderr")):
        raw = io.FileIO(fd, "w", closefd=False)
        raw.name = f"<{name}>"
        unbuffered: Any = raw
        streams[name] = streams[f"__{name}__"] = io.TextIOWrapper(
            unbuffered, encoding="utf-8", errors="backslashreplace", write_through=True
        )
    return streams


def make_output_steps() -> Steps:
    """The steps by which children take over the streams; made once for all children of a run."""
    return ((vars(sys).update, output_streams()),)


def redirect_steps(fds: tuple[int, int]) -> Steps:
    """The steps by which one child takes over its output files."""
    return ((os.dup2, fds[0], 1), (os.dup2, fds[1], 2))


# ------------------------------------------------------------------ in the parent


def read_all(fds: tuple[int, int] | None) -> Captured | None:
    """All that was written to these files; None without files."""
    if fds is None:
        return None
    sizes = [os.fstat(fd).st_size for fd in fds]
    if not any(sizes):
        return SILENCE
    return Captured(*(_read(fd, 0, size) for fd, size in zip(fds, sizes, strict=True)))


def read_call(fds: tuple[int, int], columns: OutputColumns, index: int, system: System) -> Captured:
    """What a call has written that has answered, and free the memory of it."""
    out, err = columns.begin_out[index], columns.begin_err[index]
    end_out, end_err = columns.end_out[index], columns.end_err[index]
    if out == end_out and err == end_err:
        return SILENCE
    captured = Captured(_read(fds[0], out, end_out), _read(fds[1], err, end_err))
    for fd, begin, end in ((fds[0], out, end_out), (fds[1], err, end_err)):
        if begin < end:
            system.free_range(fd, begin, end - begin)
    return captured


def read_rest(fds: tuple[int, int], begin: tuple[int, int]) -> Captured:
    """What was written from these positions on, by a call that has not answered."""
    ends = [os.fstat(fd).st_size for fd in fds]
    return Captured(*(_read(fd, *place) for fd, *place in zip(fds, begin, ends, strict=True)))


def _read(fd: int, begin: int, end: int) -> str:
    pieces = []
    while begin < end:
        piece = os.pread(fd, min(_PIECE, end - begin), begin)
        if not piece:
            break  # a program has truncated it
        pieces.append(piece)
        begin += len(piece)
    return decode_output(b"".join(pieces))


class GroupWriter:
    """Writes the output of calls to the streams of this process, each call's whole, in call order.

    Args:
        outcomes: of the run.
    """

    def __init__(self, outcomes: OutcomeStore) -> None:
        self._outcomes = outcomes
        self._streams: list[Any] = [sys.stdout, sys.stderr]
        self._lock = threading.RLock()
        self._next = 0
        self._writing = False

    def advance(self) -> None:
        """Write the output of the calls that are over, and before which all are over."""
        with self._lock:
            if self._writing:
                return  # a signal handler has used the run while it writes
            self._writing = True
            try:
                while self._next < len(self._outcomes) and self._outcomes.has(self._next):
                    index, self._next = self._next, self._next + 1
                    for number, text in enumerate(self._outcomes.output(index) or ()):
                        if text:
                            self._write(number, text)
            finally:
                self._writing = False

    def write_call(self, outcome: Outcome) -> None:
        """Write the output of this call now, whatever the order."""
        with self._lock:
            for number, text in enumerate((outcome.stdout, outcome.stderr)):
                if text:
                    self._write(number, text)

    def _write(self, number: int, text: str) -> None:
        stream = self._streams[number]
        if stream is None:
            return
        try:
            encoding = getattr(stream, "encoding", None) or "utf-8"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()
        except Exception as error:  # it was closed since, perhaps; that harms no call
            self._streams[number] = None
            _log.warning(
                "the output of calls could not be written to sys.%s: %s",
                Captured._fields[number],
                safe_str(error),
            )


@contextmanager
def capture_inline(system: System) -> Iterator[list[Captured]]:
    """Capture what this process writes in this block, where a call runs without a child.

    Other threads of the process write there as well meanwhile.

    Args:
        system: makes the files.

    Yields:
        A list that has the output after the block.
    """
    found: list[Captured] = []
    with DeferSignals() as deferred:
        fds = make_output_files(system)
        saved = [_duplicate(1), _duplicate(2)]
        old = {name: getattr(sys, name) for name in ("stdout", "stderr")}
        try:
            flush_std_streams()
            os.dup2(fds[0], 1)
            os.dup2(fds[1], 2)
            streams = output_streams()
            vars(sys).update({name: streams[name] for name in old})
            try:
                deferred.deliver()
                yield found
            finally:
                deferred.hold()
        finally:
            flush_std_streams()
            vars(sys).update(old)
            flush_std_streams()
            for number, fd in enumerate(saved, 1):
                if fd is None:
                    os.close(number)
                else:
                    os.dup2(fd, number)
                    os.close(fd)
            found.append(read_all(fds) or SILENCE)
            for fd in fds:
                os.close(fd)


def _duplicate(fd: int) -> int | None:
    try:
        return os.dup(fd)
    except OSError:
        return None  # it is closed
