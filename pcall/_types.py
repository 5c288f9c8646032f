"""Type variables of the public classes.

Type checkers see their default, so that a plain ``Outcome`` is an ``Outcome[Any]``. Python itself
knows defaults only since 3.13, and nothing needs them while a program runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # type checkers bring it along

    T_co = TypeVar("T_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    T_co = TypeVar("T_co", covariant=True)

__all__ = ["T_co"]
