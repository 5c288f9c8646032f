"""Makes lines of text of a run's state, in any width, optionally with colours. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pcall.progress.failure_groups import FailureGroup
from pcall.progress.progress_state import Figures, State
from pcall.progress.wording import amount, clean, cut, duration, plural, rate, width_of

__all__ = [
    "Style",
    "call_pieces",
    "count_pieces",
    "flow",
    "frame",
    "in_full",
    "most_frequent",
    "name_of",
    "one_line",
    "sorted_scopes",
    "summary",
]

_GREEN, _RED, _YELLOW, _CYAN, _DIM, _BOLD = "32", "31", "33", "36", "2", "1"

# Limits of a summary. A terminal that is narrower than _LEAST_WIDTH wraps its lines.
_MAX_SCOPES = 50
_MAX_GROUPS = 20
_LEAST_WIDTH = 40

# A piece of a line, and its colour, if colours are used.
Piece = tuple[str, str]


class Style:
    """The capabilities of the reader's terminal.

    Args:
        colour: True to use colours.
        encoding: of the terminal. If it has no block characters, bars consist of ``#`` and ``-``.

    Attributes:
        encoding: of the terminal.
        colour: True to use colours.
        blocks: True if the encoding has block characters.
    """

    def __init__(self, colour: bool = False, encoding: str = "ascii") -> None:
        self.encoding = encoding
        self.colour = colour
        try:
            "\u2588\u2591".encode(encoding)
            self.blocks: bool = True
        except UnicodeEncodeError:
            self.blocks = False
        self._full, self._empty = "\u2588\u2591" if self.blocks else "#-"

    def paint(self, text: str, colour: str) -> str:
        """The text in this colour."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour and colour and text else text

    def bar(self, figures: Figures, width: int) -> str:
        """A bar of this width, in columns, for the calls of a scope by state."""
        parts = [
            (figures.done, self._full, _GREEN),
            (figures.failed, self._full, _RED),
            (figures.skipped, self._full, _YELLOW),
            (figures.running, self._empty, _CYAN),
            (figures.waiting, self._empty, _DIM),
        ]
        total = max(1, figures.total)
        drawn, before, bar = 0, 0, ""
        for number, character, colour in parts:
            before += number
            until = before * width // total
            bar += self.paint(character * (until - drawn), colour)
            drawn = until
        return bar + self.paint(self._empty * (width - drawn), _DIM)


def name_of(scope: tuple[str, ...]) -> str:
    """A scope's name in one line."""
    return clean("/".join(scope)).replace("\n", " ") if scope else "all"


def count_pieces(figures: Figures, ended: bool) -> Iterator[Piece]:
    """The numbers of calls by state."""
    yield f"{figures.done} of {figures.total} done", ""
    if figures.failed:
        yield f"{figures.failed} failed", _RED
    if figures.retried:
        yield f"{figures.retried} retried", _YELLOW
    if figures.skipped:
        yield f"{figures.skipped} skipped", _YELLOW
    if figures.running:
        yield f"{figures.running} running", _CYAN
    if figures.waiting:
        yield f"{figures.waiting} waiting", ""
    if figures.rate:
        yield rate(figures.rate), ""
    if figures.remaining and not ended:
        yield f"{duration(figures.remaining)} left", _BOLD


def call_pieces(figures: Figures) -> Iterator[Piece]:
    """The time and memory that the calls took."""
    if figures.running or figures.attempts:
        yield f"elapsed {duration(figures.elapsed)}", ""
    if figures.attempts:
        for name, seconds in (("wall", figures.wall), ("cpu", figures.cpu)):
            each = duration(seconds / figures.attempts)
            yield f"{name} {duration(seconds)} ({each} a call)", _DIM
    if figures.max_rss:
        yield f"peak {amount(figures.max_rss)}", _DIM


def most_frequent(groups: Iterable[FailureGroup], most: int) -> list[FailureGroup]:
    """The groups with the most failures, ``most`` of them at most."""
    return sorted(groups, key=lambda group: -group.count)[:most]


def sorted_scopes(state: State, now: float) -> list[Figures]:
    """The figures of all scopes: first those with running calls, last those that are over."""

    def place(figures: Figures) -> int:
        return 0 if figures.running else 1 if figures.waiting else 2

    return sorted(state.scopes(now), key=place)


def frame(state: State, now: float, width: int, height: int, style: Style) -> list[str]:
    """The lines for a terminal of this size while the run goes on."""
    scopes = sorted_scopes(state, now)
    if not scopes:
        return [cut("no call yet", width)]
    groups = most_frequent(state.failures.groups, min(3, height // 4))
    room = max(1, height - len(groups))
    lines: list[str] = []
    if len(scopes) != 1:
        lines += _block(state.total(now), width, style, ended=False)
    blocks = [line for each in scopes for line in _block(each, width, style, ended=False)]
    if len(lines) + len(blocks) <= room:
        lines += blocks
    else:
        lines = lines if len(lines) + min(len(scopes), 3) <= room else []
        compact = [_scope_line(each, width, style) for each in scopes]
        if len(lines) + len(compact) > room:
            left = len(compact) - (room - len(lines) - 1)
            compact = compact[:-left] if left < len(compact) else []
            compact.append(cut(f"and {plural(left, 'more scope')}", width))
        lines += compact
    return (lines + [_group_line(group, width, style) for group in groups])[:height]


def _block(figures: Figures, width: int, style: Style, ended: bool) -> list[str]:
    return [
        _with_bar(figures, width, style),
        *flow(count_pieces(figures, ended), width, style),
        *flow(call_pieces(figures), width, style),
    ]


def _with_bar(figures: Figures, width: int, style: Style) -> str:
    share = f" {100 * figures.over // max(1, figures.total):3} %"
    room = width - len(share)
    if room < 12:
        return cut(name_of(figures.scope), width)
    name = cut(clean(name_of(figures.scope), style.encoding), room // 2)
    bar = style.bar(figures, min(60, room - width_of(name) - 1))
    return f"{style.paint(name, _BOLD)} {bar}{share}"


def _scope_line(figures: Figures, width: int, style: Style) -> str:
    numbers = f" {figures.over}/{figures.total}"
    failed = f", {figures.failed} failed" if figures.failed else ""
    name = clean(name_of(figures.scope), style.encoding)
    room = width - len(numbers) - len(failed)
    if room < 4:
        return cut(name + numbers + failed, width)
    return cut(name, room) + numbers + style.paint(failed, _RED)


def _group_line(group: FailureGroup, width: int, style: Style) -> str:
    text = clean(f"{group.count} x {group.title}", style.encoding).replace("\n", " ")
    return style.paint(cut(text, width), _RED)


def flow(pieces: Iterable[Piece], width: int, style: Style) -> list[str]:
    """Join the pieces with commas, on as many lines as they need."""
    lines: list[str] = []
    line, taken = "", 0
    for text, colour in pieces:
        text = cut(clean(text, style.encoding), width)
        if taken and taken + 2 + width_of(text) <= width:
            line, taken = f"{line}, ", taken + 2
        elif taken:
            lines.append(line)
            line, taken = "", 0
        line, taken = line + style.paint(text, colour), taken + width_of(text)
    return [*lines, line] if taken else lines


def one_line(state: State, now: float) -> str:
    """The state of the whole run in one line of any length."""
    return ", ".join(text for text, _ in _whole_run(state, now))


def _whole_run(state: State, now: float) -> list[Piece]:
    figures = state.total(now)
    if state.scope_count == 1:
        (figures,) = state.scopes(now)
    pieces = _named(figures, count_pieces(figures, state.ended is not None))
    return [*pieces, (f"after {duration(state.elapsed(now))}", "")]


def _named(figures: Figures, pieces: Iterable[Piece]) -> list[Piece]:
    """Put the scope's name before the first piece."""
    (text, colour), *others = pieces
    return [(f"{name_of(figures.scope)}: {text}", colour), *others]


def summary(state: State, now: float, width: int, style: Style) -> list[str]:
    """The end of a run: the figures of each scope, and one line for each group of failures."""
    width = max(width, _LEAST_WIDTH)
    lines = flow(_whole_run(state, now), width, style)
    scopes = state.scopes(now)
    for figures in scopes[:_MAX_SCOPES]:
        pieces = list(call_pieces(figures))
        if len(scopes) > 1:
            pieces = _named(figures, [*count_pieces(figures, ended=True), *pieces])
        lines += flow(pieces, width, style)
    if len(scopes) > _MAX_SCOPES:
        lines.append(cut(f"and {plural(len(scopes) - _MAX_SCOPES, 'more scope')}", width))
    failures = state.failures
    groups = most_frequent(failures.groups, _MAX_GROUPS)
    lines += [_group_line(group, width, style) for group in groups]
    left = failures.count - sum(group.count for group in groups)
    if left:
        text = cut(f"{plural(left, 'more failure')} of other kinds", width)
        lines.append(style.paint(text, _RED))
    return lines


def in_full(group: FailureGroup) -> str:
    """The first failure of a group, with its traceback."""
    first = group.kept[0]
    process = f", process {first.pid}" if first.pid else ""
    again = ", to be started again" if first.retried else ""
    head = f"call {first.index}, {first.call}, failed (attempt {first.attempt}{process}{again})"
    return f"{head}\n{first.traceback}"
