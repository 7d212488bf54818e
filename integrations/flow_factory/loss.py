"""What Flow-Factory's schedulers and its NFT trainer say, as our losses take it.

Their `log_prob` is a mean over all axes but the batch. Nothing has to change there for one per location: the step's
mean (`next_latents_mean`) and deviation (`std_dev_t`, `dt`) are outputs too. CPS has a Gaussian density here as in our
own trainer, where theirs leaves out the factor 1/(2·std²).
"""

from __future__ import annotations

import torch

from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.matching import MatchingLoss, nft_loss


def step_deviation(std_dev_t: torch.Tensor, dt: torch.Tensor, dynamics: str) -> torch.Tensor:
    """The standard deviation of a step's noise.

    Args:
        std_dev_t: as their scheduler returns it.
        dt: likewise, below 0.
        dynamics: their name: Flow-SDE, Dance-SDE or CPS.

    Returns:
        It broadcasts over the latents.
    """
    std = std_dev_t.float()
    return std if dynamics == "CPS" else std * (-dt.float()).sqrt()


def forward_loss(
    config: BoxFlowConfig,
    noise_pred: torch.Tensor,
    old_noise_pred: torch.Tensor,
    clean: torch.Tensor,
    noise: torch.Tensor,
    timesteps: torch.Tensor,
    advantages: torch.Tensor,
    counts: torch.Tensor,
) -> MatchingLoss:
    """DiffusionNFT's loss at each location, from the tensors that Flow-Factory's NFT trainer has.

    Args:
        config: the settings, of which `forward.mixing` and `credit.advantage_clip` count.
        noise_pred: the velocity under the weights as they are now.
        old_noise_pred: under those that sampled.
        clean: the images' latents.
        noise: what they were noised with.
        timesteps: (B,), 0 to 1000.
        advantages: (B, L) or (B, rows, columns).
        counts: (B,) bool.

    Returns:
        The loss with its figures.
    """
    levels = timesteps.float() / 1000
    limit, mixing = config.credit.advantage_clip, config.forward.mixing
    return nft_loss(noise_pred, old_noise_pred, clean, noise, levels, advantages, limit, mixing, counts=counts)
