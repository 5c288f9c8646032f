"""The profiles that are being taken in this process: those of the calls that run in it."""

from __future__ import annotations

from os import getpid
from typing import Literal, Protocol

__all__ = [
    "ProfileKind",
    "RunningProfile",
    "abandon_inherited",
    "active_profile",
    "inherited_kind",
    "running",
]

ProfileKind = Literal["cpu", "memory"]


class RunningProfile(Protocol):
    """The profile of a call that has not ended.

    Attributes:
        kind: of the profile.
        pid: the process of the call.
    """

    kind: ProfileKind
    pid: int

    def add(self, content: bytes) -> None:
        """Add the profile of a call that this call has made in a child of its own."""

    def abandon(self) -> None:
        """Stop it, in a process that was forked meanwhile."""


#: Outermost first. In a process that was forked, those of its parent come first.
running: list[RunningProfile] = []


def active_profile() -> RunningProfile | None:
    """The profile of the call that runs in this process, or None."""
    return running[-1] if running and running[-1].pid == getpid() else None


def abandon_inherited() -> None:
    """Stop the profiles of calls of the process that this one was forked from."""
    pid = getpid()
    while running and running[-1].pid != pid:
        running[-1].abandon()


def inherited_kind() -> ProfileKind | None:
    """The kind of profile that calls made here are part of; None outside of profiled calls."""
    active = active_profile()
    return None if active is None else active.kind
