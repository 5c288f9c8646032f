"""What children get from their parent; cases of tests/local/test_inheritance.py."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

import numpy

from pcall import ChildProcessException, pcall
from tests.helpers.cases import main
from tests.helpers.waiting import until, wait_for


def parent_process_has_died() -> None:
    def target() -> None:
        Path("ready").touch()
        try:
            time.sleep(60)
        finally:
            parent = multiprocessing.parent_process()
            assert parent is not None
            Path("alive.part").write_text(str(parent.is_alive()))
            os.rename("alive.part", "alive")

    pid = os.fork()
    if pid == 0:
        pcall(target)
    until(Path("ready").exists)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_for(Path("alive"), 20)
    print(Path("alive").read_text())


def stdin_is_dev_null() -> None:
    def target() -> tuple[object, ...]:
        try:
            input()
        except EOFError:
            ended = True
        program = subprocess.run(["cat"], stdout=subprocess.PIPE, check=False).stdout
        return ended, sys.stdin.read(), os.read(0, 10), program, os.readlink("/proc/self/fd/0")

    first = sys.stdin.readline()
    assert pcall([target, target]) == ((True, "", b"", b"", "/dev/null"),) * 2
    print(first + sys.stdin.read(), end="")


# Files that are open until the end of the interpreter. A frame that an exception refers to must
# not refer to them, too: nobody would close them then.
opened: list[TextIO] = []


def streams(place: str) -> None:
    if place == "file":
        os.dup2(os.open("out", os.O_WRONLY | os.O_CREAT), 1)
    opened.append(open("own", "w"))
    opened[0].write("pending in a file")
    sys.stdout.buffer.write(b"bytes before\n")
    print("text before", end=";")

    def target(i: int) -> None:
        print(f"<child {i}>", end="")
        sys.stdout.buffer.write(f"<bytes {i}>".encode())
        if i == 3:
            sys.exit(5)

    for _ in range(2):
        try:
            pcall(target, i=range(4))
        except ChildProcessException:
            pass
        print("between", end=";")
    print("after")


def exit_handlers() -> None:
    parent = os.getpid()
    atexit.register(lambda: print("of the parent", os.getpid() == parent))

    def target(i: int) -> None:
        atexit.register(print, f"first of {i}")
        atexit.register(print, f"last of {i}")
        # One that is not a daemon is waited for, as at any interpreter's end.
        threading.Timer(0.2, print, [f"thread of {i}"]).start()
        if i == 1:
            raise ValueError

    for i in (0, 1):
        try:
            pcall(target, i=[i])
        except ChildProcessException:
            pass


def random_numbers() -> None:
    def draw(i: int) -> tuple[float, float]:
        return random.random(), float(numpy.random.random())

    random.seed("text")
    numpy.random.seed(1)
    print(pcall(draw, i=range(5)))


def another_bit_generator() -> None:
    numpy.random.set_bit_generator(  # type: ignore[attr-defined]
        numpy.random.PCG64(3)
    )
    found = pcall(numpy.random.random, iargs=[()] * 5)
    assert len(set(found)) == 5, found


if __name__ == "__main__":
    main(globals())
