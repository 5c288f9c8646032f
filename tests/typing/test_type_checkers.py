"""What mypy and pyright say of the public API, and of code that uses it wrongly."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pcall import run
from pcall._core import policy_types
from pcall._core.options import Options
from tests.helpers import ROOT

API = Path(__file__).parent / "api.py"
TIMEOUT = 110

WRONG = """\
from pcall import Executor, Outcome, Pcall, Plan, pcall, run
pcall(5)
pcall(len, timeout='1')
pcall(len, x=5)
Pcall(len).start().bit_length()
Pcall(len).results = ()
text: str = Pcall(len).pids
texts: tuple[str, ...] = pcall(len, iargs=[('a',)])
Pcall.options(max_worker=2)
Pcall.options(max_workers='2')
class Mine(Pcall, max_worker=2): ...
class Yours(Pcall, retry='2'): ...
Pcall.options(return_outcomes=True).pcall(len)[0].bit_length()
def look(outcome: Outcome[int]) -> str: return outcome.result()
plan = Plan()
name: str = run(plan, output=plan.call(len, 'a'))
Executor().options(max_workers=2)
text = Executor().submit(len, 'a').result()
"""
WRONG_LINES = [n for n in range(2, len(WRONG.splitlines()) + 1) if n != 15]


@pytest.fixture(params=["mypy", "pyright"])
def errors_in(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], list[int]]:
    """Check a file; the lines with errors."""
    checker = request.param
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    kept = getattr(request.config, "cache", None)  # not there with -p no:cacheprovider
    cache = tmp_path / "cache" if kept is None else kept.mkdir(checker)

    def check(path: Path) -> list[int]:
        command = [sys.executable, "-m", checker]
        if checker == "mypy":
            command += ["--strict", "--cache-dir", str(cache)]
            command += ["--config-file", str(ROOT / "setup.cfg")]
        else:
            command += ["--outputjson", "--pythonversion", "3.11"]
        shown = _output([*command, str(path)], ROOT)
        if checker == "mypy":
            assert re.search(r"^(Success|Found)", shown, re.M), shown
            return sorted({int(n) for n in re.findall(r"\.py:(\d+): error", shown)})
        found = json.loads(shown)["generalDiagnostics"]
        errors = [each for each in found if each["severity"] == "error"]
        return sorted({each["range"]["start"]["line"] + 1 for each in errors})

    return check


def _output(command: list[str], folder: Path) -> str:
    # Found there, installed or not.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment["PYRIGHT_PYTHON_IGNORE_WARNINGS"] = "1"
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True,
        timeout=TIMEOUT, check=False,
    ).stdout  # fmt: skip


@pytest.mark.timeout(TIMEOUT + 20)
def test_the_public_api_is_typed(errors_in):
    """A file that uses the whole public API has no error."""
    assert errors_in(API) == []


@pytest.mark.timeout(TIMEOUT + 20)
def test_wrong_use_is_a_type_error(errors_in, tmp_path):
    """What the types forbid is reported, so the test above can fail."""
    path = tmp_path / "wrong.py"
    path.write_text(WRONG)
    assert errors_in(path) == WRONG_LINES


@pytest.mark.timeout(TIMEOUT + 20)
def test_every_public_symbol_has_a_type(tmp_path):
    """``pyright --verifytypes`` finds the package complete: nothing is left to be inferred."""
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed")
    shown = _output([sys.executable, "-m", "pyright", "--verifytypes", "pcall"], tmp_path)
    assert "Type completeness score: 100%" in shown, "\n".join(re.findall(".* - error: .*", shown))


# ------------------------------------------------------------------ the names of options

OF_RUN_ALONE = {"plan", "output"}


def _fields(typed: Any) -> dict[str, str]:
    return {
        name: kind if isinstance(kind, str) else kind.__forward_arg__
        for name, kind in typed.__annotations__.items()
    }


def test_the_typed_options_are_the_options():
    """A type checker knows the options that there are, with their types."""
    options = {field.name: field.type for field in dataclasses.fields(Options)}
    options["return_outcomes"] = "Required[bool]"
    assert _fields(policy_types.AnyPolicy) == options
    assert _fields(policy_types.Policy).keys() == options.keys()
    assert _fields(policy_types.OutcomesPolicy).keys() == options.keys()


def test_the_typed_arguments_of_run_are_its_arguments():
    """A type checker knows the arguments of ``run``."""
    assert _fields(policy_types.RunPolicy).keys() == (
        inspect.signature(run).parameters.keys() - OF_RUN_ALONE
    )
