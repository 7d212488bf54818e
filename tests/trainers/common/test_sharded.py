"""Saving what `accelerate` has wrapped: names, adapters, and weights that two modules share."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from sdg_data.processes import launcher_checkpoints
from tests.annotate import tiny_vlm
from trainers.common.sharded import plain_name, plain_names, without_copies


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x).relu()


def wrapped(model: Any) -> Any:
    """With its blocks wrapped, as `accelerate` does where it checkpoints activations."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Block):
            model.set_submodule(name, checkpoint_wrapper(module))
    return model


def test_an_adapter_is_saved_whole_though_its_layers_are_wrapped(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = get_peft_model(
        nn.Sequential(Block(), Block(), nn.Linear(3, 2)), LoraConfig(r=2, target_modules=["inner", "2"])
    )
    model = wrapped(copy.deepcopy(plain))
    x = torch.randn(4, 3)
    before = model(x)
    with plain_names(model):
        assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
        model.save_pretrained(tmp_path / "wrapped")
    plain.save_pretrained(tmp_path / "plain")
    found, expected = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("wrapped", "plain"))
    assert found.keys() == expected.keys()
    assert len(found) == 6
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert torch.equal(model(x), before)
    assert any("_checkpoint_wrapped_module" in name for name, _ in model.named_parameters())
    assert [plain_name(name) for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]


def test_the_wrappers_are_put_back_where_saving_fails() -> None:
    model = wrapped(nn.Sequential(Block()))
    with pytest.raises(OSError, match="disk full"), plain_names(model):
        raise OSError("disk full")
    assert [name for name, _ in model.named_modules()][1:3] == ["0", "0._checkpoint_wrapped_module"]


def test_a_tied_weight_is_written_once(tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(tiny_vlm.save_qwen3(tmp_path))
    gathered = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert gathered.keys() - without_copies(model, gathered).keys() == {"lm_head.weight"}
    assert without_copies(nn.Linear(2, 2), {"weight": 1}) == {"weight": 1}


def test_what_the_launcher_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for fsdp, checkpointing, expected in (("true", "true", True), ("true", "false", False), ("false", "true", False)):
        monkeypatch.setenv("ACCELERATE_USE_FSDP", fsdp)
        monkeypatch.setenv("FSDP_ACTIVATION_CHECKPOINTING", checkpointing)
        assert launcher_checkpoints() is expected
