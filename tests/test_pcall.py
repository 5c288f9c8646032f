"""Contract: the calls of section 1, exactly."""

from __future__ import annotations

from pcall import pcall


def add(x, y):
    return x + y


def test_the_one_liner():
    """Columns of keyword arguments make calls, results come in call order."""
    assert pcall(add, x=(1, 2, 3), y=(4, 5, 6)) == (5, 7, 9)
