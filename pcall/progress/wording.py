"""Formats figures for people, and makes texts safe for a terminal. Pure functions."""

from __future__ import annotations

import unicodedata

__all__ = ["amount", "clean", "cut", "duration", "plural", "rate", "width_of"]


def duration(seconds: float) -> str:
    """Seconds with the unit that fits: ``"2.1 ms"``, ``"0.50 s"``, ``"3 min 05 s"``."""
    if seconds < 0.0995:  # above, two digits of milliseconds would be three
        return f"{seconds * 1000:.2g} ms" if seconds >= 0.0001 else "0 ms"
    if seconds < 0.995:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"


def amount(size: float) -> str:
    """Bytes with the unit that fits, 1 MB being a million."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def rate(per_second: float) -> str:
    """Calls per second; or per minute or hour if there is less than one per second."""
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        if per_second * seconds >= 0.95 or unit == "h":
            number = per_second * seconds
            return f"{number:,.0f}/{unit}" if number >= 99.5 else f"{number:.2g}/{unit}"
    raise AssertionError


def plural(count: int, noun: str) -> str:
    """The count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def clean(text: str, encoding: str = "utf-8") -> str:
    """Escape the characters that a terminal would execute or can't display.

    These are control characters other than the newline, characters that change the direction of
    writing, and code points without a character. The remaining text has the width that
    :func:`width_of` returns.
    """
    text = text.replace("\r\n", "\n").expandtabs(8)
    if not text.isprintable():
        text = "".join(map(_printable, text))
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _printable(character: str) -> str:
    if character == "\n" or character.isprintable():
        return character
    return " " if unicodedata.category(character) == "Zs" else ascii(character)[1:-1]


def _columns(character: str) -> int:
    if character < "\u0300":
        return 1
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def width_of(text: str) -> int:
    """The number of columns that the text takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def cut(text: str, width: int) -> str:
    """Limit a text to this many columns: a longer one is cut and ends with ``..``."""
    if width_of(text) <= width:
        return text
    end, taken = 0, 2
    while end < len(text) and taken + _columns(text[end]) <= width:
        taken += _columns(text[end])
        end += 1
    return (text[:end] + "..")[: max(width, 0)]
