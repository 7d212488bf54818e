"""FiftyOne's dataset on disk: what is written, and what its reader would make of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exports.read.reader import ShardReader
from exports.run import ExportResult


@pytest.fixture(scope="module")
def folder(export: Callable[..., ExportResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fiftyone")
    export(path, "fiftyone")
    return path


def test_every_sample_has_its_image_and_its_boxes_as_shares(folder: Path, shards: Path) -> None:
    samples = {sample["key"]: sample for sample in json.loads((folder / "samples.json").read_text())["samples"]}
    clean = 0
    for example in ShardReader(shards):
        assert example.sample is not None
        sample, found = example.sample, samples.pop(example.sample.key)
        assert (folder / found["filepath"]).read_bytes() == example.image
        assert found["tags"] == [found["split"]] == [sample.split]
        assert (found["prompt"], found["model"]) == (sample.prompt, sample.model)
        assert (found["metadata"]["width"], found["metadata"]["height"]) == (64, 64)
        assert found["detections"]["_cls"] == "Detections"
        clean += not found["detections"]["detections"]
        for detection, defect in zip(found["detections"]["detections"], sample.defects, strict=True):
            x, y, width, height = detection["bounding_box"]
            corners = [round(1000 * edge) for edge in (x, y, x + width, y + height)]
            assert corners == [defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1]
            assert (detection["_cls"], detection["label"], detection["importance"]) == (
                "Detection",
                defect.type,
                defect.importance,
            )
            assert (detection["reason"], detection["subtype"], detection["attribute"]) == (
                defect.reason,
                defect.subtype,
                defect.attribute,
            )
    assert samples == {}
    assert clean > 0


def test_the_plain_layout_is_the_one_without_a_version(folder: Path) -> None:
    """FiftyOne's reader takes `metadata.json` with a version for a dump of its database, which this is not."""
    metadata: dict[str, Any] = json.loads((folder / "metadata.json").read_text())
    assert "version" not in metadata
    assert metadata["media_type"] == "image"
    first = json.loads((folder / "samples.json").read_text())["samples"][0]
    assert set(metadata["sample_fields"]) == set(first) - {"metadata"}
    assert metadata["info"]["classes"] == {"detections": ["artifact", "misalignment"]}
