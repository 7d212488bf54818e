"""Modules that moved: their old paths work for one release more, with a warning that names the new one.

An old path is a file of two statements, a docstring and `__getattr__ = moved(OLD, NEW)`. Nothing of ours imports it.
"""

import importlib
import sys
import warnings
from collections.abc import Callable
from typing import Any


def moved(old: str, new: str) -> Callable[[str], Any]:
    """Warn that a module has moved; to be called in the file at the old path.

    Args:
        old: The module's path until now.
        new: Where it is.

    Returns:
        The old module's `__getattr__`: it looks names up in the new one.
    """
    main = sys.modules["__main__"].__spec__
    level = 2 if main is not None and main.name == old else 3  # `python -m OLD`, or whoever imports it
    message = f"{old} is now {new}; the old path goes in 0.3"
    warnings.warn(message, DeprecationWarning, stacklevel=level)

    def look_up(name: str) -> Any:
        try:
            return getattr(importlib.import_module(new), name)
        except AttributeError:
            raise AttributeError(f"module {old!r} has no attribute {name!r}", name=name) from None

    return look_up
