"""Recipes that learn by the forward process, each with what published runs on the same model have set.

`flux1-dev-forward` is the release's `flux1-dev` (arXiv 2606.06113) with the sampler and the loss of Flow-Factory's
DiffusionNFT on FLUX.1-dev (X-GenGroup/Flow-Factory@5f6cda1, examples/nft/lora/flux1/default.yaml).
`sd35-medium-forward` has those of DiffusionNFT's own run on Stable Diffusion 3.5 Medium (config/base.py, config/nft.py,
sd3_pickscore, as kept in jiaxi98/DiffusionNFT@a2f7a2b). Adapters are those of `flux1-dev` and `sd35-medium`, of the
same ranks as there. Neither has run here on a GPU.

Not as there: the advantage is a location's (box), standardised within its group, where DiffusionNFT divides by the
spread of all rewards of the rollout; the decay of the old policy grows with rollouts, where DiffusionNFT counts
optimizer steps, of which it makes one a rollout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from trainers.boxflow.config import BoxFlowConfig

_BOTH: Final[dict[str, Any]] = {
    "estimator": "forward",
    "policy.guidance": 1.0,  # both: guidance_scale 1.0, "no CFG"
    "forward.objective": "nft",
    "forward.mixing": 1.0,  # both: nft_beta 1, beta 1.0
    "forward.old_decay": 0.5,  # both: .001 more a step, up to .5
    "forward.old_growth": 0.001,
    "optimizer.learning_rate": 3e-4,
    "optimizer.minibatches": 1,  # both: one gradient step a rollout
    "credit.advantage_clip": 5.0,
}


def flux1_dev_forward() -> BoxFlowConfig:
    """FLUX.1-dev at 384², 8 steps, 48 prompts × 16 images, 2 draws an image from the first five steps' levels."""
    from trainers.boxflow.config import changed, flux1_dev

    return changed(
        flux1_dev(),
        {
            "recipe": "flux1-dev-forward",
            **_BOTH,
            "policy.width": 384,
            "policy.height": 384,
            "rollout.steps": 8,
            "rollout.prompts": 48,
            "rollout.samples": 16,
            "forward.solver": "euler",
            "forward.draws": 2,  # num_train_timesteps 2
            "forward.level_window": (0, 5),  # timestep_range .7 of 8 steps
            "loss.beta": 0.0,  # kl_beta 0
        },
    )


def sd35_medium_forward() -> BoxFlowConfig:
    """Stable Diffusion 3.5 Medium at 512², 10 steps of dpm2, 48 prompts × 24 images, 9 draws an image of all levels."""
    from trainers.boxflow.config import changed, sd35_medium

    return changed(
        sd35_medium(),
        {
            "recipe": "sd35-medium-forward",
            **_BOTH,
            "rollout.steps": 10,
            "rollout.prompts": 48,
            "rollout.samples": 24,
            "forward.solver": "dpm2",
            "forward.draws": 9,  # timestep_fraction .99 of 10 steps, rounded down
            "forward.level_window": (0, 10),
            "loss.beta": 1e-4,  # train.beta
        },
    )
