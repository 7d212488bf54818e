"""The published ImageDoctor checkpoint as a doctor's folder, and back.

The published model is Qwen2.5-VL of transformers 4.49 with the decoder patched in: its weights are named as that
version names them, its decoder as SAM's own code does. What the names mean is the same here, so a conversion renames
and never computes. SAM's prompt encoder has parts that the model never uses (points, boxes, masks); a doctor has none
of them, so they are kept in a file of their own, for the way back.

The published folder needs its own Python files to be loaded elsewhere (`trust_remote_code`). They are not ours to
write: copy them beside the result of `to_published`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from sdg_data.errors import InputError, ModelError
from sdg_data.model_files import loading_errors, loading_reason
from trainers.common.run_folder import write_json
from trainers.doctor.head import HeadShape
from trainers.doctor.model import KINDS

UNUSED: Final = "unused_prompt_encoder.safetensors"
"""Beside a converted doctor's weights: the parts of SAM's prompt encoder that the model never uses."""
_INDEX: Final = "model.safetensors.index.json"
_PLAIN: Final = frozenset({torch.bfloat16, torch.float16, torch.float32, torch.float64})
_KEYS: Final = (*(f"{kind}_token_id" for kind in KINDS), "heatmap_weight")
_LAYER_NORMS: Final = r"(heatmap\.transformer\.layers\.\d+\.)norm(\d)\."

_TO_OURS: Final[tuple[tuple[str, str], ...]] = (
    (r"^visual\.", "model.visual."),
    (r"^model\.(?!visual\.|language_model\.)", "model.language_model."),
    (rf"^{_LAYER_NORMS}", r"\1layer_norm\2."),
    (r"^heatmap\.transformer\.norm_final_attn\.", "heatmap.transformer.layer_norm_final_attn."),
    (r"^heatmap\.output_hypernetworks_mlps\.0\.layers\.0\.", "heatmap.output_hypernetworks_mlps.0."),
    (r"^heatmap\.output_hypernetworks_mlps\.0\.layers\.1\.", "heatmap.output_hypernetworks_mlps.2."),
    (r"^heatmap\.output_hypernetworks_mlps\.0\.layers\.2\.", "heatmap.output_hypernetworks_mlps.4."),
    (r"^(text|image)_hidden_fcs\.0\.", r"heatmap.\1_hidden_fcs."),
    (r"^prompt_encoder\.no_mask_embed\.", "heatmap.no_mask_embed."),
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", "heatmap.positions"),
)
_TO_THEIRS: Final[tuple[tuple[str, str], ...]] = (
    (r"^model\.visual\.", "visual."),
    (r"^model\.language_model\.", "model."),
    (r"^(heatmap\.transformer\.layers\.\d+\.)layer_norm(\d)\.", r"\1norm\2."),
    (r"^heatmap\.transformer\.layer_norm_final_attn\.", "heatmap.transformer.norm_final_attn."),
    (r"^heatmap\.output_hypernetworks_mlps\.0\.", "heatmap.output_hypernetworks_mlps.0.layers.0."),
    (r"^heatmap\.output_hypernetworks_mlps\.2\.", "heatmap.output_hypernetworks_mlps.0.layers.1."),
    (r"^heatmap\.output_hypernetworks_mlps\.4\.", "heatmap.output_hypernetworks_mlps.0.layers.2."),
    (r"^heatmap\.(text|image)_hidden_fcs\.", r"\1_hidden_fcs.0."),
    (r"^heatmap\.no_mask_embed\.", "prompt_encoder.no_mask_embed."),
    (r"^heatmap\.positions$", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
)


def our_name(name: str) -> str | None:
    """The published name of a weight as ours; None for those that the model never uses."""
    renamed = _renamed(name, _TO_OURS)
    return None if renamed.startswith("prompt_encoder.") else renamed


def their_name(name: str) -> str:
    """Our name of a weight as the published one."""
    return _renamed(name, _TO_THEIRS)


def from_published(source: Path, out: Path) -> dict[str, Any]:
    """Make a doctor's folder of a checkpoint in the published layout.

    `InputError` is raised where a folder is missing, or there already, and `ModelError` where the checkpoint has
    another layout, or lacks weights.

    Args:
        source: A folder with config.json and safetensors.
        out: The doctor's folder; must not be there yet.

    Returns:
        How many weights were taken over, and how many the model never uses.
    """
    config = _config(source, out)
    _check_published(config, source)
    unused: dict[str, torch.Tensor] = {}

    def renamed(name: str, weight: torch.Tensor) -> str | None:
        ours = our_name(name)
        if ours is None:
            unused[name] = weight
        return ours

    with _building(out) as folder:
        names = _rewrite(source, folder, renamed)
        shape = _published_shape(names, source)
        layout = {key: value for key, value in config.items() if key not in ("auto_map", "architectures")}
        layout |= {
            "model_type": "qwen2_5_vl_doctor", "architectures": ["Qwen25VLDoctor"], "heatmap_head": shape,
        }  # fmt: skip
        write_json(folder / "config.json", layout)
        if unused:
            save_file(unused, folder / UNUSED, {"format": "pt"})
        _check_whole(folder, names, source)
        _copy_rest(source, folder)
    return {"model": str(out), "weights": len(names), "unused": len(unused)}


def to_published(source: Path, out: Path) -> dict[str, Any]:
    """Write a doctor of Qwen2.5-VL in the published layout.

    `InputError` is raised where a folder is missing, or there already.

    Args:
        source: The doctor's folder.
        out: The result's; must not be there yet.

    Returns:
        How many weights were written, and how many of them are parts that the model never uses.

    Raises:
        ModelError: It is no doctor of Qwen2.5-VL, or its decoder has other sizes than the published code can load.
    """
    config = _config(source, out)
    if config.get("model_type") != "qwen2_5_vl_doctor":
        raise ModelError(
            f"is a {config.get('model_type')}; the published layout is that of a qwen2_5_vl_doctor", item=str(source)
        )
    try:
        shape = HeadShape(**(config.get("heatmap_head") or {}))
    except TypeError as error:
        raise ModelError(f"its config.json has no sizes of a decoder: {error}", item=str(source)) from error
    if not shape.task_tokens:
        raise ModelError("has no task tokens, which the published layout needs", item=str(source))
    kept = source / UNUSED
    unused = load_file(kept) if kept.is_file() else _unused_parts(shape.width)
    with _building(out) as folder:
        names = _rewrite(source, folder, lambda name, weight: their_name(name), more=unused)
        layout = {key: value for key, value in config.items() if key != "heatmap_head"}
        text = layout.pop("text_config", {})
        layout = {**{key: value for key, value in text.items() if key != "model_type"}, **layout}
        layout |= {"model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"]}
        write_json(folder / "config.json", layout)
        _copy_rest(source, folder)
    return {"model": str(out), "weights": len(names) + len(unused), "unused": len(unused)}


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        changed, times = re.subn(pattern, replacement, name)
        if times:
            return changed
    return name


def _published_shape(weights: Mapping[str, tuple[int, ...]], source: Path) -> dict[str, Any]:
    """The decoder's sizes, read off its weights' shapes; the heads are the published 8."""

    def channels(pattern: str) -> list[int]:
        sizes = {int(match[1]): size[0] for name, size in weights.items() if (match := re.match(pattern, name))}
        return [sizes[number] for number in sorted(sizes)]

    upscaling = r"heatmap\.output_upscaling\."
    try:
        width = weights["heatmap.mask_tokens.weight"][1]
        return {
            "width": width,
            "depth": len(channels(r"heatmap\.transformer\.layers\.(\d+)\.mlp\.lin1\.weight")),
            "heads": 8,
            "mlp": weights["heatmap.transformer.layers.0.mlp.lin1.weight"][0],
            "narrowing": channels(upscaling + r"conv_layers\.(\d+)\.weight"),
            "enlarging": [
                weights[f"heatmap.output_upscaling.deconv_layers.{number}.0.weight"][1]
                for number in range(len(channels(upscaling + r"deconv_layers\.(\d+)\.0\.weight")))
            ],
            "channels": weights["heatmap.output_upscaling.last_conv1.weight"][0],
            "task_tokens": True,
        }
    except (KeyError, IndexError) as error:
        raise ModelError(
            f"is no ImageDoctor: of its decoder's weights there is no {error}", item=str(source)
        ) from error


def _check_published(config: Mapping[str, Any], source: Path) -> None:
    """The configuration is one of the published layout."""
    absent = [key for key in _KEYS if key not in config]
    if absent:
        raise ModelError(f"is no ImageDoctor: its config.json has no {', '.join(absent)}", item=str(source))
    if config.get("model_type") != "qwen2_5_vl":
        raise ModelError(
            f"is a {config.get('model_type')}; the published layout is that of a qwen2_5_vl", item=str(source)
        )
    words = (config.get("text_config") or config).get("vocab_size")
    for key in _KEYS[:-1]:
        token = config[key]
        if type(token) is not int or token < 0 or (type(words) is int and token >= words):
            raise ModelError(f"its config.json has {key} = {token!r}, which is no token of {words}", item=str(source))


def _check_whole(folder: Path, weights: Mapping[str, tuple[int, ...]], source: Path) -> None:
    """Every weight of a doctor of that configuration is there, in its shape, and nothing else is."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    try:
        config = AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config)
    except loading_errors() as error:
        raise ModelError(
            f"no model can be made of its config.json ({loading_reason(error)})", item=str(source)
        ) from error
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        wanted.pop("lm_head.weight", None)
        weights = {name: size for name, size in weights.items() if name != "lm_head.weight"}
    wrong = {
        "missing": [name for name in wanted if name not in weights],
        "unknown": [name for name in weights if name not in wanted],
        "of another shape": [name for name in wanted if weights.get(name, wanted[name]) != wanted[name]],
    }
    if any(wrong.values()):
        words = "; ".join(f"{len(names)} {what}, such as {names[0]}" for what, names in wrong.items() if names)
        raise ModelError(f"its weights are not those of its config.json: {words}", item=str(source))


def _unused_parts(width: int) -> dict[str, torch.Tensor]:
    """The parts of SAM's prompt encoder that the model never uses, as zeros; the published code loads strictly."""
    shapes: dict[str, tuple[int, ...]] = {f"point_embeddings.{number}.weight": (1, width) for number in range(4)}
    shapes |= {
        "not_a_point_embed.weight": (1, width),
        "mask_downscaling.0.weight": (4, 1, 2, 2), "mask_downscaling.0.bias": (4,),
        "mask_downscaling.1.weight": (4,), "mask_downscaling.1.bias": (4,),
        "mask_downscaling.3.weight": (16, 4, 2, 2), "mask_downscaling.3.bias": (16,),
        "mask_downscaling.4.weight": (16,), "mask_downscaling.4.bias": (16,),
        "mask_downscaling.6.weight": (width, 16, 1, 1), "mask_downscaling.6.bias": (width,),
    }  # fmt: skip
    return {f"prompt_encoder.{name}": torch.zeros(shape) for name, shape in shapes.items()}


def _rewrite(
    source: Path,
    folder: Path,
    rename: Callable[[str, torch.Tensor], str | None],
    more: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Write the weights under other names, file by file; returns the new names with their shapes."""
    files = _weight_files(source)
    shapes: dict[str, tuple[int, ...]] = {}
    places: dict[str, str] = {}
    total = 0
    for number, path in enumerate(files):
        pairs = _tensors(path)
        weights = {renamed: weight for name, weight in pairs if (renamed := rename(name, weight)) is not None}
        twice = next(iter(weights.keys() & shapes.keys()), None)
        if twice is not None:
            raise ModelError(f"has the weight {twice} in two files", item=str(source))
        written = weights if number else {**weights, **(more or {})}
        save_file(written, folder / path.name, {"format": "pt"})
        shapes |= {name: tuple(weight.shape) for name, weight in weights.items()}
        places |= dict.fromkeys(written, path.name)
        total += sum(weight.nbytes for weight in written.values())
    if len(files) > 1:
        write_json(folder / _INDEX, {"metadata": {"total_size": total}, "weight_map": places})
    return shapes


def _weight_files(source: Path) -> list[Path]:
    """The files of a model's weights: those of its index where it has one."""
    index = source / _INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError("is no index of weights", item=str(index)) from error
        absent = [name for name in names if Path(name).name != name or not (source / name).is_file()]
        if absent:
            raise ModelError(f"{len(absent)} of its {len(names)} files are not there: {absent[0]}", item=str(index))
        return [source / name for name in names]
    files = sorted(path for path in source.glob("*.safetensors") if path.name != UNUSED)
    if files:
        return files
    hint = "A file of *.safetensors is needed."
    if any(source.glob("*.bin")) or any(source.glob("*.pt*")):
        hint = (
            "Its *.bin or *.pt are pickles, which run programs where they are read. Where you trust them, read them "
            "with torch.load(…, weights_only=True) and write safetensors.torch.save_file."
        )
    raise ModelError("has no *.safetensors", item=str(source), hint=hint)


def _tensors(path: Path) -> list[tuple[str, torch.Tensor]]:
    """The weights in a file, as they are."""
    try:
        with safe_open(path, framework="pt") as file:
            pairs = [(name, file.get_tensor(name)) for name in file.keys()]  # noqa: SIM118  (no dict)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"cannot be read ({str(error)[:200]})", item=str(path), hint="Was its download cut off? Fetch it again."
        ) from error
    odd = next((name for name, weight in pairs if weight.dtype not in _PLAIN), None)
    if odd is not None:
        dtype = str(dict(pairs)[odd].dtype).removeprefix("torch.")
        raise ModelError(
            f"its weight {odd} is of {dtype}",
            item=str(path),
            hint="Weights of 16 or 32 bits are taken, no packed ones.",
        )
    return pairs


def _config(source: Path, out: Path) -> dict[str, Any]:
    path = source / "config.json"
    if out.exists():
        raise InputError("is there already", item=str(out), hint="Name another --out.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read it ({error.strerror})", item=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"is no JSON ({error})", item=str(path)) from error
    if not isinstance(config, dict):
        raise ModelError("is no JSON object", item=str(path))
    return config


class _building:  # noqa: N801  (used as a function)
    """A folder beside `out` that takes its place when all went well, and goes where it did not."""

    def __init__(self, out: Path) -> None:
        self._out, self._folder = out, out.with_name(f".{out.name}.building")

    def __enter__(self) -> Path:
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            self._folder.mkdir(parents=True)
        except OSError as error:
            raise InputError(f"cannot write there ({error.strerror})", item=str(self._out)) from error
        return self._folder

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self._folder.rename(self._out)
        else:
            shutil.rmtree(self._folder, ignore_errors=True)


def _copy_rest(source: Path, folder: Path) -> None:
    """Tokenizer, processor and generation settings, as they are; no Python file."""
    for path in sorted(source.iterdir()):
        known = path.suffix in (".json", ".txt", ".jinja", ".model")
        if path.is_file() and known and path.name != _INDEX and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
