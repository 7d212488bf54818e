"""Shards that lie: whatever they state, the store's own gold stays what it was, and nothing takes a record's place."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from annotate.review.report import build
from exports.formats.contract import RejectedRow
from exports.imports.ours import restored, webdataset_rows
from exports.imports.rows import ImportRow
from exports.imports.store_rows import ImportCommand, ImportResult, import_rows
from exports.read.reader import ShardReader
from exports.run import ExportResult
from schemas.sample import Sample
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import ExitCode, InputError
from sdg_data.ids import blob_name, content_id
from sdg_data.ingest.import_unit import withdraw
from sdg_data.store import annotations, gold, images, prelabels
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from sdg_data.store.gold import GoldRule
from sdg_data.store.prelabels import Prelabeller, WantedPrelabels
from tests.exports.worlds import fill, machine, picture, png

Export = Callable[..., ExportResult]
World = tuple[Store, Blobs]
Fields = dict[str, Any]
EVERY = GoldRule(unreviewed=True, prelabels_of="vlm")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of twelve images, of which eight have gold; tests work on copies."""
    folder = tmp_path_factory.mktemp("trust") / "home"
    fill(folder, 12)
    return folder


@pytest.fixture
def target(home: Path, tmp_path: Path) -> World:
    shutil.copytree(home, tmp_path / "home")
    return Store(tmp_path / "home"), Blobs(tmp_path / "home" / "blobs")


@pytest.fixture(scope="module")
def samples(shards: Path) -> list[tuple[Fields, bytes]]:
    """What the store exported of its first twelve images, as JSON and bytes; the fixture's store has the same ones."""
    examples = [(json.loads(example.text), example.image) for example in ShardReader(shards)]
    return [(fields, data) for fields, data in examples if fields["sample"] < 12]


def said(target: World, rule: GoldRule = EVERY) -> dict[str, list[Any]]:
    with target[0].read() as tx:
        return {
            label.image_id: [defect.model_dump(mode="json") for defect in label.defects]
            for label in gold.page(tx, rule)
        }


def bring(target: World, rows: list[ImportRow], **settings: Any) -> ImportResult | None:
    """None where nothing could be used."""
    try:
        return import_rows(*target, "hostile", rows, command=ImportCommand("webdataset", **settings))
    except InputError as error:
        if "can be used" not in str(error):
            raise
        return None


def rows(samples: list[tuple[Fields, bytes]], *changes: Callable[[Fields], object]) -> list[ImportRow]:
    made = []
    for fields, data in samples:
        altered = json.loads(json.dumps(fields))
        for change in changes:
            change(altered)
        made.append(restored(Sample.model_validate(altered), data))
    return made


def clean(fields: Fields) -> None:
    scores = {"artifact_burden": 0.0, "misalignment_burden": 0.0, "quality": 1.0}
    fields.update(defects=[], status="clean", scores=scores)


def accepted_later(fields: Fields) -> None:
    """A person's word, accepted in the highest round there is, after everything else."""
    moment = datetime.now(UTC).isoformat()
    fields["lineage"] = {
        "prelabel": None,
        "annotation": {
            "id": "ab" * 16,
            "prelabel_id": None,
            "parent_id": None,
            "annotator": "anna@example.org",
            "round": 1,
            "source": "label-studio:7",
            "seconds": None,
            "tool": "t",
            "created_at": moment,
        },
        "review": {
            "id": "cd" * 16,
            "annotation_id": "ab" * 16,
            "result_id": None,
            "reviewer": "rita@example.org",
            "round": 10,
            "verdict": "accepted",
            "tool": "t",
            "created_at": moment,
        },
        "enrichment": None,
    }
    fields.update(label_source="accepted", trace=None)
    for defect in fields["defects"]:
        defect.update(
            expanded_reason=None,
            enriched_importance=None,
            rated=True,
            region_id="r",
            origin="manual",
            prelabel_index=None,
        )


def same_annotation_other_enrichment(fields: Fields) -> None:
    if fields["lineage"]["enrichment"] is not None:
        fields["lineage"]["enrichment"].update(id="ef" * 16, created_at=datetime.now(UTC).isoformat())
        for defect in fields["defects"]:
            defect["expanded_reason"] = "nothing is wrong here"


def own_id(fields: Fields) -> None:
    """As if the store's own annotation had said it."""
    if fields["lineage"]["annotation"] is not None:
        clean(fields)
        fields.update(trace=None)
        fields["lineage"]["enrichment"] = None


def rejected(fields: Fields) -> None:
    if fields["lineage"]["review"] is not None:
        fields["lineage"]["review"].update(id="12" * 16, verdict="rejected", round=9)


def of_another(fields: Fields) -> None:
    accepted_later(fields)
    fields["lineage"]["review"].update(annotation_id="99" * 16)


def corrects_the_stores(fields: Fields) -> None:
    stated = fields["lineage"]["annotation"]
    accepted_later(fields)
    clean(fields)
    about = stated["id"] if stated else "77" * 16
    fields["lineage"]["review"].update(verdict="corrected", annotation_id=about, result_id="ab" * 16)
    fields["lineage"]["annotation"]["parent_id"] = about if stated else None


LIES: list[tuple[Callable[[Fields], object], ...]] = [
    (clean, accepted_later),
    (accepted_later,),
    (same_annotation_other_enrichment,),
    (own_id,),
    (rejected,),
    (of_another,),
    (corrects_the_stores,),
]


@pytest.mark.parametrize("changes", LIES, ids=lambda changes: "-".join(change.__name__ for change in changes))
def test_the_stores_gold_stays(
    target: World, samples: list[Any], changes: tuple[Callable[[Fields], object], ...]
) -> None:
    """Of images that have gold nothing comes in; the others may get a word, which can be withdrawn."""
    with target[0].read() as tx:
        spoken = {label.image_id for label in gold.page(tx, GoldRule(unreviewed=True))}
    before, kept = store_digest(*target), said(target)
    about = [(fields, data) for fields, data in samples if fields["key"] in spoken]
    assert len(about) == 10
    result = bring(target, rows(about, *changes))
    assert said(target) == kept
    assert store_digest(*target) == before
    assert result is None or result.labels == 0
    bring(target, rows(samples, *changes))
    assert {key: defects for key, defects in said(target).items() if key in spoken} == {
        key: defects for key, defects in kept.items() if key in spoken
    }
    with target[0].read() as tx:
        numbers = [number for (number,) in tx.execute("SELECT id FROM imports").fetchall()]
    for number in numbers:
        withdraw(*target, number)
    assert store_digest(*target) == before


def test_what_came_back_unchanged_is_there_already(target: World, samples: list[Any]) -> None:
    before = store_digest(*target)
    result = bring(target, rows(samples))
    assert result is not None
    assert (result.new, result.already_there, result.labels, result.failed) == (0, 12, 0, 0)
    assert store_digest(*target) == before


def test_a_conflict_says_now_and_after_and_can_be_let_in(target: World, samples: list[Any]) -> None:
    chosen = [(f, d) for f, d in samples if f["label_source"] == "accepted" and f["defects"]][:3]
    kept, before = said(target), store_digest(*target)
    lying = rows(chosen, clean, accepted_later)
    assert bring(target, lying, dry_run=True) is None
    assert bring(target, lying) is None
    with target[0].read() as tx:
        messages = [
            text for (text,) in tx.execute("SELECT message FROM failures WHERE code = 'gold-conflict'").fetchall()
        ]
    assert len(messages) == 3
    number = len(kept[chosen[0][0]["key"]])
    defects = f"{number} defect{'s' * (number > 1)}"
    expected = f"{chosen[0][0]['key']}: now {defects}, accepted, by anna@example.org (label-studio:7)"
    assert any(expected in text and "after clean, accepted, by anna@example.org" in text for text in messages)
    result = bring(target, lying, replace=True)
    assert result is not None
    assert (result.replaced, result.labels, result.failed) == (3, 3, 0)
    now = said(target)
    assert {key: now[key] for key in kept if now[key] != kept[key]} == {fields["key"]: [] for fields, _ in chosen}
    with target[0].read() as tx:
        (number,) = [number for (number,) in tx.execute("SELECT max(id) FROM imports").fetchall()]
    withdraw(*target, number)
    assert (said(target), store_digest(*target)) == (kept, before)


def test_a_foreign_prelabel_does_not_answer_for_the_local_detector(target: World, samples: list[Any]) -> None:
    asked = Prelabeller("vlm", "r2", "detect-1", "{}")
    with target[0].write() as tx:
        tx.execute("DELETE FROM prelabels")
        tx.execute("DELETE FROM prelabel_defects")
    fields, data = next((f, d) for f, d in samples if f["label_source"] == "prelabel")

    def claims(altered: Fields) -> None:
        link = {"model": "vlm", "revision": "r2", "template": "detect-1", "settings": "{}"}
        altered["lineage"]["prelabel"].update(link, id=asked.prelabel_id(altered["key"]))

    result = bring(target, rows([(fields, data)], clean, claims))
    assert result is not None
    with target[0].read() as tx:
        (stored,) = prelabels.of_images(tx, [fields["key"]])[fields["key"]]
        assert stored.id != asked.prelabel_id(fields["key"])
        assert prelabels.count(tx, WantedPrelabels(asked))["present"] == 0


def test_a_prelabel_of_the_same_model_is_a_conflict(target: World, samples: list[Any]) -> None:
    fields, data = next((f, d) for f, d in samples if f["label_source"] == "prelabel")
    kept = said(target)
    later = {"created_at": datetime.now(UTC).isoformat()}
    assert bring(target, rows([(fields, data)], clean, lambda row: row["lineage"]["prelabel"].update(later))) is None
    assert said(target) == kept
    with target[0].read() as tx:
        (image,) = images.by_ids(tx, [fields["key"]]).values()
        assert prelabels.of_images(tx, [image.id])[image.id] == [
            machine(image, picture(image.sample).defects, image.sample)
        ]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda row: row["lineage"]["review"].update(round=99), "bad-round"),
        (lambda row: row["lineage"]["annotation"].update(round=11), "bad-round"),
        (
            lambda row: row["lineage"]["review"].update(created_at=(datetime.now(UTC) + timedelta(days=3)).isoformat()),
            "from-the-future",
        ),
        (lambda row: row["lineage"]["review"].update(annotation_id="9" * 32), "foreign-review"),
        (lambda row: row["lineage"]["review"].update(verdict="rejected"), "foreign-review"),
        (lambda row: row.update(width=1), "size-differs"),
        (lambda row: row.update(width=64000, height=64000), "size-differs"),
        (lambda row: row.update(media_type="image/jpeg"), "size-differs"),
        (lambda row: row.update(source="elsewhere"), "bad-row"),
        (lambda row: row.update(extras='{"release":5}'), "bad-extras"),
        (lambda row: row.update(extras='{"release":{"row":{"filepath":7}}}'), "bad-extras"),
        (lambda row: row.update(prompt="a\x07bell"), "wrong-id"),
    ],
)
def test_one_lie_one_code(samples: list[Any], tmp_path: Path, change: Callable[[Fields], object], code: str) -> None:
    chosen = next((f, d) for f, d in samples if f["label_source"] == "accepted")
    (row,) = rows([chosen], change)
    if not isinstance(row, RejectedRow):  # what is looked at beside the store
        store = Store(tmp_path / "empty")
        with pytest.raises(InputError, match=code):
            import_rows(store, Blobs(tmp_path / "empty" / "blobs"), "x", [row])
        return
    assert row.code == code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<html></html>", "unsupported-format"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported-format"),
        (png(picture(1).pixels)[:-40], "undecodable"),
    ],
)
def test_what_is_no_picture_stays_out(samples: list[Any], data: bytes, code: str) -> None:
    fields, _ = samples[0]
    row = restored(Sample.model_validate({**fields, "sha256": blob_name(data), "bytes": len(data)}), data)
    assert isinstance(row, RejectedRow)
    assert row.code in {code, "undecodable"}


def test_exports_of_an_import_have_the_ids_that_were_stated(samples: list[Any], tmp_path: Path) -> None:
    store, blobs = Store(tmp_path / "twin"), Blobs(tmp_path / "twin" / "blobs")
    result = bring((store, blobs), rows(samples))
    assert result is not None
    assert result.new == 12
    stated = {fields["lineage"]["annotation"]["id"] for fields, _ in samples if fields["lineage"]["annotation"]}
    with store.read() as tx:
        assert not stated & set(annotations.by_ids(tx, list(stated)))
        assert not set(prelabels.by_ids(tx, [content_id("prelabel", fields["key"]) for fields, _ in samples]))
    before = store_digest(store, blobs)
    again = bring((store, blobs), rows(samples))
    assert again is not None
    assert (again.already_there, again.labels, store_digest(store, blobs)) == (12, 0, before)


def test_a_report_where_the_prelabels_that_people_saw_were_not_exported(samples: list[Any], tmp_path: Path) -> None:
    def from_a_prelabel(fields: Fields) -> None:
        if fields["lineage"]["annotation"]:
            fields["lineage"]["annotation"]["prelabel_id"] = "12" * 16

    store = Store(tmp_path / "twin")
    assert bring((store, Blobs(tmp_path / "twin" / "blobs")), rows(samples, from_a_prelabel)) is not None
    report = build(store)
    assert report.annotations == sum(fields["lineage"]["annotation"] is not None for fields, _ in samples) > 0
    assert (report.bias.blind.annotations, report.bias.prelabelled.annotations) == (0, 0)


def test_a_damaged_export_is_refused_before_anything_is_taken(shards: Path, target: World, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    victim = sorted(copy.glob("*-train-*.tar"))[0]
    data = victim.read_bytes()
    place = data.index(b'"importance":')
    victim.write_bytes(
        data[:place] + data[place:].replace(b'"importance":', b'"importance":1,"x":', 1)[: len(data) - place]
    )
    before = store_digest(*target)
    for source in (str(copy), str(victim), str(copy / "*.tar")):
        with pytest.raises(InputError, match="damaged, or changed by hand"):
            list(webdataset_rows(source))
    assert store_digest(*target) == before
    taken = list(webdataset_rows(str(copy), take_sound=True))
    refused = [row for row in taken if isinstance(row, RejectedRow)]
    assert {row.code for row in refused} == {"damaged-shard"}
    assert len(taken) == len(ShardReader(shards))
    assert len(refused) == len(ShardReader([shards / victim.name]))
    home = str(tmp_path / "home")
    assert run(["--home", home, "import", "webdataset", str(copy)]) == ExitCode.INPUT
    assert run(["--home", home, "import", "webdataset", str(copy), "--take-sound"]) == ExitCode.PARTIAL
    victim.unlink()
    with pytest.raises(InputError, match="missing"):
        list(webdataset_rows(str(copy)))


def test_a_sample_that_stands_twice_with_two_words(samples: list[Any], tmp_path: Path) -> None:
    store, blobs = Store(tmp_path / "twin"), Blobs(tmp_path / "twin" / "blobs")
    chosen = [(f, d) for f, d in samples if f["label_source"] == "accepted" and f["defects"]][:1]
    result = bring((store, blobs), [*rows(chosen), *rows(chosen), *rows(chosen, clean, accepted_later)])
    assert result is not None
    assert (result.read, result.new, result.already_there, result.failed_by_code) == (3, 1, 1, {"said-twice": 1})


def test_a_link_in_the_place_of_a_shard(tmp_path: Path) -> None:
    (tmp_path / "a.tar").symlink_to("/dev/zero")
    with pytest.raises(InputError):
        list(webdataset_rows(str(tmp_path / "a.tar")))


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_json_that_is_no_sample(samples: list[Any], tmp_path: Path) -> None:
    fields, data = samples[0]
    members = {
        "a.png": data,
        "a.json": b"[" * 200_000,
        "b.png": data,
        "b.json": json.dumps({**fields, "key": ["x"]}).encode(),
        "c.png": data,
        "c.json": b"",
        "d.png": data,
        "d.json": json.dumps(fields).encode(),
    }
    (tmp_path / "x.tar").write_bytes(tar_of(members))
    read_rows = list(webdataset_rows(str(tmp_path / "x.tar")))
    assert [isinstance(row, RejectedRow) for row in read_rows].count(True) == 3
