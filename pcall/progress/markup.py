"""Makes HTML of a run's state, for the page and the notebook. Pure.

All text that comes from calls (names, arguments, texts of exceptions) goes through :func:`escaped`.
"""

from __future__ import annotations

from html import escape

from pcall.progress.failure_groups import FailedAttempt, FailureGroup, GroupedFailures
from pcall.progress.plain import name_of, sorted_scopes
from pcall.progress.progress_state import Figures, State
from pcall.progress.wording import amount, clean, duration, plural, rate

__all__ = ["STYLE", "FailuresMarkup", "escaped", "figures_markup"]

_MAX_SCOPES = 200  # rows of the table

STYLE = """
.pcall { font: 14px/1.45 system-ui, sans-serif; color: #1c2024; color-scheme: light dark; }
.pcall table { border-collapse: collapse; width: 100%; }
.pcall th { font-weight: normal; color: #687076; text-align: right; padding: 2px 10px 2px 0; }
.pcall td { text-align: right; padding: 3px 10px 3px 0; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.pcall td.name, .pcall th.name { text-align: left; font-weight: 600; max-width: 20em;
  overflow: hidden; text-overflow: ellipsis; }
.pcall td.wide { width: 35%; min-width: 120px; }
.pcall .bar { display: flex; height: 14px; border-radius: 3px; overflow: hidden;
  background: #8884; }
.pcall .bar span { height: 100%; }
.pcall .done { background: #2f9e5b; } .pcall .failed { background: #d6404a; }
.pcall .skipped { background: #d9a514; } .pcall .running { background: #4f8fd6; }
.pcall details { margin: 4px 0; } .pcall summary { cursor: pointer; overflow-wrap: anywhere; }
.pcall .group { border-left: 3px solid #d6404a; padding-left: 10px; margin: 10px 0; }
.pcall .one { margin-left: 12px; }
.pcall pre { font: 12px/1.4 ui-monospace, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; background: #8881; padding: 8px; margin: 4px 0; border-radius: 3px; }
.pcall .note { color: #687076; }
@media (prefers-color-scheme: dark) { .pcall { color: #e6e8ea; }
  .pcall th, .pcall .note { color: #9ba1a6; } }
"""


def escaped(text: str) -> str:
    """Escape a text for a place between tags or in a quoted attribute."""
    return escape(clean(text))


def figures_markup(state: State, now: float) -> str:
    """The figures of each scope as a table with bars."""
    scopes = sorted_scopes(state, now)
    shown = scopes[:_MAX_SCOPES]
    if len(scopes) != 1:
        shown.insert(0, state.total(now))
    rows = "\n".join(_row(figures, state.ended is not None) for figures in shown)
    heads = "".join(f"<th>{name}</th>" for name in _HEADS)
    table = f'<table><tr><th class="name"></th><th></th>{heads}</tr>\n{rows}\n</table>'
    if len(scopes) > _MAX_SCOPES:
        left = plural(len(scopes) - _MAX_SCOPES, "more scope")
        table += f'<p class="note">and {left}; those that run are shown first</p>'
    return table


_HEADS = (
    "total",
    "done",
    "running",
    "failed",
    "retried",
    "skipped",
    "rate",
    "left",
    "elapsed",
    "wall (a call)",
    "cpu (a call)",
    "peak",
)


def _row(figures: Figures, ended: bool) -> str:
    cells = [
        str(figures.total),
        str(figures.done),
        *(
            str(number or "")
            for number in (figures.running, figures.failed, figures.retried, figures.skipped)
        ),
        rate(figures.rate) if figures.rate else "",
        "" if ended or figures.remaining is None else duration(figures.remaining),
        duration(figures.elapsed) if figures.running or figures.attempts else "",
        _summed(figures.wall, figures.attempts),
        _summed(figures.cpu, figures.attempts),
        amount(figures.max_rss) if figures.max_rss else "",
    ]
    name = escaped(name_of(figures.scope))
    data = "".join(f"<td>{cell}</td>" for cell in cells)
    return (
        f'<tr><td class="name" title="{name}">{name}</td>'
        f'<td class="wide">{_bar(figures)}</td>{data}</tr>'
    )


def _summed(seconds: float, attempts: int) -> str:
    return f"{duration(seconds)} ({duration(seconds / attempts)})" if attempts else ""


def _bar(figures: Figures) -> str:
    total = max(1, figures.total)
    parts = ""
    for kind in ("done", "failed", "skipped", "running"):
        number = getattr(figures, kind)
        if number:
            parts += f'<span class="{kind}" style="width:{100 * number / total:.3f}%"></span>'
    share = f"{figures.over} of {figures.total}"
    return f'<div class="bar" title="{share}">{parts}</div>'


class FailuresMarkup:
    """Makes the groups of failures, each of which can be opened, and the failures in them.

    The markup of a failure is kept: a failure does not change, and the page is made often.
    """

    def __init__(self) -> None:
        self._by_group: list[list[str]] = []

    def make(self, failures: GroupedFailures) -> str:
        """The markup of all groups, those with the most failures first."""
        while len(self._by_group) < len(failures.groups):
            self._by_group.append([])
        groups = sorted(failures.groups, key=lambda group: -group.count)
        parts = [self._group_details(group) for group in groups]
        if failures.ungrouped:
            left = plural(failures.ungrouped, "more failure")
            parts.append(f'<p class="note">{left} of other kinds</p>')
        return "\n".join(parts)

    def _group_details(self, group: FailureGroup) -> str:
        made = self._by_group[group.number]
        for failure in group.kept[len(made) :]:
            made.append(_failure_details(failure, f"{group.number}-{len(made)}"))
        counts = [f"{group.failed} failed"] if group.failed else []
        counts += [f"{group.retried} retried"] if group.retried else []
        texts = ""
        if len(group.texts) > 1:
            lines = [f"{count} x {text}" for text, count in group.texts.items()]
            if group.other_texts:
                lines.append(f"{group.other_texts} x other texts")
            texts = f"<pre>{escaped(chr(10).join(lines))}</pre>"
        left = group.count - len(made)
        place = name_of(group.scope) + (" and elsewhere" if group.elsewhere else "")
        note = f'<p class="note">and {left} more, which were only counted</p>' if left else ""
        return (
            f'<details class="group" id="g{group.number}"><summary><b>{group.count} x</b> '
            f"{escaped(group.title)} <span class=note>in {escaped(place)}: "
            f"{', '.join(counts)}</span></summary>\n{texts}"
            f"<pre>{escaped(group.kept[0].traceback)}</pre>\n{''.join(made)}{note}</details>"
        )


def _failure_details(failure: FailedAttempt, number: str) -> str:
    facts = [f"attempt {failure.attempt}{', retried' if failure.retried else ''}"]
    if failure.pid is not None:
        facts.append(f"process {failure.pid}")
    if failure.duration is not None:
        facts.append(f"after {duration(failure.duration)}")
    if failure.log:
        facts.append(f"log {failure.log}")
    line = failure.text.strip().partition("\n")[0][:200]
    return (
        f'<details class="one" id="f{number}"><summary>call {failure.index}, '
        f'{escaped(failure.call)} <span class="note">{escaped(line)}</span></summary>'
        f'<p class="note">{escaped(", ".join(facts))}</p>'
        f"<pre>{escaped(failure.traceback)}</pre></details>\n"
    )
