"""A detector's heatmaps as files, which `sdg eval heatmaps` measures: ours, or ImageDoctor's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from exports.read.decode import decode_rgb
from exports.read.shard_table import ShardTable
from schemas.defect import DefectType
from sdg_data.errors import InputError
from sdg_data.progress import Progress
from trainers.common.row_file import earlier_rows
from trainers.detector.heatmaps import Floats, HeatmapReading, MapDetector

ROWS: Final = "maps.jsonl"
"""A row an image, as `sdg_data.metrics.heatmap_sources` describes it."""


def write_maps(
    detector: MapDetector, data: str, out: Path, *, split: str = "test", batch: int = 8, limit: int | None = None
) -> dict[str, int]:
    """Ask a detector for the maps of a split, and write them as 16-bit PNG beside `maps.jsonl`. Again: what is missing.

    Args:
        detector: ours as one of maps, or ImageDoctor.
        data: shards, an export's folder or URL.
        out: receives the maps and their rows.
        split: train or test.
        batch: images that are asked about at once.
        limit: only so many samples.

    Returns:
        How many images have a row now, and how many of those lack a map.

    Raises:
        InputError: `out` cannot be written to, or holds another detector's maps.
    """
    table = ShardTable(data, split=split)
    places = range(len(table) if limit is None else min(limit, len(table)))
    try:
        out.mkdir(parents=True, exist_ok=True)
        done = earlier_rows(out / ROWS, "key", maker="detector", name=detector.name, what="maps")
        waiting = [place for place in places if table.sample(place).key not in done]
        with Progress("asking", unit="images").running(len(waiting)) as progress:
            for start in range(0, len(waiting), batch):
                part = waiting[start : start + batch]
                samples = [table.sample(place) for place in part]
                images = [Image.fromarray(decode_rgb(table.image(place))) for place in part]
                readings = detector.read(
                    [(image, sample.prompt) for image, sample in zip(images, samples, strict=True)]
                )
                keys = [sample.key for sample in samples]
                rows = [_row(out, detector.name, key, reading) for key, reading in zip(keys, readings, strict=True)]
                with (out / ROWS).open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                done |= {row["key"]: row for row in rows}
                progress.advance(len(part))
    except OSError as error:
        raise InputError(f"cannot write there ({error.strerror})", item=str(out)) from error
    silent = sum(any(row[f"{kind}_heatmap"] is None for kind in DefectType) for row in done.values())
    return {"images": len(done), "without a map": silent}


def _row(out: Path, name: str, key: str, reading: HeatmapReading) -> dict[str, Any]:
    maps = {f"{kind}_heatmap": _save(out, f"{key}.{kind}.png", reading.heatmaps[kind]) for kind in DefectType}
    return {"key": key, "image_id": key, "detector": name, **maps, **reading.scores, "reason": reading.reason}


def _save(out: Path, name: str, heat: Floats | None) -> str | None:
    """Write a map; its name, or None for no map."""
    if heat is None:
        return None
    Image.fromarray(np.rint(heat.clip(0, 1) * 65_535).astype(np.uint16)).save(out / name)
    return name
