"""Draws the lines of :mod:`pcall.progress.plain` with the package ``rich`` (extra ``[rich]``).

Only its drawing is used. Its live display replaces ``sys.stdout`` and starts a thread, which a
process that forks should avoid.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from pcall.progress.plain import Style, call_pieces, flow, most_frequent, name_of, sorted_scopes
from pcall.progress.progress_state import Figures, State
from pcall.progress.wording import amount, clean, duration, rate

if TYPE_CHECKING:  # the package is optional, and imported when it is first used
    from rich.table import Table
    from rich.text import Text

__all__ = ["LEAST_WIDTH", "rich_frame"]

# Columns that a table of figures needs; the plain drawing needs fewer.
LEAST_WIDTH = 60


def rich_frame(state: State, now: float, width: int, height: int, style: Style) -> list[str]:
    """The lines for a terminal of this size while the run goes on."""
    from rich.console import Console, Group
    from rich.text import Text

    groups = most_frequent(state.failures.groups, min(3, height // 4))
    scopes = sorted_scopes(state, now)
    if len(scopes) != 1:
        scopes.insert(0, state.total(now))
    # The figures that the table of a single scope leaves out get lines of their own.
    lines = flow(call_pieces(scopes[0]), width, style) if len(scopes) == 1 else []
    room = max(1, height - len(groups) - len(lines) - 2)
    parts: list[Table | Text] = [_table(scopes[:room], width, style)]
    parts += [Text.from_ansi(line) for line in lines]
    if len(scopes) > room:
        parts.append(Text(f"and {len(scopes) - room} more", "dim"))
    for group in groups:
        line = f"{group.count} x {group.title}"
        text = Text(clean(line, style.encoding).replace("\n", " "), "red")
        text.truncate(width, overflow="ellipsis")
        parts.append(text)
    file = io.StringIO()
    console = Console(
        file=file,
        width=width,
        height=height,
        force_terminal=True,
        color_system="standard" if style.colour else None,
        no_color=not style.colour,
        legacy_windows=False,
        safe_box=not style.blocks,
        highlight=False,
        emoji=False,
        markup=False,
    )
    console.print(Group(*parts), no_wrap=True, crop=True)
    return [line.rstrip() for line in file.getvalue().rstrip("\n").split("\n")][:height]


def _table(scopes: list[Figures], width: int, style: Style) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("", no_wrap=True, max_width=max(8, width // 4), style="bold")
    table.add_column("", ratio=1, no_wrap=True, min_width=8)
    columns = _columns(scopes, width)
    for name, _ in columns:
        table.add_column(name, justify="right", no_wrap=True)
    taken = sum(1 + max(len(name), *map(len, cells)) for name, cells in columns)
    names = [clean(name_of(figures.scope), style.encoding) for figures in scopes]
    longest = min(max(8, width // 4), max(map(len, names), default=0))
    bar_width = max(8, width - taken - longest - 2)
    for row, figures in enumerate(scopes):
        bar = Text.from_ansi(style.bar(figures, bar_width))
        cells = [Text(cells[row], _COLOURS.get(name, "")) for name, cells in columns]
        table.add_row(Text(names[row]), bar, *cells)
    return table


_COLOURS = {"failed": "red", "retried": "yellow", "skipped": "yellow", "running": "cyan"}


def _columns(scopes: list[Figures], width: int) -> list[tuple[str, list[str]]]:
    """Name and cells of the columns that fit, the most important first."""
    columns = [
        ("done", [f"{each.done}/{each.total}" for each in scopes]),
        ("failed", [str(each.failed or "") for each in scopes]),
        ("running", [str(each.running or "") for each in scopes]),
        ("left", [duration(each.remaining) if each.remaining else "" for each in scopes]),
        ("rate", [rate(each.rate) if each.rate else "" for each in scopes]),
        ("retried", [str(each.retried or "") for each in scopes]),
        ("skipped", [str(each.skipped or "") for each in scopes]),
        ("elapsed", [duration(each.elapsed) if each.elapsed else "" for each in scopes]),
        ("wall/call", [_per_call(each, each.wall) for each in scopes]),
        ("cpu/call", [_per_call(each, each.cpu) for each in scopes]),
        ("peak", [amount(each.max_rss) if each.max_rss else "" for each in scopes]),
    ]
    if len(scopes) == 1:
        columns = columns[:-4]
    # Leave out empty columns, except the first two.
    columns = [c for c in columns if any(c[1]) or c[0] in ("done", "failed")]
    left = width - max(8, width // 4) - 12
    chosen = []
    for name, cells in columns:
        left -= 1 + max(len(name), *map(len, cells))
        if left < 0:
            break
        chosen.append((name, cells))
    return chosen


def _per_call(figures: Figures, seconds: float) -> str:
    return duration(seconds / figures.attempts) if figures.attempts else ""
