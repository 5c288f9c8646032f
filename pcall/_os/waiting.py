"""The kernel's ways to wait for descriptors, also where a library has replaced Python's.

``gevent.monkey.patch_all()`` takes ``epoll`` out of the module ``select``, and has ``poll`` switch
to other greenlets. A run waits in the kernel, as it does without gevent, and blocks its thread
meanwhile.
"""

from __future__ import annotations

import select
from types import BuiltinFunctionType
from typing import Any

__all__ = ["EPOLLIN", "POLLIN", "epoll", "poll"]


def _original() -> Any:
    """The module ``select``, made again from its file if something in it has been replaced."""
    if isinstance(select.poll, BuiltinFunctionType):
        return select
    spec: Any = select.__spec__
    module = spec.loader.create_module(spec)
    spec.loader.exec_module(module)
    return module


_select = _original()
poll: Any = _select.poll
POLLIN: int = _select.POLLIN
epoll: Any = getattr(_select, "epoll", None)  # None on other systems than Linux
EPOLLIN: int = getattr(_select, "EPOLLIN", 0)
