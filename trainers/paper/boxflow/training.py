"""One training of the miniature: its model, prompts and rewards around a configuration."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from generators.models.loading import load_pipeline
from generators.revisions import revision_of
from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.credit import compute_advantages
from trainers.boxflow.trainer import BoxFlowTrainer, Task
from trainers.paper.boxflow.arms import LOOKED_AT, judged_prompts, training_prompts
from trainers.paper.boxflow.model import preset
from trainers.paper.boxflow.mosaic import mosaic_advantages
from trainers.rewards.settings import make_detector, make_reward


def make_trainer(config: BoxFlowConfig, out: Path, objects: int | None = None) -> BoxFlowTrainer:
    """A trainer whose run is in the folder `out`; the judge of the result looks at the end alone, at other prompts.

    Args:
        config: an arm's.
        out: the run's folder.
        objects: of an image (`trainers.paper.boxflow.mosaic`); none: each image is one of the model's, of one or two.

    Returns:
        The trainer, gone on from its last checkpoint.
    """
    model = preset()
    revision = revision_of(model)
    return BoxFlowTrainer(
        Task(
            config=config,
            preset=model,
            revision=revision,
            pipeline=load_pipeline(model, revision),
            prompts=training_prompts(one_object=objects is not None),
            held_out=judged_prompts(LOOKED_AT, tuning=True, one_object=objects is not None),
            reward=make_reward(config.rewards.base),
            detector=make_detector(config.rewards.detector),
            held_out_reward=None if config.monitoring.guard is None else make_reward((config.monitoring.guard,)),
            out=out,
            credit=partial(mosaic_advantages, panels=objects) if objects else compute_advantages,
        )
    )
