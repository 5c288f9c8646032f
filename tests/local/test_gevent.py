"""README.rst: calls of a process that gevent has patched.

Each case is a function of tests/scripts/greenlets.py in a process of its own.
"""

from __future__ import annotations

import importlib.util

import pytest

from tests.helpers.scripts import run_case

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not there"),
    pytest.mark.parametrize(
        ("system", "when"), [("linux", "early"), ("linux", "late"), ("portable", "early")]
    ),
]


def test_calls_run(tmp_path, system, when):
    """Whether it was patched before or after the import of pcall, calls work as elsewhere."""
    run_case("greenlets.py", "runs", when, system=system, folder=tmp_path)


def test_other_greenlets_go_on_in_the_parent_alone(tmp_path, system, when):
    """A child does nothing but its call, also where the call waits by a patched function."""
    run_case("greenlets.py", "beside_greenlets", when, system=system, folder=tmp_path)
