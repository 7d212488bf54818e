"""`sdg store check`: which stored images are read otherwise than when they came in, and what was said about them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from schemas.records import ImageRecord, Prompt
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.ids import image_id, prompt_id
from sdg_data.store import annotations, images, prelabels, prompts
from sdg_data.store.check import check_images
from sdg_data.store.connection import Store, Tx
from sdg_data.store.migrations import MIGRATIONS
from tests.sdg_data.picture.cases import CASES, HEIGHT, WIDTH
from tests.sdg_data.store.makers import annotation, prelabel

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE = tuple(migration for migration in MIGRATIONS if migration.VERSION < 7)


def put(
    tx: Tx, blobs: Blobs, name: str, data: bytes, *, size: tuple[int, int] = (WIDTH, HEIGHT), media_type: str = ""
) -> str:
    """An image with the size as its samples are stored, which is what earlier versions recorded."""
    text = f"a picture of {name}"
    kind = {b"\x89": "image/png", b"\xff": "image/jpeg", b"R": "image/webp"}.get(data[:1], "image/png")
    prompt = Prompt(id=prompt_id(text), text=text, source="test", licence=None, split="train")
    record = ImageRecord(
        id=image_id(prompt.id, "m", "r", 0, "{}"), prompt_id=prompt.id, model="m", revision="r", sample=0, seed=None,
        settings="{}", blob=blobs.put(data), media_type=media_type or kind, width=size[0], height=size[1],
        bytes=len(data), licence="x", source="imported:old", tool="old", seconds=None, created_at=LONG_AGO,
    )  # fmt: skip
    prompts.insert(tx, [prompt])
    images.insert(tx, [record])
    return record.id


def names_of(found: dict[str, str], ids: dict[str, str]) -> dict[str, str]:
    return {name: found[key] for name, key in ids.items() if key in found}


def test_an_old_store_is_held_to_both_readings(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, blobs = Store(home, migrations=BEFORE), Blobs(home / "blobs")
    with old.write() as tx:
        ids = {name: put(tx, blobs, name, case.data) for name, case in CASES.items() if "of a phone" not in name}
        prelabels.insert(tx, [prelabel(ids["JPEG 6"])])
        annotations.insert(tx, [annotation(ids["JPEG 6"], "anna"), annotation(ids["PNG I;16"], "anna")])
        annotations.insert(tx, [annotation(ids["PNG RGB"], "anna")])
    report = check_images(Store(home), blobs)
    reasons = names_of({finding.image.id: finding.reason for finding in report.findings}, ids)
    sideways = {f"{kind} {turn}" for kind in ("PNG", "JPEG", "WEBP") for turn in (5, 6, 7, 8)}
    assert {name for name, reason in reasons.items() if reason == "size"} == sideways | {"JPEG in Display P3, lying"}
    assert {name for name, reason in reasons.items() if reason == "pixels"} == {
        *(f"{kind} {turn}" for kind in ("PNG", "JPEG", "WEBP") for turn in (2, 3, 4)),
        *(name for name in CASES if "transparen" in name and "nearly there" not in name),
        "PNG LA",
        "PNG RGBA",
        "PNG RGBA of 16 bits",
        "PNG I;16",
        "PNG I;16, interlaced",
        "PNG in Display P3",
        "WebP in Adobe RGB",
        "PNG of linear grey",
        "PNG with a gamma",
    }
    assert report.images == len(ids)
    assert report.dependents() == {"prelabels": 1, "annotations": 2, "label_tasks": 0}
    capsys.readouterr()
    assert run(["--home", str(home), "store", "check", "--json"]) == 10
    said = orjson.loads(capsys.readouterr().out)
    assert said["by_reason"] == report.by_reason() == {"pixels": len(reasons) - 13, "size": 13}
    (lying,) = (row for row in said["found"] if row["image_id"] == ids["JPEG 6"])
    assert (lying["prelabels"], lying["annotations"], lying["source"]) == (1, 1, "imported:old")
    assert lying["detail"] == "recorded as 40×24, seen as 24×40 (orientation)"


def test_what_came_in_since_is_read_as_it_was(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, blobs = Store(home), Blobs(home / "blobs")
    with store.write() as tx:
        for name in ("PNG I;16", "PNG RGBA", "JPEG 3", "PNG in Display P3", "PNG RGB"):
            put(tx, blobs, name, CASES[name].data)
        put(tx, blobs, "JPEG 6", CASES["JPEG 6"].data, size=(HEIGHT, WIDTH))
    assert check_images(store, blobs).findings == []
    assert run(["--home", str(home), "store", "check"]) == 0
    assert "6 images, all read as they came in" in capsys.readouterr().err


def test_images_of_a_migrated_store_that_came_in_later_are_not_old(home: Path) -> None:
    with Store(home, migrations=BEFORE).write():
        pass
    store, blobs = Store(home), Blobs(home / "blobs")
    with store.write() as tx:
        key = put(tx, blobs, "PNG I;16", CASES["PNG I;16"].data)
        tx.execute("UPDATE images SET created_at = ?", [datetime.now(UTC) + timedelta(minutes=1)])
        new = put(tx, blobs, "PNG RGBA", CASES["PNG RGBA"].data)
    assert [finding.image.id for finding in check_images(store, blobs).findings] == [new]
    assert key != new


def test_records_that_never_were_right_are_found_in_any_store(home: Path) -> None:
    store, blobs = Store(home), Blobs(home / "blobs")
    data = CASES["PNG RGB"].data
    with store.write() as tx:
        ids = {
            "another size": put(tx, blobs, "a", data, size=(100, 100)),
            "another kind": put(tx, blobs, "b", data, media_type="image/jpeg"),
            "HTML": put(tx, blobs, "c", b"<html>404</html>"),
            "cut off": put(tx, blobs, "d", data[:-20]),
            "swapped": put(tx, blobs, "e", CASES["PNG L"].data),
            "missing": put(tx, blobs, "f", CASES["WebP"].data),
        }
        records = images.by_ids(tx, list(ids.values()))
    Path(blobs.path(records[ids["swapped"]].blob)).write_bytes(data)
    Path(blobs.path(records[ids["missing"]].blob)).unlink()
    found = {finding.image.id: finding.reason for finding in check_images(store, blobs).findings}
    assert names_of(found, ids) == {
        "another size": "size",
        "another kind": "media-type",
        "HTML": "unsupported-format",
        "cut off": "undecodable",
        "swapped": "blob-corrupt",
        "missing": "blob-missing",
    }
