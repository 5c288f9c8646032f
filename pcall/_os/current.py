"""The system in use. It is chosen when it is first needed, by trying.

A kernel may be too old for the means of Linux, and a sandbox may refuse them.
"""

from __future__ import annotations

import errno
import sys

from pcall._os.linux import LinuxSystem
from pcall._os.portable import PortableSystem
from pcall._os.signals import DeferSignals
from pcall._os.system import System

__all__ = ["get_system", "use_system"]

_system: System | None = None


def get_system() -> System:
    """The system in use; chosen at the first call."""
    global _system
    if _system is None:
        _system = _choose()
    return _system


def use_system(system: System | None) -> None:
    """Use this one from now on; None: choose again."""
    global _system
    _system = system


def _choose() -> System:
    if sys.platform == "linux":
        try:
            with DeferSignals():
                return LinuxSystem()
        except OSError as error:
            # "No room now" says nothing about what the system can do.
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise
        except (AttributeError, ImportError):
            pass  # a build of Python, or a C library, without them
    return PortableSystem()
