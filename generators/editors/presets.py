"""The editors by name: which class, which checkpoint, and the arguments of its call with the place they come from.

`editor_presets` lays `[editors.NAME]` of a config file over the built-in ones, as `[models.NAME]` is laid over models.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError
from typing_extensions import override

from generators.models.presets import MemoryOptions, Preset
from sdg_data.errors import ConfigError
from sdg_data.ids import canonical_json
from sdg_data.mini.weights import weights_folder

DEFAULT_EDITOR: Final = "flux2-klein-inpaint"


class EditorPreset(Preset):
    """One editor as it is run; the fields of `Preset`, and how it takes what is to be edited.

    `kind`: "inpaint" gets the mask, "reference" the image and references as a list, "toy-inpaint" is an inpainting
    class around a text-to-image toy, "hosted" an OpenAI-compatible server (`repository` is its name for the model).
    `strengths`: of a defect's candidates in turn, where one strength does not suit every defect: a weak edit keeps
    what is there and mends its shape, a strong one paints something else. `cell`: pixels of one latent cell, to
    which masks are dilated. `multiple`: the sides that the class computes with are multiples of it. `max_pixels`,
    `least_side`: larger images are edited smaller, smaller ones larger. `images`: the most pictures in one call.
    `sized`: the call takes `height` and `width`. `guidance_name`: under which name `guidance` goes to the call.
    `instruction`: the template of its instructions where the arm's own does not suit it: models that were trained
    to paint what a caption says do not follow instructions.
    """

    kind: Literal["inpaint", "reference", "toy-inpaint", "hosted"] = "inpaint"
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    strengths: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    cell: Annotated[int, Field(ge=1, le=64)] = 16
    multiple: Annotated[int, Field(ge=1, le=128)] = 16
    max_pixels: Annotated[int, Field(ge=256)] = 1024 * 1024
    least_side: Annotated[int, Field(ge=1, le=1024)] = 1
    images: Annotated[int, Field(ge=1, le=16)] = 1
    sized: bool = True
    guidance_name: Literal["guidance_scale", "true_cfg_scale"] = "guidance_scale"
    instruction: str = ""
    base_url: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    deadline: Annotated[float, Field(gt=0)] = 300.0

    @property
    def masked(self) -> bool:
        """Whether it takes a mask."""
        return self.kind in ("inpaint", "toy-inpaint")

    @property
    @override
    def settings(self) -> str:
        """Canonical JSON of what shapes an edit apart from model, revision, image, mask, instruction and seed."""
        values: dict[str, Any] = {
            "pipeline": self.pipeline,
            "kind": self.kind,
            "dtype": self.dtype,
            "steps": self.steps,
            "guidance": self.guidance,
            "strength": list(self.strengths) or self.strength,
            "multiple": self.multiple,
            "max_pixels": self.max_pixels,
            "least_side": self.least_side,
            "images": self.images,
            "call": self.call,
        }
        if self.folder is None:
            values["repository"] = self.repository
        if self.memory.vae_tiling:
            values["vae_tiling"] = True
        if self.memory.text_encoder != "full":
            values["text_encoder"] = self.memory.text_encoder
        return canonical_json(values)


_CAPTION: Final = "caption-1"
_AUTO: Final = MemoryOptions(offload="auto")

PRESETS: Final[tuple[EditorPreset, ...]] = (
    EditorPreset(
        name=DEFAULT_EDITOR,
        pipeline="Flux2KleinInpaintPipeline",
        repository="black-forest-labs/FLUX.2-klein-4B",
        licence="Apache-2.0",
        # Card: 4 steps, guidance 1 (distilled, so the class ignores it). Strength 1: a defect is not to shine through.
        steps=4,
        guidance=1.0,
        strength=1.0,
        call={"max_sequence_length": 512},
        memory=_AUTO,
        about="4B, 4 steps; follows instructions inside a mask",
    ),
    EditorPreset(
        name="flux-fill",
        pipeline="FluxFillPipeline",
        repository="black-forest-labs/FLUX.1-Fill-dev",
        licence="FLUX.1-dev Non-Commercial License",
        # Card and defaults of the class: 50 steps, guidance 30.
        steps=50,
        guidance=30.0,
        strength=1.0,
        call={"max_sequence_length": 512},
        instruction=_CAPTION,
        memory=_AUTO,
        about="12B, trained for masks; paints what the caption says",
    ),
    EditorPreset(
        name="qwen-image-edit-inpaint",
        pipeline="QwenImageEditInpaintPipeline",
        repository="Qwen/Qwen-Image-Edit",
        licence="Apache-2.0",
        # Card: 50 steps, true_cfg_scale 4, negative prompt " ". The class's own strength is 0.6.
        steps=50,
        guidance=4.0,
        guidance_name="true_cfg_scale",
        strength=1.0,
        call={"negative_prompt": " "},
        memory=_AUTO,
        about="20B; follows instructions inside a mask",
    ),
    EditorPreset(
        name="z-image-inpaint",
        pipeline="ZImageInpaintPipeline",
        repository="Tongyi-MAI/Z-Image-Turbo",
        licence="Apache-2.0",
        # Card of Z-Image-Turbo: 9 steps (8 evaluations), guidance 0.
        steps=9,
        guidance=0.0,
        strength=1.0,
        instruction=_CAPTION,
        memory=_AUTO,
        about="6B, 9 steps; paints what the caption says",
    ),
    EditorPreset(
        name="sdxl-inpaint",
        pipeline="StableDiffusionXLInpaintPipeline",
        repository="diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
        licence="OpenRAIL++-M",
        dtype="float16",
        variant="fp16",
        # Card: guidance 8, 20 steps ("15 to 30 work well"), strength below 1 (0.9999 is the class's own).
        steps=20,
        guidance=8.0,
        strength=0.9999,
        cell=8,
        multiple=8,
        instruction=_CAPTION,
        about="3.5B; paints what the caption says",
    ),
    EditorPreset(
        name="qwen-image-edit",
        kind="reference",
        pipeline="QwenImageEditPlusPipeline",
        repository="Qwen/Qwen-Image-Edit-2511",
        licence="Apache-2.0",
        # Card: 40 steps, true_cfg_scale 4, guidance_scale 1, negative prompt " ", up to three images.
        steps=40,
        guidance=4.0,
        guidance_name="true_cfg_scale",
        call={"negative_prompt": " "},
        images=3,
        memory=_AUTO,
        about="20B; the whole image, up to three pictures",
    ),
    EditorPreset(
        name="flux-kontext",
        kind="reference",
        pipeline="FluxKontextPipeline",
        repository="black-forest-labs/FLUX.1-Kontext-dev",
        licence="FLUX.1-dev Non-Commercial License",
        # Card: guidance 2.5; the class: 28 steps, and sides of about one megapixel of the given proportions.
        steps=28,
        guidance=2.5,
        memory=_AUTO,
        about="12B; the whole image",
    ),
    EditorPreset(
        name="longcat-image-edit",
        kind="reference",
        pipeline="LongCatImageEditPipeline",
        repository="meituan-longcat/LongCat-Image-Edit",
        licence="Apache-2.0",
        # Card and class: 50 steps, guidance 4.5, an empty negative prompt; computes at about one megapixel.
        steps=50,
        guidance=4.5,
        call={"negative_prompt": ""},
        sized=False,
        memory=_AUTO,
        about="6B; the whole image",
    ),
    EditorPreset(
        name="flux2-edit",
        kind="reference",
        pipeline="Flux2Pipeline",
        repository="black-forest-labs/FLUX.2-dev",
        revision="26afe3a78bb242c0a8bb181dcc8937bb16e5c66c",
        revision_seen="the same as of the model flux2-dev",
        licence="FLUX.2-dev Non-Commercial License",
        # Card: 50 steps, guidance 4, several images; the class refuses sides under 64.
        least_side=64,
        steps=50,
        guidance=4.0,
        call={"max_sequence_length": 512},
        images=4,
        memory=_AUTO,
        about="32B; the whole image, several pictures",
    ),
    EditorPreset(
        name="hosted",
        kind="hosted",
        pipeline="OpenAIImages",
        repository="gpt-image-1.5",
        licence="unknown",
        # The paper's: one image for each request, quality "high".
        call={"quality": "high"},
        cell=1,
        multiple=1,
        images=4,
        about="an OpenAI-compatible server: POST /images/edits",
    ),
    EditorPreset(
        name="mini-inpaint",
        kind="toy-inpaint",
        pipeline="Flux2KleinInpaintPipeline",
        repository=str(weights_folder("mini-flux2")),
        licence="Apache-2.0",
        dtype="float32",
        steps=20,
        guidance=2.0,
        # A broken outline mends at 0.75, an object of another kind goes at 1 (seen on twelve images, by the oracle).
        strengths=(1.0, 0.75),
        call={"max_sequence_length": 26, "text_encoder_out_layers": [1, 2, 3]},
        cell=8,
        multiple=8,
        instruction=_CAPTION,
        about="the toy of FLUX.2 in the real inpainting class",
    ),
)
"""The built-in editors. A preset without a revision is filed under the commit that the hub's cache or the hub names."""


def editor_presets(editors: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, EditorPreset]:
    """All editors by name: the built-in ones, those changed by the config's `[editors.NAME]`, and those it adds.

    Args:
        editors: The tables; `extends` names the built-in editor that a new one starts from.

    Returns:
        Name -> preset.

    Raises:
        ConfigError: A table makes no editor; the message names it and the key.
    """
    known = {preset.name: preset for preset in PRESETS}
    for name, table in (editors or {}).items():
        over = dict(table)
        parent = over.pop("extends", name if name in known else None)
        if parent is not None and parent not in known:
            raise ConfigError(f"extends {parent!r}, which is no other known editor", item=f"editors.{name}")
        values = known[parent].model_dump(exclude_unset=True) if parent is not None else {}
        for key, value in over.items():
            below = values.get(key)
            values[key] = {**below, **value} if isinstance(below, dict) and isinstance(value, Mapping) else value
        if "repository" in over and "revision" not in over:
            values.pop("revision", None)
        try:
            known[name] = EditorPreset(**{**values, "name": name})
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ConfigError(
                problems, item=f"editors.{name}", hint="An editor of your own needs `pipeline` and `repository`."
            ) from error
    return known


def choose_editor(name: str, presets: Mapping[str, EditorPreset]) -> EditorPreset:
    """The editor of a name.

    Raises:
        ConfigError: There is none; the hint has those that there are.
    """
    if name not in presets:
        close = difflib.get_close_matches(name.lower(), presets, n=1, cutoff=0.5)
        guess = f"Did you mean {close[0]}? " if close else ""
        raise ConfigError("there is no such editor", item=name, hint=f"{guess}Known: {', '.join(presets)}.")
    return presets[name]
