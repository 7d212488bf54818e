"""Files of a user's that hide one of our top-level packages, such as a `schemas.py` beside the script that runs.

Python looks beside the running script first, and our packages have common names. Without a word from us the script dies
with "No module named 'schemas.base'", which does not say why. Two limits: a package that is hidden cannot speak itself,
so its neighbours do; and nothing can be said where a script's first import is the hidden package.
"""

import importlib.util
import warnings
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

PACKAGES = ("schemas", "sdg_data", "generators", "annotate", "exports", "trainers", "integrations")
_OUR_FOLDER = Path(__file__).resolve().parents[1]


def hidden_by(name: str, folder: Path | None = None) -> Path | None:
    """The file or folder that hides our package, None where nothing does.

    Args:
        name: One of `PACKAGES`.
        folder: Where a script would lie; None: as this process imports.
    """
    if folder is not None:
        spec = PathFinder.find_spec(name, [str(folder)])
        # A folder without an __init__.py, such as one with data, hides nothing.
        return None if spec is None or spec.origin is None else _foreign(spec)
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module without a spec: `__main__`, or one that a test has put there
        return None
    return None if spec is None else _foreign(spec)


def explain(name: str, path: Path) -> str:
    """One sentence: what hides what, and what to do."""
    return (
        f"{path} hides the package `{name}` of sdg-data: rename it, or run the script from another folder "
        f"(the package itself is {_OUR_FOLDER / name})"
    )


def require(*names: str) -> None:
    """Make sure that our packages of these names are the ones that an import gets.

    Raises:
        ImportError: Something hides one of them; the message says what.
    """
    for name in names:
        path = hidden_by(name)
        if path is not None:
            raise ImportError(explain(name, path), name=name, path=str(path))


def warn(*names: str) -> None:
    """Say where one of these packages is hidden. A script that does not import it is not affected."""
    for name in names:
        path = hidden_by(name)
        if path is not None:
            warnings.warn(explain(name, path), RuntimeWarning, stacklevel=2)


def _foreign(spec: ModuleSpec) -> Path | None:
    if spec.submodule_search_locations is not None:
        place = next(iter(spec.submodule_search_locations), None)
    else:
        place = spec.origin
    if place is None or Path(place).resolve() == _OUR_FOLDER / spec.name:
        return None
    return Path(place)
