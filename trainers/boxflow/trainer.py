"""The training loop: sample a rollout while its rewards are asked for, learn, draw the fixed prompts, save.

What this leaves out: reward models sharded over GPUs (serve them, `judge`), several nodes' shared file systems for
checkpoints (the first process writes them), and learning-rate schedules beyond a warm-up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object

from generators.images import GeneratedImage
from generators.memory import pick_device
from generators.models.presets import Preset
from generators.models.registry import flow_of
from sdg_data.errors import ConfigError, InputError
from sdg_data.ids import canonical_json, content_id
from sdg_data.work import StopRequest
from trainers.boxflow import audit
from trainers.boxflow.artifact_guard import ArtifactGuard, history_of
from trainers.boxflow.audit import Audit
from trainers.boxflow.callbacks import RolloutReporter
from trainers.boxflow.config import BoxFlowConfig, ema_decay
from trainers.boxflow.credit import Advantages, compute_advantages, describe
from trainers.boxflow.estimator import Estimator
from trainers.boxflow.forward import ForwardProcess
from trainers.boxflow.policy import Ema, Policy
from trainers.boxflow.policy_gradient import PolicyGradient
from trainers.boxflow.rollout import (
    RolloutChunk,
    RolloutPlan,
    chunks_of,
    group_ids,
    plan_rollout,
    sample_without_noise,
)
from trainers.boxflow.run_folder import BoxFlowRunFolder
from trainers.boxflow.saving import save_lora, save_whole
from trainers.boxflow.state import gathered, restored
from trainers.boxflow.update import Updater
from trainers.common.sharded import plain_name, plain_names
from trainers.rewards.contract import BaseReward, Detector
from trainers.rewards.scoring import ScoredImage, Scoring, check_failures
from trainers.rewards.settings import described
from trainers.rewards.silence import SilenceAlarm

log = logging.getLogger(__name__)

_STOPPING = "stopping at the end of this rollout, with a checkpoint; once more stops at once"
_FIXED_SEED = 1_000_003
"""Noise of the fixed prompts: the prompt's place from here on."""


@dataclass
class Task:
    """What is trained, on what, by whom it is judged, and where it goes.

    `pipeline` is loaded and on the CPU. `held_out` are the fixed prompts that are looked at. `detector` may be None
    where the advantage needs none. `held_out_reward` scores the fixed prompts' images and is never learned from; where
    it is None, `reward` does. `artifact_guard` looks at some images of each rollout and gives no reward. `audit`: where
    audited images go. `credit` makes advantages of a rollout's rewards and boxes.
    """

    config: BoxFlowConfig
    preset: Preset
    revision: str
    pipeline: Any
    prompts: Sequence[str]
    held_out: Sequence[str]
    reward: BaseReward
    detector: Detector | None
    held_out_reward: BaseReward | None
    out: Path
    artifact_guard: Detector | None = None
    audit: Audit | None = None
    credit: Callable[..., Advantages] = compute_advantages


class BoxFlowTrainer:
    """One training, in one process of maybe several.

    `done` counts rollouts; `stopped` is True after `train` where it was asked to stop before the last rollout.
    """

    def __init__(self, task: Task) -> None:
        """Prepare everything, and go on from the last checkpoint of the folder.

        Raises:
            InputError: no prompts, or a folder that cannot be written to or is another model's.
            ConfigError: settings that do not fit the model, the number of processes or the folder's training.
        """
        config = task.config
        self.task, self.config = task, config
        if not task.prompts:
            raise InputError("there are no prompts to train on")
        if task.detector is None and config.credit.advantage != "scalar":
            raise ConfigError(f"the advantage {config.credit.advantage!r} needs a detector")
        self.accelerator = Accelerator(
            cpu=config.policy.device == "cpu" or pick_device("auto") == "cpu",
            mixed_precision="bf16" if config.policy.precision == "bf16" else "no",
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.main = self.accelerator.is_main_process
        config.check_processes(self.accelerator.num_processes)
        self.folder = BoxFlowRunFolder(task.out)
        if self.main:
            self.folder.claim(self._note(), BoxFlowConfig)
        self.accelerator.wait_for_everyone()
        self._prepare()
        self._silence = SilenceAlarm()
        self.done = 0
        self._resume()

    def train(self) -> dict[str, float]:
        """Run to the end, or until it is asked to stop: then it stops after a rollout, with a checkpoint.

        Returns:
            The last rollout's figures.
        """
        config = self.config
        scoring = Scoring(
            self.task.reward,
            self.task.detector,
            deadline=config.rewards.reward_deadline,
            held_out_reward=self.task.held_out_reward,
        )
        self._guard = ArtifactGuard(self.task.artifact_guard, config, history_of(self.folder.log, self.done))
        reporter = None
        if self.main:
            curves = config.saving.report == "tensorboard"
            reporter = RolloutReporter(self.folder, config.rollouts, self.done, curves=curves)
        every = config.monitoring.sample_every
        figures: dict[str, float] = {}
        try:
            with StopRequest(_STOPPING) as stop:
                if every and self.done == 0:
                    self._validate(scoring, reporter)
                while self.done < config.rollouts and not self._on_any_process(stop.asked):
                    figures = self._rollout(scoring)
                    self.done += 1
                    risen = self._guard.risen()
                    last = bool(risen) or self.done == config.rollouts or self._on_any_process(stop.asked)
                    if every and (self.done % every == 0 or self.done == config.rollouts):
                        figures |= self._validate(scoring, reporter)
                    if reporter is not None:
                        reporter.rollout(self.done, figures)
                    if last or self.done % config.saving.save_every == 0:
                        self._save()
                    if risen is not None:
                        raise risen
            self.stopped = self.done < config.rollouts
            if not self.stopped:
                self._export()
        finally:
            scoring.close()
            self._guard.close()
            if reporter is not None:
                reporter.close()
        return figures

    def _prepare(self) -> None:
        config, task, accelerator = self.config, self.task, self.accelerator
        policy, settings = config.policy, config.optimizer
        guidance = task.preset.guidance if policy.guidance is None else policy.guidance
        kind = torch.bfloat16 if config.policy.precision == "bf16" and config.policy.lora is not None else torch.float32
        task.pipeline.to(accelerator.device)
        if task.pipeline.transformer.dtype != kind:
            task.pipeline.transformer.to(kind)
        self.policy = Policy(
            flow_of(task.preset, task.pipeline), config, policy.image_size(task.preset), guidance, accelerator
        )
        torch.manual_seed(config.seed)  # an adapter starts at random
        self.policy.prepare()
        model = task.pipeline.transformer
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=settings.learning_rate, betas=settings.adam_betas, weight_decay=settings.weight_decay
        )
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        whole = accelerator.unwrap_model(self.model)
        task.pipeline.transformer = whole
        trained_ones = ((name, weights) for name, weights in whole.named_parameters() if weights.requires_grad)
        self.named = {plain_name(name): weights for name, weights in trained_ones}
        if not self.named:
            raise ConfigError("nothing is trained", item="policy.lora")
        self.ema = Ema(list(self.named.values()), settings.ema)
        warmup = settings.warmup
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            getattr(self.optimizer, "optimizer", self.optimizer), lambda step: min(1.0, (step + 1) / (warmup + 1))
        )
        forward = config.estimator == "forward"
        self.estimator: Estimator = (
            ForwardProcess(self.policy, list(self.named.values())) if forward else PolicyGradient(self.policy)
        )
        self.updater = Updater(
            self.policy, self.estimator, self.model, self.optimizer, self.schedule, self.ema, accelerator
        )
        if self.main:
            count = sum(weights.numel() for weights in self.named.values())
            log.info("%s: %d weights are trained, on %s", policy.model, count, accelerator.device)
            for part in self.config.rewards.base:
                facts = described(part)
                log.info("reward %s, weight %g: %s", facts["reward"], part.weight, facts["scale"])

    def _rollout(self, scoring: Scoring) -> dict[str, float]:
        """One rollout and what is learned from it; the figures are those of all processes."""
        config, accelerator = self.config, self.accelerator
        plan = plan_rollout(config, self.task.prompts, self.done)
        started = time.monotonic()
        chunks: list[RolloutChunk] = []
        hopeless = False
        mine = chunks_of(config, accelerator.process_index, accelerator.num_processes)
        for chunk in self.estimator.sample(plan, mine, accelerator.device):
            scoring.submit(chunk.images)
            self._guard.show(plan.number, chunk)
            chunks.append(chunk)
            hopeless = self._hopeless(scoring)
            if hopeless:  # the rest of the images would be drawn for nothing
                break
        sampled = time.monotonic()
        scored = self._collect(scoring, chunks, wait=not hopeless)
        # On all processes from the same answers: all stop, or none.
        failures = check_failures(scored, config.rewards.max_failure_rate)
        seen = self._guard.heard(gather_object if accelerator.num_processes > 1 else list)
        if self.task.detector is not None and self.main:
            self._silence.hear(scored)
        advantages = self.task.credit(
            config,
            [image.reward for image in scored],
            [image.defects for image in scored],
            group_ids(config),
            self.policy.grid,
        )
        if config.monitoring.audit_share:
            self._audit(plan, chunks)
        assigned = time.monotonic()
        figures = self._describe(scored, advantages, failures) | seen
        if bool(advantages.counts.any()):
            figures |= self._learn(chunks, advantages)
        else:
            log.warning("rollout %d: no group has enough answers; nothing is learned from it", self.done + 1)
        self.estimator.end(self.done + 1)
        decay = ema_decay(config.optimizer, self.done)
        if decay is not None:
            self.ema.update(decay)
        figures |= {
            "seconds/sampling": sampled - started,
            "seconds/waiting": scoring.waited,
            "seconds/learning": time.monotonic() - assigned,
            "learning_rate": self.schedule.get_last_lr()[0],
        }
        return figures

    def _learn(self, chunks: Sequence[RolloutChunk], advantages: Advantages) -> dict[str, float]:
        figures = self.updater.learn(chunks, advantages)
        if not self.config.loss.beta:
            figures["kl"] = self.estimator.drift(chunks)
        names = sorted(figures)
        values = torch.tensor([figures[name] for name in names], device=self.accelerator.device)
        means = self.accelerator.reduce(values, reduction="mean").tolist()
        return dict(zip(names, means, strict=True))

    def _hopeless(self, scoring: Scoring) -> bool:
        """Whether so many images have no answer by now that the rollout cannot count; the same on all processes."""
        lost, fatal = scoring.missing()
        if self.accelerator.num_processes > 1:
            known = gather_object([(lost, fatal)])
            lost, fatal = sum(number for number, _ in known), any(fatal_there for _, fatal_there in known)
        return fatal or lost > self.config.rewards.max_failure_rate * self.config.total

    def _collect(self, scoring: Scoring, chunks: Sequence[RolloutChunk], *, wait: bool = True) -> list[ScoredImage]:
        """The answers about all images of all processes, in the order of the images."""
        numbers = [index for chunk in chunks for index in chunk.indices]
        pairs = list(zip(numbers, scoring.collect(wait=wait), strict=True))
        if self.accelerator.num_processes > 1:
            pairs = gather_object(pairs)
        return [image for _, image in sorted(pairs, key=lambda pair: pair[0])]

    def _describe(
        self, scored: Sequence[ScoredImage], advantages: Advantages, failures: dict[str, float]
    ) -> dict[str, float]:
        known = torch.tensor([image.reward for image in scored if image.reward is not None])
        figures = {f"missing/{name}": share for name, share in failures.items()}
        if len(known):
            figures |= {"reward": float(known.mean()), "reward_std": float(known.std()) if len(known) > 1 else 0.0}
        parts: dict[str, list[float]] = {}
        for image in scored:
            for name, value in image.parts.items():
                parts.setdefault(name, []).append(value)
        if len(parts) > 1:
            figures |= {f"reward/{name}": sum(values) / len(values) for name, values in parts.items()}
        if self.task.detector is not None:
            figures |= describe(advantages, [image.defects for image in scored], self.policy.grid)
        return figures

    def _validate(self, scoring: Scoring, reporter: RolloutReporter | None) -> dict[str, float]:
        """Images of the fixed prompts by the averaged weights, scored by the held-out reward and drawn on a sheet."""
        settings, accelerator = self.config.monitoring, self.accelerator
        prompts = list(self.task.held_out)[: settings.guard_prompts]
        if not prompts:
            return {}
        world, rank = accelerator.num_processes, accelerator.process_index
        # Every process does as much: sharded weights need all of them at each forward.
        numbers = [number % len(prompts) for number in range(len(prompts) + -len(prompts) % world)][rank::world]
        with self.ema.applied():
            images = sample_without_noise(
                self.policy,
                [prompts[number] for number in numbers],
                [_FIXED_SEED + number for number in numbers],
                accelerator.device,
            )
        scoring.submit(images, held_out=True)
        answers = list(zip(numbers, images, scoring.collect(), strict=True))
        if world > 1:
            answers = gather_object(answers)
        ordered = sorted({number: (image, scored) for number, image, scored in answers}.items())
        # The log's names: "guard" is the held-out reward.
        reward_name = "fixed/reward" if self.task.held_out_reward is None else "guard"
        columns: dict[str, list[float]] = {}
        for _, (_, scored) in ordered:
            if scored.reward is not None:
                columns.setdefault(reward_name, []).append(scored.reward)
            for name, value in scored.parts.items():
                columns.setdefault(f"fixed/{name}", []).append(value)
            if scored.defects is not None and self.task.detector is not None:
                burden = sum(defect.importance for defect in scored.defects) / 100
                columns.setdefault("fixed/burden", []).append(burden)
        figures = {name: sum(values) / len(values) for name, values in columns.items()}
        if reporter is not None and settings.sheet_prompts:
            drawn = [pair for _, pair in ordered[: settings.sheet_prompts]]
            reporter.sheet(self.done, [image for image, _ in drawn], [scored for _, scored in drawn])
        return figures

    def _audit(self, plan: RolloutPlan, chunks: Sequence[RolloutChunk]) -> None:
        config = self.config
        audited: list[tuple[int, GeneratedImage]] = []
        for chunk in chunks:
            share = config.monitoring.audit_share
            indices = audit.chosen(config.seed, plan.number, list(chunk.indices), share)
            audited += [
                (plan.number * config.total + index, chunk.images[index - chunk.indices.start]) for index in indices
            ]
        if self.accelerator.num_processes > 1:
            audited = gather_object(audited)
        if self.main and audited and self.task.audit is not None:
            self.task.audit.put(audited)

    def _on_any_process(self, flag: bool) -> bool:
        return any(gather_object([flag])) if self.accelerator.num_processes > 1 else flag

    def _note(self) -> dict[str, Any]:
        task = self.task
        guard = self.config.monitoring.guard
        rewards = [described(part) for part in self.config.rewards.base]
        return {
            "config": self.config.model_dump(mode="json"),
            "rewards": {"base": rewards, "guard": None if guard is None else described(guard)},
            "model": {"name": task.preset.name, "revision": task.revision, "settings": task.preset.settings},
            "prompts": {
                "count": len(task.prompts),
                "digest": content_id("prompts", canonical_json(list(task.prompts))),
            },
        }

    def _save(self) -> None:
        state = gathered(self.named, self.ema, self.optimizer, self.estimator.old)
        if self.main:
            state |= {"rollouts": self.done, "schedule": self.schedule.state_dict()}
            self.folder.save_checkpoint(self.done, state, self.config.saving.keep)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        path = self.folder.last_checkpoint()
        if path is None:
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        try:
            restored(state, self.named, self.ema, self.optimizer, self.estimator.old)
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
        with plain_names(pipeline.transformer):
            if self.config.policy.lora is not None:
                save_lora(pipeline, weights, self.folder.lora)
            else:
                save_whole(pipeline, weights, self.folder.model)
