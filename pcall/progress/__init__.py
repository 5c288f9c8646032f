"""Displays of a run's progress, and the types for writing one.

.. code-block:: python

    from pcall import Pcall
    from pcall.progress import ConsoleProgress, HtmlProgress

    Shown = Pcall.options(progress=[ConsoleProgress(), HtmlProgress("run.html")])

``progress=True`` chooses: a notebook's output, a terminal, or plain lines on stderr.
"""

from pcall._core.records import Event, Observer
from pcall.progress.console import ConsoleProgress
from pcall.progress.html import HtmlProgress
from pcall.progress.log_lines import LogProgress
from pcall.progress.notebook import NotebookProgress

__all__ = [
    "ConsoleProgress",
    "Event",
    "HtmlProgress",
    "LogProgress",
    "NotebookProgress",
    "Observer",
]
