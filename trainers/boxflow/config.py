"""The configuration of a BoxFlow-GRPO training, in groups.

A run has a recipe (`trainers.boxflow.recipes`) and differs from it by `--set group.key=value`. The string below a field
is its documentation: `sdg train boxflow --help-config` prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from sdg_data.errors import ConfigError
from trainers.boxflow.dynamics import Dynamics
from trainers.boxflow.forward_config import ForwardSettings
from trainers.boxflow.reward_map import CellRule
from trainers.common.config import (
    AboveZero,
    ConfigGroup,
    LoraSettings,
    Natural,
    NotNegative,
    Positive,
    TrainingSettings,
    flat_json,
)
from trainers.common.config import changed as changed  # whoever has a configuration changes it
from trainers.rewards.settings import DetectorSettings, RewardSettings

if TYPE_CHECKING:
    from generators.models.presets import Preset

Share = Annotated[float, Field(ge=0, le=1)]
AdvantageKind = Literal["scalar", "dense-heatmap", "box", "scalar-boxes"]
EstimatorKind = Literal["policy-gradient", "forward"]


class BoxFlowLora(LoraSettings):
    """Settings of the low-rank adapter (LoRA) that is trained on the generator's transformer."""

    targets: tuple[str, ...] = ()
    """Ends of the names of the linear layers that get one; none: attention and feed-forward layers."""


class PolicySettings(ConfigGroup):
    """The model that is trained, and in which form."""

    model: str
    """A preset's name (`sdg generate models`)."""
    width: Positive | None = None
    """Pixels; none: the preset's."""
    height: Positive | None = None
    """Pixels; none: the preset's."""
    guidance: NotNegative | None = None
    """Guidance scale while sampling and learning; none: the preset's."""
    lora: BoxFlowLora | None = BoxFlowLora()
    """The adapter that is trained; none: every weight is."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """bf16: autocast, and bf16 weights under an adapter. fp32 on CPUs, where bf16 is slower."""
    checkpointing: bool = False
    """Recompute activations in the backward pass instead of keeping them: less memory, about a third more time."""
    device: Literal["auto", "cpu"] = "auto"
    """auto: a GPU where there is one."""

    def image_size(self, preset: Preset) -> tuple[int, int]:
        """(height, width) in pixels of the images that a training draws."""
        return self.height or preset.height, self.width or preset.width


class RolloutSettings(ConfigGroup):
    """What is sampled before each round of learning, and how."""

    prompts: Positive = 48
    """Groups of a rollout, a prompt each (the release's 48)."""
    samples: Annotated[int, Field(ge=2)] = 16
    """Images of a group, which are compared with one another (the release's 16)."""
    batch_size: Positive = 8
    """Images that one process holds at a time. They stay together from sampling to loss, so that a probability is
    computed twice by the very same calls."""
    steps: Annotated[int, Field(ge=2)] = 10
    """Sampler steps while training: fewer than for a final image, because each costs a forward pass."""
    dynamics: Dynamics = "flow-sde"
    """How a step gets its noise, see `trainers/boxflow/dynamics.py`."""
    noise_level: AboveZero = 0.7
    """a of the dynamics: how much noise a step gets (Flow-GRPO's 0.7)."""
    shared_noise: bool = False
    """Images of a group start from the same noise, as in DanceGRPO: only the steps' noise tells them apart."""
    window: tuple[Natural, Positive] = (1, 4)
    """Steps that may get noise, from 0: the first, and the one after the last. (1, 4) is the release's 1 to 3."""
    sde_steps: Positive = 1
    """How many steps of the window get noise; which ones is drawn for each rollout."""
    train_steps: Positive | None = None
    """How many of the steps with noise are learned from; none: all of them."""
    share_prefix: bool = False
    """With shared_noise: compute the steps before a group's first noise once, instead of for each of its images."""
    branches: Positive = 1
    """Groups that a prompt has in a rollout, each of which branches off the prompt's noiseless path at another step
    of the window (TempFlow-GRPO). Needs shared_noise and one of sde_steps."""
    trajectory: Literal["float32", "bfloat16"] = "float32"
    """What latents are rounded to and kept as between sampling and learning."""


class CreditSettings(ConfigGroup):
    """Credit assignment: how rewards and boxes become each location's advantage (arXiv 2606.06113, eq. 4 and 5)."""

    advantage: AdvantageKind = "box"
    """box: BoxFlow-GRPO. scalar: Flow-GRPO. dense-heatmap: DenseFlow-GRPO, with the boxes' heat H as its map.
    scalar-boxes: the control that takes the boxes from the scalar reward."""
    dense_form: Literal["weighted", "normalised"] = "weighted"
    """Of dense-heatmap: weighted is A·(1−H), normalised the advantage of R·(1−H) at each location."""
    weight_artifact: NotNegative = 0.5
    """Times σ_R it is α of eq. 4 for artifacts (the paper's 0.5)."""
    weight_misalignment: NotNegative = 0.05
    """Times σ_R it is α of eq. 4 for misalignments (the paper's 0.05)."""
    sigma_floor: NotNegative = 0.01
    """The least σ_R, in units of the reward. Equal rewards in a group give σ_R = 0, which would switch the boxes off
    just where they are all there is to learn from."""
    cell_rule: CellRule = "fractional"
    """fractional: a cell counts by the part that a box covers. floor: as in the paper's release, where boxes thinner
    than a cell vanish."""
    box_margin: NotNegative = 0.0
    """Cells by which boxes grow on all sides first, for the advantage box (0, the paper's). A box that ends at the
    object makes a smaller object pay less."""
    box_total: Literal["area", "importance"] = "area"
    """What a box takes from an image in all, for the advantage box. area: its importance from each cell that it covers
    (the paper's), so that a smaller object pays less. importance: its importance, however large it is, shared out among
    these cells, and advantages divided by the spread of the images' totals."""
    epsilon: AboveZero = 1e-4
    """ε of eq. 5, in units of the reward: keeps a group of equal rewards at 0."""
    advantage_clip: AboveZero = 5.0
    """Advantages are cut to ± this (Flow-GRPO's 5)."""
    minimum_group: Annotated[int, Field(ge=2)] = 2
    """Images with an answer that a group needs; a smaller one is dropped."""


class LossSettings(ConfigGroup):
    """The clipped objective (arXiv 2606.06113, eq. 6)."""

    clip: AboveZero = 1e-4
    """ε of the ratio (the release's 1e-4)."""
    trust_region: Literal["ratio", "kl"] = "ratio"
    """ratio: the clip of the ratio. kl: no clip, but a term that is `kl_limit` or more away from the step that was
    sampled, by their exact KL, and would go farther, is left out (Flow-DPPO)."""
    kl_limit: AboveZero = 1e-5
    """τ of trust_region kl (Flow-DPPO's 1e-5)."""
    normalise_ratio: bool = False
    """Ratios of mean 1 and of the same spread at each step, and losses divided by the step's width in level
    (GRPO-Guard, whose clip is 2e-6)."""
    ratio: Literal["auto", "location", "image", "image-value"] = "auto"
    """One ratio for each location, or for each image; image-value: the image's as value at each location, with the
    location's own gradient. auto: image for the scalar advantages, as in Flow-GRPO, image-value for dense-heatmap, as
    in DenseFlow-GRPO's public code, location for box."""
    beta: NotNegative = 0.0
    """Weight of the KL to the model before training (0: the release has none). The KL is that of the whole step, over
    the noise's variance σ_t²·(−dt); Flow-GRPO's code leaves out (−dt), so a weight of its own is 12 to 25 times as
    strong here."""
    weigh_steps: bool = False
    """Losses of several noisy steps in proportion to the step's noise; else the last, quiet ones rule."""


class OptimizerSettings(ConfigGroup):
    """AdamW, and how often a rollout is learned from."""

    passes: Positive = 1
    """Times that a rollout is learned from."""
    minibatches: Positive = 1
    """Optimizer steps of each pass."""
    learning_rate: AboveZero = 3e-4
    """Of the adapter's weights; for all weights a smaller one (mini: 1e-4)."""
    weight_decay: NotNegative = 1e-4
    """AdamW's."""
    adam_betas: tuple[Share, Share] = (0.9, 0.999)
    """AdamW's β₁ and β₂."""
    max_grad_norm: AboveZero = 1.0
    """Gradients are scaled down to this norm."""
    warmup: Natural = 0
    """Optimizer steps over which the learning rate rises."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the average of the weights. The average is what is exported."""
    ema_every: Natural = 0
    """Rollouts between two steps of the average; 0: one at each optimizer step."""
    ema_warmup: Natural = 0
    """With `ema_every`, W: in rollout r, from 0, the decay is at most (1 + r)/(W + r); 0: always `ema`."""


class RewardGroup(ConfigGroup):
    """The rewards and the detector of a training, and what is done where they do not answer."""

    base: tuple[RewardSettings, ...]
    """Base rewards, each a table with the keys of `monitoring.guard`; the reward is their weighted sum."""
    detector: DetectorSettings = DetectorSettings()
    """Who draws the boxes."""
    max_failure_rate: Share = 0.25
    """Share of a rollout's images without an answer beyond which the run stops, and learns nothing from them."""
    reward_deadline: AboveZero = 300.0
    """Seconds to wait for answers after the last image of a rollout was sampled."""


class MonitoringSettings(ConfigGroup):
    """Settings of what is measured during a training for people to look at; nothing is learned from it."""

    guard: RewardSettings | None = None
    """A held-out reward against reward hacking, of the averaged weights' images of fixed prompts; none: the base's."""
    guard_prompts: Positive = 32
    """Fixed prompts, each with fixed noise."""
    sheet_prompts: Natural = 12
    """How many of the fixed prompts are drawn into `samples/`."""
    artifact_guard: DetectorSettings | None = None
    """A second detector, which no reward comes from: its artifacts on some images of each rollout are logged; none: no
    such guard. Of a real training it should be another model than `rewards.detector`."""
    artifact_guard_images: Positive = 32
    """Images of each rollout that the artifact guard looks at."""
    artifact_guard_rise: NotNegative = 0.0
    """Share by which its figure may rise before the training stops; 0: it is only logged."""
    artifact_guard_window: Positive = 5
    """Rollouts that the figure is averaged over, at the start and at the end, to see a rise."""
    trial_images: Natural = 16
    """Made-up pictures that each server of rewards or boxes is asked about before the model is loaded, to see whether
    it answers and keeps up with a rollout; 0: none."""
    sample_every: Natural = 20
    """Rollouts between two looks at the fixed prompts; 0: never."""
    audit_share: Share = 0.0
    """Share of the rollout's images that are put into the store for people to look at."""
    ratio_tolerance: NotNegative = 0.0
    """How far from 1 the ratio may be before the first update; 0 where the same call gives the same bits."""


class SavingSettings(ConfigGroup):
    """How often checkpoints are saved, how many are kept, and where curves are written."""

    save_every: Positive = 10
    """Rollouts between two checkpoints."""
    keep: Positive = 2
    """Checkpoints that are kept."""
    report: Literal["tensorboard", "none"] = "tensorboard"
    """Where curves go."""


class BoxFlowConfig(TrainingSettings):
    """All settings of a BoxFlow training, in groups."""

    page: ClassVar = "docs/boxflow.md"
    recipe: str
    """The recipe that it was made from."""
    rollouts: Positive = 500
    """Rollouts in all."""
    seed: Natural = 0
    """Prompts, steps with noise and every image's noise follow from it."""
    estimator: EstimatorKind = "policy-gradient"
    """policy-gradient: from noisy steps and their probabilities. forward: from images by an ODE solver, noised again,
    with the settings of `forward`."""
    policy: PolicySettings
    rollout: RolloutSettings = RolloutSettings()
    credit: CreditSettings = CreditSettings()
    loss: LossSettings = LossSettings()
    forward: ForwardSettings = ForwardSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    rewards: RewardGroup
    monitoring: MonitoringSettings = MonitoringSettings()
    saving: SavingSettings = SavingSettings()

    @classmethod
    def as_begun(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """As every table's; `auto` was one ratio for each location with dense-heatmap, before there was `ema_every`."""
        begun = super().as_begun(values)
        tables = {name: dict(begun.get(name) or {}) for name in ("credit", "loss", "optimizer")}
        is_dense = tables["credit"].get("advantage") == "dense-heatmap"
        if is_dense and "ema_every" not in tables["optimizer"] and tables["loss"].get("ratio") == "auto":
            begun["loss"] = {**tables["loss"], "ratio": "location"}
        return begun

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        rollout = self.rollout
        if self.estimator == "forward":
            self._check_forward()
        else:
            self._check_noisy_steps()
        if self.total % (rollout.batch_size * self.optimizer.minibatches):
            raise ValueError(
                f"prompts × samples = {self.total} is no multiple of batch_size × minibatches = "
                f"{rollout.batch_size * self.optimizer.minibatches}"
            )
        if self.credit.minimum_group > rollout.samples:
            raise ValueError(f"minimum_group {self.credit.minimum_group} is more than samples {rollout.samples}")
        self._check_pairs()
        self._check_artifact_guard()
        return self

    def _check_artifact_guard(self) -> None:
        guard, learned = self.monitoring.artifact_guard, self.rewards.detector
        if guard is None or self.credit.advantage == "scalar":
            return
        if guard.kind == learned.kind and (guard.kind != "vlm" or _model_of(guard) == _model_of(learned)):
            raise ValueError("the artifact guard is the detector that is learned from: it has to be another one")

    def _check_pairs(self) -> None:
        """A pairwise reward compares the images of one prompt, so they have to come together."""
        rollout, guard = self.rollout, self.monitoring.guard
        if guard is not None and guard.pairwise:
            raise ValueError(f"the guard scores single images, which {guard.kind!r} does not")
        if any(part.pairwise for part in self.rewards.base) and rollout.batch_size % rollout.samples:
            raise ValueError(
                f"a pairwise reward compares a prompt's images with each other: batch_size ({rollout.batch_size}) is a "
                f"multiple of samples ({rollout.samples}) then"
            )

    def _check_noisy_steps(self) -> None:
        rollout = self.rollout
        first, after = rollout.window
        if not first < after <= rollout.steps:
            raise ValueError(f"window {first}..{after} is no range of the {rollout.steps} steps")
        if rollout.sde_steps > after - first:
            raise ValueError(f"{rollout.sde_steps} sde_steps do not fit into a window of {after - first}")
        if rollout.train_steps is not None and rollout.train_steps > rollout.sde_steps:
            raise ValueError(f"train_steps {rollout.train_steps} is more than sde_steps {rollout.sde_steps}")
        if rollout.dynamics == "cps" and (after == rollout.steps or rollout.noise_level > 1):
            raise ValueError(
                "cps has no noise in the last step (end the window before it), and noise_level is at most 1"
            )

        if self.loss.normalise_ratio and self.loss.weigh_steps:
            raise ValueError("normalise_ratio weighs the steps itself: weigh_steps is for training without it")
        if (rollout.share_prefix or rollout.branches > 1) and not rollout.shared_noise:
            raise ValueError("share_prefix and branches need shared_noise: else the images of a group share no path")
        if rollout.branches > 1:
            self._check_branches()

    def _check_branches(self) -> None:
        rollout = self.rollout
        count, width = rollout.branches, rollout.window[1] - rollout.window[0]
        if rollout.sde_steps != 1:
            raise ValueError(
                f"branches are told apart by their one noisy step: sde_steps is 1, not {rollout.sde_steps}"
            )
        if count > width:
            raise ValueError(f"{count} branches need as many steps of the window, which has {width}")
        if rollout.prompts % count:
            raise ValueError(f"prompts, which counts groups ({rollout.prompts}), is no multiple of branches ({count})")
        if rollout.samples % rollout.batch_size:
            raise ValueError(
                f"images that are held together branch at one step: samples ({rollout.samples}) is a multiple of "
                f"batch_size ({rollout.batch_size}) where there are branches"
            )

    def _check_forward(self) -> None:
        steps, window = self.rollout.steps, self.forward.level_window
        if window is not None and not window[0] < window[1] <= steps:
            raise ValueError(f"level_window {window[0]}..{window[1]} is no range of the {steps} steps")
        if self.loss.trust_region != "ratio" or self.loss.normalise_ratio:
            raise ValueError("trust_region kl and normalise_ratio are for policy-gradient")
        if self.rollout.shared_noise:
            raise ValueError(
                "shared_noise is for policy-gradient: without noise in the steps, equal starts are equal images"
            )

    @property
    def total(self) -> int:
        """Images of a rollout, of all processes together."""
        return self.rollout.prompts * self.rollout.samples

    @property
    def ratio_kind(self) -> Literal["location", "image", "image-value"]:
        """The ratio that `loss.ratio` means for this kind of advantage."""
        ratio, advantage = self.loss.ratio, self.credit.advantage
        if ratio != "auto":
            return ratio
        return "location" if advantage == "box" else "image-value" if advantage == "dense-heatmap" else "image"

    def check_processes(self, processes: int) -> None:
        """Check that the images of a rollout can be dealt out evenly.

        Raises:
            ConfigError: where some process would get fewer chunks than another.
        """
        each = self.rollout.batch_size * self.optimizer.minibatches * processes
        if self.total % each:
            raise ConfigError(
                f"prompts × samples = {self.total} is no multiple of batch_size × minibatches × processes = {each}",
                hint="--set rollout.batch_size=N, rollout.prompts=N or rollout.samples=N.",
            )


def ema_decay(settings: OptimizerSettings, rollout: int) -> float | None:
    """The share that the averaged weights keep of themselves at the end of a rollout.

    Args:
        settings: the training's.
        rollout: from 0.

    Returns:
        The decay; None in rollouts that do not move it, or where each optimizer step does.
    """
    if not settings.ema_every or (rollout + 1) % settings.ema_every:
        return None
    if not settings.ema_warmup:
        return settings.ema
    return min(settings.ema, (1 + rollout) / (settings.ema_warmup + rollout))


def _model_of(detector: DetectorSettings) -> tuple[str, str, str]:
    return detector.vlm.backend, detector.vlm.model, detector.vlm.revision


_UNNAMED = frozenset(name for name in MonitoringSettings.model_fields if name.startswith(("artifact_guard", "trial_")))
"""Flat keys of settings that no name is made of: nothing is learned from them."""
_NEWER: dict[str, Any] = {
    "estimator": "policy-gradient",
    "ema_every": 0,
    "ema_warmup": 0,
    **ForwardSettings().model_dump(mode="json"),
    "box_total": "area",
    **{name: LossSettings.model_fields[name].default for name in ("trust_region", "kl_limit", "normalise_ratio")},
    **{name: RolloutSettings.model_fields[name].default for name in ("share_prefix", "branches")},
}
"""Flat key -> default of the settings that came after names were made of configurations."""


def identity(config: BoxFlowConfig) -> dict[str, Any]:
    """The flat JSON that names of a training are hashes of.

    Args:
        config: the training's.

    Returns:
        Every setting, but of those that are newer than such names the ones that differ from their default: so a
        training from before keeps its name.
    """
    values = {name: value for name, value in flat_json(config).items() if name not in _UNNAMED}
    return {name: value for name, value in values.items() if name not in _NEWER or value != _NEWER[name]}
