"""Vision attention over a batch of equal images at once.

Without flash attention, transformers' Qwen-VL vision tower attends image by image in a Python loop. Where all images
of a batch have the same number of patches, one batched call computes the same; for small images it is several times
faster. Batches of unequal images go the class's own way.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch.nn import functional


def batch_equal_images(model: Any) -> Any:
    """Let the vision tower of a Qwen3-VL batch equal images (flash attention, which does so itself, stays as it is).

    Changes the instance, not its class, and nothing that is saved. Returns the model.
    """
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionAttention

    for module in model.modules():
        if isinstance(module, Qwen3VLVisionAttention):
            module.forward = types.MethodType(_forward, module)
    return model


def _forward(
    self: Any,
    hidden_states: torch.Tensor,
    cu_seqlens: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    **kwargs: Any,
) -> torch.Tensor:
    """As the class's forward. hidden_states: (patches of all images, width); cu_seqlens: (images + 1,)."""
    lengths = cu_seqlens.diff()
    plain = self.config._attn_implementation in ("sdpa", "eager")
    if not plain or not bool((lengths == lengths[0]).all()):
        return type(self).forward(self, hidden_states, cu_seqlens, position_embeddings=position_embeddings, **kwargs)
    from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb_vision

    count = hidden_states.shape[0]
    query, key, value = self.qkv(hidden_states).reshape(count, 3, self.num_heads, -1).permute(1, 0, 2, 3).unbind(0)
    query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
    query, key, value = (
        part.reshape(len(lengths), -1, self.num_heads, part.shape[-1]).transpose(1, 2) for part in (query, key, value)
    )
    attended = functional.scaled_dot_product_attention(query, key, value, scale=self.scaling)
    return self.proj(attended.transpose(1, 2).reshape(count, -1))
