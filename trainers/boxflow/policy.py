"""The model that is trained: a pipeline's transformer seen through its Flow, with an adapter or whole, and its EMA."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch

from generators.models.flow import Conditioning, Flow
from sdg_data.errors import ConfigError
from sdg_data.processes import launcher_checkpoints
from trainers.boxflow.config import BoxFlowConfig, BoxFlowLora

log = logging.getLogger(__name__)

# Ends of the names of attention and feed-forward layers in diffusers' transformers of these families.
_TARGETS: Final = (
    *("to_q", "to_k", "to_v", "to_out.0", "to_out", "to_add_out", "add_q_proj", "add_k_proj", "add_v_proj"),
    *("to_qkv_mlp_proj", "proj_mlp", "proj_out", "linear_in", "linear_out", "net.0.proj", "net.2", "w1", "w2", "w3"),
)
ADAPTER: Final = "default"


class Policy:
    """The model that is trained: a `Flow` at one size, schedule and guidance.

    `grid` is (rows, columns) of locations, `levels` the noise levels of the steps from 1 down to 0 and `below_one` the
    first of them below 1. `reference` is the copy of the model before training, None where there is an adapter (without
    which the model is as it was before).
    """

    def __init__(
        self, flow: Flow, config: BoxFlowConfig, size: tuple[int, int], guidance: float | None, accelerator: Any
    ) -> None:
        """Set the flow to a size.

        Args:
            flow: the pipeline's flow.
            config: the training's.
            size: (height, width) in pixels.
            guidance: the scale; None: the model's own way.
            accelerator: gives the precision of forward passes.

        Raises:
            ConfigError: the size does not fit the model.
        """
        self.flow, self.config, self.guidance = flow, config, guidance
        self.height, self.width = size
        self._accelerator = accelerator
        try:
            self.grid = flow.locations(*size)
        except ValueError as error:
            raise ConfigError(
                str(error), item=config.policy.model, hint="--set policy.height=N --set policy.width=N"
            ) from error
        flow.grid = self.grid
        self.levels = flow.levels(config.rollout.steps, *size)
        self.below_one = next(level for level in self.levels if level < 1)
        self.guided = flow.guided(guidance)
        self.reference: Any = None

    @property
    def model(self) -> Any:
        """The transformer that is trained, a part of the generator's pipeline."""
        return self.flow.pipeline.transformer

    def prepare(self) -> None:
        """Freeze everything, then make the adapter's weights, or all of the transformer's, trainable.

        `ConfigError` is raised where the adapter fits no layer of the transformer.
        """
        for part in self.flow.pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False)
                part.eval()
        if self.config.policy.checkpointing and not launcher_checkpoints():
            self.model.enable_gradient_checkpointing()
        if self.config.policy.lora is not None:
            add_lora(self.model, self.config.policy.lora)
            return
        self.reference = copy.deepcopy(self.model)
        self.model.requires_grad_(True)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Text features of prompts, each different prompt computed once and by itself.

        Computed alone, a prompt's features do not depend on the others of its batch.

        Returns:
            A row for each prompt; with classifier-free guidance twice as many, the second half of empty prompts.
        """
        known: dict[str, Conditioning] = {}
        texts = [*prompts, *([""] * len(prompts) if self.guided else [])]
        for text in texts:
            if text not in known:
                known[text] = self.flow.encode([text])
        rows = [known[text] for text in texts]
        pooled = None if rows[0].pooled is None else torch.cat([row.pooled for row in rows if row.pooled is not None])
        return Conditioning(torch.cat([row.features for row in rows]), torch.cat([row.mask for row in rows]), pooled)

    def velocity(self, latents: torch.Tensor, step: int, text: Conditioning) -> torch.Tensor:
        """The velocity v at a step's noise level, with guidance.

        Args:
            latents: (B, L, C) or (B, C, H, W).
            step: from 0.
            text: as `encode` gives it.

        Returns:
            Of the latents' shape, float32.
        """
        return self.velocity_at(latents, torch.full((len(latents),), self.levels[step], device=latents.device), text)

    def velocity_at(self, latents: torch.Tensor, levels: torch.Tensor, text: Conditioning) -> torch.Tensor:
        """The velocity v at any noise levels, with guidance.

        Args:
            latents: (B, L, C) or (B, C, H, W).
            levels: (B,), one for each row.
            text: as `encode` gives it.

        Returns:
            Of the latents' shape, float32.
        """
        x = torch.cat([latents, latents]) if self.guided else latents
        sigma = torch.cat([levels, levels]) if self.guided else levels
        scale = torch.full((len(x),), self.guidance or 1.0, device=x.device) if self.flow.embedded_guidance else None
        with self._accelerator.autocast():
            v = self.flow.velocity(x.to(self.dtype), sigma, text, scale).float()
        if not self.guided:
            return v
        conditional, unconditional = v.chunk(2)
        return self.flow.guide(conditional, unconditional, self.guidance or 1.0)

    @property
    def dtype(self) -> torch.dtype:
        """The type of latents that the transformer takes: that of its first weight."""
        dtype: torch.dtype = next(self.model.parameters()).dtype
        return dtype

    @contextlib.contextmanager
    def reference_mode(self) -> Iterator[None]:
        """A context in which `velocity` is that of the model before training: without the adapter, or of the copy."""
        wrapped = self.flow.wrapped
        if self.reference is not None:
            self.flow.wrapped = self.reference
            try:
                yield
            finally:
                self.flow.wrapped = wrapped
            return
        self.flow.wrapped = None
        self.model.disable_adapters()
        try:
            yield
        finally:
            self.model.enable_adapters()
            self.flow.wrapped = wrapped

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images of latents, decoded one at a time, because a decoder needs the most memory of all parts.

        Returns:
            Pixels (B, height, width, 3), uint8, on the CPU.
        """
        rows = [self.flow.decode(latents[row : row + 1], self.height, self.width) for row in range(len(latents))]
        pixels = torch.cat(rows).permute(0, 2, 3, 1)
        return (pixels * 255).round().clamp(0, 255).to(torch.uint8).cpu()


def adapted_layers(model: Any, settings: BoxFlowLora) -> dict[str, Any]:
    """The linear layers of a transformer's blocks that an adapter is put on.

    Returns:
        Name -> layer.

    Raises:
        ConfigError: no layer fits, so that a training would change nothing.
    """
    ends = settings.targets or _TARGETS
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    inside = {name: layer for name, layer in linear.items() if any(part.isdigit() for part in name.split("."))}
    layers = {name: layer for name, layer in inside.items() if any(name.endswith(f".{end}") for end in ends)}
    if not layers:
        raise ConfigError(
            f"the adapter fits no layer of {type(model).__name__}: none ends in {', '.join(ends)}",
            item="policy.lora.targets",
            hint=f"It has, for example: {', '.join(sorted(linear)[:8])}.",
        )
    return layers


def add_lora(model: Any, settings: BoxFlowLora) -> int:
    """Put an adapter on a transformer's layers, with weights in float32.

    Returns:
        On how many layers.

    Raises:
        ConfigError: not all layers that fit (`adapted_layers`) were bound.
    """
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    names = list(adapted_layers(model, settings))
    model.add_adapter(
        LoraConfig(r=settings.rank, lora_alpha=settings.alpha, init_lora_weights="gaussian", target_modules=names),
        adapter_name=ADAPTER,
    )
    cast_training_params(model, dtype=torch.float32)
    bound = sum(1 for name, p in model.named_parameters() if p.requires_grad and "lora_B" in name)
    if bound != len(names):
        raise ConfigError(f"the adapter was put on {bound} of {len(names)} layers", item="policy.lora.targets")
    return bound


class Ema:
    """An exponential moving average of the trained weights, in float32 (`average`, in the order of the parameters)."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float) -> None:
        self.decay = decay
        self._parameters = list(parameters)
        self.average = [parameter.detach().clone().float() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, decay: float | None = None) -> None:
        """Move the averages towards the current weights by 1 − decay; None: the decay that it was made with."""
        share = 1 - (self.decay if decay is None else decay)
        for average, parameter in zip(self.average, self._parameters, strict=True):
            average.lerp_(parameter.detach().to(average.dtype), share)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """A context in which the model has the averaged weights."""
        kept = [parameter.detach().clone() for parameter in self._parameters]
        self._copy(self.average)
        try:
            yield
        finally:
            self._copy(kept)

    @torch.no_grad()
    def _copy(self, values: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value.to(parameter.dtype))
