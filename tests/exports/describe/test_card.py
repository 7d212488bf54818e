"""The card: its YAML and Croissant by others' parsers, figures against the world, the proof by planted twins."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from exports.describe.split_leakage import split_leakage
from exports.describe.statistics import people
from exports.files.manifest import read_manifest
from exports.files.target import Target
from exports.run import ExportResult
from schemas.records import Split
from schemas.sample import Sample
from sdg_data.blobs import Blobs
from sdg_data.ingest.near_duplicates import near_prompts, perceptual_hash, trigrams
from sdg_data.mini.world import sample_prompts
from sdg_data.store import annotations, images, snapshot
from sdg_data.store.connection import Store
from tests.exports.worlds import fill, person, picture, png

Export = Callable[..., ExportResult]


def front_matter(folder: Path) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    value: dict[str, Any] = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    return value


def test_the_hub_reads_the_card(shards: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.DatasetCard.load(shards / "README.md")
    assert card.data.license == "other"
    assert card.data.size_categories == ["n<1K"]
    assert [split["split"] for split in front_matter(shards)["configs"][0]["data_files"]] == ["test", "train"]


@pytest.mark.parametrize("name", ["webdataset", "hf", "trl"])
def test_load_dataset_reads_the_folder(export: Export, tmp_path: Path, name: str) -> None:
    datasets = pytest.importorskip("datasets")
    export(tmp_path / "out", name, shard_bytes=20_000)
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].num_rows + loaded["test"].num_rows == 24
    if name == "webdataset":
        for row in loaded["train"]:
            sample = Sample.model_validate(row["json"])
            assert row["__key__"] == sample.key
            assert np.array_equal(np.asarray(row["png"]), picture(sample.sample).pixels)
        # by nothing but the names of the shards: its columns are guessed from the first samples
        bare = datasets.load_dataset(
            "webdataset",
            data_files={"train": str(tmp_path / "out" / "*-train-*.tar")},
            split="train",
            cache_dir=str(tmp_path / "bare"),
        )
        for row, same in zip(bare, loaded["train"], strict=True):
            # columns that are null in all samples have no type of their own, but say the same
            assert Sample.model_validate(row["json"]) == Sample.model_validate(same["json"])
    streamed = datasets.load_dataset(str(tmp_path / "out"), split="test", streaming=True)
    assert len(list(streamed)) == loaded["test"].num_rows


@pytest.mark.parametrize("name", ["webdataset", "hf", "coco", "ms-swift"])
def test_croissant_is_valid(export: Export, tmp_path: Path, name: str) -> None:
    croissant = pytest.importorskip("mlcroissant")
    export(tmp_path, name)
    dataset = croissant.Dataset(jsonld=str(tmp_path / "croissant.json"))  # raises where it is not
    assert dataset.metadata.name == "mini"
    if name in ("webdataset", "hf"):
        keys = {row["samples/key"].decode() for row in dataset.records("samples")}
        assert len(keys) == 24


def test_figures_and_tables_follow_from_the_world(shards: Path) -> None:
    text = (shards / "README.md").read_text()
    defects = {
        model: [picture(n).defects for n in range(24) if n % 2 == index]
        for index, model in enumerate(("alpha", "beta"))
    }
    for model, rows in defects.items():
        artifacts, misalignments = (
            sum(defect.type == kind for row in rows for defect in row) / 12 for kind in ("artifact", "misalignment")
        )
        licence = {"alpha": "Apache-2.0", "beta": "CC-BY-4.0"}[model]
        assert f"| {model} | {licence} | 12 | {artifacts:.2f} | {misalignments:.2f} |" in text
    kinds = [frozenset(defect.type for defect in picture(n).defects) for n in range(24)]
    expected = [
        kinds.count(frozenset(kind)) for kind in ([], ["artifact"], ["misalignment"], ["artifact", "misalignment"])
    ]
    assert "| images | " + " | ".join(map(str, expected)) + " |" in text
    assert "no image here was annotated by two people" in text
    assert f"{sum(1 for n in range(24) if n % 6 == 5)} images carry a machine's labels" in text
    assert "Prompts in more than one split: **0**" in text
    for figure in (shards / "figures").iterdir():
        assert Image.open(figure).size == (960, 480)


def test_the_json_schema_describes_the_samples(shards: Path) -> None:
    schema = json.loads((shards / "sample.schema.json").read_text())
    assert set(schema["properties"]) == set(Sample.model_fields)
    assert schema["additionalProperties"] is False


def test_the_ceiling_is_what_two_people_agree_on(tmp_path: Path) -> None:
    store = fill(tmp_path / "home", 4)
    with store.write() as tx:
        stored = sorted(images.page(tx), key=lambda image: image.sample)
        for image in stored[1:3]:
            annotations.insert(tx, [person(image, picture(image.sample).defects, 9, "ben")])
        annotations.insert(tx, [person(stored[3], (), 9, "ben")])
    snapshot.publish(store)
    measured = people(store, [image.id for image in stored])
    agreed = [defect.type for n in (1, 2) for defect in picture(n).defects]
    alone = [defect.type for defect in picture(3).defects]
    assert measured["ceiling"]["images"] == 3
    for kind in ("artifact", "misalignment"):
        boxes = 2 * agreed.count(kind) + alone.count(kind)  # type: ignore[arg-type]
        expected = 2 * agreed.count(kind) / boxes if boxes else None  # type: ignore[arg-type]
        assert measured["ceiling"][kind] == expected
    assert measured["modes"]["no prelabel"]["annotations"] == 7
    assert measured["modes"]["no prelabel"]["seconds"] == 130.5
    assert measured["modes"]["prelabelled"] == {"annotations": 0, "defects": None, "seconds": None}


def test_near_prompts_against_comparing_all() -> None:
    first, second = sample_prompts(120, 1), sample_prompts(150, 2)
    naive = [
        (a, b) for a in first for b in second if len(trigrams(a) & trigrams(b)) >= 0.9 * len(trigrams(a) | trigrams(b))
    ]
    assert naive
    assert sorted(near_prompts(first, second)) == sorted(naive)
    assert near_prompts(["A red  fox, running!"], ["a red fox running"]) != []
    assert near_prompts(["?"], [""]) != []


def test_perceptual_hash_forgives_what_people_do_not_see() -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((256, 256)) for _ in range(8)]

    def bits(image: Image.Image, **options: Any) -> int:
        buffer = io.BytesIO()
        image.save(buffer, **{"format": "PNG", **options})
        return perceptual_hash(buffer.getvalue())

    hashes = [bits(one) for one in pictures]
    for shown, value in zip(pictures, hashes, strict=True):
        for like in (
            bits(shown, format="JPEG", quality=60),
            bits(shown.resize((200, 200))),
            bits(shown.filter(ImageFilter.GaussianBlur(1))),
        ):
            assert (like ^ value).bit_count() <= 4
        assert sum((other ^ value).bit_count() <= 4 for other in hashes) == 1


def test_planted_twins_are_counted() -> None:
    prompts = {
        Split.TRAIN: {"a": "a large red fox by the sea", "b": "one"},
        Split.TEST: {"c": "A large red fox, by the sea", "b": "one"},
    }
    blobs = {Split.TRAIN: {"x": "1", "y": "2"}, Split.TEST: {"y": "3"}}
    proof = split_leakage(prompts, blobs, {Split.TRAIN: {"1": 0b1111, "2": 0xFF00}, Split.TEST: {"3": 0}})
    assert (proof.shared_prompts, proof.shared_images, proof.near_prompts, proof.near_images) == (1, 1, 2, 1)
    assert proof.near_image_examples == (("1", "3"),)
    assert not proof.holds


def test_near_images_are_looked_for_on_request(export: Export, tmp_path: Path) -> None:
    export(tmp_path, phash=True)
    proof = read_manifest(Target(tmp_path)).notes["split_proof"]
    assert proof["near_images"] is not None
    values = [perceptual_hash(png(picture(n).pixels)) for n in range(24)]
    assert len(set(values)) > 20


def test_an_export_of_one_split_compares_nothing(tmp_path: Path, export: Export) -> None:
    from exports.dataset.select import Selection

    store = fill(tmp_path / "home", 6)
    world = (store, Blobs(tmp_path / "home" / "blobs"))
    done = export(tmp_path / "out", world=world, selection=Selection(splits=("train",)), phash=True)
    assert done.manifest.notes["split_proof"]["near_images"] is None
    assert isinstance(store, Store)
