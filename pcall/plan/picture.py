"""A plan as a picture: Graphviz text, coloured by what became of the calls."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pcall._core.records import show
from pcall.plan.call_states import DONE, FAILED, SKIPPED

if TYPE_CHECKING:
    from pcall.plan.plan import Plan

__all__ = ["dot_text", "svg_text"]

_COLOURS = {DONE: "palegreen", FAILED: "lightcoral", SKIPPED: "lightgrey"}
# Seconds that the layout of a picture may take.
_LONGEST = 60


def dot_text(plan: Plan) -> str:
    """The plan in the language of Graphviz."""
    return "\n".join(["digraph plan {", *_lines(plan), "}", ""])


def svg_text(plan: Plan) -> str:
    """The plan as SVG.

    Raises:
        RuntimeError: ``dot`` is not installed, or failed.
    """
    try:
        made = subprocess.run(
            ["dot", "-Tsvg"], input=dot_text(plan), capture_output=True, text=True, timeout=_LONGEST
        )
    except FileNotFoundError:
        raise RuntimeError(
            "the program dot, of Graphviz, is not installed; dot text needs none"
        ) from None
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"dot took longer than {_LONGEST} s; the plan is too large") from None
    if made.returncode:
        raise RuntimeError(f"dot failed: {made.stderr.strip()}")
    return made.stdout


def _lines(plan: Plan) -> Iterator[str]:
    yield '  node [shape=box, style="rounded,filled", fillcolor=white, fontname=sans];'
    states = plan.states.ljust(len(plan.calls), b"\0")
    scopes: dict[tuple[object, ...], list[int]] = {}
    for call in plan.calls:
        scopes.setdefault(call.scope, []).append(call.index)
    for number, (scope, indices) in enumerate(scopes.items()):
        indent = "  "
        if scope:
            indent = "    "
            yield f"  subgraph cluster_{number} {{"
            yield f"    label={_quoted(' / '.join(map(_named, scope)))};"
        for index in indices:
            call = plan.calls[index]
            colour = _COLOURS.get(states[index])
            filled = f", fillcolor={colour}" if colour else ""
            tip = _quoted(f"{call.place.filename}:{call.place.line}")
            yield f"{indent}c{index} [label={_quoted(call.name)}, tooltip={tip}{filled}];"
        if scope:
            yield "  }"
    for number in range(1, len(plan.gather_needs) + 1):
        yield f"  g{number} [shape=point];"
    for number, needs in enumerate(plan.gather_needs, 1):
        for vertex in needs:
            yield f"  {_vertex(vertex)} -> g{number};"
    for index, needs in enumerate(plan.needs):
        for vertex in needs:
            yield f"  {_vertex(vertex)} -> c{index};"


def _vertex(vertex: int) -> str:
    return f"c{vertex}" if vertex >= 0 else f"g{-vertex}"


def _named(name: object) -> str:
    return name if isinstance(name, str) else show(name)


def _quoted(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
