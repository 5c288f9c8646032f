"""Progress on a terminal, redrawn continuously; plain lines on any other stream."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import sys
import time
from numbers import Real
from typing import Any, TextIO

from pcall.progress.display import Display
from pcall.progress.plain import Style, frame, in_full, one_line, summary
from pcall.progress.pretty import LEAST_WIDTH, rich_frame
from pcall.progress.terminal import Terminal
from pcall.progress.wording import clean

__all__ = ["ConsoleProgress"]

_WIDTH = 100  # of plain lines


class ConsoleProgress(Display):
    """Progress on the console.

    On a terminal the figures are redrawn several times a second, below any other output. Elsewhere
    (a file, a pipe, ``TERM=dumb``, and in a child) a plain line is printed from time to time,
    without control characters. Each group of equal exceptions is printed once, with its traceback,
    and a summary at the end. ``NO_COLOR`` turns colours off.

    Args:
        stream: the text stream to write to; default: the value of ``sys.stderr`` when the run
            starts.
        interval: seconds between two plain lines; default 10. A failure is printed earlier.
        rich: True to draw with the package ``rich`` (extra ``[rich]``); default None: if it is
            installed.

    Raises:
        TypeError: the interval is not a number, or the stream has no method ``write``.
        ValueError: the interval is not above zero.
        ImportError: ``rich=True``, and the package is not installed.
    """

    def __init__(
        self, stream: TextIO | None = None, *, interval: float = 10.0, rich: bool | None = None
    ) -> None:
        super().__init__()
        if stream is not None and not callable(getattr(stream, "write", None)):
            raise TypeError(f"stream must have a method write, not {stream!r}")
        given: Any = interval
        if isinstance(given, bool) or not isinstance(given, Real):
            raise TypeError(f"interval must be a number of seconds, not {interval!r}")
        if not interval > 0:
            raise ValueError(f"interval must be above zero seconds, not {interval!r}")
        if rich is None:
            rich = importlib.util.find_spec("rich") is not None
        elif rich and importlib.util.find_spec("rich") is None:
            raise ImportError("rich=True needs the package rich: pip install 'pcall[rich]'")
        self._chosen_stream = stream
        self._line_interval = interval
        self._rich = rich

    def _open(self) -> None:
        stream = sys.stderr if self._chosen_stream is None else self._chosen_stream
        self._stream: TextIO | None = stream  # None in a process without one
        self._terminal: Terminal | None = None
        self._printed = 0  # groups
        # The replacements of stderr by pytest, notebooks and others may lack any of these.
        encoding = getattr(stream, "encoding", None) or "ascii"
        isatty = getattr(stream, "isatty", None)
        self._interval = self._line_interval
        live = stream is not None and isatty is not None and isatty()
        live = live and os.environ.get("TERM", "dumb") != "dumb"
        if stream is not None and live and multiprocessing.parent_process() is None:
            self._terminal = Terminal(stream)
            self._interval = 0.25 if self._rich else 0.1
        else:
            self._drawn = time.monotonic()
        colour = self._terminal is not None and not os.environ.get("NO_COLOR")
        self._style = Style(colour, encoding)

    def _draw(self, now: float) -> None:
        new_groups = self._new_groups()
        if self._terminal is None:
            line = clean(one_line(self._state, now), self._style.encoding)
            self._print("\n".join([*new_groups, line]))
            return
        columns, rows = self._terminal.size()
        # Leave some room: for the line of the cursor above the frame, and because a terminal that
        # shrinks before the frame is written would wrap the lines.
        width, height = max(1, columns - 1), max(1, rows - 2)
        draw = rich_frame if self._rich and width >= LEAST_WIDTH else frame
        lines = draw(self._state, now, width, height, self._style)
        self._terminal.draw(lines, above="\n".join(new_groups))

    def _close(self, now: float) -> None:
        new_groups = self._new_groups()
        width = _WIDTH if self._terminal is None else max(1, self._terminal.size()[0] - 1)
        lines = [*new_groups, *summary(self._state, now, width, self._style)]
        if self._terminal is not None:
            self._terminal.close("\n".join(lines))
        else:
            self._print("\n".join(lines))

    def _new_groups(self) -> list[str]:
        """The groups that are new since the last call, each in full."""
        groups = self._state.failures.groups[self._printed :]
        self._printed += len(groups)
        return [clean(in_full(group), self._style.encoding) for group in groups]

    def _print(self, text: str) -> None:
        if self._stream is not None:
            self._stream.write(text + "\n")
            self._stream.flush()
