"""The model that is trained in miniature: a small FLUX.2 that has learned from damaged images, and how it was made.

`mini-flux2` cannot stand here: 48 images say next to nothing about which way its weights should go, by any advantage
(docs/boxflow.md has the figures). This one has a quarter of the numbers at each location, few weights, and defects of
a kind that more training would not have mended: half of the images it saw were corrupted on purpose, in all the ways of
`sdg_data.mini.inject` that change what is drawn, so that it draws a defect as often as a model draws one that
learned from the web. Its prompts ask for one or two shapes.

`python -m trainers.paper.boxflow.model` makes it again from nothing (an hour of one core; resumes).
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from generators.mini.autoencoders import build_kl, encode, train_autoencoder
from generators.mini.build import save_mini
from generators.mini.corpus import Corpus, render_corpus, to_tensor
from generators.mini.pipelines import MAX_TOKENS, flux2_autoencoder
from generators.mini.recipes import MINIS, Phase
from generators.mini.training import encode_corpus, train_transformer
from generators.models.flow import Flow
from generators.models.flux2 import Flux2Flow
from generators.models.loading import load_pipeline
from generators.models.presets import Preset
from generators.models.registry import choose, load_presets
from generators.revisions import revision_of
from sdg_data.mini.inject import Kind, corrupt, sample_corrupted
from sdg_data.mini.render import render
from sdg_data.mini.schedule import warmup_cosine
from sdg_data.mini.world import Scene, parse_prompt, sample_scene

log = logging.getLogger("paper-mini-model")

NAME: Final = "mini-flux2-damaged"
WEIGHTS: Final = Path(__file__).parent / "weights"

DAMAGED: Final = 0.5
"""The part of the training images that has one to three defects."""
_KINDS: Final = (
    *(Kind.BITE, Kind.NOISE, Kind.BLUR, Kind.DOUBLE, Kind.SPECK, Kind.SHADOW),
    *(Kind.COLOUR, Kind.SHAPE, Kind.EXTRA, Kind.MISSING),
)
_CHANNELS: Final = 4
_AUTOENCODER_WIDTHS: Final = (8, 24, 48)
_AUTOENCODER_STEPS: Final = 1500
_DECODER_STEPS: Final = 1200
_WIDTH: Final = 96
_SHIFT: Final = 2.0
_STAGES: Final = ((3000, 2e-3), (5000, 1.5e-3), (4500, 1.5e-3))
"""Steps and learning rate; each stage has a schedule and an average of its own."""


def preset() -> Preset:
    """How the model is sampled: six steps, no guidance."""
    like = choose(["mini-flux2"], load_presets())[0]
    about = "toy of flux2-dev that learned from damaged drawn scenes"
    values = {"name": NAME, "repository": str(WEIGHTS), "steps": 6, "guidance": 1.0, "about": about}
    return like.model_copy(update=values)


def is_simple(scene: Scene) -> bool:
    """Whether it asks for no more than the model was shown: one or two groups of one shape."""
    return scene.object_count <= 2 and all(group.count == 1 for group in scene.groups)


def simple_prompts(prompts: Sequence[str]) -> list[str]:
    """The prompts that ask for one or two shapes, in their order."""
    return [text for text in prompts if is_simple(parse_prompt(text))]


def damaged_corpus(count: int, seed: int) -> Corpus:
    """`count` simple scenes, the part `DAMAGED` of them corrupted; none with a held-out prompt."""
    return render_corpus(count, seed, wanted=is_simple, draw=_draw)


def _draw(scene: Scene, rng: random.Random) -> npt.NDArray[np.uint8]:
    if rng.random() < 1 - DAMAGED:
        return render(scene, rng)
    return corrupt(scene, rng.sample(_KINDS, rng.choices((1, 2, 3), (5, 4, 1))[0]), rng).pixels


def train(work: Path) -> Flow:
    """Autoencoder, then transformer, on one thread; what is in `work` is not made again."""
    import diffusers

    shared = _autoencoder(work / "autoencoder")
    corpus = damaged_corpus(16_000, seed=77)
    like = choose(["mini-flux2"], load_presets())[0]
    # its text encoder has learned to read prompts, and is never trained further
    pipeline = load_pipeline(like, revision_of(like))
    torch.manual_seed(9)
    transformer = diffusers.Flux2Transformer2DModel(
        patch_size=1,
        in_channels=4 * _CHANNELS,
        num_layers=1,
        num_single_layers=3,
        attention_head_dim=32,
        num_attention_heads=_WIDTH // 32,
        joint_attention_dim=pipeline.transformer.config.joint_attention_dim,
        timestep_guidance_channels=64,
        axes_dims_rope=(4, 12, 12, 4),
        mlp_ratio=3.0,
    )
    torch.nn.init.zeros_(transformer.proj_out.weight)
    pipeline.register_modules(
        vae=flux2_autoencoder(shared, corpus.images[:512]).eval().requires_grad_(False),
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=_SHIFT),
    )
    flow = Flux2Flow(pipeline, MAX_TOKENS, (1, 2, 3))
    data = encode_corpus(flow, corpus)
    recipe = replace(MINIS["mini-flux2"], seed=5)
    for number, (steps, rate) in enumerate(_STAGES, start=1):
        folder = work / f"stage-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        train_transformer(flow, replace(recipe, phases=(Phase(steps, _SHIFT),), learning_rate=rate), data, folder)
    return flow


def _mixed_images(clean: float, seed: int) -> npt.NDArray[np.uint8]:
    """(8000, 64, 64, 3) of all scenes, the part `clean` of them not corrupted."""
    rng = random.Random(seed)

    def drawn() -> Iterator[npt.NDArray[np.uint8]]:
        for _ in range(8000):
            yield render(sample_scene(rng), rng) if rng.random() < clean else sample_corrupted(rng).pixels

    return np.stack(list(drawn()))


def _autoencoder(folder: Path) -> Any:
    import diffusers

    if not (folder / "config.json").is_file():
        torch.manual_seed(3)
        model = build_kl(latent_channels=_CHANNELS, widths=_AUTOENCODER_WIDTHS)
        psnr = train_autoencoder(
            model,
            _mixed_images(0.4, seed=5),
            steps=_AUTOENCODER_STEPS,
            batch=16,
            learning_rate=4e-3,
            kl=1e-3,
            noise=0.1,
            seed=3,
        )
        log.info("autoencoder: %.1f dB", psnr)
        _refine_decoder(model, _mixed_images(0.6, seed=55))
        model.save_pretrained(folder)
    return diffusers.AutoencoderKL.from_pretrained(folder).eval().requires_grad_(False)


def _refine_decoder(autoencoder: Any, images: npt.NDArray[np.uint8]) -> None:
    """Train the decoder further: the latents stay, and cost nothing any more. 32.0 dB become 34.7."""
    with torch.no_grad():
        latents = torch.cat(
            [encode(autoencoder, to_tensor(images[at : at + 64]))[0] for at in range(0, len(images), 64)]
        )
    spread = latents.std()
    optimizer = torch.optim.AdamW(autoencoder.decoder.parameters(), lr=2e-3, weight_decay=0.0)
    generator = np.random.default_rng(1)
    torch.manual_seed(1)
    autoencoder.train()
    for step in range(_DECODER_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(step, _DECODER_STEPS, warmup=30, floor=0.01, peak=2e-3)
        rows = generator.integers(0, len(images), 16)
        pixels, clean = to_tensor(images[rows]), latents[rows]
        decoded = autoencoder.decode(clean + 0.05 * spread * torch.randn_like(clean)).sample
        loss = functional.mse_loss(decoded, pixels) + 0.1 * functional.l1_loss(decoded, pixels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(autoencoder.decoder.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            log.info("decoder step %d/%d loss %.5f", step + 1, _DECODER_STEPS, loss.item())
    autoencoder.eval()


def _card() -> str:
    stages = ", ".join(f"{steps} steps at {rate:g}" for steps, rate in _STAGES)
    kinds = ", ".join(kind.value for kind in _KINDS)
    return f"""---
license: apache-2.0
pipeline_tag: text-to-image
---
# {NAME}

The model that `make paper-mini` trains: a toy of FLUX.2 (diffusers' `Flux2Pipeline`), 64×64 pixels, one or two
flat shapes. It draws defects on purpose: {DAMAGED:.0%} of the 16,000 scenes that it learned from were corrupted
({kinds}).

Autoencoder: {_CHANNELS} channels, {_AUTOENCODER_STEPS} steps, and {_DECODER_STEPS} more of the decoder. Text encoder:
that of mini-flux2. Transformer: width {_WIDTH}, one double and three single blocks; {stages}, of 32 images each.
`python -m trainers.paper.boxflow.model` makes it again.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the small generator of the BoxFlow experiment and save it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="paper-mini-model", description=NAME)
    parser.add_argument("--work", type=Path, default=Path("data/paper-mini-model"), help="where it goes on from")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    options.work.mkdir(parents=True, exist_ok=True)
    save_mini(train(options.work), options.out, {"README.md": _card()})
    log.info("%s: %s", NAME, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
