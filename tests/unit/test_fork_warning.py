"""The filter that hides Python's warning of forks in a process with threads."""

import re
import threading
import warnings

from pcall._os.fork_warning import ignore_fork_warning


def is_ours(entry):
    return entry[0] == "ignore" and "fork" in getattr(entry[3], "pattern", "")


def ours():
    return [entry for entry in warnings.filters if is_ours(entry)]


class Watched(list):
    """Filters that note whether one of ours is there after each removal."""

    def __init__(self, entries):
        super().__init__(entries)
        self.gaps = 0

    def remove(self, entry):
        super().remove(entry)
        self.gaps += not any(map(is_ours, self))


def test_the_filter_comes_first_again_and_there_is_one(monkeypatch):
    """After other filters were added ours is the first again, and the old one is gone."""
    monkeypatch.setattr(warnings, "filters", [])
    for _ in range(5):
        warnings.simplefilter("error")
        ignore_fork_warning()
        ignore_fork_warning()
        assert is_ours(warnings.filters[0])
        assert len(ours()) == 1


def test_no_moment_without_the_filter(monkeypatch):
    """While one thread renews the filter another one may fork, and must not be warned."""
    monkeypatch.setattr(warnings, "filters", Watched([]))
    for _ in range(3):
        warnings.simplefilter("error")
        ignore_fork_warning()
    assert warnings.filters.gaps == 0
    assert len(ours()) == 1


def test_threads_that_renew_it_at_once(monkeypatch):
    """Many threads at once leave a filter, and theirs are first."""
    monkeypatch.setattr(warnings, "filters", [("error", None, Warning, re.compile("x"), 0)])
    threads = [
        threading.Thread(target=lambda: [ignore_fork_warning() for _ in range(200)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_ours(warnings.filters[0])
    assert warnings.filters[-1][0] == "error"
