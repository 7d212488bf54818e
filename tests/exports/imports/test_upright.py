"""Boxes drawn on a photo as it is seen lie on the photo as it is read, though its samples lie on their side."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from PIL import Image

from sdg_data.cli import run
from sdg_data.store import annotations, images
from sdg_data.store.connection import Store
from tests.sdg_data.picture.cases import TURNED, exif_of

BACK = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
"""The orientation that undoes each."""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_seen_upright(tmp_path: Path, orientation: int) -> None:
    seen = np.full((96, 64, 3), 200, np.uint8)
    seen[20:60, 10:30] = (250, 0, 0)
    photos = tmp_path / "in"
    photos.mkdir()
    stored = np.ascontiguousarray(TURNED[BACK[orientation]](seen))
    Image.fromarray(stored).save(photos / "phone.jpg", exif=exif_of(orientation))
    (photos / "phone.txt").write_text("a red box on a plain ground")
    file = tmp_path / "upright.json"
    file.write_bytes(
        orjson.dumps(
            {
                "images": [{"id": 1, "file_name": "in/phone.jpg", "width": 64, "height": 96, "prompt": "a red box"}],
                "annotations": [
                    {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 20, 40], "reason": "x", "importance": 5}
                ],
                "categories": [{"id": 1, "name": "artifact"}],
            }
        )
    )
    home = tmp_path / "home"
    assert run(["--home", str(home), "images", "import", str(photos)]) == 0
    assert run(["--home", str(home), "import", "coco", str(file)]) == 0
    with Store(home).read() as tx:
        records = images.page(tx)
        by_image = annotations.of_images(tx, [record.id for record in records])
    assert [(record.width, record.height) for record in records] == [(64, 96)] * 2
    ((said,),) = by_image.values()
    box = said.defects[0].defect.box
    assert (box.x0, box.y0, box.x1, box.y1) == (156, 208, 469, 625)
