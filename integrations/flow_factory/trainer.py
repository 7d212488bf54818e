"""A trainer of Flow-Factory that learns from an advantage for each location.

    # my_boxflow.py, and in Flow-Factory's YAML: trainer_type: my_boxflow.Trainer
    Trainer = boxflow_trainer(config, defects_of, grid=(32, 32), packed=True)

It is a subclass of their GRPOTrainer with another aggregation and another optimisation; sampling, rewards, evaluation,
checkpoints and logs are theirs. What it reads of theirs is listed in docs/engines.md.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from integrations.flow_factory.advantages import BoxFlowAdvantages, DefectsOf
from integrations.flow_factory.loss import step_deviation
from integrations.steps import step_loss
from sdg_data.errors import MissingDependency
from trainers.boxflow.config import BoxFlowConfig


def boxflow_trainer(config: BoxFlowConfig, defects_of: DefectsOf, grid: tuple[int, int], *, packed: bool) -> type:
    """Make the class of Flow-Factory's trainers that learns by BoxFlow's advantages.

    Args:
        config: our settings, of which `credit` and `loss` count.
        defects_of: the detector.
        grid: rows and columns of the latents' locations.
        packed: whether latents are packed, (B, L, C).

    Returns:
        A subclass of their GRPOTrainer.

    Raises:
        MissingDependency: Flow-Factory is not installed.
    """
    try:
        from flow_factory.samples import BaseSample
        from flow_factory.trainers.grpo import GRPOTrainer
        from flow_factory.utils.base import filter_kwargs
    except ImportError as error:
        raise MissingDependency(
            f"{error.name} is not installed", item="Flow-Factory", hint="docs/engines.md says how."
        ) from error

    class BoxFlowTrainer(GRPOTrainer):
        """BoxFlow-GRPO on Flow-Factory."""

        boxflow = config

        def sample(self) -> Any:
            """Their sampling, with the mean of each step kept."""
            with keeping(self.adapter, "next_latents_mean"):
                return super().sample()

        def compute_advantages(self, samples: Any, rewards: Any, store_to_samples: bool = True, **_: Any) -> Any:
            """Advantages per location."""
            return self.advantage_processor.compute_advantages(
                samples=samples,
                rewards=rewards,
                store_to_samples=store_to_samples,
                aggregation_func=BoxFlowAdvantages(config, defects_of, grid, packed=packed),
            )

        def optimize(self, samples: Sequence[Any]) -> None:
            """Learn from the samples' steps, each location by its own advantage."""
            device, size = self.accelerator.device, self.training_args.per_device_batch_size
            for inner in range(self.training_args.num_inner_epochs):
                order = torch.Generator().manual_seed(hash((self.training_args.seed, self.epoch, inner)) % 2**63)
                shuffled = [samples[place] for place in torch.randperm(len(samples), generator=order).tolist()]
                self.adapter.train()
                figures: dict[str, list[torch.Tensor]] = defaultdict(list)
                with self.autocast():
                    for start in range(0, len(shuffled), size):
                        batch = BaseSample.stack([sample.to(device) for sample in shuffled[start : start + size]])
                        for number in self.adapter.scheduler.train_timesteps.tolist():
                            with self.accelerator.accumulate(*self.adapter.trainable_components):
                                self._learn(batch, number, figures)

        def _learn(self, batch: Any, number: int, figures: dict[str, list[torch.Tensor]]) -> None:
            inputs = filter_kwargs(self.adapter.forward, **self._inputs(batch, number))
            output = self.adapter.forward(**inputs)
            reference = None
            if config.loss.beta:
                with torch.no_grad(), self.adapter.use_ref_parameters():
                    reference = self.adapter.forward(**inputs).next_latents_mean
            std = step_deviation(output.std_dev_t, output.dt, self.adapter.scheduler.dynamics_type)
            kept = _shared(batch["callback_index_map"])
            loss = step_loss(
                config,
                inputs["next_latents"],
                output.next_latents_mean,
                batch["next_latents_mean"][:, kept[number]],
                std,
                batch["advantage"],
                batch["counts"],
                reference_mean=reference,
            )
            self.accelerator.backward(loss.value)
            for name in ("ratio", "ratio_off", "clipped", "kl"):
                figures[name].append(getattr(loss, name))
            figures["loss"].append(loss.value.detach())
            if self.accelerator.sync_gradients:
                norm = self.accelerator.clip_grad_norm_(
                    self.adapter.get_trainable_parameters(), self.training_args.max_grad_norm
                )
                self.optimizer.step()
                self.optimizer.zero_grad()
                means = {f"train/{name}": torch.stack(values).mean() for name, values in figures.items()}
                self.log_data({**means, "train/grad_norm": norm}, step=self.step)
                self.step += 1
                figures.clear()

        def _inputs(self, batch: Any, number: int) -> dict[str, Any]:
            """What their adapter's forward takes to look at a step again."""
            places, times = _shared(batch["latent_index_map"]), batch["timesteps"]
            following = times[:, number + 1] if number + 1 < times.shape[1] else torch.zeros_like(times[:, number])
            return {
                **self.training_args,
                **batch,
                "t": times[:, number],
                "t_next": following,
                "latents": batch["all_latents"][:, places[number]],
                "next_latents": batch["all_latents"][:, places[number + 1]],
                "compute_log_prob": False,
                "noise_level": self.adapter.scheduler.noise_level,
                "return_kwargs": ["next_latents_mean", "std_dev_t", "dt"],
            }

    return BoxFlowTrainer


@contextmanager
def keeping(adapter: Any, *names: str) -> Iterator[None]:
    """Let an adapter's inference keep outputs of its scheduler in the samples (its `extra_call_back_kwargs`).

    Args:
        adapter: theirs.
        names: of the outputs.

    Yields:
        Nothing; at the end the adapter is as it was.
    """
    before: Callable[..., Any] = adapter.inference

    @functools.wraps(before)  # their filter of arguments looks at the signature
    def inference(*arguments: Any, **options: Any) -> Any:
        kept = [*options.pop("extra_call_back_kwargs", ()), *names]
        return before(*arguments, extra_call_back_kwargs=list(dict.fromkeys(kept)), **options)

    adapter.inference = inference
    try:
        yield
    finally:
        adapter.inference = before


def _shared(index_map: torch.Tensor) -> torch.Tensor:
    """An index map that all samples of a batch share: theirs may be stacked or not."""
    return index_map[0] if index_map.dim() == 2 else index_map
