"""The part of SVG that two pictures need, and logarithmic scales."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

__all__ = ["GREY", "INK", "PALE", "Canvas", "Scale"]

INK, GREY, PALE = "#1f2933", "#6b7785", "#dfe4ea"
_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"


class Scale:
    """From values to places, by powers of ten.

    Args:
        values: all of them are to be on it.
        start, stop: the places of its ends.
        room: the share of the whole length that is left free at each end.
    """

    def __init__(
        self, values: Iterable[float], start: float, stop: float, room: float = 0.03
    ) -> None:
        logs = [math.log10(value) for value in values]
        low, high = min(logs), max(logs)
        if high - low < 1:
            low, high = (low + high - 1) / 2, (low + high + 1) / 2
        spare = (high - low) * room
        self.low, self.high = low - spare, high + spare
        self.start, self.stop = start, stop

    def __call__(self, value: float) -> float:
        part = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + part * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """The powers of ten on it."""
        return [10.0**power for power in range(math.ceil(self.low), math.floor(self.high) + 1)]


class Canvas:
    """A picture on a white background, so that it can be read on a dark page, too."""

    def __init__(self, width: int, title: str) -> None:
        self.width, self.title = width, title
        self._pieces: list[str] = []

    def line(
        self, x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1
    ) -> None:
        place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        self._pieces.append(f'<line {place} stroke="{colour}" stroke-width="{width:g}"/>')

    def path(
        self, places: Sequence[tuple[float, float]], colour: str, dashes: str = "", width: float = 2
    ) -> None:
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self._pieces.append(
            f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="{width:g}"'
            f' stroke-linejoin="round"{dashed}/>'
        )

    def dot(self, x: float, y: float, colour: str, radius: float = 3.2) -> None:
        self._pieces.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{colour}"/>')

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        anchor: str = "start",
        colour: str = INK,
        size: float = 11,
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self._pieces.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
            f' font-size="{size:g}"{weight}>{escape(words)}</text>'
        )

    def draw(self, height: float) -> str:
        """The picture, so high."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {height:.0f}"'
            f' width="{self.width}" height="{height:.0f}" role="img" font-family="{_FONT}">'
        )
        ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
        lines = [head, f"<title>{escape(self.title)}</title>", ground, *self._pieces, "</svg>"]
        return "\n".join(lines) + "\n"
