"""How much 96 images say about where the weights should go, by each kind of advantage.

Rollouts of the paper in miniature's model, each with other prompts and other noise, weights fixed. Of every rollout the
gradient of each advantage is taken, on the same images. Printed for each:

    agreement   mean cosine between the gradients of two rollouts: s² of a signal s in a unit of signal and noise
    alignment   cosine between its expected gradient and that of R = −burden (what the judge counts), noise divided out:
                agreement of the two / root of the product of both agreements
    progress    alignment · √agreement: what a step of fixed length gains on the burden, in expectation

The oracle is detector and reward here: this is about credit assignment, not about the detector.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import torch

from sdg_data.mini.oracle import find_defects
from trainers.boxflow.config import changed
from trainers.boxflow.credit import compute_advantages
from trainers.boxflow.loss import policy_loss, step_weights
from trainers.boxflow.rollout import chunks_of, group_ids, noise_stds, plan_rollout, sample, step
from trainers.paper.boxflow.arms import configuration
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
}
BURDEN: Final = "R = −burden"


def gradients(rollouts: int, seed: int, changes: dict[str, Any]) -> tuple[dict[str, list[torch.Tensor]], float]:
    """By advantage: one flat gradient of each rollout; and the mean burden of the images."""
    config = configuration("boxflow", seed, rollouts, "oracle", changes)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(config, Path(folder) / "run")
    policy, device, ids = trainer.policy, trainer.accelerator.device, group_ids(config)
    directions: dict[str, list[torch.Tensor]] = {name: [] for name in (BURDEN, *ARMS)}
    burdens = []
    for number in range(rollouts):
        plan = plan_rollout(config, trainer.task.prompts, number)
        chunks = [chunk for rows in chunks_of(config, 0, 1) for chunk in sample(policy, plan, [rows], device)]
        images = [image for chunk in chunks for image in chunk.images]
        defects = [find_defects(image.pixels, image.prompt) for image in images]
        burden = [sum(defect.importance for defect in some) / 100 for some in defects]
        burdens += burden
        base = [score.value for score in asyncio.run(trainer.task.reward.score(images))]
        weights = step_weights(noise_stds(policy, plan.trained), config.loss.weigh_steps)
        for name in directions:
            arm = changed(config, {"credit.box_margin": 0.0, **ARMS.get(name, {"credit.advantage": "scalar"})})
            rewards = [-value for value in burden] if name == BURDEN else base
            advantages = compute_advantages(arm, rewards, defects, ids, policy.grid)
            for parameter in trainer.named.values():
                parameter.grad = None
            for place, chunk in itertools.product(range(len(plan.trained)), chunks):
                transition, rows = chunk.transitions[place], slice(chunk.indices.start, chunk.indices.stop)
                again = step(policy, transition.sample, transition.step, chunk.text, next_sample=transition.next_sample)
                local = advantages.rows(rows, packed=transition.sample.dim() == 3)
                counts = advantages.counts[rows]
                loss = policy_loss(
                    again.log_prob,
                    transition.log_prob,
                    local,
                    config.loss.clip,
                    counts=counts,
                    denominator=config.total,
                )
                (loss.value * weights[place]).backward()
            parts = [parameter.grad.flatten() for parameter in trainer.named.values() if parameter.grad is not None]
            directions[name].append(torch.cat(parts).clone())
        print(f"rollout {number + 1}/{rollouts}", file=sys.stderr)
    return directions, float(np.mean(burdens))


def cosines(first: list[torch.Tensor], second: list[torch.Tensor]) -> npt.NDArray[np.float64]:
    """Between gradients of different rollouts: (rollouts · (rollouts − 1),)."""
    pairs = itertools.permutations(range(len(first)), 2)
    return np.array([float(torch.cosine_similarity(first[a], second[b], dim=0)) for a, b in pairs])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=12)
    parser.add_argument("--seed", type=int, default=201)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    changes = {name: json.loads(value) for name, _, value in (change.partition("=") for change in options.set)}
    directions, burden = gradients(options.rollouts, options.seed, changes)
    print(
        f"burden of the sampled images {burden:.3f}; {options.rollouts} rollouts, seed {options.seed} {changes or ''}"
    )
    print("| advantage | agreement | alignment | progress |\n|---|---|---|---|")
    ideal = cosines(directions[BURDEN], directions[BURDEN]).mean()
    for name, own in directions.items():
        agreement = cosines(own, own)
        # pairs of rollouts share rollouts; half of them are independent at best
        error = agreement.std() / np.sqrt(len(agreement) / 2)
        scale = np.sqrt(max(agreement.mean(), 0.0) * max(ideal, 0.0))
        alignment = cosines(own, directions[BURDEN]).mean() / scale if scale else np.nan
        progress = alignment * np.sqrt(max(agreement.mean(), 0.0))
        print(f"| {name} | {agreement.mean():.4f} ± {error:.4f} | {alignment:.2f} | {progress:.3f} |")


if __name__ == "__main__":
    main()
