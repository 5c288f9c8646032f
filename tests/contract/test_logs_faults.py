"""docs/logs.rst: what goes wrong with a log harms no result, and nothing of the log is lost."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import subprocess
import threading
from pathlib import Path

import pytest

from pcall import Pcall, pcall
from pcall._logs import record_frames
from tests.helpers.scripts import run_case, system_name

pytestmark = pytest.mark.needs("child logs")

BEGIN = ">>>> Begin child log "
END = "<<<< End child log "


@contextlib.contextmanager
def on_root(handler):
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


def tell(n):
    logging.info("call %d", n)
    return os.getpid()


def run(folder: Path, case: str) -> subprocess.CompletedProcess[str]:
    """Run a case of the script to its end, in the folder."""
    return run_case("logs_faults.py", case, system=system_name(), folder=folder)


@pytest.mark.fast
def test_what_an_older_run_left(tmp_path):
    """A file of the same name that an older run left is kept, and not mixed in."""

    def target(n):
        old = f"{tmp_path}/main.log:pid-{os.getpid()}"
        Path(old).write_text("old\n")
        logging.info("new")
        return os.getpid()

    with on_root(logging.FileHandler(tmp_path / "main.log")):
        (pid,) = pcall(target, n=[0])
    text = (tmp_path / "main.log").read_text()
    title = f"{tmp_path}/main.log:pid-{pid}"
    assert text == f"{BEGIN}{title}\nnew\n{END}{title}\n"
    assert (tmp_path / f"main.log:pid-{pid}.old-1").read_text() == "old\n"


def test_what_an_older_run_left_for_a_child_that_logs_nothing(tmp_path):
    """A file that was there before the child is not taken for the child's."""
    names: set[str] = set()
    for _ in range(5):  # others may take the next numbers meanwhile
        latest = os.fork()
        if not latest:
            os._exit(0)
        os.waitpid(latest, 0)
        new = {f"main.log:pid-{latest + number}" for number in range(1, 2000)} - names
        for name in new:
            (tmp_path / name).write_text("old\n")
        names |= new
        with on_root(logging.FileHandler(tmp_path / "main.log")):
            pids = pcall(lambda n: os.getpid(), n=range(3))
        if f"main.log:pid-{pids[0]}" in names:
            break
    assert f"main.log:pid-{pids[0]}" in names, "the numbers of others come between: try again"
    assert (tmp_path / "main.log").read_text() == ""
    files = [path for path in tmp_path.iterdir() if path.name != "main.log"]
    assert len(files) == len(names)
    assert {path.read_text() for path in files} == {"old\n"}


def test_rotation_by_the_parent_during_the_run(tmp_path):
    """The main log is rotated while calls run: each section is whole, and nothing is missing."""
    path = tmp_path / "main.log"
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=500, backupCount=1000)

    def target(n):
        for number in range(50):
            logging.info("call %d line %d", n, number)

    with on_root(handler):
        run = Pcall(target, n=range(5))
        run.start()
        for number in range(100):
            logging.info("the parent's line %d", number)
        run.join()
        for number in range(100, 200):
            logging.info("the parent's line %d", number)
    texts = [file.read_text() for file in tmp_path.iterdir()]
    lines = [line for text in texts for line in text.splitlines()]
    assert len(texts) > 10
    assert sorted(line for line in lines if line.startswith("the")) == sorted(
        f"the parent's line {number}" for number in range(200)
    )
    for n in range(5):
        section = "".join(f"call {n} line {number}\n" for number in range(50))
        assert sum(f"\n{section}<<<< End" in text for text in texts) == 1
    assert not [file for file in tmp_path.iterdir() if ":pid-" in file.name]


@pytest.mark.parametrize("kind", [logging.FileHandler, logging.handlers.WatchedFileHandler])
def test_rotation_from_outside(tmp_path, kind):
    """Somebody else moves the main log away during the run: nothing is missing."""
    path = tmp_path / "main.log"
    with on_root(kind(path)):
        logging.info("before")
        run = Pcall(tell, n=range(3))
        run.start()
        path.rename(tmp_path / "main.log.1")
        run.join()
        logging.info("after")
    lines = [line for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert sorted(line for line in lines if "log:pid" not in line) == sorted(
        ["before", "after", "call 0", "call 1", "call 2"]
    )
    assert len(lines) == 11
    assert {file.name for file in tmp_path.iterdir()} <= {"main.log", "main.log.1"}


@pytest.mark.engines(why="a script makes the run")
def test_no_room_in_the_main_log(tmp_path):
    """With no room in the main log a child's file stays, and is reported; no result suffers."""
    done = run(tmp_path, "no_room")
    assert done.stdout.endswith("(0, 1)\n")
    kept = sorted(file for file in tmp_path.iterdir() if ":pid-" in file.name)
    assert len(kept) == 2
    for n, file in enumerate(kept):
        assert file.read_text() == "".join(f"call {n} line {k}\n" for k in range(100))
        assert done.stdout.count(f"stays in {file}: it could not be put into") == 1
    assert done.stdout.count("ERROR") == 2
    assert done.stderr == ""


@pytest.mark.engines(why="a script makes the run")
def test_the_outcome_names_the_file_that_stays(tmp_path):
    """The outcome of a call whose log could not be merged still names it."""
    run(tmp_path, "no_room_and_the_outcome")


@pytest.mark.engines(why="a script makes the run")
def test_a_folder_that_may_not_be_written_to(tmp_path):
    """Where a child may not make a file it logs to the main one, and no call fails for it."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        with contextlib.suppress(PermissionError):
            parent.chmod(0o755)
    done = run(tmp_path, "read_only_folder")
    (tmp_path / "logs").chmod(0o755)
    assert done.stdout == "(0, 1, 2)\n"
    assert done.stderr == ""
    lines = (tmp_path / "logs" / "main.log").read_text().splitlines()
    assert sorted(lines) == ["call 0", "call 1", "call 2"]


def test_a_name_too_long(tmp_path):
    """Where the name of a child's file would be too long it logs to the main one."""
    path = tmp_path / ("x" * 253)
    with on_root(logging.FileHandler(path)):
        pcall(tell, n=range(3))
    assert sorted(path.read_text().splitlines()) == ["call 0", "call 1", "call 2"]


@pytest.mark.engines(why="a script makes the run")
def test_a_long_log_takes_no_memory(tmp_path):
    """A log of a child is put into the main one without being read into memory as a whole."""
    done = run(tmp_path, "long_log")
    size, grown = map(int, done.stdout.split())
    assert 500_000_000 < size < 500_001_000
    assert grown < 50_000  # KiB
    assert [file.name for file in tmp_path.iterdir()] == []


@pytest.mark.engines(why="a script makes the run")
def test_a_thread_that_logs_all_the_time(tmp_path):
    """A thread of the parent logs while children are forked and merged: nothing blocks."""
    run(tmp_path, "beside_a_thread_that_logs")


def test_two_runs_at_once(tmp_path):
    """Two runs of two threads with the same log have their sections, unmixed."""
    path = tmp_path / "main.log"
    with on_root(logging.FileHandler(path)):
        threads = [
            threading.Thread(target=lambda: [pcall(tell, n=range(5)) for _ in range(10)])
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = path.read_text().splitlines()
    assert len(lines) == 300
    for first, text, last in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        assert first.removeprefix(BEGIN) == last.removeprefix(END)
        assert text.startswith("call ")


@pytest.mark.needs("a fresh child")
def test_a_handler_that_sees_to_itself(tmp_path):
    """A handler that offers to see to its children's files is asked to, and left alone."""

    class Framework(logging.FileHandler):
        asked = 0
        within = False

        @contextlib.contextmanager
        def consolidate_next_forked_logfile(self):
            type(self).asked += 1
            self.within = True
            try:
                yield
            finally:
                self.within = False

    handler = Framework(tmp_path / "main.log")
    with on_root(handler):
        names = pcall(lambda n: (handler.within, handler.baseFilename, tell(n))[:2], n=range(3))
        assert not handler.within
    assert names == ((True, str(tmp_path / "main.log")),) * 3
    assert Framework.asked == 3
    assert sorted((tmp_path / "main.log").read_text().split("\n")) == [
        "", "call 0", "call 1", "call 2",
    ]  # fmt: skip


# ------------------------------------------------------------------ frames


@pytest.fixture
def frames():
    fd = os.memfd_create("frames")
    yield fd
    os.close(fd)


def found(fd: int, final: bool = True):
    reader = record_frames.FrameReader(fd)
    return [(f.call, f.handler, reader.payload(f)) for f in reader.new_frames(final)]


@pytest.mark.engines(why="no run is made")
@pytest.mark.parametrize("cut", range(1, 24))
def test_a_frame_that_was_cut_off(frames, cut):
    """A frame that was cut off anywhere is left out; those around it are found."""
    record_frames.write_frame(frames, 1, 2, b"first")
    start = os.lseek(frames, 0, os.SEEK_CUR)
    record_frames.write_frame(frames, 3, 4, b"second")
    os.ftruncate(frames, start + cut)
    os.lseek(frames, 0, os.SEEK_END)
    assert found(frames) == [(1, 2, b"first")]
    record_frames.write_frame(frames, 5, 6, b"third")
    assert found(frames) == [(1, 2, b"first"), (5, 6, b"third")]


@pytest.mark.engines(why="no run is made")
def test_a_frame_that_is_being_written(frames):
    """What may be part of a frame that is being written is left for later."""
    record_frames.write_frame(frames, 1, 2, b"x" * 200_000)
    whole = os.pread(frames, 300_000, 0)
    reader = record_frames.FrameReader(frames)
    for size in (0, 3, 17, 18, 100, 199_999):
        os.ftruncate(frames, 0)
        os.pwrite(frames, whole[:size], 0)
        assert list(reader.new_frames(final=False)) == []
    os.pwrite(frames, whole, 0)
    (frame,) = reader.new_frames(final=False)
    assert reader.payload(frame) == b"x" * 200_000


@pytest.mark.engines(why="no run is made")
def test_garbage_between_frames(frames):
    """Whatever stands between frames, also their magic number, hides none of them."""
    noise = record_frames._MAGIC * 3 + bytes(100_000) + record_frames._MAGIC[:3]
    expected = []
    for number in range(5):
        os.write(frames, noise)
        payload = noise * number
        record_frames.write_frame(frames, number, 0, payload)
        expected.append((number, 0, payload))
    os.write(frames, noise)
    assert found(frames) == expected
