"""Sampling by a Flow's own noise, levels, guidance and decoding gives the pipeline's own images, square or not."""

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from generators.models.flow import Flow, pack, unpack
from generators.models.presets import Preset
from generators.models.registry import built_in_presets, flow_of, image_models
from tests.generators.tiny import BUILDERS
from tests.generators.tiny_sd3 import sd3

PROMPTS = ["a red circle at the left", "a green star at the top"]
STEPS = 3
CALLS: dict[str, dict[str, Any]] = {
    "FluxPipeline": {"guidance_scale": 3.5, "max_sequence_length": 32},
    "StableDiffusion3Pipeline": {"guidance_scale": 3.0, "max_sequence_length": 77},
    "Flux2Pipeline": {"guidance_scale": 2.5, "max_sequence_length": 64},
    "LongCatImagePipeline": {"guidance_scale": 2.0, "enable_prompt_rewrite": False},
    "ZImagePipeline": {"guidance_scale": 1.5, "max_sequence_length": 64},
    "SanaPipeline": {"guidance_scale": 1.0, "max_sequence_length": 32, "use_resolution_binning": False},
}


@cache
def pipeline_of(name: str) -> Any:
    return sd3() if name == "StableDiffusion3Pipeline" else BUILDERS[name]()


def preset_of(name: str) -> Preset:
    call = {key: value for key, value in CALLS[name].items() if key not in ("guidance_scale",)}
    return Preset(name="tiny", pipeline=name, repository="tiny", call=call)


@torch.no_grad()
def sampled(flow: Flow, height: int, width: int, scale: float) -> torch.Tensor:
    flow.grid = flow.locations(height, width)
    x = flow.noise([torch.Generator().manual_seed(seed) for seed in range(len(PROMPTS))], height, width)
    levels = flow.levels(STEPS, height, width)
    assert len(levels) == STEPS + 1
    assert levels[-1] == 0
    text, empty = flow.encode(PROMPTS), flow.encode([""] * len(PROMPTS))
    for now, after in itertools.pairwise(levels):
        sigma = torch.full((len(PROMPTS),), now)
        v = flow.velocity(x, sigma, text, torch.full((len(PROMPTS),), scale))
        if flow.guided(scale):
            v = flow.guide(v, flow.velocity(x, sigma, empty), scale)
        x = x + v * (after - now)
    return flow.decode(x, height, width)


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
@pytest.mark.parametrize("name", [name for name in CALLS if name != "SanaPipeline"])
def test_the_pipeline_s_own_images(name: str, size: tuple[int, int]) -> None:
    pipeline = pipeline_of(name)
    flow = flow_of(preset_of(name), pipeline)
    expected = pipeline(
        prompt=list(PROMPTS),
        height=size[0],
        width=size[1],
        num_inference_steps=STEPS,
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(PROMPTS))],
        output_type="np",
        **CALLS[name],
        **({"negative_prompt": [""] * len(PROMPTS)} if name == "LongCatImagePipeline" else {}),
    ).images
    images = sampled(flow, *size, CALLS[name]["guidance_scale"])
    assert images.shape == (2, 3, *size)
    np.testing.assert_allclose(images.permute(0, 2, 3, 1), expected, atol=2e-4)


def test_sana_starts_and_steps_as_its_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = pipeline_of("SanaPipeline")
    flow = flow_of(preset_of("SanaPipeline"), pipeline)
    seen: list[tuple[torch.Tensor, float]] = []
    step = pipeline.scheduler.step

    def watch(answer: torch.Tensor, time: torch.Tensor, sample: torch.Tensor, **arguments: Any) -> Any:
        seen.append((sample.clone(), float(time)))
        return step(answer, time, sample, **arguments)

    monkeypatch.setattr(pipeline.scheduler, "step", watch)
    generators = [torch.Generator().manual_seed(seed) for seed in range(2)]
    call = {**CALLS["SanaPipeline"], "complex_human_instruction": None}
    pipeline(
        prompt=PROMPTS, height=32, width=64, num_inference_steps=STEPS, generator=generators, output_type="np", **call
    )
    noise = flow.noise([torch.Generator().manual_seed(seed) for seed in range(2)], 32, 64)
    torch.testing.assert_close(noise, seen[0][0])
    # its scheduler tells whole thousandths
    np.testing.assert_allclose(flow.levels(STEPS, 32, 64)[:-1], [time / 1000 for _, time in seen], atol=1e-3)
    assert sampled(flow, 32, 64, 1.0).shape == (2, 3, 32, 64)


def test_packing_keeps_places_on_any_grid() -> None:
    # a latent that says where it is: channel 0 the row, channel 1 the column
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(10.0), indexing="ij")
    latents = torch.stack([rows, columns])[None]
    packed = pack(latents)
    assert packed.shape == (1, 2 * 5, 8)
    # location (1, 3) holds rows 2, 3 and columns 6, 7
    assert packed[0, 1 * 5 + 3].tolist() == [2, 2, 3, 3, 6, 7, 6, 7]
    assert torch.equal(unpack(packed, 2, 5), latents)


def test_sizes_that_do_not_fit_are_refused() -> None:
    flow = flow_of(preset_of("FluxPipeline"), pipeline_of("FluxPipeline"))
    cell = flow.cell
    assert flow.locations(2 * cell, 5 * cell) == (2, 5)
    with pytest.raises(ValueError, match="multiples"):
        flow.locations(2 * cell + 1, cell)
    flow.grid = (2, 3)
    with pytest.raises(ValueError, match="no grid"):
        flow._grid(torch.zeros(1, 10, 16))


def test_every_preset_that_is_built_in_can_be_trained() -> None:
    assert all(image_models()[preset.pipeline].flow for preset in built_in_presets().values())
