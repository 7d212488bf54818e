"""What libraries raise over a model's files that are missing, damaged, or of another model.

transformers, diffusers and safetensors each have errors of their own for it; a config of the wrong types ends in
whatever the model's code stumbles over. For the few lines that load a model, and no others.
"""

import sys
from pathlib import Path
from typing import Final

_ANY: Final = (OSError, ValueError, RuntimeError, ImportError, LookupError, TypeError, AttributeError, ArithmeticError)
_LIBRARIES: Final = {"safetensors": "SafetensorError", "huggingface_hub.errors": "StrictDataclassError"}


def loading_errors() -> tuple[type[Exception], ...]:
    """The classes of errors that loading a model can raise: `except loading_errors() as error`.

    Returns:
        Python's own, and those of the libraries that are loaded.
    """
    modules = (
        (sys.modules.get(name), error) for name, error in _LIBRARIES.items()
    )  # one not loaded has raised nothing
    return (*_ANY, *(getattr(module, error) for module, error in modules if module is not None))


def is_no_folder(source: str) -> bool:
    """Whether a model is named by a path where no folder is, and not as OWNER/NAME of the hub."""
    path = Path(source)
    return (path.is_absolute() or source.startswith((".", "~")) or len(path.parts) > 2) and not path.is_dir()


def loading_reason(error: Exception) -> str:
    """An error's class and the first line of its words."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
