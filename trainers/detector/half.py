"""A trained model's files in bfloat16: full fine-tuning keeps float32 weights, which answering does not need."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def halve(folder: Path) -> None:
    """Rewrite the float32 weights of a folder in bfloat16, file by file, and what its other files say of them.

    Args:
        folder: as `save_pretrained` wrote it.
    """
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dict: keys() is all)
        half = {
            name: weight.to(torch.bfloat16) if weight.dtype == torch.float32 else weight
            for name, weight in weights.items()
        }
        total += sum(weight.nbytes for weight in half.values())
        temporary = path.with_suffix(".tmp")
        save_file(half, temporary, metadata=metadata)
        temporary.replace(path)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        note = json.loads(index.read_text(encoding="utf-8"))
        note.setdefault("metadata", {})["total_size"] = total
        index.write_text(json.dumps(note, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    config = folder / "config.json"
    if config.is_file():
        values = json.loads(config.read_text(encoding="utf-8"))
        for table in (values, *(part for part in values.values() if isinstance(part, dict))):
            if table.get("dtype") == "float32":
                table["dtype"] = "bfloat16"
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
