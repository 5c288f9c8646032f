"""Decodes the answers of calls from their bytes, wherever these come from."""

from __future__ import annotations

from marshal import loads as load_plain
from typing import Any

from pcall._errors import ResultError
from pcall._os.signals import is_interrupt
from pcall._wire.decode import MAGIC, Answer, decode
from pcall._wire.exception_codec import safe_str

__all__ = ["decode_answer"]

__tracebackhide__ = True  # pytest shows the frames of its user


def decode_answer(content: Any) -> Answer | ResultError | None:
    """Decode the answer of a call; None for a call that has not answered.

    Args:
        content: the bytes that its child wrote; None: there are none.
    """
    if content is None:
        return None
    content = getattr(content, "content", content)  # of one that never left this machine
    try:
        view = memoryview(content)
        if view[: len(MAGIC)] == MAGIC:
            return decode(view)
        finished, value = load_plain(view)
        return Answer(value, None, finished)
    except Exception as error:
        if is_interrupt(error):
            raise
        failure = ResultError(
            f"the answer could not be read: {type(error).__name__}: {safe_str(error)}"
        )
        failure.__cause__ = error
        return failure
