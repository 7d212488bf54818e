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
from trainers.boxflow.config import BoxFlowConfig, LoraSettings

log = logging.getLogger(__name__)

# Ends of the names of attention and feed-forward layers in diffusers' transformers of these families.
_TARGETS: Final = (
    *("to_q", "to_k", "to_v", "to_out.0", "to_out", "to_add_out", "add_q_proj", "add_k_proj", "add_v_proj"),
    *("to_qkv_mlp_proj", "proj_mlp", "proj_out", "linear_in", "linear_out", "net.0.proj", "net.2", "w1", "w2", "w3"),
)
ADAPTER: Final = "default"


class Policy:
    """A Flow at one size, schedule and guidance. `accelerator` gives the precision."""

    def __init__(
        self, flow: Flow, config: BoxFlowConfig, size: tuple[int, int], guidance: float | None, accelerator: Any
    ) -> None:
        """`size`: (height, width) in pixels. Raises ConfigError where it does not fit the model."""
        self.flow, self.config, self.guidance = flow, config, guidance
        self.height, self.width = size
        self._accelerator = accelerator
        try:
            self.grid = flow.locations(*size)
        except ValueError as error:
            raise ConfigError(str(error), item=config.model, hint="--set height=N --set width=N") from error
        flow.grid = self.grid
        self.levels = flow.levels(config.steps, *size)
        self.below_one = next(level for level in self.levels if level < 1)
        self.guided = flow.guided(guidance)
        self.reference: Any = None

    @property
    def model(self) -> Any:
        """The transformer itself."""
        return self.flow.pipeline.transformer

    def prepare(self) -> None:
        """Freeze everything, then make what is trained trainable. Raises ConfigError for an adapter on nothing."""
        for part in self.flow.pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False)
                part.eval()
        if self.config.checkpointing:
            self.model.enable_gradient_checkpointing()
        if self.config.lora is not None:
            add_lora(self.model, self.config.lora)
            return
        self.reference = copy.deepcopy(self.model)
        self.model.requires_grad_(True)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Text features of prompts, each different one computed once and by itself; twice the rows where guided.

        The second half is then that of empty prompts.
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
        """v at a step's noise level, guided; float32. `text` as `encode` gives it."""
        x = torch.cat([latents, latents]) if self.guided else latents
        sigma = torch.full((len(x),), self.levels[step], device=x.device)
        scale = torch.full((len(x),), self.guidance or 1.0, device=x.device) if self.flow.embedded_guidance else None
        with self._accelerator.autocast():
            v = self.flow.velocity(x.to(self.dtype), sigma, text, scale).float()
        if not self.guided:
            return v
        conditional, unconditional = v.chunk(2)
        return self.flow.guide(conditional, unconditional, self.guidance or 1.0)

    @property
    def dtype(self) -> torch.dtype:
        """What the transformer takes."""
        return next(p.dtype for p in self.model.parameters() if (p.is_floating_point() and not p.requires_grad) or True)

    @contextlib.contextmanager
    def as_it_was(self) -> Iterator[None]:
        """Inside, `velocity` is that of the model before training: without the adapter, or of the copy."""
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
        """Pixels (B, H, W, 3), uint8, on the CPU; one image at a time, as a decoder's memory is the largest of all."""
        rows = [self.flow.decode(latents[row : row + 1], self.height, self.width) for row in range(len(latents))]
        pixels = torch.cat(rows).permute(0, 2, 3, 1)
        return (pixels * 255).round().clamp(0, 255).to(torch.uint8).cpu()


def add_lora(model: Any, settings: LoraSettings) -> int:
    """Put an adapter on the layers, its weights in float32; returns on how many.

    Raises ConfigError where no layer fits: such a training would change nothing.
    """
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    ends = settings.targets or _TARGETS
    inside = [name for name, _ in model.named_modules() if any(part.isdigit() for part in name.split("."))]
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    names = [name for name in inside if name in linear and any(name.endswith(f".{end}") for end in ends)]
    if not names:
        raise ConfigError(
            f"the adapter fits no layer of {type(model).__name__}: none ends in {', '.join(ends)}",
            item="lora.targets",
            hint=f"It has, for example: {', '.join(sorted(linear)[:8])}.",
        )
    model.add_adapter(
        LoraConfig(r=settings.rank, lora_alpha=settings.alpha, init_lora_weights="gaussian", target_modules=names),
        adapter_name=ADAPTER,
    )
    cast_training_params(model, dtype=torch.float32)
    bound = sum(1 for name, p in model.named_parameters() if p.requires_grad and "lora_B" in name)
    if bound != len(names):
        raise ConfigError(f"the adapter was put on {bound} of {len(names)} layers", item="lora.targets")
    return bound


class Ema:
    """An exponential moving average of the trained weights, in float32."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float) -> None:
        self.decay = decay
        self._parameters = list(parameters)
        self.average = [parameter.detach().clone().float() for parameter in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """After an optimizer step."""
        for average, parameter in zip(self.average, self._parameters, strict=True):
            average.lerp_(parameter.detach().to(average.dtype), 1 - self.decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the average's weights."""
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
