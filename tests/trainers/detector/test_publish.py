"""Adapters merged with a check, and what a card says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file
from transformers import Qwen3VLForConditionalGeneration

from annotate.vlm.qwen.load import load_processor
from sdg_data.errors import InputError, ModelError
from sdg_data.prompt_templates import DETECT_SHORT, load_template
from trainers.detector.loading import freeze_vision, lora_config, trainable, write_detector_file
from trainers.detector.merge import merge_adapter
from trainers.detector.publish import card_text, write_card
from trainers.detector.train_config import DetectorLora

NOTE: dict[str, Any] = {
    "template": load_template(DETECT_SHORT).id, "boxes": "qwen3-vl", "trace": True, "max_side": 1024, "kind": "sft",
    "recipe": "mini", "base": {"model": "owner/base"},
    "data": {"name": "drawn", "content": "c" * 64, "fingerprint": "f" * 16, "train": 40},
}  # fmt: skip


def adapter(tiny: Path, out: Path, *, trained: bool) -> Path:
    torch.manual_seed(1)
    config = lora_config(DetectorLora(rank=4, alpha=8), freeze_vision=True)
    config.base_model_name_or_path = str(tiny)
    model = get_peft_model(Qwen3VLForConditionalGeneration.from_pretrained(tiny), config)
    if trained:
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(out)
    load_processor(str(tiny), "qwen3_vl").save_pretrained(out)
    write_detector_file(out, NOTE)
    return out


def test_a_merged_model_is_base_plus_adapter(tiny: Path, tmp_path: Path) -> None:
    folder = adapter(tiny, tmp_path / "adapter", trained=True)
    result = merge_adapter(folder, tmp_path / "merged")
    assert 0 < result["parity"]["apart"] < 1e-3 < result["parity"]["adapter_changes"]
    base, merged = load_file(tiny / "model.safetensors"), load_file(tmp_path / "merged" / "model.safetensors")
    lora = load_file(folder / "adapter_model.safetensors")
    layer = "model.language_model.layers.0.self_attn.q_proj"
    update = lora[f"base_model.model.{layer}.lora_B.weight"] @ lora[f"base_model.model.{layer}.lora_A.weight"]
    assert torch.allclose(merged[f"{layer}.weight"], base[f"{layer}.weight"] + 8 / 4 * update, atol=1e-6)
    assert all(torch.equal(merged[name], base[name]) for name in base if "visual" in name)
    note = json.loads((tmp_path / "merged" / "detector.json").read_text())
    assert note["template"] == NOTE["template"]
    assert note["merged"]["parity"] == result["parity"]
    with pytest.raises(InputError, match="is there already"):
        merge_adapter(folder, tmp_path / "merged")


def test_an_adapter_that_changes_nothing_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="changes nothing"):
        merge_adapter(adapter(tiny, tmp_path / "adapter", trained=False), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    with pytest.raises(InputError, match="is no adapter"):
        merge_adapter(tiny, tmp_path / "merged")


@pytest.mark.parametrize(("frozen", "in_tower"), [(True, False), (False, True)])
def test_an_adapter_binds_the_tower_only_where_it_is_trained(tiny: Path, frozen: bool, in_tower: bool) -> None:
    model = Qwen3VLForConditionalGeneration.from_pretrained(tiny)
    bound = get_peft_model(model, lora_config(DetectorLora(rank=2), freeze_vision=frozen))
    names = [name for name, parameter in bound.named_parameters() if parameter.requires_grad]
    assert any("visual" in name for name in names) == in_tower
    for part in ("q_proj", "v_proj", "down_proj"):
        assert sum(f"language_model.layers.0.self_attn.{part}" in name or f".mlp.{part}" in name for name in names)


def test_all_frozen_is_an_error(tiny: Path) -> None:
    model = Qwen3VLForConditionalGeneration.from_pretrained(tiny)
    frozen = freeze_vision(model)
    counts = trainable(model)
    assert counts["all"] - counts["trained"] == frozen
    model.requires_grad_(False)
    with pytest.raises(ModelError, match="every parameter is frozen"):
        trainable(model)


def scores(value: float) -> dict[str, Any]:
    kinds = ("artifact", "misalignment")
    return {
        "images": 7, "protocol": "paper", "parsing": {"rate": 0.125},
        "image_level": {kind: {"f1": value, "clean_accuracy": None} for kind in kinds},
        "boxes": {tau: {kind: {"f1": value} for kind in kinds} for tau in ("0.1", "0.5")},
        "description": {"similarity": "lexical", **{kind: {"mean": value} for kind in kinds}},
        "importance": dict.fromkeys(kinds, value),
        "intervals": {"boxes": {tau: {kind: {"f1": [0.1, 0.9]} for kind in kinds} for tau in ("0.1", "0.5")}},
    }  # fmt: skip


def test_the_card_says_what_the_weights_do_not() -> None:
    text = card_text(NOTE, name="a detector", evaluation=scores(0.25), ceiling=scores(0.278), notes="By hand.")
    template = load_template(DETECT_SHORT)
    for said in (
        template.id,
        "thousandths of the image's width (x) and height (y)",
        "`[x0, y0, x1, y1]`",
        "c" * 64,
        "base_model: owner/base",
        "| BoxF1@0.5 | 0.250 (0.100–0.900) | 0.250 (0.100–0.900) | 0.278 | 0.278 |",
        "| ClnAcc | – | – | – | – |",
        "parse-failure rate 0.125",
        "By hand.",
    ):
        assert said in text
    assert "No human ceiling was measured" not in text
    assert "No human ceiling was measured" in card_text(NOTE, name="a", evaluation=scores(0.25))
    assert "Not measured." in card_text(NOTE, name="a")


def test_a_card_needs_a_detector(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read it"):
        write_card(tmp_path)
    (tmp_path / "detector.json").write_text("{}")
    with pytest.raises(ModelError, match="names no template"):
        write_card(tmp_path)
