"""What BoxFlow-GRPO costs over Flow-GRPO; aims: at most 3 % a step, and 50 ms for the maps and advantages of a rollout.

Two parts:

- reward maps and advantages of 768 images (48 groups of 16) at 64×64 cells, 0 to 4 boxes each, on one core;
- whole steps (sampling, advantages, learning) of a FLUX-shaped model with random weights, by `box` and by `scalar` in
  turn in one run; the detector's and the reward's own time is none, their answers are made up. Memory is the peak of a
  process that does one kind alone (on a GPU, of what torch has allocated).

What counts on a CPU is CPU time: it is what an undisturbed core would take. With a GPU: --device cuda --width 3072
--double 4 --single 8 --size 512 is a model of 1.2 billion parameters at 512².

    python benchmarks/boxflow.py [--rounds 7] [--device cpu] [--width 128] [--double 1] [--single 2] [--size 128]
"""

import argparse
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from generators.models.flow import Conditioning
from generators.models.flux1 import FluxFlow
from generators.models.presets import Preset
from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from trainers.boxflow.advantage import group_advantages
from trainers.boxflow.config import (
    BoxFlowConfig,
    BoxFlowLora,
    CreditSettings,
    MonitoringSettings,
    PolicySettings,
    RewardGroup,
    RolloutSettings,
    SavingSettings,
)
from trainers.boxflow.credit import compute_advantages
from trainers.boxflow.reward_map import group_sigma, known_rewards, reward_maps
from trainers.boxflow.rollout import chunks_of, group_ids, plan_rollout, sample
from trainers.boxflow.trainer import BoxFlowTrainer, Task
from trainers.rewards.mini import PaletteReward
from trainers.rewards.settings import RewardSettings

AIM_SECONDS, AIM_OVERHEAD = 0.050, 0.03
IMAGES, SAMPLES, CELLS = 768, 16, 64
FEATURES, TOKENS = 64, 32


def boxes(rng: random.Random) -> list[Defect]:
    """0 to 4 of them, 2 on average."""

    def one() -> Defect:
        x, y = rng.randrange(900), rng.randrange(900)
        width, height = rng.randrange(50, 500), rng.randrange(50, 500)
        return Defect(
            box=Box(x0=x, y0=y, x1=min(1000, x + width), y1=min(1000, y + height)),
            type=rng.choice(list(DefectType)),
            reason="something",
            importance=rng.randint(1, 100),
        )

    return [one() for _ in range(rng.choice((0, 1, 2, 3, 4)))]


def functions(rounds: int) -> None:
    """The first part."""
    rng = random.Random(0)
    images = [boxes(rng) for _ in range(IMAGES)]
    rewards = [rng.random() for _ in range(IMAGES)]
    ids = torch.arange(IMAGES) // SAMPLES

    def work() -> None:
        sigma = group_sigma(known_rewards(rewards, images), ids, 0.01)
        group_advantages(reward_maps(rewards, images, (CELLS, CELLS), 0.5 * sigma, 0.05 * sigma), ids)

    torch.set_num_threads(1)
    work()
    times = [cpu_time(work) for _ in range(rounds)]
    median = statistics.median(times)
    verdict = "met" if median < AIM_SECONDS else "MISSED"
    print(
        f"reward maps + advantages, {IMAGES} images, {CELLS}×{CELLS} cells, {sum(map(len, images))} boxes: "
        f"{1000 * median:.1f} ms of one core (best {1000 * min(times):.1f}; aim {1000 * AIM_SECONDS:.0f}: {verdict})"
    )


def cpu_time(work: Callable[[], object]) -> float:
    """Of this process, in seconds."""
    started = time.process_time()
    work()
    return time.process_time() - started


class Wordless(FluxFlow):
    """FLUX.1's conventions with made-up text features: text encoders have no part in what is measured."""

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Random, the same for the same text."""
        rows = []
        for prompt in prompts:
            generator = torch.Generator().manual_seed(len(prompt))
            rows.append(torch.randn(TOKENS + 1, FEATURES, generator=generator))
        features = torch.stack(rows).to(self.pipeline.transformer.device)
        mask = torch.ones(len(rows), TOKENS, dtype=torch.bool, device=features.device)
        kind = self.pipeline.transformer.dtype
        return Conditioning(features[:, 1:].to(kind), mask, features[:, 0].to(kind))


def pipeline_of(options: argparse.Namespace) -> Any:
    """FLUX-shaped, random weights."""
    import diffusers

    heads = options.width // 128 if options.width >= 1024 else options.width // 32
    side = options.width // heads
    axes = (16, 56, 56) if side == 128 else (8, 12, 12)
    torch.manual_seed(0)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=options.double,
        num_single_layers=options.single,
        attention_head_dim=side,
        num_attention_heads=heads,
        joint_attention_dim=FEATURES,
        pooled_projection_dim=FEATURES,
        axes_dims_rope=axes,
        guidance_embeds=True,
    )
    vae = diffusers.AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 16, 16),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.1159,
        scaling_factor=0.3611,
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    return diffusers.FluxPipeline(
        scheduler=scheduler,
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=transformer,
    )


class Bench:
    """A trainer of one kind of advantage, and its steps with made-up answers."""

    def __init__(self, kind: str, options: argparse.Namespace, folder: Path) -> None:
        gpu = options.device != "cpu"
        config = BoxFlowConfig(
            recipe="benchmark",
            policy=PolicySettings(
                model="random",
                width=options.size,
                height=options.size,
                guidance=3.5,
                lora=BoxFlowLora(rank=64, alpha=128),
                precision="bf16" if gpu else "fp32",
                checkpointing=gpu,
                device="auto" if gpu else "cpu",
            ),
            rollout=RolloutSettings(steps=4, prompts=2, samples=8, batch_size=4, window=(1, 4), sde_steps=1),
            credit=CreditSettings(advantage=kind),
            rewards=RewardGroup(base=(RewardSettings(kind="palette"),)),
            monitoring=MonitoringSettings(sample_every=0),
            saving=SavingSettings(report="none"),
        )
        preset = Preset(name="random", pipeline="FluxPipeline", repository="random")
        task = Task(
            config,
            preset,
            "1",
            pipeline_of(options),
            ["a", "bb", "ccc"],
            (),
            PaletteReward(),
            None if kind == "scalar" else Silent(),
            None,
            folder / kind,
        )
        self.trainer = BoxFlowTrainer(task)
        policy = self.trainer.policy
        policy.flow = wordless(policy.flow)
        self.number = 0

    def step(self) -> float:
        """Seconds of one step: CPU time, or wall time on a GPU."""
        trainer, config = self.trainer, self.trainer.config
        device = trainer.accelerator.device
        rng = random.Random(self.number)
        images = [boxes(rng) for _ in range(config.total)]
        rewards = [rng.random() for _ in range(config.total)]
        gpu = device.type == "cuda"
        if gpu:
            torch.cuda.synchronize()
        started = time.perf_counter() if gpu else time.process_time()
        plan = plan_rollout(config, trainer.task.prompts, self.number)
        chunks = list(sample(trainer.policy, plan, chunks_of(config, 0, 1), device))
        advantages = compute_advantages(config, rewards, images, group_ids(config), trainer.policy.grid)
        trainer.updater.learn(chunks, advantages)
        if gpu:
            torch.cuda.synchronize()
        self.number += 1
        return (time.perf_counter() if gpu else time.process_time()) - started

    def memory(self) -> float:
        """The peak so far, in MB."""
        if self.trainer.accelerator.device.type == "cuda":
            return float(torch.cuda.max_memory_allocated()) / 1e6
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


class Silent:
    """A detector that is never asked."""

    name = "silent"


def wordless(flow: Any) -> Wordless:
    """The same flow without text encoders."""
    other = Wordless(flow.pipeline, TOKENS)
    other.grid = flow.grid
    return other


def main() -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--double", type=int, default=1)
    parser.add_argument("--single", type=int, default=2)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--alone", choices=("box", "scalar"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.alone:
            bench = Bench(options.alone, options, Path(folder))
            bench.step()
            bench.step()
            print(bench.memory())
            return
        functions(options.rounds)
        benches = {kind: Bench(kind, options, Path(folder)) for kind in ("scalar", "box")}
        count = sum(parameter.numel() for parameter in benches["box"].trainer.policy.model.parameters())
        for bench in benches.values():
            bench.step()  # warms up
        times: dict[str, list[float]] = {kind: [] for kind in benches}
        for number in range(options.rounds):
            for kind in sorted(benches, reverse=bool(number % 2)):
                times[kind].append(benches[kind].step())
    ratios = [box / scalar for box, scalar in zip(times["box"], times["scalar"], strict=True)]
    overhead = statistics.median(ratios) - 1
    peaks = {kind: alone(kind) for kind in times}
    print(f"{count / 1e6:.1f} M parameters with LoRA, {options.size}², on {options.device}; 16 images a step")
    for kind, values in times.items():
        print(
            f"  {kind:7s} {statistics.median(values):.3f} s a step (best {min(values):.3f}), peak {peaks[kind]:.0f} MB"
        )
    verdict = "met" if overhead <= AIM_OVERHEAD else "MISSED"
    print(f"  overhead of box: {100 * overhead:+.1f} % (median of {len(ratios)} pairs; aim 3 %: {verdict})")


def alone(kind: str) -> float:
    """The peak memory of a process that does two steps of one kind."""
    command = [sys.executable, *(["-P"] if sys.flags.safe_path else []), *sys.argv, "--alone", kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
