"""Logs of runs that are cut off; cases of tests/contract/test_logs_endings.py."""

from __future__ import annotations

import logging
import os
import sys
import time

from pcall import Pcall, pcall
from tests.helpers.cases import main

logging.basicConfig(filename="main.log", level=logging.INFO, format="%(message)s")


def log_and_sleep(n: int) -> None:
    logging.info("hello %d", n)
    os.write(1, f"{os.getpid()}\n".encode())
    time.sleep(600)


def waits(count: str) -> None:
    pcall(log_and_sleep, n=range(int(count)))


def ends_before_its_run() -> None:
    run = Pcall(log_and_sleep, n=range(2))
    run.start()
    sys.stderr.close()
    while not os.path.exists(f"main.log:pid-{run.pids[0]}"):
        time.sleep(0.01)


if __name__ == "__main__":
    main(globals())
