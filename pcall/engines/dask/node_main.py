"""The main function of a node: the process of a worker that forks its calls.

A worker of the cluster has threads and sockets, so it must not fork. It starts one node, a program
of its own, which has one thread and imports nothing that starts others. The node ends when its
worker does, and ends all calls then.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import socket
import sys
import time

import cloudpickle

from pcall._os.private_fds import duplicate, register_private_fd
from pcall._wire.exception_codec import class_picklers, dump_exception
from pcall.engines.dask.channel import Channel, ChannelClosed, file_with
from pcall.engines.dask.node_engine import NodeEngine
from pcall.engines.dask.node_pool import NodePool
from pcall.engines.dask.node_values import StoredFile
from pcall.engines.dask.wire_records import ChunkOrder, ChunkReport, RunSpec

__all__ = ["Node", "main"]

_LONGEST_WAIT = 1.0
# Seconds between two turns where no descriptor tells of the ends of children.
_POLL_INTERVAL = 0.01


def main(fd: int) -> None:
    """Serve the worker at the other end of this socket until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    class_picklers.append(cloudpickle.dumps)
    sock = socket.socket(fileno=fd)
    register_private_fd(sock.fileno())
    Node(Channel(sock)).serve()


class Node:
    """Runs the calls that a worker orders.

    Args:
        channel: to the worker.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._runs: dict[str, NodeEngine] = {}
        self._closing: list[NodeEngine] = []

    def serve(self) -> None:
        """Serve until the worker is gone; then end all calls."""
        try:
            while True:
                if self._wait(self._pause()):
                    self._channel.flush()
                    for message, files in self._channel.receive():
                        kind, *rest = message
                        getattr(self, f"_on_{kind}")(*rest, files=files)
                self._turn()
        except ChannelClosed:
            self._end_all()

    def _turn(self) -> None:
        for engine in (*self._runs.values(), *self._closing):
            engine.turn()
        for engine in list(self._closing):
            engine.finish()
            if engine.idle:
                self._closing.remove(engine)
                engine.close()

    def _pause(self) -> float:
        engines = (*self._runs.values(), *self._closing)
        return min((each.pause() for each in engines), default=_LONGEST_WAIT)

    def _wait(self, seconds: float) -> bool:
        """Wait until something is to be done; True if it has to do with the channel."""
        poller = select.poll()
        full = select.POLLOUT if self._channel.is_full else 0
        poller.register(self._channel.fileno(), select.POLLIN | full)
        for engine in (*self._runs.values(), *self._closing):
            fd = engine.fileno()
            if fd is not None:
                poller.register(fd, select.POLLIN)
            elif engine.busy:
                seconds = min(seconds, _POLL_INTERVAL)
        channel = self._channel.fileno()
        return any(fd == channel for fd, _ in poller.poll(min(seconds, _LONGEST_WAIT) * 1000))

    def _send_report(self, report: ChunkReport, files: list[int]) -> None:
        with contextlib.suppress(ChannelClosed):  # the next receive() tells of it
            self._channel.send(("report", report), files)

    # ------------------------------------------------------------ messages

    def _on_open(self, spec: RunSpec, files: list[int]) -> None:
        error: bytes | None = None
        try:
            if spec.run not in self._runs:
                self._open(spec)
        except BaseException as problem:
            error = dump_exception(problem)
        self._channel.send(("opened", spec.run, error))

    def _open(self, spec: RunSpec) -> None:
        sys.path += [folder for folder in spec.path if folder not in sys.path]
        for name in spec.preload:
            importlib.import_module(name)
        kind = NodeEngine if spec.max_tasks == 1 else NodePool
        engine = kind(spec, self._send_report)
        engine.open()
        self._runs[spec.run] = engine

    def _on_chunk(self, order: ChunkOrder, files: list[int]) -> None:
        engine = self._runs.get(order.run)
        if engine is None:
            self._send_report(
                ChunkReport(order.run, order.chunk, [], unstarted=order.start, over=True), []
            )
        else:
            engine.add(order)

    def _on_value(self, run: str, index: int, size: int, files: list[int]) -> None:
        engine = self._runs.get(run)
        for fd in files:
            if engine is None:
                os.close(fd)
            else:
                engine.values.put_file(index, fd, size)

    def _on_ask(self, run: str, index: int, number: int, files: list[int]) -> None:
        """The worker wants a value, for another one."""
        engine = self._runs.get(run)
        found = None if engine is None else engine.values.raw(index)
        if found is None:
            self._channel.send(("told", number, 0))
        elif isinstance(found, StoredFile):
            self._channel.send(("told", number, found.size), [duplicate(found.fd)])
        else:
            self._channel.send(("told", number, len(found)), [file_with(found)])

    def _on_forget(self, run: str, calls: tuple[int, ...], files: list[int]) -> None:
        engine = self._runs.get(run)
        if engine is not None:
            for index in calls:
                engine.values.drop(index)

    def _on_shorten(self, run: str, chunk: str, files: list[int]) -> None:
        engine = self._runs.get(run)
        if engine is not None:
            engine.shorten(chunk)

    def _on_drop(self, run: str, chunk: str, files: list[int]) -> None:
        engine = self._runs.get(run)
        if engine is not None:
            engine.end_chunk(chunk)

    def _on_end(self, run: str, number: int, index: int | None, files: list[int]) -> None:
        engine = self._runs.get(run)
        if engine is not None:
            engine.end_calls(number, index)

    def _on_close(self, run: str, files: list[int]) -> None:
        engine = self._runs.pop(run, None)
        if engine is not None:
            engine.end_calls(signal.SIGTERM)
            self._closing.append(engine)

    # ------------------------------------------------------------ the end

    def _end_all(self) -> None:
        engines = [*self._runs.values(), *self._closing]
        for engine in engines:
            engine.end_calls(signal.SIGTERM)
        while any(engine.busy for engine in engines):
            time.sleep(0.005)
            for engine in engines:
                engine.finish()
                engine.turn()
        for engine in engines:
            engine.close()
