"""The contract between the generate stage and a text-to-image pipeline: prompts and seeds in, float images out.

An image must not depend on the batch it was computed in, only on its prompt, its seed and its preset: a resumed run
forms different batches and must give the same bytes. Three rules make it so:

- the noise of an image comes from its own generator, seeded with its own seed, on the CPU;
- a prompt is encoded once for all of its images, and no other prompt pads it;
- a call, of the text encoder too, always computes `batch_size` rows of one shape: a short batch is filled up by
  repeating its last row. The same matrix product is rounded differently at another batch size (a pixel in ten thousand
  ends one level off), but at one size a row's result depends neither on its place nor on its neighbours. Prompts whose
  lengths give other shapes are computed in calls of their own (`shape_keys`).

So another batch size gives the same picture, but perhaps not the same bytes; a resumed run keeps its batch size.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from generators.memory import arrange, release
from generators.models.presets import Preset
from sdg_data.errors import ConfigError

Pixels = npt.NDArray[np.float32]
"""(height, width, 3), in 0..1, NaN where the model gave NaN."""

# Arguments of `encode_prompt` that its caller works out, and those that would hand it what it is to compute.
_WORKED_OUT: Final = {"self", "prompt", "device", "do_classifier_free_guidance", "num_images_per_prompt"}


class Remembered:
    """A cache around a function of texts, which keeps the results of the last `size` texts.

    `compute` takes a list of texts and returns a result for each. It always gets exactly `rows()` texts: a short list
    is filled up by repeating its last text.
    """

    def __init__(self, compute: Callable[[list[str]], Sequence[Any]], *, rows: Callable[[], int], size: int) -> None:
        self._compute, self._rows, self._size = compute, rows, size
        self._known: OrderedDict[str, Any] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> list[Any]:
        """The results for these texts, in order."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        rows = self._rows()
        for start in range(0, len(new), rows):
            chunk = new[start : start + rows]
            filled = chunk + [chunk[-1]] * (rows - len(chunk))
            self._known.update(zip(chunk, self._compute(filled), strict=False))
        results = [self._known[text] for text in texts]
        for text in texts:
            self._known.move_to_end(text)
        while len(self._known) > max(self._size, len(texts)):
            self._known.popitem(last=False)
        return results

    def keep(self, size: int) -> None:
        """Keep the results of at least so many texts from now on."""
        self._size = max(self._size, size)

    def clear(self) -> None:
        """Forget all results, so that they are computed anew when they are asked for."""
        self._known.clear()


class Adapter:
    """A loaded pipeline, run as its preset says.

    This class fits any diffusers pipeline whose call takes prompts, steps and a list of generators; a class that needs
    more has a subclass in its model's file. Where the call takes encoded prompts, the preset's `embeds` names those
    arguments (in the order in which `encode_prompt` returns them), and a prompt is encoded alone and once. Otherwise
    the pipeline encodes the prompts of a batch together; if it pads them to the longest, an image depends on its
    neighbours in the last bit. `batch_size` may be lowered between calls (the stage halves it when memory runs out).
    """

    encode_together = False
    """Whether the class pads every prompt to one length, so that prompts may be encoded in one call."""

    def __init__(self, preset: Preset, pipeline: Any, *, device: str = "cpu", batch_size: int | None = None) -> None:
        """Take over a loaded pipeline: put it on the device, arrange its memory, check the preset's arguments.

        Raises:
            ConfigError: The pipeline's call does not take an argument of the preset, or lacks an attribute of it.
        """
        self.preset = preset
        self.pipeline = pipeline
        self.batch_size = batch_size or preset.batch_size
        self._check_arguments()
        for name, value in preset.attributes.items():
            if not hasattr(pipeline, name):
                raise ConfigError(f"{type(pipeline).__name__} has no attribute {name}", item=f"models.{preset.name}")
            setattr(pipeline, name, value)
        pipeline.set_progress_bar_config(disable=True)
        self._turns = arrange(pipeline, preset.memory, device, in_turns=self.encodes_ahead)
        # The samples of one prompt come one after another: a few batches' worth is all that is asked for again.
        self.encoded = Remembered(
            self.encode, rows=lambda: self.batch_size if self.encode_together else 1, size=2 * self.batch_size + 6
        )

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Pixels]:
        """One image per prompt and seed, in order; at most `batch_size` at once.

        Raises:
            ValueError: Prompts and seeds differ in number, or are more than a batch. Beside that, whatever the pipeline
                raises; `generators.memory.is_out_of_memory` recognises a shortage of memory.
        """
        import torch

        if len(prompts) != len(seeds) or len(prompts) > self.batch_size:
            raise ValueError(f"{len(prompts)} prompts and {len(seeds)} seeds for a batch of {self.batch_size}")
        groups: dict[Hashable, list[int]] = {}
        with torch.no_grad():
            for index, key in enumerate(self.shape_keys(prompts)):
                groups.setdefault(key, []).append(index)
            if self._turns is not None:
                self.encoded(prompts)
                self._turns.draw()
            images: dict[int, Pixels] = {}
            for indices in groups.values():
                rows = indices + [indices[-1]] * (self.batch_size - len(indices))
                computed = self._call([prompts[row] for row in rows], [seeds[row] for row in rows])
                images.update(zip(indices, computed, strict=False))
        return [images[index] for index in range(len(prompts))]

    @property
    def encodes_ahead(self) -> bool:
        """Whether the call takes encoded prompts, so that they can be encoded before any image is made."""
        return bool(self.preset.embeds)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Take up a window of prompts whose images are made next.

        Where the text encoders and the transformer take turns on the device, all of them are encoded now, in the same
        calls as one by one, and kept on the CPU. Elsewhere nothing happens: a prompt is encoded when its image is made.
        """
        import torch

        if self._turns is None:
            return
        self.encoded.keep(len(set(prompts)))
        with torch.no_grad():
            self.encoded(list(dict.fromkeys(prompts)))

    def drawn_from(self, prompts: Sequence[str]) -> list[str | None]:
        """What the model drew from instead of each prompt, where it rewrites prompts; asked after the images."""
        return [None] * len(prompts)

    def shape_keys(self, prompts: Sequence[str]) -> list[Hashable]:
        """A key for each prompt. Prompts with equal keys give arrays of one shape and may share a call."""
        return [None] * len(prompts)

    def conditioning(self, prompts: Sequence[str]) -> dict[str, Any]:
        """The arguments of the call that state the prompts: encoded, or as text where a class needs that."""
        import torch

        names = self.preset.embeds
        if not names:
            return {"prompt": list(prompts)}
        columns = zip(*self.encoded(prompts), strict=True)
        place = self.pipeline._execution_device
        arguments = {
            name: torch.cat(column).to(place)
            for name, column in zip(names, columns, strict=True)
            if name and column[0] is not None
        }
        if any(name.startswith("negative_") for name in arguments):
            # Already part of the embeddings, and classes refuse both.
            arguments["negative_prompt"] = None
        return arguments

    def encode(self, prompts: list[str]) -> Sequence[Any]:
        """What `encode_prompt` returns, one row for each prompt; `encoded` caches it for the prompts' other samples."""
        if self._turns is not None:
            self._turns.encode()
        returned = self.pipeline.encode_prompt(prompt=list(prompts), **self.encode_arguments())
        if self._turns is not None:
            returned = [value if value is None else value.cpu() for value in returned]
        # What the call computes anew is not kept: position ids, say, need not even have a row for each prompt.
        wanted = zip(self.preset.embeds, returned, strict=True)
        columns = [[None] * len(prompts) if not name or v is None else v.split(1) for name, v in wanted]
        return list(zip(*columns, strict=True))

    def encode_arguments(self) -> dict[str, Any]:
        """The arguments that `encode_prompt` shares with the call: the preset's, or the call's own defaults."""
        taken = inspect.signature(self.pipeline.encode_prompt).parameters
        shared = {
            name: self.preset.call.get(name, parameter.default)
            for name, parameter in self._call_parameters().items()
            if name in taken and name not in _WORKED_OUT
        }
        worked_out = {
            "device": self.pipeline._execution_device,
            "do_classifier_free_guidance": self.guided,
            "num_images_per_prompt": 1,
        }
        return shared | {name: value for name, value in worked_out.items() if name in taken}

    @property
    def guided(self) -> bool:
        """Whether the call computes an unconditional prediction as well (classifier-free guidance)."""
        return self.preset.guidance is not None and self.preset.guidance > 1

    def close(self) -> None:
        """Free the memory of the pipeline and of the encoded prompts; the adapter cannot be used afterwards."""
        self.encoded.clear()
        self._turns = None
        self.pipeline = None
        release()

    def recover(self) -> None:
        """After a call that ran out of memory: let go of what it left behind."""
        if self._turns is None:  # else they are on the CPU
            self.encoded.clear()
        if self.pipeline is not None:
            self.pipeline.maybe_free_model_hooks()
        release()

    def _call(self, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Pixels]:
        import torch

        preset = self.preset
        arguments: dict[str, Any] = {
            **preset.call,
            **self.conditioning(prompts),
            "height": preset.height,
            "width": preset.width,
            "num_inference_steps": preset.steps,
            "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            "output_type": "np",
        }
        if preset.guidance is not None:
            arguments["guidance_scale"] = preset.guidance
        images: Sequence[Pixels] = self.pipeline(**arguments).images
        return images

    def _check_arguments(self) -> None:
        known = self._call_parameters()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
            return
        ours = {"height", "width", "num_inference_steps", "generator", "output_type", *filter(None, self.preset.embeds)}
        if self.preset.guidance is not None:
            ours.add("guidance_scale")
        unknown = sorted((self.preset.call.keys() | ours) - known.keys())
        if unknown:
            raise ConfigError(
                f"{type(self.pipeline).__name__} does not take {', '.join(unknown)}",
                item=f"models.{self.preset.name}",
                hint=f"It takes {', '.join(sorted(known))}.",
            )

    def _call_parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.pipeline.__call__).parameters
