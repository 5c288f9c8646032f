"""docs/cluster.rst: options of calls that hold on a cluster, too."""

import os
import time

import pytest

from pcall import ChildProcessException, Pcall

started = []


def note(what):
    started.append(what)


def seen(x):
    return (*started, x)


def fails(what):
    raise ValueError(what)


def one_fails(x):
    if x == 0:
        raise ValueError("zero")
    time.sleep(60)


@pytest.mark.parametrize("children", [1, None])
def test_an_initializer(cluster, children):
    """Each child calls it before its first call."""
    options = Pcall.options(
        engine=cluster, max_tasks_per_child=children, initializer=note, initargs=("ready",)
    )
    results = options.pcall(seen, x=range(4))
    assert [(result[0], result[-1]) for result in results] == [("ready", x) for x in range(4)]


@pytest.mark.parametrize("children", [1, None])
def test_an_initializer_that_fails(cluster, children):
    """Its error is that of the calls."""
    options = Pcall.options(
        engine=cluster, max_tasks_per_child=children, initializer=fails, initargs=("no",)
    )
    with pytest.raises(ChildProcessException) as caught:
        options.pcall(seen, x=range(3))
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_initializer_that_cannot_be_pickled(cluster):
    """One clear error before anything runs."""
    reader, writer = os.pipe()
    with open(reader) as file, pytest.raises(TypeError, match="initializer"):
        Pcall.options(engine=cluster, initializer=note, initargs=(file,)).pcall(seen, x=(1,))
    os.close(writer)


def test_fail_fast(cluster):
    """A failure ends the calls that run."""
    began = time.monotonic()
    with pytest.raises(ChildProcessException) as caught:
        Pcall.options(engine=cluster, fail_fast=True).pcall(one_fails, x=range(2))
    assert time.monotonic() - began < 30
    assert [outcome.index for outcome in caught.value.failures] == [0]
