"""The system in use, chosen by trial when it is first needed.

A kernel may be too old for the system calls of :class:`LinuxSystem`, and a sandbox may refuse them.
"""

from __future__ import annotations

import errno
import sys

from pcall._os.linux import LinuxSystem
from pcall._os.portable import PortableSystem
from pcall._os.signals import DeferSignals
from pcall._os.system import System

__all__ = ["get_system", "use_system"]

_chosen: list[System] = []  # empty, or the one in use


def get_system() -> System:
    """The system in use; the first call chooses it."""
    if not _chosen:
        _chosen.append(_choose())
    return _chosen[0]


def use_system(system: System | None) -> None:
    """Use this system from now on; None: choose again."""
    _chosen[:] = [] if system is None else [system]


def _choose() -> System:
    if sys.platform == "linux":
        try:
            with DeferSignals():
                return LinuxSystem()
        except OSError as error:
            # "No room now" does not mean that the system lacks the call.
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise
        except (AttributeError, ImportError):
            pass  # this build of Python, or the C library, lacks one of the functions
    return PortableSystem()
