"""Progress as log records."""

from __future__ import annotations

import logging
import time

from pcall.progress.display import Display
from pcall.progress.plain import Style, in_full, one_line, summary
from pcall.progress.wording import clean

__all__ = ["LogProgress"]


class LogProgress(Display):
    """Progress as lines through the logger ``pcall.progress``, at level INFO.

    It logs a line from time to time, one with the traceback for each group of equal exceptions, and
    a summary at the end. It does not configure logging: where the level INFO is disabled, nothing
    appears.

    Args:
        interval: seconds between two lines; default 10. A failure is logged earlier.

    Raises:
        TypeError: the interval is not a number.
        ValueError: the interval is not above zero.
    """

    def __init__(self, *, interval: float = 10.0) -> None:
        super().__init__()
        if not interval > 0:
            raise ValueError(f"interval must be above zero seconds, not {interval!r}")
        self._interval = interval

    def _open(self) -> None:
        self._logger = logging.getLogger("pcall.progress")
        self._reported = 0  # groups
        self._drawn = time.monotonic()

    def _draw(self, now: float) -> None:
        self._report_groups()
        self._logger.info("%s", clean(one_line(self._state, now)))

    def _close(self, now: float) -> None:
        self._report_groups()
        for line in summary(self._state, now, 100, Style(encoding="utf-8")):
            self._logger.info("%s", clean(line))

    def _report_groups(self) -> None:
        groups = self._state.failures.groups
        for group in groups[self._reported :]:
            self._logger.info("%s", clean(in_full(group)))
        self._reported = len(groups)
