"""Heatmaps against a naive map of every thousandth, and as they lie in an export."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exports.formats.heatmaps import encode
from exports.run import ExportResult
from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from sdg_data.metrics.heatmaps import rasterise
from tests.exports.worlds import picture


def defect(x0: int, y0: int, x1: int, y1: int, importance: int, kind: str = "artifact") -> Defect:
    box = Box(x0=x0, y0=y0, x1=x1, y1=y1)
    return Defect(box=box, type=kind, reason="r", importance=importance)  # type: ignore[arg-type]


@pytest.mark.parametrize("side", [4, 10, 50])
def test_against_counting_thousandths(side: int) -> None:
    defects = [defect(0, 0, 333, 1000, 80), defect(300, 100, 301, 101, 100), defect(120, 130, 977, 641, 35)]
    naive = np.zeros((side, side))
    for claimed in defects:
        fine = np.zeros((1000, 1000))
        fine[claimed.box.y0 : claimed.box.y1, claimed.box.x0 : claimed.box.x1] = claimed.importance / 100
        step = 1000 // side
        naive = np.maximum(naive, fine.reshape(side, step, side, step).mean(axis=(1, 3)))
    assert np.allclose(rasterise(defects, side, side, type=DefectType.ARTIFACT), naive)
    assert not rasterise(defects, side, side, type=DefectType.MISALIGNMENT).any()


def test_png_holds_the_rounded_map() -> None:
    weights = rasterise([defect(0, 0, 500, 1000, 62)], 8, 8, type=DefectType.ARTIFACT)
    stored = np.asarray(Image.open(io.BytesIO(encode(weights))))
    assert stored.dtype == np.uint8
    assert (stored[:, :4] == round(0.62 * 255)).all()
    assert not stored[:, 4:].any()


def test_rows_name_maps_of_the_stated_defects(export: Callable[..., ExportResult], tmp_path: Path) -> None:
    done = export(tmp_path, "heatmaps", heatmap_side=20)
    assert done.manifest.notes["side"] == 20
    rows = [json.loads(line) for line in (tmp_path / "mini-train.jsonl").read_text().splitlines()]
    prompts = {picture(number).prompt: picture(number) for number in range(24)}
    for row in rows:
        for kind in DefectType:
            stored = np.asarray(Image.open(tmp_path / row[f"{kind}_heatmap"]))
            has = any(defect.type is kind for defect in prompts[row["prompt"]].defects)
            assert stored.any() == has
