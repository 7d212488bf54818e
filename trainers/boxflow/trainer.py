"""The training: sample a rollout, ask for rewards meanwhile, learn, look, save; again.

What this leaves out: reward models sharded over GPUs (serve them, `judge`), several nodes' shared file systems for
checkpoints (the first process writes them), and learning-rate schedules beyond a warm-up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object

from generators.memory import pick_device
from generators.models.presets import Preset
from generators.models.registry import flow_of
from sdg_data.errors import ConfigError, InputError
from sdg_data.ids import canonical_json, content_id
from trainers.boxflow import audit
from trainers.boxflow.advantages import Signal, describe, training_signal
from trainers.boxflow.audit import Audit
from trainers.boxflow.callbacks import StopSign, Watcher
from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.policy import Ema, Policy
from trainers.boxflow.rollout import Chunk, Draw, chunks_of, draw, group_ids, sample, sample_plainly
from trainers.boxflow.run_folder import RunFolder
from trainers.boxflow.saving import save_lora, save_whole
from trainers.boxflow.state import gathered, restored
from trainers.boxflow.update import Updater, drift
from trainers.rewards.contract import BaseReward, Detector, Shot
from trainers.rewards.scoring import Assessed, Scoring, check_failures

log = logging.getLogger(__name__)

_GUARD_SEED = 1_000_003


@dataclass
class Task:
    """What is trained, on what, by whom it is judged, and where it goes.

    `pipeline` is loaded and on the CPU. `held_out`: prompts for the sheet and the guard. `detector` may be None where
    the advantage needs none. `guard` is never learned from. `audit`: where audited images go.
    """

    config: BoxFlowConfig
    preset: Preset
    revision: str
    pipeline: Any
    prompts: Sequence[str]
    held_out: Sequence[str]
    reward: BaseReward
    detector: Detector | None
    guard: BaseReward | None
    out: Path
    audit: Audit | None = None


class BoxFlowTrainer:
    """One training in one process of maybe several."""

    def __init__(self, task: Task) -> None:
        """Prepares everything, and goes on from the last checkpoint of the folder. Raises ConfigError, InputError."""
        config = task.config
        self.task, self.config = task, config
        if not task.prompts:
            raise InputError("there are no prompts to train on")
        if task.detector is None and config.advantage != "scalar":
            raise ConfigError(f"the advantage {config.advantage!r} needs a detector")
        self.accelerator = Accelerator(
            cpu=config.device == "cpu" or pick_device("auto") == "cpu",
            mixed_precision="bf16" if config.precision == "bf16" else "no",
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.main = self.accelerator.is_main_process
        config.check_processes(self.accelerator.num_processes)
        self.folder = RunFolder(task.out)
        if self.main:
            self.folder.claim(self._note())
        self.accelerator.wait_for_everyone()
        self._prepare()
        self.done = 0
        self._resume()

    def train(self) -> dict[str, float]:
        """Run to the end; returns the last rollout's figures. Stops early, with a checkpoint, when asked to."""
        config = self.config
        scoring = Scoring(self.task.reward, self.task.detector, deadline=config.reward_deadline, guard=self.task.guard)
        watcher = None
        if self.main:
            watcher = Watcher(self.folder, config.rollouts, self.done, curves=config.report == "tensorboard")
        figures: dict[str, float] = {}
        try:
            with StopSign() as stop:
                if config.sample_every and self.done == 0:
                    self._look(scoring, watcher)
                while self.done < config.rollouts and not self._anywhere(stop.raised):
                    figures = self._rollout(scoring)
                    self.done += 1
                    last = self.done == config.rollouts or self._anywhere(stop.raised)
                    if config.sample_every and (self.done % config.sample_every == 0 or self.done == config.rollouts):
                        figures |= self._look(scoring, watcher)
                    if watcher is not None:
                        watcher.rollout(self.done, figures)
                    if last or self.done % config.save_every == 0:
                        self._save()
            self.stopped = self.done < config.rollouts
            if not self.stopped:
                self._export()
        finally:
            scoring.close()
            if watcher is not None:
                watcher.close()
        return figures

    def _prepare(self) -> None:
        config, task, accelerator = self.config, self.task, self.accelerator
        size = (config.height or task.preset.height, config.width or task.preset.width)
        guidance = task.preset.guidance if config.guidance is None else config.guidance
        kind = torch.bfloat16 if config.precision == "bf16" and config.lora is not None else torch.float32
        task.pipeline.to(accelerator.device)
        if task.pipeline.transformer.dtype != kind:
            task.pipeline.transformer.to(kind)
        self.policy = Policy(flow_of(task.preset, task.pipeline), config, size, guidance, accelerator)
        torch.manual_seed(config.seed)  # an adapter starts at random
        self.policy.prepare()
        model = task.pipeline.transformer
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=config.learning_rate, betas=config.adam_betas, weight_decay=config.weight_decay
        )
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        whole = accelerator.unwrap_model(self.model)
        task.pipeline.transformer = whole
        self.named = {name: one for name, one in whole.named_parameters() if one.requires_grad}
        if not self.named:
            raise ConfigError("nothing is trained", item="lora")
        self.ema = Ema(list(self.named.values()), config.ema)
        warmup = config.warmup
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            getattr(self.optimizer, "optimizer", self.optimizer), lambda step: min(1.0, (step + 1) / (warmup + 1))
        )
        self.updater = Updater(self.policy, self.model, self.optimizer, self.schedule, self.ema, accelerator)
        if self.main:
            count = sum(one.numel() for one in self.named.values())
            log.info("%s: %d weights are trained, on %s", config.model, count, accelerator.device)

    def _rollout(self, scoring: Scoring) -> dict[str, float]:
        """One rollout and what is learned from it; the figures are those of all processes."""
        config, accelerator = self.config, self.accelerator
        drawn = draw(config, self.task.prompts, self.done)
        started = time.monotonic()
        chunks: list[Chunk] = []
        mine = chunks_of(config, accelerator.process_index, accelerator.num_processes)
        for chunk in sample(self.policy, drawn, mine, accelerator.device):
            scoring.submit(chunk.shots)
            chunks.append(chunk)
        sampled = time.monotonic()
        assessed = self._assessed(scoring, chunks)
        # On all processes from the same answers: all stop, or none.
        failures = check_failures(assessed, config.max_failure_rate)
        signal = training_signal(
            config,
            [one.reward for one in assessed],
            [one.defects for one in assessed],
            group_ids(config),
            self.policy.grid,
        )
        if config.audit_share:
            self._audit(drawn, chunks)
        scored = time.monotonic()
        figures = self._describe(assessed, signal, failures)
        if bool(signal.counts.any()):
            figures |= self._learn(chunks, signal)
        else:
            log.warning("rollout %d: no group has enough answers; nothing is learned from it", self.done + 1)
        figures |= {
            "seconds/sampling": sampled - started,
            "seconds/waiting": scoring.waited,
            "seconds/learning": time.monotonic() - scored,
            "learning_rate": self.schedule.get_last_lr()[0],
        }
        return figures

    def _learn(self, chunks: Sequence[Chunk], signal: Signal) -> dict[str, float]:
        figures = self.updater.learn(chunks, signal)
        if not self.config.beta:
            figures["kl"] = drift(self.policy, chunks)
        names = sorted(figures)
        values = torch.tensor([figures[name] for name in names], device=self.accelerator.device)
        means = self.accelerator.reduce(values, reduction="mean").tolist()
        return dict(zip(names, means, strict=True))

    def _assessed(self, scoring: Scoring, chunks: Sequence[Chunk]) -> list[Assessed]:
        """Of all images of all processes, in their order."""
        numbers = [index for chunk in chunks for index in chunk.indices]
        pairs = list(zip(numbers, scoring.collect(), strict=True))
        if self.accelerator.num_processes > 1:
            pairs = gather_object(pairs)
        return [one for _, one in sorted(pairs, key=lambda pair: pair[0])]

    def _describe(self, assessed: Sequence[Assessed], signal: Signal, failures: dict[str, float]) -> dict[str, float]:
        known = torch.tensor([one.reward for one in assessed if one.reward is not None])
        figures = {f"missing/{name}": share for name, share in failures.items()}
        if len(known):
            figures |= {"reward": float(known.mean()), "reward_std": float(known.std()) if len(known) > 1 else 0.0}
        parts: dict[str, list[float]] = {}
        for one in assessed:
            for name, value in one.parts.items():
                parts.setdefault(name, []).append(value)
        if len(parts) > 1:
            figures |= {f"reward/{name}": sum(values) / len(values) for name, values in parts.items()}
        if self.task.detector is not None:
            figures |= describe(signal, [one.defects for one in assessed], self.policy.grid)
        return figures

    def _look(self, scoring: Scoring, watcher: Watcher | None) -> dict[str, float]:
        """The fixed prompts by the averaged weights: scored by what is never learned from, and drawn."""
        config, accelerator = self.config, self.accelerator
        prompts = list(self.task.held_out)[: config.guard_prompts]
        if not prompts:
            return {}
        world, rank = accelerator.num_processes, accelerator.process_index
        # Every process does as much: sharded weights need all of them at each forward.
        numbers = [number % len(prompts) for number in range(len(prompts) + -len(prompts) % world)][rank::world]
        with self.ema.applied():
            shots = sample_plainly(
                self.policy,
                [prompts[number] for number in numbers],
                [_GUARD_SEED + number for number in numbers],
                accelerator.device,
            )
        scoring.submit(shots, by_guard=True)
        pairs = list(zip(numbers, shots, scoring.collect(), strict=True))
        if world > 1:
            pairs = gather_object(pairs)
        ordered = sorted({number: (shot, one) for number, shot, one in pairs}.items())
        columns: dict[str, list[float]] = {}
        for _, (_, one) in ordered:
            if one.reward is not None:
                columns.setdefault("guard" if self.task.guard is not None else "fixed/reward", []).append(one.reward)
            for name, value in one.parts.items():
                columns.setdefault(f"fixed/{name}", []).append(value)
            if one.defects is not None and self.task.detector is not None:
                columns.setdefault("fixed/burden", []).append(sum(box.importance for box in one.defects) / 100)
        figures = {name: sum(values) / len(values) for name, values in columns.items()}
        if watcher is not None and config.sheet_prompts:
            shown = ordered[: config.sheet_prompts]
            watcher.sheet(self.done, [shot for _, (shot, _) in shown], [one for _, (_, one) in shown])
        return figures

    def _audit(self, drawn: Draw, chunks: Sequence[Chunk]) -> None:
        config = self.config
        found: list[tuple[int, Shot]] = []
        for chunk in chunks:
            wanted = audit.chosen(config.seed, drawn.number, list(chunk.indices), config.audit_share)
            found += [
                (drawn.number * config.total + index, chunk.shots[index - chunk.indices.start]) for index in wanted
            ]
        if self.accelerator.num_processes > 1:
            found = gather_object(found)
        if self.main and found and self.task.audit is not None:
            self.task.audit.put(found)

    def _anywhere(self, flag: bool) -> bool:
        return any(gather_object([flag])) if self.accelerator.num_processes > 1 else flag

    def _note(self) -> dict[str, Any]:
        task = self.task
        return {
            "config": self.config.model_dump(mode="json"),
            "model": {"name": task.preset.name, "revision": task.revision, "settings": task.preset.settings},
            "prompts": {
                "count": len(task.prompts),
                "digest": content_id("prompts", canonical_json(list(task.prompts))),
            },
        }

    def _save(self) -> None:
        state = gathered(self.named, self.ema, self.optimizer)
        if self.main:
            state |= {"rollouts": self.done, "schedule": self.schedule.state_dict()}
            self.folder.save_checkpoint(self.done, state, self.config.keep)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        path = self.folder.last_checkpoint()
        if path is None:
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        try:
            restored(state, self.named, self.ema, self.optimizer)
        except KeyError as error:
            raise InputError(f"the checkpoint has no weights {error}", item=str(path)) from error
        self.schedule.load_state_dict(state["schedule"])
        # A schedule that is loaded does not tell its optimizer.
        for group, rate in zip(self.optimizer.param_groups, self.schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        self.done = int(state["rollouts"])
        if self.main:
            log.info("going on after %d rollouts", self.done)

    def _export(self) -> None:
        state = gathered(self.named, self.ema, self.optimizer)
        if not self.main:
            return
        pipeline, weights = self.task.pipeline, state["ema"]
        if self.config.lora is not None:
            save_lora(pipeline, weights, self.folder.lora)
        else:
            save_whole(pipeline, weights, self.folder.model)
