"""Greenlets of the parent do not go on in its children.

A child of a process that uses gevent has copies of all greenlets. Once a call waits, by
``time.sleep()`` for example, gevent would switch to them: the child would do the parent's work.
"""

from __future__ import annotations

import sys
from typing import Any

from pcall._os.system import Steps

__all__ = ["greenlet_steps"]


def greenlet_steps() -> Steps:
    """The steps by which children forget the parent's greenlets; none if it has none."""
    hubs = sys.modules.get("gevent.hub")
    return () if getattr(hubs, "set_hub", None) is None else ((_forget, hubs),)


def _forget(hubs: Any) -> None:
    # The greenlets wait for this hub. The call gets another one when it waits. The hub's own
    # destroy() would switch to the main greenlet, which need not be the one that has forked.
    loop = hubs.get_hub().loop
    hubs.set_hub(None)
    loop.destroy()
