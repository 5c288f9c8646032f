"""What both kinds of printed profile have in common: checks of arguments, and places of lines."""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["check_choice", "check_file", "check_flag", "check_limit", "heading_of", "shortened"]


def check_limit(name: str, value: Any) -> int | None:
    """Check a number of rows; None: all."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int or None, not {value!r}")
    if value < 0:
        raise ValueError(f"{name} must be 0 or more, or None for all, not {value!r}")
    return value


def check_flag(name: str, value: Any) -> bool:
    """Check True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


def check_choice(name: str, value: Any, choices: tuple[str, ...], none: bool = False) -> Any:
    """Check one of several words; ``none`` if None is one, too."""
    if (none and value is None) or (isinstance(value, str) and value in choices):
        return value
    words = [repr(each) for each in choices] + ["None"] * none
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"{name} must be {', '.join(words[:-1])} or {words[-1]}, not {value!r}")


def check_file(file: Any) -> Any:
    """The stream to print to; None: ``sys.stdout`` as it is now."""
    if file is None:
        return sys.stdout
    if not callable(getattr(file, "write", None)):
        raise TypeError(f"file must be a text stream or None, not {file!r}")
    return file


def heading_of(worker: str) -> str:
    """The line above the table of a worker."""
    return f"{worker}\n" if worker.startswith("worker ") else f"worker {worker}\n"


def shortened(file: str, strip_dirs: bool) -> str:
    """The name of a file without its folders, if these are to be stripped."""
    return os.path.basename(file) if strip_dirs else file
