"""Failures grouped by equal traceback, in memory that is bounded whatever fails. Pure.

Two failures are equal when exceptions of the same types were raised in the same lines. Their
texts often differ, by the name of a host or a file, so a group counts those, too.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pcall._core.call_failures import ChildDied
from pcall._core.records import Event, Outcome
from pcall._errors import RemoteError
from pcall._wire.exception_codec import safe_str, type_name
from pcall._wire.traceback_codec import users_part

__all__ = ["Failure", "Failures", "Group"]

_GROUPS = 100  # kept; failures of further ones are counted
_TEXTS = 20  # kept of one group
_TEXT = 2_000  # characters of one text
_TRACEBACK = 20_000  # characters of one traceback
_ROOM = 4_000_000  # characters of all failures that are kept singly
_LINKS = 20  # exceptions of one chain, and
_FRAMES = 200  # frames of each, that are compared


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt that failed, as text.

    Attributes:
        call: the call as one would write it, shortened.
        index: its place in call order.
        attempt: the number of the attempt, from 1.
        retried: True when the call was to be started again.
        text: of the exception.
        traceback: in full, as Python prints it.
        pid: of the child, or None.
        duration: seconds that it ran, or None.
        log: path of its log, or None.
    """

    call: str
    index: int
    attempt: int
    retried: bool
    text: str
    traceback: str
    pid: int | None
    duration: float | None
    log: str | None


@dataclass(slots=True)
class Group:
    """Failures with equal tracebacks.

    Attributes:
        number: its place in the order in which the groups came up, from 0.
        scope: of the first.
        elsewhere: whether calls of other scopes failed so, too.
        type_name: of the exceptions.
        failed: how many calls failed so for good.
        retried: how many attempts did, and were retried.
        texts: how often each text came, for the first few different ones.
        other_texts: how many failures had yet other texts.
        kept: those that are kept singly; the first always is.
    """

    number: int
    scope: tuple[str, ...]
    type_name: str
    elsewhere: bool = False
    failed: int = 0
    retried: int = 0
    texts: dict[str, int] = field(default_factory=dict)
    other_texts: int = 0
    kept: list[Failure] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many attempts failed so."""
        return self.failed + self.retried

    @property
    def title(self) -> str:
        """The exception in one line, with the text that came most often."""
        text = max(self.texts, key=self.texts.__getitem__).strip().partition("\n")[0]
        more = len(self.texts) > 1 or self.other_texts
        title = f"{self.type_name}: {text}" if text else self.type_name
        return f"{title} (or another text)" if more else title


class Failures:
    """All failures of a run.

    Args:
        keep: how many to keep singly, beside the first of each group.

    Attributes:
        groups: in the order in which they came up.
        ungrouped: how many failures came when there were too many groups.
    """

    def __init__(self, keep: int = 0) -> None:
        self.groups: list[Group] = []
        self.ungrouped = 0
        self._by_identity: dict[Any, Group] = {}
        self._keep = keep
        self._room = _ROOM

    @property
    def count(self) -> int:
        """How many attempts failed."""
        return sum(group.count for group in self.groups) + self.ungrouped

    def add(self, event: Event) -> None:
        """An attempt failed: an event of kind ``"failed"`` or ``"retried"``."""
        outcome = event.outcome
        if outcome is None or outcome.error is None:
            return
        error = outcome.error
        identity = _identity(error)
        group = self._by_identity.get(identity)
        if group is None:
            if len(self.groups) >= _GROUPS:
                self.ungrouped += 1
                return
            group = Group(len(self.groups), event.scope, _name(error))
            self._by_identity[identity] = group
            self.groups.append(group)
        group.elsewhere |= event.scope != group.scope
        if event.kind == "retried":
            group.retried += 1
        else:
            group.failed += 1
        text = _shorten(safe_str(error), _TEXT)
        if text in group.texts or len(group.texts) < _TEXTS:
            group.texts[text] = group.texts.get(text, 0) + 1
        else:
            group.other_texts += 1
        if not group.kept or (self._keep > 0 and self._room > 0):
            failure = _as_text(outcome, error, text, event.kind == "retried")
            self._keep -= bool(group.kept)
            self._room -= len(failure.traceback) + len(failure.text) + len(failure.call)
            group.kept.append(failure)


def _as_text(outcome: Outcome, error: BaseException, text: str, retried: bool) -> Failure:
    return Failure(
        call=str(outcome.call),
        index=outcome.index,
        attempt=max(1, outcome.attempts),
        retried=retried,
        text=text,
        traceback=_shorten(_format(error), _TRACEBACK),
        pid=outcome.pid,
        duration=outcome.duration,
        log=outcome.log,
    )


def _format(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(type(error), error, users_part(error.__traceback__))
        return "".join(lines).rstrip("\n")
    except Exception:  # a class of the user's may do anything when it is looked at
        return f"{_name(error)}: {safe_str(error)}"


def _shorten(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    left = len(text) - most
    return f"{text[: most // 2]}\n... {left} characters left out ...\n{text[-(most // 2) :]}"


def _name(error: BaseException) -> str:
    name = error.type_name if isinstance(error, RemoteError) else type_name(type(error))
    return name.removeprefix("__main__.")  # as in a traceback


def _identity(error: BaseException) -> tuple[Any, ...]:
    """Equal for exceptions of the same types that were raised in the same lines."""
    parts: list[Any] = []
    for link in _chain(error):
        parts.append(_name(link))
        if isinstance(link, ChildDied):
            parts.append(link.exitcode)  # it has no lines that would tell one from another
        last = None
        for frame in _frames(link):
            if frame != last:  # a recursion is the same one however deep it went
                parts.append(frame)
            last = frame
    return tuple(parts)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and those that a printed traceback would show with it."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo and len(seen) < _LINKS:
        link = todo.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        todo.append(link.__cause__)
        if link.__cause__ is None and not link.__suppress_context__:
            todo.append(link.__context__)
        if isinstance(link, BaseExceptionGroup):
            todo.extend(link.exceptions)


def _frames(error: BaseException) -> Iterator[tuple[str, str, int]]:
    tb = users_part(error.__traceback__)
    for _ in range(_FRAMES):
        if tb is None:
            return
        code = tb.tb_frame.f_code
        yield code.co_filename, code.co_name, tb.tb_lineno
        tb = tb.tb_next
