"""Editors that run here: inpainting and whole-image pipelines of diffusers.

Sides are brought to multiples of what the class computes with, and its picture back to the image's size: classes that
choose a size of their own (FLUX.1-Kontext, LongCat) are brought back likewise. One image is one call, so an edit does
not depend on what else is edited.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from PIL import Image

from generators.editors.contract import EditedImage, EditError, EditRequest, Pixels
from generators.editors.presets import EditorPreset
from generators.memory import arrange, is_out_of_memory, pick_device, release
from generators.models.loading import load_pipeline
from sdg_data.chat_marks import without_marks
from sdg_data.errors import GenerationError

_EXPECTED: Final = (RuntimeError, MemoryError, ValueError, TypeError, LookupError, AssertionError, AttributeError)
_MISFITS_TO_GIVE_UP: Final = 3


class PipelineEditor:
    """An editor that is a loaded pipeline of diffusers."""

    def __init__(self, preset: EditorPreset, pipeline: Any, *, device: str = "cpu") -> None:
        """Put a pipeline onto its device.

        Args:
            preset: How it is called.
            pipeline: Loaded, on the CPU.
            device: torch's name.
        """
        self.preset, self.pipeline = preset, pipeline
        arrange(pipeline, preset.memory, device)
        pipeline.set_progress_bar_config(disable=True)
        self._worked, self._misfits = False, 0

    def edit(self, request: EditRequest) -> EditedImage:
        """Edit one image.

        Args:
            request: The image, its mask, the instruction, references and the seed.

        Returns:
            The edit at the size of the image.

        Raises:
            EditError: The pipeline raised, ran out of memory, or gave values that are no picture.
            GenerationError: It raised for the first three images: the pipeline itself is at fault.
        """
        try:
            raw = self._call(request)
        except _EXPECTED as error:
            memory = is_out_of_memory(error)
            release()
            self._misfits += 1
            if self._misfits >= _MISFITS_TO_GIVE_UP and not self._worked:
                raise GenerationError(
                    f"the editor cannot run as its preset says ({type(error).__name__}: {error})",
                    item=self.preset.name,
                ) from error
            code = "out-of-memory" if memory else "editor-error"
            raise EditError(code, f"{type(error).__name__}: {error}") from error
        self._worked = True
        if not np.isfinite(raw).all():
            raise EditError("nan-image", "some values of the edit are not finite numbers")
        pixels = np.round(np.clip(raw, 0, 1) * 255).astype(np.uint8)
        height, width = request.image.shape[:2]
        returned = (pixels.shape[1], pixels.shape[0])
        return EditedImage(resized(pixels, (width, height)), returned)

    def close(self) -> None:
        """Free the memory of the pipeline; the editor cannot be used afterwards."""
        self.pipeline = None
        release()

    def arguments(self, request: EditRequest) -> dict[str, Any]:
        """The arguments of the call that edits `request`, but for the prompt."""
        import torch

        preset = self.preset
        height, width = request.image.shape[:2]
        size = working_size((width, height), preset.multiple, preset.max_pixels, preset.least_side)
        image = Image.fromarray(resized(request.image, size))
        arguments: dict[str, Any] = {
            **preset.call,
            "num_inference_steps": preset.steps,
            "generator": torch.Generator("cpu").manual_seed(request.seed),
            "output_type": "pil" if preset.call.get("padding_mask_crop") is not None else "np",
        }
        if preset.guidance is not None:
            arguments[preset.guidance_name] = preset.guidance
        strength = preset.strength if request.strength is None else request.strength
        if strength is not None:
            arguments["strength"] = strength
        if preset.sized:
            arguments |= {"width": size[0], "height": size[1]}
        if preset.kind == "reference":
            pictures = [image, *(Image.fromarray(resized(picture, size)) for picture in request.references)]
            pictures = pictures[: preset.images]
            arguments["image"] = pictures if preset.images > 1 else image
        else:
            # Whatever the mask lets through at all is the editor's to paint; where it fades is the composite's affair.
            region = Image.fromarray(np.where(request.mask > 0, 255, 0).astype(np.uint8))
            arguments |= {"image": image, "mask_image": region.resize(size, Image.Resampling.NEAREST)}
        return arguments

    def _call(self, request: EditRequest) -> Any:
        returned = self.pipeline(**self.prompt(without_marks(request.instruction)), **self.arguments(request)).images[0]
        if isinstance(returned, Image.Image):
            return np.asarray(returned.convert("RGB"), np.float32) / 255
        return np.asarray(returned, np.float32)

    def prompt(self, instruction: str) -> dict[str, Any]:
        """The instruction as arguments of the call."""
        return {"prompt": instruction}


class ToyInpaintEditor(PipelineEditor):
    """The toy of FLUX.2 in `Flux2KleinInpaintPipeline`: its own text encoder, its guidance, no reference picture.

    The class was written for weights that were trained with the picture beside the noise and without a guidance input.
    The toy knows neither, so its transformer gets the noise's own positions only, and its guidance.
    """

    def __init__(self, preset: EditorPreset, pipeline: Any, *, device: str = "cpu") -> None:
        """Make the inpainting pipeline of a text-to-image pipeline's parts."""
        import diffusers

        parts = {name: pipeline.components[name] for name in ("scheduler", "vae", "text_encoder", "tokenizer")}
        self._text = pipeline
        inpaint = diffusers.Flux2KleinInpaintPipeline(**parts, transformer=pipeline.transformer, is_distilled=True)
        super().__init__(preset, inpaint, device=device)
        pipeline.transformer.register_forward_pre_hook(self._as_trained, with_kwargs=True)

    def prompt(self, instruction: str) -> dict[str, Any]:
        """The instruction as the toy's own encoder reads it."""
        call = self.preset.call
        embeds, _ = self._text.encode_prompt(
            [instruction],
            max_sequence_length=call["max_sequence_length"],
            text_encoder_out_layers=tuple(call["text_encoder_out_layers"]),
        )
        return {"prompt_embeds": embeds}

    def arguments(self, request: EditRequest) -> dict[str, Any]:
        """The arguments of the call; guidance goes to the transformer instead."""
        return {**super().arguments(request), "guidance_scale": 1.0}

    def _as_trained(self, _: Any, args: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        states, places = named["hidden_states"], named["img_ids"]
        own = states.shape[1] // 2
        guidance = states.new_full((len(states),), self.preset.guidance or 1.0)
        return args, {**named, "hidden_states": states[:, :own], "img_ids": places[:, :own], "guidance": guidance}


def load_editor(preset: EditorPreset, revision: str, *, device: str = "auto") -> PipelineEditor:
    """Load an editor that runs here, downloading its weights where they are not there yet.

    Args:
        preset: Which, and how it is called.
        revision: The commit or branch of its repository.
        device: As `pick_device` takes it; what loading raises comes through.

    Returns:
        The editor.
    """
    place = pick_device(device)
    if preset.kind == "toy-inpaint":
        text_to_image = preset.model_copy(update={"pipeline": "Flux2Pipeline"})
        return ToyInpaintEditor(preset, load_pipeline(text_to_image, revision), device=place)
    return PipelineEditor(preset, load_pipeline(preset, revision), device=place)


def working_size(size: tuple[int, int], multiple: int, max_pixels: int, least: int = 1) -> tuple[int, int]:
    """The (width, height) at which an image of `size` is edited: sides that the model takes, within its limits.

    Args:
        size: (width, height).
        multiple: Both sides are multiples of it.
        max_pixels: A larger image is edited smaller.
        least: An image with a shorter side is edited larger.
    """
    scale = max(min(1.0, math.sqrt(max_pixels / (size[0] * size[1]))), least / min(size))
    rounded = [max(multiple, round(side * scale / multiple) * multiple) for side in size]
    while rounded[0] * rounded[1] > max_pixels and max(rounded) > multiple:
        rounded[rounded.index(max(rounded))] -= multiple
    return rounded[0], rounded[1]


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Pixels at (width, height) `size`; the same array where they have it."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
