"""Files of annotation tools: Datumaro's JSON, CVAT's XML and X-AIGD's parquet, with rules that are worked out by hand.

`tool_files/` has what Datumaro itself wrote; the rest is made here in the same shape.
"""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exports.imports.coco import coco_rows
from exports.imports.cvat import cvat_rows
from exports.imports.datumaro import datumaro_rows
from exports.imports.masks import MaskOptions, mask_rows
from exports.imports.records import ExternalOptions
from exports.imports.richhf_names import FileNames
from exports.imports.rows import ImportRow
from exports.imports.splits import SplitRule
from exports.imports.store_rows import UNIT, import_rows
from schemas.codecs import Qwen3VL
from schemas.defect import DefectType
from schemas.records import Split
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import ExitCode, InputError
from sdg_data.ingest.report import ImportReport
from sdg_data.store import gold, images, prompts
from sdg_data.store.connection import Store
from tests.exports.worlds import png

SIDE = 100
Found = dict[str, list[tuple[Any, ...]]]


def options(folder: Path | None = None, **changes: Any) -> ExternalOptions:
    return ExternalOptions(**{"where": "t", "folder": folder, "test_share": 0.5, **changes})


def write_picture(path: Path, shade: int, width: int = SIDE, height: int = SIDE) -> bytes:
    import numpy as np

    pixels = np.full((height, width, 3), shade, np.uint8)
    pixels[0, 0] = (shade, 7, 9)
    data = png(pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return data


def bring(home: Path, rows: Iterator[ImportRow]) -> tuple[Found, dict[str, int], dict[str, int], dict[str, str]]:
    """Gold by prompt (type, box in thousandths, reason), refusals of images and of boxes by code, splits by prompt."""
    store, blobs = Store(home), Blobs(home / "blobs")
    report = ImportReport("t", unit=UNIT)
    try:
        import_rows(store, blobs, "t", rows, report=report)
    except InputError as error:
        assert "can be used" in str(error)  # noqa: PT017  (all were refused, which is looked at below)
    for tally in report.tallies.values():
        assert tally.seen == tally.taken + tally.already_there + tally.refused
    codec = Qwen3VL()
    with store.read() as tx:
        texts = {prompt.id: prompt for prompt in prompts.page(tx)}
        by_id = {image.id: texts[image.prompt_id] for image in images.page(tx)}
        found = {
            by_id[label.image_id].text: [
                (str(defect.type), tuple(codec.write(defect.box)), defect.reason) for defect in label.defects
            ]
            for label in gold.page(tx)
        }
    splits = {prompt.text: str(prompt.split) for prompt in texts.values()}
    boxes = report.tally("boxes").refused_by_code if "boxes" in report.tallies else {}
    return found, dict(report.tally(UNIT).refused_by_code), dict(boxes), splits


# --- what Datumaro 1.13.12 wrote (its own format, CVAT's XML and COCO) of four pictures of 64×48

WRITTEN = Path(__file__).parent / "tool_files"
OF_BOXES = [
    ("artifact", (125, 250, 375, 750), "bent finger"),
    ("misalignment", (500, 125, 750, 500), "no cat"),
    ("artifact", (156, 417, 219, 625), "smudge"),
]
OF_CROWD = [("artifact", (250, 250, 500, 500), "bent finger")]
TURNED = [("artifact", (281, 208, 469, 542), "bent finger")]
"""16×12 at (16, 12), turned by 90 degrees about (24, 18): 12×16 at (18, 10)."""


def test_what_datumaro_wrote_in_its_own_format(tmp_path: Path) -> None:
    rows = datumaro_rows(WRITTEN / "datumaro", options(), FileNames())
    brought, refused, boxes, splits = bring(tmp_path / "home", rows)
    assert brought == {"a red barn": OF_BOXES, "a blue barn": [], "a crowd": OF_CROWD, "a green barn": TURNED}
    assert (refused, boxes) == ({}, {"iscrowd": 1})
    assert splits == {"a red barn": "train", "a blue barn": "train", "a crowd": "train", "a green barn": "test"}


def test_what_datumaro_wrote_as_cvats_xml(tmp_path: Path) -> None:
    names = FileNames({f"{name}.jpg": f"{name}!" for name in ("boxes", "clean", "crowd")})
    pictures = WRITTEN / "datumaro" / "images" / "train"
    rows = cvat_rows(WRITTEN / "cvat" / "train.xml", options(pictures), names)
    brought, refused, boxes, _ = bring(tmp_path / "home", rows)
    assert brought == {"boxes!": OF_BOXES, "clean!": [], "crowd!": OF_CROWD}
    assert (refused, boxes) == ({}, {"iscrowd": 1})


def test_what_datumaro_wrote_as_coco(tmp_path: Path) -> None:
    """It marks masks as crowds and says no more that a box was one; it has no prompts, so they are put in here."""
    for split in ("train", "test"):
        data = json.loads((WRITTEN / "coco" / f"instances_{split}.json").read_text())
        for image in data["images"]:
            image["prompt"] = image["file_name"]
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(data))
    shutil.copytree(WRITTEN / "datumaro" / "images", tmp_path / "images")
    brought, refused, boxes, _ = bring(
        tmp_path / "home", coco_rows(tmp_path / "annotations" / "instances_train.json", options())
    )
    whole = ("artifact", (0, 0, 938, 833), "bent finger")
    assert brought == {"boxes.jpg": OF_BOXES[:2], "clean.jpg": [], "crowd.jpg": [whole, *OF_CROWD]}
    assert (refused, boxes) == ({}, {"iscrowd": 1})
    brought, *_ = bring(tmp_path / "other", coco_rows(tmp_path / "annotations" / "instances_test.json", options()))
    assert brought == {"captioned.jpg": TURNED}


# --- Datumaro


def item(name: str, *annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "annotations": [
            {"id": 0, "group": 0, "attributes": {}, "z_order": 0, **annotation} for annotation in annotations
        ],
        "attr": {"prompt": f"prompt of {name}"},
        "image": {"path": f"{name}.png", "size": [SIDE, SIDE]},
        **more,
    }


def datumaro(folder: Path, *items: Any, subset: str = "default") -> Path:
    for number, item in enumerate(items):
        if isinstance(item, dict) and isinstance(item.get("image"), dict):
            write_picture(folder / "images" / subset / item["image"]["path"], 10 + number)
    labels = [{"name": name, "parent": "", "attributes": []} for name in ("misalignment", "artifact", "cat")]
    data = {
        "dm_format_version": "1.0",
        "media_type": 2,
        "infos": {},
        "categories": {"label": {"labels": labels, "label_groups": [], "attributes": []}},
        "items": list(items),
    }
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "annotations" / f"{subset}.json").write_text(json.dumps(data))
    return folder


def bbox(x: float, y: float, width: float, height: float, label: int = 1, **told: Any) -> dict[str, Any]:
    attributes = {"reason": "bent", **told}
    return {"type": "bbox", "label_id": label, "bbox": [x, y, width, height], "attributes": attributes}


def test_datumaro_boxes_polygons_masks_and_ellipses(tmp_path: Path) -> None:
    polygon = {"type": "polygon", "label_id": 0, "points": [10, 20, 30, 20, 30, 60], "attributes": {"reason": "gone"}}
    # 100 rows and columns, column by column: 10 columns of nothing, then rows 50 to 59 of the next two.
    counts = [10 * SIDE + 50, 10, 90, 10, 100 * SIDE - (10 * SIDE + 50 + 10 + 90 + 10)]
    mask = {"type": "mask", "label_id": 1, "rle": {"counts": counts, "size": [SIDE, SIDE]}}
    mask["attributes"] = {"reason": "smudged"}
    ellipse = {"type": "ellipse", "label_id": 1, "points": [40, 10, 60, 30], "attributes": {"reason": "round"}}
    label = {"type": "label", "label_id": 2}
    source = datumaro(
        tmp_path / "set", item("a", bbox(10, 20, 30, 40), polygon, mask, ellipse, label), item("b", label)
    )
    brought, refused, boxes, _ = bring(tmp_path / "home", datumaro_rows(source, options(), FileNames()))
    assert brought == {
        "prompt of a": [
            ("artifact", (100, 200, 400, 600), "bent"),
            ("misalignment", (100, 200, 300, 600), "gone"),
            ("artifact", (100, 500, 120, 600), "smudged"),
            ("artifact", (400, 100, 600, 300), "round"),
        ],
        "prompt of b": [],
    }
    assert (refused, boxes) == ({}, {})


def test_datumaro_marks_and_shapes_that_are_no_boxes(tmp_path: Path) -> None:
    line = {"type": "polyline", "label_id": 1, "points": [1, 1, 5, 5], "attributes": {"reason": "x"}}
    source = datumaro(
        tmp_path / "set",
        item("crowd", bbox(0, 0, 90, 90, is_crowd=True), bbox(10, 10, 10, 10)),
        item("only", bbox(10, 10, 10, 10, outside=True)),
        item("hidden", bbox(10, 10, 10, 10, occluded=True)),
        item("line", line, bbox(10, 10, 10, 10)),
        item("cat", bbox(10, 10, 10, 10, label=2)),
        item("unknown", bbox(10, 10, 10, 10, label=7)),
        item("none", annotations=None),
        item("video", image=None),
        "no item",
        item("askew", bbox(10, 10, 10, 10, rotation="a bit")),
        item("twice"),
        item("twice"),
    )
    brought, refused, boxes, _ = bring(tmp_path / "home", datumaro_rows(source, options(), FileNames()))
    shapes = [("artifact", (100, 100, 200, 200), "bent")]
    assert brought == {"prompt of crowd": shapes, "prompt of hidden": shapes}
    assert refused == {
        "no-claim": 1,
        "unsupported-shape": 1,
        "unknown-category": 2,
        "no-annotations": 1,
        "bad-file-name": 1,
        "bad-row": 1,
        "bad-box": 1,
        "named-twice": 2,
    }
    codes = {
        "iscrowd": 1,
        "outside": 1,
        "unsupported-shape": 1,
        "image-refused": 1,
        "unknown-category": 2,
        "bad-box": 1,
    }
    assert boxes == codes


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [
        (0, (300, 400, 700, 600)),
        (90, (400, 300, 600, 700)),
        (-90, (400, 300, 600, 700)),
        ("180.0", (300, 400, 700, 600)),
        ("0", (300, 400, 700, 600)),
        (None, (300, 400, 700, 600)),
    ],
)
def test_a_turned_box_becomes_the_upright_one_around_it(
    tmp_path: Path, rotation: object, expected: tuple[int, ...]
) -> None:
    source = datumaro(tmp_path / "set", item("a", bbox(30, 40, 40, 20, rotation=rotation)))
    brought, *_ = bring(tmp_path / "home", datumaro_rows(source, options(), FileNames()))
    assert brought == {"prompt of a": [("artifact", expected, "bent")]}


def test_a_box_that_is_turned_by_45_degrees_and_one_that_is_turned_out_of_the_picture(tmp_path: Path) -> None:
    half = (40 + 20) / 2 / math.sqrt(2)
    left, top, right, bottom = (round(10 * value) for value in (50 - half, 50 - half, 50 + half, 50 + half))
    source = datumaro(
        tmp_path / "set", item("a", bbox(30, 40, 40, 20, rotation=45)), item("b", bbox(0, 40, 20, 60, rotation=90))
    )
    brought, *_ = bring(tmp_path / "home", datumaro_rows(source, options(), FileNames()))
    assert brought["prompt of a"] == [("artifact", (left, top, right, bottom), "bent")]
    assert brought["prompt of b"] == [("artifact", (0, 600, 400, 800), "bent")]


def test_datumaro_subsets_captions_and_prompts_by_name(tmp_path: Path) -> None:
    caption = {"type": "caption", "caption": "a red barn"}
    source = datumaro(tmp_path / "set", item("a", caption, attr={}), subset="train")
    datumaro(tmp_path / "set", item("d/b", attr={}), subset="test")
    datumaro(tmp_path / "set", item("c"), item("e", attr={}), subset="val")
    names = FileNames({"d/b.png": "a blue barn"})
    brought, refused, _, splits = bring(tmp_path / "home", datumaro_rows(source, options(), names))
    assert brought == {"a red barn": [], "a blue barn": []}
    assert refused == {"unknown-split": 1, "no-prompt": 1}
    assert splits == {"a red barn": "train", "a blue barn": "test"}
    rule = options(splits=SplitRule(by_name={"val": Split.TEST}))
    again, refused, _, splits = bring(tmp_path / "home", datumaro_rows(source, rule, names))
    assert again == {"a red barn": [], "a blue barn": [], "prompt of c": []}
    assert (refused, splits["prompt of c"]) == ({"no-prompt": 1}, "test")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"items": {}}', "\x00", "[" * 100_000])
def test_files_that_are_none_of_datumaros(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError):
        list(datumaro_rows(tmp_path / "x.json", options(), FileNames()))
    with pytest.raises(InputError):
        list(datumaro_rows(tmp_path, options(), FileNames()))


# --- CVAT


def cvat(folder: Path, body: str, *, names: tuple[str, ...] = ("a.png", "b.png")) -> Path:
    for number, name in enumerate(names):
        write_picture(folder / "images" / name, 10 + number)
    file = folder / "annotations.xml"
    file.write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
        f"<meta><task><id>1</id><name>image</name></task></meta>{body}</annotations>"
    )
    return file


def box_xml(corners: tuple[float, float, float, float], label: str = "artifact", more: str = "") -> str:
    sides = " ".join(f'{name}="{value:.2f}"' for name, value in zip(("xtl", "ytl", "xbr", "ybr"), corners, strict=True))
    return (
        f'<box label="{label}" source="manual" occluded="1" {sides} z_order="0" {more}>'
        '<attribute name="reason">bent</attribute><attribute name="importance">70</attribute></box>'
    )


def image_xml(name: str, body: str = "", more: str = "") -> str:
    return f'<image id="0" name="{name}" width="{SIDE}" height="{SIDE}" {more}>{body}</image>'


PROMPTS = FileNames({"a.png": "prompt a", "b.png": "prompt b", "sub/c.png": "prompt c"})


def test_cvat_shapes(tmp_path: Path) -> None:
    reason = '<attribute name="reason">round</attribute>'
    body = (
        box_xml((10, 20, 40, 60))
        + box_xml((30, 40, 70, 60), more='rotation="90.00"')
        + f'<polygon label="misalignment" points="10.0,20.0;30.0,20.0;30.0,60.0">{reason}</polygon>'
        + f'<ellipse label="artifact" cx="50" cy="50" rx="10" ry="20">{reason}</ellipse>'
        # Rows of 5: the last pixel of the first row and all of the second, then one of the third.
        + f'<mask label="artifact" rle="4, 6, 2, 1, 2" left="20" top="30" width="5" height="3">{reason}</mask>'
        + f'<mask label="artifact" rle="6, 2, 3, 2, 2" left="20" top="30" width="5" height="3">{reason}</mask>'
    )
    file = cvat(tmp_path / "set", image_xml("a.png", body) + image_xml("b.png"))
    brought, refused, boxes, _ = bring(tmp_path / "home", cvat_rows(file, options(), PROMPTS))
    assert brought == {
        "prompt a": [
            ("artifact", (100, 200, 400, 600), "bent"),
            ("artifact", (400, 300, 600, 700), "bent"),
            ("misalignment", (100, 200, 300, 600), "round"),
            ("artifact", (400, 300, 600, 700), "round"),
            ("artifact", (200, 300, 250, 330), "round"),
            ("artifact", (210, 310, 230, 330), "round"),
        ],
        "prompt b": [],
    }
    assert (refused, boxes) == ({}, {})


def test_cvat_tracks_lines_tags_and_subsets(tmp_path: Path) -> None:
    frames = "".join(f'<box frame="{n}" xtl="1" ytl="1" xbr="9" ybr="9" outside="0" keyframe="1"/>' for n in range(3))
    track = f'<track id="4" label="artifact">{frames}</track>'
    tag = '<tag label="note"><attribute name="prompt">told by its tag</attribute></tag>'
    file = cvat(
        tmp_path / "set",
        image_xml("c.png", tag + box_xml((10, 20, 40, 60)), 'subset="test"')
        + image_xml("a.png", '<polyline label="artifact" points="1,1;2,2"/>')
        + image_xml("b.png")
        + image_xml("e.png", '<box label="artifact" xtl="x" ytl="1" xbr="5" ybr="9"/>')
        + track,
        names=("a.png", "b.png", "test/c.png", "e.png"),
    )
    names = FileNames({"a.png": "prompt a", "b.png": "prompt b", "e.png": "prompt e"})
    brought, refused, boxes, splits = bring(tmp_path / "home", cvat_rows(file, options(reason="?"), names))
    assert brought == {"told by its tag": [("artifact", (100, 200, 400, 600), "bent")]}
    assert splits == {"told by its tag": "test"}
    assert refused == {"unsupported-shape": 1, "doubtful-clean": 1, "bad-box": 1}
    assert boxes == {"unsupported-shape": 1, "bad-box": 1, "track": 3}


def test_an_image_whose_tag_names_a_defect_is_not_clean(tmp_path: Path) -> None:
    tags = {"a.png": "Artifact", "b.png": "note", "c.png": "misalignment"}
    body = "".join(
        image_xml(name, f'<tag label="{label}"/>' + (box_xml((10, 20, 40, 60)) if name == "c.png" else ""))
        for name, label in tags.items()
    )
    file = cvat(tmp_path / "set", body, names=tuple(tags))
    names = FileNames({name: f"prompt {name}" for name in tags})
    brought, refused, _, _ = bring(tmp_path / "home", cvat_rows(file, options(), names))
    assert brought == {"prompt b.png": [], "prompt c.png": [("artifact", (100, 200, 400, 600), "bent")]}
    assert refused == {"doubtful-clean": 1}


def test_an_item_whose_label_names_a_defect_is_not_clean(tmp_path: Path) -> None:
    def label(number: int) -> dict[str, Any]:
        return {"type": "label", "label_id": number}

    source = datumaro(tmp_path / "set", item("a", label(1)), item("b", label(2)), item("c", label(9)), item("d"))
    brought, refused, _, _ = bring(tmp_path / "home", datumaro_rows(source, options(), FileNames()))
    assert brought == {f"prompt of {name}": [] for name in "bcd"}
    assert refused == {"doubtful-clean": 1}


def test_one_path_in_two_subsets(tmp_path: Path) -> None:
    for subset in ("train", "test"):
        items = [item("0001", attr={}), item("d/0002", attr={}), item(f"only-{subset}", attr={})]
        source = datumaro(tmp_path / "set", *items, subset=subset)
    names = FileNames(
        {
            "0001.png": "of which?",
            **{f"{subset}/d/0002.png": f"{subset} 2" for subset in ("train", "test")},
            "only-train.png": "train 3",
            "only-test": "test 3",
        }
    )
    brought, refused, _, splits = bring(tmp_path / "home", datumaro_rows(source, options(), names))
    assert brought == {"train 2": [], "test 2": [], "train 3": [], "test 3": []}
    assert splits == {text: text.split()[0] for text in brought}
    assert refused == {"ambiguous-name": 2}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<a/>",
        b"<annotations><image>",
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="klingon"?><annotations/>',
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
        + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 50) for n in range(8))
        + b"]><annotations>&i;</annotations>",
    ],
)
def test_files_that_are_none_of_cvats(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.xml").write_bytes(data)
    with pytest.raises(InputError):
        list(cvat_rows(tmp_path / "x.xml", options(), PROMPTS))


def test_an_entity_reads_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "x.xml").write_text(
        f'<!DOCTYPE x [<!ENTITY a SYSTEM "file://{tmp_path}/secret">]><annotations><image name="&a;"/></annotations>'
    )
    with pytest.raises(InputError):
        list(cvat_rows(tmp_path / "x.xml", options(), PROMPTS))


def test_the_commands(tmp_path: Path) -> None:
    home = ["--home", str(tmp_path / "home"), "import"]
    (tmp_path / "prompts.json").write_text(json.dumps({"a.png": "prompt a"}))
    file = cvat(tmp_path / "set", image_xml("a.png") + image_xml("b.png"))
    assert run([*home, "cvat", str(file), "--prompts", str(tmp_path / "prompts.json")]) == ExitCode.PARTIAL
    source = datumaro(tmp_path / "other", item("x", bbox(10, 10, 10, 10)))
    assert run([*home, "datumaro", str(source)]) == 0
    assert run([*home, "withdraw", "1"]) == 0
    with Store(tmp_path / "home").read() as tx:
        assert [prompt.text for prompt in prompts.page(tx)] == ["prompt of x"]


# --- X-AIGD


def xaigd(file: Path, *rows: dict[str, Any]) -> Path:
    label = pa.struct([("label", pa.string()), ("points", pa.list_(pa.list_(pa.float64())))])
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("generator", pa.string()),
            ("uid", pa.string()),
            ("width", pa.int64()),
            ("height", pa.int64()),
            ("labels", pa.list_(label)),
        ]
    )
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), file)
    return file


def test_xaigd_polygons(tmp_path: Path) -> None:
    def row(uid: str, labels: Any, **more: Any) -> dict[str, Any]:
        data = write_picture(tmp_path / f"{uid}.png", 10 * int(uid))
        size = {"width": SIDE, "height": SIDE}
        return {
            "image": {"bytes": data, "path": None},
            "generator": "FLUX.1-dev",
            "uid": uid,
            "labels": labels,
            **size,
            **more,
        }

    def label(category: str, *points: list[float]) -> dict[str, Any]:
        return {"label": category, "points": list(points)}

    edge = ([10, 20], [30, 20], [30, 60.5])
    file = xaigd(
        tmp_path / "labeled_test-00000-of-00001.parquet",
        row("1", [label("low-level-edge_shape", *edge), label("style", [0, 0], [9, 0], [9, 9])]),
        row("2", []),
        row("3", None),
        row("4", [label("low-level-color", [90, 90], [140, 90], [140, -20])]),
        row("5", [label("low-level-color", [1, 1], [5, 5])]),
        row("6", [label("low-level-color", [1, 1], [5, 5], [float("nan"), 4])]),
        row("7", [], image=None),
        row("8", []),
        row("9", [], width=50, height=80),
    )
    names = FileNames({uid: f"prompt {uid}" for uid in "12345679"})
    choice = MaskOptions(options(), names, {"style": DefectType.MISALIGNMENT})
    brought, refused, boxes, splits = bring(tmp_path / "home", mask_rows(file, choice))
    assert brought == {
        "prompt 1": [
            ("artifact", (100, 200, 300, 605), "Marked as low level edge shape."),
            ("misalignment", (0, 0, 90, 90), "Marked as style."),
        ],
        "prompt 2": [],
        "prompt 4": [("artifact", (900, 0, 1000, 900), "Marked as low level color.")],
    }
    assert refused == {"no-annotations": 1, "bad-box": 2, "missing-file": 1, "no-prompt": 1, "size-differs": 1}
    assert boxes == {"image-refused": 2}
    assert set(splits.values()) == {"test"}
    with Store(tmp_path / "home").read() as tx:
        assert {image.model for image in images.page(tx)} == {"FLUX.1-dev"}


def test_parquet_that_is_none_of_xaigds(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="no column 'labels'"):
        list(mask_rows(tmp_path / "x.parquet", MaskOptions(options(), FileNames())))
    data = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "y.parquet").write_bytes(data[:40] + data[60:])
    with pytest.raises(InputError):
        list(mask_rows(tmp_path / "y.parquet", MaskOptions(options(), FileNames())))
