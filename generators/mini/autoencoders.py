"""Train the family's autoencoders: reconstruction with a light KL term, minutes on one core."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from generators.mini.corpus import render_corpus, to_tensor
from generators.mini.recipes import AutoencoderRecipe
from sdg_data.mini.schedule import warmup_cosine

logger = logging.getLogger(__name__)


def build_kl(
    kind: str = "AutoencoderKL", latent_channels: int = 16, widths: tuple[int, int, int] = (16, 32, 64)
) -> Any:
    """A 4x autoencoder of diffusers' `AutoencoderKL` or `AutoencoderKLFlux2` class, latents (N, C, 16, 16)."""
    import diffusers

    return getattr(diffusers, kind)(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=4,
        sample_size=64,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )


def build_dc(latent_channels: int = 16) -> Any:
    """An 8x autoencoder of diffusers' `AutoencoderDC` class (SANA's), latents (N, C, 8, 8)."""
    from diffusers import AutoencoderDC

    return AutoencoderDC(
        in_channels=3,
        latent_channels=latent_channels,
        attention_head_dim=16,
        encoder_block_types=("ResBlock",) * 4,
        decoder_block_types=("ResBlock",) * 4,
        encoder_block_out_channels=(16, 32, 64, 128),
        decoder_block_out_channels=(16, 32, 64, 128),
        encoder_layers_per_block=(1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        encoder_qkv_multiscales=((), (), (), ()),
        decoder_qkv_multiscales=((), (), (), ()),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=1.0,
    )


def encode(autoencoder: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean latents of `pixels` (N, 3, H, W) in -1..1, and the KL to a unit Gaussian (0 for AutoencoderDC)."""
    encoded = autoencoder.encode(pixels)
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.mean, encoded.latent_dist.kl()
    return encoded.latent, torch.zeros(len(pixels))


def train_autoencoder(
    autoencoder: Any,
    images: npt.NDArray[np.uint8],
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    kl: float,
    noise: float,
    seed: int,
) -> float:
    """Fit in place; returns the PSNR in dB on the last 256 images, which are not trained on.

    `noise` is added to the latents while training, in units of the latents' own spread, so that the decoder
    forgives the small errors that a flow model makes.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=learning_rate, weight_decay=0.0)
    train = len(images) - 256
    start = time.monotonic()
    autoencoder.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(step, steps, warmup=50, floor=0.01, peak=learning_rate)
        pixels = to_tensor(images[generator.integers(0, train, batch)])
        latents, divergence = encode(autoencoder, pixels)
        spread = latents.detach().std()
        decoded = autoencoder.decode(latents + noise * spread * torch.randn_like(latents)).sample
        loss = functional.mse_loss(decoded, pixels) + 0.1 * functional.l1_loss(decoded, pixels)
        loss = loss + kl * divergence.mean() / latents[0].numel() + (1e-3 * latents.square().mean() if not kl else 0.0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            rate = (step + 1) / (time.monotonic() - start)
            logger.info("autoencoder step %d/%d loss %.5f, %.2f steps/s", step + 1, steps, loss.item(), rate)
    autoencoder.eval()
    with torch.no_grad():
        pixels = to_tensor(images[-256:])
        error = functional.mse_loss(
            autoencoder.decode(encode(autoencoder, pixels)[0]).sample.clamp(-1, 1), pixels
        ).item()
    return 10 * math.log10(4 / error)


def make_autoencoder(recipe: AutoencoderRecipe) -> tuple[Any, float]:
    """Build and train an autoencoder by its recipe; returns it with its PSNR in dB on unseen renders."""
    torch.manual_seed(recipe.seed)
    model = (
        build_dc(recipe.latent_channels)
        if recipe.kind == "AutoencoderDC"
        else build_kl(recipe.kind, recipe.latent_channels)
    )
    psnr = train_autoencoder(
        model,
        render_corpus(recipe.scenes, recipe.seed).images,
        steps=recipe.steps,
        batch=recipe.batch,
        learning_rate=recipe.learning_rate,
        kl=recipe.kl,
        noise=recipe.noise,
        seed=recipe.seed,
    )
    return model, psnr


@torch.no_grad()
def reduce_channels(autoencoder: Any, keep: int, images: npt.NDArray[np.uint8], channels: int | None = None) -> Any:
    """The same autoencoder with its latents turned to their principal channels, all but the first `keep` dropped.

    A turn is a change of basis that the last layer of the encoder and the first of the decoder absorb, so nothing is
    trained again. Of the 16 channels 8 hold 94 % of the variance and lose 1.5 dB; a transformer that has to
    tell signal from noise in half as many numbers learns many times faster.

    Args:
        autoencoder: an `AutoencoderKL`.
        keep: channels that carry something.
        images: uint8 (N, 64, 64, 3), to find the principal channels on.
        channels: channels of the result; those above `keep` are always 0. For pipelines that insist on a number.
    """
    channels = channels or keep
    latents = encode(autoencoder, to_tensor(images))[0]
    mean = latents.mean((0, 2, 3))
    centred = latents - mean[:, None, None]
    covariance = torch.einsum("bchw,bdhw->cd", centred, centred) / centred[:, 0].numel()
    basis = torch.linalg.eigh(covariance)[1].flip(1)[:, :keep]
    # the sign of an eigenvector is arbitrary: fix it, so that the result does not depend on the library
    basis = basis * torch.sign(basis[basis.abs().argmax(0), torch.arange(keep)])
    old = latents.shape[1]
    result = build_kl("AutoencoderKL", channels)
    state = autoencoder.state_dict()
    for name in ("encoder.conv_out.weight", "encoder.conv_out.bias"):
        layer = state[name]
        turned = torch.zeros(2 * channels, *layer.shape[1:])
        turned[:keep] = torch.einsum("ck,c...->k...", basis, layer[:old])
        if name.endswith("bias"):
            turned[:keep] -= basis.T @ mean
            turned[channels:] = -20.0  # log-variance: encoding is deterministic
        state[name] = turned
    entry = state["decoder.conv_in.weight"]
    widened = torch.zeros(entry.shape[0], channels, *entry.shape[2:])
    widened[:, :keep] = torch.einsum("ock...,cd->odk...", entry, basis)
    state["decoder.conv_in.weight"] = widened
    state["decoder.conv_in.bias"] = state["decoder.conv_in.bias"] + torch.einsum("ochw,c->o", entry, mean)
    result.load_state_dict(state)
    return result.eval().requires_grad_(False)
