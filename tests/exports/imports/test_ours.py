"""Export, import into another store, export again: equal. And what is refused, with its reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exports.dataset.select import Selection
from exports.formats.contract import RejectedRow
from exports.imports.coco import coco_rows
from exports.imports.ours import restored, webdataset_rows
from exports.imports.records import ExternalOptions
from exports.imports.release import release_rows
from exports.imports.store_rows import ImportCommand, import_rows
from exports.read.reader import ShardReader
from exports.run import ExportResult
from sdg_data.blobs import Blobs
from sdg_data.errors import InputError
from sdg_data.ids import content_id
from sdg_data.store import annotations, failures, images, prompts
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from tests.exports import worlds
from tests.exports.worlds import fill, person, picture

Export = Callable[..., ExportResult]


def twin(tmp_path: Path) -> tuple[Store, Blobs]:
    return Store(tmp_path / "twin"), Blobs(tmp_path / "twin" / "blobs")


def data_files(folder: Path) -> dict[str, bytes]:
    """The samples themselves: shards, rows and images; not the card, which counts what the store does not export."""
    kinds = (".tar", ".jsonl", ".png")
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.suffix in kinds}
    coco = {p.name: p.read_bytes() for p in folder.glob("mini-*.json")}
    return {name: data for name, data in files.items() if not name.startswith("figures/")} | coco


def options(folder: Path | None = None, **changes: Any) -> ExternalOptions:
    return ExternalOptions(**{"where": "test", "folder": folder, "test_share": 0.3, **changes})


def test_webdataset_round_trip_is_byte_equal(shards: Path, export: Export, tmp_path: Path) -> None:
    store, blobs = twin(tmp_path)
    counts = import_rows(store, blobs, "x", webdataset_rows(str(shards)))
    assert (counts.read, counts.new, counts.labels, counts.failed) == (24, 24, 24, 0)
    export(tmp_path / "out", shard_bytes=20_000, world=(store, blobs))
    assert data_files(tmp_path / "out") == data_files(shards)
    before = store_digest(store, blobs)
    again = import_rows(store, blobs, "x", webdataset_rows(str(shards)))
    assert (again.new, again.already_there, again.labels) == (0, 24, 0)
    assert store_digest(store, blobs) == before


def test_shards_with_prompt_ids_of_the_first_rule_come_back(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before invisible characters were stripped from texts, the id of a prompt was the hash of all of it."""
    today = worlds.record
    monkeypatch.setattr(worlds, "prompt_id", lambda text: content_id("prompt", text))
    monkeypatch.setattr(worlds, "record", lambda text, data, number: today(f"a\u200b {text}", data, number))
    store = fill(tmp_path / "home", 6)
    export(tmp_path / "first", world=(store, Blobs(tmp_path / "home" / "blobs")))
    other = twin(tmp_path)
    assert import_rows(*other, "x", webdataset_rows(str(tmp_path / "first"))).failed == 0
    with store.read() as tx, other[0].read() as their_tx:
        assert prompts.page(tx) == prompts.page(their_tx)
        assert all(prompt.id == content_id("prompt", prompt.text) for prompt in prompts.page(tx))
    export(tmp_path / "second", world=other)
    assert data_files(tmp_path / "second") == data_files(tmp_path / "first")


@pytest.mark.parametrize("kind", ["webdataset", "coco"])
def test_the_agreement_of_annotations_that_did_not_count_comes_back(export: Export, tmp_path: Path, kind: str) -> None:
    """A second person judged an image; her annotation is in no file, the agreement that she was part of is."""
    store = fill(tmp_path / "home", 6)
    with store.write() as tx:
        (image,) = (image for image in images.page(tx) if image.sample == 1)
        annotations.insert(tx, [person(image, picture(1).defects[:1], 0, "berta@example.org")])
    export(tmp_path / "first", kind, world=(store, Blobs(tmp_path / "home" / "blobs")))
    other = twin(tmp_path)
    if kind == "coco":
        rows = [row for file in (tmp_path / "first").glob("mini-*.json") for row in coco_rows(file, options())]
    else:
        rows = list(webdataset_rows(str(tmp_path / "first")))
    assert import_rows(*other, "x", rows).failed == 0
    export(tmp_path / "second", kind, world=other)
    assert data_files(tmp_path / "second") == data_files(tmp_path / "first")
    text = b"".join(data_files(tmp_path / "second").values())
    assert text.count(b'"annotators":2') == 1
    assert b"envelope" not in text


def test_coco_round_trip_is_byte_equal(export: Export, tmp_path: Path) -> None:
    export(tmp_path / "first", "coco")
    store, blobs = twin(tmp_path)
    for split in ("train", "test"):
        file = tmp_path / "first" / f"mini-{split}.json"
        counts = import_rows(store, blobs, "x", coco_rows(file, options()))
        assert counts.failed == 0
    export(tmp_path / "second", "coco", world=(store, blobs))
    assert data_files(tmp_path / "second") == data_files(tmp_path / "first")


def rows_by_key(folder: Path) -> dict[str, Any]:
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return {row["filepath"]: row for row in map(json.loads, lines)}


def test_release_round_trip_gives_the_same_rows(export: Export, tmp_path: Path) -> None:
    export(tmp_path / "first", "release-jsonl")
    store, blobs = twin(tmp_path)
    for split in ("train", "test"):
        counts = import_rows(store, blobs, "x", release_rows(tmp_path / "first" / f"mini-{split}.jsonl", options()))
        assert counts.failed == 0
    export(tmp_path / "second", "release-jsonl", world=(store, blobs), selection=Selection())
    assert rows_by_key(tmp_path / "second") == rows_by_key(tmp_path / "first")
    assert len(rows_by_key(tmp_path / "second")) == 24
    images_of = [
        {k: v for k, v in data_files(tmp_path / name).items() if k.endswith(".png")} for name in ("first", "second")
    ]
    assert images_of[0] == images_of[1]


def published_row(folder: Path, **changes: Any) -> dict[str, Any]:
    """A row as the public release has them: two spaces in the caption, raw boxes, an answer with loose spacing."""
    from worlds import png

    path = folder / "SDG" / "flux2" / "test" / "test_000007.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(picture(3).pixels))
    row = {
        "filepath": "/data/anyone/SDG/flux2/test/test_000007.png",
        "caption": "a  green fox",
        "ann_response": '<think>\nfirst\n</think>\n<answer>[ {"box_2d": [1, 2, 30, 40], "label": "artifact", '
        '"description": "two tails", "importance": 62} ]</answer>',
        "ann_translated_bboxes": [
            {"box_2d": [1, 2, 30, 40], "label": "artifact", "description": "two tails", "importance": 62}
        ],
        "artifact_bboxes_ann": [[1.5, 2.5, 30.0, 40.0]],
        "misalignment_bboxes_ann": [],
        "annotator_id": 17,
    }
    return {key: value for key, value in {**row, **changes}.items() if value is not None}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("missing", [{}, {"ann_translated_bboxes": None, "misalignment_bboxes_ann": None}])
def test_a_published_row_comes_out_as_it_went_in(export: Export, tmp_path: Path, missing: dict[str, None]) -> None:
    row = published_row(tmp_path, **missing)
    file = write(tmp_path / "release.jsonl", row)
    store, blobs = twin(tmp_path)
    import_rows(store, blobs, "x", release_rows(file, options(licence="CC-BY-NC-4.0")))
    done = export(tmp_path / "out", "release-jsonl", world=(store, blobs), selection=Selection())
    assert rows_by_key(tmp_path / "out") == {row["filepath"]: row}
    assert (tmp_path / "out/SDG/flux2/test/test_000007.png").is_file()
    assert done.manifest.counts["split"] == {"test": 1}
    assert done.manifest.counts["licence"] == {"CC-BY-NC-4.0": 1}
    with store.read() as tx:
        (image,) = images.page(tx)
        (said,) = annotations.of_images(tx, [image.id])[image.id]
        prompt = prompts.by_ids(tx, [image.prompt_id])[image.prompt_id]
    assert (image.model, image.source) == ("flux2", "imported:test")
    assert prompt.text == "a green fox"
    assert said.defects[0].defect.reason == "two tails"


def test_bad_rows_are_failures_with_reasons(tmp_path: Path) -> None:
    good = published_row(tmp_path)
    train = {**good, "filepath": good["filepath"].replace("/test/", "/train/")}
    shutil.copytree(tmp_path / "SDG/flux2/test", tmp_path / "SDG/flux2/train")
    file = write(
        tmp_path / "release.jsonl",
        good,
        "{broken",
        {"caption": "x"},
        {**good, "filepath": "SDG/flux2/test/none.png"},
        {**good, "ann_response": "I am sorry"},
        {**good, "caption": " "},
        train,
    )
    store, blobs = twin(tmp_path)
    counts = import_rows(store, blobs, "x", release_rows(file, options()))
    assert (counts.new, counts.failed) == (1, 6)
    with store.read() as tx:
        codes = failures.count_by_code(tx, "import")
    assert codes == {
        "answer-refused": 1,
        "bad-row": 1,
        "missing-file": 1,
        "not-json": 1,
        "prompt-empty": 1,
        "split-conflict": 1,
    }


def test_coco_of_others(tmp_path: Path) -> None:
    from worlds import png

    (tmp_path / "a.png").write_bytes(png(picture(1).pixels))
    box = {"id": 1, "image_id": 5, "category_id": 9, "bbox": [6.4, 0, 32, 16], "reason": "bent", "importance": 70}
    image = {"id": 5, "file_name": "a.png", "width": 64, "height": 64, "caption": "a cat"}
    data: dict[str, Any] = {
        "images": [
            image,
            {**image, "id": 6, "caption": "a dog"},
            {**image, "id": 7, "caption": None},
            {**image, "id": 8, "file_name": "b.png"},
        ],
        "annotations": [box, {**box, "image_id": 6, "reason": None}],
        "categories": [{"id": 9, "name": "Artifact"}],
    }
    file = write(tmp_path / "c.json", data)
    store, blobs = twin(tmp_path)
    counts = import_rows(store, blobs, "x", coco_rows(file, options(model="their-model")))
    assert counts.failed_by_code == {"no-reason": 1, "no-prompt": 1, "missing-file": 1}
    with store.read() as tx:
        (stored,) = images.page(tx)
        (said,) = annotations.of_images(tx, [stored.id])[stored.id]
    assert stored.model == "their-model"
    defect = said.defects[0].defect
    assert (defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1) == (100, 0, 600, 250)
    assert (defect.reason, defect.importance, said.defects[0].rated) == ("bent", 70, True)
    with_reason = import_rows(store, blobs, "x", coco_rows(file, options(reason="marked")))
    assert with_reason.failed_by_code == {"no-prompt": 1, "missing-file": 1}
    with pytest.raises(InputError, match="no COCO"):
        list(coco_rows(write(tmp_path / "d.json", "[]"), options()))


def test_tampered_samples_are_refused(shards: Path) -> None:
    example = next(iter(ShardReader(shards)))
    sample = example.sample
    assert sample is not None
    for changes, code in (
        ({"prompt": "another prompt"}, "wrong-id"),
        ({"model": "another model"}, "wrong-id"),
        ({"sha256": "0" * 64}, "wrong-bytes"),
    ):
        row = restored(sample.model_copy(update=changes), example.image)
        assert isinstance(row, RejectedRow)
        assert row.code == code


def test_a_sample_that_says_another_split_than_its_shard_is_refused(shards: Path, tmp_path: Path) -> None:
    train = shards / "mini-train-00000.tar"
    count = len(ShardReader([train]))
    data = train.read_bytes()
    assert data.count(b'"split":"train"') == count
    (tmp_path / "mini-test-00000.tar").write_bytes(data)  # moved, its samples as they were
    (tmp_path / "copied.tar").write_bytes(data)  # a name that says nothing of a split
    store, blobs = twin(tmp_path)
    counts = import_rows(store, blobs, "x", webdataset_rows(str(tmp_path / "*.tar")))
    assert (counts.new, counts.failed_by_code) == (count, {"split-conflict": count})


def test_corrupt_shards_give_what_is_whole(shards: Path, tmp_path: Path) -> None:
    data = bytearray((shards / "mini-train-00000.tar").read_bytes())
    data[data.index(b"IDAT") + 50] ^= 1
    (tmp_path / "x.tar").write_bytes(data)
    whole = len(ShardReader([shards / "mini-train-00000.tar"]))
    store, blobs = twin(tmp_path)
    counts = import_rows(store, blobs, "x", webdataset_rows(str(tmp_path / "x.tar")))
    assert (counts.new, counts.failed_by_code) == (whole - 1, {"corrupt-sample": 1})


def test_dry_run_and_nothing(shards: Path, tmp_path: Path) -> None:
    store, blobs = twin(tmp_path)
    counts = import_rows(store, blobs, "x", webdataset_rows(str(shards)), command=ImportCommand(dry_run=True))
    assert counts.read == 24
    assert not store.path.exists()
    with pytest.raises(InputError, match="nothing to import"):
        import_rows(store, blobs, "x", [])
    with pytest.raises(InputError, match="none of the 1 rows"):
        import_rows(store, blobs, "x", release_rows(write(tmp_path / "r.jsonl", "{"), options()))
