"""Progress as a file in the Trace Event format, which Perfetto and chrome://tracing open."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from pcall._core.records import Event, Outcome
from pcall._core.spans import Span
from pcall._wire.exception_codec import safe_str
from pcall.progress.page_paths import check_replaceable, checked_path
from pcall.progress.rows import Rows

__all__ = ["TimelineProgress"]

_BEGIN, _SEPARATOR, _END = b"[\n", b",\n", b"\n]\n"
# Colours that both viewers know by these names.
_COLOURS = {"done": "good", "failed": "terrible", "retried": "bad"}


class TimelineProgress:
    """The run as a timeline, in a file of JSON in the Trace Event format.

    Open the file at https://ui.perfetto.dev or chrome://tracing. There is a row for each reused
    worker, or for each call of those that run at once, and a bar for each attempt of a call with
    its figures. Attempts that failed, and the waits before the next one, have bars, too.

    It is written as calls end. If this process is killed, the file has the calls that had ended
    until then; only the closing bracket is missing, which the format allows. Further runs with
    this object go to the same file, on the same time axis.

    Args:
        path: of the file, which is replaced. Its folder must exist.

    Raises:
        TypeError: the path is neither a string nor path-like.
        ValueError: the path is empty or not that of a regular file, or its folder does not exist.
    """

    wants_spans = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = checked_path(path)
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._runs = 0
        self._file: Any = None
        self._size = 0  # bytes that were written, without the end
        self._rows = Rows()
        self._named = 0
        self._zero = 0.0
        self._waiting: dict[int, float] = {}  # calls that wait for an attempt, and since when

    def begin(self) -> None:
        """Note that a run starts."""
        if self._owner != os.getpid():
            return  # in a child that has inherited this object: its calls are part of a bar
        with self._lock:
            self._runs += 1
            if self._runs == 1:
                self._open()

    def observe(self, events: Sequence[Event]) -> None:
        """Write the bars of the calls that have ended."""
        if self._file is None or self._owner != os.getpid():
            return
        with self._lock:
            written = [line for event in events for line in self._lines(event)]
            names = self._rows.names[self._named :]
            rows = [self._named_row(row) for row in range(self._named, len(self._rows.names))]
            self._named += len(names)
            self._write([*rows, *written])

    def end(self) -> None:
        """Note that a run is over: the last one closes the file."""
        if not self._runs or self._owner != os.getpid():
            return
        with self._lock:
            self._runs -= 1
            if not self._runs and self._file is not None:
                file, self._file = self._file, None
                with file:
                    file.write(_END)

    # ------------------------------------------------------------ the file

    def _open(self) -> None:
        check_replaceable(self._path)
        if self._is_ours():
            self._file = open(self._path, "r+b", buffering=0)  # noqa: SIM115 - end() closes it
            self._file.truncate(self._size)
            self._file.seek(self._size)
            return
        self._rows, self._named, self._waiting = Rows(), 0, {}
        self._zero, self._size = time.monotonic(), 0
        self._file = open(self._path, "wb", buffering=0)  # noqa: SIM115 - end() closes it
        self._write([{"name": "process_name", "ph": "M", "pid": self._owner, "tid": 0, "ts": 0,
                      "args": {"name": f"pcall, process {self._owner}"}}])  # fmt: skip

    def _is_ours(self) -> bool:
        """True if this object has written the file that is there."""
        try:
            return self._size > 0 and os.path.getsize(self._path) == self._size + len(_END)
        except OSError:
            return False

    def _write(self, lines: Iterable[dict[str, Any]]) -> None:
        content = _SEPARATOR.join(json.dumps(line).encode() for line in lines)
        if not content:
            return
        content = (_SEPARATOR if self._size else _BEGIN) + content
        # In one piece: a death in between leaves no half of a line.
        while content:
            count = self._file.write(content)
            self._size += count
            content = content[count:]

    # ------------------------------------------------------------ the lines

    def _named_row(self, row: int) -> dict[str, Any]:
        name = {"name": self._rows.names[row]}
        return {"name": "thread_name", "ph": "M", "pid": self._owner, "tid": row, "ts": 0,
                "args": name}  # fmt: skip

    def _lines(self, event: Event) -> Iterable[dict[str, Any]]:
        if event.kind == "started":
            for span in event.spans:
                if event.count < 0:
                    self._rows.end(span)
                else:
                    self._rows.begin(span)
                    yield from self._wait_over(span)
        elif event.kind in _COLOURS:
            for span in event.spans:
                yield from self._wait_over(span)
                yield self._bar(event, span)
                if event.kind == "retried" and span.ended is not None:
                    self._waiting[span.index] = span.ended
        elif event.kind == "skipped":
            yield {"name": f"{event.count} skipped", "ph": "i", "s": "p", "pid": self._owner,
                   "tid": 0, "ts": self._us(event.time), "cat": "skipped"}  # fmt: skip

    def _wait_over(self, span: Span) -> Iterable[dict[str, Any]]:
        since = self._waiting.pop(span.index, None)
        if since is not None:
            common = {"name": f"{span.name} waits for its next attempt", "cat": "wait",
                      "id": span.index, "pid": self._owner, "tid": 0}  # fmt: skip
            yield {**common, "ph": "b", "ts": self._us(since)}
            yield {**common, "ph": "e", "ts": self._us(max(since, span.began))}

    def _bar(self, event: Event, span: Span) -> dict[str, Any]:
        ended = event.time if span.ended is None else span.ended
        begin = self._us(span.began)
        figures = {
            "call": span.index,
            "scope": " / ".join(event.scope),
            "attempt": span.attempt,
            "result": event.kind,
            "pid": span.pid,
            "cpu (s)": span.cpu,
            "peak memory (bytes)": span.max_rss,
            "error": _error_of(event.outcome),
        }
        return {
            "name": span.name,
            "cat": event.kind,
            "ph": "X",
            "ts": begin,
            "dur": max(0.0, round(self._us(ended) - begin, 3)),
            "pid": self._owner,
            "tid": self._rows.end(span),
            "cname": _COLOURS[event.kind],
            "args": {name: value for name, value in figures.items() if value is not None},
        }

    def _us(self, moment: float) -> float:
        """Microseconds from the begin of the file."""
        return round(max(0.0, moment - self._zero) * 1e6, 3)


def _error_of(outcome: Outcome | None) -> str | None:
    error = None if outcome is None else outcome.error
    return None if error is None else f"{type(error).__name__}: {safe_str(error)}"[:300]
