"""`Preset`: how one checkpoint is run, with the recommendation of the model's own card.

The built-in ones stand in their models' files, each number with the place where it was found and each commit with the
place where it was seen; `registry` lays a config file over them, which can name another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sdg_data.ids import canonical_json
from sdg_data.mini.weights import weights_folder

PRESET_FILE: Final = "preset.json"

Side = Annotated[int, Field(ge=16, le=16384)]


class MemoryOptions(BaseModel):
    """How a pipeline is fitted into a machine. Only what changes the picture is part of an image's identity.

    `offload`: keep on the GPU only the component that runs ("model") or only the layer that runs ("sequential");
    "auto": the first of none, model and sequential that its memory allows, with 6 GiB to spare.
    `text_encoder`: load the text encoders quantised (needs bitsandbytes or torchao).
    `compile`: run the denoiser through torch.compile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    offload: Literal["none", "auto", "model", "sequential"] = "none"
    vae_tiling: bool = False
    vae_slicing: bool = False
    compile: bool = False
    text_encoder: Literal["full", "bitsandbytes-4bit", "bitsandbytes-8bit", "torchao-int8"] = "full"


class Preset(BaseModel):
    """One model as it is run.

    `pipeline` is the name of a diffusers pipeline class; `repository` a hub id or a local folder; `revision` a commit
    of the repository, or empty for a local folder (its content is hashed), and `revision_seen` says where a built-in
    one was seen. `guidance` and `steps` go to the call under the names that all pipelines share (`guidance_scale`,
    `num_inference_steps`), everything else under `call`; what a class keeps as an attribute of the pipeline (LongCat's
    `tokenizer_max_length`) under `attributes`.
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
    revision_seen: str = ""
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


def mini_preset(name: str, real: Preset, **values: Any) -> Preset:
    """A toy of the same class as a real preset; its recipe writes the numbers that suit it into preset.json."""
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
        about=f"toy of {real.name}, drawn scenes",
        **values,
    )


def _is_commit(revision: str) -> bool:
    return len(revision) == 40 and all(digit in "0123456789abcdef" for digit in revision)
