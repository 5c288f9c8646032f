"""docs/performance.rst: it shows what benchmarks/run.py has measured, and can measure again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT
from tests.helpers.scripts import run_python

RUN = ROOT / "benchmarks/run.py"
LONGEST = 500  # seconds that a small workload gets, on a busy machine too
WRITTEN = ["performance.json", "performance.svg", "growth.svg", "performance.rst"]


def run(*arguments: object, timeout: float = 110) -> subprocess.CompletedProcess[str]:
    """Run benchmarks/run.py to its end, without the peer that has a Python of its own."""
    env = {"PCALL_PYATS_PYTHON": "/bin/false"}
    return run_python(RUN, *arguments, status=None, timeout=timeout, env=env)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of what the documents show."""
    for name in WRITTEN:
        shutil.copy(ROOT / "docs" / name, tmp_path / name)
    return tmp_path


def test_documents_show_what_was_measured(folder: Path) -> None:
    """Drawn again from the figures, pictures and tables are those of the documents."""
    done = run("--redraw", folder)
    assert done.returncode == 0, done.stderr
    for name in WRITTEN:
        assert (folder / name).read_text() == (ROOT / "docs" / name).read_text(), name


def test_a_changed_figure_is_shown(folder: Path) -> None:
    """The check above sees a difference: a figure that is changed changes picture and table."""
    path = folder / "performance.json"
    found = json.loads(path.read_text())
    row = next(each["row"] for each in found["records"]["fork"] if each["row"]["target"])
    row["figure"] = row["low"] = row["high"] = 7.89
    path.write_text(json.dumps(found))
    assert run("--redraw", folder).returncode == 0
    assert '"7.89 x"' in (folder / "performance.rst").read_text()
    assert ">0.127 x<" in (folder / "performance.svg").read_text()


def test_pictures_are_whole(folder: Path) -> None:
    """Names are escaped, and everything drawn is within the picture."""
    path = folder / "performance.json"
    found = json.loads(path.read_text())
    found["records"]["fork"][0]["row"]["work"] = 'a < b & "c"'
    path.write_text(json.dumps(found))
    assert run("--redraw", folder).returncode == 0
    for name in ("performance.svg", "growth.svg"):
        root = ElementTree.parse(folder / name).getroot()
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        for element in root.iter():
            for key, value in element.attrib.items():
                if key in ("x", "x1", "x2", "cx"):
                    assert 0 <= float(value) <= width, (name, element.attrib)
                if key in ("y", "y1", "y2", "cy"):
                    assert 0 <= float(value) <= height, (name, element.attrib)
    assert 'a &lt; b &amp; "c"' in (folder / "performance.svg").read_text()


def test_a_document_without_marks(folder: Path) -> None:
    """Tables that have no place are not written anywhere, and that is told."""
    (folder / "performance.rst").write_text("Performance\n")
    done = run("--redraw", folder)
    assert done.returncode != 0
    assert "marks" in done.stderr
    assert (folder / "performance.rst").read_text() == "Performance\n"


def test_a_wrong_name_is_told() -> None:
    """A workload that there is not is named, with those that there are."""
    done = run("forks")
    assert done.returncode == 2
    assert "forks" in done.stderr
    assert "fork500" in done.stderr


def measured_here(folder: Path) -> dict[str, Any]:
    """Let the figures in a folder be of this machine, with few rounds; return them."""
    path = folder / "performance.json"
    found = json.loads(path.read_text())
    script = "import json, run; print(json.dumps(run.conditions(quick=True)))"
    done = run_python("-c", script, cwd=RUN.parent)
    found["on"] = json.loads(done.stdout)
    path.write_text(json.dumps(found))
    return found


@pytest.mark.slow
@pytest.mark.timeout(4 * LONGEST)
@pytest.mark.parametrize(
    ("name", "work"),
    [
        ("logs", "200 calls that log 10 lines each"),
        ("idle", "100 children that sleep 2 s: while they do"),
        ("reused", None),
        ("cpu", None),
        ("plan", None),
    ],
)
def test_a_workload_is_measured_and_written(folder: Path, name: str, work: str | None) -> None:
    """A run measures, names the peers that are missing, and keeps what other workloads yielded."""
    before = measured_here(folder)
    for _ in range(3):
        done = run(name, "--quick", "--write", folder, timeout=LONGEST)
        if "the machine is too busy" not in done.stderr:
            break
    else:
        pytest.skip("the machine is too busy for this workload, as it says itself")
    assert done.returncode == 0, done.stderr
    assert "pyATS" in done.stdout.splitlines()[-1]
    after = json.loads((folder / "performance.json").read_text())
    assert after["missing"][-1] == "pyATS"
    assert sorted(after["records"]) == sorted(before["records"])
    changed = [key for key, rows in after["records"].items() if rows != before["records"][key]]
    assert changed == [name]
    works = {each["row"]["work"] for each in after["records"][name] if "row" in each}
    assert works
    assert work is None or work in works


def test_figures_of_different_surroundings_are_not_mixed(folder: Path) -> None:
    """A part of the figures is not replaced by what was measured on something else."""
    path = folder / "performance.json"
    found = json.loads(path.read_text())
    found["on"]["kernel"] = "Linux 2.6"
    path.write_text(json.dumps(found))
    done = run("idle", "--write", folder)
    assert done.returncode == 2
    assert "Linux 2.6" in done.stderr
    assert json.loads(path.read_text()) == found


@pytest.mark.slow
def test_a_workload_that_fails_is_named(tmp_path: Path) -> None:
    """What did not run to its end is told, and nothing is written for it."""
    shutil.copytree(RUN.parent, tmp_path / "benchmarks")
    (tmp_path / "pcall").symlink_to(ROOT / "pcall")
    (tmp_path / "docs").mkdir()
    (tmp_path / "benchmarks/logs.py").write_text("raise SystemExit('out of order')\n")
    done = subprocess.run(
        [sys.executable, "benchmarks/run.py", "logs", "--quick", "--write", "docs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 1
    assert "out of order" in done.stderr
    assert "did not run to their end: logs" in done.stderr
    assert list((tmp_path / "docs").iterdir()) == []
