"""A model's folder in the spellings of transformers 5 and of 4, which others that load it still run.

transformers 5 writes rotary positions as `rope_parameters` and a tokenizer's special tokens as a list of
`extra_special_tokens`. transformers 4 passes over the first, so that positions are those of the class's defaults or the
model does not load, and ends in an error at the second. Both read the older spelling, so it is written as well.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_older_spellings(folder: Path) -> None:
    """Add what transformers 4 reads to `config.json` and `tokenizer_config.json`, as far as they are there.

    Args:
        folder: The model's.
    """
    config = _read(folder / "config.json")
    if config is not None:
        for part in (config, *(value for value in config.values() if isinstance(value, dict))):
            rope = part.get("rope_parameters")
            if isinstance(rope, dict) and "rope_theta" in rope:
                part["rope_theta"] = rope["rope_theta"]
                part["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}
        write_config(folder / "config.json", config)
    tokenizer = _read(folder / "tokenizer_config.json")
    if tokenizer is not None and isinstance(tokenizer.get("extra_special_tokens"), list):
        tokenizer["additional_special_tokens"] = tokenizer.pop("extra_special_tokens")
        write_config(folder / "tokenizer_config.json", tokenizer)


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def write_config(path: Path, values: dict[str, Any]) -> None:
    """Write a configuration file in the form that transformers gives them."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
