"""Logs that can't be written, or are long; cases of tests/contract/test_logs_faults.py."""

from __future__ import annotations

import logging
import logging.handlers
import os
import resource
import signal
import tempfile
import threading

from pcall import Pcall, pcall
from tests.helpers.cases import main


def log_to(path: str) -> None:
    logging.basicConfig(filename=path, level=logging.INFO, format="%(message)s")


def tell(n: int) -> int:
    logging.info("call %d", n)
    return n


class Printing(logging.Handler):
    """It prints what it gets."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.levelname, record.getMessage())


def tell_much(n: int) -> int:
    for number in range(100):
        logging.info("call %d line %d", n, number)
    return n


def fill_the_log() -> None:
    """Leave no room in the log."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    logging.raiseExceptions = False
    log_to("main.log")
    logging.getLogger("pcall").addHandler(Printing())
    logging.info("x" * 3000)
    # No file may become larger: what the disk says when it is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))


def no_room() -> None:
    fill_the_log()
    print(pcall(tell_much, n=(0, 1)))


def no_room_and_the_outcome() -> None:
    fill_the_log()
    run = Pcall(tell_much, n=[0])
    run.start()
    run.join()
    assert run.outcomes[0] is not None
    log = run.outcomes[0].log
    assert log is not None
    assert os.path.getsize(log) > 1000, log


def read_only_folder() -> None:
    os.mkdir("logs")
    log_to("logs/main.log")
    tempfile.gettempdir()
    pcall(len, cargs=["x"])  # imports what another user may not be able to
    os.chmod("logs", 0o555)
    if os.getuid() == 0:
        os.setuid(65534)
    print(pcall(tell, n=range(3)))


def long_log() -> None:
    log_to("main.log")

    def target(n: int) -> None:
        logging.info("x" * 1_000_000)
        path = f"main.log:pid-{os.getpid()}"
        os.truncate(path, 500_000_000)  # a hole: it takes no room, and reads as zeros

    run = Pcall(target, n=[0])
    run.start()
    run.wait()
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run.join()
    print(os.path.getsize("main.log"))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size)
    os.unlink("main.log")


def beside_a_thread_that_logs() -> None:
    handlers = [
        logging.FileHandler("main.log"),
        logging.StreamHandler(open("stream", "w")),
        logging.handlers.MemoryHandler(10, target=logging.NullHandler()),
        logging.FileHandler("/dev/null"),
    ]
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers)
    over = threading.Event()

    def talk() -> None:
        while not over.is_set():
            logging.info("the parent")

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        for _ in range(300):
            pcall(tell, 30, n=(0, 1))
    finally:
        over.set()
        thread.join()
    for name in ("main.log", "stream"):
        lines = open(name).read().splitlines()
        assert lines.count("call 0") == lines.count("call 1") == 300, name
        marks = {line for line in lines if ">>>>" in line or "<<<<" in line}
        assert set(lines) - {"call 0", "call 1", "the parent"} == marks, name
    assert sorted(os.listdir()) == ["main.log", "stream"]


if __name__ == "__main__":
    main(globals())
