"""A log file in the format that test engineers know, one line per message.

.. code-block:: python

    import logging
    from pcall.tasklog import TaskLogHandler

    logging.getLogger().addHandler(TaskLogHandler("task.log"))

    # 2: SERVER: 2018-10-09T13:47:46: %SCRIPT-6-INFO: message

Calls need neither of these classes: the logs of children are merged for every file handler.
"""

from __future__ import annotations

import itertools
import logging
import os
import re

__all__ = ["TaskLogFormatter", "TaskLogHandler"]

# The severities of syslog (RFC 5424), by the lowest level that each covers.
_SEVERITIES = ((50, 2), (40, 3), (30, 4), (25, 5), (20, 6))
_DEBUG = 7


class TaskLogFormatter(logging.Formatter):
    """Formats a record as ``counter: host: time: %FACILITY-severity-LEVEL: message``.

    - The counter belongs to this formatter and starts at 0. A forked process continues with the
      number that its parent had reached.
    - The time is local, in ISO 8601, to the second.
    - The facility is ``SCRIPT`` for the root logger and ``__main__``, ``LOG`` for the messages of
      ``pcall`` itself, and otherwise the first part of the logger's name in capitals.
    - The severity is that of syslog: 2 critical, 3 error, 4 warning, 5 from level 25 on,
      6 info, 7 debug.

    A traceback follows on separate lines, as with any formatter.
    """

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self._counter = itertools.count()
        self._host = os.uname().nodename

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format a record whose ``message`` has been set."""
        severity = next((s for level, s in _SEVERITIES if record.levelno >= level), _DEBUG)
        return (
            f"{next(self._counter)}: {self._host}: {self.formatTime(record)}: "
            f"%{_facility(record.name)}-{severity}-{record.levelname}: {record.message}"
        )


class TaskLogHandler(logging.FileHandler):
    """A ``logging.FileHandler`` that formats with :class:`TaskLogFormatter`.

    Args:
        filename: path of the log file.
        mode: ``"a"``, the default, appends to the file; ``"w"`` truncates it.
        encoding: of the file.
        delay: True to open the file only when the first record is logged.
        errors: how to treat characters that can't be encoded, as for ``open``.
    """

    def __init__(
        self,
        filename: str | os.PathLike[str],
        mode: str = "a",
        encoding: str | None = "utf-8",
        delay: bool = False,
        errors: str | None = None,
    ) -> None:
        super().__init__(filename, mode, encoding, delay, errors)
        self.setFormatter(TaskLogFormatter())


def _facility(name: str) -> str:
    first = name.partition(".")[0]
    if first in ("root", "__main__", ""):
        return "SCRIPT"
    return "LOG" if first == "pcall" else re.sub(r"\W", "_", first).upper()
