"""Printed text and warnings that this process keeps in objects, and that its children send home.

Where ``sys.stdout`` or ``sys.stderr`` is no file with a descriptor (pytest's ``capsys``,
``redirect_stdout``, a notebook's ``%%capture``), text that a child writes to its copy of the object
is lost with the child. The same holds for warnings while ``warnings.catch_warnings(record=True)``
keeps them in a list. So a child sends both home, as frames of the file that log records use, and
the parent passes them to its own object in call order.
"""

from __future__ import annotations

import contextlib
import io
import logging
import pickle
import sys
import warnings
from typing import Any, Protocol

from pcall._logs.child_logs import Whoami
from pcall._logs.record_frames import write_frame
from pcall._wire.exception_codec import dump_exception, load_exception, safe_str

__all__ = ["Printed", "find_printed"]

_log = logging.getLogger("pcall")


class Printed(Protocol):
    """An object of this process that its children have to send something to."""

    def replace(self, fd: int, number: int, whoami: Whoami) -> tuple[Any, dict[str, Any]]:
        """The change that has a child send it home: a method to call, and its argument.

        Args:
            fd: descriptor of the file for frames.
            number: identifies this object in a frame.
            whoami: identifies a child and its call.
        """

    def deliver(self, payload: bytes) -> None:
        """In the parent: pass on what a child has sent."""


def find_printed(text: bool = True) -> list[Printed]:
    """The objects that keep in this process what is printed, or warned of, now.

    Args:
        text: False: of warnings alone, since printed text is captured by other means.
    """
    found: list[Printed] = []
    for name in ("stdout", "stderr") if text else ():
        stream = getattr(sys, name, None)
        if stream is not None and not _has_descriptor(stream):
            found.append(_PrintedText(name, stream))
    show: Any = getattr(warnings, "_showwarnmsg_impl", None)
    if isinstance(getattr(show, "__self__", None), list):
        found.append(_RecordedWarnings(show))
    return found


def _has_descriptor(stream: Any) -> bool:
    try:
        return bool(stream.fileno() >= 0) or stream.closed
    except Exception:  # a stream that is no file of the system may raise anything
        # To write to a closed stream fails in the child as it does here.
        return getattr(stream, "closed", False) is True


# ------------------------------------------------------------------ text


class _PrintedText:
    """A stream without a descriptor.

    Args:
        name: of the stream in ``sys``.
        stream: the object.
    """

    def __init__(self, name: str, stream: Any) -> None:
        self._name = name
        self._stream = stream
        self._failed = False

    def replace(self, fd: int, number: int, whoami: Whoami) -> tuple[Any, dict[str, Any]]:
        sender = _TextSender(self._stream, fd, number, whoami)
        return vars(sys).update, {self._name: sender}

    def deliver(self, payload: bytes) -> None:
        if self._failed:
            return
        try:
            self._stream.write(payload.decode("utf-8", "surrogatepass"))
        except Exception as error:  # it was closed since, perhaps; that harms no call
            self._failed = True
            _log.warning(
                "the text that calls have written to sys.%s is lost: %s",
                self._name,
                safe_str(error),
            )


class _TextSender(io.TextIOBase):
    """In a child: takes the place of a stream of the parent, and sends home what is written.

    Whatever else it is asked for, the child's copy of the stream answers.

    Args:
        stream: the parent's.
        fd: descriptor of the file for frames.
        number: identifies the stream in a frame.
        whoami: identifies the child and its call.
    """

    def __init__(self, stream: Any, fd: int, number: int, whoami: Whoami) -> None:
        self._stream = stream
        self._fd, self._number, self._whoami = fd, number, whoami
        if hasattr(stream, "buffer"):
            self.buffer = _ByteSender(self)

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":  # in an object that is being made
            raise AttributeError(name)
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return getattr(self._stream, "errors", None)

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"string argument expected, got {type(text).__name__!r}")
        if text:
            _, call, _ = self._whoami()
            write_frame(self._fd, call, self._number, text.encode("utf-8", "surrogatepass"))
        return len(text)

    def close(self) -> None:
        """Stay open: the parent's stream is not closed either."""


class _ByteSender(io.RawIOBase):
    """In a child: the ``buffer`` of a :class:`_TextSender`."""

    def __init__(self, text: _TextSender) -> None:
        self._text = text

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        content = bytes(data)
        self._text.write(content.decode(self._text.encoding, "backslashreplace"))
        return len(content)


# ------------------------------------------------------------------ warnings


class _RecordedWarnings:
    """The list that warnings are recorded in.

    Args:
        show: appends to it.
    """

    def __init__(self, show: Any) -> None:
        self._show = show

    def replace(self, fd: int, number: int, whoami: Whoami) -> tuple[Any, dict[str, Any]]:
        def send(message: warnings.WarningMessage) -> None:
            _, call, _ = whoami()
            # A warning must not fail the call.
            with contextlib.suppress(Exception):
                write_frame(fd, call, number, _pack(message))

        return vars(warnings).update, {"_showwarnmsg_impl": send}

    def deliver(self, payload: bytes) -> None:
        dumped, builtin, *place = pickle.loads(payload)
        warning = load_exception(dumped)
        if not isinstance(warning, Warning):  # its class exists in the child alone
            warning = builtin(str(warning))
        filename, lineno, line = place
        self._show(
            warnings.WarningMessage(warning, type(warning), filename, lineno, None, line, None)
        )


def _pack(message: warnings.WarningMessage) -> bytes:
    warning: Any = message.message
    category = message.category
    if not isinstance(warning, Warning):
        warning = category(warning)
    builtin = next(each for each in category.__mro__ if each.__module__ == "builtins")
    place = (message.filename, message.lineno, message.line)
    return pickle.dumps((dump_exception(warning), builtin, *place), protocol=5)
