"""Run by one process or two: a training of two rollouts, its weights to a file. Arguments: folder, kind, pipeline."""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import DiffusionPipeline
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from tests.trainers.boxflow.support import Broken, tiny_task
from trainers.boxflow.state import gathered
from trainers.boxflow.trainer import BoxFlowTrainer, Task


def sharded(accelerator: Accelerator, model: Any, optimizer: Any) -> tuple[Any, Any]:
    """What `accelerate` does for FSDP2 on GPUs, not on CPUs: shard the weights, give the optimizer the shards."""
    mesh = init_device_mesh("cpu", (accelerator.num_processes,))
    names = {parameter: name for name, parameter in model.named_parameters()}
    for block in (*model.transformer_blocks, *model.single_transformer_blocks):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    shards = dict(model.named_parameters())
    for group in optimizer.param_groups:
        group["params"] = [shards[names[parameter]] for parameter in group["params"]]
    return model, optimizer


def task_of(folder: Path, kind: str) -> Task:
    more: dict[str, Any] = {}
    if kind == "failing":
        more |= {"detector": Broken("garbage", every=1), "max_failure_rate": 0.2}
    if "forward" in kind:
        more |= {"estimator": "forward", "draws": 2, "shared_draws": True, "old_decay": 0.5, "old_growth": 0.5}
    # groups of four in chunks of two: with two processes each group is split between them
    task = tiny_task(folder, rollouts=2, passes=2, minibatches=2, beta=0.1, sample_every=1, **more)
    # read from disk: tokenizers are not learned alike in two processes
    task.pipeline = DiffusionPipeline.from_pretrained(sys.argv[3])
    task.held_out = ("a yellow star at the left", "a blue circle at the top", "a red star at the right")
    return task


def main() -> None:
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    if "sharded" in kind:
        Accelerator.prepare = sharded
    trainer = BoxFlowTrainer(task_of(folder, kind))
    trainer.train()
    weights = gathered(trainer.named, trainer.ema, trainer.optimizer)["ema"]
    if trainer.main:
        torch.save(weights, folder / "weights.pt")
    if "sharded" in kind:
        assert all(hasattr(weights, "device_mesh") for weights in trainer.named.values())
        again = BoxFlowTrainer(task_of(folder, kind))
        assert again.done == 2
        state = gathered(again.named, again.ema, again.optimizer)
        assert all(torch.equal(state["ema"][name], value) for name, value in weights.items())
        assert any(moments for moments in state["optimizer"].values())


if __name__ == "__main__":
    main()
