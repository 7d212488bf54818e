"""What each text-to-image model is run with: one `Preset` per checkpoint, and how a config file changes or adds one.

A preset holds what the model's own card recommends; where a figure is from is said beside it. Nothing here imports
torch: listing models and planning a run is quick, and works where the models cannot run.

    built-in preset  <-  preset.json beside the weights (the minis)  <-  [models.<name>] of the config file

A model that is not built in needs only the last, with at least `pipeline` and `repository`; `extends = "<name>"` starts
from another preset.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sdg_data.errors import ConfigError
from sdg_data.ids import canonical_json
from sdg_data.mini.weights import weights_folder

PRESET_FILE: Final = "preset.json"

Side = Annotated[int, Field(ge=16, le=16384)]


class MemoryOptions(BaseModel):
    """How a pipeline is fitted into a machine. Only what changes the picture is part of an image's identity.

    `offload`: keep on the GPU only the component that runs ("model") or only the layer that runs ("sequential").
    `text_encoder`: load the text encoders quantised (needs bitsandbytes or torchao).
    `compile`: run the denoiser through torch.compile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    offload: Literal["none", "model", "sequential"] = "none"
    vae_tiling: bool = False
    vae_slicing: bool = False
    compile: bool = False
    text_encoder: Literal["full", "bitsandbytes-4bit", "bitsandbytes-8bit", "torchao-int8"] = "full"


class Preset(BaseModel):
    """One model as it is run.

    `pipeline` is the name of a diffusers pipeline class; `repository` a hub id or a local folder; `revision` a commit
    of the repository, or empty for a local folder (its content is hashed). `guidance` and `steps` go to the call under
    the names that all pipelines share (`guidance_scale`, `num_inference_steps`), everything else under `call`; what a
    class keeps as an attribute of the pipeline (LongCat's `tokenizer_max_length`) under `attributes`.
    `embeds` names, in order, the arguments of the call that take what `encode_prompt` returns ("" for a value that the
    call computes anew); empty where a class cannot be given encoded prompts.
    `batch_size` is the number of rows that one call computes, always: see `generators.adapter`.
    `seconds_per_image` is somebody's published or measured figure for `figure_on`, used until the store knows better.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    pipeline: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    repository: Annotated[str, Field(min_length=1)]
    revision: str = ""
    licence: Annotated[str, Field(min_length=1)] = "unknown"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    variant: str | None = None
    width: Side = 1024
    height: Side = 1024
    steps: Annotated[int, Field(ge=1, le=1000)] = 50
    guidance: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    call: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    embeds: tuple[str, ...] = ()
    memory: MemoryOptions = MemoryOptions()
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 1
    seconds_per_image: Annotated[float, Field(gt=0)] | None = None
    figure_on: str = ""
    bytes_per_image: Annotated[int, Field(gt=0)] | None = None
    about: str = ""

    @field_validator("call")
    @classmethod
    def _leave_the_rest_to_the_stage(cls, call: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(call.keys() & _OURS)
        if taken:
            raise ValueError(f"{', '.join(taken)} cannot be set here: {_OURS[taken[0]]}")
        canonical_json(call)
        return call

    @property
    def folder(self) -> Path | None:
        """The local folder of the weights; None for a hub repository."""
        path = Path(self.repository).expanduser()
        return path if path.is_absolute() or self.repository.startswith((".", "~")) or path.is_dir() else None

    @property
    def pinned(self) -> bool:
        """Whether the revision names one state of the weights for ever: a full commit, or a folder's content."""
        return self.folder is not None or _is_commit(self.revision)

    @property
    def settings(self) -> str:
        """Canonical JSON of everything but model, revision, prompt and sample that shapes the pixels: part of the id.

        Left out is what changes at most the last bit of a pixel (offloading, compilation, batch size).
        """
        values: dict[str, Any] = {
            "pipeline": self.pipeline,
            "dtype": self.dtype,
            "width": self.width,
            "height": self.height,
            "steps": self.steps,
            "guidance": self.guidance,
            "call": self.call,
        }
        if self.attributes:
            values["attributes"] = self.attributes
        if self.folder is None:
            values["repository"] = self.repository
        if self.memory.vae_tiling:
            values["vae_tiling"] = True
        if self.memory.text_encoder != "full":
            values["text_encoder"] = self.memory.text_encoder
        return canonical_json(values)


_OURS: Final = {
    "prompt": "the prompts come from the store",
    "generator": "seeds are derived from the image ids",
    "latents": "seeds are derived from the image ids",
    "output_type": "the stage looks at floats before it stores pixels",
    "num_images_per_prompt": "use samples_per_prompt",
    "height": "set `height` of the preset",
    "width": "set `width` of the preset",
    "num_inference_steps": "set `steps` of the preset",
    "guidance_scale": "set `guidance` of the preset",
}

# The commits are those at which others have these repositories in their hub caches (public logs, lock files and
# provenance notes on GitHub name them in full); for SANA the hub's own file listing shows its first seven digits as the
# head of main. A config file can name another.
_REAL: Final = (
    Preset(
        name="flux2-dev",
        pipeline="Flux2Pipeline",
        repository="black-forest-labs/FLUX.2-dev",
        revision="26afe3a78bb242c0a8bb181dcc8937bb16e5c66c",
        licence="FLUX.2-dev Non-Commercial License",
        # Card: bfloat16, num_inference_steps=50 ("28 steps can be a good trade-off"), guidance_scale=4, 1024x1024 by
        # default of the class. Caption upsampling is left off, as in the card: the picture is judged by its own prompt.
        steps=50,
        guidance=4.0,
        call={"max_sequence_length": 512},
        embeds=("prompt_embeds", ""),
        # 32B transformer + 24B text encoder in bfloat16: more than any one GPU of today holds at once.
        memory=MemoryOptions(offload="model"),
        batch_size=1,
        about="32B, guidance-distilled; gated repository",
    ),
    Preset(
        name="z-image-turbo",
        pipeline="ZImagePipeline",
        repository="Tongyi-MAI/Z-Image-Turbo",
        revision="f332072aa78be7aecdf3ee76d5c247082da564a6",
        licence="Apache-2.0",
        # Card: bfloat16, 1024x1024, guidance_scale=0.0 ("guidance should be 0 for the Turbo models"), eight forwards.
        # The card's num_inference_steps=9 gave eight until diffusers 0.39; now 8 does (discussion 158 of the card, and
        # the example of the class).
        steps=8,
        guidance=0.0,
        call={"max_sequence_length": 512},
        batch_size=1,
        seconds_per_image=1.0,  # card: "sub-second inference latency on enterprise-grade H800 GPUs"
        figure_on="H800, the card's figure",
        about="6B, distilled to 8 steps",
    ),
    Preset(
        name="longcat-image",
        pipeline="LongCatImagePipeline",
        repository="meituan-longcat/LongCat-Image",
        revision="f0e4c43c5ef74b011ff71570fbfc2bdffbc9ab06",
        licence="Apache-2.0",
        # Card and the authors' scripts/inference_t2i.py: bfloat16, 50 steps, guidance 4.0, enable_cfg_renorm and
        # enable_prompt_rewrite on, model offload ("required ~17 GB"). 1024x1024 is the class's default, and SDG-30K's.
        steps=50,
        guidance=4.0,
        call={"enable_cfg_renorm": True, "cfg_renorm_min": 0.0, "enable_prompt_rewrite": True},
        memory=MemoryOptions(offload="model"),
        batch_size=1,
        about="6B, Chinese and English; its text encoder first rewrites the prompt",
    ),
    Preset(
        name="sana-1.5-1.6b",
        pipeline="SanaPipeline",
        repository="Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers",
        revision="caa51e5ea874be07d3a9c7c2d0fd800570b18440",
        licence="NSCL v2-custom (NVIDIA) and Gemma Terms of Use",
        # Card: bfloat16 for all parts, 1024x1024, guidance_scale=4.5, num_inference_steps=20. The other arguments are
        # the class's own (the instruction that enhances short prompts among them).
        steps=20,
        guidance=4.5,
        call={"max_sequence_length": 300, "use_resolution_binning": True, "clean_caption": False},
        embeds=(
            "prompt_embeds",
            "prompt_attention_mask",
            "negative_prompt_embeds",
            "negative_prompt_attention_mask",
        ),
        batch_size=4,
        seconds_per_image=1.2,  # README of NVlabs/Sana: latency at 1024x1024 in BF16
        figure_on="A100, the authors' figure",
        about="1.6B, linear attention, 32x autoencoder",
    ),
    Preset(
        name="flux1-dev",
        pipeline="FluxPipeline",
        repository="black-forest-labs/FLUX.1-dev",
        revision="3de623fc3c33e44ffbe2bad470d0f45bccf2eb21",
        licence="FLUX.1-dev Non-Commercial License",
        # Card: bfloat16, 1024x1024, guidance_scale=3.5, num_inference_steps=50, max_sequence_length=512, model offload.
        steps=50,
        guidance=3.5,
        call={"max_sequence_length": 512},
        embeds=("prompt_embeds", "pooled_prompt_embeds", ""),
        memory=MemoryOptions(offload="model"),
        batch_size=1,
        seconds_per_image=23.0,  # the same table of NVlabs/Sana
        figure_on="A100, NVlabs' figure",
        about="12B, guidance-distilled; gated repository",
    ),
)


def _mini(name: str, like: str, **values: Any) -> Preset:
    """A toy of the same class as a real preset; its recipe writes the numbers that suit it into preset.json."""
    real = next(preset for preset in _REAL if preset.name == like)
    return Preset(
        name=name,
        pipeline=real.pipeline,
        repository=str(weights_folder(name)),
        licence="Apache-2.0",
        dtype="float32",
        width=64,
        height=64,
        embeds=real.embeds,
        batch_size=8,
        about=f"toy of {like}, drawn scenes",
        **values,
    )


_MINIS: Final = (
    _mini("mini-flux2", "flux2-dev", steps=20, guidance=1.0),
    _mini("mini-zimage", "z-image-turbo", steps=8, guidance=0.0),
    _mini("mini-longcat", "longcat-image", steps=20, guidance=2.0, call={"enable_prompt_rewrite": False}),
    _mini(
        "mini-sana",
        "sana-1.5-1.6b",
        steps=20,
        guidance=2.0,
        call={"use_resolution_binning": False, "complex_human_instruction": None},
    ),
)

BUILT_IN: Final[dict[str, Preset]] = {preset.name: preset for preset in (*_REAL, *_MINIS)}


def load_presets(models: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Preset]:
    """All presets by name: the built-in ones, those changed by the config's `[models.<name>]`, and those it adds.

    Raises ConfigError naming the model and the key.
    """
    presets: dict[str, Preset] = {}
    raw = {name: preset.model_dump(exclude_unset=True) for name, preset in BUILT_IN.items()}
    for name in dict.fromkeys((*raw, *(models or {}))):
        presets[name] = _built(name, raw, models or {}, ())
    return presets


def choose(names: Iterable[str], presets: Mapping[str, Preset]) -> list[Preset]:
    """The presets of these names, in this order, each once. Raises ConfigError for an unknown name."""
    chosen: dict[str, Preset] = {}
    for name in names:
        if name not in presets:
            raise ConfigError("there is no such model", item=name, hint=_known(name, presets))
        chosen[name] = presets[name]
    return list(chosen.values())


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


def _is_commit(revision: str) -> bool:
    return len(revision) == 40 and all(digit in "0123456789abcdef" for digit in revision)
