"""The recipes of BoxFlow-GRPO trainings: functions that return a whole configuration.

`flux1-dev` has the settings of the paper and its release (arXiv 2606.06113) for GPUs, `sd35-medium` the same for
Stable Diffusion 3.5; `mini` is for the toy FLUX.2 on two CPU cores. The two others learn by the forward process, each
with what published runs on the same model have set:

`flux1-dev-forward` is the release's `flux1-dev` (arXiv 2606.06113) with the sampler and the loss of Flow-Factory's
DiffusionNFT on FLUX.1-dev (X-GenGroup/Flow-Factory@5f6cda1, examples/nft/lora/flux1/default.yaml).
`sd35-medium-forward` has those of DiffusionNFT's own run on Stable Diffusion 3.5 Medium (config/base.py, config/nft.py,
sd3_pickscore, as kept in jiaxi98/DiffusionNFT@a2f7a2b). Adapters are those of `flux1-dev` and `sd35-medium`, of the
same ranks as there. Neither has run here on a GPU.

`z-image-turbo` and `z-image-turbo-forward` train the distilled model at few steps and without guidance: rewards,
detector and credit of `flux1-dev`, and Flow-Factory's values for this model (@5f6cda1,
examples/grpo/lora/z_image_turbo/default.yaml, and examples/nft/full/z_image_turbo/default.yaml, which trains all
weights; learning rate, mixing and rank of the adapter are of examples/nft/lora/z_image_turbo.yaml@ad9838a). Neither has
run here on a GPU either.

Not as there: the advantage is a location's (box), standardised within its group, where DiffusionNFT divides by the
spread of all rewards of the rollout; the decay of the old policy grows with rollouts, where DiffusionNFT counts
optimizer steps, of which it makes one a rollout.
"""

from __future__ import annotations

from typing import Any, Final

from sdg_data.settings import VlmSettings
from trainers.boxflow.config import (
    BoxFlowConfig,
    BoxFlowLora,
    LossSettings,
    MonitoringSettings,
    OptimizerSettings,
    PolicySettings,
    RewardGroup,
    RolloutSettings,
    SavingSettings,
    changed,
)
from trainers.rewards.settings import DetectorSettings, RewardSettings

# Flow-Factory's adapter of Z-Image (models/z_image/z_image.py, default_target_modules): 34 blocks of seven layers.
_Z_IMAGE_TARGETS = (
    *(f"attention.{name}" for name in ("to_k", "to_q", "to_v", "to_out.0")),
    *(f"feed_forward.{name}" for name in ("w1", "w2", "w3")),
)
# Ends of the names of the layers that the release's adapter is put on: attention, with that of the single blocks, and
# the feed-forward layers of the double blocks (its `default_target_modules`): 342 layers of FLUX.1.
_FLUX_ATTENTION = ("to_k", "to_q", "to_v", "to_out.0", "add_k_proj", "add_q_proj", "add_v_proj", "to_add_out")
_FLUX_TARGETS = (
    *(f"attn.{name}" for name in _FLUX_ATTENTION),
    *(f"{part}.{name}" for part in ("ff", "ff_context") for name in ("net.0.proj", "net.2")),
)


def flux1_dev() -> BoxFlowConfig:
    """The release's settings for FLUX.1-dev (its `flux1_dev_exp1_AB.yaml`); docs/published-run.md goes through them."""
    # The release asks the 2B judge for at most 512 tokens, and the detector for 4,096, both at temperature 0.
    judge = VlmSettings(
        backend="openai",
        model="CodeGoat24/UnifiedReward-2.0-qwen3vl-2b",
        base_url="http://127.0.0.1:8000/v1",
        max_tokens=512,
    )
    pick = RewardSettings(
        kind="pick", model="yuvalkirstain/PickScore_v1", processor="laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    )
    detector = VlmSettings(backend="openai", model="sdg-detector", base_url="http://127.0.0.1:9090/v1", max_tokens=4096)
    # Not of the release: a model that the detector was not trained from, on the judge's GPU.
    held_out = VlmSettings(
        backend="openai", model="Qwen/Qwen3-VL-4B-Instruct", base_url="http://127.0.0.1:8001/v1", max_tokens=4096
    )
    return BoxFlowConfig(
        recipe="flux1-dev",
        policy=PolicySettings(
            model="flux1-dev",
            width=512,
            height=512,
            guidance=3.5,
            lora=BoxFlowLora(targets=_FLUX_TARGETS),
            checkpointing=True,
        ),
        rollout=RolloutSettings(batch_size=4),
        # Two optimizer steps a rollout; the average moves in every fourth rollout, with a warm-up of ten.
        optimizer=OptimizerSettings(minibatches=2, ema_every=4, ema_warmup=10),
        rewards=RewardGroup(base=(RewardSettings(kind="judge", vlm=judge),), detector=DetectorSettings(vlm=detector)),
        monitoring=MonitoringSettings(
            guard=pick, artifact_guard=DetectorSettings(vlm=held_out), artifact_guard_rise=0.5
        ),
    )


def sd35_medium() -> BoxFlowConfig:
    """Flow-GRPO's public run of Stable Diffusion 3.5 Medium, `pickscore_sd3`, with BoxFlow's advantages and rewards.

    Its groups are of 24 images and its adapter has rank 32, on the attention layers alone; nine of ten steps have noise
    and are learned from. Its KL weight of .01 is about 5e-4 in the KL of this house.

    Returns:
        The configuration.
    """
    return changed(
        flux1_dev(),
        {
            "recipe": "sd35-medium",
            "policy.model": "sd35-medium",
            "policy.guidance": 4.5,
            "policy.lora": {"rank": 32, "alpha": 64, "targets": [f"attn.{name}" for name in _FLUX_ATTENTION]},
            "rollout.samples": 24,
            "rollout.window": (0, 9),
            "rollout.sde_steps": 9,
            "loss.beta": 5e-4,
        },
    )


def z_image_turbo() -> BoxFlowConfig:
    """Z-Image-Turbo at 512², six steps of which one of the second to the fourth has noise, 48 prompts × 16 images."""
    return changed(
        flux1_dev(),
        {
            "recipe": "z-image-turbo",
            "policy.model": "z-image-turbo",
            "policy.guidance": 0.0,
            "policy.lora": {"rank": 64, "alpha": 128, "targets": list(_Z_IMAGE_TARGETS)},
            "rollout.steps": 6,
        },
    )


def mini() -> BoxFlowConfig:
    """The toy FLUX.2 on two cores: every weight, many SDE steps, several optimizer steps a rollout."""
    return BoxFlowConfig(
        recipe="mini",
        rollouts=30,
        policy=PolicySettings(model="mini-flux2", lora=None, precision="fp32", device="cpu"),
        rollout=RolloutSettings(prompts=6, samples=8, batch_size=16, window=(0, 9), sde_steps=9, train_steps=4),
        loss=LossSettings(clip=1e-2, weigh_steps=True),
        optimizer=OptimizerSettings(passes=3, learning_rate=1e-4, weight_decay=0.0, adam_betas=(0.9, 0.99), ema=0.9),
        rewards=RewardGroup(base=(RewardSettings(kind="palette"),)),
        monitoring=MonitoringSettings(guard=RewardSettings(kind="oracle"), guard_prompts=32, sample_every=10),
        saving=SavingSettings(save_every=5),
    )


_FORWARD: Final[dict[str, Any]] = {
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
    return changed(
        flux1_dev(),
        {
            "recipe": "flux1-dev-forward",
            **_FORWARD,
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
    return changed(
        sd35_medium(),
        {
            "recipe": "sd35-medium-forward",
            **_FORWARD,
            "rollout.steps": 10,
            "rollout.prompts": 48,
            "rollout.samples": 24,
            "forward.solver": "dpm2",
            "forward.draws": 9,  # timestep_fraction .99 of 10 steps, rounded down
            "forward.level_window": (0, 10),
            "loss.beta": 1e-4,  # train.beta
        },
    )


def z_image_turbo_forward() -> BoxFlowConfig:
    """Z-Image-Turbo at 512², six steps, 48 prompts × 16 images, 3 draws an image of all levels."""
    return changed(
        z_image_turbo(),
        {
            "recipe": "z-image-turbo-forward",
            **_FORWARD,
            "policy.guidance": 0.0,
            "forward.draws": 3,  # num_train_timesteps 3
            "forward.level_window": (0, 5),  # timestep_range .99 of 6 steps
            "loss.beta": 0.0,  # kl_beta 0
        },
    )


RECIPES = {
    "mini": mini,
    "flux1-dev": flux1_dev,
    "sd35-medium": sd35_medium,
    "flux1-dev-forward": flux1_dev_forward,
    "sd35-medium-forward": sd35_medium_forward,
    "z-image-turbo": z_image_turbo,
    "z-image-turbo-forward": z_image_turbo_forward,
}
