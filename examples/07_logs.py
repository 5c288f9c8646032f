"""Logs: the messages of each call are one section of the main log, in call order."""

import logging
import os
import signal
import tempfile
import time
from pathlib import Path

from pcall import Pcall, pcall
from pcall.tasklog import TaskLogHandler

log = logging.getLogger("devices")


def configure(device):
    log.info("connecting to %s", device)
    time.sleep(0.1 if device == "router-1" else 0)
    if device == "router-2":
        os.kill(os.getpid(), signal.SIGKILL)
    log.info("%s is configured", device)


with tempfile.TemporaryDirectory() as folder:
    # Any file handler would do: logging.basicConfig(filename=...), a rotating one, several.
    path = Path(folder, "main.log")
    handler = TaskLogHandler(path)
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)

    log.info("begin")
    Tolerant = Pcall.options(max_errors=None, return_outcomes=True)
    outcomes = Tolerant.pcall(configure, device=("router-1", "router-2", "router-3"))
    log.info("end")

    text = path.read_text()
    print(text)
    # The first call was the slowest, and its section is the first.
    places = [text.index(f"Begin child log {path}:pid-{outcome.pid}") for outcome in outcomes]
    assert places == sorted(places)
    # The section of the killed call has its last message, and how it ended.
    assert "connecting to router-2" in text
    assert "killed by SIGKILL" in text
    assert os.listdir(folder) == ["main.log"]

    logging.getLogger().removeHandler(handler)
    handler.close()


# Handlers that only this process can serve (a queue, a list, pytest's caplog) get the records.
class Keep(logging.Handler):
    records = []

    def emit(self, record):
        self.records.append(record)


log.addHandler(Keep())
pcall(configure, device=("switch-1", "switch-2"))
for record in Keep.records:
    print(f"call {record.pcall_index}, process {record.process}: {record.getMessage()}")
assert [record.pcall_index for record in Keep.records] == [0, 0, 1, 1]
