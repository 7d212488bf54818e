"""TRL trains on the exported rows as they are: two steps of its `SFTTrainer` with a Qwen3-VL of toy size."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from exports.run import ExportResult

torch = pytest.importorskip("torch")
trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.slow


def test_two_steps_of_sft(export: Callable[..., ExportResult], tmp_path: Path) -> None:
    from transformers import Qwen3VLForConditionalGeneration

    from annotate.vlm.qwen.processors import ImageOnlyQwen3VLProcessor
    from tests.annotate import tiny_vlm

    export(tmp_path / "rows", "trl")
    rows = datasets.load_dataset(str(tmp_path / "rows"), split="train", cache_dir=str(tmp_path / "cache"))
    folder = tiny_vlm.save_qwen3(tmp_path / "tiny")
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    trainer = trl.SFTTrainer(
        model=model,
        processing_class=ImageOnlyQwen3VLProcessor.from_pretrained(folder),
        train_dataset=rows,
        args=trl.SFTConfig(
            output_dir=str(tmp_path / "run"),
            max_steps=2,
            per_device_train_batch_size=2,
            learning_rate=1e-3,
            max_length=None,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            seed=0,
        ),
    )
    # What the collator makes of the rows: each image's patches are there, and only answers are learnt.
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(2)])
    pixels = batch["image_grid_thw"].prod(dim=1).sum()
    assert batch["pixel_values"].shape[0] == pixels > 0
    learnt = [ids[labels != -100] for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True)]
    words = trainer.processing_class.tokenizer
    for row, ids in zip(rows.select(range(2)), learnt, strict=True):
        assert words.decode(ids).strip().removesuffix("<|im_end|>").endswith(row["completion"][0]["content"])
        assert row["prompt"][0]["content"] not in words.decode(ids)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert trainer.state.global_step == 2
    assert len(losses) == 2
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    changed = {
        name for name, value in trainer.model.named_parameters() if not torch.equal(value.detach(), before[name])
    }
    assert any(name.startswith("model.visual") for name in changed)
    assert any("language_model" in name for name in changed)
    assert all(torch.isfinite(value).all() for value in trainer.model.parameters())
