"""COCO files as tools write them, and as they come out of other hands: what is taken, and what is refused and why."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exports.imports.coco import coco_rows
from exports.imports.coco_boxes import frame_of
from exports.imports.coco_join import join_key
from exports.imports.records import ExternalOptions
from exports.imports.rows import LABELS, RejectedRow
from exports.imports.splits import split_rule
from exports.imports.store_rows import UNIT, import_rows
from sdg_data.blobs import Blobs
from sdg_data.errors import ConfigError, InputError
from sdg_data.ingest.report import ImportReport
from sdg_data.store import failures, gold, images, prompts
from sdg_data.store.connection import Store
from tests.exports.worlds import png

Entry = dict[str, Any]
CATEGORIES = [{"id": 1, "name": "artifact"}, {"id": 2, "name": "misalignment"}]
NAN, INF = float("nan"), float("inf")


def picture(folder: Path, name: str, *, width: int = 100, height: int = 100) -> str:
    """A picture that no other name has."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : 1 + sum(map(ord, name)) % (width - 1)] = 200
    pixels[: 1 + len(name) % (height - 1)] += 50
    path.write_bytes(png(pixels))
    return name


def box(image_id: Any, bbox: Any = (10, 10, 30, 30), **more: Any) -> Entry:
    fields = {"image_id": image_id, "category_id": 1, "bbox": bbox, "reason": "bent edge", **more}
    return {key: value for key, value in fields.items() if value is not None}


def image(folder: Path, number: Any, name: str | None = None, **more: Any) -> Entry:
    file = name or f"{number}.png"
    size = {key: more.pop(f"real_{key}") for key in ("width", "height") if f"real_{key}" in more}
    if not (folder / file).exists():
        picture(folder, file, **size)
    return {"id": number, "file_name": file, "prompt": f"picture {file}", **more}


class Told:
    """What became of a file: defects by prompt, and what was refused by unit and code."""

    def __init__(self, home: Path, file: Path, **options: Any) -> None:
        self.store = Store(home)
        external = ExternalOptions(**{"where": "set", "folder": None, "test_share": 0.0, **options})
        with ImportReport(str(file), unit=UNIT) as report:
            try:
                import_rows(self.store, Blobs(home / "blobs"), str(file), coco_rows(file, external), report=report)
            except InputError:
                if not report.refused:
                    raise
            report.check()
            tallies = report.tallies
        self.images = tallies[UNIT].refused_by_code
        self.boxes = tallies[LABELS].refused_by_code if LABELS in tallies else {}
        self.taken = tallies[UNIT].taken
        with self.store.read() as tx:
            stated = {image.id: prompts.by_ids(tx, [image.prompt_id])[image.prompt_id] for image in images.page(tx)}
            texts = {image_id: prompt.text for image_id, prompt in stated.items()}
            self.splits = {prompt.text.removeprefix("picture "): prompt.split for prompt in stated.values()}
            self.gold = {
                texts[label.image_id].removeprefix("picture "): [
                    (defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1) for defect in label.defects
                ]
                for label in gold.page(tx)
            }


def told(folder: Path, pictures: list[Any], boxes: Any, **options: Any) -> Told:
    data = {"images": pictures, "annotations": boxes, "categories": options.pop("categories", CATEGORIES)}
    file = folder / "set.json"
    file.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))
    return Told(folder / "home", file, **options)


TENTHS = (100, 100, 400, 400)


def test_ids_are_compared_as_numbers_where_there_are_any(tmp_path: Path) -> None:
    pairs: list[tuple[Any, Any]] = [("1", 1), (2, "2"), (3, 3.0), (4.0, "4"), (5, " 5.0 "), ("a", "a")]
    pictures = [image(tmp_path, ours, f"{place}.png") for place, (ours, _) in enumerate(pairs)]
    boxes = [box(theirs, (10 + place, 10, 30, 30)) for place, (_, theirs) in enumerate(pairs)]
    result = told(tmp_path, pictures, [*boxes, box("1", (50, 50, 20, 20))])
    expected = {f"{place}.png": [(100 + 10 * place, 100, 400 + 10 * place, 400)] for place in range(len(pairs))}
    expected["0.png"].append((500, 500, 700, 700))
    assert result.gold == expected
    assert result.images == result.boxes == {}


def test_ids_that_are_texts_alone_are_compared_as_such(tmp_path: Path) -> None:
    pictures = [image(tmp_path, "7"), image(tmp_path, "07")]
    assert told(tmp_path, pictures, [box("07"), box("7", (0, 0, 50, 50))]).gold == {
        "7.png": [(0, 0, 500, 500)],
        "07.png": [TENTHS],
    }


def test_texts_alone_are_not_numbers() -> None:
    assert join_key("007", as_text=True) == "007"
    assert [join_key(value, as_text=False) for value in ("007", " 7 ", 7, 7.0, "7.0")] == ["7"] * 5
    assert [join_key(value, as_text=False) for value in (None, True, [1], {}, 1.5, NAN, "")] == [None] * 7
    assert join_key("9" * 5000, as_text=False) == "9" * 5000


def test_a_join_that_failed_calls_nothing_clean(tmp_path: Path) -> None:
    pictures = [image(tmp_path, "a"), image(tmp_path, "b"), image(tmp_path, "c")]
    result = told(tmp_path, pictures, [box("a.png"), box("b.png"), box("c"), "no box", box(None), box([1])])
    assert result.gold == {"c.png": [TENTHS]}
    assert result.images == {"doubtful-clean": 2}
    assert result.boxes == {"no-image": 4, "bad-box": 1}


@pytest.mark.parametrize("annotations", [None, {"1": []}, "[]"])
def test_without_a_list_of_boxes_nothing_is_clean(tmp_path: Path, annotations: Any) -> None:
    result = told(tmp_path, [image(tmp_path, 1)], annotations)
    assert (result.gold, result.images) == ({}, {"no-annotations": 1})


def test_an_empty_list_of_boxes_is_the_claim_of_clean_images(tmp_path: Path) -> None:
    assert told(tmp_path, [image(tmp_path, 1)], []).gold == {"1.png": []}


def test_an_image_that_was_looked_at_for_some_categories_is_not_clean(tmp_path: Path) -> None:
    pictures = [
        image(tmp_path, 1, neg_category_ids=[1, 2], not_exhaustive_category_ids=[]),
        image(tmp_path, 2, neg_category_ids=[1], not_exhaustive_category_ids=[]),
        image(tmp_path, 3, neg_category_ids=[1, 2], not_exhaustive_category_ids=[2]),
        image(tmp_path, 4, neg_category_ids=[], not_exhaustive_category_ids=[]),
        image(tmp_path, 5, neg_category_ids=[2], not_exhaustive_category_ids=[1]),
    ]
    result = told(tmp_path, pictures, [box(5)])
    assert result.gold == {"1.png": [], "5.png": [TENTHS]}
    assert result.images == {"doubtful-clean": 3}


def test_an_id_that_was_rounded_joins_nothing(tmp_path: Path) -> None:
    pictures = [image(tmp_path, 2**53 + 1, "a.png"), image(tmp_path, 2**53, "b.png")]
    result = told(tmp_path, pictures, [box(float(2**53 + 1))])
    assert (result.gold, result.images) == ({}, {"doubtful-clean": 2})
    assert result.boxes == {"no-image": 1}
    assert told(tmp_path, pictures, [box(2**53 + 1), box(2**53)]).gold == {"a.png": [TENTHS], "b.png": [TENTHS]}


def test_a_list_that_stands_twice_calls_nothing_clean(tmp_path: Path) -> None:
    parts = [json.dumps(value)[1:-1] for value in ({"images": [image(tmp_path, 1)]}, {"annotations": [box(1)]})]
    file = tmp_path / "twice.json"
    file.write_text("{" + ", ".join([*parts, '"annotations": []', '"categories": []']) + "}")
    with pytest.raises(InputError, match="the key 'annotations' stands twice"):
        list(coco_rows(file, ExternalOptions(where="set", folder=None, test_share=0.0)))


def test_images_that_share_an_id_or_a_file(tmp_path: Path) -> None:
    pictures = [
        image(tmp_path, 1, "a.png"),
        image(tmp_path, "1", "b.png"),
        image(tmp_path, 3, "c.png"),
        image(tmp_path, 4, "c.png"),
        image(tmp_path, [5], "e.png"),
        image(tmp_path, None, "f.png"),
        "no image",
        image(tmp_path, 8, "d.png"),
        {**image(tmp_path, 9, "d.png"), "prompt": "another prompt for one picture"},
    ]
    result = told(tmp_path, pictures, [box(1), box(3), box(4), box(8), box(9, (0, 0, 50, 50))])
    assert result.gold == {"d.png": [TENTHS], "another prompt for one picture": [(0, 0, 500, 500)]}
    assert result.images == {"same-id": 2, "named-twice": 2, "bad-id": 2, "bad-row": 1}
    assert result.boxes == {"image-refused": 3}


def test_boxes_of_an_id_that_several_images_have_leave_no_other_image_clean(tmp_path: Path) -> None:
    pictures = [image(tmp_path, number, f"{name}.png") for number, name in ((1, "a"), (1, "b"), (2, "c"), (3, "d"))]
    result = told(tmp_path, pictures, [box(1), box(3)])
    assert result.gold == {"d.png": [TENTHS]}
    assert result.images == {"same-id": 2, "doubtful-clean": 1}
    assert told(tmp_path, pictures, [box(3)]).gold == {"c.png": [], "d.png": [TENTHS]}


def test_categories_by_name(tmp_path: Path) -> None:
    categories = [
        {"id": "0", "name": " Artifact"},
        {"id": 1, "name": "misalignment"},
        {"id": 2, "name": "person"},
        {"id": 3, "name": "artifact"},
        {"id": 3.0, "name": "misalignment"},
        {"name": "artifact"},
        {"id": 4},
        "artifact",
    ]
    pictures = [image(tmp_path, number) for number in range(6)]
    boxes = [box(number, category_id=number) for number in range(5)]
    result = told(tmp_path, pictures, [*boxes, box(5, category_id=77)], categories=categories)
    assert set(result.gold) == {"0.png", "1.png"}
    assert result.images == result.boxes == {"unknown-category": 4}


def test_marked_regions_are_left_out_and_counted(tmp_path: Path) -> None:
    marks: list[Entry] = [{"iscrowd": 1}, {"ignore": 1}, {"iscrowd": True}, {"ignore": "true"}, {"iscrowd": "1"}]
    runs = {"counts": [0, 10000], "size": [100, 100]}
    pictures = [image(tmp_path, number) for number in range(6)]
    boxes = [box(number, iscrowd=0, ignore=False) for number in range(5)]
    boxes += [box(number, (0, 0, 100, 100), segmentation=runs, **mark) for number, mark in enumerate(marks)]
    result = told(tmp_path, pictures, [*boxes, box(5, (0, 0, 100, 100), iscrowd=1)])
    assert result.gold == {f"{number}.png": [TENTHS] for number in range(5)}
    assert result.boxes == {"iscrowd": 4, "ignore": 2}
    assert result.images == {"no-claim": 1}, "an image whose only box is left out is not clean"


SIZES: list[tuple[Any, tuple[int, int], Any]] = [
    ((1024, 1024), (512, 512), (98, 98, 293, 293)),
    ((1000, 667), (300, 200), (100, 150, 300, 450)),
    ((50, 50), (100, 100), "beyond-edge"),
    ((400, 300), (100, 100), "size-differs"),
    ((96, 64), (64, 96), "size-differs"),
    ((0, 0), (400, 400), (250, 250, 750, 750)),
    (("400", "400"), (200, 200), (250, 250, 750, 750)),
    ((NAN, None), (400, 400), (250, 250, 750, 750)),
]


def test_boxes_go_with_their_picture(tmp_path: Path) -> None:
    pictures = [
        image(tmp_path, number, width=stated[0], height=stated[1], real_width=real[0], real_height=real[1])
        for number, (stated, real, _) in enumerate(SIZES)
    ]
    result = told(tmp_path, pictures, [box(number, (100, 100, 200, 200)) for number in range(len(SIZES))])
    assert result.gold == {f"{n}.png": [right] for n, (_, _, right) in enumerate(SIZES) if isinstance(right, tuple)}
    assert result.images == {"beyond-edge": 1, "size-differs": 2}


def test_one_pixel_of_rounding_is_the_same_aspect() -> None:
    assert frame_of("x", {"width": 1023, "height": 768}, 512, 384) == (1023, 768)
    with pytest.raises(RejectedRow, match="which of them"):
        frame_of("x", {"width": 1000, "height": 768}, 512, 384)
    with pytest.raises(RejectedRow):
        frame_of("x", {"width": 100}, 512, 384)


BOXES: list[tuple[Any, Any]] = [
    ([-0.03, 10, 20, 20], (0, 100, 200, 300)),
    ([81, 10, 20, 20], (810, 100, 1000, 300)),
    ([80.02, 80.02, 20, 20], (800, 800, 1000, 1000)),
    ([0.1, 0.1, 0.4, 0.4], "fractions"),
    ([0, 0, 1, 1], "fractions"),
    ([90, 10, 20, 20], "beyond-edge"),
    ([-10, 10, 20, 20], "beyond-edge"),
    ([100, 10, 1.5, 5], "beyond-edge"),
    ([1e300, 0, 1e300, 5], "beyond-edge"),
    ([10, 10, 0, 20], "bad-box"),
    ([60, 60, -20, -20], "bad-box"),
    ([10, NAN, 20, 20], "bad-box"),
    ([10, 10, INF, 20], "bad-box"),
    ([10, 10, 20], "bad-box"),
    (["10", 10, 20, 20], "bad-box"),
    ([True, 10, 20, 20], "bad-box"),
    ([10**400, 10, 20, 20], "bad-row"),
    ({"x": 1}, "bad-box"),
    ("10,10,20,20", "bad-box"),
]


def test_a_box_is_in_the_picture_or_refused(tmp_path: Path) -> None:
    pictures = [image(tmp_path, number) for number in range(len(BOXES))]
    boxes = [entry for number, (bbox, _) in enumerate(BOXES) for entry in (box(number, bbox), box(number))]
    result = told(tmp_path, pictures, boxes)
    assert result.gold == {
        f"{n}.png": [right, TENTHS] for n, (_, right) in enumerate(BOXES) if isinstance(right, tuple)
    }
    codes = Counter(right for _, right in BOXES if isinstance(right, str))
    assert result.images == codes
    with_their_image = codes.total() + codes.pop("bad-row")  # its sound box, and of a row that is none both
    assert result.boxes == {**codes, "image-refused": with_their_image}


def test_polygons_and_masks_where_there_is_no_bbox(tmp_path: Path) -> None:
    outline = [[10, 10, 40, 10, 40, 40, 10, 40], [50, 50, 60, 50, 55, 60]]
    pictures = [image(tmp_path, number) for number in (1, 2, 3)]
    runs = {"counts": [0, 10000], "size": [100, 100]}
    boxes = [box(1, None, segmentation=outline), box(2, None, segmentation=runs), box(3, None, segmentation=[[1, 2]])]
    result = told(tmp_path, pictures, boxes)
    assert result.gold == {"1.png": [(100, 100, 600, 600)], "2.png": [(0, 0, 1000, 1000)]}
    assert result.images == {"bad-box": 1}


SAID: list[tuple[Entry, Any]] = [
    ({"attributes": {"reason": "bent edge", "importance": 85}}, 85),
    ({"reason": "x", "importance": "40"}, 40),
    ({"description": "x", "importance": 40.0}, 40),
    ({"caption": "x"}, 50),
    ({"reason": "  ", "description": "x", "importance": None}, 50),
    ({"reason": "x", "importance": 101}, "bad-importance"),
    ({"reason": "x", "importance": 0.5}, "bad-importance"),
    ({"reason": "x", "importance": True}, "bad-importance"),
    ({"reason": ["x"]}, "no-reason"),
    ({}, "no-reason"),
]


def test_reasons_and_importance(tmp_path: Path) -> None:
    pictures = [image(tmp_path, number) for number in range(len(SAID))]
    boxes = [{**box(number, reason=None), **more} for number, (more, _) in enumerate(SAID)]
    result = told(tmp_path, pictures, boxes)
    assert result.images == {"bad-importance": 3, "no-reason": 2}
    with result.store.read() as tx:
        importances = sorted(label.defects[0].importance for label in gold.page(tx))
    assert importances == sorted(importance for _, importance in SAID if isinstance(importance, int))


def test_splits_of_others(tmp_path: Path) -> None:
    words = ["val", "validation", "Test", "train", "dev", " TEST ", "Training", "", None, 3]
    pictures = [image(tmp_path, number, split=word) for number, word in enumerate(words)]
    boxes = [box(number) for number in range(len(words))]
    assert told(tmp_path, pictures, boxes).images == {"unknown-split": 4}
    other = tmp_path / "other"
    pictures = [image(other, number, split=word) for number, word in enumerate(words)]
    mapped = told(other, pictures, boxes, splits=split_rule("test", ["val=train"]))
    assert mapped.images == {"unknown-split": 1}, "a number is no word"
    with mapped.store.read() as tx:
        splits = {prompt.text: prompt.split for prompt in prompts.page(tx)}
    assert {text.removeprefix("picture "): split for text, split in splits.items()} == {
        "0.png": "train",
        "1.png": "test",
        "2.png": "test",
        "3.png": "train",
        "4.png": "test",
        "5.png": "test",
        "6.png": "train",
        "7.png": "test",
        "8.png": "test",
    }
    for given, pairs in (("val", None), (None, ["val"]), (None, ["val=dev"]), (None, ["=test"])):
        with pytest.raises(ConfigError):
            split_rule(given, pairs)


def test_only_files_below_the_folder(tmp_path: Path) -> None:
    picture(tmp_path, "private.png")
    folder = tmp_path / "in"
    inside = image(folder, 1, "pics/a.png")
    (folder / "out.png").symlink_to(tmp_path / "private.png")
    (folder / "near.png").symlink_to(folder / "pics" / "a.png")
    os.mkfifo(folder / "pipe.png")
    names = {
        2: "../private.png",
        3: str(tmp_path / "private.png"),
        4: "out.png",
        5: "pipe.png",
        6: "/dev/zero",
        7: "a\0.png",
        8: "pics",
        9: "none.png",
        10: ["pics/a.png"],
        11: "",
        12: "x" * 300,
        13: "\ud800.png",
        14: "near.png",
        15: "pics\\a.png",
        16: "pics/../pics/a.png",
    }
    others = [{"id": number, "file_name": name, "prompt": f"picture {number}"} for number, name in names.items()]
    result = told(folder, [inside, *others], [])
    assert set(result.gold) == {"pics/a.png", "14", "15", "16"}
    assert result.images == {
        "outside-folder": 4,
        "not-a-regular-file": 2,
        "bad-file-name": 3,
        "bad-row": 1,
        "missing-file": 1,
        "unreadable-file": 1,
    }


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"images": 3}', "[" * 200_000, '{"images": [], "annotations": [NaN', "", "\ufeff", '"\\ud800"'],
)
def test_what_is_no_coco_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "set.json"
    file.write_text(text)
    with pytest.raises(InputError):
        list(coco_rows(file, ExternalOptions("set", None, 0.0)))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: Path(path).symlink_to("/dev/zero")])
def test_what_is_no_file(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "set.json")
    with pytest.raises(InputError, match="no regular file"):
        list(coco_rows(tmp_path / "set.json", ExternalOptions("set", None, 0.0)))


def test_a_mark_in_front_and_numbers_that_are_none(tmp_path: Path) -> None:
    data = {"images": [image(tmp_path, 1, score=NAN)], "annotations": [box(1, area=INF)], "categories": CATEGORIES}
    file = tmp_path / "set.json"
    file.write_text(json.dumps(data), encoding="utf-8-sig")
    assert Told(tmp_path / "home", file).gold == {"1.png": [TENTHS]}


def test_what_was_imported_last_counts(tmp_path: Path) -> None:
    pictures = [image(tmp_path, 1), image(tmp_path, 2)]
    missing = image(tmp_path, 3)
    content = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").unlink()
    first = [box(1), box(2), box(3)]
    result = told(tmp_path, [*pictures, missing], first)
    assert result.images == {"missing-file": 1}
    second = told(tmp_path, pictures, [box(1, (50, 50, 40, 40)), box(2)])
    assert second.gold == {"1.png": [(500, 500, 900, 900)], "2.png": [TENTHS]}
    (tmp_path / "3.png").write_bytes(content)
    third = told(tmp_path, [*pictures, missing], first)
    assert third.gold == {"1.png": [TENTHS], "2.png": [TENTHS], "3.png": [TENTHS]}
    with third.store.read() as tx:
        assert failures.listed(tx, "import") == [], "what came later is no failure any more"
    assert told(tmp_path, pictures, [box(1, (50, 50, 40, 40)), box(2)]).gold["1.png"] == [(500, 500, 900, 900)]
    assert told(tmp_path, pictures, [box(1), box(2)]).gold["1.png"] == [TENTHS]


def test_texts_that_no_record_takes_are_options_in_error(tmp_path: Path) -> None:
    for changes in ({"where": ""}, {"licence": ""}, {"model": "\ud800"}):
        with pytest.raises(ConfigError, match="no text"):
            ExternalOptions(**{"where": "set", "folder": None, "test_share": 0.0, **changes})
    result = told(tmp_path, [image(tmp_path, 1, sdg={}), image(tmp_path, 2, x=json.loads("[" * 400 + "]" * 400))], [])
    assert (result.gold, result.images) == ({}, {"bad-row": 2})
