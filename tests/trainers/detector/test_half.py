"""The final weights in bfloat16, and activations that are checkpointed once."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from tests.annotate import tiny_vlm
from trainers.detector.half import halve
from trainers.detector.sft_config import sdg30k


@pytest.mark.parametrize("shards", [1, 3])
def test_the_weights_are_rounded_and_the_model_is_the_same(tmp_path: Path, shards: int) -> None:
    folder = tiny_vlm.save_qwen3(tmp_path / "model")
    model = transformers.Qwen3VLForConditionalGeneration.from_pretrained(folder)
    if shards > 1:
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size="300KB")
        assert len(list(folder.glob("*.safetensors"))) >= 2
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    halve(folder)
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) < 0.6 * size
    files = [load_file(path) for path in folder.glob("*.safetensors")]
    assert {weight.dtype for file in files for weight in file.values()} == {torch.bfloat16}
    assert not list(folder.glob("*.tmp"))
    again = transformers.Qwen3VLForConditionalGeneration.from_pretrained(folder)
    assert again.dtype == torch.bfloat16
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight.to(torch.bfloat16)), name
    index = folder / "model.safetensors.index.json"
    if shards > 1:
        total = json.loads(index.read_text())["metadata"]["total_size"]
        assert total == sum(weight.nbytes for file in files for weight in file.values())


def test_activations_are_not_checkpointed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    config = sdg30k()
    assert config.common_arguments("x", 8)["activation_checkpointing"] is True
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert config.common_arguments("x", 8)["activation_checkpointing"] is True
    monkeypatch.setenv("FSDP_ACTIVATION_CHECKPOINTING", "true")
    assert config.common_arguments("x", 8)["activation_checkpointing"] is False
