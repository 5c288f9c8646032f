"""Waits for conditions, with a limit that a busy machine keeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Within these seconds anything prompt has happened, on a busy machine too.
SOON = 10.0


def until(condition: Callable[[], T], seconds: float = 30, pause: float = 0.005) -> T:
    """Call a condition until it is true or the time is over.

    Args:
        condition: the condition.
        seconds: the most time to wait.
        pause: seconds between two calls.

    Returns:
        The last value of the condition, which is false if it never came true.
    """
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(pause)
    return found


def wait_for(path: Path, seconds: float = 60) -> bool:
    """Wait until a file is there; return whether it is."""
    return until(path.exists, seconds)
