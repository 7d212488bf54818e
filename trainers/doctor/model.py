"""The doctor's model: a Qwen-VL with two task tokens and the heatmap decoder, as transformers loads and saves it.

Importing this module registers the classes with `AutoConfig` and `AutoModelForImageTextToText`, so that a doctor's
folder is an ordinary one without code of its own. A map belongs to a task token in the answer: it is made of the last
hidden state at the position *before* the token, which is the state that chose to write it. An answer without the token
has no map of that type.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.utils.generic import ModelOutput

from schemas.defect import DefectType
from sdg_data.errors import ModelError
from trainers.doctor.head import HeadShape, HeatmapHead

KINDS: Final = (DefectType.MISALIGNMENT, DefectType.ARTIFACT)
"""The order of the maps: the published model's."""
TOKENS: Final = {DefectType.MISALIGNMENT: "<|misalignment|>", DefectType.ARTIFACT: "<|artifact|>"}
"""The task tokens' texts."""
BASES: Final = {"qwen3_vl_doctor": "qwen3_vl", "qwen2_5_vl_doctor": "qwen2_5_vl"}
"""A doctor's `model_type`, and that of the Qwen-VL that it is made of."""


class Qwen3VLDoctorConfig(Qwen3VLConfig):
    """A Qwen3-VL's configuration with the doctor's four keys."""

    model_type = "qwen3_vl_doctor"
    auto_map: ClassVar[dict[str, str]] = {}
    """No code of its own; TRL asks every model that is none of transformers' own."""
    misalignment_token_id: int = -1
    artifact_token_id: int = -1
    heatmap_weight: float = 1.0
    """λ of the maps' squared errors in the loss."""
    heatmap_head: dict[str, Any] | None = None
    """`HeadShape` as JSON; none: the published sizes."""


class Qwen25VLDoctorConfig(Qwen2_5_VLConfig):
    """A Qwen2.5-VL's configuration with the doctor's four keys."""

    model_type = "qwen2_5_vl_doctor"
    auto_map: ClassVar[dict[str, str]] = {}
    misalignment_token_id: int = -1
    artifact_token_id: int = -1
    heatmap_weight: float = 1.0
    heatmap_head: dict[str, Any] | None = None


@dataclass
class DoctorOutput(ModelOutput):
    """What a forward pass with `maps=True` gives: the loss's or the language model's own output, and the maps."""

    inner: Any = None
    maps: list[tuple[int, int, torch.Tensor]] | None = None
    """(row of the batch, number in `KINDS`, (H, W) map in 0..1) of each task token that stands in the batch."""


class _DoctorMixin:
    """The decoder beside a Qwen-VL, for either generation's class."""

    config: Any
    model: Any
    heatmap: HeatmapHead

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        self.heatmap = new_head(config)

    def _init_weights(self, module: nn.Module) -> None:
        """Leave the decoder with torch's own initial weights; the rest as Qwen's classes do."""
        if not getattr(module, "keeps_own_start", False):
            super()._init_weights(module)  # type: ignore[misc]

    def with_maps(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> DoctorOutput:
        """Call a forward that runs this model's backbone once, and make maps of the states that it computed.

        Args:
            call: The forward.
            *args: Its own.
            **kwargs: Its own, `input_ids` and `image_grid_thw` among them.

        Returns:
            The call's output and the maps.
        """
        with _watched(self.model) as seen:
            inner = call(*args, **kwargs)
        return DoctorOutput(inner, self.maps_of(seen, kwargs["input_ids"], kwargs["image_grid_thw"]))

    def read_maps(self, **inputs: Any) -> list[tuple[int, int, torch.Tensor]]:
        """The maps of whole conversations, answers included, without the language model's head."""
        with _watched(self.model) as seen:
            self.model(**inputs, use_cache=False)
        return self.maps_of(seen, inputs["input_ids"], inputs["image_grid_thw"])

    def maps_of(
        self, seen: Mapping[str, torch.Tensor], input_ids: torch.Tensor, grid: torch.Tensor
    ) -> list[tuple[int, int, torch.Tensor]]:
        """The maps of the task tokens in a batch with one image a row.

        Args:
            seen: `states`, (batch, length, width), and `features`, (visual tokens of all images, width).
            input_ids: (batch, length).
            grid: (batch, 3): frames, rows and columns of patches.

        Returns:
            As `DoctorOutput.maps`.

        Raises:
            ModelError: A row has no image, or several.
        """
        merge = int(self.config.vision_config.spatial_merge_size)
        shapes = [(int(rows) // merge, int(columns) // merge) for _, rows, columns in grid.tolist()]
        if len(shapes) != len(input_ids):
            raise ModelError(f"{len(shapes)} images in {len(input_ids)} conversations; a doctor looks at one in each")
        images = seen["features"].split([rows * columns for rows, columns in shapes])
        tokens = torch.tensor(
            [self.config.misalignment_token_id, self.config.artifact_token_id], device=input_ids.device
        )
        written = input_ids[:, 1:, None] == tokens
        places = written.long().argmax(dim=1)  # the first one of a type counts
        asked = [(row, kind) for row, kind in written.any(dim=1).nonzero().tolist()]
        maps: list[tuple[int, int, torch.Tensor]] = []
        for shape in dict.fromkeys(shapes[row] for row, _ in asked):
            group = [(row, kind) for row, kind in asked if shapes[row] == shape]
            rows = torch.tensor([row for row, _ in group], device=input_ids.device)
            kinds = torch.tensor([kind for _, kind in group], device=input_ids.device)
            states = seen["states"][rows, places[rows, kinds]] if self.heatmap.shape.task_tokens else kinds
            features = torch.stack([images[row].T.unflatten(1, shape) for row, _ in group])
            heat = self.heatmap(states, features.to(self.heatmap.positions.dtype))
            maps += [(row, kind, heat[number]) for number, (row, kind) in enumerate(group)]
        return maps


def _forward_of(plain: Callable[..., Any]) -> Callable[..., Any]:
    """A Qwen-VL's forward that takes `maps` too, and gives a `DoctorOutput` then.

    Args:
        plain: The class's own.

    Returns:
        The forward, with the plain one's signature, by which `generate` checks its arguments.
    """

    @functools.wraps(plain)
    def forward(self: Any, *args: Any, maps: bool = False, **kwargs: Any) -> Any:
        call = functools.partial(plain, self)
        return self.with_maps(call, *args, **kwargs) if maps else call(*args, **kwargs)

    return forward


class Qwen3VLDoctor(_DoctorMixin, Qwen3VLForConditionalGeneration):
    """A Qwen3-VL with the heatmap decoder."""

    config_class = Qwen3VLDoctorConfig
    forward = _forward_of(Qwen3VLForConditionalGeneration.forward)


class Qwen25VLDoctor(_DoctorMixin, Qwen2_5_VLForConditionalGeneration):
    """A Qwen2.5-VL with the heatmap decoder: the published model's kind."""

    config_class = Qwen25VLDoctorConfig
    forward = _forward_of(Qwen2_5_VLForConditionalGeneration.forward)


_CLASSES: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "qwen3_vl": (Qwen3VLDoctorConfig, Qwen3VLDoctor),
    "qwen2_5_vl": (Qwen25VLDoctorConfig, Qwen25VLDoctor),
}


def register() -> None:
    """Tell transformers' Auto classes about doctors; again and again is fine."""
    for config, model in _CLASSES.values():
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModelForImageTextToText.register(config, model, exist_ok=True)
        AutoModelForCausalLM.register(config, model, exist_ok=True)  # what TRL loads a reference by


register()


def doctor_config(base: Any, tokens: Mapping[DefectType, int], shape: HeadShape, *, weight: float = 1.0) -> Any:
    """A doctor's configuration from that of its Qwen-VL.

    Args:
        base: The Qwen-VL's.
        tokens: The ids of the task tokens.
        shape: The decoder's.
        weight: λ.

    Returns:
        The configuration.

    Raises:
        ModelError: The base is no Qwen-VL that doctors are made of.
    """
    if base.model_type not in _CLASSES:
        raise ModelError(f"a doctor is made of {' or '.join(_CLASSES)}, not of a {base.model_type}")
    values = {name: value for name, value in base.to_dict().items() if name not in ("model_type", "architectures")}
    values |= {f"{kind}_token_id": tokens[kind] for kind in KINDS}
    return _CLASSES[base.model_type][0](**values, heatmap_weight=weight, heatmap_head=asdict(shape))


def make_doctor(base: Any, tokenizer: Any, shape: HeadShape, *, seed: int = 0, weight: float = 1.0) -> Any:
    """A doctor of a loaded Qwen-VL, which becomes part of it: task tokens are added, the decoder starts at random.

    Args:
        base: The model.
        tokenizer: Its tokenizer, which gets the task tokens where it has none.
        shape: The decoder's sizes.
        seed: Of the decoder's first weights.
        weight: λ.

    Returns:
        The doctor, with the base's weights.
    """
    add_task_tokens(base, tokenizer)
    tokens = {kind: int(tokenizer.convert_tokens_to_ids(TOKENS[kind])) for kind in KINDS}
    config = doctor_config(base.config, tokens, shape, weight=weight)
    with torch.device("meta"):
        doctor = _CLASSES[base.config.model_type][1](config)
    doctor.model, doctor.lm_head = base.model, base.lm_head
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        doctor.heatmap = new_head(config)
    doctor.heatmap.to(device=base.device, dtype=base.dtype)
    doctor.generation_config = base.generation_config
    doctor.tie_weights()
    return doctor


def add_task_tokens(model: Any, tokenizer: Any) -> int:
    """Add the task tokens to a tokenizer, and rows to the model where it has none left.

    A token that is new starts as the mean of all others: the model's first guess of it is neither never nor always.

    Args:
        model: The model.
        tokenizer: Its tokenizer.

    Returns:
        How many tokens are new.
    """
    added = int(tokenizer.add_tokens(list(TOKENS.values()), special_tokens=True))
    embeddings = model.get_input_embeddings()
    if len(tokenizer) > embeddings.num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        embeddings = model.get_input_embeddings()
    if added:
        with torch.no_grad():
            for weight in {id(layer): layer.weight for layer in (embeddings, model.get_output_embeddings())}.values():
                ids = [tokenizer.convert_tokens_to_ids(token) for token in TOKENS.values()]
                weight[ids] = weight[: min(ids)].mean(dim=0)
    return added


def new_head(config: Any) -> HeatmapHead:
    """A decoder of a configuration's sizes, with torch's own initial weights."""
    shape = HeadShape(**(config.heatmap_head or {}))
    head = HeatmapHead(shape, config.text_config.hidden_size, config.vision_config.out_hidden_size)
    for module in head.modules():
        module.keeps_own_start = True
    return head


@contextmanager
def _watched(backbone: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """What the backbone computes within the block: `states`, its last ones, and `features`, the vision tower's."""
    seen: dict[str, torch.Tensor] = {}

    def keep_states(module: nn.Module, args: Any, output: Any) -> None:
        seen["states"] = output.last_hidden_state

    def keep_features(module: nn.Module, args: Any, output: Any) -> None:
        seen["features"] = output.pooler_output

    hooks = [
        backbone.register_forward_hook(keep_states),
        backbone.visual.register_forward_hook(keep_features),
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
