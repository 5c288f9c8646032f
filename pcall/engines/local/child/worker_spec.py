"""What a reused worker inherits by its fork."""

from __future__ import annotations

from _socket import socket as Socket
from collections.abc import Callable
from typing import Any, NamedTuple

from pcall._core.calls import Calls
from pcall._wire.result_table import ResultTable
from pcall.engines.local.worker_control import WorkerControl

__all__ = ["WorkerSpec"]


class WorkerSpec(NamedTuple):
    """The objects that a worker inherits by its fork.

    Attributes:
        calls: all calls of the run.
        table: where the worker answers.
        control: its control block.
        socket: its end of the socket pair.
        block: calls that are run in one piece, with random generators seeded at the first.
        make: makes the :class:`Worker`, in the child; takes the arguments of that class but the
            last.
    """

    calls: Calls
    table: ResultTable
    control: WorkerControl
    socket: Socket
    block: int
    make: Callable[..., Any]
