"""Groups failures by equal traceback, in bounded memory. Pure.

Two failures are equal if exceptions of the same types were raised in the same lines. Their texts
often differ, by the name of a host or a file, so a group counts its texts, too.
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

__all__ = ["FailedAttempt", "FailureGroup", "GroupedFailures"]

_MAX_GROUPS = 100  # failures of further groups are only counted
_MAX_TEXTS = 20  # different texts of a group
_TEXT_LENGTH = 2_000  # characters of a text
_TRACEBACK_LENGTH = 20_000  # characters of a traceback
_TOTAL_LENGTH = 4_000_000  # characters of all failures that are kept individually
_MAX_LINKS = 20  # exceptions of a chain to compare
_MAX_FRAMES = 200  # frames of each exception to compare


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One attempt that failed, as text.

    Attributes:
        call: the call as source text, shortened.
        index: of the call.
        attempt: the number of the attempt, from 1.
        retried: True if the call is started again.
        text: of the exception.
        traceback: as Python prints it, shortened if very long.
        pid: process id of the child, or None.
        duration: seconds that the attempt ran, or None.
        log: path of the call's log, or None.
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
class FailureGroup:
    """Failures with equal tracebacks.

    Attributes:
        number: of the group, from 0, in the order of the groups' first failures.
        scope: of the first failure.
        elsewhere: True if calls of other scopes failed in the same way.
        type_name: of the exceptions.
        failed: the number of calls that failed for good.
        retried: the number of attempts that failed and were retried.
        texts: the count of each text, for the first few different ones.
        other_texts: the number of failures with any other text.
        kept: the failures that are kept individually, always including the first.
    """

    number: int
    scope: tuple[str, ...]
    type_name: str
    elsewhere: bool = False
    failed: int = 0
    retried: int = 0
    texts: dict[str, int] = field(default_factory=dict)
    other_texts: int = 0
    kept: list[FailedAttempt] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of attempts in this group."""
        return self.failed + self.retried

    @property
    def title(self) -> str:
        """The exception in one line, with its most frequent text."""
        text = max(self.texts, key=self.texts.__getitem__).strip().partition("\n")[0]
        more = len(self.texts) > 1 or self.other_texts
        title = f"{self.type_name}: {text}" if text else self.type_name
        return f"{title} (or another text)" if more else title


class GroupedFailures:
    """All failures of a run.

    Args:
        keep: the number of failures to keep individually, besides the first of each group.

    Attributes:
        groups: in the order of their first failures.
        ungrouped: the number of failures that came after the last possible group.
    """

    def __init__(self, keep: int = 0) -> None:
        self.groups: list[FailureGroup] = []
        self.ungrouped: int = 0
        self._by_identity: dict[Any, FailureGroup] = {}
        self._keep = keep
        self._length_left = _TOTAL_LENGTH

    @property
    def count(self) -> int:
        """The number of attempts that failed."""
        return sum(group.count for group in self.groups) + self.ungrouped

    def add(self, event: Event) -> None:
        """Add a failed attempt.

        Args:
            event: an event of kind ``"failed"`` or ``"retried"``.
        """
        outcome = event.outcome
        if outcome is None or outcome.error is None:
            return
        error = outcome.error
        identity = _identity(error)
        group = self._by_identity.get(identity)
        if group is None:
            if len(self.groups) >= _MAX_GROUPS:
                self.ungrouped += 1
                return
            group = FailureGroup(len(self.groups), event.scope, _name(error))
            self._by_identity[identity] = group
            self.groups.append(group)
        group.elsewhere |= event.scope != group.scope
        if event.kind == "retried":
            group.retried += 1
        else:
            group.failed += 1
        text = _shorten(safe_str(error), _TEXT_LENGTH)
        if text in group.texts or len(group.texts) < _MAX_TEXTS:
            group.texts[text] = group.texts.get(text, 0) + 1
        else:
            group.other_texts += 1
        if not group.kept or (self._keep > 0 and self._length_left > 0):
            failure = _as_text(outcome, error, text, event.kind == "retried")
            self._keep -= bool(group.kept)
            self._length_left -= len(failure.traceback) + len(failure.text) + len(failure.call)
            group.kept.append(failure)


def _as_text(outcome: Outcome, error: BaseException, text: str, retried: bool) -> FailedAttempt:
    return FailedAttempt(
        call=str(outcome.call),
        index=outcome.index,
        attempt=max(1, outcome.attempts),
        retried=retried,
        text=text,
        traceback=_shorten(_format(error), _TRACEBACK_LENGTH),
        pid=outcome.pid,
        duration=outcome.duration,
        log=outcome.log,
    )


def _format(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(type(error), error, users_part(error.__traceback__))
        return "".join(lines).rstrip("\n")
    except Exception:  # a user's class may raise anything when it is formatted
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
    """A key that is equal for exceptions of the same types raised in the same lines."""
    parts: list[Any] = []
    for link in _chain(error):
        parts.append(_name(link))
        if isinstance(link, ChildDied):
            parts.append(link.exitcode)  # it has no traceback to distinguish it by
        last = None
        for frame in _frames(link):
            if frame != last:  # the depth of a recursion makes no difference
                parts.append(frame)
            last = frame
    return tuple(parts)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that a printed traceback would show with it."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo and len(seen) < _MAX_LINKS:
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
    for _ in range(_MAX_FRAMES):
        if tb is None:
            return
        code = tb.tb_frame.f_code
        yield code.co_filename, code.co_name, tb.tb_lineno
        tb = tb.tb_next
