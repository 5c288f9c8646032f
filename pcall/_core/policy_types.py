"""The keyword arguments that are options, for type checkers, which complete and check them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Required, TypedDict

from pcall._core.records import Observer
from pcall._core.retry import Retry
from pcall._profiles.current_profiles import ProfileKind

__all__ = ["AnyPolicy", "OutcomesPolicy", "Policy", "RunPolicy", "ViewPolicy"]


class ViewPolicy(TypedDict, total=False):
    """What ``options()`` of an executor takes."""

    timeout: float | None
    retry: int | Retry | Callable[[Any], Any] | None
    capture_output: bool | Literal["group"]


class _Policy(TypedDict, total=False):
    max_workers: int | None
    max_tasks_per_child: int | None
    max_errors: int | None
    retry: int | Retry | Callable[[Any], Any] | None
    fail_fast: bool
    strict: bool
    grace_period: float
    progress: bool | Observer | Iterable[Observer] | None
    tasklog: bool
    capture_output: bool | Literal["group"]
    initializer: Callable[..., object] | None
    initargs: Iterable[Any]
    ordered: bool
    profile: ProfileKind | None
    engine: Any
    locality: Callable[..., Any] | None


class Policy(_Policy, total=False):
    """Options of a run that returns the values of its calls."""

    return_outcomes: Literal[False]


class OutcomesPolicy(_Policy, total=False):
    """Options of a run that returns the outcomes of its calls."""

    return_outcomes: Required[Literal[True]]


class AnyPolicy(_Policy, total=False):
    """Options of which only the running program knows whether outcomes are returned."""

    return_outcomes: Required[bool]


class RunPolicy(TypedDict, total=False):
    """What ``run`` takes beside a plan and its output."""

    max_workers: int | None
    max_errors: int | None
    retry: int | Retry | Callable[[Any], Any] | None
    timeout: float | None
    progress: bool | Observer | Iterable[Observer] | None
    profile: ProfileKind | None
    engine: Any
    order_results: bool
    max_tasks_per_child: int | None
    grace_period: float
    fail_fast: bool
    tasklog: bool
    capture_output: bool | Literal["group"]
