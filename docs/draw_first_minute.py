"""Draws ``first_minute.svg``: a script whose calls fail in three ways, and its real output.

Run it after a change to the texts of errors: ``PYTHONPATH=. python docs/draw_first_minute.py``.
"""

from __future__ import annotations

import html
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/first_minute.svg"
SCRIPT = """\
import os, sys, time
from pcall import pcall

def check(host):
    if host == "router-3":
        {"raise": raises, "crash": os.abort, "hang": endless}[sys.argv[1]]()
    return f"{host} is fine"

def raises():
    return {"router-1": "7.2"}["router-3"]

def endless():
    time.sleep(3600)

pcall(check, timeout=1, host=["router-1", "router-2", "router-3"])
"""
WAYS = ("raise", "crash", "hang")

CELL, LINE, MARGIN = 7.83, 18, 16  # of a monospaced font of 13 pixels
COLOURS = {"code": "#d5dae3", "command": "#7fd1ae", "error": "#ff9d8a", "more": "#8b93a5"}


def output_of(way: str) -> list[str]:
    """The lines that the script writes to stderr when its call fails in this way."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "check.py").write_text(SCRIPT)
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "PCALL_PROGRESS": ""}
        done = subprocess.run(
            [sys.executable, "check.py", way],
            cwd=folder,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
        return done.stderr.replace(f"{os.path.realpath(folder)}/", "").splitlines()


def picture_lines() -> list[tuple[str, str]]:
    """Each line of the picture: its kind, and its text."""
    lines = [("command", "$ cat check.py")]
    lines += [("code", line) for line in SCRIPT.splitlines()]
    for way in WAYS:
        output = output_of(way)
        # The traceback of the child, which stands first; of the others the last lines.
        shown = output[: output.index("")] if way == "raise" else output[-2:]
        lines += [("code", ""), ("command", f"$ python check.py {way}")]
        lines += [("code" if line.startswith(" ") else "error", line) for line in shown]
        if way == "raise":
            lines.append(("more", "..."))
    return lines


def draw(lines: list[tuple[str, str]]) -> str:
    """The picture as SVG."""
    columns = max(len(text) for _, text in lines)
    width = round(2 * MARGIN + columns * CELL)
    height = 2 * MARGIN + LINE * len(lines)
    rows = [
        f'<text x="{MARGIN}" y="{MARGIN + LINE * (number + 0.75):g}" fill="{COLOURS[kind]}">'
        f"{html.escape(text, quote=False)}</text>"
        for number, (kind, text) in enumerate(lines)
        if text
    ]
    style = (
        'font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="13"'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" {style} xml:space="preserve">',
            "<title>A call that raises, one that crashes, and one that hangs</title>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#1e222b"/>',
            *rows,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(picture_lines()))
