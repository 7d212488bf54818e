"""A store in a notebook: frames against plain SQL and records, choices against loops, pictures against the sheet."""

import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import sdg_data
from schemas.records import Failure, Tombstone, Withdrawn
from sdg_data.errors import InputError, StoreError
from sdg_data.frames.dataset import Dataset
from sdg_data.metrics.matching import box_f1
from sdg_data.store import annotations, failures, gold, images, prelabels, tombstones
from sdg_data.store.connection import Store
from sdg_data.store.prelabels import Prelabeller
from tests.exports.worlds import START, fill

GONE = 3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images, one of them withdrawn; one judged by a second person; failures of three stages."""
    folder = tmp_path_factory.mktemp("home")
    store = fill(folder)
    with store.write() as tx:
        ids = [image.id for image in images.page(tx)]
        judged = annotations.of_images(tx, ids)
        first = next(versions[0] for _, versions in sorted(judged.items()) if versions[0].defects)
        second = first.model_copy(
            update={"id": "f" * 32, "annotator": "ben", "defects": first.defects[:1], "created_at": START}
        )
        annotations.insert(tx, [second])
        answer = next(iter(prelabels.of_images(tx, ids).values()))[0]
        asker = Prelabeller(answer.model, answer.revision, answer.template, answer.settings)
        failed = [("prelabel", asker.prelabel_id(ids[0])), ("generate", ids[1]), ("enrich", "0" * 32)]
        failures.insert(
            tx,
            [Failure(stage=stage, item_id=item, code="c", message="m", raw=None, attempt=1) for stage, item in failed],
        )
        tombstones.insert(
            tx, [Tombstone(kind=Withdrawn.IMAGE, item_id=ids[GONE], reason="r", source="s", created_at=START)]
        )
    return folder


@pytest.fixture(scope="module")
def data(home: Path) -> Iterator[Dataset]:
    with sdg_data.open(home) as opened:
        yield opened


def test_images_are_those_that_were_not_withdrawn(home: Path, data: Dataset) -> None:
    frame = data.images.collect()
    with Store(home).read() as tx:
        records = images.page(tx)
        labels = gold.of_images(tx, [record.id for record in records])
    kept = [record for place, record in enumerate(records) if place != GONE]
    assert frame["image_id"].to_list() == [record.id for record in kept]
    for row, record in zip(frame.iter_rows(named=True), kept, strict=True):
        assert (row["model"], row["width"], row["seed"], row["blob"]) == (
            record.model,
            record.width,
            record.seed,
            record.blob,
        )
        label = labels.get(record.id)
        assert row["gold"] == (None if label is None else "defects" if label.defects else "clean")
        kinds = None if label is None else [str(defect.type) for defect in label.defects]
        assert row["artifacts"] == (None if kinds is None else kinds.count("artifact"))
        assert row["misalignments"] == (None if kinds is None else kinds.count("misalignment"))


def test_gold_defects_are_those_of_the_gold_rule(home: Path, data: Dataset) -> None:
    frame = data.defects.filter(pl.col("gold")).collect()
    with Store(home).read() as tx:
        labels = gold.page(tx)
    expected = [
        (label.image_id, str(defect.type), defect.box.x0, defect.box.y1, defect.reason)
        for label in labels
        for defect in label.defects
    ]
    assert frame.select("image_id", "type", "x0", "y1", "reason").rows() == expected != []
    assert data.gold.collect()["image_id"].to_list() == [label.image_id for label in labels]


def test_an_importance_that_nobody_gave_is_null(home: Path, data: Dataset) -> None:
    with Store(home).read() as tx:
        ((unrated,),) = tx.execute("""
            SELECT count(*) FROM gold JOIN annotation_defects AS drawn USING (annotation_id)
            WHERE NOT rated AND annotation_id NOT IN (SELECT annotation_id FROM enrichments)""").fetchall()
    assert data.defects.filter(pl.col("gold") & pl.col("importance").is_null()).collect().height == unrated > 0


def test_two_people_on_an_image_are_compared(home: Path, data: Dataset) -> None:
    (row,) = data.agreement.iter_rows(named=True)
    with Store(home).read() as tx:
        versions = annotations.of_images(tx, [row["image_id"]])[row["image_id"]]
    sides = [[item.defect for item in version.defects] for version in versions]
    for kind in ("artifact", "misalignment"):
        first, second = ([defect for defect in side if defect.type == kind] for side in sides)
        assert row[f"{kind}_f1"] == box_f1(first, second, 0.5)
    assert row["same_answer"]
    assert row["annotators"] == sorted(version.annotator for version in versions)
    people = data.images.filter(pl.col("people") > 1).collect()
    assert people["image_id"].to_list() == [row["image_id"]]


def test_failures_lead_to_their_images(home: Path, data: Dataset) -> None:
    with Store(home).read() as tx:
        ids = [image.id for image in images.page(tx)]
    rows = {row["stage"]: row["image_id"] for row in data.failures.iter_rows(named=True)}
    assert rows == {"prelabel": ids[0], "generate": ids[1], "enrich": None}


def test_annotations_and_prompts_are_all_there(home: Path, data: Dataset) -> None:
    with Store(home).read() as tx:
        states = tx.execute("SELECT annotation_id, state FROM annotation_states").fetchall()
        work = tx.execute("SELECT sum(seconds) FROM person_work WHERE annotation_id IS NOT NULL").fetchall()
        texts = tx.execute("SELECT id, text FROM prompts ORDER BY id").fetchall()
    frame = data.annotations.collect()
    assert sorted(frame.select("annotation_id", "state").rows()) == sorted(states)
    assert frame["seconds"].sum() == work[0][0]
    assert data.prompts.select("prompt_id", "text").collect().rows() == texts
    assert data.prompts.collect()["images"].sum() == 24


def test_frames_join_and_are_read_in_part(data: Dataset) -> None:
    """Two lazy frames in one query read at the same time; a head and a projection are what they are of the whole."""
    whole = data.images.collect().join(data.defects.collect(), on="image_id", maintain_order="left_right")
    together = data.images.join(data.defects, on="image_id", maintain_order="left_right").collect()
    assert together.equals(whole)
    assert data.defects.select("reason").head(3).collect().equals(data.defects.collect().select("reason").head(3))
    both = pl.collect_all([data.images, data.defects, data.annotations])
    assert [frame.height for frame in both] == [
        data.images.collect().height,
        data.defects.collect().height,
        data.annotations.collect().height,
    ]


def test_a_choice_by_expression_text_frame_and_ids_is_one(data: Dataset, tmp_path: Path) -> None:
    expected = [
        row["image_id"]
        for row in data.images.collect().iter_rows(named=True)
        if row["model"] == "alpha" and (row["artifacts"] or 0) > 0
    ]
    chosen = data.select((pl.col("model") == "alpha") & (pl.col("artifacts") > 0))
    assert list(chosen) == expected != []
    assert data.select("model = 'alpha' AND artifacts > 0") == chosen
    assert data.select(data.images.filter(pl.col("image_id").is_in(expected))) == chosen
    assert data.select([*chosen, chosen[0]]) == chosen
    assert data.select(pl.Series(chosen[::-1])) == chosen[::-1]
    assert chosen.write(tmp_path / "list.txt", heading="why").read_text() == "# why\n" + "".join(
        f"{image}\n" for image in chosen
    )


@pytest.mark.parametrize("wrong", ["nosuch > 3", "(", "", pl.col("nosuch") > 3, ["0" * 32], pl.DataFrame({"a": [1]})])
def test_a_wrong_choice_says_what_is_wrong(data: Dataset, wrong: object) -> None:
    with pytest.raises(InputError):
        data.select(wrong)  # type: ignore[arg-type]


def test_a_picture_has_the_image_and_boxes_of_gold(home: Path, data: Dataset) -> None:
    (image, *_) = data.select(pl.col("artifacts") > 0)
    shown, plain = data.show(image[:12], tile=256), data.show(image, boxes="none", tile=256)
    drawn, bare = (np.asarray(Image.open(io.BytesIO(sheet._repr_png_()))) for sheet in (shown, plain))
    assert np.array_equal(drawn, np.asarray(shown.picture))
    vermilion = (drawn == (213, 94, 0)).all(axis=2).sum()
    assert vermilion > 50
    assert not (bare == (213, 94, 0)).all(axis=2).any()
    assert data.show(data.gold, limit=2).picture.width > 0
    for wrong in ("", "zz", "0123" * 8):
        with pytest.raises(InputError):
            data.show(wrong)
    with pytest.raises(InputError):
        data.show([])


def test_it_stays_as_it_was_and_a_new_one_is_of_now(home: Path) -> None:
    with sdg_data.open(home) as before:
        count = before.images.collect().height
        with Store(home).write() as tx:  # nobody waits for the open notebook
            record = images.page(tx)[0]
            other = record.model_copy(update={"id": "e" * 32, "sample": 999, "created_at": START + timedelta(days=1)})
            images.insert(tx, [other])
        try:
            assert before.images.collect().height == count
            with sdg_data.open(home, publish=False) as last, sdg_data.open(home) as now:
                assert last.images.collect().height == count
                assert now.images.collect().height == count + 1
        finally:
            with Store(home).write() as tx:
                tx.execute("DELETE FROM images WHERE sample = 999")


def test_it_changes_nothing(home: Path, data: Dataset) -> None:
    before = (home / "store.duckdb").read_bytes()
    for writing in ("DELETE FROM images", "COPY images TO 'x.csv'", "DETACH snapshot", "SELECT 1; SELECT 2", ""):
        with pytest.raises(InputError, match="one query that reads"):
            data.sql(writing)
    with pytest.raises(InputError, match="nosuch"):
        data.sql("SELECT nosuch FROM images")
    assert data.sql("SELECT count(*) AS n FROM snapshot.images")["n"].to_list() == [24]
    assert (home / "store.duckdb").read_bytes() == before


def test_no_store_and_no_snapshot_are_errors(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store yet"):
        sdg_data.open(tmp_path)
    fill(tmp_path, 1)
    with pytest.raises(StoreError, match="no snapshot"):
        sdg_data.open(tmp_path, publish=False)
    opened = sdg_data.open(tmp_path)
    assert "images 1, " in repr(opened)
    opened.close()
    with pytest.raises(InputError, match="closed"):
        _ = opened.images
