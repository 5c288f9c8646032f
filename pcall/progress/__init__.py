"""Displays of a run's progress, and the types for writing one.

.. code-block:: python

    from pcall import Pcall
    from pcall.progress import ConsoleProgress, HtmlProgress

    Shown = Pcall.options(progress=[ConsoleProgress(), HtmlProgress("run.html")])

``progress=True`` chooses: a notebook's output, a terminal, or plain lines on stderr.
"""

import typing as _typing

from pcall._lazy import lazy_names as _lazy_names

if _typing.TYPE_CHECKING:
    from pcall._core.records import Event, Observer
    from pcall._core.spans import Span
    from pcall.progress.console import ConsoleProgress
    from pcall.progress.html import HtmlProgress
    from pcall.progress.log_lines import LogProgress
    from pcall.progress.notebook import NotebookProgress
    from pcall.progress.timeline import TimelineProgress
else:
    __getattr__, __dir__ = _lazy_names(
        globals(),
        {
            "pcall._core.records": ("Event", "Observer"),
            "pcall.progress.console": ("ConsoleProgress",),
            "pcall.progress.html": ("HtmlProgress",),
            "pcall.progress.log_lines": ("LogProgress",),
            "pcall.progress.notebook": ("NotebookProgress",),
            "pcall._core.spans": ("Span",),
            "pcall.progress.timeline": ("TimelineProgress",),
        },
    )

__all__ = [
    "ConsoleProgress",
    "Event",
    "HtmlProgress",
    "LogProgress",
    "NotebookProgress",
    "Observer",
    "Span",
    "TimelineProgress",
]
