"""docs/progress.rst: progress on the console; in lines where there is no terminal."""

from __future__ import annotations

import importlib.util
import io
import itertools
import re
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcall import pcall
from pcall._core.records import Event
from pcall.progress import ConsoleProgress
from pcall.progress.plain import Style, frame, summary
from pcall.progress.pretty import LEAST_WIDTH, rich_frame
from pcall.progress.progress_state import State
from pcall.progress.wording import amount, clean, cut, duration, rate, width_of
from tests.helpers.progress_runs import PROBE, failed, live_run, outcome_of, show, small_run


class Stream(io.StringIO):
    """A text stream that remembers when something was written."""

    def __init__(self, encoding: str = "utf-8", terminal: bool = False) -> None:
        super().__init__()
        self._encoding = encoding
        self._terminal = terminal
        self.writes: list[tuple[float, str]] = []

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        text.encode(self._encoding)  # strict, as stdout is
        self.writes.append((time.monotonic(), text))
        return super().write(text)


def shown(events, **options) -> str:
    stream = Stream(**options)
    show(ConsoleProgress(stream), events)
    return stream.getvalue()


def controls(text: str) -> list[str]:
    return re.findall(r"[^\x20-\x7e\n\x80-\U0010ffff]|[\x80-\x9f]", text)


@pytest.mark.fast
def test_the_summary_tells_every_figure():
    """At the end there are the counts, the rate, the time, and what the calls took."""
    text = shown(small_run([0, 2, 2]))
    assert re.search(r"^probe: 7 of 10 done, 3 failed, .*/s, after .*s$", text, re.MULTILINE)
    assert "wall 4.2 s (0.42 s a call), cpu 0.73 s (73 ms a call)" in text
    assert "peak 3 MB" in text
    assert text.endswith("2 x ConnectionError: refused\n1 x ZeroDivisionError: division by zero\n")


def test_retried_skipped_running_and_waiting_are_told():
    """Calls that were retried, skipped, or were still running are part of what is told."""
    events = [
        Event("planned", PROBE, time.monotonic(), 10),
        Event("started", PROBE, time.monotonic(), 3),
        failed(0, kind="retried"),
        Event("skipped", PROBE, time.monotonic(), 6),
    ]
    assert "0 of 10 done, 1 retried, 6 skipped, 2 running, 2 waiting" in shown(events)


def test_each_group_of_exceptions_is_printed_once():
    """Of equal exceptions one is printed, with its call and its traceback."""
    text = shown(small_run([2] * 5 + [0] * 3))
    assert text.count("Traceback (most recent call last):") == 2
    assert text.count("raise ConnectionError") == 1
    assert "call 0, probe(2), failed (attempt 1, process 4000)\nTraceback" in text


def test_several_scopes_have_a_line_each():
    """The summary has the figures of all, and of each scope by its name."""
    now = time.monotonic()
    events = [Event("planned", ("load", name), now, 2) for name in ("a", "b")]
    events += [Event("started", ("load", "a"), now, 2), Event("done", ("load", "a"), now, 2)]
    text = shown(events)
    assert text.startswith("all: 2 of 4 done, 2 waiting")
    assert "\nload/a: 2 of 2 done" in text
    assert "\nload/b: 0 of 2 done" in text


def test_there_is_a_line_now_and_then():
    """Without a terminal there is one line an interval."""
    stream = Stream()
    live_run(ConsoleProgress(stream, interval=0.2), 1.5, fail_every=0)
    *lines, _, _ = stream.getvalue().splitlines()
    assert 2 <= len(lines) <= 8
    for line in lines[:-1]:
        assert re.match(r"probe: \d+ of 1000 done, \d+ running", line)
    # The last one may come at the very end.
    assert re.match(r"probe: \d+ of 1000 done, (\d+ running|\d+/s)", lines[-1])


def test_a_failure_is_shown_within_a_second():
    """A failure does not wait for the interval; nor does the hundredth of the same kind."""
    stream = Stream()
    begun = time.monotonic()
    live_run(ConsoleProgress(stream, interval=3600), 2.0, total=100, fail_every=10, workers=1)
    first = next(when for when, text in stream.writes if "Traceback" in text)
    assert first - begun < 1.0
    times = [when for when, text in stream.writes if " failed, " in text]
    assert len(times) >= 3
    assert max(b - a for a, b in itertools.pairwise(times)) < 1.0


def test_no_control_characters_without_a_terminal():
    """What is no terminal gets text alone, whatever the calls raised."""
    evil = ValueError("\x1b[2J\x1b]0;title\x07\r\x00 \x9b31m \u202e \ud800 tab\there")
    text = shown(small_run([evil]))
    assert controls(text) == []
    assert r"\x1b[2J\x1b]0;title\x07\r\x00 \x9b31m \u202e \ud800 tab" in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "utf-16"])
def test_any_encoding_will_do(encoding):
    """What a stream cannot write is written as an escape."""
    text = shown(small_run([ValueError("日本語 ü \ud800")]), encoding=encoding)
    assert ("日本語" in text) is encoding.startswith("utf")
    assert r"\ud800" in text


def test_the_stream_is_stderr_at_the_time_of_the_run(monkeypatch, capsys):
    """Without a stream the progress goes to ``sys.stderr`` as it is when the run starts."""
    observer = ConsoleProgress()
    monkeypatch.setattr(sys, "stderr", stream := Stream())
    show(observer, small_run())
    assert "10 of 10 done" in stream.getvalue()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("stream", [None, object()])
def test_a_process_without_stderr(stream, monkeypatch):
    """A process that has no stderr at all shows nothing, and does not fail for it."""
    monkeypatch.setattr(sys, "stderr", stream)
    if stream is None:
        show(ConsoleProgress(), small_run([0]))
    else:
        with pytest.raises(AttributeError):
            show(ConsoleProgress(), small_run([0]))


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_dumb_terminal_gets_lines(term, monkeypatch):
    """A terminal that can do nothing gets plain lines."""
    monkeypatch.setenv("TERM", term)
    if not term:
        monkeypatch.delenv("TERM")
    assert controls(shown(small_run([0]), terminal=True)) == []


@pytest.mark.needs("processes")
@pytest.mark.usefixtures("engine")
def test_a_child_gets_lines(monkeypatch):
    """Calls that a child makes are told of in lines: the terminal is its parent's to draw on."""
    monkeypatch.setenv("TERM", "xterm")
    (text,) = pcall(lambda: shown(small_run([0]), terminal=True))
    assert "9 of 10 done, 1 failed" in text
    assert controls(text) == []


@pytest.mark.needs("processes")
@pytest.mark.usefixtures("engine")
def test_a_display_that_its_parent_uses_is_silent_in_a_child():
    """A display that shows the parent's run does not show those of its children, too."""
    stream = Stream()
    observer = ConsoleProgress(stream)

    def nested():
        stream.truncate(0)
        show(observer, small_run([0]))
        return stream.getvalue()

    observer.begin()
    assert pcall(nested) == ("",)
    observer.end()
    (text,) = pcall(nested)
    assert "9 of 10 done" in text


def test_a_display_starts_anew_with_each_run():
    """One display can show several runs, one after another, each by itself."""
    stream = Stream()
    observer = ConsoleProgress(stream)
    show(observer, small_run([0], total=5))
    show(observer, small_run([0], total=7))
    assert "4 of 5 done" in stream.getvalue()
    assert "6 of 7 done" in stream.getvalue()
    assert stream.getvalue().count("Traceback") == 2


@pytest.mark.parametrize(
    ("interval", "error"), [(0, ValueError), (-1, ValueError), (float("nan"), ValueError)]
)
def test_an_interval_that_makes_no_sense(interval, error):
    """An interval that is not above zero is refused at once."""
    with pytest.raises(error, match="interval must be above zero seconds, not"):
        ConsoleProgress(interval=interval)


@pytest.mark.parametrize("argument", [{"interval": "10"}, {"interval": True}, {"stream": 2}])
def test_an_ill_typed_argument_is_refused_at_once(argument):
    """The text names the argument and the value."""
    ((name, value),) = argument.items()
    with pytest.raises(TypeError, match=f"^{name} must .*, not {value!r}$"):
        ConsoleProgress(**argument)


def test_rich_where_it_is_not_installed(monkeypatch):
    """Without the package rich the drawing is plain, and asking for it is an ImportError."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert ConsoleProgress()._rich is False
    with pytest.raises(ImportError, match=r"pip install 'pcall\[rich\]'"):
        ConsoleProgress(rich=True)


# ------------------------------------------------------------------ lines of any width

COLOURS = re.compile(r"\x1b\[[0-9;]*m")

# Of which every version of Unicode has the same width; and such as must not get through.
letters = st.text(st.sampled_from("aZ 9é日本\u0301\U0001f600\x1b\n\t\0\u202e\ufffe"), max_size=30)
names = st.lists(letters, min_size=1, max_size=2).map(tuple)
kinds = st.sampled_from(["planned", "started", "done", "failed", "retried", "skipped"])
counts = st.integers(1, 10**6)


@st.composite
def states(draw) -> State:
    state = State(0.0)
    for scope in draw(st.lists(names, max_size=8, unique=True)):
        for kind in draw(st.lists(kinds, max_size=4)):
            state.add([Event(kind, scope, 1.0, draw(counts), 10.0, 1.0, 10**7)])
    for text in draw(st.lists(letters, max_size=3)):
        state.add([Event("failed", ("a",), 2.0, outcome=outcome_of(ValueError(text)))])
    return state


def check(lines: list[str], width: int) -> None:
    for line in lines:
        bare = COLOURS.sub("", line)
        assert controls(bare) == []
        assert "\n" not in bare
        assert width_of(bare) <= width


@given(states(), st.integers(1, 200), st.integers(1, 40), st.booleans())
def test_a_frame_fits_any_terminal(state, width, height, colour):
    """No line is wider than the terminal, there are no more than it has rows, and never none."""
    for encoding in ("ascii", "utf-8"):
        lines = frame(state, 3.0, width, height, Style(colour, encoding))
        assert 1 <= len(lines) <= height
        check(lines, width)


@given(states(), st.integers(1, 200), st.booleans())
def test_a_summary_fits_any_terminal(state, width, colour):
    """No line of the summary is wider than the terminal, if that has 40 columns or more."""
    state.end(3.0)
    check(summary(state, 3.0, width, Style(colour, "utf-8")), max(width, 40))


@given(states(), st.integers(LEAST_WIDTH, 200), st.integers(1, 40), st.booleans())
def test_a_frame_of_rich_fits_any_terminal(state, width, height, colour):
    """The same holds for the lines that rich draws."""
    pytest.importorskip("rich")
    lines = rich_frame(state, 3.0, width, height, Style(colour, "utf-8"))
    assert 1 <= len(lines) <= height
    check(lines, width)
    if not colour:
        assert not any(COLOURS.search(line) for line in lines)


@given(st.text())
def test_no_text_can_command_a_terminal(text):
    """Whatever the characters, what is shown is printable; printable text stays as it is."""
    assert clean(text).replace("\n", "").isprintable()
    assert clean(clean(text)) == clean(text)
    if text.isprintable():
        assert clean(text) == text


def test_a_bar_is_as_long_as_what_is_over():
    """The bar's parts are in the proportion of the calls."""
    state = State(0.0)
    state.add([Event("planned", PROBE, 0.0, 100), Event("started", PROBE, 0.0, 60)])
    state.add([Event("done", PROBE, 1.0, 25), Event("failed", PROBE, 1.0, 25)])
    (figures,) = state.scopes(1.0)
    assert Style().bar(figures, 20) == "#" * 10 + "-" * 10
    assert Style(encoding="utf-8").bar(figures, 20) == "█" * 10 + "░" * 10
    coloured = Style(colour=True).bar(figures, 20)
    assert coloured.startswith("\x1b[32m#####\x1b[0m\x1b[31m#####\x1b[0m\x1b[36m--\x1b[0m")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (duration(0), "0 ms"),
        (duration(0.0021), "2.1 ms"),
        (duration(0.0994), "99 ms"),
        (duration(0.0996), "0.10 s"),
        (duration(0.5), "0.50 s"),
        (duration(0.999), "1.0 s"),
        (duration(12.4), "12 s"),
        (duration(59.6), "1 min 00 s"),
        (duration(185), "3 min 05 s"),
        (duration(7384), "2 h 03 min"),
        (amount(999), "999 B"),
        (amount(31_400_000), "31.4 MB"),
        (amount(2e15), "2,000.0 TB"),
        (rate(81.23), "81/s"),
        (rate(1234.5), "1,234/s"),
        (rate(0.1), "6/min"),
        (rate(1e-4), "0.36/h"),
        (cut("abcdef", 4), "ab.."),
        (cut("日本語", 5), "日.."),
        (cut("abc", 1), "."),
        (clean("a\tb\x7f"), "a       b\\x7f"),
    ],
)
def test_figures_are_worded_for_people(made, expected):
    """Seconds, bytes and rates have the unit that fits, and texts the width."""
    assert made == expected
