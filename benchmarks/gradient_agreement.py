"""How much 96 images say about where the weights should go, by each kind of advantage and each estimator.

Rollouts of the paper in miniature's model, each with other prompts and other noise, weights fixed. Of every rollout the
gradient of each advantage is taken: on the same images for each advantage of an estimator, and on the same prompts for
both estimators, which sample differently. Printed for each:

    agreement   mean cosine between the gradients of two rollouts: s² of a signal s in a unit of signal and noise
    alignment   cosine between its expected gradient and that of R = −burden (what the judge counts) by the policy
                gradient, noise divided out: agreement of the two / root of the product of both agreements
    progress    alignment · √agreement: what a step of fixed length gains on the burden, in expectation

The oracle is detector and reward here: this is about credit assignment, not about the detector.

`--objects 1 2 3 4 6` asks where place should matter: images are then of one object, and K of them side by side are one
image of K objects with one reward (`trainers.paper.boxflow.mosaic`). All K learn from the same panels.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import torch

from sdg_data.mini.oracle import find_defects
from trainers.boxflow.config import changed
from trainers.boxflow.rollout import chunks_of, group_ids, plan_rollout
from trainers.boxflow.trainer import BoxFlowTrainer
from trainers.paper.boxflow.arms import configuration
from trainers.paper.boxflow.mosaic import mosaic_advantages
from trainers.paper.boxflow.training import make_trainer

ARMS: Final[dict[str, dict[str, Any]]] = {
    "Flow-GRPO": {"credit.advantage": "scalar"},
    "scalar with boxes, α 2": {
        "credit.advantage": "scalar-boxes",
        "credit.weight_artifact": 2.0,
        "credit.weight_misalignment": 2.0,
    },
    "BoxFlow, paper's α": {
        "credit.advantage": "box",
        "credit.weight_artifact": 0.5,
        "credit.weight_misalignment": 0.05,
    },
    "BoxFlow, α 3": {"credit.advantage": "box", "credit.weight_artifact": 3.0, "credit.weight_misalignment": 3.0},
    "BoxFlow, α 3, margin 1": {
        "credit.advantage": "box",
        "credit.weight_artifact": 3.0,
        "credit.weight_misalignment": 3.0,
        "credit.box_margin": 1.0,
    },
    "BoxFlow, α 1.5, margin 2": {
        "credit.advantage": "box",
        "credit.weight_artifact": 1.5,
        "credit.weight_misalignment": 1.5,
        "credit.box_margin": 2.0,
    },
}
TRAININGS: Final = {"policy-gradient": "boxflow", "forward": "boxflow-forward"}
"""Estimator -> the arm of the paper in miniature whose sampler and loss it takes."""
BURDEN: Final = "R = −burden"

Contender = tuple[str, int]
"""An advantage, and of how many objects an image is."""


class Measured:
    """Gradients of one estimator: by contender, one flat gradient of each rollout; `burdens` are of the images."""

    def __init__(self, trainer: BoxFlowTrainer, contenders: list[Contender]) -> None:
        self.trainer = trainer
        self.gradients: dict[Contender, list[torch.Tensor]] = {contender: [] for contender in contenders}
        self.burdens: list[float] = []
        self.seconds = {"sampling": 0.0, "learning": 0.0}

    def rollout(self, number: int) -> None:
        """Sample a rollout, and take the gradient of each advantage."""
        trainer, config = self.trainer, self.trainer.config
        policy, estimator, ids = trainer.policy, trainer.estimator, group_ids(config)
        started = time.process_time()
        plan = plan_rollout(config, trainer.task.prompts, number)
        chunks = list(estimator.sample(plan, chunks_of(config, 0, 1), trainer.accelerator.device))
        self.seconds["sampling"] += time.process_time() - started
        images = [image for chunk in chunks for image in chunk.images]
        defects = [find_defects(image.pixels, image.prompt) for image in images]
        burden = [sum(defect.importance for defect in some) / 100 for some in defects]
        self.burdens += burden
        base = [score.value for score in asyncio.run(trainer.task.reward.score(images))]
        estimator.begin(chunks)
        started = time.process_time()
        for (name, objects), gradients in self.gradients.items():
            arm = changed(config, {"credit.box_margin": 0.0, **ARMS.get(name, {"credit.advantage": "scalar"})})
            rewards = [-value for value in burden] if name == BURDEN else base
            advantages = mosaic_advantages(arm, rewards, defects, ids, policy.grid, panels=objects)
            for parameter in trainer.named.values():
                parameter.grad = None
            for chunk in chunks:
                for term in estimator.terms(chunk):
                    loss = estimator.loss(chunk, term, advantages, config.total)
                    (loss.value * loss.weight).backward()
            parts = [parameter.grad.flatten() for parameter in trainer.named.values() if parameter.grad is not None]
            gradients.append(torch.cat(parts).clone())
        self.seconds["learning"] += (time.process_time() - started) / len(self.gradients)


def cosines(first: list[torch.Tensor], second: list[torch.Tensor]) -> npt.NDArray[np.float64]:
    """Between gradients of different rollouts: (rollouts · (rollouts − 1),)."""
    pairs = itertools.permutations(range(len(first)), 2)
    return np.array([float(torch.cosine_similarity(first[a], second[b], dim=0)) for a, b in pairs])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=12)
    parser.add_argument("--seed", type=int, default=201)
    parser.add_argument("--estimators", nargs="+", choices=TRAININGS, default=list(TRAININGS))
    parser.add_argument("--advantages", nargs="+", choices=[*ARMS], default=[*ARMS], metavar="NAME")
    parser.add_argument("--objects", type=int, nargs="+", metavar="K", help="of an image; none: one or two, as drawn")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="of the estimator forward")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    changes = {name: json.loads(value) for name, _, value in (change.partition("=") for change in options.set)}
    counts = options.objects or [1]
    contenders = [(BURDEN, 1), *((name, count) for name in options.advantages for count in counts)]
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        # The policy gradient comes first and always: the others are compared with what it says of the burden.
        for estimator in dict.fromkeys(["policy-gradient", *options.estimators]):
            more = changes if estimator == "forward" else {}
            config = configuration(TRAININGS[estimator], options.seed, options.rollouts, "oracle", more)
            trainer = make_trainer(config, Path(folder) / estimator, objects=1 if options.objects else None)
            measured[estimator] = Measured(trainer, contenders)
        for number in range(options.rollouts):
            for estimated in measured.values():
                estimated.rollout(number)
            print(f"rollout {number + 1}/{options.rollouts}", file=sys.stderr)
    print(f"{options.rollouts} rollouts, seed {options.seed} {changes or ''}")
    for estimator, estimated in measured.items():
        seconds = ", ".join(f"{name} {value / options.rollouts:.1f} s" for name, value in estimated.seconds.items())
        print(
            f"{estimator}: burden of the sampled images {np.mean(estimated.burdens):.3f}; CPU of a rollout: {seconds}"
        )
    print("| estimator | advantage | objects | agreement | alignment | progress |\n|---|---|---|---|---|---|")
    reference = measured["policy-gradient"].gradients[BURDEN, 1]
    ideal = cosines(reference, reference).mean()
    for estimator, estimated in measured.items():
        for (name, count), own in estimated.gradients.items():
            agreement = cosines(own, own)
            # pairs of rollouts share rollouts; half of them are independent at best
            error = agreement.std() / np.sqrt(len(agreement) / 2)
            scale = np.sqrt(max(agreement.mean(), 0.0) * max(ideal, 0.0))
            alignment = cosines(own, reference).mean() / scale if scale else np.nan
            progress = alignment * np.sqrt(max(agreement.mean(), 0.0))
            figures = f"{agreement.mean():.4f} ± {error:.4f} | {alignment:.2f} | {progress:.3f}"
            objects = count if options.objects else "as drawn"
            print(f"| {estimator} | {name} | {objects} | {figures} |")


if __name__ == "__main__":
    main()
