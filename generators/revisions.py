"""Which state of a model's weights a name stands for, and whether it is on this machine.

An image's id holds the revision of the model that made it, so the revision must name one state of the weights: a hub
repository's commit, or the hash of a local folder's content. Nothing is downloaded here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from generators.models.presets import PRESET_FILE, Preset
from sdg_data.errors import ConfigError, GenerationError
from sdg_data.ids import folder_hash
from sdg_data.transport import transport_errors

# Documentation and numbers that are part of an image's settings anyway: they may change without changing the weights.
_NOT_WEIGHTS: Final = {PRESET_FILE, "README.md", "facts.json", ".gitattributes", "LICENSE", "LICENSE.md", "LICENSE.txt"}


def installed(preset: Preset) -> bool:
    """Whether the model can be loaded without downloading anything."""
    folder = preset.folder
    if folder is not None:
        return (folder / "model_index.json").is_file()
    return _in_cache(preset) is not None


def revision_of(preset: Preset, *, online: bool = False) -> str:
    """The revision that images of this model are filed under.

    A pinned commit as it is; a branch as the commit that it stands for in the hub's cache, or at the hub where
    `online`; failing both, the branch's name. A local folder: its revision if the preset names one, else the hash of
    its content.

    Args:
        preset: the model's.
        online: whether the hub may be asked.

    Raises:
        ConfigError: the folder is too large to be hashed.
        GenerationError: the folder is missing.
    """
    folder = preset.folder
    if folder is not None:
        return preset.revision or _content_hash(folder, preset.name)
    if preset.pinned:
        return preset.revision
    return _in_cache(preset) or (_at_hub(preset) if online else None) or preset.revision or "main"


def _content_hash(folder: Path, name: str) -> str:
    if not (folder / "model_index.json").is_file():
        hint = "`make minis` trains the toy models." if folder.parent.name == "weights" else "Is the path right?"
        raise GenerationError(f"there are no weights in {folder}", item=name, hint=hint)
    try:
        return folder_hash(folder, leave_out=_NOT_WEIGHTS)
    except ValueError as error:
        raise ConfigError(
            str(error), item=f"models.{name}", hint='Name the state of the weights yourself: revision = "...".'
        ) from error


def _in_cache(preset: Preset) -> str | None:
    """The commit under which the hub's cache holds the model, None where it does not."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    index = try_to_load_from_cache(preset.repository, "model_index.json", revision=preset.revision or "main")
    # <cache>/models--owner--name/snapshots/<commit>/model_index.json
    return Path(index).parent.name if isinstance(index, str) else None


def _at_hub(preset: Preset) -> str | None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        return HfApi().model_info(preset.repository, revision=preset.revision or "main").sha
    except (HfHubHTTPError, OfflineModeIsEnabled):
        return None
    except transport_errors():
        return None  # no network: the caller files the images under the branch's name, and says so
