"""The configurations of a doctor's trainings, and their recipes.

They are the detector's (`trainers.detector.sft_config`, `grpo_config`) with three groups more: the form of the answer,
the heatmaps, and for reinforcement learning the rewards. `stage1` learns scores alone, `stage2` everything, `rft` is
the reinforcement learning; the constants of the recipes are ImageDoctor's (arXiv 2510.01010 and its public code).
"""

from __future__ import annotations

from typing import Final, Literal

from trainers.common.config import AboveZero, ConfigGroup
from trainers.detector.grpo_config import AnswerSettings, GrpoConfig, GrpoDataSettings, ObjectiveSettings
from trainers.detector.sft_config import SftConfig, SftDataSettings
from trainers.detector.train_config import (
    DetectorOptimizer,
    DetectorSaving,
    EvaluationSettings,
    ModelSettings,
    MuonSettings,
)
from trainers.doctor.form import AnswerForm
from trainers.doctor.head import HeadShape
from trainers.doctor.reward import RewardProtocol


class FormSettings(ConfigGroup):
    """The parts of an answer, see `trainers/doctor/form.py`; each switch is one of the paper's ablations."""

    maps: bool = True
    """Ask for heatmaps: stage 2. False: scores alone, stage 1."""
    look: bool = True
    """Propose regions to look at."""
    think: bool = True
    """Reason about them: the sample's trace. (`data.trace` is a detector's; a doctor goes by this.)"""
    typed: bool = True
    """Regions say their type and count in thousandths; false: the public form, pixels of 512 without a type."""
    short: bool = False
    """Ask the short question, for models that learn everything from the answers."""

    @property
    def answer(self) -> AnswerForm:
        """The form itself."""
        return AnswerForm(maps=self.maps, look=self.look, think=self.think, typed=self.typed)


class HeatmapSettings(ConfigGroup):
    """The heatmap decoder, where the training makes one: a model that has one already keeps it."""

    weight: AboveZero = 1.0
    """λ of the maps' squared errors beside the text's loss. The published value is in no public file."""
    decoder: Literal["published", "mini"] = "published"
    """Its sizes: 768 wide and 16 cells a visual token, or 64 and 8."""
    task_tokens: bool = True
    """The decoder is asked by the task tokens' states; false: by learned vectors (the ablation)."""

    @property
    def shape(self) -> HeadShape:
        """The sizes themselves."""
        if self.decoder == "mini":
            return HeadShape.mini(task_tokens=self.task_tokens)
        return HeadShape(task_tokens=self.task_tokens)


class DoctorRewardSettings(ConfigGroup):
    """The rewards of the reinforcement learning, see `trainers/doctor/reward.py`."""

    protocol: RewardProtocol = RewardProtocol.PAPER
    """Whose constants: paper, or code (the public repository's)."""


class DoctorSftConfig(SftConfig):
    """All settings of a doctor's supervised training, stage 1 or stage 2."""

    form: FormSettings = FormSettings()
    heatmaps: HeatmapSettings = HeatmapSettings()


class DoctorGrpoConfig(GrpoConfig):
    """All settings of a doctor's reinforcement learning."""

    form: FormSettings = FormSettings()
    reward: DoctorRewardSettings = DoctorRewardSettings()


DoctorConfig = DoctorSftConfig | DoctorGrpoConfig
_PIXELS: Final = 512


def stage1() -> DoctorSftConfig:
    """The public code's stage 1: scores alone, all of the language model, lr 1e-5 cosine, warm-up .1, 5 epochs.

    Its batch is 1 a GPU; here 8 in all. Images are shown with at most 512 pixels a side.

    Returns:
        The configuration.
    """
    return DoctorSftConfig(
        recipe="stage1",
        data=SftDataSettings(max_side=_PIXELS, max_tokens=14_000, jitter=0.0, held_out=0.02),
        optimizer=DetectorOptimizer(learning_rate=1e-5, warmup=0.1, epochs=5, batch_size=8),
        evaluation=EvaluationSettings(eval_every=500, eval_limit=512, eval_max_tokens=4096),
        saving=DetectorSaving(save_every=500),
        form=FormSettings(maps=False, look=False, think=False),
    )


def stage2() -> DoctorSftConfig:
    """The public code's stage 2: trace, task tokens and decoder, from stage 1's model; 3 epochs, else the same."""
    first = stage1()
    return first.model_copy(
        update={
            "recipe": "stage2",
            "optimizer": first.optimizer.model_copy(update={"epochs": 3}),
            "form": FormSettings(),
        }
    )


def rft() -> DoctorGrpoConfig:
    """The public code's reinforcement learning: 8 answers, lr 2e-6, β .04, T 1, 2 epochs, 8 answers a step and GPU."""
    return DoctorGrpoConfig(
        recipe="rft",
        data=GrpoDataSettings(max_side=_PIXELS, max_prompt_tokens=4096),
        optimizer=DetectorOptimizer(learning_rate=2e-6, epochs=2, batch_size=64, micro_batch=1),
        evaluation=EvaluationSettings(eval_every=50, eval_limit=512, eval_max_tokens=4096),
        saving=DetectorSaving(log_every=1, save_every=50),
        answers=AnswerSettings(group=8, temperature=1.0, top_p=1.0, max_new_tokens=4096),
        objective=ObjectiveSettings(beta=0.04),
    )


_TINY = ModelSettings(freeze_vision=False, precision="fp32", checkpointing=False, device="cpu")


def mini_stage1() -> DoctorSftConfig:
    """Stage 1 in the mini world, on one core, from `sdg train mini-doctor base`."""
    return DoctorSftConfig(
        recipe="mini-stage1",
        model=_TINY,
        data=SftDataSettings(max_tokens=1024, jitter=0.0, held_out=0.05, workers=0),
        optimizer=DetectorOptimizer(
            learning_rate=6e-4,
            adam_betas=(0.9, 0.98),
            weight_decay=0.02,
            muon=MuonSettings(),
            epochs=1,
            batch_size=16,
            micro_batch=16,
        ),
        evaluation=EvaluationSettings(eval_every=200, eval_limit=100, eval_batch=50, eval_max_tokens=256, pictures=4),
        saving=DetectorSaving(log_every=10, save_every=100),
        form=FormSettings(maps=False, look=False, think=False, short=True),
        heatmaps=HeatmapSettings(decoder="mini", weight=20.0),
    )


def mini_stage2() -> DoctorSftConfig:
    """Stage 2 in the mini world, from stage 1's model; regions are jittered as a detector's boxes are."""
    first = mini_stage1()
    return first.model_copy(
        update={
            "recipe": "mini-stage2",
            "form": FormSettings(short=True),
            "data": first.data.model_copy(update={"jitter": 10.0}),
        }
    )


def mini_rft() -> DoctorGrpoConfig:
    """Reinforcement learning in the mini world, from stage 2's model: 8 questions a step."""
    return DoctorGrpoConfig(
        recipe="mini-rft",
        model=_TINY,
        data=GrpoDataSettings(max_prompt_tokens=512, held_out=0.05, workers=0),
        optimizer=DetectorOptimizer(learning_rate=5e-5, max_steps=40, batch_size=64, micro_batch=32),
        evaluation=EvaluationSettings(eval_every=20, eval_limit=100, eval_batch=50, eval_max_tokens=256, pictures=4),
        saving=DetectorSaving(log_every=1, save_every=20),
        answers=AnswerSettings(max_new_tokens=256, top_p=1.0),
        form=FormSettings(short=True),
    )


RECIPES = {"stage1": stage1, "stage2": stage2, "mini-stage1": mini_stage1, "mini-stage2": mini_stage2}
"""Of `sdg train doctor sft`."""
RFT_RECIPES = {"rft": rft, "mini-rft": mini_rft}
"""Of `sdg train doctor grpo`."""
