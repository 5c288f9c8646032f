"""The note of an error that names its call."""

from __future__ import annotations

from pcall._core.records import Outcome

__all__ = ["call_note", "name_call"]


def call_note(outcome: Outcome) -> str:
    """The call of an outcome: index, target, arguments (shortened), process."""
    note = f"in call {outcome.index}, {outcome.call}"
    return note if outcome.pid is None else f"{note}, process {outcome.pid}"


def name_call(outcome: Outcome) -> None:
    """Add the note to the outcome's error, unless it has it."""
    error = outcome.error
    if error is None:
        return
    note = call_note(outcome)
    notes = getattr(error, "__notes__", None)
    if not isinstance(notes, list):  # what the user's class has there is no note that is shown
        # Past the class's own __setattr__, and its add_note(): a frozen dataclass refuses both.
        BaseException.__setattr__(error, "__notes__", [note])
    elif note not in notes:  # calls of this process may raise one object again and again
        notes.append(note)
