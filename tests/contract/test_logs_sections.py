"""docs/logs.rst: what each child logs to a file is one section of the main log, in call order."""

from __future__ import annotations

import logging
import logging.config
import logging.handlers
import multiprocessing
import os
import re
import time
from pathlib import Path

import pytest

from pcall import Pcall, pcall

pytestmark = pytest.mark.needs("child logs")

BEGIN = ">>>> Begin child log "
END = "<<<< End child log "


@pytest.fixture
def add(request):
    """Add handlers to loggers, and take them off after the test."""
    added = []

    def add(handler, name=None):
        logger = logging.getLogger(name)
        added.append((logger, handler, logger.level))
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        return handler

    yield add
    for logger, handler, level in reversed(added):
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()


def sections(text: str) -> list[tuple[int, list[str]]]:
    """Process id and lines of each section, the inner ones of a nested one among its lines."""
    found = []
    title = None
    for line in text.splitlines():
        if title is None and line.startswith(BEGIN):
            title, lines = line.removeprefix(BEGIN), []
        elif title is not None and line == END + title:
            found.append((int(title.rpartition("-")[2]), lines))
            title = None
        elif title is not None:
            lines.append(line)
    assert title is None, f"the section {title} has no end"
    return found


def speak(n):
    """Log three lines, the later the call the earlier."""
    for part in range(3):
        time.sleep(0.02 * (3 - n))
        logging.info("line %d of call %d", part, n)
    return os.getpid()


def lines_of(n):
    return [f"line {part} of call {n}" for part in range(3)]


def check(path: Path, pids, encoding="utf-8", lines=lines_of) -> str:
    """The log has these children's sections and nothing is left beside it."""
    text = path.read_text(encoding)
    assert sections(text) == [(pid, lines(n)) for n, pid in enumerate(pids)]
    assert sorted(os.listdir(path.parent)) == [path.name]
    return text


@pytest.mark.fast
def test_sections_in_call_order(add, tmp_path):
    """Each child's lines are together, in call order, between lines that name its file."""
    path = tmp_path / "main.log"
    add(logging.FileHandler(path))
    logging.info("before")
    pids = pcall(speak, n=range(3))
    logging.info("after")
    text = check(path, pids)
    assert text.startswith(f"before\n{BEGIN}{path}:pid-{pids[0]}\n")
    assert text.endswith(f"{END}{path}:pid-{pids[2]}\nafter\n")


def test_nothing_for_a_child_that_logs_nothing(add, tmp_path):
    """A child that logs nothing has no section."""
    path = tmp_path / "main.log"
    add(logging.FileHandler(path))
    pids = pcall(lambda n: logging.info("one") if n == 1 else None, n=range(3))
    assert pids == (None, None, None)
    assert [lines for _, lines in sections(path.read_text())] == [["one"]]


@pytest.mark.needs("a fresh child")
def test_the_file_while_the_call_runs(add, tmp_path):
    """While it runs a call logs to a file of its own; its outcome names that until it is merged."""
    path = tmp_path / "main.log"
    add(logging.FileHandler(path))
    run = Pcall(speak, n=(0, 1))
    run.start()
    assert run.wait(10)
    first = run.outcomes[0]
    assert first.log == f"{path}:pid-{first.pid}"
    assert Path(first.log).read_text().splitlines() == lines_of(0)
    assert BEGIN not in path.read_text()
    run.join()
    assert first.log is None
    check(path, run.results)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: logging.FileHandler(path, "w"),
        lambda path: logging.FileHandler(path, delay=True),
        lambda path: logging.FileHandler(path, "w", delay=True),
        lambda path: logging.FileHandler(path, "x"),
        lambda path: logging.FileHandler(path, encoding="utf-8"),
        lambda path: logging.handlers.WatchedFileHandler(path),
        lambda path: logging.handlers.WatchedFileHandler(path, "w"),
        lambda path: logging.handlers.RotatingFileHandler(path, maxBytes=10**6, backupCount=3),
        lambda path: logging.handlers.TimedRotatingFileHandler(path, "midnight"),
    ],
    ids=["w", "delay", "w-delay", "x", "utf-8", "watched", "watched-w", "rotating", "timed"],
)
def test_kinds_of_file_handlers(add, tmp_path, make):
    """Every file handler of logging has sections, however it opens its file."""
    path = tmp_path / "main.log"
    add(make(path))
    check(path, pcall(speak, n=range(3)))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "utf-16-le", "latin-1"])
def test_encodings(add, tmp_path, encoding):
    """Sections are in the handler's encoding, and a mark of byte order is at the start alone."""
    path = tmp_path / "main.log"
    add(logging.FileHandler(path, encoding=encoding))
    pids = pcall(lambda n: [logging.info("héllo %d", n), os.getpid()][1], n=range(3))
    text = check(path, pids, encoding, lambda n: [f"héllo {n}"])
    assert "\ufeff" not in text


def test_errors_of_encodings(add, tmp_path):
    """What the encoding does not have is written as the handler's errors= says."""
    path = tmp_path / "main.log"
    add(logging.FileHandler(path, encoding="ascii", errors="backslashreplace"))
    pids = pcall(lambda n: [logging.info("snow ☃"), os.getpid()][1], n=range(2))
    check(path, pids, "ascii", lambda n: ["snow \\u2603"])


def test_several_files(add, tmp_path):
    """Each file handler, also on a named logger, has sections of what it was given alone."""
    for name in ("root", "db", "silent"):
        add(logging.FileHandler(tmp_path / f"{name}.log"), None if name == "root" else name)

    def target(n):
        logging.getLogger("db").info("db %d", n)
        logging.info("root %d", n)

    pcall(target, n=(0, 1))
    root = [lines for _, lines in sections((tmp_path / "root.log").read_text())]
    assert root == [["db 0", "root 0"], ["db 1", "root 1"]]
    database = [lines for _, lines in sections((tmp_path / "db.log").read_text())]
    assert database == [["db 0"], ["db 1"]]
    assert (tmp_path / "silent.log").read_text() == ""
    assert len(os.listdir(tmp_path)) == 3


def test_two_handlers_with_one_file(add, tmp_path):
    """Two handlers with the same file have one section of both."""
    path = tmp_path / "main.log"
    add(logging.FileHandler(path))
    add(logging.FileHandler(path), "db")
    pids = pcall(lambda n: [logging.getLogger("db").info("db"), os.getpid()][1], n=(0, 1))
    check(path, pids, lines=lambda n: ["db", "db"])


def test_dictconfig_and_formatter(tmp_path):
    """A handler from dictConfig needs no change; sections are written through its formatter."""
    path = tmp_path / "main.log"
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"f": {"format": "%(name)s|%(levelname)s|%(message)s"}},
            "handlers": {
                "file": {"class": "logging.FileHandler", "filename": path, "formatter": "f"}
            },
            "loggers": {"configured": {"handlers": ["file"], "level": "INFO"}},
        }
    )
    logger = logging.getLogger("configured")
    try:
        (pid,) = pcall(lambda n: [logger.info("hello"), os.getpid()][1], n=[0])
    finally:
        logger.handlers.pop().close()
    assert path.read_text().splitlines() == [
        f"pcall|INFO|{BEGIN}{path}:pid-{pid}",
        "configured|INFO|hello",
        f"pcall|INFO|{END}{path}:pid-{pid}",
    ]


def test_level_and_filters_of_the_handler(add, tmp_path):
    """The lines around a section are there whatever the handler's level and filters let pass."""
    path = tmp_path / "main.log"
    handler = add(logging.FileHandler(path))
    handler.setLevel(logging.ERROR)
    handler.addFilter(lambda record: record.name == "root")

    def target(n):
        logging.info("too low")
        logging.error("high enough")
        return os.getpid()

    check(path, pcall(target, n=(0, 1)), lines=lambda n: ["high enough"])


def test_format_with_a_field_from_a_filter(add, tmp_path):
    """A format with a field that only a filter puts into records is no hindrance."""

    def put(record):
        record.tenant = "acme"
        return True

    path = tmp_path / "main.log"
    handler = add(logging.FileHandler(path))
    handler.addFilter(put)
    handler.setFormatter(logging.Formatter("%(tenant)s %(message)s"))
    (pid,) = pcall(lambda n: [logging.info("hello"), os.getpid()][1], n=[0])
    assert path.read_text().splitlines() == [
        f"acme {BEGIN}{path}:pid-{pid}",
        "acme hello",
        f"acme {END}{path}:pid-{pid}",
    ]


def test_format_with_a_field_that_is_missing(add, tmp_path):
    """With a format that asks for what no filter puts there the lines are plain text."""

    path = tmp_path / "main.log"
    add(logging.FileHandler(path)).setFormatter(logging.Formatter("%(tenant)s %(message)s"))
    extra = {"tenant": "acme"}
    pids = pcall(lambda n: [logging.info("hello", extra=extra), os.getpid()][1], n=(0, 1))
    check(path, pids, lines=lambda n: ["acme hello"])


def test_a_last_line_without_its_end(add, tmp_path):
    """A section whose last line has no end is completed."""
    path = tmp_path / "main.log"
    add(logging.FileHandler(path)).terminator = ""
    text = []

    def target(n):
        logging.info("no end")
        return os.getpid()

    pid, other = pcall(target, n=(0, 1))
    text = path.read_text()
    assert f"no end\n{END}{path}:pid-{pid}" in text
    assert f"no end\n{END}{path}:pid-{other}" in text


def test_nested_sections(add, tmp_path):
    """Sections of nested calls stand within the section of the call that made them."""

    def outer(n):
        logging.info("outer %d", n)
        inner = pcall(lambda k: [logging.info("inner %d", k), os.getpid()][1], k=(0, 1))
        logging.info("done %d", n)
        return os.getpid(), inner

    path = tmp_path / "main.log"
    add(logging.FileHandler(path))
    results = pcall(outer, n=(0, 1))
    found = sections(path.read_text())
    assert [pid for pid, _ in found] == [pid for pid, _ in results]
    for n, (pid, inner) in enumerate(results):
        expected = [f"outer {n}"]
        for k, other in enumerate(inner):
            title = f"{path}:pid-{pid}:pid-{other}"
            expected += [BEGIN + title, f"inner {k}", END + title]
        assert found[n][1] == [*expected, f"done {n}"]
    assert os.listdir(tmp_path) == ["main.log"]


def test_nested_sections_of_a_call_that_logs_nothing_itself(add, tmp_path):
    """Nested sections are within their caller's also when that has not logged before."""
    path = tmp_path / "main.log"
    add(logging.FileHandler(path))
    pcall(lambda n: pcall(lambda k: logging.info("inner %d", k), k=(0, 1)) and None, n=[0])
    ((pid, lines),) = sections(path.read_text())
    assert len(lines) == 6
    assert all(f"{path}:pid-{pid}:pid-" in line for line in lines[::3])
    assert os.listdir(tmp_path) == ["main.log"]


def test_processes_that_a_target_makes(add, tmp_path):
    """What a process logs that the target makes by other means is in the target's section."""
    context = multiprocessing.get_context("fork")

    def target(n):
        process = context.Process(target=logging.info, args=("from below",))
        process.start()
        process.join()
        logging.info("from the call")
        return os.getpid()

    path = tmp_path / "main.log"
    add(logging.FileHandler(path))
    check(path, pcall(target, n=(0, 1)), lines=lambda n: ["from below", "from the call"])


def test_shutdown_and_close_in_the_target(add, tmp_path):
    """A target that closes handlers, or all of logging, loses nothing of what it has logged."""
    path = tmp_path / "main.log"
    handler = add(logging.FileHandler(path))

    def target(n):
        logging.info("before %d", n)
        handler.close() if n else logging.shutdown()
        return os.getpid()

    check(path, pcall(target, n=(0, 1)), lines=lambda n: [f"before {n}"])
    logging.info("the parent goes on")
    assert path.read_text().endswith("the parent goes on\n")


def test_a_handler_swapped_by_the_target(add, tmp_path):
    """A handler that the target puts in place of the parent's is the target's own affair."""
    path, other = tmp_path / "main.log", tmp_path / "other.log"
    handler = add(logging.FileHandler(path))

    def target(n):
        logging.info("old")
        logging.getLogger().removeHandler(handler)
        logging.getLogger().addHandler(logging.FileHandler(other))
        logging.info("new")
        return os.getpid()

    (pid,) = pcall(target, n=[0])
    assert sections(path.read_text()) == [(pid, ["old"])]
    assert other.read_text() == "new\n"


def test_a_handler_closed_by_the_parent_meanwhile(add, tmp_path):
    """Sections come home also when the parent has closed the handler before the run is over."""
    path = tmp_path / "main.log"
    handler = add(logging.FileHandler(path, "w"))
    run = Pcall(speak, n=range(2))
    run.start()
    logging.getLogger().removeHandler(handler)
    handler.close()
    run.join()
    check(path, run.results)
    assert handler.stream is None


def test_eight_children_with_many_lines(add, tmp_path):
    """Of eight children with 4000 lines each no line is torn, missing or misplaced."""
    path = tmp_path / "main.log"
    add(logging.FileHandler(path))

    def target(n):
        for number in range(4000):
            logging.info("call %d line %d %s", n, number, "x" * (number % 90))

    pcall(target, n=range(8))
    found = sections(path.read_text())
    assert len(found) == 8
    for n, (_, lines) in enumerate(found):
        assert lines == [f"call {n} line {k} {'x' * (k % 90)}" for k in range(4000)]


def test_option_tasklog_false(add, tmp_path):
    """With tasklog=False children write to the parent's file, and nothing is put around it."""
    path = tmp_path / "main.log"
    add(logging.FileHandler(path))
    Pcall.options(tasklog=False).pcall(speak, n=range(3))
    assert sorted(path.read_text().splitlines()) == sorted(
        line for n in range(3) for line in lines_of(n)
    )
    assert os.listdir(tmp_path) == ["main.log"]


@pytest.mark.engines(why="it chooses inline itself")
def test_no_process_no_section(add, tmp_path):
    """With max_workers=0 calls log as this process does."""
    path = tmp_path / "main.log"
    add(logging.FileHandler(path))
    Pcall.options(max_workers=0).pcall(speak, n=range(2))
    assert path.read_text().splitlines() == lines_of(0) + lines_of(1)


def test_a_file_handler_on_no_file(add, tmp_path):
    """A file handler on a device or a pipe stays live in children."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    add(logging.FileHandler(fifo))
    add(logging.FileHandler(os.devnull))
    pcall(lambda n: logging.info("call %d", n), n=range(3))
    text = os.read(reader, 10_000).decode()
    os.close(reader)
    assert sorted(text.splitlines()) == ["call 0", "call 1", "call 2"]
    assert not [name for name in os.listdir("/dev") if re.match("null:pid", name)]


def test_handlers_change_between_runs(add, tmp_path):
    """Which handlers there are is seen anew at each start."""
    path = tmp_path / "main.log"
    assert pcall(speak, n=[2])
    handler = add(logging.FileHandler(path))
    pids = pcall(lambda n: [logging.info("there"), os.getpid()][1], n=[0])
    logging.getLogger().removeHandler(handler)
    assert pcall(speak, n=[2])
    check(path, pids, lines=lambda n: ["there"])
