"""The published models at their real sizes with random weights, born on the device; or the tests' tiny ones."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sdg_data.preflight.sizes import FOLDER
from tests.annotate import tiny_vlm
from tests.generators import tiny
from trainers.common.measure import build


class Sizes:
    """Which models are made: the real ones on a GPU, tiny ones where there is none."""

    def __init__(self, *, small: bool) -> None:
        self.small = small
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype = torch.float32 if small else torch.bfloat16

    def parts(self, name: str) -> dict[str, Any]:
        """The components of a published model, by its file."""
        values = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        parts: dict[str, Any] = values["components"]
        return parts

    def pipeline(self, name: str, kind: str) -> Any:
        """A pipeline of a class of diffusers: tokenizers and schedulers are the tests', weights are random."""
        pipeline = tiny.BUILDERS[kind]()
        if self.small:
            return pipeline
        with born(self.device, self.dtype):
            real = {part: fill(build(values, device=self.device)) for part, values in self.parts(name).items()}
        return type(pipeline)(**{**pipeline.components, **real})

    def part(self, name: str, part: str, kind: str) -> Any:
        """One component of a pipeline alone."""
        if self.small:
            return tiny.BUILDERS[kind]().components[part].to(self.device)
        with born(self.device, self.dtype):
            return fill(build(self.parts(name)[part], device=self.device))

    def detector(self, folder: Path, dtype: torch.dtype | None = None) -> tuple[Any, Any]:
        """(Qwen3-VL-4B, its processor), as the detector loads them; the tokenizer is the tests'."""
        import transformers

        from annotate.vlm.qwen.attention import batch_equal_images
        from annotate.vlm.qwen.load import load_model, load_processor

        saved = str(tiny_vlm.save_qwen3(folder))
        processor = load_processor(saved, "qwen3_vl")
        processor.tokenizer.padding_side = "left"
        if self.small:
            return load_model(saved, "float32").to(self.device), processor
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        ids = {name: value for name, value in config.items() if name.endswith("token_id")}
        values = self.parts("qwen3-vl-4b")["model"]["config"]
        with born(self.device, dtype or self.dtype):
            model = fill(transformers.Qwen3VLForConditionalGeneration(transformers.Qwen3VLConfig(**{**values, **ids})))
        model.tie_weights()
        model.generation_config.eos_token_id = [processor.tokenizer.eos_token_id]
        processor.image_processor.size = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
        return batch_equal_images(model), processor


@contextlib.contextmanager
def born(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Modules made inside have that dtype and skip their classes' own slow initialisation."""
    from transformers.initialization import no_init_weights

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device), no_init_weights():
            yield
    finally:
        torch.set_default_dtype(before)


@torch.no_grad()
def fill(module: Any) -> Any:
    """Random weights of a size that keeps activations finite; norms start at one."""
    for name, weights in module.named_parameters():
        if weights.dim() > 1 or "norm" not in name:
            weights.normal_(std=0.4 / max(1.0, weights.shape[-1] ** 0.5))
        else:
            weights.fill_(1.0 if name.endswith("weight") else 0.0)
    return module.eval()


def gib(module: Any) -> float:
    """GiB of the weights of a module or pipeline."""
    parts = [module] if isinstance(module, torch.nn.Module) else module.components.values()
    numbers = (
        weights.numel() * weights.element_size()
        for part in parts
        if isinstance(part, torch.nn.Module)
        for weights in part.parameters()
    )
    return round(sum(numbers) / 2**30, 2)
