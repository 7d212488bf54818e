"""Loading a doctor: to be trained, from a Qwen-VL or a doctor, and to be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from annotate.vlm.qwen.load import FAMILIES, load_model, load_processor, read_detector_file
from sdg_data.errors import ModelError
from sdg_data.model_files import is_no_folder, loading_errors, loading_reason
from sdg_data.processes import own_device
from trainers.detector.loading import ADAPTER_FILE, freeze_vision, lora_config, quieten
from trainers.detector.train_config import ModelSettings
from trainers.doctor.chat import DoctorChat
from trainers.doctor.form import AnswerForm, doctor_template
from trainers.doctor.head import HeadShape
from trainers.doctor.model import BASES, KINDS, make_doctor


def load_doctor(
    source: str, settings: ModelSettings, shape: HeadShape | None, *, seed: int, weight: float | None = None
) -> tuple[Any, Any, str]:
    """Load a doctor for a trainer; a Qwen-VL gets task tokens and a decoder.

    Args:
        source: A folder or a hub repository.
        settings: What of it is trained.
        shape: Of a new decoder; None: it must have one.
        seed: Of a new decoder's weights.
        weight: λ, which the doctor notes in its config; None: what it notes already stays.

    Returns:
        (model, processor, family).

    Raises:
        ModelError: It does not load, or is no Qwen-VL.
    """
    kind = _kind(source)
    quieten()
    processor = load_processor(source, BASES.get(kind, kind), extra="train")
    half = settings.precision == "bf16" and settings.lora is not None
    model = load_model(source, "bfloat16" if half else "float32", extra="train")
    if kind not in BASES:
        if shape is None:
            raise ModelError(f"is a {kind}, no doctor", item=source, hint="`sdg train doctor sft` makes one of it.")
        model = make_doctor(model, processor.tokenizer, shape, seed=seed)
    elif shape is not None and model.heatmap.shape.task_tokens != shape.task_tokens:
        noted = model.config.heatmap_weight
        model = make_doctor(_without_decoder(model), processor.tokenizer, shape, seed=seed, weight=noted)
    if weight is not None:
        model.config.heatmap_weight = weight
    if settings.freeze_vision:
        freeze_vision(model)
    return model, processor, FAMILIES[BASES.get(kind, kind)]


def adapter_of(model: Any, settings: ModelSettings, *, decoder: bool) -> Any:
    """The adapter's configuration for peft; the decoder and the task tokens' rows are trained whole beside it."""
    config = lora_config(settings.lora, freeze_vision=settings.freeze_vision)
    if config is not None and decoder:
        config.modules_to_save = ["heatmap"]
        config.trainable_token_indices = [getattr(model.config, f"{kind}_token_id") for kind in KINDS]
    return config


def load_to_ask(source: str, *, device: str = "auto") -> tuple[Any, DoctorChat]:
    """A trained doctor and the chat that asks it as it was trained.

    Args:
        source: Its folder.
        device: torch's name; auto: a GPU where there is one.

    Returns:
        The model in evaluation mode, and the chat.

    Raises:
        ModelError: It is no doctor, or does not say how it was asked.
    """
    kind = _kind(source)
    if kind not in BASES:
        raise ModelError(f"is a {kind}, no doctor", item=source)
    note = read_detector_file(Path(source)).get("form")
    if not isinstance(note, dict):
        raise ModelError(
            "has no form of its answers in detector.json",
            item=source,
            hint="A checkpoint that was converted from the published layout is asked with `--public`.",
        )
    return _asked(source, kind, note, device)


def load_public(source: str, *, device: str = "auto") -> tuple[Any, DoctorChat]:
    """A doctor converted from the published layout, asked in the public form; errors are those of `load_to_ask`."""
    return _asked(source, _kind(source), {"typed": False, "max_side": 512}, device)


def _asked(source: str, kind: str, note: dict[str, Any], device: str) -> tuple[Any, DoctorChat]:
    import torch

    quieten()
    where = own_device() if device == "auto" else device
    processor = load_processor(source, BASES[kind], extra="train")
    dtype = "float32" if where == "cpu" else "bfloat16"
    model = load_model(source, dtype, extra="train").to(torch.device(where)).eval()
    form = AnswerForm(**{name: bool(note.get(name, True)) for name in ("maps", "look", "think", "typed")})
    template = doctor_template(form, short=bool(note.get("short", False)))
    chat = DoctorChat(processor, template, FAMILIES[BASES[kind]], int(note.get("max_side", 512)), form.think, form)
    return model, chat


def _kind(source: str) -> str:
    from transformers import AutoConfig

    folder = Path(source)
    if folder.is_dir() and (folder / ADAPTER_FILE).is_file() and not (folder / "config.json").is_file():
        raise ModelError("is an adapter, not a model", item=source)
    if is_no_folder(source):
        raise ModelError("there is no such folder of a model", item=source)
    try:
        kind = str(AutoConfig.from_pretrained(source).model_type)
    except loading_errors() as error:
        raise ModelError(f"cannot read its config ({loading_reason(error)})", item=source) from error
    if kind not in BASES and kind not in FAMILIES:
        raise ModelError(f"is a model of type {kind!r}; doctors are made of {' and '.join(FAMILIES)}", item=source)
    return kind


def _without_decoder(doctor: Any) -> Any:
    """The Qwen-VL in a doctor, with its weights, to get another decoder."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    own = ("model_type", "architectures", "heatmap_weight", "heatmap_head")
    values = {name: value for name, value in doctor.config.to_dict().items() if name not in own}
    config = AutoConfig.for_model(BASES[doctor.config.model_type], **values)
    with torch.device("meta"):
        base = AutoModelForImageTextToText.from_config(config)
    base.model, base.lm_head, base.generation_config = doctor.model, doctor.lm_head, doctor.generation_config
    return base
