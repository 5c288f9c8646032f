"""The class that the tests of CPython get for the one with workers that live on."""

from __future__ import annotations

from typing import Any

import pcall

__all__ = ["Reused"]


class Reused(pcall.Executor):
    """With workers that live on, as the standard library's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, max_tasks_per_child=None, **kwargs)
