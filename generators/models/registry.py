"""The models, one file each: found by the name of their pipeline class, and their presets by the name of a model.

A model's file ends in `MODEL = ImageModel(...)`. `MODELS` names ours. An installed package adds its own with an entry
point of the group `sdg_data.image_models` named like the pipeline class; a script adds one with
`MODELS["MyPipeline"] = "my_module:MODEL"`. No model's file imports torch when it is imported: listing models and
planning a run is quick, and works where the models cannot run.

A preset is put together from up to three places, each laid over the one before:

    built-in preset  <-  preset.json beside the weights (the minis)  <-  [models.<name>] of the config file

A model that is not built in needs only the last, with at least `pipeline` and `repository`; `extends = "<name>"` starts
from another preset. A class that has no file here is run by the base `Adapter`, and cannot be trained.
"""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from generators.models.contract import ImageModel
from generators.models.presets import PRESET_FILE, Preset
from sdg_data.errors import ConfigError

if TYPE_CHECKING:
    from generators.models.flow import Flow

GROUP: Final = "sdg_data.image_models"

MODELS: Final[dict[str, str]] = {
    "Flux2Pipeline": "generators.models.flux2:MODEL",
    "ZImagePipeline": "generators.models.zimage:MODEL",
    "LongCatImagePipeline": "generators.models.longcat:MODEL",
    "SanaPipeline": "generators.models.sana:MODEL",
    "FluxPipeline": "generators.models.flux1:MODEL",
    "StableDiffusion3Pipeline": "generators.models.sd3:MODEL",
}
"""Pipeline class -> "module:attribute"."""


def image_models() -> dict[str, ImageModel]:
    """Every model by its pipeline class: ours, then those of other packages and scripts.

    Raises:
        ConfigError: A model's entry does not name an `ImageModel` of that class.
    """
    others = {point.name: point.value for point in entry_points(group=GROUP) if point.name not in MODELS}
    return {pipeline: _imported(pipeline, address) for pipeline, address in (MODELS | others).items()}


def model_of(preset: Preset) -> ImageModel:
    """The model of a preset's pipeline class; one that is only run, by the base adapter, for a class without a file."""
    return image_models().get(preset.pipeline) or ImageModel(preset.pipeline)


def flow_of(preset: Preset, pipeline: Any) -> Flow:
    """The conventions of a pipeline that this preset loaded.

    Raises:
        ConfigError: The class has no flow, so its transformer cannot be trained.
    """
    flow = model_of(preset).flow
    if flow is None:
        raise ConfigError(
            f"{preset.pipeline} cannot be trained here",
            item=f"models.{preset.name}",
            hint=f"These can: {', '.join(name for name, model in image_models().items() if model.flow)}.",
        )
    return flow.from_preset(preset, pipeline)


def built_in_presets() -> dict[str, Preset]:
    """The presets that the models bring, by name: the real checkpoints first, then the toys."""
    models = image_models().values()
    presets = [preset for model in models for preset in model.presets]
    return {preset.name: preset for preset in (*presets, *(model.mini for model in models if model.mini))}


def load_presets(models: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Preset]:
    """All presets by name: the built-in ones, those changed by the config's `[models.<name>]`, and those it adds.

    Raises:
        ConfigError: A table does not make a preset; the message names the model and the key.
    """
    presets: dict[str, Preset] = {}
    raw = {name: preset.model_dump(exclude_unset=True) for name, preset in built_in_presets().items()}
    for name in dict.fromkeys((*raw, *(models or {}))):
        presets[name] = _built(name, raw, models or {}, ())
    return presets


def choose(names: Iterable[str], presets: Mapping[str, Preset]) -> list[Preset]:
    """The presets of these names, in this order, each once.

    Raises:
        ConfigError: there is no preset of a name; the hint has those that there are.
    """
    chosen: dict[str, Preset] = {}
    for name in names:
        if name not in presets:
            raise ConfigError("there is no such model", item=name, hint=_known(name, presets))
        chosen[name] = presets[name]
    return list(chosen.values())


def _imported(pipeline: str, address: str) -> ImageModel:
    module, _, attribute = address.partition(":")
    try:
        model = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the model of {pipeline} cannot be loaded: {error}", item=address) from error
    if not isinstance(model, ImageModel) or model.pipeline != pipeline:
        raise ConfigError(f"this is no ImageModel of {pipeline}", item=address)
    return model


def _known(name: str, presets: Mapping[str, Preset]) -> str:
    close = difflib.get_close_matches(name.lower(), presets, n=1, cutoff=0.5)
    guess = f"Did you mean {close[0]}? " if close else ""
    return f"{guess}Known: {', '.join(presets)}. A section [models.{name}] in a config file adds one."


def _built(
    name: str,
    raw: Mapping[str, dict[str, Any]],
    models: Mapping[str, Mapping[str, Any]],
    above: tuple[str, ...],
) -> Preset:
    over = dict(models.get(name, {}))
    base = raw.get(name, {})
    if "extends" in over:
        parent = over.pop("extends")
        if parent in above or (parent not in raw and parent not in models) or parent == name:
            raise ConfigError(f"extends {parent!r}, which is no other known model", item=f"models.{name}")
        base = _built(str(parent), raw, models, (*above, name)).model_dump(exclude_unset=True)
    values = _merged(base, {})
    folder = over.get("repository", values.get("repository"))
    if isinstance(folder, str):
        values = _merged(values, _read_preset_file(name, Path(folder).expanduser() / PRESET_FILE))
    values = _merged(values, over) | {"name": name}
    if over.keys() & {"repository", "revision"} and "revision_seen" not in over:
        values["revision_seen"] = "named by the configuration"
    try:
        return Preset(**values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(
            problems, item=f"models.{name}", hint="A model of your own needs at least `pipeline` and `repository`."
        ) from error


def _read_preset_file(name: str, path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}", item=f"models.{name}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no object", item=f"models.{name}")
    return values


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`; the tables `call` and `memory` key by key."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = {**below, **value} if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result
