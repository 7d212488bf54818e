"""FiftyOne's datasets, ours and others': what is taken, what is refused and why."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exports.imports.fiftyone import fiftyone_rows
from exports.imports.records import ExternalOptions
from exports.imports.rows import LABELS, PreparedRecord
from exports.imports.store_rows import UNIT, import_rows
from exports.read.reader import ShardReader
from exports.run import ExportResult
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import ExitCode, InputError
from sdg_data.ingest.report import ImportReport
from sdg_data.store import images
from sdg_data.store.connection import Store
from tests.exports.imports.test_coco import picture

Entry = dict[str, Any]


def options(**changes: Any) -> ExternalOptions:
    return ExternalOptions(**{"where": "set", "folder": None, "test_share": 0.0, **changes})


def detection(bounding_box: Any = (0.1, 0.1, 0.3, 0.3), **more: Any) -> Entry:
    """As FiftyOne's own exporter writes one today."""
    fields = {"_id": {"$oid": "65f0c0ffee65f0c0ffee0001"}, "_cls": "Detection", "attributes": {}, "tags": []}
    return {**fields, "label": "artifact", "bounding_box": bounding_box, "reason": "bent edge", **more}


def sample(folder: Path, name: str, *boxes: Entry, **more: Any) -> Entry:
    picture(folder, f"data/{name}")
    fields = {"_id": {"$oid": "65f0c0ffee65f0c0ffee0002"}, "_media_type": "image", "_rand": 0.5, "tags": []}
    label = {"_cls": "Detections", "detections": list(boxes)}
    return {**fields, "filepath": f"data/{name}", "prompt": f"picture {name}", "detections": label, **more}


def written(folder: Path, samples: Any) -> Path:
    (folder / "metadata.json").write_text(json.dumps({"version": "1.3.0", "media_type": "image"}))
    (folder / "samples.json").write_text(json.dumps({"samples": samples}))
    return folder


class Told:
    """What became of a dataset: the rows that were taken by file, and what was refused by code."""

    def __init__(self, where: Path, samples: Any, *, field: str = "detections", **changes: Any) -> None:
        rows = list(fiftyone_rows(written(where, samples), options(**changes), field=field))
        self.taken = [row for row in rows if isinstance(row, PreparedRecord)]
        with ImportReport("set", unit=UNIT) as report:
            try:
                import_rows(Store(where / "home"), Blobs(where / "home" / "blobs"), "set", iter(rows), report=report)
            except InputError:
                assert report.refused
            report.check()
            self.images = report.tallies[UNIT].refused_by_code
            self.boxes = report.tallies[LABELS].refused_by_code if LABELS in report.tallies else {}

    @property
    def corners(self) -> list[list[tuple[int, int, int, int]]]:
        found = []
        for row in self.taken:
            assert row.annotation is not None
            boxes = [region.defect.box for region in row.annotation.defects]
            found.append([(box.x0, box.y0, box.x1, box.y1) for box in boxes])
        return found


def test_our_export_comes_back(export: Callable[..., ExportResult], shards: Path, tmp_path: Path) -> None:
    export(tmp_path, "fiftyone")
    rows = {}
    for row in fiftyone_rows(tmp_path, options()):
        assert isinstance(row, PreparedRecord)
        rows[row.data] = row
    for example in ShardReader(shards):
        assert example.sample is not None
        row = rows.pop(example.image)
        assert (row.prompt.text, row.prompt.split) == (example.sample.prompt, example.sample.split)
        assert row.image.model == example.sample.model
        assert row.annotation is not None
        assert row.annotation.status == example.sample.status
        for region, expected in zip(row.annotation.defects, example.sample.defects, strict=True):
            assert (region.defect.box, region.defect.type, region.rated) == (
                expected.box,
                expected.type,
                expected.rated,
            )
            assert (region.defect.reason, region.defect.subtype) == (expected.reason, expected.subtype)
            assert not region.rated or region.defect.importance == expected.importance
    assert rows == {}


def test_a_changed_file_of_ours_is_refused_while_its_manifest_says_otherwise(
    export: Callable[..., ExportResult], tmp_path: Path
) -> None:
    export(tmp_path, "fiftyone")
    file = tmp_path / "samples.json"
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(InputError, match="changed by hand"):
        list(fiftyone_rows(tmp_path, options()))


def test_boxes_are_shares_of_the_image(tmp_path: Path) -> None:
    said = Told(tmp_path, [sample(tmp_path, "a.png", detection(), detection((0.0, 0.0, 0.001, 0.001)))])
    assert said.corners == [[(100, 100, 400, 400), (0, 0, 1, 1)]]
    assert said.images == said.boxes == {}


def test_clean_is_a_field_that_is_there_and_empty(tmp_path: Path) -> None:
    without = sample(tmp_path, "b.png")
    del without["detections"]
    classified = {"_cls": "Classification", "label": "clean"}
    samples = [
        sample(tmp_path, "a.png"),
        without,
        sample(tmp_path, "c.png", detections=None),
        sample(tmp_path, "d.png", detections=classified),
        sample(tmp_path, "e.png", detections={"_cls": "Detections", "detections": None}),
    ]
    said = Told(tmp_path, samples)
    assert said.corners == [[]]
    assert said.images == {"no-annotations": 2, "bad-row": 2}


@pytest.mark.parametrize(
    ("bounding_box", "code"),
    [
        ([10, 10, 30, 30], "beyond-edge"),
        ([0.5, 0.5, 0.6, 0.6], "beyond-edge"),
        ([0.5, 0.5, 0, 0.1], "bad-box"),
        ([0.5, 0.5, 0.1], "bad-box"),
        (["0.1", 0, 0.1, 0.1], "bad-box"),
        ([True, 0, 0.1, 0.1], "bad-box"),
        ([float("nan"), 0, 0.1, 0.1], "bad-box"),
        (None, "bad-box"),
        ("all", "bad-box"),
    ],
)
def test_a_box_that_is_none_leaves_its_image_out(tmp_path: Path, bounding_box: Any, code: str) -> None:
    said = Told(tmp_path, [sample(tmp_path, "a.png", detection(), detection(bounding_box))])
    assert said.taken == []
    assert said.images == {code: 1}
    assert said.boxes[code] == 1


def test_labels_reasons_and_older_attributes(tmp_path: Path) -> None:
    older = {"importance": {"_cls": "NumericAttribute", "value": 70}}
    said = Told(
        tmp_path,
        [
            sample(tmp_path, "a.png", detection(attributes=older)),
            sample(tmp_path, "b.png", detection(label="cat")),
            sample(tmp_path, "c.png", detection(reason=None)),
        ],
    )
    assert said.images == {"unknown-category": 1, "no-reason": 1}
    annotation = said.taken[0].annotation
    assert annotation is not None
    assert (annotation.defects[0].rated, annotation.defects[0].defect.importance) == (True, 70)


def test_the_split_is_the_fields_or_a_tags_and_never_two(tmp_path: Path) -> None:
    said = Told(
        tmp_path,
        [
            sample(tmp_path, "a.png", tags=["good", "test"]),
            sample(tmp_path, "b.png", split="train", tags=["train"]),
            sample(tmp_path, "c.png", split="train", tags=["test"]),
            sample(tmp_path, "d.png", tags=["validation"]),
            sample(tmp_path, "e.png", tags=7),
        ],
    )
    assert [row.prompt.split for row in said.taken] == ["test", "train", "train"]
    assert said.images == {"unknown-split": 2}


def test_rows_that_cannot_be_used(tmp_path: Path) -> None:
    twice = sample(tmp_path, "a.png")
    outside = sample(tmp_path, "b.png", filepath="../b.png")
    said = Told(
        tmp_path,
        [twice, twice, outside, 7, sample(tmp_path, "c.png", filepath=7), sample(tmp_path, "d.png", prompt=None)],
    )
    expected = {"named-twice": 2, "outside-folder": 1, "bad-row": 1, "bad-file-name": 1, "no-prompt": 1}
    assert (said.taken, said.images) == ([], expected)


def test_another_field_and_another_folder_of_images(tmp_path: Path) -> None:
    captioned = sample(tmp_path, "a.png", caption="a chair", prompt=None)
    captioned["truth"] = captioned.pop("detections")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").rename(tmp_path / "elsewhere" / "data")
    said = Told(tmp_path, [captioned], field="truth", folder=tmp_path / "elsewhere")
    assert (said.corners, said.images) == ([[]], {})


@pytest.mark.parametrize("text", ["", "[]", '{"samples": {}}', "{"])
def test_files_that_hold_no_samples(tmp_path: Path, text: str) -> None:
    (tmp_path / "samples.json").write_text(text)
    with pytest.raises(InputError, match="samples"):
        list(fiftyone_rows(tmp_path, options()))


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SDG_HOME", str(tmp_path / "home"))
    folder = tmp_path / "set"
    written(folder, [sample(folder, "a.png", detection()), sample(folder, "b.png", detections=None)])
    monkeypatch.chdir(folder)  # the folder's name says where its images are from
    assert run(["import", "fiftyone", ".", "--json"]) == ExitCode.PARTIAL
    counts = json.JSONDecoder().raw_decode(capsys.readouterr().out)[0]
    assert (counts["new"], counts["failed"]) == (1, 1)
    with Store(tmp_path / "home").read() as tx:
        assert [image.source for image in images.page(tx)] == ["imported:set"]
