"""Decodes the answers of calls from their bytes, wherever these come from."""

from __future__ import annotations

import pickle
import struct
from marshal import dumps as dump_plain
from marshal import loads as load_plain
from typing import Any

from pcall._errors import ResultError
from pcall._os.signals import is_interrupt
from pcall._wire.decode import MAGIC, Answer, decode
from pcall._wire.exception_codec import safe_str
from pcall.engines.dask.wire_records import HandedOff

__all__ = ["decode_answer", "encode_pickled", "encode_plain", "is_harmless", "value_of"]

__tracebackhide__ = True  # pytest shows the frames of its user


# Before the pickle of a value of a reused child, whose answers have no header.
_PICKLED = b"pcall/p\0"
_FINISHED = struct.Struct("d")
_SHORT = 4096
# The operations of a pickle, as written here, that look up a class or a function.
_LOOKS_UP = (0x93, 0x82, 0x83, 0x84)
_HANDED_OFF = pickle.dumps(HandedOff(), 5)


def encode_plain(value: Any, finished: float) -> bytes:
    """The answer of a call that returned a number, a truth value or None."""
    return dump_plain((finished, value))


def encode_pickled(content: bytes | memoryview, finished: float) -> bytes:
    """The answer of a call whose value is this pickle."""
    return b"".join((_PICKLED, _FINISHED.pack(finished), content))


def is_harmless(content: Any) -> bool:
    """True for an answer that is short, and whose loading runs no code but Python's own."""
    if not isinstance(content, bytes) or len(content) > _SHORT:
        return False
    if content.startswith(MAGIC):
        return False
    if not content.startswith(_PICKLED):
        return True
    pickled = content[len(_PICKLED) + _FINISHED.size :]
    return pickled == _HANDED_OFF or not any(map(pickled.__contains__, _LOOKS_UP))


def value_of(content: Any) -> Any:
    """Return the value in the answer of a call that has answered, or raise its exception.

    Raises:
        ResultError: the value can't be read.
    """
    answer = decode_answer(content)
    if isinstance(answer, BaseException):
        raise answer
    assert answer is not None
    if answer.error is not None:
        raise answer.error
    return answer.value


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
        if view[: len(_PICKLED)] == _PICKLED:
            (finished,) = _FINISHED.unpack_from(view, len(_PICKLED))
            return Answer(pickle.loads(view[len(_PICKLED) + _FINISHED.size :]), None, finished)
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
