"""docs/design.rst: calls work, or fail at once and by name, in surroundings that lack something.

Each case is a script in a process of its own. Its exit status tells that it came to its end: its
streams are part of what is broken here.
"""

from __future__ import annotations

import functools
import itertools
import os

import pytest

from tests.helpers import scripts

pytestmark = pytest.mark.parametrize("system", ["linux", "portable"])

HEAD = """
import ctypes, re, tempfile

Outcomes = Pcall.options(return_outcomes=True, max_errors=None)

def square(x):
    return x * x

def raises(x):
    raise LookupError(x)

def dies(x):
    os.kill(os.getpid(), signal.SIGKILL)

def all_three(count=30):
    assert pcall(square, x=range(count)) == tuple(x * x for x in range(count))
    found = Outcomes.pcall([square, raises, dies] * 3, x=[7] * 9)
    assert [o.ok for o in found] == [True, False, False] * 3, found
    assert all(o.value == 49 for o in found[::3]), found
    assert all(type(o.error) is LookupError and o.error.args == (7,) for o in found[1::3]), found
    assert all(type(o.error) is ChildDied for o in found[2::3]), found
    return found
"""
check = functools.partial(scripts.check, head=HEAD)


# ------------------------------------------------------------ limits


@pytest.mark.fast
def test_200_calls_with_64_descriptors_run_in_waves(tmp_path, system):
    """With 64 descriptors 200 calls run, and each child has some left to open files itself."""
    body = """
    def opens(i):
        files = [open(os.devnull) for _ in range(8)]
        os.close(os.open(".", os.O_RDONLY))
        return len(files) + i

    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    assert pcall(opens, i=range(200)) == tuple(range(8, 208))
    all_three()
    """
    check(tmp_path, system, body)


def test_descriptors_that_run_out_delay_calls(tmp_path, system):
    """Calls for which no descriptor is left now start when another has ended."""
    body = """
    all_three()
    taken = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 12, taken + 12))
    for count in (3, 16, 40):
        assert pcall(square, x=range(count)) == tuple(x * x for x in range(count))
    """
    check(tmp_path, system, body)


@pytest.mark.parametrize("number", ["EAGAIN", "ENOMEM"])
def test_a_fork_that_fails_half_way_ends_those_started(tmp_path, system, number):
    """When the fork of child 57 of 100 fails, the others are ended, and OSError tells of 56."""
    body = f"""
    forks = 0

    def fork():
        global forks
        forks += 1
        if forks == 57:
            raise OSError(errno.{number}, os.strerror(errno.{number}))
        return real()

    pcall(square, x=[1])
    before = sorted(os.listdir("/proc/self/fd"))
    real, os.fork = os.fork, fork
    start = time.monotonic()
    run = Pcall.options(grace_period=90)(time.sleep, iargs=[(1000,)] * 100)
    try:
        run.start()
    except OSError as error:
        assert error.errno == errno.{number}
        assert re.search(r"\\b56\\b.*\\b100\\b", str(error)), error
        assert os.strerror(errno.{number}) in str(error), error
    else:
        raise AssertionError("no error")
    assert time.monotonic() - start < 30
    assert not my_children() and run.done and not run.livings
    assert sorted(os.listdir("/proc/self/fd")) == before
    """
    check(tmp_path, system, body)


BE_NOBODY = """
    assert pcall(square, x=[2]) == (4,)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        os.chdir("/")
        # The kernel hides a process that has changed its user, until it has run exec.
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
    user = os.getuid()
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]

    def tasks():
        found = 0
        for path in glob.glob("/proc/[0-9]*"):
            try:
                if os.stat(path).st_uid == user:
                    found += len(os.listdir(path + "/task"))
            except OSError:
                pass
        return found

    def nap(x):
        time.sleep(0.05)
        return x * x

    def limit(more):
        most = tasks() + more
        resource.setrlimit(resource.RLIMIT_NPROC, (most, hard))
"""


def test_calls_beyond_the_users_processes_run_in_waves(tmp_path, system):
    """An ordinary user whose limit leaves room for 20 processes makes 100 calls."""
    body = """
    limit(20)
    most = 0
    run = Pcall(nap, x=range(100))
    run.start()
    while not run.done:
        most = max(most, len(run.livings))
        time.sleep(0.005)
    run.join()
    assert run.results == tuple(x * x for x in range(100))
    assert 1 < most <= 20, most
    """
    check(tmp_path, system, BE_NOBODY + body)


def test_no_room_for_a_single_process_is_an_error_at_once(tmp_path, system):
    """Where not even the first child can be forked, OSError says that none was started."""
    body = """
    limit(0)
    try:
        pcall(nap, x=range(100))
    except OSError as error:
        assert error.errno == errno.EAGAIN, error
        assert re.search(r"\\b0\\b.*\\b100\\b", str(error)), error
    else:
        raise AssertionError("no error")
    """
    check(tmp_path, system, BE_NOBODY + body)


def test_processes_run_out_for_one_that_changed_its_user(tmp_path, system):
    """The same in a server that started as root: waves, although /proc shows it as root's."""
    if os.geteuid() != 0:
        pytest.skip("only root can change its user")
    body = """
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_NPROC, (20, hard))
    assert pcall(nap, x=range(60)) == tuple(x * x for x in range(60))
    """
    check(tmp_path, system, BE_NOBODY + body)


# ------------------------------------------------------------ places for files

TELLS_OF_LACK = """
    def sized(x):
        return b"x" * 100_000

    tempfile.tempdir = os.environ["PLACE"]
    if sys.argv[1] == "linux":
        assert pcall(sized, x=range(20)) == (sized(0),) * 20
        all_three()
    else:
        start = time.monotonic()
        try:
            pcall(sized, x=range(20))
        except OSError as error:
            assert error.errno == getattr(errno, os.environ["NUMBER"]), error
        except ChildProcessException as error:
            assert os.environ["NUMBER"] == "ENOSPC"
            assert "ENOSPC" in repr(error.__cause__) or "No space left" in str(error), error
        else:
            raise AssertionError("no error")
        assert time.monotonic() - start < 30
        assert not my_children()
"""
# Programs need some of /dev, but neither /dev/shm nor /dev/fd.
BARE_DEV = """
mkdir "$PWD/dev"
for name in null zero random urandom; do
    touch "$PWD/dev/$name"
    mount --bind "/dev/$name" "$PWD/dev/$name"
done
mount --rbind "$PWD/dev" /dev
"""


def test_missing_places_for_files(tmp_path, system, monkeypatch):
    """Without /dev/shm and a temp folder Linux misses nothing; elsewhere OSError comes at once."""
    monkeypatch.setenv("PLACE", str(tmp_path / "missing"))
    monkeypatch.setenv("NUMBER", "ENOENT")
    check(tmp_path, system, TELLS_OF_LACK, within=scripts.in_namespace(BARE_DEV))


@pytest.mark.parametrize("full", ["blocks", "names"])
def test_full_places_for_files(tmp_path, system, monkeypatch, full):
    """On Linux a full /dev/shm and temp folder hurt nothing; elsewhere the error names the lack."""
    limits = {"blocks": "size=64k", "names": "size=64k,nr_inodes=2"}[full]
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setenv("PLACE", str(place))
    monkeypatch.setenv("NUMBER", "ENOSPC")
    commands = f"""
    for place in /dev/shm {place}; do
        mount -t tmpfs -o {limits} none $place
        head -c 100000 /dev/zero >$place/filler 2>&- || true
    done
    """
    check(tmp_path, system, TELLS_OF_LACK, within=scripts.in_namespace(commands))


def test_without_proc(tmp_path, system):
    """Calls work where /proc is not mounted."""
    body = """
    assert not os.path.exists("/proc/self")
    all_three()
    assert pcall(lambda x: pcall(square, x=range(x)), x=[3]) == ((0, 1, 4),)
    """
    check(tmp_path, system, body, within=scripts.in_namespace("mount -t tmpfs none /proc"))


@pytest.mark.parametrize("what", ["changed", "deleted"])
def test_working_directory(tmp_path, system, what):
    """Calls work, and errors come home, from a directory changed to or deleted since."""
    body = f"""
    os.mkdir("other")
    os.chdir("other")
    here = os.getcwd()
    if {what!r} == "deleted":
        os.rmdir(here)
        (found,) = Outcomes.pcall(os.getcwd)
        assert type(found.error) is FileNotFoundError, found
    else:
        assert pcall(os.getcwd) == (here,)
    all_three()
    """
    check(tmp_path, system, body)


# ------------------------------------------------------------ signals and waits


def test_sigchld_ignored(tmp_path, system):
    """With SIGCHLD ignored the kernel keeps no status, and results are right all the same."""
    body = """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    all_three(100)
    try:
        pcall(time.sleep, 0.3, iargs=[(1000,), (0,)])
    except PcallTimeout as error:
        assert [o.index for o in error.running] == [0]
    else:
        raise AssertionError("no timeout")
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    """
    check(tmp_path, system, body)


def test_another_thread_reaps(tmp_path, system):
    """A thread that takes every status with os.wait() changes no result and hangs nothing."""
    body = """
    taken = 0

    def reap():
        global taken
        while not over:
            try:
                os.wait()
                taken += 1
            except ChildProcessError:
                time.sleep(0)

    over = False
    thread = threading.Thread(target=reap)
    thread.start()
    try:
        for _ in range(5):
            all_three()
            try:
                pcall(time.sleep, 0.1, iargs=[(1000,), (1000,)])
            except PcallTimeout as error:
                assert len(error.running) == 2
            else:
                raise AssertionError("no timeout")
    finally:
        over = True
        thread.join()
    assert taken > 0
    """
    check(tmp_path, system, body)


# ------------------------------------------------------------ streams

WRITES = """
    def writes(x):
        print("in the buffer until the end of the child")
        with contextlib.suppress(OSError):
            print("x" * 10_000, file=sys.stderr)
        for fd in (1, 2):  # as C code does, which knows nothing of sys.stdout
            with contextlib.suppress(OSError):
                os.write(fd, b"x" * 1000)
        subprocess.run(["echo"], check=False, stderr=subprocess.DEVNULL)
        return x * x

    try:
        print("pending")
        with contextlib.suppress(OSError):
            print("pending", file=sys.stderr)
        assert pcall(writes, x=range(20)) == tuple(x * x for x in range(20))
        all_three()
    except BaseException:
        pathlib.Path("why").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(42)  # what Python itself would do about such streams is not looked at
"""
CLOSED = [
    " ".join(combination)
    for count in (1, 2, 3)
    for combination in itertools.combinations(["<&-", ">&-", "2>&-"], count)
]


@pytest.mark.parametrize("streams", [*CLOSED, ">/dev/full", ">/dev/full 2>&1", "0</dev/full"])
def test_closed_and_full_streams(tmp_path, system, streams):
    """Calls that print give their results with any of the three streams closed, or full."""
    check(tmp_path, system, WRITES, streams=streams)


def test_stdout_whose_reader_has_gone(tmp_path, system):
    """Calls that print give their results although stdout is a broken pipe."""
    body = """
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.close(reader)
    os.close(writer)
    """
    check(tmp_path, system, body + WRITES)


# ------------------------------------------------------------ the interpreter's options

MISUSE = """
    run = Pcall(square, x=[1])
    for early in (run.join, run.wait, run.as_completed):
        try:
            early()
        except AssertionError:
            pass
        else:
            raise SystemExit(f"{early} before start() raised nothing")
    run.start()
    try:
        run.start()
    except AssertionError:
        pass
    else:
        raise SystemExit("a second start() raised nothing")
    run.join()
    if run.results != (1,):
        raise SystemExit(run.results)
"""


@pytest.mark.parametrize("flags", ["-Werror", "-Xdev -Werror", "-I", "-OO", "-bb"])
def test_options_of_the_interpreter(tmp_path, system, flags):
    """Under each of Python's stricter ways calls work, and nothing is written to stderr."""
    body = """
    all_three()
    event = threading.Event()
    threads = [threading.Thread(target=event.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        all_three()
        assert pcall(lambda x: pcall(square, x=range(x)), x=[3]) == ((0, 1, 4),)
    finally:
        event.set()
        for thread in threads:
            thread.join()
    """
    found = check(tmp_path, system, body, flags=flags.split())
    assert found.stderr == ""


def test_misuse_is_told_without_assertions_too(tmp_path, system):
    """start() twice, and join() before it, raise AssertionError under python -O as well."""
    check(tmp_path, system, MISUSE, flags=["-O"], timeout=10)
