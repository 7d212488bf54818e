"""Run by one process or two: a training of two rollouts, its weights to a file. Arguments: folder, kind, pipeline."""

import sys
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from tests.trainers.boxflow.support import Broken, tiny_task
from trainers.boxflow.trainer import BoxFlowTrainer


def main() -> None:
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    more = {"detector": Broken("garbage", every=1), "max_failure_rate": 0.2} if kind == "failing" else {}
    # groups of four in chunks of two: with two processes each group is split between them
    task = tiny_task(folder, rollouts=2, passes=2, minibatches=2, beta=0.1, sample_every=1, **more)
    # read from disk: tokenizers are not learned alike in two processes
    task.pipeline = DiffusionPipeline.from_pretrained(sys.argv[3])
    task.held_out = ("a yellow star at the left", "a blue circle at the top", "a red star at the right")
    trainer = BoxFlowTrainer(task)
    trainer.train()
    if trainer.main:
        torch.save(dict(zip(trainer.named, trainer.ema.average, strict=True)), folder / "weights.pt")


if __name__ == "__main__":
    main()
