"""Pairs for preference training: accepted edits against what they were made from, and images of one prompt.

As in RPO (arXiv 2503.11720) a pair counts only where two judges agree: the detector's burden is lower and the base
reward is higher. An edit whose reward was not measured makes no pair.

    pick-a-pic   one row a pair with the columns of Pick-a-Pic v2, which Diffusion-DPO's, diffusers' and MaPO's training
                 scripts read (`jpg_0`, `jpg_1`, `label_0`, `caption`)
    trl          rows of TRL's `DPOTrainer` for a vision-language judge: two images, and which of them is better

Which side the better image stands on is decided by the pair's id, so that it stands on each equally often.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from exports.files.arrow_schema import IMAGE_TYPE, parquet_schema
from schemas.records import ImageRecord
from schemas.refinement import EditVerdict
from sdg_data.blobs import Blobs
from sdg_data.errors import BlobCorrupt, BlobMissing, ConfigError, InputError
from sdg_data.ids import content_id
from sdg_data.metrics.refinement import RunRecords
from sdg_data.store import prompts
from sdg_data.store.connection import Tx
from sdg_data.store.rows import grouped

LAYOUTS: Final = ("pick-a-pic", "trl")
QUESTION: Final = "Which of these two images is better? Caption: [{prompt}]"
_ROW_GROUP: Final = 100
_TINY: Final = 1e-9

_MESSAGES: Final = pa.list_(
    pa.struct([("role", pa.string()), ("content", pa.list_(pa.struct([("type", pa.string()), ("text", pa.string())])))])
)
_COLUMNS: Final[Mapping[str, list[tuple[str, pa.DataType]]]] = {
    "pick-a-pic": [
        ("are_different", pa.bool_()),
        ("best_image_uid", pa.string()),
        ("caption", pa.string()),
        ("created_at", pa.string()),
        ("has_label", pa.bool_()),
        ("image_0_uid", pa.string()),
        ("image_0_url", pa.string()),
        ("image_1_uid", pa.string()),
        ("image_1_url", pa.string()),
        ("jpg_0", pa.binary()),
        ("jpg_1", pa.binary()),
        ("label_0", pa.float64()),
        ("label_1", pa.float64()),
        ("model_0", pa.string()),
        ("model_1", pa.string()),
        ("ranking_id", pa.int64()),
        ("user_id", pa.int64()),
        ("num_example_per_prompt", pa.int64()),
        ("source", pa.string()),
    ],
    "trl": [
        ("prompt", _MESSAGES),
        ("chosen", _MESSAGES),
        ("rejected", _MESSAGES),
        ("images", pa.list_(IMAGE_TYPE)),
        ("key", pa.string()),
    ],
}


@dataclass(frozen=True)
class Pair:
    """A better and a worse image of one prompt; `source` is "edit" or "within-prompt"."""

    caption: str
    prompt_id: str
    split: str
    chosen: ImageRecord
    rejected: ImageRecord
    source: str

    @property
    def id(self) -> str:
        """The pair's id."""
        return content_id("preference-pair", self.chosen.id, self.rejected.id)

    @property
    def chosen_first(self) -> bool:
        """Whether the better image stands first: by the pair's id, so in half of the pairs."""
        return int(self.id[-1], 16) % 2 == 0

    @property
    def ordered(self) -> tuple[ImageRecord, ImageRecord]:
        """The two images as they stand in the row."""
        return (self.chosen, self.rejected) if self.chosen_first else (self.rejected, self.chosen)


@dataclass
class PreferencePairs:
    """The pairs, and why others are none: reason -> number."""

    pairs: list[Pair] = field(default_factory=list)
    none: Counter[str] = field(default_factory=Counter)


def edit_pairs(tx: Tx, records: RunRecords) -> PreferencePairs:
    """Accepted edits of a run against their parents, where the run's reward rose too.

    Args:
        tx: A transaction.
        records: The run's.

    Returns:
        The pairs, by the ids of their images.
    """
    texts = prompts.by_ids(tx, sorted({record.prompt_id for record in records.images.values()}))
    outcome = PreferencePairs()
    for edit in records.edits:
        if edit.verdict is not EditVerdict.ACCEPTED or edit.image_id is None:
            continue
        before, after = edit.measured.get("reward_before"), edit.measured.get("reward_after")
        if before is None or after is None:
            outcome.none["no reward was measured"] += 1
        elif after <= before + _TINY:
            outcome.none["the reward did not rise"] += 1
        else:
            chosen, rejected = records.images[edit.image_id], records.images[edit.parent_id]
            prompt = texts[chosen.prompt_id]
            outcome.pairs.append(Pair(prompt.text, prompt.id, prompt.split.value, chosen, rejected, "edit"))
    outcome.pairs.sort(key=lambda pair: (pair.prompt_id, pair.id))
    return outcome


def within_prompts(
    tx: Tx,
    images: Sequence[ImageRecord],
    burdens: Mapping[str, float],
    rewards: Mapping[str, float],
    *,
    margin: float,
) -> PreferencePairs:
    """Pairs of a prompt's images by burden, where the reward says the same.

    Args:
        tx: A transaction.
        images: Those that are paired.
        burdens: Image -> the detector's burden; an image that is not there was not judged.
        rewards: Image -> the base reward; likewise.
        margin: The least difference of burdens.

    Returns:
        The pairs, by the ids of their prompts and images.
    """
    texts = prompts.by_ids(tx, sorted({image.prompt_id for image in images}))
    outcome = PreferencePairs()
    for prompt_id, members in sorted(grouped((image.prompt_id, image) for image in images).items()):
        for a, b in combinations(sorted(members, key=lambda image: image.id), 2):
            if a.id not in burdens or b.id not in burdens:
                outcome.none["the detector did not judge both"] += 1
            elif abs(burdens[a.id] - burdens[b.id]) < max(margin, _TINY):
                outcome.none["the burdens are too close"] += 1
            elif a.id not in rewards or b.id not in rewards:
                outcome.none["no reward was measured"] += 1
            else:
                better, worse = (a, b) if burdens[a.id] < burdens[b.id] else (b, a)
                if rewards[better.id] <= rewards[worse.id] + _TINY:
                    outcome.none["detector and reward do not agree"] += 1
                    continue
                prompt = texts[prompt_id]
                outcome.pairs.append(Pair(prompt.text, prompt_id, prompt.split.value, better, worse, "within-prompt"))
    return outcome


def write_pairs(pairs: Sequence[Pair], blobs: Blobs, folder: Path, layout: str) -> tuple[dict[str, int], list[str]]:
    """Write the pairs of each split to `SPLIT.parquet`; a file is there whole or not at all.

    Args:
        pairs: In the order in which they are written.
        blobs: Where their images are.
        folder: Where to; it is made.
        layout: One of `LAYOUTS`.

    Returns:
        Split -> number of rows, and the pairs that were left out because an image's bytes cannot be read.

    Raises:
        ConfigError: There is no such layout.
        InputError: A file cannot be written.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"there is no layout {layout!r}", item="--layout", hint=f"It is {' or '.join(LAYOUTS)}.")
    numbers = Counter(pair.prompt_id for pair in pairs)
    schema = parquet_schema(_COLUMNS[layout], ("images",) if layout == "trl" else ())
    counts: dict[str, int] = {}
    left_out: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split, members in sorted(grouped((pair.split, pair) for pair in pairs).items()):
            path = folder / f"{split}.parquet"
            unfinished = path.with_name(f".{path.name}.part")
            with pq.ParquetWriter(unfinished, schema, compression="none", use_dictionary=False) as writer:
                for start in range(0, len(members), _ROW_GROUP):
                    group = members[start : start + _ROW_GROUP]
                    rows = list(_rows(group, blobs, layout, numbers, left_out))
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                    counts[split] = counts.get(split, 0) + len(rows)
            unfinished.replace(path)
    except OSError as error:
        raise InputError(f"cannot write the pairs ({error.strerror or error})", item=str(folder)) from error
    return counts, left_out


def _rows(
    pairs: Sequence[Pair], blobs: Blobs, layout: str, numbers: Mapping[str, int], left_out: list[str]
) -> Iterator[dict[str, Any]]:
    for pair in pairs:
        try:
            data = [blobs.get(image.blob) for image in pair.ordered]
        except (BlobMissing, BlobCorrupt) as error:
            left_out.append(f"{pair.id}: {error.message}")
            continue
        yield _pick_a_pic(pair, data, numbers) if layout == "pick-a-pic" else _trl(pair, data)


def _pick_a_pic(pair: Pair, data: Sequence[bytes], numbers: Mapping[str, int]) -> dict[str, Any]:
    first, second = pair.ordered
    return {
        "are_different": True,
        "best_image_uid": pair.chosen.id,
        "caption": pair.caption,
        "created_at": max(first.created_at, second.created_at).isoformat(),
        "has_label": True,
        "image_0_uid": first.id,
        "image_0_url": "",
        "image_1_uid": second.id,
        "image_1_url": "",
        "jpg_0": data[0],
        "jpg_1": data[1],
        "label_0": float(pair.chosen_first),
        "label_1": float(not pair.chosen_first),
        "model_0": first.model,
        "model_1": second.model,
        "ranking_id": int(pair.id[:15], 16),
        "user_id": 0,
        "num_example_per_prompt": numbers[pair.prompt_id],
        "source": pair.source,
    }


def _trl(pair: Pair, data: Sequence[bytes]) -> dict[str, Any]:
    def said(text: str, role: str, pictures: int = 0) -> list[dict[str, Any]]:
        shown = [{"type": "image", "text": None}] * pictures
        return [{"role": role, "content": [*shown, {"type": "text", "text": text}]}]

    better, worse = ("Image 1", "Image 2") if pair.chosen_first else ("Image 2", "Image 1")
    return {
        "prompt": said(QUESTION.replace("{prompt}", pair.caption), "user", 2),
        "chosen": said(better, "assistant"),
        "rejected": said(worse, "assistant"),
        "images": [
            {"bytes": picture, "path": f"{image.id}.png"} for picture, image in zip(data, pair.ordered, strict=True)
        ],
        "key": pair.id,
    }
