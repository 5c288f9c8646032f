"""Has the profiles of a run's calls collected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcall._core.options import Options
from pcall._core.outcome_store import OutcomeStore

if TYPE_CHECKING:
    from pcall._profiles.run_profile import RunProfile

__all__ = ["make_profiles", "use_profiles"]


def use_profiles(outcomes: OutcomeStore, options: Options) -> None:
    """Have the profiles of calls collected, if the options ask for that."""
    outcomes.profiles = make_profiles(options)


def make_profiles(options: Options, total: RunProfile | None = None) -> RunProfile | None:
    """Collects the profiles of a run's calls; None if the options do not ask for that.

    Args:
        options: the policy.
        total: see :class:`RunProfile`.
    """
    kind = options.profile_kind
    if kind is None:
        return None
    # Loaded for those who profile their calls.
    from pcall._profiles.run_profile import RunProfile

    return RunProfile(kind, total if total is not None and total.kind == kind else None)
