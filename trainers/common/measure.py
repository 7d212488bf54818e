"""Counts the published models' parameters and operations: `python -m trainers.common.measure` fills in the files.

Everything happens on torch's meta device, where tensors have shapes and no numbers, so a model of 32 billion parameters
takes a second and no memory. Needs the extra `generate`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from sdg_data.preflight.sizes import FOLDER, SIDES

TEXT_TOKENS: Final = 512
"""Tokens of a prompt, as the pipelines pad it (SANA: 300, SD3: 77 and 256)."""


def build(part: Mapping[str, Any], *, shrunk: bool = False, device: str = "meta") -> Any:
    """A component from its configuration, with weights that nobody trained, or none on the meta device.

    Args:
        part: A component of a file: `class`, `config`, `shrunk`.
        shrunk: Two layers instead of all, at the real widths.
        device: torch's name.

    Returns:
        The module.
    """
    import torch

    library, _, name = part["class"].partition(".")
    config = copy.deepcopy(dict(part["config"]))
    if shrunk:
        for key, value in part.get("shrunk", {}).items():
            _set(config, key.split("."), value)
    with torch.device(device):
        if library == "diffusers":
            import diffusers

            return getattr(diffusers, name).from_config(config)
        import transformers

        kind = getattr(transformers, name)
        return kind(kind.config_class(**config))


def parameters(module: Any) -> int:
    """How many numbers the weights of a module are."""
    return sum(parameter.numel() for parameter in module.parameters())


def forward_tflop(part: Mapping[str, Any], side: int, height: int | None = None) -> float:
    """Tera floating-point operations of one forward of a transformer.

    Args:
        part: The component `transformer` of a file.
        side: Width of the image in pixels.
        height: Of the image; None: the same.

    Returns:
        Multiplications and additions, as torch counts them.
    """
    module = build(part)
    inputs = _INPUTS[part["class"].partition(".")[2]](side, height or side, module.config)
    return _counted(lambda: module(**inputs, return_dict=False))


def decode_tflop(part: Mapping[str, Any], side: int = 1024) -> float:
    """Tera floating-point operations of decoding one image of that side by an autoencoder."""
    module = build(part)
    down = 32 if part["class"].endswith("DC") else 8
    channels = int(module.config.latent_channels)
    latents = _empty(1, channels, side // down, side // down, dtype="float32")
    return _counted(lambda: module.decode(latents, return_dict=False))


def measured(values: Mapping[str, Any]) -> dict[str, Any]:
    """A file's values with all that is computed filled in."""
    result = copy.deepcopy(dict(values))
    parts = result["components"]
    for part in parts.values():
        part["parameters"] = parameters(build(part))
    if "transformer" in parts:
        result["forward_tflop"] = [round(forward_tflop(parts["transformer"], side), 4) for side in SIDES]
        result["decode_tflop"] = round(decode_tflop(parts["vae"]), 4)
    return result


def _counted(call: Callable[[], object]) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return float(counter.get_total_flops()) / 1e12


def _set(config: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        config = config[key]
    config[keys[-1]] = value


def _empty(*shape: int, dtype: str = "float32") -> Any:
    import torch

    return torch.empty(*shape, dtype=getattr(torch, dtype), device="meta")


def _packed(axes: int) -> Callable[[int, int, Any], dict[str, Any]]:
    """Inputs of the transformers that take 2×2 patches in a row, with `axes` position ids a token."""

    def inputs(width: int, height: int, config: Any) -> dict[str, Any]:
        locations = (width // 16) * (height // 16)
        values = {
            "hidden_states": _empty(1, locations, config.in_channels),
            "encoder_hidden_states": _empty(1, TEXT_TOKENS, config.joint_attention_dim),
            "timestep": _empty(1),
            "guidance": _empty(1),
            "txt_ids": _empty(TEXT_TOKENS, axes),
            "img_ids": _empty(locations, axes),
        }
        if config.get("guidance_embeds") and "pooled_projection_dim" in config:
            values["pooled_projections"] = _empty(1, config.pooled_projection_dim)
        return values

    return inputs


def _z_image(width: int, height: int, config: Any) -> dict[str, Any]:
    image = _empty(config.in_channels, 1, height // 8, width // 8)
    return {"x": [image], "t": _empty(1), "cap_feats": [_empty(TEXT_TOKENS, config.cap_feat_dim)]}


def _sana(width: int, height: int, config: Any) -> dict[str, Any]:
    return {
        "hidden_states": _empty(1, config.in_channels, height // 32, width // 32),
        "timestep": _empty(1),
        "encoder_hidden_states": _empty(1, 300, config.caption_channels),
        "encoder_attention_mask": _empty(1, 300),
    }


def _sd3(width: int, height: int, config: Any) -> dict[str, Any]:
    return {
        "hidden_states": _empty(1, config.in_channels, height // 8, width // 8),
        "timestep": _empty(1),
        "encoder_hidden_states": _empty(1, 77 + 256, config.joint_attention_dim),
        "pooled_projections": _empty(1, config.pooled_projection_dim),
    }


_INPUTS: Final[Mapping[str, Callable[[int, int, Any], dict[str, Any]]]] = {
    "FluxTransformer2DModel": _packed(3),
    "Flux2Transformer2DModel": _packed(4),
    "LongCatImageTransformer2DModel": _packed(3),
    "ZImageTransformer2DModel": _z_image,
    "SanaTransformer2DModel": _sana,
    "SD3Transformer2DModel": _sd3,
}


def main(folder: Path = FOLDER) -> None:
    """Fill in what is computed in every file of a folder."""
    for path in sorted(folder.glob("*.json")):
        values = measured(json.loads(path.read_text(encoding="utf-8")))
        path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
