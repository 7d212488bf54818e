"""Where the weights of the toy models lie that ship with this distribution.

They lie beside the code that trains them, in packages above this one. Code of any package asks here for a folder by the
model's name, so that nobody builds a path into another package. No package is imported to find it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sdg_data.errors import ConfigError, MissingDependency

SHIPPED: Final = {
    "mini-flux2": "generators/mini/weights/mini-flux2",
    "mini-zimage": "generators/mini/weights/mini-zimage",
    "mini-longcat": "generators/mini/weights/mini-longcat",
    "mini-sana": "generators/mini/weights/mini-sana",
    "mini-flux2-damaged": "trainers/paper/boxflow/weights",
    "mini-detector": "trainers/detector/mini/weights",
}
"""The toy models by name: the package and the folder in it that holds their weights."""


def weights_folder(name: str) -> Path:
    """The folder that holds the weights of a shipped toy model, whether or not it has been filled.

    Args:
        name: A key of `SHIPPED`.

    Returns:
        The folder, absolute where the package's own place is.

    Raises:
        ConfigError: There is no such toy model.
        MissingDependency: The package that holds the model is not installed.
    """
    if name not in SHIPPED:
        raise ConfigError("there is no such toy model", item=name, hint=f"They are {', '.join(SHIPPED)}.")
    package, _, path = SHIPPED[name].partition("/")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency(f"the package {package} is not installed", item=name, hint="pip install sdg-data")
    return Path(next(iter(spec.submodule_search_locations))) / path
