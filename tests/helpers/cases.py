"""The beginning and the end of the scripts in tests/scripts; see run_case() in scripts.py."""

from __future__ import annotations

# Some builds of libffi keep a descriptor from this import on, which is none of ours to close.
import ctypes  # noqa: F401
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from pcall._os.current import use_system
from pcall._os.portable import PortableSystem

# The exit status of a script that came to its end. It differs from those of Python, and tells of
# the end where the streams are closed or full.
FINE = 42


def main(cases: Mapping[str, Any]) -> NoReturn:
    """Call the case that the command line names, and exit with FINE.

    Args:
        cases: the script's ``globals()``. Its arguments are the system to use (linux, portable),
            the name of a function, and what this gets.
    """
    _, system, name, *arguments = sys.argv
    if system == "portable":
        use_system(PortableSystem())
    cases[name](*arguments)
    sys.exit(FINE)
