"""docs/progress.rst: progress redrawn in a terminal of any size, beside what is printed."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.scripts import environment

pyte = pytest.importorskip("pyte")

SCRIPT = """
import sys, threading, time
from tests.helpers.progress_runs import live_run
from pcall.progress import ConsoleProgress
{before}
live_run(ConsoleProgress(rich={rich}), {seconds}, total=1000, fail_every=6, hold={hold!r})
print("after the run")
"""

CHATTER = """
def chat():
    time.sleep(0.7)  # after the first exceptions, which break into a line that is not whole
    for number in range(15):
        print("a line printed meanwhile,", number, flush=True)
        time.sleep(0.03)
        print("." * number, end="", flush=True)
        time.sleep(0.03)
        print("|", flush=True)
        time.sleep(0.03)
threading.Thread(target=chat, daemon=True).start()
"""


def terminal_environment(**more: str) -> dict[str, str]:
    """Return the environment of a script that draws in colours."""
    found = environment(TERM="xterm-256color", PYTHONUTF8="1")
    return {k: v for k, v in found.items() if k not in ("NO_COLOR", "LC_ALL")} | more


class Terminal:
    """A process on a terminal of its own, and the screen that a person would see."""

    hold: Path | None = None

    def __init__(self, script: str, columns: int, rows: int, **env: str) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=1)
        self.stream = pyte.ByteStream(self.screen)
        self.written = b""
        self.master, slave = os.openpty()
        self._set_size(columns, rows)
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=terminal_environment(**env),
            start_new_session=True,
        )
        os.close(slave)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        self._set_size(columns, rows)

    def read(self, seconds: float, until: Callable[[], object] = lambda: False) -> bool:
        """Take in what is written, so long, or until the process has ended, or something holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    data = os.read(self.master, 65536)
                except OSError:  # the process has closed its side
                    return True
                self.written += data
                self.stream.feed(data)
            if until():
                return True
        return False

    def finish(self) -> None:
        if self.hold is not None:
            self.hold.touch()
        assert self.read(60), "it did not end"
        assert self.process.wait(10) == 0, self.text

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """What is on the screen, and what has gone off it at the top."""
        top = [
            "".join(row[column].data for column in range(self.screen.columns)).rstrip()
            for row in self.screen.history.top
        ]
        return "\n".join([*top, *self.lines]).rstrip()

    def close(self) -> None:
        os.close(self.master)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


@pytest.fixture
def terminal(tmp_path) -> Iterator[Callable[..., Terminal]]:
    """Make terminals in which a run goes on; with ``hold`` it waits half way for ``finish()``."""
    made: list[Terminal] = []

    def make(columns: int, rows: int = 30, hold: bool = False, **options) -> Terminal:
        path = tmp_path / f"hold-{len(made)}"
        script = SCRIPT.format(
            before=options.pop("before", ""),
            rich=options.pop("rich", False),
            seconds=options.pop("seconds", 0.4),
            hold=str(path) if hold else None,
        )
        made.append(Terminal(script, columns, rows, **options))
        if hold:
            made[-1].hold = path
            made[-1].read(20, lambda: half_way(made[-1].text))
            assert half_way(made[-1].text), made[-1].text
            made[-1].read(0.3)  # and another frame or two
        return made[-1]

    yield make
    for each in made:
        each.close()


def half_way(text: str) -> bool:
    return re.search(r"(416 of |416/|500/)1000", text) is not None


@pytest.mark.parametrize("columns", [80, 40, 20])
def test_the_frame_while_the_run_goes_on(columns, terminal):
    """Bar and figures are on the screen, once, at any width, and change as the run goes on."""
    term = terminal(columns, hold=True)
    (bar,) = [line for line in term.lines if "█" in line or line == "probe"]
    assert bar.startswith("probe")
    assert len([line for line in term.lines if " of 1000" in line]) == 1
    assert len([line for line in term.lines if "running" in line]) == 1
    before = term.lines
    assert term.read(10, lambda: term.lines != before)
    term.finish()


@pytest.mark.fast
@pytest.mark.parametrize("columns", [80, 40, 20])
def test_the_end_leaves_a_summary(columns, terminal):
    """When the run is over the frame is gone; the summary, and each exception once, remain."""
    term = terminal(columns)
    term.finish()
    assert "█" not in term.text
    text = term.text.replace("\n", "")
    assert text.count("Traceback (most recent call last)") == 3
    assert "833 of 1000 done" in text
    assert "167 failed" in text
    assert term.lines[term.screen.cursor.y - 1] == "after the run"
    groups = re.findall(r"^5[56] x ", term.text, re.MULTILINE)
    assert len(groups) == 3
    assert pyte.modes.DECAWM in term.screen.mode


@pytest.mark.parametrize(("before", "after"), [(80, 40), (40, 80), (120, 20)])
def test_a_terminal_that_is_resized(before, after, terminal):
    """After the terminal has been made narrower or wider there is one whole frame, no other."""
    term = terminal(before, hold=True)
    term.resize(after, 25)
    term.read(0.8)
    assert len([line for line in term.lines if line.startswith("probe")]) == 1
    assert len([line for line in term.lines if line.startswith("416 of 1000")]) == 1
    assert len([line for line in term.lines if "peak" in line]) == 1
    term.finish()
    assert "█" not in term.text


def test_a_terminal_with_few_rows(terminal):
    """In a terminal of a few rows the frame takes fewer lines, and scrolls nothing away."""
    term = terminal(60, rows=5, hold=True)
    history = len(term.screen.history.top)
    term.read(0.5)
    assert len([line for line in term.lines if line.startswith("probe")]) == 1
    assert len(term.screen.history.top) == history
    term.finish()


def test_what_is_printed_meanwhile_is_all_there(terminal):
    """Lines, and halves of lines, that others print during the run stay whole and in order."""
    term = terminal(80, rows=20, seconds=2.6, before=CHATTER)
    term.finish()
    printed = re.findall(r"^a line printed meanwhile, (\d+)$", term.text, re.MULTILINE)
    assert [int(number) for number in printed] == list(range(15))
    dots = re.findall(r"^(\.*)\|$", term.text, re.MULTILINE)
    assert dots == ["." * number for number in range(15)]
    assert "█" not in term.text


def test_colours_and_no_color(terminal):
    """There are colours on a terminal, and none with ``NO_COLOR``."""
    term, plain = terminal(80), terminal(80, NO_COLOR="1")
    term.finish()
    plain.finish()
    assert re.search(rb"\x1b\[[0-9;]+m", term.written)
    assert not re.search(rb"\x1b\[[0-9;]+m", plain.written)
    assert "█".encode() in plain.written


def test_a_dumb_terminal(terminal):
    """With ``TERM=dumb`` there are lines of text alone."""
    term = terminal(80, TERM="dumb")
    term.finish()
    assert b"\x1b" not in term.written
    assert "833 of 1000 done" in term.text


def test_ctrl_c_leaves_the_terminal_tidy(terminal):
    """After Ctrl-C the frame is gone, the summary is there, and the terminal wraps lines again."""
    term = terminal(80, seconds=60.0)
    assert term.read(20, lambda: any("█" in line for line in term.lines))
    term.process.send_signal(signal.SIGINT)
    assert term.read(20, lambda: "KeyboardInterrupt" in term.text)
    term.read(5)
    assert "█" not in term.text
    assert " of 1000 done" in term.text
    assert pyte.modes.DECAWM in term.screen.mode


@pytest.mark.parametrize("columns", [120, 70])
def test_a_frame_that_rich_draws(columns, terminal):
    """With rich there is a table with a bar, redrawn in its place, and the same summary."""
    pytest.importorskip("rich")
    term = terminal(columns, rich=True, hold=True)
    (row,) = [line for line in term.lines if line.startswith("probe ")]
    assert "█" in row
    assert re.search(r"\d+/1000", row)
    heads = term.lines[term.lines.index(row) - 1].split()
    assert heads[:3] == ["done", "failed", "running"]
    assert re.search(r"elapsed .*, wall .* a call\)", term.lines[term.lines.index(row) + 1])
    term.finish()
    assert "█" not in term.text
    assert "833 of 1000 done" in term.text


@pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")
@pytest.mark.parametrize("rich", [False, True])
def test_in_tmux(rich, tmp_path):
    """In tmux, at 80 columns and made 40, where long lines break anew, there is one frame."""
    server = "pcall"
    sockets = tempfile.mkdtemp(prefix="tmux-", dir="/tmp")  # a socket's path has to be short

    def tmux(*args: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", server, "-f", "/dev/null", *args],
            env=terminal_environment(TMUX_TMPDIR=sockets),
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return done.stdout

    def captured(holds: Callable[[str], object]) -> str:
        end = time.monotonic() + 20
        while not holds(screen := tmux("capture-pane", "-p", "-t", "run")):
            assert time.monotonic() < end, screen
            time.sleep(0.1)
        return screen

    hold = tmp_path / "hold"
    script = SCRIPT.format(before=CHATTER, rich=rich, seconds=0.8, hold=str(hold))
    script += "time.sleep(60)\n"
    (tmp_path / "script.py").write_text(script)
    command = f"{sys.executable} {tmp_path / 'script.py'}"
    tmux("-u", "new-session", "-d", "-s", "run", "-x", "80", "-y", "24", command)
    try:
        wide = captured(half_way)
        assert len(re.findall("^probe .*█", wide, re.MULTILINE)) == 1
        assert max(map(len, wide.splitlines())) > 45
        tmux("resize-window", "-t", "run", "-x", "40", "-y", "24")
        time.sleep(1.0)
        narrow = captured(half_way)
        assert len(re.findall("^probe.*█", narrow, re.MULTILINE)) == 1
        assert len(re.findall("^416 of 1000 done", narrow, re.MULTILINE)) == 1
        assert narrow.count("running") == 1
        assert narrow.count("█") > 5
        # Only what was printed stands above the frame.
        above = narrow[: narrow.index("probe ")].rstrip().splitlines()
        assert all(re.search(r"printed meanwhile, \d+$|\.\||^\.*$", line) for line in above[-6:])
        hold.touch()
        end = captured(lambda screen: "after the run" in screen)
        assert "█" not in end
        assert "833 of 1000 done" in end
        assert max(map(len, end.splitlines())) <= 40
    finally:
        tmux("kill-server")
        shutil.rmtree(sockets)
