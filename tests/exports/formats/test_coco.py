"""COCO files, read by pycocotools and faster-coco-eval, and turned back into samples."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exports.formats.coco import coco_of, sample_of
from exports.read.reader import ShardReader
from exports.run import ExportResult
from tests.exports.worlds import picture


@pytest.fixture(scope="module")
def folder(export: Callable[..., ExportResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("coco")
    export(path, "coco")
    return path


def test_samples_survive(shards: Path) -> None:
    for example in ShardReader(shards):
        assert example.sample is not None
        assert sample_of(*json.loads(json.dumps(coco_of(example.sample, "x.png", 7, 3)))) == example.sample


def test_boxes_in_pixels_and_clean_images_kept(folder: Path) -> None:
    seen = 0
    for split in ("train", "test"):
        data = json.loads((folder / f"mini-{split}.json").read_text())
        assert data["categories"][0]["name"] == "artifact"
        by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in data["images"]}
        for annotation in data["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        assert [] in by_image.values()
        for image in data["images"]:
            assert (folder / image["file_name"]).is_file()
            exact = picture(image["sdg"]["sample"]).defects
            seen += 1
            for annotation, defect in zip(by_image[image["id"]], exact, strict=True):
                x, y, width, height = annotation["bbox"]
                assert x == pytest.approx(defect.box.x0 * 64 / 1000)
                assert y + height == pytest.approx(defect.box.y1 * 64 / 1000)
                assert annotation["area"] == pytest.approx(width * height)
                assert data["categories"][annotation["category_id"] - 1]["name"] == defect.type
                assert annotation["subtype"] == defect.subtype
    assert seen == 24


@pytest.mark.parametrize("library", ["pycocotools", "faster_coco_eval"])
def test_masks_are_the_boxes(folder: Path, library: str) -> None:
    """A mask of an annotation is its box, up to the pixels that an edge runs through; so is `segm`'s truth."""
    coco = pytest.importorskip(f"{library}.coco" if library == "pycocotools" else library).COCO
    truth = coco(str(folder / "mini-train.json"))
    assert truth.dataset["annotations"]
    for annotation in truth.dataset["annotations"]:
        mask = truth.annToMask(annotation)
        x, y, width, height = annotation["bbox"]
        rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
        if not len(rows):
            assert min(width, height) < 1  # thinner than a pixel
            continue
        edges = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert edges == pytest.approx((x, y, x + width, y + height), abs=1)
        assert mask.sum() == (edges[2] - edges[0]) * (edges[3] - edges[1])


@pytest.mark.parametrize("library", ["pycocotools", "faster_coco_eval"])
def test_evaluators_score_the_truth_against_itself_as_perfect(folder: Path, library: str) -> None:
    pytest.importorskip(library)
    if library == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval as Evaluation
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as Evaluation
    truth = COCO(str(folder / "mini-train.json"))
    guesses = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in truth.dataset["annotations"]
    ]
    evaluation = Evaluation(truth, truth.loadRes(guesses), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)
    assert len(truth.getImgIds()) > len({a["image_id"] for a in truth.dataset["annotations"]})
