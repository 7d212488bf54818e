"""The conventions of `generators.models.flow` against the pipelines: what they hand to their scheduler, and decode."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from generators.mini.autoencoders import build_dc, build_kl
from generators.mini.card import preset_values
from generators.mini.corpus import to_tensor
from generators.mini.pipelines import make_pipeline
from generators.mini.recipes import MINIS
from generators.models.flow import Flow
from generators.models.flux2 import Flux2Flow
from generators.models.longcat import LongCatFlow
from generators.models.sana import SanaFlow
from generators.models.zimage import ZImageFlow
from sdg_data.mini.render import render
from sdg_data.mini.world import sample_prompts, sample_scene

PROMPTS = sample_prompts(3, seed=8)
# No classifier-free guidance, so that what the scheduler gets is one forward's answer.
UNGUIDED = {"mini-flux2": 1.0, "mini-zimage": 0.0, "mini-longcat": 1.0, "mini-sana": 1.0}


@pytest.fixture(scope="module", params=list(MINIS))
def flow(request: pytest.FixtureRequest) -> Flow:
    recipe = replace(MINIS[request.param], width=32, layers=1, text_width=32)
    torch.manual_seed(0)
    autoencoder = (build_dc(32) if recipe.autoencoder == "dc" else build_kl()).eval().requires_grad_(False)
    made = make_pipeline(recipe, autoencoder)
    with torch.no_grad():
        for parameter in made.pipeline.transformer.parameters():
            # the output layer starts at zero, which would hide a wrong sign
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def call(flow: Flow, **more: Any) -> Any:
    name = {Flux2Flow: "mini-flux2", ZImageFlow: "mini-zimage", LongCatFlow: "mini-longcat", SanaFlow: "mini-sana"}[
        type(flow)
    ]
    values = preset_values(MINIS[name])
    for attribute, value in values.get("attributes", {}).items():
        setattr(flow.pipeline, attribute, value)
    return flow.pipeline(
        prompt=list(PROMPTS),
        height=64,
        width=64,
        num_inference_steps=3,
        guidance_scale=UNGUIDED[name],
        generator=[torch.Generator().manual_seed(seed) for seed in range(3)],
        **values["call"],
        **more,
    ).images


def test_velocity_is_what_the_pipeline_gives_its_scheduler(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Tensor, float, torch.Tensor]] = []
    step = flow.pipeline.scheduler.step

    def watch(answer: torch.Tensor, time: torch.Tensor, sample: torch.Tensor, **arguments: Any) -> Any:
        seen.append((sample.clone(), float(time) / 1000, answer.clone()))
        return step(answer, time, sample, **arguments)

    monkeypatch.setattr(flow.pipeline.scheduler, "step", watch)
    call(flow, output_type="latent")
    assert len(seen) == 3
    assert seen[0][1] > seen[1][1] > seen[2][1]
    with torch.no_grad():
        text = flow.encode(PROMPTS)
        for sample, sigma, answer in seen:
            velocity = flow.velocity(sample, torch.full((3,), sigma), text)
            assert velocity.shape == sample.shape
            torch.testing.assert_close(velocity, answer, rtol=1e-3, atol=1e-4)
            assert answer.abs().max() > 1e-3


def test_latents_decode_to_what_the_autoencoder_makes_of_the_pixels(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(2)
    pixels = to_tensor(np.stack([render(sample_scene(rng), rng) for _ in range(3)]))
    vae = flow.pipeline.vae
    with torch.no_grad():
        latents = flow.to_latents(pixels)
        encoded = vae.encode(pixels)
        mean = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latent
        expected = (vae.decode(mean).sample.clamp(-1, 1) + 1) / 2
    monkeypatch.setattr(flow.pipeline.scheduler, "step", lambda *arguments, **more: (latents,))
    images = call(flow, output_type="np")
    np.testing.assert_allclose(images, expected.permute(0, 2, 3, 1).numpy(), atol=1e-4)


def test_text_of_a_row_does_not_depend_on_its_neighbours(flow: Flow) -> None:
    with torch.no_grad():
        together, alone = flow.encode(PROMPTS), flow.encode(PROMPTS[1:2])
    row = together.take(torch.tensor([1]))
    assert torch.equal(row.mask, alone.mask)
    keep = alone.mask[0]
    torch.testing.assert_close(row.features[0][keep], alone.features[0][keep], rtol=1e-4, atol=1e-5)
