"""Merges a child's log into the main log, as one section.

.. code-block:: text

    >>>> Begin child log /var/log/main.log:pid-88466
    ...
    <<<< End child log /var/log/main.log:pid-88466
"""

from __future__ import annotations

import codecs
import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pcall._os.signals import DeferSignals
from pcall._tuning import LOG_COPY_SIZE

__all__ = ["Section", "concatenate_section", "merge_section"]

_BOMS = {
    "utf-8-sig": (codecs.BOM_UTF8,),
    "utf-16": (codecs.BOM_UTF16,),
    "utf-32": (codecs.BOM_UTF32,),
}


@dataclass
class Section:
    """A section of the main log.

    Attributes:
        title: the path in its first and last line.
        file: path of the child's file, which may not exist.
        ending: a line about the child's end, or None if it exited by itself.
        written: True once it is in the main log.
    """

    title: str
    file: str
    ending: str | None
    written: bool = False


def merge_section(handler: logging.FileHandler, section: Section) -> None:
    """Write a section, then remove the child's file.

    It is not interrupted by a signal: else a later attempt would write a part of it again.

    Args:
        handler: of the main log.
        section: the section to write.

    Raises:
        OSError: the section could not be written completely. The child's file is kept.
    """
    with contextlib.ExitStack() as stack:
        try:
            with DeferSignals():  # an interrupt in the opener would lose its descriptor
                source = stack.enter_context(open(section.file, "rb", opener=_open_no_link))
        except FileNotFoundError:
            source = None
        writer = stack.enter_context(_writer(handler))  # waits for its lock, which may be held
        stack.enter_context(DeferSignals())
        _write_line(writer, logging.INFO, ">>>> Begin child log %s", section.title)
        # Without this, the section's last line could be the first line of the next file.
        stack.enter_context(_replaced(writer, "shouldRollover", lambda record: False))
        if source is not None:
            _copy(source, writer)
        if section.ending is not None:
            _write_line(writer, logging.ERROR, "%s", section.ending)
        _write_line(writer, logging.INFO, "<<<< End child log %s", section.title)
        section.written = True
        if source is not None:
            os.unlink(section.file)


def concatenate_section(handler: Any, section: Section) -> None:
    """Have a handler with a method ``concatenateLog(path)`` take in a section.

    The child may have written the first line of the section itself, when it switched to its file.

    Args:
        handler: of the main log.
        section: the section. Its file exists, and is removed.
    """
    with contextlib.ExitStack() as stack:
        handler.acquire()
        stack.callback(handler.release)
        stack.enter_context(DeferSignals())
        _end_last_line(section.file)
        if not _begins_with_mark(section):
            _write_line(handler, logging.INFO, ">>>> Begin child log %s", section.title)
        handler.concatenateLog(section.file)
        if section.ending is not None:
            _write_line(handler, logging.ERROR, "%s", section.ending)
        _write_line(handler, logging.INFO, "<<<< End child log %s", section.title)
        section.written = True
        with contextlib.suppress(FileNotFoundError):
            os.unlink(section.file)


def _end_last_line(path: str) -> None:
    """Add a newline where the child was killed within a line."""
    with open(path, "rb+", opener=_open_no_link) as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _begins_with_mark(section: Section) -> bool:
    with open(section.file, "rb", opener=_open_no_link) as file:
        return b">>>> Begin child log " + os.fsencode(section.title) in file.readline(LOG_COPY_SIZE)


def _open_no_link(path: str, flags: int) -> int:
    """Open the file of a child, and nothing that a link in its place points to."""
    return os.open(path, flags | os.O_NOFOLLOW)


@contextlib.contextmanager
def _writer(handler: logging.FileHandler) -> Iterator[logging.FileHandler]:
    """The handler, locked; if it has been closed meanwhile, a new one like it."""
    if not getattr(handler, "_closed", False):
        handler.acquire()
        try:
            yield handler
        finally:
            handler.release()
        return
    other = logging.FileHandler(
        handler.baseFilename, "a", encoding=handler.encoding, errors=handler.errors, delay=True
    )
    other.setFormatter(handler.formatter)
    other.terminator = handler.terminator
    try:
        yield other
    finally:
        other.close()


@contextlib.contextmanager
def _replaced(handler: logging.Handler, name: str, value: Any) -> Iterator[None]:
    """Replace a method of this handler only. The caller holds its lock."""
    fields = vars(handler)
    missing = object()
    before = fields.get(name, missing)
    fields[name] = value
    try:
        yield
    finally:
        if before is missing:
            del fields[name]
        else:
            fields[name] = before


def _write_line(handler: logging.FileHandler, level: int, message: str, *args: object) -> None:
    """Write a line of this library's own, bypassing the handler's level and filters."""
    record = _make_record(level, message, args)
    if (error := _emit(handler, record)) is None:
        return
    if not isinstance(error, OSError):
        # The format needs a field that one of the handler's filters adds to records.
        with contextlib.suppress(Exception):
            handler.filter(record)
        if (error := _emit(handler, record)) is None:
            return
    if not isinstance(error, OSError):
        stream: Any = handler.stream
        stream.write(message % args + handler.terminator)
        stream.flush()
        return
    raise error


def _make_record(level: int, message: str, args: tuple[object, ...]) -> logging.LogRecord:
    """A record of this library, made as the logger itself makes one.

    So a factory that the user has installed is called with all that it may rely on. A section is
    not lost for one that fails.
    """
    place = (__file__, 0, message, args, None, "merge_section", None, None)
    try:
        return logging.getLogger("pcall").makeRecord("pcall", level, *place)
    except Exception:
        return logging.LogRecord("pcall", level, *place[:6])


def _emit(handler: logging.FileHandler, record: logging.LogRecord) -> BaseException | None:
    errors: list[BaseException | None] = []
    with _replaced(handler, "handleError", lambda _: errors.append(sys.exc_info()[1])):
        try:
            handler.emit(record)
        except Exception as error:
            return error
    return errors[0] if errors else None


def _copy(source: Any, handler: logging.FileHandler) -> None:
    """Append the file's bytes, without a byte order mark and with a newline at the end."""
    stream: Any = handler.stream
    marks = _BOMS.get(codecs.lookup(stream.encoding).name, ())
    newline = "\n".encode(stream.encoding)
    for mark in marks:
        newline = newline.removeprefix(mark)
    fd = stream.fileno()
    last = newline
    first = True
    while data := source.read(LOG_COPY_SIZE):
        if first:
            for mark in marks:
                data = data.removeprefix(mark)
            first = False
        view = memoryview(data)
        while view:
            # Bypass the stream: on a full disk it would keep the bytes in its buffer, and write
            # them later.
            view = view[os.write(fd, view) :]
        last = data[-len(newline) :] or last
    if last != newline:
        os.write(fd, newline)
