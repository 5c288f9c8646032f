"""Progress in the output of a notebook's cell."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from pcall.progress.display import Display
from pcall.progress.markup import STYLE, FailuresMarkup, figures_markup
from pcall.progress.plain import one_line
from pcall.progress.wording import clean, duration, plural

__all__ = ["NotebookProgress"]


class NotebookProgress(Display):
    """Progress in a notebook (extra ``[notebook]``).

    The cell that waits for the run shows its figures, and below them the groups of equal
    exceptions. Each group can be opened, and in it each exception, up to 200 in all. An update
    closes open groups, so they are redrawn only after new failures.

    Raises:
        ImportError: IPython is not installed.
    """

    _interval = 0.4
    _keep = 200

    def __init__(self) -> None:
        super().__init__()
        if importlib.util.find_spec("IPython") is None:
            raise ImportError("NotebookProgress needs IPython: pip install 'pcall[notebook]'")

    def _open(self) -> None:
        from IPython import get_ipython

        if get_ipython() is None:
            raise RuntimeError("NotebookProgress needs a notebook, and this process is not in one")
        self._markup = FailuresMarkup()
        self._figures: Callable[[dict[str, str]], None] | None = None
        self._groups: Callable[[dict[str, str]], None] | None = None
        self._shown = 0  # failures

    def _draw(self, now: float) -> None:
        state = self._state
        ended = "ended after" if state.ended is not None else "running for"
        table = figures_markup(state, now)
        html = f'{table}<p class="note">{ended} {duration(state.elapsed(now))}</p>'
        self._figures = _show(self._figures, html, clean(one_line(state, now)))
        failures = state.failures
        if failures.count > self._shown:
            self._shown = failures.count
            text = plural(failures.count, "failed attempt")
            html = f"<b>{text}</b>{self._markup.make(failures)}"
            self._groups = _show(self._groups, html, text)

    def _close(self, now: float) -> None:
        self._draw(now)


def _show(
    update: Callable[[dict[str, str]], None] | None, html: str, text: str
) -> Callable[[dict[str, str]], None]:
    """Show an output in place of an earlier one, or as a new one.

    Args:
        update: replaces the earlier output; None: there is none.
        html: the output as HTML.
        text: the output as plain text.

    Returns:
        A function that replaces the output.
    """
    from IPython.display import display

    data = {
        "text/html": f'<style>{STYLE}</style><div class="pcall">{html}</div>',
        "text/plain": text,
    }
    if update is not None:
        update(data)
        return update
    handle: Any = display(data, raw=True, display_id=True)

    def replace(data: dict[str, str]) -> None:
        handle.update(data, raw=True)

    return replace
