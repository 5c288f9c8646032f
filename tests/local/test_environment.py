"""docs/design.rst: calls work, or fail at once and by name, in surroundings that lack something.

Each case is a function of tests/scripts/environment.py in a process of its own. The exit status
tells that it came to its end: its streams are part of what is broken here.
"""

from __future__ import annotations

import functools
import itertools
import os

import pytest

from tests.helpers.scripts import in_namespace, run_case

pytestmark = pytest.mark.parametrize("system", ["linux", "portable"])

run = functools.partial(run_case, "environment.py")


# ------------------------------------------------------------ limits


@pytest.mark.fast
def test_200_calls_with_64_descriptors_run_in_waves(tmp_path, system):
    """With 64 descriptors 200 calls run, and each child has some left to open files itself."""
    run("few_descriptors", system=system, folder=tmp_path)


def test_descriptors_that_run_out_delay_calls(tmp_path, system):
    """Calls for which no descriptor is left now start when another has ended."""
    run("descriptors_run_out", system=system, folder=tmp_path)


@pytest.mark.parametrize("number", ["EAGAIN", "ENOMEM"])
def test_a_fork_that_fails_half_way_ends_those_started(tmp_path, system, number):
    """When the fork of child 57 of 100 fails, the others are ended, and OSError tells of 56."""
    run("fork_fails_half_way", number, system=system, folder=tmp_path)


def test_calls_beyond_the_users_processes_run_in_waves(tmp_path, system):
    """An ordinary user whose limit leaves room for 20 processes makes 100 calls."""
    run("few_processes", system=system, folder=tmp_path)


def test_no_room_for_a_single_process_is_an_error_at_once(tmp_path, system):
    """Where not even the first child can be forked, OSError says that none was started."""
    run("no_process", system=system, folder=tmp_path)


def test_processes_run_out_for_one_that_changed_its_user(tmp_path, system):
    """The same in a server that started as root: waves, although /proc shows it as root's."""
    if os.geteuid() != 0:
        pytest.skip("only root can change its user")
    run("few_processes_of_a_hidden_user", system=system, folder=tmp_path)


# ------------------------------------------------------------ places for files

# Programs need some of /dev, but neither /dev/shm nor /dev/fd.
BARE_DEV = """
mkdir "$PWD/dev"
for name in null zero random urandom; do
    touch "$PWD/dev/$name"
    mount --bind "/dev/$name" "$PWD/dev/$name"
done
mount --rbind "$PWD/dev" /dev
"""


def test_missing_places_for_files(tmp_path, system):
    """Without /dev/shm and a temp folder Linux misses nothing; elsewhere OSError comes at once."""
    run(
        "no_place_for_files",
        tmp_path / "missing",
        "ENOENT",
        system=system,
        folder=tmp_path,
        within=in_namespace(BARE_DEV),
    )


@pytest.mark.parametrize("full", ["blocks", "names"])
def test_full_places_for_files(tmp_path, system, full):
    """On Linux a full /dev/shm and temp folder hurt nothing; elsewhere the error names the lack."""
    limits = {"blocks": "size=64k", "names": "size=64k,nr_inodes=2"}[full]
    place = tmp_path / "place"
    place.mkdir()
    commands = f"""
    for place in /dev/shm {place}; do
        mount -t tmpfs -o {limits} none $place
        head -c 100000 /dev/zero >$place/filler 2>&- || true
    done
    """
    run(
        "no_place_for_files",
        place,
        "ENOSPC",
        system=system,
        folder=tmp_path,
        within=in_namespace(commands),
    )


def test_without_proc(tmp_path, system):
    """Calls work where /proc is not mounted."""
    run(
        "without_proc",
        system=system,
        folder=tmp_path,
        within=in_namespace("mount -t tmpfs none /proc"),
    )


@pytest.mark.parametrize("what", ["changed", "deleted"])
def test_working_directory(tmp_path, system, what):
    """Calls work, and errors come home, from a directory changed to or deleted since."""
    run("working_directory", what, system=system, folder=tmp_path)


# ------------------------------------------------------------ signals and waits


def test_sigchld_ignored(tmp_path, system):
    """With SIGCHLD ignored the kernel keeps no status, and results are right all the same."""
    run("sigchld_ignored", system=system, folder=tmp_path)


def test_another_thread_reaps(tmp_path, system):
    """A thread that takes every status with os.wait() changes no result and hangs nothing."""
    run("another_thread_reaps", system=system, folder=tmp_path)


# ------------------------------------------------------------ streams

CLOSED = [
    " ".join(combination)
    for count in (1, 2, 3)
    for combination in itertools.combinations(["<&-", ">&-", "2>&-"], count)
]


@pytest.mark.parametrize("streams", [*CLOSED, ">/dev/full", ">/dev/full 2>&1", "0</dev/full"])
def test_closed_and_full_streams(tmp_path, system, streams):
    """Calls that print give their results with any of the three streams closed, or full."""
    run("broken_streams", system=system, folder=tmp_path, streams=streams)


def test_stdout_whose_reader_has_gone(tmp_path, system):
    """Calls that print give their results although stdout is a broken pipe."""
    run("stdout_without_a_reader", system=system, folder=tmp_path)


# ------------------------------------------------------------ the interpreter's options


@pytest.mark.parametrize("flags", ["-Werror", "-Xdev -Werror", "-I", "-OO", "-bb"])
def test_options_of_the_interpreter(tmp_path, system, flags):
    """Under each of Python's stricter ways calls work, and nothing is written to stderr."""
    found = run("beside_threads", system=system, folder=tmp_path, flags=flags.split())
    assert found.stderr == ""


def test_misuse_is_told_without_assertions_too(tmp_path, system):
    """start() twice, and join() before it, raise AssertionError under python -O as well."""
    run("misuse", system=system, folder=tmp_path, flags=["-O"])
