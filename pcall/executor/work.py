"""One call that an executor was given."""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Any, NamedTuple

from pcall._core.retry import Retry
from pcall.executor.call_future import CallFuture

if TYPE_CHECKING:
    from typing import Literal

__all__ = ["CallPolicy", "Work"]


class CallPolicy(NamedTuple):
    """The part of the policy that a view of an executor can change.

    Attributes:
        timeout: seconds that the call may take; None: no limit.
        retry: the rule for retries; None: no retry.
        capture: the option ``capture_output``.
    """

    timeout: float | None
    retry: Retry | None
    capture: bool | Literal["group"]


class Work:
    """A call from its submission to its end.

    Args:
        target: the callable.
        args: positional arguments.
        kwargs: keyword arguments.
        context: the context variables that it sees; None: those of the run.
        pickled: the call as a pickle, for reused workers, or None.
        policy: of the call.

    Attributes:
        future: of the call.
        run: the run that it belongs to.
        index: its number in the run.
        number: its number in the executor.
    """

    __slots__ = (
        "args",
        "context",
        "future",
        "index",
        "kwargs",
        "number",
        "pickled",
        "policy",
        "run",
        "target",
    )

    def __init__(
        self,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: Context | None,
        pickled: bytes | None,
        policy: CallPolicy,
    ) -> None:
        self.target: Any = target
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.context: Context | None = context
        self.pickled: bytes | None = pickled
        self.policy: CallPolicy = policy
        self.future: CallFuture[Any] = CallFuture()
        self.index: int = -1
        self.number: int = -1
        self.run: Any = None  # a WatchedRun
