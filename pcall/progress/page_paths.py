"""The path of a file that a display writes."""

from __future__ import annotations

import os

__all__ = ["check_replaceable", "checked_path"]


def checked_path(path: str | os.PathLike[str]) -> str:
    """The real path of a file to write; it is resolved now, since the run may change its folder.

    Raises:
        TypeError: the path is neither a string nor path-like.
        ValueError: the path is empty or not that of a regular file, or its folder does not exist.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be that of a file, not {path!r}")
    name = os.fspath(path)
    if not name:
        raise ValueError("path must be that of a file, not empty")
    real = os.path.realpath(name)
    folder = os.path.dirname(real)
    if not os.path.isdir(folder):
        raise ValueError(f"path must be in a folder that exists; {folder!r} does not")
    check_replaceable(real)
    return real


def check_replaceable(path: str) -> None:
    """Refuse what is there and no regular file.

    A page would replace a device, and can't replace a folder.

    Raises:
        ValueError: it is such a thing.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"path must be that of a regular file; {path!r} is none")
