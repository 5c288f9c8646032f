"""docs/progress.rst: which observers a run has, and that none of them can harm it."""

from __future__ import annotations

import inspect
import io
import logging
import re
import sys
import time

import pytest

from pcall import pcall, progress
from pcall._core.observers import Observers, check_progress
from pcall._core.records import Event
from pcall._faces.run_observers import observers_of
from pcall.progress import (
    ConsoleProgress,
    HtmlProgress,
    LogProgress,
    NotebookProgress,
    choosing,
)
from tests.helpers.progress_runs import PROBE
from tests.helpers.scripts import run_python


class Recorder:
    """An observer that writes down what it is told, and fails where it is asked to."""

    def __init__(self, fails: str = "", error: BaseException | None = None) -> None:
        self.fails = fails
        self.error = error or ZeroDivisionError("a broken observer")
        self.told: list[str] = []
        self.events: list[Event] = []

    def _tell(self, what: str) -> None:
        self.told.append(what)
        if what == self.fails and self.told.count(what) == 1:
            raise self.error

    def begin(self) -> None:
        self._tell("begin")

    def observe(self, events) -> None:
        self.events += events
        self._tell("observe")

    def end(self) -> None:
        self._tell("end")


def event(number: int = 0) -> Event:
    return Event("planned", PROBE, float(number))


def a_run(*recorders: Recorder) -> None:
    observers = Observers(recorders)
    observers.begin()
    for number in range(5):
        observers.add(event(number))
        observers.turn()
        time.sleep(0.06)
    observers.end()


@pytest.mark.fast
def test_every_event_is_passed_on_once_and_in_order():
    """Each observer is told the beginning, all events in their order, and the end."""
    first, second = Recorder(), Recorder()
    a_run(first, second)
    for recorder in (first, second):
        assert recorder.events == [event(number) for number in range(5)]
        assert recorder.told[0] == "begin"
        assert recorder.told[-1] == "end"
        assert set(recorder.told[1:-1]) == {"observe"}


def test_what_is_left_is_passed_on_before_the_end():
    """Events that were not due yet are told before the end is."""
    recorder = Recorder()
    observers = Observers([recorder])
    observers.begin()
    observers.turn()
    observers.add(event())
    observers.end()
    assert recorder.events == [event()]
    assert recorder.told[-2:] == ["observe", "end"]


def test_observers_are_told_a_few_times_a_second():
    """However many turns a run takes, observers are told something a few times a second."""
    recorder = Recorder()
    observers = Observers([recorder])
    observers.begin()
    begun = time.monotonic()
    turns = 0
    while time.monotonic() < begun + 0.5:
        observers.add(event())
        observers.turn()
        turns += 1
    calls = recorder.told.count("observe")
    assert 2 <= calls <= 6 < turns
    observers.end()
    assert len(recorder.events) == turns


def test_observers_are_told_that_time_passes():
    """Observers are called also when nothing has happened, so that they can draw clocks."""
    recorder = Recorder()
    observers = Observers([recorder])
    observers.begin()
    observers.turn()
    assert 0 < observers.pause() <= 0.25
    time.sleep(observers.pause())
    observers.turn()
    assert recorder.told == ["begin", "observe", "observe"]
    observers.end()


@pytest.mark.parametrize("fails", ["begin", "observe", "end"])
def test_a_failing_observer_is_reported_once_and_harms_nobody(fails, caplog):
    """An observer that fails is reported once, with its traceback; the others go on."""
    broken, good = Recorder(fails), Recorder()
    with caplog.at_level(logging.WARNING, "pcall"):
        a_run(broken, good)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("pcall", "WARNING")
    assert "Recorder" in record.getMessage()
    assert record.exc_info[0] is ZeroDivisionError
    assert len(good.events) == 5
    assert good.told[-1] == "end"
    assert len(broken.events) == (5 if fails == "end" else fails == "observe")
    # It is told no more but that it is over, so that it can tidy up.
    assert broken.told.count(fails) == 1
    assert broken.told[-1] == "end"


def test_an_observer_that_cannot_even_end_is_reported_once(caplog):
    """An observer that fails, and fails again at the end, is reported for the first."""
    broken = Recorder("observe")
    broken.end = lambda: 1 / 0
    a_run(broken)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("fails", ["begin", "observe"])
def test_an_interrupt_goes_through_an_observer(fails, error, caplog):
    """Ctrl-C while an observer is at work goes on, and the end is told all the same."""
    interrupted, other = Recorder(fails, error), Recorder()
    observers = Observers([interrupted, other])
    with pytest.raises(type(error)):
        observers.begin()
        observers.turn()
    observers.end()
    assert interrupted.told[-1] == "end"
    # What was not told the beginning is told nothing.
    assert other.told == ([] if fails == "begin" else ["begin", "observe", "end"])
    assert not caplog.records


def test_a_second_interrupt_keeps_no_observer_from_its_end():
    """Every observer is told the end, also when Ctrl-C breaks into the telling of it."""
    recorders = [Recorder("end", KeyboardInterrupt()), Recorder("observe", KeyboardInterrupt())]
    recorders.append(Recorder())
    observers = Observers(recorders)
    observers.begin()
    with pytest.raises(KeyboardInterrupt):
        observers.end()
    assert [recorder.told[-1] for recorder in recorders] == ["end"] * 3


def test_the_end_is_told_once():
    """Terminator twice, or without a beginning, is harmless."""
    recorder = Recorder()
    observers = Observers([recorder])
    observers.end()
    assert recorder.told == []
    observers.begin()
    observers.end()
    observers.end()
    assert recorder.told == ["begin", "observe", "end"]


def test_without_observers_there_is_nothing_to_do():
    """A run that nobody watches gathers nothing, and waits for nothing."""
    observers = Observers()
    observers.begin()
    observers.add(event())
    assert not observers
    assert observers.pause() == float("inf")
    assert observers._events == []
    observers.end()


def test_every_public_name_is_documented():
    """What ``pcall.progress`` offers is named in order, each with docstrings throughout."""
    assert progress.__all__ == sorted(progress.__all__)
    for name in progress.__all__:
        thing = getattr(progress, name)
        assert re.match(r"[A-Z`].*[.:]$", inspect.getdoc(thing).splitlines()[0]), name
        members = [member for member in vars(thing) if not member.startswith("_")]
        fields = getattr(thing, "__dataclass_fields__", {})
        assert all(field in thing.__doc__ for field in fields)
        assert all(getattr(thing, m).__doc__ for m in members if m not in fields), name


# ------------------------------------------------------------------ which there are


@pytest.mark.parametrize("value", [None, True, False])
def test_flags_are_taken_as_they_are(value):
    """``progress`` takes None and the flags."""
    assert check_progress(value) is value


def test_one_and_several_observers():
    """``progress`` takes an observer, or any iterable of some, and keeps their order."""
    first, second = Recorder(), LogProgress()
    assert check_progress(first) == (first,)
    assert check_progress(iter([second, first])) == (second, first)
    assert check_progress([]) == ()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("html", "'html'"),
        (3, "3"),
        (object(), "a object"),
        (LogProgress, "the class LogProgress (it takes an instance, LogProgress(...))"),
        ({"a": 1}, "a dict"),
        ([Recorder(), 7], "item 1 is 7"),
        ([LogProgress], "item 0 is the class LogProgress"),
    ],
)
def test_anything_else_is_refused_at_once(value, shown):
    """What is no observer is a TypeError that names the value and what was expected."""
    with pytest.raises(TypeError) as caught:
        check_progress(value)
    assert str(caught.value).startswith("progress must be True, False, None, an observer (Console")
    assert shown in str(caught.value)


@pytest.fixture
def fresh(monkeypatch):
    """Displays that were made for earlier tests are forgotten."""
    monkeypatch.delenv("PCALL_PROGRESS", raising=False)
    for made in (choosing._console, choosing._notebook, choosing._log, choosing._page):
        made.cache_clear()


def kinds(choice) -> list[type]:
    return [type(observer) for observer in observers_of(choice)._observers]


@pytest.mark.usefixtures("fresh")
def test_true_is_the_console():
    """``progress=True`` is the console where there is no notebook."""
    assert kinds(True) == [ConsoleProgress]


@pytest.mark.usefixtures("fresh")
def test_true_is_the_notebook_in_a_notebook(monkeypatch):
    """``progress=True`` is the cell's output where a notebook's kernel runs."""
    IPython = pytest.importorskip("IPython")
    shell = type("Shell", (), {"kernel": object()})()
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    assert kinds(True) == [NotebookProgress]
    monkeypatch.setattr(IPython, "get_ipython", lambda: object())  # the interactive terminal
    assert kinds(True) == [ConsoleProgress]


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("0", []),
        ("1", [ConsoleProgress]),
        ("html:page.html", [HtmlProgress]),
        (" 1, html:page.html,log", [ConsoleProgress, HtmlProgress, LogProgress]),
        ("console", [ConsoleProgress]),
    ],
)
def test_the_environment_chooses(text, expected, monkeypatch, tmp_path):
    """``PCALL_PROGRESS`` turns progress on where the option is None, and only there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PCALL_PROGRESS", text)
    assert kinds(None) == expected
    assert kinds(False) == []
    assert kinds(()) == []
    assert kinds((recorder := Recorder(),)) == [type(recorder)]


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("text", ["yes", "html", "html:", "1,2", "/tmp/page.html", "log:x"])
def test_an_environment_that_is_wrong_is_told(text, monkeypatch):
    """A variable that says something else is a ValueError that names it and what it takes."""
    monkeypatch.setenv("PCALL_PROGRESS", text)
    with pytest.raises(ValueError) as caught:
        observers_of(None)
    assert "PCALL_PROGRESS takes 1, console, log, html:PATH and timeline:PATH" in str(caught.value)


@pytest.mark.needs("processes")
@pytest.mark.usefixtures("fresh", "engine")
def test_the_environment_is_for_the_parent_alone(monkeypatch):
    """Calls that a child makes are not shown for the sake of the environment."""
    monkeypatch.setenv("PCALL_PROGRESS", "log")
    assert kinds(None) == [LogProgress]
    assert pcall(lambda: kinds(None)) == ([],)


@pytest.mark.usefixtures("fresh")
def test_runs_that_overlap_are_shown_together(monkeypatch):
    """Two runs with ``progress=True`` at one time are one display with the figures of both."""
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    first, second = observers_of(True), observers_of(True)
    first.begin()
    second.begin()
    for observers, scope in ((first, ("a",)), (second, ("b",))):
        observers.add(Event("planned", scope, 0.0, 3))
        observers.add(Event("started", scope, 0.0, 3))
        observers.add(Event("done", scope, 0.0, 3))
    first.end()
    assert "done" not in stream.getvalue()
    second.end()
    assert stream.getvalue().startswith("all: 6 of 6 done")
    assert stream.getvalue().count("of 3 done") == 2


def test_no_display_is_imported_unless_it_is_used():
    """A run without progress imports none of its modules, and none of the optional packages."""
    script = (
        "import sys, os; os.environ.pop('PCALL_PROGRESS', None); import pcall\n"
        "from pcall._faces.run_observers import observers_of\n"
        "observers_of(None), observers_of(False)\n"
        "pcall.pcall(int, cargs=['1'])\n"
        "print([n for n in sys.modules if n.startswith(('pcall.progress', 'rich', 'IPython'))])"
    )
    assert run_python("-c", script).stdout.strip() == "[]"
