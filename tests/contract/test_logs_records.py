"""docs/logs.rst: records for handlers of the parent alone arrive there, in call order."""

from __future__ import annotations

import contextvars
import io
import logging
import logging.handlers
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import time

import pytest

from pcall import ChildDied, Pcall, PcallTimeout, pcall
from tests.helpers.scripts import environment
from tests.helpers.waiting import until

pytestmark = pytest.mark.needs("child logs")

log = logging.getLogger("test.records")


@pytest.fixture(autouse=True)
def level():
    """Let everything through, and leave this logger as it was."""
    log.setLevel(logging.DEBUG)
    yield
    log.setLevel(logging.NOTSET)
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()


class Keep(logging.Handler):
    """Keeps records, and the processes in which it was given them."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        assert record.process is None or os.getpid() == HERE
        self.records.append(record)


HERE = os.getpid()


@pytest.fixture
def keep():
    handler = Keep()
    log.addHandler(handler)
    return handler


@pytest.mark.needs("a fresh child")
@pytest.mark.fast
def test_caplog(caplog, each_system):
    """pytest's caplog has each child's records once, in call order, with process and index."""

    def target(n):
        time.sleep(0.05 * (2 - n))
        log.info("first of %d", n)
        log.warning("second of %d", n)
        return os.getpid()

    with caplog.at_level(logging.INFO):
        log.info("before")
        pids = pcall(target, n=range(3))
        log.info("after")
    texts = [f"{which} of {n}" for n in range(3) for which in ("first", "second")]
    assert caplog.messages == ["before", *texts, "after"]
    children = caplog.records[1:-1]
    assert [r.process for r in children] == [pid for pid in pids for _ in range(2)]
    assert [r.pcall_index for r in children] == [0, 0, 1, 1, 2, 2]
    assert [r.processName.rpartition("-")[2] for r in children] == list("001122")
    assert [r.levelname for r in children] == ["INFO", "WARNING"] * 3


def test_capsys(capsys):
    """A stream handler that was made under capsys has the records of children in call order."""
    log.addHandler(logging.StreamHandler(sys.stdout))

    def target(n):
        time.sleep(0.05 * (2 - n))
        log.info("call %d", n)

    pcall(target, n=range(3))
    assert capsys.readouterr().out == "call 0\ncall 1\ncall 2\n"


def test_capfd(capfd):
    """A stream handler under capfd is live in children."""
    log.addHandler(logging.StreamHandler(sys.stdout))
    run = Pcall(lambda n: [log.info("call %d", n), time.sleep(600)], n=[0])
    run.start()
    assert until(lambda: capfd.readouterr().out == "call 0\n")
    run.kill()
    run.join()


def test_caplog_within_a_call(caplog):
    """Within a call caplog has nothing of the call; without the task log nothing arrives."""

    def target(n):
        log.info("call %d", n)
        return len(caplog.records)

    assert pcall(target, n=[0]) == (0,)
    assert caplog.messages == ["call 0"]
    Pcall.options(tasklog=False).pcall(target, n=[0])
    assert caplog.messages == ["call 0"]


def test_caplog_text_and_failure(caplog):
    """A failed call is told in caplog, with its traceback."""
    with pytest.raises(Exception, match="odd"):
        pcall(lambda n: exec("raise ValueError('odd')"), n=[0])
    (record,) = [r for r in caplog.records if r.name == "pcall"]
    assert record.pcall_index == 0
    assert isinstance(record.exc_info[1], ValueError)
    assert "ValueError: odd" in caplog.text


def test_fields_of_a_record(keep):
    """extra= fields, arguments, place, thread and stack of a record arrive as they were."""

    def target(n):
        extra = {"device": "router", "ports": [1, 2], "n": n}
        log.info("%s and %d", "text", 5, extra=extra, stack_info=True)

    pcall(target, n=[7])
    (record,) = keep.records
    assert (record.device, record.ports, record.n) == ("router", [1, 2], 7)
    assert (record.msg, record.args) == ("%s and %d", ("text", 5))
    assert record.getMessage() == "text and 5"
    assert record.funcName == "target"
    assert record.pathname == __file__
    assert record.threadName == "MainThread"
    assert "in target" in record.stack_info


def test_arguments_by_name(keep):
    """Arguments that came as one mapping arrive as such."""
    pcall(lambda n: log.info("%(a)s %(b)s", {"a": 1, "b": [2]}), n=[0])
    assert keep.records[0].args == {"a": 1, "b": [2]}
    assert keep.records[0].getMessage() == "1 [2]"


def test_exception_of_a_record(keep):
    """exc_info arrives as the exception, with its cause and the frames of the child."""

    def inner():
        raise KeyError("inner")

    def target(n):
        try:
            try:
                inner()
            except KeyError as error:
                raise OSError(2, "outer") from error
        except OSError as error:
            before = error.__traceback__
            log.exception("failed")
            return error.__traceback__ is before

    assert pcall(target, n=[0]) == (True,)
    kind, error, tb = keep.records[0].exc_info
    assert kind is FileNotFoundError
    assert (error.errno, error.strerror) == (2, "outer")
    assert isinstance(error.__cause__, KeyError)
    text = logging.Formatter().formatException((kind, error, tb))
    assert "in inner" in text
    assert "in target" in text


def test_exc_info_without_an_exception(keep):
    """exc_info that was asked for where there was none arrives, too."""
    pcall(lambda n: log.error("no exception", exc_info=True), n=[0])
    assert logging.Formatter().format(keep.records[0]) == "no exception\nNoneType: None"


class Odd:
    """Can't be pickled, and shows in which process it is."""

    def __init__(self):
        self.lock = contextvars.Context()

    def __str__(self):
        return f"odd in {os.getpid()}"


def test_an_argument_that_cannot_be_pickled(keep):
    """A record whose argument can't be pickled arrives with its text, as the child saw it."""
    pids = pcall(lambda n: [log.info("it is %s", Odd()), os.getpid()][1], n=(0, 1))
    assert [record.getMessage() for record in keep.records] == [f"it is odd in {p}" for p in pids]


class Changing:
    """Can be pickled, but shows something else then."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text

    def __reduce__(self):
        return Changing, ("something else",)


def test_an_argument_that_is_shown_differently(keep):
    """A record arrives with the text that the child saw, also where a pickle would change it."""
    pcall(lambda n: log.info("it is %s", Changing("this")), n=[0])
    assert keep.records[0].getMessage() == "it is this"


def test_a_message_and_a_field_that_cannot_be_pickled(keep):
    """The same for a message that is an object, and a field is shown by something like it."""
    (pid,) = pcall(lambda n: [log.info(Odd(), extra={"odd": Odd()}), os.getpid()][1], n=[0])
    assert keep.records[0].getMessage() == f"odd in {pid}"
    assert "Odd object" in repr(keep.records[0].odd)


def test_a_record_that_cannot_be_formatted(keep):
    """A record that can't be formatted is for the handler to find out, and harms no call."""
    wrong = "%d and %d"
    assert pcall(lambda n: log.info(wrong, n), n=(0, 1)) == (None, None)
    assert [record.args for record in keep.records] == [(0,), (1,)]
    assert pcall(lambda n: log.info("%d", Odd()), n=[0]) == (None,)
    with pytest.raises(TypeError):
        keep.records[2].getMessage()


def test_queue_handler():
    """A QueueHandler's listener in the parent gets each record once."""
    queued = queue.SimpleQueue()
    log.addHandler(logging.handlers.QueueHandler(queued))
    pids = pcall(lambda n: [log.info("call %d", n), os.getpid()][1], n=range(3))
    records = [queued.get_nowait() for _ in range(3)]
    assert queued.empty()
    assert [r.getMessage() for r in records] == ["call 0", "call 1", "call 2"]
    assert [r.process for r in records] == list(pids)


def test_queue_of_multiprocessing():
    """A QueueHandler with a queue between processes gets each record once, in call order."""
    queued = multiprocessing.get_context("fork").SimpleQueue()
    queued.put_nowait = queued.put
    log.addHandler(logging.handlers.QueueHandler(queued))
    pcall(lambda n: [time.sleep(0.1 * (2 - n)), log.info("call %d", n)], n=range(3))
    assert [queued.get().getMessage() for _ in range(3)] == ["call 0", "call 1", "call 2"]
    assert queued.empty()
    queued.close()


def test_memory_handler(tmp_path):
    """What a MemoryHandler has kept is written once, by the parent, also when a child flushes."""
    target_handler = logging.FileHandler(tmp_path / "log")
    memory = logging.handlers.MemoryHandler(100, target=target_handler)
    log.addHandler(memory)
    log.info("kept by the parent")

    def target(n):
        log.info("call %d", n)
        memory.flush()
        logging.shutdown()

    pcall(target, n=(0, 1))
    memory.close()
    target_handler.close()
    assert (tmp_path / "log").read_text() == "kept by the parent\ncall 0\ncall 1\n"


@pytest.mark.needs("a fresh child")
def test_stream_without_a_descriptor():
    """A stream handler on a stream in memory has the children's records in the parent."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(processName)s %(pcall_index)d %(message)s"))
    log.addHandler(handler)
    pcall([len], cargs=["x"])
    pcall(log.info, cargs=["call %d"], iargs=[(0,), (1,)])
    assert stream.getvalue() == "Logger.info-0 0 call 0\nLogger.info-1 1 call 1\n"


def test_nested(keep):
    """Records of nested calls travel up to the top, with the index of the topmost call."""

    def inner(k):
        log.info("inner %d", k)

    def outer(n):
        log.info("outer %d", n)
        pcall(inner, k=(0, 1))
        log.info("done %d", n)

    pcall(outer, n=(0, 1))
    one = ["outer {}", "inner 0", "inner 1", "done {}"]
    assert [r.getMessage() for r in keep.records] == [t.format(n) for n in (0, 1) for t in one]
    assert [r.pcall_index for r in keep.records] == [0] * 4 + [1] * 4


def test_filter_sees_the_context_of_the_call(keep):
    """A handler's filter looks at a record in the child, where the call's context is."""
    current = contextvars.ContextVar("current", default="none")

    def put(record):
        record.current = current.get()
        return "secret" not in record.getMessage()

    def target(n):
        current.set(f"call {n}")
        log.info("text")
        log.info("a secret")

    keep.addFilter(put)
    pcall(target, n=(0, 1))
    assert [record.current for record in keep.records] == ["call 0", "call 1"]


def test_handler_with_a_handle_of_its_own():
    """A handler that overrides handle() is given the records there."""

    class Own(logging.Handler):
        seen = []

        def handle(self, record):
            self.seen.append((record.getMessage(), os.getpid()))

    log.addHandler(Own())
    pcall(lambda n: log.info("call %d", n), n=(0, 1))
    assert Own.seen == [("call 0", HERE), ("call 1", HERE)]


def test_handler_that_fails(keep):
    """What a handler raises in the parent is the handler's affair, and never the run's."""
    told = []

    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError("broken")

        def handleError(self, record):
            told.append((record.getMessage(), str(sys.exc_info()[1])))

    log.addHandler(Broken())
    assert pcall(lambda n: log.info("call %d", n), n=(0, 1)) == (None, None)
    assert told == [("call 0", "broken"), ("call 1", "broken")]
    assert len(keep.records) == 2


def test_levels_of_handlers(keep):
    """A handler's level holds in children."""
    keep.setLevel(logging.ERROR)
    pcall(lambda n: [log.info("low"), log.error("high")], n=[0])
    assert [r.getMessage() for r in keep.records] == ["high"]


def test_records_arrive_when_their_call_is_over(keep):
    """Records are there once their call and all before it are over, not only at the end."""

    def target(n):
        log.info("call %d", n)
        time.sleep(600 * (n == 1))

    run = Pcall(target, n=range(3))
    run.start()
    end = time.monotonic() + 10
    while not keep.records and time.monotonic() < end:
        assert not run.done
    while run.outcomes[2] is None and time.monotonic() < end:
        time.sleep(0.01)
    assert [r.getMessage() for r in keep.records] == ["call 0"]
    run.kill()
    run.join()
    assert [r.getMessage() for r in keep.records][-1] == "call 2"


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_death(keep, size, each_system):
    """The last record of a child that is killed arrives, however long it is."""

    def target(n):
        log.info("x" * size)
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ChildDied):
        pcall(target, n=[0])
    assert [len(r.msg) for r in keep.records] == [size]


def test_killed_while_they_log(keep, each_system):
    """Children that are killed while they log lose no more than the record of that moment."""

    def target(n):
        number = 0
        while True:
            log.info("%d", number, extra={"filling": "x" * 3000})
            number += 1

    with pytest.raises(PcallTimeout):
        Pcall.options(grace_period=0).pcall(target, 1.0, n=range(4))
    for n in range(4):
        mine = [r for r in keep.records if r.pcall_index == n and r.name == log.name]
        numbers = [r.args[0] for r in mine]
        assert numbers
        assert numbers == [*range(len(numbers))]


def test_many_records(keep):
    """Eight children that log 2000 records each: none is missing, each call's in order."""
    pcall(lambda n: [log.info("%d", number) for number in range(2000)] and None, n=range(8))
    found = [(r.pcall_index, r.args[0]) for r in keep.records]
    assert found == [(n, number) for n in range(8) for number in range(2000)]


def test_option_tasklog_false(keep):
    """With tasklog=False handlers in children are left as they are."""

    def target(n):
        with pytest.raises(AssertionError):  # of the handler, which sees itself in a child
            log.info("text")

    Pcall.options(tasklog=False).pcall(target, n=[0])
    assert keep.records == []


CONSOLE = """
import logging, os, sys, time
from pcall import pcall
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
def target(n):
    logging.info("from %d", n)
    os.read(3, 1)
os.dup2(0, 3)
sys.stdin = None
pcall(target, n=[0])
logging.info("over")
"""


@pytest.mark.engines(why="a script makes the run")
def test_console_is_live():
    """What a child logs to the console is there at once, and once."""
    process = subprocess.Popen(
        [sys.executable, "-c", CONSOLE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert os.read(process.stdout.fileno(), 100) == b"from 0\n"
    out, _ = process.communicate(b"x", timeout=30)
    assert out == b"over\n"


@pytest.fixture
def factory():
    """Install a factory of log records for the test."""
    before = logging.getLogRecordFactory()
    yield logging.setLogRecordFactory
    logging.setLogRecordFactory(before)


def strict_factory(name, level, fn, lno, msg, args, exc_info, func, sinfo, **more):
    """Make a record as frameworks do: from all arguments, with the name's parts."""
    record = logging.LogRecord(name, level, fn, lno, msg, args, exc_info, func, sinfo)
    record.area = name.upper().split(".")[-1] + func[:0]
    return record


def test_a_factory_that_uses_the_name(keep, factory, tmp_path):
    """Records arrive, and sections are written, under a factory that uses all its arguments."""
    factory(strict_factory)
    file = logging.FileHandler(tmp_path / "main.log")
    file.setFormatter(logging.Formatter("%(area)s %(message)s"))
    log.addHandler(file)
    (pid,) = pcall(lambda n: log.info("call %d", n) or os.getpid(), n=[0])
    assert [(r.area, r.getMessage(), r.process) for r in keep.records] == [
        ("RECORDS", "call 0", pid)
    ]
    title = f"child log {tmp_path}/main.log:pid-{pid}"
    assert (tmp_path / "main.log").read_text().splitlines() == [
        f"PCALL >>>> Begin {title}", "RECORDS call 0", f"PCALL <<<< End {title}",
    ]  # fmt: skip


class BraceRecord(logging.LogRecord):
    """A record whose message is formatted with braces."""

    def getMessage(self):
        return self.msg.format(*self.args)


def test_a_class_as_factory(keep, factory):
    """Records of a class of the user's arrive as such; of a local class, with their text."""

    class LocalRecord(BraceRecord):
        pass

    for kind in (BraceRecord, LocalRecord):
        factory(kind)
        pcall(lambda n: log.info("call {} of {}", n, [2]), n=[0])  # noqa: PLE1205
    assert [record.getMessage() for record in keep.records] == ["call 0 of [2]"] * 2
    assert type(keep.records[0]) is BraceRecord
    assert keep.records[0].args == (0, [2])


def test_a_factory_that_fails_in_the_parent(keep, factory, tmp_path):
    """Records and sections of children are there although no record can be made in the parent."""
    log.addHandler(logging.FileHandler(tmp_path / "main.log"))

    def make(*arguments):
        assert os.getpid() != HERE
        return logging.LogRecord(*arguments)

    factory(make)
    pcall(lambda n: log.info("call %d", n), n=[0])
    assert [record.getMessage() for record in keep.records] == ["call 0"]
    begin, text, end = (tmp_path / "main.log").read_text().splitlines()
    assert (begin[:10], text, end[:8]) == (">>>> Begin", "call 0", "<<<< End")
