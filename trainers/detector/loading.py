"""Loading a detector to be trained: a Qwen-VL of a folder or the hub, what of it is frozen, and its processor."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any, Final

from annotate.vlm.qwen.load import DETECTOR_FILE, FAMILIES, is_large, load_model, load_processor, noted_files
from sdg_data.errors import ModelError
from sdg_data.model_files import is_no_folder, loading_errors, loading_reason
from trainers.detector.train_config import DetectorLora, TrainConfig
from trainers.files import replace_file

log = logging.getLogger(__name__)

ADAPTER_FILE: Final = "adapter_config.json"
_LINEAR: Final = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
_VISION_LINEAR: Final = "qkv|proj|linear_fc1|linear_fc2|gate_proj|up_proj|down_proj"


def load_detector(source: str, config: TrainConfig) -> tuple[Any, Any, str]:
    """Load a detector for a trainer: no adapter yet, the vision tower frozen where the configuration says so.

    Args:
        source: a folder or a hub repository.
        config: the training's.

    Returns:
        (model, processor, family): the family is how the model writes boxes. A model that does not load or is of
        another kind raises ModelError, missing libraries MissingDependency.
    """
    model_type = model_type_of(source)
    quieten()
    # Full fine-tuning keeps fp32 weights under autocast; under an adapter the frozen base may be bf16.
    half = config.model.precision == "bf16" and config.model.lora is not None
    processor = load_processor(source, model_type, extra="train")
    model = load_model(source, "bfloat16" if half else "float32", extra="train")
    if config.model.freeze_vision:
        freeze_vision(model)
    return model, processor, FAMILIES[model_type]


def quieten() -> None:
    """No bars for saving files, and no notes of the libraries to their own callers."""
    import datasets
    from transformers.utils import logging as chatter

    chatter.disable_progress_bar()
    chatter.set_verbosity_error()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|trl")


def model_type_of(source: str) -> str:
    """The `model_type` of a model's config.

    Returns:
        A key of `FAMILIES`.

    Raises:
        ModelError: It is an adapter, its config cannot be read, or models of its type are not trained here.
    """
    from transformers import AutoConfig

    folder = Path(source)
    if folder.is_dir() and (folder / ADAPTER_FILE).is_file() and not (folder / "config.json").is_file():
        raise ModelError(
            "is an adapter, not a model", item=source, hint="`sdg train detector merge` makes a model of it."
        )
    if is_no_folder(source):
        raise ModelError("there is no such folder of a model", item=source)
    try:
        model_type = str(AutoConfig.from_pretrained(source).model_type)
    except loading_errors() as error:
        raise ModelError(f"cannot read its config ({loading_reason(error)})", item=source) from error
    if model_type not in FAMILIES:
        raise ModelError(f"is a model of type {model_type!r}; trained are {' and '.join(FAMILIES)}", item=source)
    return model_type


def freeze_vision(model: Any) -> int:
    """Freeze the vision tower with its projections into the language model; returns how many parameters that are."""
    frozen = 0
    for parameter in model.model.visual.parameters():
        parameter.requires_grad_(False)
        frozen += parameter.numel()
    return frozen


def lora_config(settings: DetectorLora | None, *, freeze_vision: bool) -> Any:
    """The adapter's configuration for peft, of linear layers by name; None where all weights are trained."""
    if settings is None:
        return None
    from peft import LoraConfig

    targets = rf".*language_model.*\.({_LINEAR})"
    if not freeze_vision:
        targets = rf"({targets}|.*visual.*\.({_VISION_LINEAR}))"
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def trainable(model: Any) -> dict[str, int]:
    """How many parameters are trained, and how many there are.

    Returns:
        The counts under `trained` and `all`.

    Raises:
        ModelError: Every parameter is frozen.
    """
    parameters = list(model.parameters())
    counts = {
        "trained": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        "all": sum(parameter.numel() for parameter in parameters),
    }
    if not counts["trained"]:
        raise ModelError("nothing of it is trained: every parameter is frozen")
    return counts


def write_detector_file(folder: Path, note: dict[str, Any]) -> None:
    """Write `detector.json`, which `annotate.vlm.local` reads beside the weights: template and training.

    Call it last: of a large folder it holds the checksums of the other files, so that nobody has to read them to know
    which weights they are.
    """
    if is_large(folder):
        note = {**note, "files": noted_files(folder)}
    replace_file(folder / DETECTOR_FILE, json.dumps(note, indent=2, ensure_ascii=False, sort_keys=True) + "\n")
