"""docs/timeouts.rst: whenever a signal comes, its handler runs once and nothing is lost for it.

Each case is a function of tests/scripts/interrupts.py in a process of its own, since handlers of
signals are the process's.
"""

from __future__ import annotations

import pytest

from tests.helpers.scripts import run_case, run_python


@pytest.fixture(params=["linux", "portable"])
def play(request, tmp_path):
    def play(case: str, how: str, threads: str) -> None:
        found = run_case("interrupts.py", case, how, threads, system=request.param, folder=tmp_path)
        assert "ignored" not in found.stderr, found.stderr

    return play


@pytest.mark.parametrize("threads", ["threads", "alone"])
@pytest.mark.parametrize("how", ["fresh", "reused", "plan"])
def test_ctrl_c_at_any_moment(play, how, threads):
    """It interrupts the call, and leaves no process and no descriptor behind."""
    play("interrupted", how, threads)


@pytest.mark.parametrize("threads", ["threads", "alone"])
@pytest.mark.parametrize("how", ["fresh", "reused", "plan"])
def test_other_handlers_are_called_once_for_a_signal(play, how, threads):
    """They are put off for some lines at most, and are in place again when the call returns."""
    play("counted", how, threads)


@pytest.mark.parametrize("how", ["fresh", "reused", "plan"])
def test_what_a_handler_raises_while_a_result_is_read_is_no_fault_of_the_call(play, how):
    """It breaks into the run as it does at any other moment, whatever class it is of."""
    play("while_reading", how, "alone")


@pytest.mark.parametrize("how", ["fresh", "reused"])
def test_children_have_the_handlers_of_their_parent(play, how):
    """What is put off while children are forked is not in these."""
    play("in_children", how, "threads")


@pytest.mark.parametrize("use", ["terminate", "kill", "poll", "join"])
@pytest.mark.parametrize("how", ["fresh", "reused"])
def test_a_handler_uses_the_run_that_is_joined(play, how, use):
    """Whenever it terminates, kills, polls or joins the run, each call has one right outcome."""
    play("used_by_a_handler", how, use)


@pytest.mark.parametrize("how", ["fresh", "reused"])
def test_two_threads_that_make_calls_at_once(play, how):
    """Children of either have the handlers of their parent, which are called once."""
    play("in_two_threads", how, "alone")


@pytest.mark.parametrize("how", ["fresh", "reused"])
def test_ctrl_c_while_a_block_is_left(play, how):
    """An interrupt of the clean-up after an exception in the block is raised after it."""
    play("in_the_clean_up", how, "alone")


@pytest.mark.parametrize("how", ["fresh", "reused"])
def test_an_event_loop_is_told_once_of_a_signal(play, how):
    """Also where the signal came while handlers were put off, in a process with threads."""
    play("told_once_to_a_loop", how, "threads")


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["threads", "alone"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_at_random_moments_of_random_runs(name, threads):
    """With progress, logs and captured output, too, each is raised once, and nothing is left."""
    found = run_python("-m", "tests.scripts.interrupt_soak", 30, name, threads)
    assert "30 rounds" in found.stdout
