"""COCO files in the shapes that CVAT and Roboflow write."""

import json
from pathlib import Path
from typing import Any

from exports.imports.splits import split_rule
from tests.exports.imports.test_coco import Told, picture

CVAT_IMAGE = {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}


def cvat(folder: Path, boxes: list[dict[str, Any]]) -> Path:
    """`annotations/instances_default.json` of a task's COCO 1.0 export; pictures are in `images/`, in folders below."""
    names = ["default/sub/a 1.png", "default/b.png"]
    for name in names:
        picture(folder / "images", name)
    images = [
        {"id": number, "width": 100, "height": 100, "file_name": name, **CVAT_IMAGE, "caption": f"picture {name}"}
        for number, name in enumerate(names, start=1)
    ]
    data = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""},
        "categories": [
            {"id": 1, "name": "artifact", "supercategory": ""},
            {"id": 2, "name": "misalignment", "supercategory": ""},
        ],
        "images": images,
        "annotations": boxes,
    }
    file = folder / "annotations" / "instances_default.json"
    file.parent.mkdir()
    file.write_text(json.dumps(data))
    return file


def cvat_box(number: int, **attributes: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": 1,
        "category_id": number,
        "segmentation": [],
        "area": 600.0,
        "bbox": [10.0, 10.0, 30.0, 20.0],
        "iscrowd": 0,
        "attributes": {"occluded": False, "rotation": 0.0, **attributes},
    }


def test_cvat(tmp_path: Path) -> None:
    """An importance is a text where CVAT's attribute is a list of choices."""
    file = cvat(tmp_path, [cvat_box(1, reason="bent edge", importance="70"), cvat_box(2, reason="no lamp")])
    said = Told(tmp_path / "home", file, folder=tmp_path / "images")
    expected = (100, 100, 400, 300)
    assert said.gold == {"default/sub/a 1.png": [expected, expected], "default/b.png": []}
    assert said.images == said.boxes == {}


def test_cvats_pictures_are_found_beside_its_annotations(tmp_path: Path) -> None:
    said = Told(tmp_path / "home", cvat(tmp_path, [cvat_box(1, reason="bent edge")]))
    assert (sorted(said.gold), said.images) == (["default/b.png", "default/sub/a 1.png"], {})


def test_cvats_pictures_of_a_subset(tmp_path: Path) -> None:
    file = cvat(tmp_path, [cvat_box(1, reason="bent edge")])
    data = json.loads(file.read_text())
    for image in data["images"]:
        image["file_name"] = image["file_name"].removeprefix("default/")
    file.write_text(json.dumps(data))
    assert len(Told(tmp_path / "home", file).gold) == 2


def roboflow(folder: Path, split: str, *, category: int = 1) -> Path:
    """`{split}/_annotations.coco.json` beside its pictures; category 0 is the project, the classes are from 1."""
    names = [f"{split}-{word}_png.rf.0123456789abcdef0123456789abcdef.png" for word in ("boxed", "clean")]
    images = []
    for number, name in enumerate(names):
        picture(folder / split, name)
        extra = {"name": name.split("_png")[0] + ".png"}
        images.append(
            {
                "id": number,
                "license": 1,
                "file_name": name,
                "height": 100,
                "width": 100,
                "date_captured": "2026-03-01T12:00:00+00:00",
                "extra": extra,
                "caption": f"picture {extra['name']}",
            }
        )
    box = {
        "id": 0,
        "image_id": 0,
        "category_id": category,
        "bbox": [10, 10, 30, 20],
        "area": 600,
        "segmentation": [],
        "iscrowd": 0,
    }
    data = {
        "info": {"year": "2026", "version": "1", "description": "Exported from roboflow.com", "contributor": ""},
        "licenses": [{"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"}],
        "categories": [
            {"id": 0, "name": "defects", "supercategory": "none"},
            {"id": 1, "name": "artifact", "supercategory": "defects"},
            {"id": 2, "name": "misalignment", "supercategory": "defects"},
        ],
        "images": images,
        "annotations": [box],
    }
    file = folder / split / "_annotations.coco.json"
    file.write_text(json.dumps(data))
    return file


def test_roboflows_split_is_its_folders_name(tmp_path: Path) -> None:
    """Whatever the share of prompts that would be drawn for the test split, here none."""
    for split in ("train", "test"):
        said = Told(tmp_path / "home", roboflow(tmp_path, split), reason="seen")
        assert said.images == said.boxes == {}
        assert said.splits[f"{split}-boxed.png"] == said.splits[f"{split}-clean.png"] == split
        assert said.gold[f"{split}-boxed.png"] == [(100, 100, 400, 300)]
        assert said.gold[f"{split}-clean.png"] == []


def test_roboflows_valid_is_no_split_until_somebody_says_which(tmp_path: Path) -> None:
    file = roboflow(tmp_path, "valid")
    assert Told(tmp_path / "one", file, reason="seen").images == {"unknown-split": 2}
    said = Told(tmp_path / "two", file, reason="seen", splits=split_rule(None, ["valid=test"]))
    assert (set(said.splits.values()), said.images) == ({"test"}, {})


def test_a_box_of_the_project_category_is_no_defect(tmp_path: Path) -> None:
    said = Told(tmp_path / "home", roboflow(tmp_path, "train", category=0), reason="seen")
    assert (said.images, said.boxes) == ({"unknown-category": 1}, {"unknown-category": 1})
    assert said.gold == {"train-clean.png": []}


def test_the_images_own_word_for_its_split_counts_before_the_folders(tmp_path: Path) -> None:
    file = roboflow(tmp_path, "train")
    data = json.loads(file.read_text())
    data["images"][0]["split"] = "test"
    file.write_text(json.dumps(data))
    said = Told(tmp_path / "home", file, reason="seen")
    assert said.splits == {"train-boxed.png": "test", "train-clean.png": "train"}
