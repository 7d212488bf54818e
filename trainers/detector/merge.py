"""An adapter and its base as one model, checked: the merged weights say what base and adapter said."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image

from annotate.vlm.generating import messages
from annotate.vlm.qwen.load import DETECTOR_FILE, FAMILIES, load_model, load_processor
from annotate.vlm.qwen.processors import save_processor
from schemas.geometry import ImageSize
from sdg_data.errors import InputError, ModelError
from sdg_data.prompt_templates import load_template
from trainers.detector.chat import Chat
from trainers.detector.loading import ADAPTER_FILE, model_type_of, quieten

log = logging.getLogger(__name__)

TOLERANCE: Final = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""How far the logits may lie apart, as a share of their standard deviation: rounding of one addition."""


def merge_adapter(adapter: Path, out: Path, *, base: str | None = None, precision: str = "fp32") -> dict[str, Any]:
    """Write the merged model, its processor and `detector.json`.

    Args:
        adapter: the folder `model` of a run that trained an adapter.
        out: the merged model's folder, which must not be there yet.
        base: the model that the adapter was trained on, where it lies elsewhere by now.
        precision: fp32 or bf16.

    Returns:
        `model`, the folder, and `parity`: how far the logits lie apart, as a share of their standard deviation.

    Raises:
        InputError: `adapter` is no adapter, or `out` is there already.
        ModelError: the adapter changes nothing, or the merged model's logits are others.
    """
    from peft import PeftModel

    quieten()
    if not (adapter / ADAPTER_FILE).is_file():
        raise InputError("is no adapter: there is no adapter_config.json", item=str(adapter))
    if out.exists():
        raise InputError("is there already", item=str(out), hint="Name another folder.")
    source = base or str(json.loads((adapter / ADAPTER_FILE).read_text(encoding="utf-8"))["base_model_name_or_path"])
    model_type = model_type_of(source)
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    model = load_model(source, "float32" if precision == "fp32" else "bfloat16", extra="train").eval()
    processor = load_processor(str(adapter), model_type, extra="train")
    note = json.loads((adapter / DETECTOR_FILE).read_text(encoding="utf-8"))
    chat = Chat(
        processor, load_template(note["template"]), FAMILIES[model_type], int(note["max_side"]), bool(note["trace"])
    )
    plain = _logits(model, chat)
    adapted = PeftModel.from_pretrained(model, str(adapter)).eval()
    before = _logits(adapted, chat)
    merged = adapted.merge_and_unload()
    after = _logits(merged, chat)
    spread = float(before.std())
    parity = {
        "apart": float((after - before).abs().max()) / spread,
        "tolerance": TOLERANCE[dtype],
        "adapter_changes": float((before - plain).abs().max()) / spread,
    }
    if parity["adapter_changes"] == 0:
        raise ModelError("changes nothing: none of its layers is bound, or it was never trained", item=str(adapter))
    if not parity["apart"] <= parity["tolerance"]:
        raise ModelError(
            f"the merged model's logits lie {parity['apart']:.2g} of their spread from the adapter's",
            item=str(adapter),
            hint="Merge in fp32.",
        )
    temporary = out.with_name(out.name + ".tmp")
    merged.save_pretrained(temporary)
    save_processor(processor, temporary, base=adapter)
    (temporary / DETECTOR_FILE).write_text(
        json.dumps({**note, "merged": {"parity": parity}}, indent=2, sort_keys=True) + "\n",
        encoding="utf-8",
    )
    temporary.rename(out)
    return {"model": str(out), "parity": parity}


def _logits(model: Any, chat: Chat) -> torch.Tensor:
    """The logits of a fixed picture and prompt, (1, length, vocabulary) in float32."""
    image = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    question = chat.question("a small red circle above a blue square", ImageSize(width=64, height=64))
    text = chat.processor.apply_chat_template(messages(question), tokenize=False, add_generation_prompt=True)
    inputs = chat.processor(text=[text + "<think>"], images=[image], return_tensors="pt").to(model.device)
    with torch.inference_mode():
        logits: torch.Tensor = model(**inputs).logits.float()
    return logits
