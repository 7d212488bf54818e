"""The export formats, one module each, found by name.

A format's module ends in `FORMAT = Format(...)` (`exports.formats.contract` says what it may offer). `FORMATS` names
ours. An installed package adds its own with an entry point of the group `sdg_data.export_formats`; a script adds one
with `FORMATS["mine"] = "my_module:FORMAT"`. Modules are imported when they are asked for.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from sdg_data.errors import ConfigError

if TYPE_CHECKING:
    from exports.formats.contract import Format

GROUP = "sdg_data.export_formats"

FORMATS: dict[str, str] = {
    "webdataset": "exports.formats.webdataset:FORMAT",
    "hf": "exports.formats.hf:FORMAT",
    "release-jsonl": "exports.formats.release_jsonl:FORMAT",
    "ms-swift": "exports.formats.ms_swift:FORMAT",
    "trl": "exports.formats.trl:FORMAT",
    "llama-factory": "exports.formats.llama_factory:FORMAT",
    "coco": "exports.formats.coco:FORMAT",
    "fiftyone": "exports.formats.fiftyone:FORMAT",
    "heatmaps": "exports.formats.heatmaps:FORMAT",
    "preferences": "exports.formats.preferences:FORMAT",
}
"""Name -> "module:attribute"."""


def format_names() -> list[str]:
    """The names of all formats: this project's own, then those that other packages have registered."""
    return list(_addresses())


def load_format(name: str) -> Format:
    """A format by its name.

    Raises:
        ConfigError: No format has this name, or its module is not what the name's entry says.
    """
    addresses = _addresses()
    if name not in addresses:
        raise ConfigError(f"there is no format {name!r}", hint=f"Formats: {', '.join(addresses)}.")
    module, _, attribute = addresses[name].partition(":")
    try:
        loaded: Format = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the format {name!r} cannot be loaded: {error}", item=addresses[name]) from error
    return loaded


def _addresses() -> dict[str, str]:
    others = {point.name: point.value for point in entry_points(group=GROUP) if point.name not in FORMATS}
    return FORMATS | others
