"""Pickling values: which pickles are safe to load, and short ones with little overhead."""

from __future__ import annotations

import copyreg
import io
import pickle
from pickle import loads
from types import BuiltinFunctionType, FunctionType
from typing import Any

from pcall._errors import TaskCancelled
from pcall._tuning import OUT_OF_BAND_SIZE
from pcall._wire.result_table import LONG_ANSWER

__all__ = ["RiskPickler", "ShortPickler", "keep_large"]

_BYTES_LIKE = {bytes, bytearray, str}
_inert: dict[type, bool] = {}
_TRUSTED = {"numpy", "pandas", "pyarrow", "scipy", "builtins", "_io", "array", "collections"}
_TRUSTED |= {"datetime", "decimal", "fractions", "pathlib", "uuid", "ipaddress", "zoneinfo"}


class RiskPickler(pickle.Pickler):
    """A pickler that notes whether loading its stream would run user code.

    Attributes:
        risky: True once it has pickled an object whose loading may run user code. The caller
            resets it.
    """

    risky = False

    def reducer_override(self, obj: Any) -> Any:
        if not self.risky:
            kind = type(obj)
            inert = _inert.get(kind)
            if inert is None:
                inert = _inert[kind] = _is_inert(kind)
            self.risky = not inert
        return NotImplemented


class ShortPickler:
    """Pickles short values without large buffers, one after another, with one pickler.

    Attributes:
        risky: True when loading the last pickle runs user code, and may fail elsewhere.
    """

    def __init__(self) -> None:
        self.risky = False
        self._stream = io.BytesIO()
        self._pickler = RiskPickler(self._stream, 5, buffer_callback=self._keep)
        self._large = False

    def dumps(self, value: Any) -> bytes | None:
        """Pickle a value, and load a risky pickle once to see that it loads.

        Returns:
            The pickle; None for a value that is not short, has large buffers, or can't be
            pickled. :func:`~pcall._wire.encode.encode_value` then writes it, or raises the
            error that says what is wrong with it.
        """
        if type(value) in _BYTES_LIKE and len(value) >= LONG_ANSWER:
            return None
        stream, pickler = self._stream, self._pickler
        try:
            pickler.dump(value)
            content = stream.getvalue()
            self.risky = pickler.risky
            if self.risky:
                pickler.risky = False
                loads(content)
        except TaskCancelled:
            raise
        except BaseException:
            return None
        finally:
            pickler.clear_memo()
            stream.seek(0)
            stream.truncate()
        if self._large or len(content) >= LONG_ANSWER:
            self._large = False
            return None
        return content

    def _keep(self, buffer: pickle.PickleBuffer) -> bool:
        self._large |= buffer.raw().nbytes >= OUT_OF_BAND_SIZE
        return not self._large


def keep_large(buffers: list[memoryview], buffer: pickle.PickleBuffer) -> bool:
    """Move a large buffer from the pickle to the list: a pickler's ``buffer_callback``.

    Returns:
        True for a small buffer, which stays in the pickle.
    """
    view = buffer.raw()
    if view.nbytes < OUT_OF_BAND_SIZE:
        return True
    buffers.append(view)
    return False


def _is_inert(kind: type) -> bool:
    """True when loading such an object runs only code of the interpreter or a known library."""
    if str(kind.__module__).partition(".")[0] in _TRUSTED or issubclass(kind, type):
        return True
    if kind in (FunctionType, BuiltinFunctionType):
        return True  # by reference
    return (
        kind not in copyreg.dispatch_table
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and kind.__new__ is object.__new__
        and kind.__getattribute__ is object.__getattribute__
        # Loading looks for __setstate__ on the instance, and puts it into sets and dicts, before
        # it has its attributes.
        and not hasattr(kind, "__getattr__")
        and not isinstance(kind.__hash__, FunctionType)
        and not hasattr(kind, "__setstate__")
    )
