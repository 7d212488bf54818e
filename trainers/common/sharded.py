"""What a model that `accelerate` divides among devices (FSDP2) needs to be trained and saved as a whole one is.

`accelerate` gathers the weights. But checkpointing of activations, which its file asks for, wraps layers and so changes
the names of their weights, by which peft picks an adapter's and diffusers reads them; a weight that two modules share
is gathered twice; and one that is used without its layer is gathered, but its gradient is not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointWrapper
from torch.distributed.fsdp import FSDPModule

_WRAPPED: Final = "_checkpoint_wrapped_module"


def plain_name(name: str) -> str:
    """The name of a weight, or of a module, without the wrappers of checkpointing around the modules that hold it."""
    return ".".join(part for part in name.split(".") if part != _WRAPPED)


@contextlib.contextmanager
def plain_names(model: nn.Module) -> Iterator[None]:
    """Take the wrappers of checkpointing off for the length of the block, in which nothing is computed.

    Args:
        model: with such wrappers or without.
    """
    wrappers = {name: module for name, module in model.named_modules() if isinstance(module, CheckpointWrapper)}
    try:
        for name, wrapper in wrappers.items():
            model.set_submodule(name, getattr(wrapper, _WRAPPED))
        yield
    finally:
        for name, wrapper in wrappers.items():
            model.set_submodule(name, wrapper)


def gather_output_layer(model: Any) -> None:
    """Let a sharded output layer be whole after each pass of the model before it, for whoever takes its weight alone.

    TRL's fused loss does so without calling the layer. It gathers a weight that is still divided, but not the gradient:
    each device would teach its share of the rows by its own samples alone. Where input and output are tied, the input
    has gathered the weight already.

    Args:
        model: of transformers, or peft's of one; sharded later, or never.
    """
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model

    def gather(*_: Any) -> None:
        head = whole.get_output_embeddings()
        if isinstance(head, FSDPModule) and head.weight.requires_grad:
            head.unshard()

    whole.base_model.register_forward_hook(gather)


def without_copies(model: Any, weights: dict[str, Any]) -> dict[str, Any]:
    """Gathered weights without those that the model ties to others: their file has each once, as a whole model's has.

    Args:
        model: of transformers, which knows its ties; another one, such as peft's, has none to save.
        weights: name -> tensor.

    Returns:
        Those that are left.
    """
    ties: dict[str, str] = getattr(model, "all_tied_weights_keys", {})
    return {name: weight for name, weight in weights.items() if ties.get(name) not in weights}
