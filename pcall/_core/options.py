"""The options of a run: one frozen dataclass, checked when it is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal

from pcall._core.observers import Choice, check_progress
from pcall._core.records import Observer
from pcall._core.retry import Retry
from pcall._core.seconds import check_seconds
from pcall._profiles.current_profiles import ProfileKind, inherited_kind

__all__ = ["Options"]

__tracebackhide__ = True  # pytest shows the frames of its user


def _check_count(name: str, value: Any, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int or None, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, or None, not {value!r}")


def _check_retry(value: Any) -> None:
    if isinstance(value, type) and issubclass(value, (Retry, BaseException)):
        meant = "attempts" if value is Retry else f"attempts, on={value.__name__}"
        raise TypeError(f"retry must not be the class {value.__name__}; write Retry({meant})")
    if value is None or isinstance(value, Retry) or callable(value):
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"retry must be an int (attempts in all), a Retry, a decorator or None, not {value!r}"
        )
    _check_count("retry", value, 1)


def _check_capture(value: Any) -> None:
    if isinstance(value, bool) or (isinstance(value, str) and value == "group"):
        return
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"capture_output must be True, False or 'group', not {value!r}")


def _check_profile(value: Any) -> None:
    if value is None or (isinstance(value, str) and value in ("cpu", "memory")):
        return
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"profile must be 'cpu', 'memory' or None, not {value!r}")


@dataclass(frozen=True, slots=True)
class Options:
    """The options that ``Pcall.options`` takes.

    Attributes:
        max_workers: the number of calls that run at once. None: as many as this machine can
            hold, or one per core if ``max_tasks_per_child`` is not 1. 0: no child is forked;
            the calls run one after another in this process. Default None.
        max_tasks_per_child: the number of calls that a child runs before it exits. None: no
            limit. Default 1.
        max_errors: once more calls than this have failed, no further call starts. None: no
            limit. Default 0.
        retry: the number of attempts for each call; or a :class:`Retry`; or a decorator of the
            target, which tries again in the same child. Default None: one attempt.
        fail_fast: True: once more calls than ``max_errors`` have failed, running calls are ended,
            too, as by ``terminate()``. Default False: they are waited for.
        strict: True: arguments of different lengths, and a str or bytes whose characters would
            be the values of calls, are a ValueError. Default False: the shortest decides.
        grace_period: seconds between SIGTERM and SIGKILL. Default 5.
        progress: True chooses a display; False shows nothing. Otherwise one or several observers
            (see :mod:`pcall.progress`). Default None: the environment variable
            ``PCALL_PROGRESS`` decides.
        tasklog: True: log records of children are passed to the parent's handlers, in call
            order. False: logging is left alone. Default True.
        capture_output: True: the outcome of a call has what the call and its programs write to
            stdout and stderr, and its last lines are a note of its error. ``"group"``: the same,
            and it is written to this process's streams, each call's whole, in call order. Default
            False.
        initializer: called in each child before its first call. If it fails, so do the calls of
            that child, with its error. Default None.
        initargs: its positional arguments. Default ().
        ordered: of ``iter``: True: results come in call order. False: as calls end. Default True.
        profile: ``"cpu"``: each call runs under ``cProfile``. ``"memory"``: under ``tracemalloc``.
            The profiles are those of the run and of its outcomes (see :mod:`pcall.profiling`).
            Default None: calls are not profiled.
        return_outcomes: True: the outcomes are returned instead of the values, and a failed
            call raises nothing. Default False.
        engine: a :class:`pcall.cluster.Cluster` on whose workers the calls run. Default None: they
            run on this machine.
        locality: of a cluster: a function of a call and the workers that returns pairs of worker
            and number, or a mapping: -1 forbids the worker, 0 is indifferent, 1 and more prefer it.
            Default None.
    """

    max_workers: int | None = None
    max_tasks_per_child: int | None = 1
    max_errors: int | None = 0
    retry: int | Retry | Callable[[Any], Any] | None = None
    fail_fast: bool = False
    strict: bool = False
    grace_period: float = 5.0
    progress: bool | Observer | Iterable[Observer] | None = None
    tasklog: bool = True
    capture_output: bool | Literal["group"] = False
    initializer: Callable[..., object] | None = None
    initargs: Iterable[Any] = ()
    ordered: bool = True
    profile: ProfileKind | None = None
    return_outcomes: bool = False
    engine: Any = None
    locality: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        _check_count("max_workers", self.max_workers, 0)
        _check_count("max_errors", self.max_errors, 0)
        _check_count("max_tasks_per_child", self.max_tasks_per_child, 1)
        _check_retry(self.retry)
        object.__setattr__(self, "progress", check_progress(self.progress))
        if math.isinf(check_seconds("grace_period", self.grace_period)):
            raise ValueError("grace_period must be finite: without an end nothing would be killed")
        _check_capture(self.capture_output)
        _check_profile(self.profile)
        if self.engine is not None and not callable(getattr(self.engine, "make_engine", None)):
            raise TypeError(f"engine must be a pcall.cluster.Cluster or None, not {self.engine!r}")
        if self.locality is not None and not callable(self.locality):
            raise TypeError(f"locality must be a function or None, not {self.locality!r}")
        if self.initializer is not None and not callable(self.initializer):
            raise TypeError(f"initializer must be a callable or None, not {self.initializer!r}")
        try:
            object.__setattr__(self, "initargs", tuple(self.initargs))
        except TypeError:
            raise TypeError(f"initargs must be an iterable, not {self.initargs!r}") from None
        for name in ("fail_fast", "strict", "tasklog", "ordered", "return_outcomes"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, not {getattr(self, name)!r}")

    @property
    def rule(self) -> Retry | None:
        """The rule for retrying a call in another child; None if there is none."""
        if isinstance(self.retry, int):
            return Retry(self.retry)
        return self.retry if isinstance(self.retry, Retry) else None

    @property
    def initialize(self) -> Callable[[], object] | None:
        """The initializer with its arguments; None if there is none."""
        return None if self.initializer is None else partial(self.initializer, *self.initargs)

    @property
    def progress_choice(self) -> Choice:
        """The option ``progress``, with its observers as a tuple."""
        return check_progress(self.progress)

    @property
    def profile_kind(self) -> ProfileKind | None:
        """The kind of profiles to take: also where the run is part of a profiled call."""
        return self.profile or inherited_kind()

    @property
    def decorator(self) -> Callable[[Any], Any] | None:
        """The decorator of the targets; None if there is none."""
        return self.retry if callable(self.retry) else None

    def but(self, policy: Mapping[str, Any]) -> Options:
        """A copy of these options, with some of them replaced.

        Raises:
            TypeError: a name is unknown; the text suggests the nearest one.
        """
        known = [field.name for field in fields(self)]
        for name in policy:
            if name not in known:
                import difflib  # needed for this message alone

                near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
                raise TypeError(f"unknown option {name!r}; {hint}")
        return replace(self, **policy)
