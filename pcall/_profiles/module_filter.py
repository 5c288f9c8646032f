"""Which files, and which functions in C, belong to which modules."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import lru_cache

__all__ = ["ModuleFilter"]


class ModuleFilter:
    """Selects by dotted module names; a name stands for its submodules, too.

    Args:
        include: the modules to show; none: all.
        exclude: the modules to leave out. They win.

    Raises:
        TypeError: one is neither a module name nor an iterable of module names.
        ValueError: a name is not one that a module can have.
    """

    def __init__(self, include: Iterable[str] | str, exclude: Iterable[str] | str) -> None:
        self._include = _checked("include", include)
        self._exclude = _checked("exclude", exclude)

    def __bool__(self) -> bool:
        """True if anything may be left out."""
        return bool(self._include or self._exclude)

    def shows(self, file: str, function: str = "") -> bool:
        """True for a function of this name in this file."""
        names = modules_of(file, function)
        if any(_within(name, self._exclude) for name in names):
            return False
        return not self._include or any(_within(name, self._include) for name in names)


def _checked(argument: str, names: Iterable[str] | str) -> tuple[str, ...]:
    if isinstance(names, str):
        names = (names,)
    try:
        found: tuple[object, ...] = tuple(names)
    except TypeError:
        raise TypeError(f"{argument} must be dotted names of modules, not {names!r}") from None
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"{argument} must be dotted names of modules, not {names!r}")
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(
                f"{argument} must be dotted names of modules, for example ('json', 'os.path'); "
                f"{name!r} is none"
            )
    return tuple(map(str, found))


def _within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def modules_of(file: str, function: str = "") -> tuple[str, ...]:
    """The dotted names by which a function's module can be asked for."""
    if file == "~":
        return (_module_in_c(function),)
    if file.startswith("<frozen "):
        return (file[len("<frozen ") : -1],)
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    name = _module_of_file(file, tuple(sys.path))
    if main is not None and os.path.abspath(main) == os.path.abspath(file):
        return ("__main__", name)
    return (name,)


def _module_in_c(name: str) -> str:
    """``time`` of ``<built-in method time.sleep>``; else ``builtins``."""
    word = name.removeprefix("<built-in method ").rstrip(">")
    if word != name and " " not in word and "." in word:
        return word.rpartition(".")[0]
    if " of '" in name:  # <method 'append' of 'list' objects>
        of = name.rpartition(" of '")[2].partition("'")[0]
        return of.rpartition(".")[0] or "builtins"
    return "builtins"


@lru_cache(4096)
def _module_of_file(file: str, path: tuple[str, ...]) -> str:
    stem = os.path.splitext(file)[0]
    folders = [os.path.abspath(each) for each in path]
    inside = [each for each in folders if stem.startswith(each.rstrip(os.sep) + os.sep)]
    if inside:
        stem = stem[len(max(inside, key=len).rstrip(os.sep)) + 1 :]
    else:  # a folder that only the child had in its path: a package goes as far as __init__.py
        folder, parts = os.path.dirname(file), [os.path.basename(stem)]
        while os.path.isfile(os.path.join(folder, "__init__.py")):
            folder, name = os.path.split(folder)
            parts.insert(0, name)
        stem = os.sep.join(parts)
    name = stem.replace(os.sep, ".")
    return name.removesuffix(".__init__")
