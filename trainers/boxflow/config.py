"""What a BoxFlow-GRPO training is told, and the recipes: small functions that return a whole configuration.

`flux1-dev` has the settings of the paper and its release (arXiv 2606.06113) for GPUs, `sd35-medium` the same for
Stable Diffusion 3.5; `mini` is for the toy FLUX.2 on two CPU cores. A run differs from its recipe by `--set key=value`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sdg_data.errors import ConfigError
from sdg_data.settings import VlmSettings
from trainers.boxflow.dynamics import Dynamics
from trainers.boxflow.reward_map import CellRule
from trainers.rewards.settings import DetectorSettings, RewardSettings

Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Advantage = Literal["scalar", "dense-heatmap", "box", "scalar-boxes"]


class LoraSettings(BaseModel):
    """A low-rank adapter. `targets`: ends of the names of linear layers; none: attention and feed-forward layers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: Positive = 64
    alpha: Positive = 128
    targets: tuple[str, ...] = ()


class BoxFlowConfig(BaseModel):
    """Settings of a training.

    Model: `model` is a preset's name (`sdg generate models`); `width`, `height`, `guidance` None: the preset's.
    `steps`: of the sampler while training. `lora` None: every weight is trained. `precision` bf16: autocast, and bf16
    weights under an adapter. `checkpointing`: recompute activations instead of keeping them.

    Rollout: `prompts` groups of `samples` images. `batch_size`: images that one process holds at a time; they stay
    together from sampling to loss, so that a probability is computed twice by the very same calls. Of the steps
    `window[0]` to `window[1]` − 1 (from 0), `sde_steps` are drawn and get noise; `train_steps` of those are learned
    from (None: all). `noise_level` is a of `dynamics`. `shared_noise`: images of a group start from the same noise, as
    in DanceGRPO, so that only the steps' noise tells them apart. `trajectory`: what samples are rounded to and kept as.

    Signal: `advantage` scalar is Flow-GRPO, dense-heatmap DenseFlow-GRPO (`dense_form` weighted: A·(1−H), normalised:
    of R·(1−H) per location; H from the boxes), box BoxFlow-GRPO, scalar-boxes the control that takes the boxes from
    the scalar. `weight_artifact` and `weight_misalignment` times σ_R are α of eq. 4; `sigma_floor` is the least σ_R, in
    units of the reward. `box_margin`: cells by which boxes grow on all sides (advantage box alone; 0 is the paper's).
    `epsilon` of eq. 5. `minimum_group`: samples with an answer that a group needs.

    Loss: `clip` of the ratio; `ratio` per location or per image (auto: per image for the scalar advantages, as in
    Flow-GRPO). `beta` of the KL to the model as it was. `weigh_steps`: losses of several SDE steps in proportion to
    the step's noise. `passes` over a rollout, in `minibatches` optimizer steps each. `warmup`: optimizer steps.

    Guards: `guard` is a reward that is tracked and never learned from, on `guard_prompts` fixed prompts with fixed
    noise every `sample_every` rollouts; `sheet_prompts` of these are drawn. `max_failure_rate`: of images without an
    answer, beyond which the run stops. `reward_deadline`: seconds to wait after the last image of a rollout.
    `audit_share`: of the rollout's images, put into the store for people to look at. `ratio_tolerance`: how far from 1
    the ratio may be before the first update; 0 where the same call gives the same bits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    model: str
    width: Positive | None = None
    height: Positive | None = None
    steps: Annotated[int, Field(ge=2)] = 10
    guidance: NotNegative | None = None
    lora: LoraSettings | None = LoraSettings()
    precision: Literal["bf16", "fp32"] = "bf16"
    checkpointing: bool = False
    device: Literal["auto", "cpu"] = "auto"

    prompts: Positive = 48
    samples: Annotated[int, Field(ge=2)] = 16
    batch_size: Positive = 8
    dynamics: Dynamics = "flow-sde"
    noise_level: AboveZero = 0.7
    shared_noise: bool = False
    window: tuple[Natural, Positive] = (1, 4)
    sde_steps: Positive = 1
    train_steps: Positive | None = None
    trajectory: Literal["float32", "bfloat16"] = "float32"

    advantage: Advantage = "box"
    dense_form: Literal["weighted", "normalised"] = "weighted"
    weight_artifact: NotNegative = 0.5
    weight_misalignment: NotNegative = 0.05
    sigma_floor: NotNegative = 0.01
    cell_rule: CellRule = "fractional"
    box_margin: NotNegative = 0.0
    epsilon: AboveZero = 1e-4
    advantage_clip: AboveZero = 5.0
    minimum_group: Annotated[int, Field(ge=2)] = 2

    clip: AboveZero = 1e-4
    ratio: Literal["auto", "location", "image"] = "auto"
    beta: NotNegative = 0.0
    weigh_steps: bool = False
    passes: Positive = 1
    minibatches: Positive = 1
    learning_rate: AboveZero = 3e-4
    weight_decay: NotNegative = 1e-4
    adam_betas: tuple[Share, Share] = (0.9, 0.999)
    max_grad_norm: AboveZero = 1.0
    warmup: Natural = 0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.9
    rollouts: Positive = 500
    seed: Natural = 0

    base: tuple[RewardSettings, ...]
    detector: DetectorSettings = DetectorSettings()
    guard: RewardSettings | None = None
    guard_prompts: Positive = 32
    sheet_prompts: Natural = 12
    sample_every: Natural = 20
    max_failure_rate: Share = 0.25
    reward_deadline: AboveZero = 300.0
    audit_share: Share = 0.0
    ratio_tolerance: NotNegative = 0.0
    save_every: Positive = 10
    keep: Positive = 2
    report: Literal["tensorboard", "none"] = "tensorboard"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        first, after = self.window
        if not first < after <= self.steps:
            raise ValueError(f"window {first}..{after} is no range of the {self.steps} steps")
        if self.sde_steps > after - first:
            raise ValueError(f"{self.sde_steps} sde_steps do not fit into a window of {after - first}")
        if self.train_steps is not None and self.train_steps > self.sde_steps:
            raise ValueError(f"train_steps {self.train_steps} is more than sde_steps {self.sde_steps}")
        if self.dynamics == "cps" and (after == self.steps or self.noise_level > 1):
            raise ValueError(
                "cps has no noise in the last step (end the window before it), and noise_level is at most 1"
            )
        if self.total % (self.batch_size * self.minibatches):
            raise ValueError(
                f"prompts × samples = {self.total} is no multiple of batch_size × minibatches = "
                f"{self.batch_size * self.minibatches}"
            )
        if self.minimum_group > self.samples:
            raise ValueError(f"minimum_group {self.minimum_group} is more than samples {self.samples}")
        return self

    @property
    def total(self) -> int:
        """Images of a rollout, of all processes together."""
        return self.prompts * self.samples

    @property
    def ratio_per_image(self) -> bool:
        """Whether an image has one ratio."""
        return self.ratio == "image" or (self.ratio == "auto" and self.advantage in ("scalar", "scalar-boxes"))

    def check_processes(self, processes: int) -> None:
        """ConfigError where the images cannot be dealt out evenly."""
        each = self.batch_size * self.minibatches * processes
        if self.total % each:
            raise ConfigError(
                f"prompts × samples = {self.total} is no multiple of batch_size × minibatches × processes = {each}",
                hint="--set batch_size=N, prompts=N or samples=N.",
            )


def flux1_dev() -> BoxFlowConfig:
    """The release's settings for FLUX.1-dev: 512², LoRA 64/128, 48 prompts × 16, one SDE step of steps 1 to 3."""
    return BoxFlowConfig(
        recipe="flux1-dev",
        model="flux1-dev",
        width=512,
        height=512,
        guidance=3.5,
        checkpointing=True,
        batch_size=4,
        minibatches=2,
        base=(RewardSettings(kind="judge", vlm=VlmSettings(backend="openai", model="UnifiedReward-2.0-qwen3vl-8b")),),
        guard=RewardSettings(
            kind="pick", model="yuvalkirstain/PickScore_v1", processor="laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
        ),
        detector=DetectorSettings(
            vlm=VlmSettings(backend="openai", model="sdg-detector", base_url="http://127.0.0.1:9090/v1")
        ),
    )


def sd35_medium() -> BoxFlowConfig:
    """As `flux1-dev`, for a Stable Diffusion 3.5 Medium that a config file names (`[models.sd35-medium]`)."""
    return flux1_dev().model_copy(update={"recipe": "sd35-medium", "model": "sd35-medium", "guidance": 4.5})


def mini() -> BoxFlowConfig:
    """The toy FLUX.2 on two cores: every weight, many SDE steps, several optimizer steps a rollout."""
    return BoxFlowConfig(
        recipe="mini",
        model="mini-flux2",
        lora=None,
        precision="fp32",
        device="cpu",
        prompts=6,
        samples=8,
        batch_size=16,
        window=(0, 9),
        sde_steps=9,
        train_steps=4,
        clip=1e-2,
        weigh_steps=True,
        passes=3,
        learning_rate=1e-4,
        weight_decay=0.0,
        adam_betas=(0.9, 0.99),
        ema=0.9,
        rollouts=30,
        base=(RewardSettings(kind="palette"),),
        guard=RewardSettings(kind="oracle"),
        guard_prompts=32,
        sample_every=10,
        save_every=5,
    )


RECIPES = {"mini": mini, "flux1-dev": flux1_dev, "sd35-medium": sd35_medium}


def changed(config: BoxFlowConfig, changes: dict[str, Any]) -> BoxFlowConfig:
    """The configuration with other values; a dotted name reaches into a table. ConfigError names what is wrong."""
    values = config.model_dump()
    for name, value in changes.items():
        place = values
        *tables, last = name.split(".")
        for table in tables:
            inner = place.get(table)
            place[table] = dict(inner) if isinstance(inner, dict) else {}
            place = place[table]
        place[last] = value
    try:
        return BoxFlowConfig.model_validate(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc'])) or 'settings'}: {one['msg']}" for one in error.errors()]
        raise ConfigError(
            "; ".join(lines), item=f"recipe {config.recipe}", hint="docs/boxflow.md has the keys."
        ) from error
