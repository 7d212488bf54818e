"""Shards: what is in them, read by the standard library; the same bytes however they were made."""

import hashlib
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from exports.dataset.select import Selection
from exports.files.manifest import Manifest, read_manifest
from exports.files.shards import shards as cut
from exports.files.target import Target
from exports.run import ExportResult
from schemas.records import Split
from schemas.sample import Sample
from sdg_data.blobs import Blobs
from sdg_data.errors import ConfigError, InputError
from sdg_data.store.connection import Store
from tests.exports.worlds import EVERYTHING, fill, picture, png

Export = Callable[..., ExportResult]


def contents(folder: Path) -> dict[str, str]:
    """File -> sha256, of a whole folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def manifest(folder: Path) -> Manifest:
    return read_manifest(Target(folder))


def test_each_sample_is_its_original_bytes_and_its_json(shards: Path) -> None:
    seen: list[int] = []
    for path in sorted(shards.glob("mini-*.tar")):
        with tarfile.open(path) as archive:
            files = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
        names = list(files)
        for text_name, image_name in zip(names[::2], names[1::2], strict=True):
            sample = Sample.model_validate_json(files[text_name])
            assert (text_name, image_name) == (f"{sample.key}.json", f"{sample.key}.png")
            assert files[image_name] == png(picture(sample.sample).pixels)
            assert f"-{sample.split}-" in path.name
            seen.append(sample.sample)
    assert sorted(seen) == list(range(24))


def test_shards_are_cut_by_size_and_counted_from_zero(shards: Path) -> None:
    for split in Split:
        names = [entry.path for entry in manifest(shards).shards(split)]
        assert names == [f"mini-{split}-{number:05d}.tar" for number in range(len(names))]
    assert len(manifest(shards).shards(Split.TRAIN)) > 2
    assert max(path.stat().st_size for path in shards.glob("*.tar")) <= 20_480 + 10_240  # whole records


def test_cutting_keeps_every_entry_in_order(world: tuple[Store, Blobs]) -> None:
    from exports.dataset.select import select

    buffer, _ = select(world[0], EVERYTHING)
    with buffer:
        for size in (1, 9_000, 50_000, 10**9):
            parts = cut("x", Split.TRAIN, buffer.entries, size)
            assert [entry for part in parts for entry in part.entries] == buffer.entries
        assert len(cut("x", Split.TRAIN, buffer.entries, 1)) == 24
        assert len(cut("x", Split.TRAIN, buffer.entries, 10**9)) == 1


def test_the_manifest_hashes_and_counts_everything(shards: Path) -> None:
    stated = manifest(shards)
    files = contents(shards)
    del files["manifest.json"]
    assert {entry.path: entry.sha256 for entry in stated.files} == files
    assert stated.samples == 24
    assert stated.counts["model"] == {"alpha": 12, "beta": 12}
    assert stated.counts["label_source"] == {"accepted": 16, "prelabel": 4, "unreviewed": 4}
    assert sum(entry.samples or 0 for entry in stated.shards()) == 24
    assert stated.counts["defects"]["artifact"] == sum(
        defect.type == "artifact" for number in range(24) for defect in picture(number).defects
    )


def test_the_index_knows_where_each_sample_lies(shards: Path) -> None:
    rows = pq.read_table(shards / "index.parquet").to_pylist()
    assert len(rows) == 24
    for row in rows:
        data = (shards / row["shard"]).read_bytes()
        text = data[row["json_offset"] : row["json_offset"] + row["json_bytes"]]
        image = data[row["image_offset"] : row["image_offset"] + row["image_bytes"]]
        sample = json.loads(text)
        assert sample["key"] == row["key"]
        assert hashlib.sha256(image).hexdigest() == row["sha256"] == sample["sha256"]
        assert row["defects"] == len(sample["defects"])


def test_same_bytes_on_another_run_with_other_workers_and_from_another_store(
    shards: Path, export: Export, tmp_path: Path
) -> None:
    export(tmp_path / "again", shard_bytes=20_000, workers=3)
    assert contents(tmp_path / "again") == contents(shards)
    home = tmp_path / "home"
    fill(home, 12, start=12)
    twin = fill(home, 12), Blobs(home / "blobs")  # the same facts, stored in another order
    export(tmp_path / "twin", shard_bytes=20_000, world=twin)
    assert contents(tmp_path / "twin") == contents(shards)


def test_a_second_run_makes_nothing(export: Export, tmp_path: Path) -> None:
    first = export(tmp_path, shard_bytes=20_000)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.tar")}
    second = export(tmp_path, shard_bytes=20_000)
    assert (first.kept, second.made) == (0, 0)
    assert second.kept == first.made > 3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.tar")} == before
    assert second.manifest == first.manifest


def test_what_changed_is_made_anew_and_what_is_gone_deleted(export: Export, tmp_path: Path) -> None:
    everything = export(tmp_path / "changed", shard_bytes=20_000)
    fewer = export(tmp_path / "changed", shard_bytes=20_000, selection=Selection(models=("alpha",)))
    assert len(fewer.manifest.shards()) < len(everything.manifest.shards())
    export(tmp_path / "fresh", shard_bytes=20_000, selection=Selection(models=("alpha",)))
    assert contents(tmp_path / "changed") == contents(tmp_path / "fresh")


def test_a_folder_with_something_else_is_left_alone(export: Export, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(ConfigError, match="holds other files"):
        export(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years"
    export(tmp_path / "new")
    with pytest.raises(ConfigError, match="holds the export 'mini'"):
        export(tmp_path / "new", name="other")


def test_a_selection_of_none_writes_nothing(export: Export, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no samples"):
        export(tmp_path / "out", selection=Selection(licences=("MIT",)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "ä"])
def test_names_that_break_keys_or_paths(export: Export, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="dataset's name"):
        export(tmp_path / "out", name=name)
