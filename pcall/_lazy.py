"""Names of a package that are imported when they are first used (PEP 562).

Most programs use few of the names, and each import takes time. A package shows all of its names
to type checkers in a ``TYPE_CHECKING`` block, and takes ``__getattr__`` and ``__dir__`` from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(
    namespace: dict[str, Any], homes: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and the ``__dir__`` of a package.

    Args:
        namespace: the package's ``globals()``. A name that was imported is kept there.
        homes: for each module the names that come from it. A submodule of the package may have
            its own name among them: then it is an attribute of the package before its import.

    Returns:
        Both functions.
    """
    package = namespace["__name__"]
    home_of = {name: home for home, names in homes.items() for name in names}

    def get_attribute(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module  # needed only when a name is first used

        home = import_module(home_of[name])
        value = home if home_of[name] == f"{package}.{name}" else getattr(home, name)
        namespace[name] = value
        return value

    def list_names() -> list[str]:
        return sorted({*namespace, *home_of})

    return get_attribute, list_names
