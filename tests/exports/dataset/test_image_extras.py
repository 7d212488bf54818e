"""People's scores and maps of whole images, from where they are entered to the rows of an export."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from exports.dataset.image_extras import MAPS_KEY, SCORES_KEY, encoded, has_maps, maps_of, mean_scores, scores_of
from exports.dataset.select import Selection
from exports.read.shard_table import ShardTable
from exports.run import ExportResult
from schemas.defect import DefectType
from schemas.sample import Sample
from sdg_data.blobs import Blobs
from sdg_data.ids import canonical_json
from sdg_data.metrics.heatmap_sources import load_map
from sdg_data.store import annotations, answers, images
from sdg_data.store.connection import Store
from tests.exports.worlds import fill

ART, MIS = DefectType.ARTIFACT, DefectType.MISALIGNMENT


def entered(**scores: int) -> str:
    return canonical_json({"regions": [], "note": 'said "scores":{}', "scores": scores})


def test_scores_are_means_of_shares() -> None:
    """(5 − 1)/4 = 1, (2 − 1)/4 = .25; overall was given once."""
    assert mean_scores([entered(aesthetics=5, overall=3), entered(aesthetics=2), "{}"]) == {
        "aesthetics": 0.625, "overall": 0.5,
    }  # fmt: skip
    assert mean_scores([]) == {}


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Store, Blobs, str]:
    """A store where two people scored an image; one of them thought better of it."""
    store, blobs = fill(tmp_path / "home", 8), Blobs(tmp_path / "home" / "blobs")
    with store.read() as tx:
        by_image = annotations.of_images(tx, [image.id for image in images.page(tx)])
    image, versions = next((key, found) for key, found in by_image.items() if found[-1].annotator != "oracle")
    first = versions[-1]
    after = first.created_at + timedelta(minutes=1)
    later = first.model_copy(update={"id": "a" * 32, "created_at": after, "source": "later"})
    other = first.model_copy(update={"id": "b" * 32, "created_at": after, "annotator": "somebody-else"})
    with store.write() as tx:
        annotations.insert(tx, [later, other])
        texts = {first.id: entered(overall=1), later.id: entered(overall=5), other.id: entered(overall=4)}
        answers.insert_entered(tx, {key: ("e" * 32, text) for key, text in texts.items()})
    return store, blobs, image


def test_an_export_has_the_scores_that_people_gave(
    scored: tuple[Store, Blobs, str], tmp_path: Path, export: Callable[..., ExportResult]
) -> None:
    store, blobs, image = scored
    export(tmp_path / "out", world=(store, blobs), selection=Selection(unreviewed=True))
    by_key = {sample.key: sample for sample in ShardTable(tmp_path / "out")}
    assert json.loads(by_key[image].extras)[SCORES_KEY] == {"overall": 0.875}
    assert scores_of(by_key[image]) == {"overall": 0.875}
    assert all(sample.extras == "{}" for key, sample in by_key.items() if key != image)
    export(tmp_path / "one", world=(store, blobs), selection=Selection(source="annotator:somebody-else", names=True))
    assert [scores_of(sample) for sample in ShardTable(tmp_path / "one")] == [{"overall": 0.75}]
    export(tmp_path / "maps", "heatmaps", world=(store, blobs), selection=Selection(unreviewed=True))
    rows = [json.loads(line) for path in (tmp_path / "maps").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert {row["key"]: row["overall"] for row in rows if "overall" in row} == {image: 0.875}


def sample_with(extras: dict[str, object], tmp_path: Path, export: Callable[..., ExportResult]) -> Sample:
    store, blobs = fill(tmp_path / "world", 4), Blobs(tmp_path / "world" / "blobs")
    export(tmp_path / "plain", world=(store, blobs))
    sample = ShardTable(tmp_path / "plain").sample(0)
    return sample.model_copy(update={"extras": canonical_json(extras)})


def test_maps_of_people_stand_before_boxes(tmp_path: Path, export: Callable[..., ExportResult]) -> None:
    art, mis = np.zeros((8, 8)), np.zeros((8, 8))
    art[:4] = 1.0
    sample = sample_with({MAPS_KEY: {"artifact": encoded(art), "misalignment": encoded(mis)}}, tmp_path, export)
    assert has_maps(sample)
    maps = maps_of(sample, 8, 8)
    assert np.array_equal(maps[ART], art)
    assert not maps[MIS].any()
    assert maps_of(sample, 4, 2)[ART].shape == (4, 2)
    plain = sample.model_copy(update={"extras": "{}"})
    assert not has_maps(plain)
    assert maps_of(plain, 8, 8)[ART].any() == any(defect.type is ART for defect in plain.defects)
    broken = sample.model_copy(update={"extras": canonical_json({MAPS_KEY: {"artifact": "no map"}})})
    with pytest.raises(ValueError, match=sample.key):
        maps_of(broken, 4, 4)


def test_richhf_scores_are_read_by_its_own_names(tmp_path: Path, export: Callable[..., ExportResult]) -> None:
    given = {"aesthetics_score": 0.25, "artifact_score": 0.5, "misalignment_score": 0.75, "overall_score": 1.5}
    sample = sample_with({"richhf": given}, tmp_path, export)
    assert scores_of(sample) == {"semantic_alignment": 0.75, "aesthetics": 0.25, "plausibility": 0.5}


def test_a_maps_png_is_what_the_export_writes(tmp_path: Path) -> None:
    heat = np.linspace(0, 1, 64).reshape(8, 8).round(2)
    import base64

    (tmp_path / "map.png").write_bytes(base64.b64decode(encoded(heat)))
    assert np.abs(load_map(tmp_path / "map.png") - heat).max() <= 0.5 / 255
